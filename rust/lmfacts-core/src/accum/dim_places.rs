//! Where the largest value of each dim stands.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use super::outliers::Outlier;
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::{Kernels, SEARCHED_DIMS};
use crate::state::Arrays;
use crate::tokens::Population;

const VALUES: &str = "dim_largest";
const PLACES: &str = "dim_places";
const DEVICE_BYTES: usize = 40;
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
    /// Where values of some dims have the magnitude that is looked for, as row and dim.
    type Scratch = Vec<(usize, usize)>;

    fn clear(&mut self, shape: &Shape) {
        self.magnitudes.clear();
        self.magnitudes.resize(shape.n_dims, NONE);
        self.largest.resize(shape.n_dims, NOWHERE);
    }

    /// A chunk's rows are searched again for those dims alone whose largest value here may come before the one that is known, which it
    /// seldom does once some chunks were seen.
    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, recorded: &Self, found: &mut Vec<(usize, usize)>) {
        let (min, max) = chunk.moments.extremes();
        let n_dims = self.magnitudes.len();
        let mut first = None;
        for start in (0..n_dims).step_by(SEARCHED_DIMS) {
            let dims = start..n_dims.min(start + SEARCHED_DIMS);
            let magnitude = |dim: usize| max[dim].max(-min[dim]);
            let reaches = |dim: usize| (magnitude(dim) >= self.magnitudes[dim]) & (magnitude(dim) >= recorded.magnitudes[dim]);
            // Without a branch, for hardly ever does one of them.
            if !dims.clone().fold(false, |any, dim| any | reaches(dim)) {
                continue;
            }
            let first = *first.get_or_insert_with(|| chunk.indices.iter().map(|&index| chunk.tokens.place(index)).min());
            let first = first.map(|(sequence, position, _)| (sequence, position));
            // No finite value has the key of infinity. A dim without finite values has a largest of minus infinity.
            let mut wanted = [E::INFINITY_KEY; SEARCHED_DIMS];
            for (dim, key) in dims.zip(&mut wanted) {
                let magnitude = magnitude(dim);
                let settled = [&*self, recorded].iter().any(|known| known.is_settled(dim, magnitude, first));
                if !settled && magnitude >= 0.0 {
                    *key = E::narrow(magnitude).key();
                }
            }
            if wanted.iter().all(|&key| key == E::INFINITY_KEY) {
                continue;
            }
            found.clear();
            chunk.kernels.find_keys(chunk.rows, start, &wanted, found);
            for &(row, dim) in &*found {
                let value = chunk.rows[row][dim].widen();
                if value.is_finite() {
                    let (sequence, position, token_id) = chunk.tokens.place(chunk.indices[row]);
                    self.offer(Outlier { value, sequence, position, dim: dim as i64, token_id });
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
