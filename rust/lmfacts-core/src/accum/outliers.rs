//! The k largest magnitudes and where they stand.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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

    /// Becomes an empty list of at most `k`, in the memory that it has.
    pub(super) fn clear(&mut self, k: usize) {
        self.k = k;
        self.heap.clear();
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

    /// Offers all of another list.
    pub fn merge(&mut self, other: &Self) {
        for &outlier in &other.heap {
            self.offer(outlier);
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

    /// Bytes held when full.
    pub const fn n_bytes(&self) -> usize {
        self.k * size_of::<Outlier>()
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
