//! How large the largest value of a token is: what one scale for each token costs.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::device::{Blocks, OnDevice};
use crate::config::SiteConfig;
use crate::dtype::Element;
use crate::error::Result;
use crate::kernel::Kernels;
use crate::state::Arrays;
use crate::tokens::Population;

const SQUARES: &str = "token_maxima_squares";

/// The sum over finite tokens of the square of the largest magnitude.
#[derive(Debug, Clone)]
pub struct TokenMaxima {
    squares: f64,
}

impl TokenMaxima {
    fn save_sum(arrays: &mut Arrays, squares: f64) {
        arrays.push_list(SQUARES, vec![squares]);
    }
}

impl Accumulator for TokenMaxima {
    const NAME: &'static str = "token_maxima";

    fn new(_shape: &Shape) -> Self {
        Self { squares: 0.0 }
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        self.squares += other.squares;
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_sum(arrays, self.squares);
    }

    fn restore(arrays: &Arrays, _shape: &Shape, _n_tokens: u64) -> Result<Self> {
        Ok(Self { squares: arrays.table::<f64, 1>(SQUARES, [1])?[0] })
    }

    fn n_bytes(&self) -> usize {
        0
    }
}

impl Statistic for TokenMaxima {
    type Scratch = ();

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, _recorded: &Self, _scratch: &mut ()) {
        for figures in chunk.figures.iter().filter(|figures| Chunk::<E>::is_finite(figures)) {
            self.squares += E::of_key(figures.absmax).widen().powi(2);
        }
    }
}

impl OnDevice for TokenMaxima {
    const KERNELS: &'static [(&'static str, Blocks)] = &[("token_maxima", Blocks::Populations)];

    fn state_bytes(_config: &SiteConfig, _n_dims: usize) -> usize {
        2 * size_of::<f64>()
    }

    fn save_state(state: &[u8], _config: &SiteConfig, _n_dims: usize, population: Population, arrays: &mut Arrays) {
        Self::save_sum(arrays, f64::from_le_bytes(state.as_chunks().0[population as usize]));
    }
}
