//! The k largest magnitudes and where they stand.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::Kernels;
use crate::state::Arrays;

const VALUES: &str = "outlier_values";
const INDEX: &str = "outlier_index";

/// Dims that are skipped together where none of them can be an outlier.
const OFFER_DIMS: usize = 256;

/// One large value and its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// The value, with its sign.
    pub value: f64,
    /// Index of the sequence.
    pub sequence: i64,
    /// Position within it.
    pub position: i64,
    /// The dim.
    pub dim: i64,
    /// The token's id, or -1 where it is not known.
    pub token_id: i64,
}

impl Eq for Outlier {}

impl Ord for Outlier {
    /// Less means earlier in the list: a larger magnitude, then an earlier sequence, position, dim. The rest only makes the order total.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |outlier: &Self| (outlier.sequence, outlier.position, outlier.dim);
        (other.value.abs().total_cmp(&self.value.abs()))
            .then_with(|| place(self).cmp(&place(other)))
            .then_with(|| other.value.total_cmp(&self.value))
            .then_with(|| self.token_id.cmp(&other.token_id))
    }
}

impl PartialOrd for Outlier {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first `k` of all outliers offered, in their order. The order is total, so the list does not depend on that of the offers.
#[derive(Debug, Clone)]
pub struct Outliers {
    k: usize,
    // The last of the list is on top, where the next offer is compared with it.
    heap: BinaryHeap<Outlier>,
}

impl Outliers {
    /// An empty list of at most `k`.
    pub const fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// The magnitude below which an offer is certain to be turned down; 0 while the list is not full.
    pub fn floor(&self) -> f64 {
        match self.heap.peek() {
            Some(last) if self.heap.len() >= self.k => last.value.abs(),
            _ if self.k == 0 => f64::INFINITY,
            _ => 0.0,
        }
    }

    /// Whether every offer of this magnitude that stands at this token is certain to be turned down.
    pub(super) fn turns_down_ties(&self, magnitude: f64, sequence: i64, position: i64) -> bool {
        self.heap.len() >= self.k
            && self
                .heap
                .peek()
                .is_some_and(|last| last.value.abs() == magnitude && (last.sequence, last.position) < (sequence, position))
    }

    /// Takes the outlier in if it belongs to the list.
    pub fn offer(&mut self, outlier: Outlier) {
        if self.heap.len() < self.k {
            self.heap.push(outlier);
        } else if let Some(mut last) = self.heap.peek_mut()
            && outlier < *last
        {
            *last = outlier;
        }
    }

    /// The list in its order.
    pub fn sorted(&self) -> Vec<Outlier> {
        let mut list: Vec<_> = self.heap.iter().copied().collect();
        list.sort_unstable();
        list
    }

    /// Sequence and position of those in this sequence or a later one.
    pub(super) fn places_from(&self, sequence: i64) -> impl Iterator<Item = (i64, i64)> {
        let later = self.heap.iter().filter(move |outlier| outlier.sequence >= sequence);
        later.map(|outlier| (outlier.sequence, outlier.position))
    }

    /// Whether nothing was offered yet.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Offers what the rows have at or above the magnitude that the lists of the whole site have reached already.
    fn offer_rows<E: Element>(&mut self, chunk: &Chunk<'_, E>, floor: f64) {
        let key_of = |magnitude: f64| -> u64 { E::narrow(magnitude).key().into() };
        let mut least = key_of(floor.max(self.floor()));
        for (row, figures, index) in chunk.iter() {
            if figures.absmax < least {
                continue;
            }
            let place = chunk.tokens.place(index);
            let floor = floor.max(self.floor());
            // Of many values that tie with the last of a full list, all those that stand after it are skipped together.
            let above = u64::from(self.turns_down_ties(floor, place.0, place.1));
            let wanted = key_of(floor) + above;
            if figures.absmax >= wanted {
                self.offer_row(chunk.kernels, row, wanted, place);
                least = key_of(floor.max(self.floor()));
            }
        }
    }

    fn offer_row<E: Element>(
        &mut self,
        kernels: &Kernels<E>,
        row: &[E],
        wanted: u64,
        (sequence, position, token_id): (i64, i64, i64),
    ) {
        for (index, group) in row.chunks(OFFER_DIMS).enumerate() {
            if kernels.absmax(group).into() < wanted {
                continue;
            }
            for (place, value) in group.iter().enumerate() {
                let key = value.key();
                if key.into() >= wanted && key < E::INFINITY_KEY {
                    let dim = (index * OFFER_DIMS + place) as i64;
                    self.offer(Outlier { value: value.widen(), sequence, position, dim, token_id });
                }
            }
        }
    }

    /// Adds a list, in its order, to `arrays`.
    pub fn save_list(arrays: &mut Arrays, outliers: &[Outlier]) {
        Outlier::save(arrays, VALUES, INDEX, outliers);
    }
}

impl Outlier {
    /// Adds outliers to `arrays` as an array of their values and one of their places.
    pub(super) fn save(arrays: &mut Arrays, values: &'static str, index: &'static str, outliers: &[Self]) {
        let place = |outlier: &Self| [outlier.sequence, outlier.position, outlier.dim, outlier.token_id];
        arrays.push_list(values, outliers.iter().map(|outlier| outlier.value).collect());
        arrays.push_rows(index, &outliers.iter().map(place).collect::<Vec<_>>());
    }

    /// The outliers that `save` added.
    ///
    /// # Errors
    /// `Error::State` if there are no such arrays, or their lengths differ.
    pub(super) fn restore(arrays: &Arrays, values: &str, index: &str) -> Result<Vec<Self>> {
        let (list, places) = (arrays.list::<f64>(values)?, arrays.rows::<i64, 4>(index)?);
        if list.len() != places.len() {
            let expected = format!("a place for each of {} values", list.len());
            return Err(Error::State { field: index.into(), expected, got: places.len().to_string() });
        }
        let outlier =
            |(&value, &[sequence, position, dim, token_id]): (&f64, &[i64; 4])| Self { value, sequence, position, dim, token_id };
        Ok(list.iter().zip(places).map(outlier).collect())
    }
}

impl Accumulator for Outliers {
    const NAME: &'static str = "outliers";

    fn new(shape: &Shape) -> Self {
        Self::new(shape.config.k)
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for &outlier in &other.heap {
            self.offer(outlier);
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_list(arrays, &self.sorted());
    }

    fn restore(arrays: &Arrays, shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let (listed, k) = (Outlier::restore(arrays, VALUES, INDEX)?, shape.config.k);
        if listed.len() > k {
            let expected = format!("at most {k} values");
            return Err(Error::State { field: VALUES.into(), expected, got: listed.len().to_string() });
        }
        let mut outliers = Self::new(k);
        for outlier in listed {
            outliers.offer(outlier);
        }
        Ok(outliers)
    }

    /// When full.
    fn n_bytes(&self) -> usize {
        self.k * size_of::<Outlier>()
    }
}

impl Statistic for Outliers {
    type Scratch = ();

    fn clear(&mut self, shape: &Shape) {
        self.k = shape.config.k;
        self.heap.clear();
    }

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, recorded: &Self, _scratch: &mut ()) {
        self.offer_rows(chunk, recorded.floor());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: f64, position: i64, dim: i64) -> Outlier {
        Outlier { value, sequence: 0, position, dim, token_id: -1 }
    }

    #[test]
    fn ties_are_broken_by_place_whatever_the_order_of_offers() {
        let offers = [at(2.0, 3, 0), at(-2.0, 1, 5), at(2.0, 1, 4), at(1.0, 0, 0), at(-2.0, 0, 9)];
        let expected = [at(-2.0, 0, 9), at(2.0, 1, 4), at(-2.0, 1, 5)];
        for start in 0..offers.len() {
            let mut outliers = Outliers::new(3);
            for i in 0..offers.len() {
                outliers.offer(offers[(start + i) % offers.len()]);
            }
            assert_eq!(outliers.sorted(), expected);
            assert_eq!(outliers.floor(), 2.0);
        }
    }

    #[test]
    fn ties_at_later_tokens_are_turned_down_together() {
        let mut outliers = Outliers::new(2);
        outliers.offer(at(2.0, 3, 0));
        assert!(!outliers.turns_down_ties(2.0, 0, 4), "the list is not full");
        outliers.offer(at(5.0, 9, 0));
        assert!(outliers.turns_down_ties(2.0, 0, 4) && outliers.turns_down_ties(2.0, 1, 0));
        assert!(!outliers.turns_down_ties(2.0, 0, 3), "another dim of the same token may stand before it");
        assert!(!outliers.turns_down_ties(2.0, 0, 2) && !outliers.turns_down_ties(2.5, 0, 4));
    }

    #[test]
    fn a_list_of_none_takes_none() {
        let mut outliers = Outliers::new(0);
        outliers.offer(at(1.0, 0, 0));
        assert!(outliers.is_empty() && outliers.floor() == f64::INFINITY);
    }
}
