//! How long the tokens' vectors are.

use super::accumulator::{Accumulator, Chunk, Shape, Statistic};
use super::moments::ScalarMoments;
use crate::dtype::Element;
use crate::error::{Error, Result};
use crate::kernel::{Kernels, RowFigures};
use crate::state::Arrays;

const CODES: &str = "norm_codes";
const COUNTS: &str = "norm_counts";
const MOMENTS: &str = "token_moments";
const MEAN_LO: &str = "token_mean_rests";

/// The three numbers kept of each token: its L2 norm, the logarithm of that, and the logarithm of the norm after the mean over the
/// dims was taken off (what a LayerNorm sees).
pub const TOKEN_QUANTITIES: [&str; 3] = ["norm", "log_norm", "log_centered_norm"];

/// The distribution of the tokens' L2 norms, as codes, and the moments of the three quantities.
///
/// A norm of zero has no logarithm and is left out of those moments; a token with a NaN or an infinity has no norm at all.
#[derive(Debug, Clone, Default)]
pub struct TokenNorms {
    // Ascending; some hundreds.
    codes: Vec<(u16, u64)>,
    moments: TokenMoments,
}

/// One number for each of the three quantities.
pub(super) type Quantities = [f64; TOKEN_QUANTITIES.len()];

/// The moments of each of the three quantities.
pub(super) type TokenMoments = [ScalarMoments; TOKEN_QUANTITIES.len()];

/// Below this share of the sum of squares, the centered one has lost too many digits to be a difference of sums.
const CENTERED_SHARE: f64 = 1e-3;

/// Sets `norms` to those of the rows, before and after centering, from their sums and sums of squares. Those of a row
/// with a NaN or an infinity mean nothing.
pub(super) fn set_norms<E: Element>(rows: &[&[E]], figures: &[RowFigures], norms: &mut Vec<[f64; 2]>) {
    norms.clear();
    // Squares first, and all roots together: the processor then takes several at a time.
    norms.extend(rows.iter().zip(figures).map(|(row, figures)| {
        let mean = figures.sum / row.len() as f64;
        [figures.square, figures.square - figures.sum * mean]
    }));
    for ((row, figures), [square, centered]) in rows.iter().zip(figures).zip(&mut *norms) {
        if *centered <= CENTERED_SHARE * *square {
            let mean = figures.sum / row.len() as f64;
            *centered = row.iter().map(|value| (value.widen() - mean).powi(2)).sum();
        }
    }
    for squares in norms {
        *squares = squares.map(f64::sqrt);
    }
}

/// The three quantities of a token, from its norm before and after centering.
pub(super) fn quantities_of([norm, centered]: [f64; 2]) -> Quantities {
    [norm, norm.ln(), centered.ln()]
}

/// The moments of the quantities of some tokens, each over those tokens for which it is a finite number.
pub(super) fn moments_of(tokens: &[Quantities]) -> TokenMoments {
    if tokens.as_flattened().iter().all(|value| value.is_finite()) {
        return ScalarMoments::of_each(tokens.iter().copied());
    }
    std::array::from_fn(|index| {
        ScalarMoments::of(tokens.iter().map(|quantities| quantities[index]).filter(|value| value.is_finite()))
    })
}

impl TokenNorms {
    fn count(&mut self, code: u16, n: u64) {
        match self.codes.binary_search_by_key(&code, |&(known, _)| known) {
            Ok(index) => self.codes[index].1 += n,
            Err(index) => self.codes.insert(index, (code, n)),
        }
    }

    /// Adds to `arrays` the norms' codes and their counts, the moments of the quantities, and what rounding took from their means.
    pub fn save_parts(arrays: &mut Arrays, (codes, counts): (Vec<u16>, Vec<u64>), moments: &[ScalarMoments]) {
        arrays.push_list(CODES, codes);
        arrays.push_list(COUNTS, counts);
        arrays.push_rows(MOMENTS, &moments.iter().map(|moments| moments.to_values()).collect::<Vec<_>>());
        arrays.push_list(MEAN_LO, moments.iter().map(|moments| moments.mean_lo).collect());
    }
}

impl Accumulator for TokenNorms {
    const NAME: &'static str = "token_norms";

    fn new(_shape: &Shape) -> Self {
        Self::default()
    }

    fn merge<E: Element>(&mut self, _kernels: &Kernels<E>, other: &mut Self) {
        for &(code, count) in &other.codes {
            self.count(code, count);
        }
        for (moments, more) in self.moments.iter_mut().zip(&other.moments) {
            moments.merge(more);
        }
    }

    fn save(&self, arrays: &mut Arrays) {
        Self::save_parts(arrays, self.codes.iter().copied().unzip(), &self.moments);
    }

    fn restore(arrays: &Arrays, _shape: &Shape, _n_tokens: u64) -> Result<Self> {
        let (codes, counts) = (arrays.list::<u16>(CODES)?, arrays.list::<u64>(COUNTS)?);
        if codes.len() != counts.len() || !codes.is_sorted_by(|a, b| a < b) {
            return Err(Error::State {
                field: CODES.into(),
                expected: "ascending codes with one count each".into(),
                got: format!("{} codes and {} counts", codes.len(), counts.len()),
            });
        }
        let n = TOKEN_QUANTITIES.len();
        let (values, mean_lo) = (arrays.table::<f64, 2>(MOMENTS, [n, 7])?, arrays.table::<f64, 1>(MEAN_LO, [n])?);
        let values = values.as_chunks::<7>().0;
        Ok(Self {
            codes: codes.iter().copied().zip(counts.iter().copied()).collect(),
            moments: std::array::from_fn(|index| ScalarMoments::from_values(values[index], mean_lo[index])),
        })
    }

    /// Those of a few hundred codes, which are not counted.
    fn n_bytes(&self) -> usize {
        0
    }
}

impl Statistic for TokenNorms {
    const NEEDS_NORMS: bool = true;

    /// The codes of a chunk's norms.
    type Scratch = Vec<u16>;

    fn clear(&mut self, _shape: &Shape) {
        self.codes.clear();
        self.moments = Default::default();
    }

    fn update<E: Element>(&mut self, chunk: &Chunk<'_, E>, _recorded: &Self, codes: &mut Vec<u16>) {
        // Equal codes are counted together: most tokens of a chunk share a few.
        codes.clear();
        codes.extend(chunk.quantities.iter().map(|[norm, ..]| norm.code()));
        codes.sort_unstable();
        for equal in codes.chunk_by(|a, b| a == b) {
            self.count(equal[0], equal.len() as u64);
        }
        for (moments, more) in self.moments.iter_mut().zip(&moments_of(chunk.quantities)) {
            moments.merge(more);
        }
    }
}
