//! What a site recorded as plain numbers, and back.

use super::codes::CodeHistogram;
use super::moments::DimMoments;
use super::outliers::{Outlier, Outliers};
use super::sequence_blocks::{N_BLOCKS, SequenceBlocks};
use super::site::SiteConfig;
use super::summary::Summary;
use super::token_norms::TokenNorms;
use super::unit_sums::UnitSums;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// One population's part of a [`SiteState`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PopulationState {
    /// Tokens counted.
    pub n_tokens: u64,
    /// Codes that occur, ascending.
    pub codes: Vec<u16>,
    /// How often each occurs.
    pub counts: Vec<u64>,
    /// mean, m2, m3, m4, min, max: six lists of one value for each dim.
    pub moments: Vec<f64>,
    /// What rounding took from the mean of each dim.
    pub mean_rests: Vec<f64>,
    /// Non-finite values, and values at or above the threshold: two lists of one count for each dim.
    pub dim_counts: Vec<u64>,
    /// Codes of the tokens' norms, ascending.
    pub norm_codes: Vec<u16>,
    /// How often each occurs.
    pub norm_counts: Vec<u64>,
    /// For each of [`super::TOKEN_QUANTITIES`]: n, mean, m2, m3, m4, min, max.
    pub token_moments: Vec<f64>,
    /// What rounding took from the mean of each of them.
    pub token_mean_rests: Vec<f64>,
    /// Sums of unit vectors and of their squares, two lists; empty if they were not asked for.
    pub unit_sums: Vec<f64>,
    /// Values of the outliers, in order.
    pub outlier_values: Vec<f64>,
    /// sequence, position, dim, token id of each.
    pub outlier_index: Vec<i64>,
    /// Tokens of each block of sequences; this and what follows is empty if it was not asked for.
    pub block_tokens: Vec<u64>,
    /// For each block and each of [`super::TOKEN_QUANTITIES`]: n, mean, m2, m3, m4, min, max.
    pub block_token_moments: Vec<f64>,
    /// What rounding took from the mean of each of them.
    pub block_token_mean_rests: Vec<f64>,
    /// The value of largest magnitude of each of the first sequences that were seen.
    pub maxima_values: Vec<f64>,
    /// sequence, position, dim, token id of each.
    pub maxima_index: Vec<i64>,
    /// How many different codes each block has.
    pub block_lengths: Vec<u64>,
    /// The codes of the blocks, one after the other, ascending in each.
    pub block_codes: Vec<u16>,
    /// How often each occurs.
    pub block_counts: Vec<u64>,
    /// Bins of the dims' histograms that hold a value, as dim x 256 + bin, ascending.
    pub dim_bins: Vec<u32>,
    /// How many each holds.
    pub dim_bin_counts: Vec<u64>,
}

/// All that an accumulator holds, as plain numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteState {
    /// What was recorded.
    pub config: SiteConfig,
    /// Type and number of dims; none before the first update.
    pub layout: Option<(Dtype, usize)>,
    /// The populations `first` and `rest`.
    pub populations: [PopulationState; 2],
}

/// The histograms of the blocks, which together are the population's.
pub(super) fn block_codes(part: &PopulationState) -> Result<Vec<CodeHistogram>> {
    let refused = |expected: String, got: String| Error::State { field: "rest/block_codes".into(), expected, got };
    let lengths: Vec<_> = part.block_lengths.iter().filter_map(|&length| usize::try_from(length).ok()).collect();
    let total = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
    if lengths.len() != N_BLOCKS || total != Some(part.block_codes.len()) || part.block_counts.len() != part.block_codes.len() {
        return Err(refused(
            format!("{N_BLOCKS} lists of codes with one count each"),
            format!("{} codes and {} counts", part.block_codes.len(), part.block_counts.len()),
        ));
    }
    let mut start = 0;
    let mut blocks = Vec::with_capacity(N_BLOCKS);
    let mut whole = CodeHistogram::default();
    for length in lengths {
        let range = start..start + length;
        let block = CodeHistogram::from_sparse(&part.block_codes[range.clone()], &part.block_counts[range])?;
        whole.merge(&block);
        blocks.push(block);
        start += length;
    }
    if whole.sparse() != (part.codes.clone(), part.counts.clone()) {
        return Err(refused("blocks that add up to the population's counts".into(), "others".into()));
    }
    Ok(blocks)
}

pub(super) fn population_state(by_block: &[CodeHistogram], summary: &Summary) -> PopulationState {
    let mut blocks = (Vec::new(), Vec::new(), Vec::new());
    let mut whole = CodeHistogram::default();
    for codes in by_block {
        whole.merge(codes);
        if by_block.len() > 1 {
            let (codes, counts) = codes.sparse();
            blocks.0.push(codes.len() as u64);
            blocks.1.extend(codes);
            blocks.2.extend(counts);
        }
    }
    let (codes, counts) = whole.sparse();
    let maxima: Vec<_> = summary.blocks.iter().flat_map(|blocks| blocks.maxima()).copied().collect();
    let (norm_codes, norm_counts) = summary.norms.sparse();
    let outliers = summary.outliers.sorted();
    PopulationState {
        n_tokens: summary.n_tokens,
        codes,
        counts,
        moments: summary.dims.to_values(),
        mean_rests: summary.dims.mean_rests().to_vec(),
        dim_counts: summary.dims.to_counts(),
        norm_codes,
        norm_counts,
        token_moments: summary.norms.to_values(),
        token_mean_rests: summary.norms.mean_rests(),
        unit_sums: summary.units.as_ref().map(UnitSums::to_values).unwrap_or_default(),
        outlier_values: outliers.iter().map(|outlier| outlier.value).collect(),
        outlier_index: indices(&outliers),
        block_tokens: summary.blocks.as_ref().map(|blocks| blocks.n_tokens().to_vec()).unwrap_or_default(),
        block_token_moments: summary.blocks.as_ref().map(|blocks| blocks.to_values()).unwrap_or_default(),
        block_token_mean_rests: summary.blocks.as_ref().map(|blocks| blocks.mean_rests()).unwrap_or_default(),
        maxima_values: maxima.iter().map(|outlier| outlier.value).collect(),
        maxima_index: indices(&maxima),
        block_lengths: blocks.0,
        block_codes: blocks.1,
        block_counts: blocks.2,
        dim_bins: Vec::new(),
        dim_bin_counts: Vec::new(),
    }
}

fn indices(outliers: &[Outlier]) -> Vec<i64> {
    outliers.iter().flat_map(|outlier| [outlier.sequence, outlier.position, outlier.dim, outlier.token_id]).collect()
}

/// The outliers with these values and indices, or none if the lengths do not fit.
fn outliers_from(values: &[f64], index: &[i64]) -> Option<Vec<Outlier>> {
    let (places, []) = index.as_chunks::<4>() else { return None };
    (places.len() == values.len()).then(|| {
        let places = places.iter().copied();
        values
            .iter()
            .zip(places)
            .map(|(&value, [sequence, position, dim, token_id])| Outlier { value, sequence, position, dim, token_id })
            .collect()
    })
}

pub(super) fn summary_from(
    part: &PopulationState,
    n_dims: usize,
    config: &SiteConfig,
) -> std::result::Result<Summary, (&'static str, String, String)> {
    // In 128 bits: numbers that were made up must not wrap into ones that fit.
    let n_values: u128 = part.counts.iter().map(|&count| u128::from(count)).sum();
    if n_values != u128::from(part.n_tokens) * n_dims as u128 {
        let expected = format!("{} tokens x {n_dims} dims in all", part.n_tokens);
        return Err(("counts", expected, n_values.to_string()));
    }
    let dims =
        DimMoments::from_values(part.n_tokens, n_dims, &part.moments, &part.mean_rests, &part.dim_counts).ok_or_else(|| {
            let got = format!("{} and {} values", part.moments.len(), part.dim_counts.len());
            ("moments and dim_counts", format!("6 and 2 lists of {n_dims} values, and as many rests"), got)
        })?;
    let norms = TokenNorms::from_values(&part.norm_codes, &part.norm_counts, &part.token_moments, &part.token_mean_rests)
        .ok_or_else(|| {
            (
                "token_moments",
                "3 lists of 7 values, a rest for each, and a count for each code".into(),
                part.token_moments.len().to_string(),
            )
        })?;
    let units = if config.unit_sums {
        Some(
            UnitSums::from_values(n_dims, &part.unit_sums)
                .ok_or_else(|| ("unit_sums", format!("2 lists of {n_dims} values"), part.unit_sums.len().to_string()))?,
        )
    } else {
        None
    };
    let mut outliers = Outliers::new(config.k);
    let listed = outliers_from(&part.outlier_values, &part.outlier_index).filter(|listed| listed.len() <= config.k);
    for outlier in listed.ok_or_else(|| {
        let expected = format!("at most {} outliers with 4 indices each", config.k);
        ("outliers", expected, format!("{} and {}", part.outlier_values.len(), part.outlier_index.len()))
    })? {
        outliers.offer(outlier);
    }
    let mut blocks = None;
    if config.blocks {
        let restored = outliers_from(&part.maxima_values, &part.maxima_index).and_then(|maxima| {
            SequenceBlocks::from_values(&part.block_tokens, &part.block_token_moments, &part.block_token_mean_rests, &maxima)
        });
        blocks = Some(Box::new(restored.ok_or_else(|| {
            let got = format!("{} numbers and {} maxima", part.block_token_moments.len(), part.maxima_values.len());
            ("block_token_moments", format!("those of {N_BLOCKS} blocks, and maxima of different sequences"), got)
        })?));
    }
    Ok(Summary { n_tokens: part.n_tokens, dims, norms, units, outliers, blocks })
}
