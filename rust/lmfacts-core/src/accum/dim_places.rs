//! Where the largest value of each dim stands.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use super::outliers::Outlier;
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::state::Arrays;
use crate::tokens::Population;

const VALUES: &str = "dim_largest";
const PLACES: &str = "dim_places";
const DEVICE_BYTES: usize = 40;

/// The finite value of largest magnitude of each dim and its place; of equal ones that of the earliest sequence and position.
#[derive(Debug, Clone)]
pub struct DimPlaces {
    largest: Vec<Option<Outlier>>,
}

impl DimPlaces {
    fn offer(&mut self, offered: Outlier) {
        let slot = &mut self.largest[offered.dim as usize];
        if slot.is_none_or(|known| offered < known) {
            *slot = Some(offered);
        }
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
        Self { largest: vec![None; shape.n_dims] }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for found in other.largest.iter().flatten() {
            self.offer(*found);
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_list(arrays, &self.largest);
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
        // A position is never negative.
        Ok(Self { largest: (0..shape.n_dims).map(|dim| (positions[dim] >= 0).then(|| found(dim))).collect() })
    }

    fn n_bytes(&self) -> usize {
        size_of_val(self.largest.as_slice())
    }
}

impl Statistic for DimPlaces {
    type Scratch = ();

    fn clear(&mut self, shape: &Shape) {
        self.largest.clear();
        self.largest.resize(shape.n_dims, None);
    }

    /// A chunk's rows are searched again for those dims alone whose largest value here may come before the one that is known, which it
    /// seldom does once some chunks were seen.
    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, recorded: &Self, _scratch: &mut ()) {
        let Some(first) = chunk.indices.iter().map(|&index| chunk.tokens.place(index)).min() else { return };
        for dim in 0..self.largest.len() {
            let Some(largest) = chunk.moments.largest_magnitude(dim) else { continue };
            let comes_before = |known: &Option<Outlier>| {
                known.is_some_and(|known| {
                    let magnitude = known.value.abs();
                    magnitude > largest || (magnitude == largest && (known.sequence, known.position) <= (first.0, first.1))
                })
            };
            if comes_before(&self.largest[dim]) || comes_before(&recorded.largest[dim]) {
                continue;
            }
            for (row, &index) in chunk.rows.iter().zip(chunk.indices) {
                let value = row[dim].widen();
                if value.abs() == largest {
                    let (sequence, position, token_id) = chunk.tokens.place(index);
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
