//! What the mean cosine between tokens needs.

use crate::dtype::Element;
use crate::kernel::{Kernels, TILE_ROWS, UnitRow};

/// Per dim, the sum of the tokens' unit vectors and of the squares of their entries.
///
/// With U and Q these sums over n tokens, the mean cosine over all pairs is `(|U|^2 - n) / (n (n - 1))` and dim j's share of it
/// `(U_j^2 - Q_j) / (n (n - 1))` (Timkey and van Schijndel, arXiv:2109.04404, computed over all pairs rather than sampled ones).
#[derive(Debug, Clone)]
pub struct UnitSums {
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl UnitSums {
    /// No tokens of `n_dims` dims.
    pub fn new(n_dims: usize) -> Self {
        Self { sums: vec![0.0; n_dims], squares: vec![0.0; n_dims] }
    }

    /// Becomes the sums of no tokens of `n_dims` dims, in the memory that it has.
    pub(super) fn clear(&mut self, n_dims: usize) {
        for list in [&mut self.sums, &mut self.squares] {
            list.clear();
            list.resize(n_dims, 0.0);
        }
    }

    /// Adds tokens, each with its norm; one without direction (norm zero, or not finite) is left out.
    pub(super) fn update<'a, E: Element>(&mut self, kernels: &Kernels<E>, tokens: impl Iterator<Item = (&'a [E], f64)>) {
        let (mut tile, mut n): ([UnitRow<'a, E>; TILE_ROWS], usize) = ([(&[], 0.0); TILE_ROWS], 0);
        for (row, norm) in tokens {
            let inverse_norm = 1.0 / norm;
            if inverse_norm.is_finite() && inverse_norm > 0.0 {
                tile[n] = (row, inverse_norm);
                n += 1;
            }
            if n == TILE_ROWS {
                kernels.unit_sums(&tile, &mut self.sums, &mut self.squares);
                n = 0;
            }
        }
        kernels.unit_sums(&tile[..n], &mut self.sums, &mut self.squares);
    }

    /// Adds other tokens.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        for (sum, more) in self.squares.iter_mut().zip(&other.squares) {
            *sum += more;
        }
    }

    /// Both lists, one after the other.
    pub fn to_values(&self) -> Vec<f64> {
        [&self.sums, &self.squares].into_iter().flatten().copied().collect()
    }

    /// What `to_values` gave, or none if the length does not fit.
    pub fn from_values(n_dims: usize, values: &[f64]) -> Option<Self> {
        (values.len() == 2 * n_dims).then(|| Self { sums: values[..n_dims].to_vec(), squares: values[n_dims..].to_vec() })
    }
}
