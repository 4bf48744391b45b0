//! What the mean cosine between tokens needs.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use crate::dtype::Element;
use crate::error::Result;
use crate::kernel::{Kernels, TILE_ROWS, UnitRow};
use crate::state::Arrays;

const UNIT_SUMS: &str = "unit_sums";

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
    /// Adds tokens, each with its norm; one without direction (norm zero, or not finite) is left out.
    fn add<'a, E: Element>(&mut self, kernels: &Kernels<E>, tokens: impl Iterator<Item = (&'a [E], f64)>) {
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

    /// Adds both lists to `arrays`, one after the other.
    pub fn save_sums(arrays: &mut Arrays, sums: Vec<f64>) {
        arrays.push_table(UNIT_SUMS, [2, sums.len() / 2], sums);
    }
}

impl Accumulator for UnitSums {
    const NAME: &'static str = UNIT_SUMS;

    fn new(shape: &Shape) -> Self {
        Self { sums: vec![0.0; shape.n_dims], squares: vec![0.0; shape.n_dims] }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
        for (sum, more) in self.squares.iter_mut().zip(&other.squares) {
            *sum += more;
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_sums(arrays, [&self.sums[..], &self.squares].concat());
    }

    fn restore(arrays: &Arrays, shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let (sums, squares) = arrays.table::<f64, 2>(UNIT_SUMS, [2, shape.n_dims])?.split_at(shape.n_dims);
        Ok(Self { sums: sums.to_vec(), squares: squares.to_vec() })
    }

    fn n_bytes(&self) -> usize {
        16 * self.sums.len()
    }
}

impl Statistic for UnitSums {
    const NEEDS_NORMS: bool = true;

    type Scratch = ();

    fn clear(&mut self, shape: &Shape) {
        for list in [&mut self.sums, &mut self.squares] {
            list.clear();
            list.resize(shape.n_dims, 0.0);
        }
    }

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, _recorded: &Self, _scratch: &mut ()) {
        self.add(chunk.kernels, chunk.rows.iter().zip(chunk.norms).map(|(&row, &[norm, _])| (row, norm)));
    }
}
