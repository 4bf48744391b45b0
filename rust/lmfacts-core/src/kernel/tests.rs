//! Every level against the scalar one, bit for bit, and the scalar one against plain sums.

use proptest::prelude::*;

use super::{Kernels, Level, MomentRows, N_CODES, RowFigures, RowLanes, TILE_ROWS};
use crate::accum::CodeHistogram;
use crate::dtype::{Bf16, Element, F16};

/// All that the kernels of a level say about some rows, as bits.
#[derive(Debug, PartialEq)]
struct Answers {
    absmax: Vec<u64>,
    counts: Vec<(usize, u32)>,
    floats: Vec<u64>,
    n_at_least: Vec<u64>,
}

fn answers<E: Element>(kernels: &Kernels<E>, rows: &[&[E]]) -> Answers {
    let n_dims = rows[0].len();
    let mut table = CodeHistogram::zeroed_table();
    let mut codes_alone = CodeHistogram::zeroed_table();
    let mut sums = vec![0.0; n_dims];
    let mut squares = vec![0.0; n_dims];
    let mut floats = Vec::new();
    let mut absmax = Vec::new();
    let (mut lanes, mut figures) = ([RowLanes::default()], [RowFigures::default()]);
    for row in rows {
        kernels.row_pass(row, &mut table, &mut lanes[0]);
        kernels.fold_rows(&lanes, &mut figures);
        let RowFigures { absmax: largest, sum, square } = figures[0];
        assert_eq!(largest, kernels.absmax(row).into());
        absmax.push(largest);
        floats.extend([sum, square]);
        kernels.codes(row, &mut codes_alone);
    }
    assert!(table == codes_alone, "codes are the same, counted alone or with the rest");
    for tile in rows.chunks(TILE_ROWS) {
        let units: Vec<_> = tile.iter().map(|&row| (row, 1.0 / (1.0 + row.len() as f64))).collect();
        kernels.unit_sums(&units, &mut sums, &mut squares);
    }
    let mut lists = vec![vec![0.0; n_dims]; 7];
    let mut merged = lists.clone();
    let mut n_at_least = vec![0; n_dims];
    let mut n_other = vec![0; n_dims];
    let mut without_counts = lists.clone();
    kernels.dim_moments(rows, 1.5, &mut borrow(&mut lists), &mut n_at_least);
    kernels.dim_moments(&rows[..1], 1.5, &mut borrow(&mut merged), &mut n_other);
    kernels.dim_moments(rows, f64::MAX, &mut borrow(&mut without_counts), &mut n_other);
    assert_eq!(without_counts, lists, "the threshold changes no moment");
    kernels.merge_moments(1.0, &mut borrow(&mut merged), rows.len() as f64, &borrow(&mut lists));
    for row in rows {
        let mut scaled = vec![0f32; n_dims];
        let inverse_columns: Vec<_> = (0..n_dims).map(|dim| 1.0 + dim as f64).collect();
        let in_f32: Vec<_> = inverse_columns.iter().map(|&inverse| inverse as f32).collect();
        let before = [
            kernels.divide_columns_in_f32(row, &in_f32, &mut scaled),
            kernels.divide_columns(row, &inverse_columns, &mut scaled),
        ];
        let sums = kernels.divide_row(&mut scaled, 1e-3);
        floats.extend(before.into_iter().flat_map(|sums| [sums.sum, sums.square, sums.scaled_square]));
        floats.extend(sums.powers.into_iter().chain([sums.min, sums.max]).chain(scaled.into_iter().map(f64::from)));
    }
    floats.extend(lists.into_iter().chain(merged).flatten().chain(sums).chain(squares));
    Answers {
        absmax,
        counts: (0..N_CODES).map(|code| (code, table[code])).filter(|&(_, count)| count > 0).collect(),
        floats: floats.into_iter().map(f64::to_bits).collect(),
        n_at_least,
    }
}

fn borrow(lists: &mut [Vec<f64>]) -> MomentRows<'_> {
    let [mean, m2, m3, m4, min, max, mean_rest] = lists else { panic!("seven lists") };
    MomentRows { mean, mean_rest, m2, m3, m4, min, max }
}

fn every_level_equals_scalar<E: Element>(values: &[E], n_dims: usize) {
    let rows: Vec<&[E]> = values.chunks_exact(n_dims).collect();
    let scalar = answers(&Kernels::at(Level::Scalar).unwrap(), &rows);
    for kernels in Level::ALL.into_iter().filter_map(Kernels::at) {
        assert_eq!(answers(&kernels, &rows), scalar, "{} at {}", E::DTYPE, kernels.level());
    }
}

fn finite_values(seed: u64, n: usize) -> Vec<f64> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
            unit * if state.is_multiple_of(61) { 300.0 } else { 4.0 }
        })
        .collect()
}

#[test]
fn every_level_equals_scalar_on_every_width() {
    for n_dims in (1..70).chain([127, 576]) {
        for n_rows in [1, 2, 7, 8, 9, 64] {
            let values = finite_values(n_dims as u64 + 1000 * n_rows as u64, n_dims * n_rows);
            every_level_equals_scalar(&values, n_dims);
            every_level_equals_scalar(&values.iter().map(|&x| x as f32).collect::<Vec<_>>(), n_dims);
            every_level_equals_scalar(&values.iter().map(|&x| Bf16::narrow(x)).collect::<Vec<_>>(), n_dims);
            every_level_equals_scalar(&values.iter().map(|&x| F16::narrow(x)).collect::<Vec<_>>(), n_dims);
        }
    }
}

proptest! {
    #[test]
    fn every_level_equals_scalar_on_any_finite_bits(bits in prop::collection::vec(any::<u32>(), 1..600), n_dims in 1usize..40) {
        prop_assume!(bits.len() >= n_dims);
        let wide: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).map(|x| if x.is_finite() { x } else { 1.0 }).collect();
        every_level_equals_scalar(&wide, n_dims);
        let half: Vec<F16> = bits.iter().map(|&b| F16(b as u16)).map(|x| if x.key() < F16::INFINITY_KEY { x } else { F16(0) }).collect();
        every_level_equals_scalar(&half, n_dims);
        let brain: Vec<Bf16> = bits.iter().map(|&b| Bf16(b as u16)).map(|x| if x.key() < Bf16::INFINITY_KEY { x } else { Bf16(0) }).collect();
        every_level_equals_scalar(&brain, n_dims);
    }

    #[test]
    fn moments_equal_two_plain_passes(seed in any::<u64>(), n_rows in 1usize..65, shift in -1e4f64..1e4) {
        let values: Vec<f64> = finite_values(seed, n_rows).into_iter().map(|x| x + shift).collect();
        let rows: Vec<&[f64]> = values.chunks_exact(1).collect();
        let mut lists = vec![vec![0.0; 1]; 7];
        Kernels::at(Level::Scalar).unwrap().dim_moments(&rows, 6.0, &mut borrow(&mut lists), &mut [0]);
        let n = n_rows as f64;
        let mean = values.iter().sum::<f64>() / n;
        prop_assert!((lists[0][0] - mean).abs() <= 1e-13 * mean.abs().max(1.0));
        // From the first value on, lest rounding a mean far from zero spoil the plain passes.
        let from_first: Vec<f64> = values.iter().map(|x| x - values[0]).collect();
        let mean = from_first.iter().sum::<f64>() / n;
        for power in 2..=4 {
            let exact: f64 = from_first.iter().map(|x| (x - mean).powi(power)).sum();
            let size: f64 = from_first.iter().map(|x| (x - mean).abs().powi(power)).sum();
            prop_assert!((lists[power as usize - 1][0] - exact).abs() <= 1e-10 * size + 1e-280, "power {power}");
        }
    }
}

#[test]
fn the_pivot_is_never_far_off() {
    // All the sampled rows are the extreme ones: the worst case for a pivot made of every eighth row.
    let values: Vec<f64> =
        (0..64).map(|row| if row % super::generic::PIVOT_STEP == 0 { 1e6 } else { row as f64 * 1e-3 }).collect();
    let rows: Vec<&[f64]> = values.chunks_exact(1).collect();
    let mut lists = vec![vec![0.0; 1]; 7];
    Kernels::at(Level::Scalar).unwrap().dim_moments(&rows, 6.0, &mut borrow(&mut lists), &mut [0]);
    let mean = values.iter().sum::<f64>() / 64.0;
    let exact: f64 = values.iter().map(|x| (x - mean).powi(4)).sum();
    assert!((lists[3][0] / exact - 1.0).abs() < 1e-12);
}

#[test]
fn an_unknown_level_is_named() {
    let error = Level::by_name("sse9").unwrap_err().to_string();
    assert!(error.contains("sse9") && error.contains("scalar"), "{error}");
    assert_eq!(Level::by_name("scalar").unwrap(), Level::Scalar);
}
