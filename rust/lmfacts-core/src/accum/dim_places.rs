//! Where the largest value of each dim stands.

use super::accumulator::{Accumulator, BLOCK_ROWS, Chunk, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use super::outliers::Outlier;
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::{DimSums, Kernels};
use crate::state::Arrays;
use crate::tokens::Population;

const VALUES: &str = "dim_largest";
const PLACES: &str = "dim_places";
const DEVICE_BYTES: usize = 40;
const DIMS_TOGETHER: usize = 16;
const NONE: f64 = -1.0;

/// The finite value of largest magnitude of each dim and its place; of equal ones that of the earliest sequence and position.
#[derive(Debug, Clone)]
pub struct DimPlaces {
    /// Their magnitudes; [`NONE`] where there is none. They alone are looked at in most chunks.
    magnitudes: Vec<f64>,
    /// The values with their places; any where there is none.
    largest: Vec<Outlier>,
}

const NOWHERE: Outlier = Outlier { value: 0.0, sequence: -1, position: -1, dim: -1, token_id: -1 };

impl DimPlaces {
    fn offer(&mut self, offered: Outlier) {
        let dim = offered.dim as usize;
        if self.magnitudes[dim] == NONE || offered < self.largest[dim] {
            self.largest[dim] = offered;
            self.magnitudes[dim] = offered.value.abs();
        }
    }

    /// That of a dim, if there is one.
    fn largest(&self, dim: usize) -> Option<Outlier> {
        (self.magnitudes[dim] != NONE).then(|| self.largest[dim])
    }

    /// Whether a value of that magnitude which stands nowhere before `first` would change nothing.
    fn is_settled(&self, dim: usize, magnitude: f64, first: Option<(i64, i64)>) -> bool {
        self.magnitudes[dim] > magnitude
            || self.magnitudes[dim] == magnitude
                && first.is_some_and(|first| (self.largest[dim].sequence, self.largest[dim].position) <= first)
    }

    /// Adds the places to `arrays`: the values, 0 where there is none, and sequence, position and token id of all dims, -1 where there is
    /// none.
    fn save_list(arrays: &mut Arrays, largest: &[Option<Outlier>]) {
        arrays.push_list(VALUES, largest.iter().map(|found| found.map_or(0.0, |found| found.value)).collect());
        let row = |of: fn(Outlier) -> i64| largest.iter().map(move |found| found.map_or(-1, of));
        let places = row(|found| found.sequence).chain(row(|found| found.position)).chain(row(|found| found.token_id)).collect();
        arrays.push_table(PLACES, [3, largest.len()], places);
    }
}

impl Accumulator for DimPlaces {
    const NAME: &'static str = "dim_places";

    fn new(shape: &Shape) -> Self {
        Self { magnitudes: vec![NONE; shape.n_dims], largest: vec![NOWHERE; shape.n_dims] }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for dim in 0..self.magnitudes.len() {
            if other.magnitudes[dim] >= self.magnitudes[dim] && other.magnitudes[dim] != NONE {
                self.offer(other.largest[dim]);
            }
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        let largest: Vec<_> = (0..self.largest.len()).map(|dim| self.largest(dim)).collect();
        Self::save_list(arrays, &largest);
    }

    fn restore(arrays: &Arrays, shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let values = arrays.table::<f64, 1>(VALUES, [shape.n_dims])?;
        let places = arrays.table::<i64, 2>(PLACES, [3, shape.n_dims])?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::State { field: VALUES.into(), expected: "finite values".into(), got: value.to_string() });
        }
        let (sequences, places) = places.split_at(shape.n_dims);
        let (positions, token_ids) = places.split_at(shape.n_dims);
        let found = |dim: usize| Outlier {
            value: values[dim],
            sequence: sequences[dim],
            position: positions[dim],
            dim: dim as i64,
            token_id: token_ids[dim],
        };
        let mut restored = Self::new(shape);
        // A position is never negative.
        (0..shape.n_dims).filter(|&dim| positions[dim] >= 0).for_each(|dim| restored.offer(found(dim)));
        Ok(restored)
    }

    fn n_bytes(&self) -> usize {
        size_of_val(self.largest.as_slice()) + size_of_val(self.magnitudes.as_slice())
    }
}

impl Statistic for DimPlaces {
    const NEEDS_BLOCKS: bool = true;

    type Scratch = ();

    fn clear(&mut self, shape: &Shape) {
        self.magnitudes.clear();
        self.magnitudes.resize(shape.n_dims, NONE);
        self.largest.resize(shape.n_dims, NOWHERE);
    }

    /// Rows are searched again for those dims alone whose largest value here may come before the one that is known, which it seldom does
    /// once some chunks were seen, and only in the block where it came first.
    #[expect(clippy::needless_bitwise_bool, reason = "lazy operators would branch at every dim")]
    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, recorded: &Self, _scratch: &mut ()) {
        let (min, max) = chunk.moments.extremes();
        let magnitude = |dim: usize| max[dim].max(-min[dim]);
        let n_dims = self.magnitudes.len();
        let place = |&index: &usize| {
            let (sequence, position, _) = chunk.tokens.place(index);
            (sequence, position)
        };
        let mut first = None;
        for start in (0..n_dims).step_by(DIMS_TOGETHER) {
            let dims = start..n_dims.min(start + DIMS_TOGETHER);
            // Without a branch, for hardly ever does one of them reach what is known.
            let extremes = min[dims.clone()].iter().zip(&max[dims.clone()]);
            let known = self.magnitudes[dims.clone()].iter().zip(&recorded.magnitudes[dims.clone()]);
            let any = extremes.zip(known).fold(false, |any, ((min, max), (here, before))| {
                any | ((*max >= *here) | (-min >= *here)) & ((*max >= *before) | (-min >= *before))
            });
            if !any {
                continue;
            }
            let (first, blocks) = *first.get_or_insert_with(|| {
                // The first block with the largest value has the first place only where places ascend.
                let ascends = chunk.indices.is_sorted_by_key(place);
                (chunk.indices.iter().map(place).min(), chunk.blocks.filter(|_| ascends))
            });
            for dim in dims {
                let largest = magnitude(dim);
                let is_settled = [&*self, recorded].iter().any(|known| known.is_settled(dim, largest, first));
                // A dim without finite values has a largest of minus infinity.
                if is_settled || largest < 0.0 {
                    continue;
                }
                let rows = match blocks {
                    Some(blocks) => {
                        let start = DimSums::block_of_largest(blocks, dim) * BLOCK_ROWS;
                        start..chunk.rows.len().min(start + BLOCK_ROWS)
                    }
                    None => 0..chunk.rows.len(),
                };
                let key = E::narrow(largest).key();
                for (row, &index) in chunk.rows[rows.clone()].iter().zip(&chunk.indices[rows]) {
                    if row[dim].key() == key {
                        let (sequence, position, token_id) = chunk.tokens.place(index);
                        self.offer(Outlier { value: row[dim].widen(), sequence, position, dim: dim as i64, token_id });
                        if blocks.is_some() {
                            break;
                        }
                    }
                }
            }
        }
    }
}

impl OnDevice for DimPlaces {
    const KERNELS: &'static [(&'static str, Blocks)] = &[("dim_places", Blocks::DimsAndPopulations)];

    fn state_bytes(_config: &SiteConfig, n_dims: usize) -> usize {
        2 * n_dims * DEVICE_BYTES
    }

    /// The kernels' `DimPlace`: the key of the magnitude plus 1 and the value's bits as a float32, 0 where there is none; sequence,
    /// position, token id; 8 bytes that mean nothing.
    fn save_state(state: &[u8], _config: &SiteConfig, n_dims: usize, population: Population, arrays: &mut Arrays) {
        let places = state.as_chunks::<DEVICE_BYTES>().0;
        let largest: Vec<_> = places[population as usize * n_dims..][..n_dims]
            .iter()
            .enumerate()
            .map(|(dim, place)| {
                let words = place.as_chunks::<8>().0;
                let [sequence, position, token_id] = [words[1], words[2], words[3]].map(i64::from_le_bytes);
                let [key, bits] = [0, 1].map(|half| u32::from_le_bytes(place.as_chunks::<4>().0[half]));
                let value = f32::from_bits(bits).into();
                (key > 0).then_some(Outlier { value, sequence, position, dim: dim as i64, token_id })
            })
            .collect();
        Self::save_list(arrays, &largest);
    }
}
