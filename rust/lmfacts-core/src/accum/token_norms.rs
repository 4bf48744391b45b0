//! How long the tokens' vectors are.

use super::moments::ScalarMoments;
use crate::dtype::Element;
use crate::kernel::RowFigures;

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
    /// Forgets all tokens.
    pub(super) fn clear(&mut self) {
        self.codes.clear();
        self.moments = Default::default();
    }

    /// Counts tokens; `codes` is overwritten.
    pub(super) fn update(&mut self, tokens: &[Quantities], codes: &mut Vec<u16>) {
        // Equal codes are counted together: most tokens of a chunk share a few.
        codes.clear();
        codes.extend(tokens.iter().map(|[norm, ..]| norm.code()));
        codes.sort_unstable();
        for equal in codes.chunk_by(|a, b| a == b) {
            self.count(equal[0], equal.len() as u64);
        }
        for (moments, more) in self.moments.iter_mut().zip(&moments_of(tokens)) {
            moments.merge(more);
        }
    }

    fn count(&mut self, code: u16, n: u64) {
        match self.codes.binary_search_by_key(&code, |&(known, _)| known) {
            Ok(index) => self.codes[index].1 += n,
            Err(index) => self.codes.insert(index, (code, n)),
        }
    }

    /// Merges other tokens.
    pub fn merge(&mut self, other: &Self) {
        for &(code, count) in &other.codes {
            self.count(code, count);
        }
        for (moments, more) in self.moments.iter_mut().zip(&other.moments) {
            moments.merge(more);
        }
    }

    /// The codes of the norms, ascending, and their counts.
    pub fn sparse(&self) -> (Vec<u16>, Vec<u64>) {
        self.codes.iter().copied().unzip()
    }

    /// The moments of the quantities, seven numbers each.
    pub fn to_values(&self) -> Vec<f64> {
        self.moments.iter().flat_map(|moments| moments.to_values()).collect()
    }

    /// What rounding took from the mean of each quantity.
    pub fn mean_rests(&self) -> Vec<f64> {
        self.moments.iter().map(|moments| moments.mean_rest).collect()
    }

    /// What `sparse`, `to_values` and `mean_rests` gave, or none if the lengths do not fit.
    pub fn from_values(codes: &[u16], counts: &[u64], values: &[f64], mean_rests: &[f64]) -> Option<Self> {
        let (groups, []) = values.as_chunks::<7>() else { return None };
        if codes.len() != counts.len() || !codes.is_sorted_by(|a, b| a < b) || groups.len() != mean_rests.len() {
            return None;
        }
        let moments: Vec<_> =
            groups.iter().zip(mean_rests).map(|(&group, &rest)| ScalarMoments::from_values(group, rest)).collect();
        Some(Self { codes: codes.iter().copied().zip(counts.iter().copied()).collect(), moments: moments.try_into().ok()? })
    }
}
