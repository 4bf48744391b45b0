//! Every level against the scalar one, bit for bit, and the scalar one against plain sums.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{DimSums, Kernels, Level, MomentRows, N_CODES, RowFigures, SKETCH_COLUMNS, SketchRow, SketchTable, TILE_ROWS, slot};
use crate::accum::CodeHistogram;
use crate::dtype::{Bf16, Element, F8E4M3, F8E5M2, F16};

/// Magnitudes that some types have and others round up or down, and the last that all kernels are asked for.
const THRESHOLDS: [f64; 9] = [0.0, 1e-320, 1e-40, 0.1, 1.0 / 3.0, 6.01, 1e6, f64::INFINITY, 1.5];

/// All that the kernels of a level say about some rows, as bits.
#[derive(Debug, PartialEq)]
struct Answers {
    absmax: Vec<u64>,
    counts: Vec<(usize, u32)>,
    floats: Vec<u64>,
    n_at_least: Vec<u64>,
    blocks: Vec<usize>,
}

fn answers<E: Element>(kernels: &Kernels<E>, rows: &[&[E]]) -> Answers {
    let n_dims = rows[0].len();
    let mut table = CodeHistogram::zeroed_table();
    let mut codes_alone = CodeHistogram::zeroed_table();
    let mut sums = vec![0.0; n_dims];
    let mut squares = vec![0.0; n_dims];
    let mut raw: [_; 3] = std::array::from_fn(|_| vec![0.0; n_dims]);
    let (mut absmax, mut floats) = (Vec::new(), Vec::new());
    let mut interleaved = CodeHistogram::zeroed_tables();
    let (dim_sums, figures) = pass_over(kernels, rows, |rows, sums, figures| kernels.row_pass(rows, &mut table, sums, figures));
    let with_interleaved =
        pass_over(kernels, rows, |rows, sums, figures| kernels.row_pass_interleaved(rows, &mut interleaved, sums, figures));
    let uncounted = pass_over(kernels, rows, |rows, sums, figures| kernels.row_sums(rows, sums, figures));
    assert_eq!(figures, with_interleaved.1, "the number of tables changes no figure");
    assert_eq!(figures, uncounted.1, "nor that there are none");
    for (row, &RowFigures { absmax: largest, sum, square }) in rows.iter().zip(&figures) {
        assert_eq!(largest, kernels.absmax(row).into());
        absmax.push(largest);
        floats.extend([sum, square]);
        kernels.codes(row, &mut codes_alone);
    }
    assert!(table == codes_alone, "codes are the same, counted alone or with the rest");
    let sum = |code: usize| interleaved[usize::from(slot::<E>(code as u16))].iter().sum::<u32>();
    assert!((0..N_CODES).all(|code| table[code] == sum(code)), "and the same in several tables");
    for tile in rows.chunks(TILE_ROWS) {
        let units: Vec<_> = tile.iter().map(|&row| (row, 1.0 / (1.0 + row.len() as f64))).collect();
        kernels.unit_sums(&units, &mut sums, &mut squares);
        let [raw_sums, raw_squares, raw_units] = &mut raw;
        kernels.block_sums(&units, raw_sums, raw_squares, raw_units);
    }
    let is_same = raw[2].iter().zip(&sums).all(|(a, b)| a.to_bits() == b.to_bits());
    assert!(is_same, "a row times its factor is the same with or without the other sums");
    let mut n_at_least = vec![0; n_dims];
    for threshold in THRESHOLDS {
        n_at_least.fill(0);
        kernels.count_reached(rows, threshold, &dim_sums, &mut n_at_least);
        let reached = |dim: usize| rows.iter().filter(|row| row[dim].widen().abs() >= threshold).count() as u64;
        assert!((0..n_dims).all(|dim| n_at_least[dim] == reached(dim)), "{threshold} in {}", E::DTYPE);
    }
    let [mut lists, of_interleaved, with_none] = [dim_sums, with_interleaved.0, uncounted.0].map(|sums| {
        let mut lists = vec![vec![0.0; n_dims]; 7];
        kernels.moments_of(rows.len(), &sums, &mut borrow(&mut lists));
        lists
    });
    assert!(lists == of_interleaved && lists == with_none, "the number of tables changes no moment");
    let mut merged = vec![vec![0.0; n_dims]; 7];
    moments(kernels, &rows[..1], &mut merged);
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
    let mut sketch = Box::<SketchTable>::default();
    for (index, row) in rows.iter().enumerate() {
        let in_sketch = SketchRow::new(index);
        kernels.sketch(row, in_sketch, in_sketch.place(index), &mut sketch);
    }
    for columns in rows.chunks(SKETCH_COLUMNS) {
        kernels.sketch_columns(columns, 5, &mut sketch);
    }
    floats.extend(sketch.0.as_flattened().iter().filter(|&&bucket| bucket != 0.0));
    floats.extend(lists.into_iter().chain(merged).flatten().chain(sums).chain(squares).chain(raw.into_iter().flatten()));
    Answers {
        absmax,
        counts: (0..N_CODES).map(|code| (code, table[code])).filter(|&(_, count)| count > 0).collect(),
        floats: floats.into_iter().map(f64::to_bits).collect(),
        n_at_least,
        blocks: blocks_of_largest(kernels, rows),
    }
}

/// In which blocks of rows the largest magnitudes of the dims came first.
fn blocks_of_largest<E: Element>(kernels: &Kernels<E>, rows: &[&[E]]) -> Vec<usize> {
    const ROWS: usize = 3;
    let (sums, _) = pass_over(kernels, rows, |rows, sums, figures| {
        for (block, (rows, figures)) in rows.chunks(ROWS).zip(figures.chunks_mut(ROWS)).enumerate() {
            kernels.row_sums(rows, sums, figures);
            kernels.mark_largest(block as u32, sums);
        }
    });
    let n_dims = rows[0].len();
    let blocks: Vec<_> = (0..n_dims).map(|dim| DimSums::block_of_largest(&sums, dim)).collect();
    if rows.iter().all(|row| row.iter().all(|value| value.widen().is_finite())) {
        for (dim, &block) in blocks.iter().enumerate() {
            let magnitudes = || rows.iter().map(|row| row[dim].widen().abs());
            let largest = magnitudes().fold(0.0, f64::max);
            assert_eq!(Some(block), magnitudes().position(|magnitude| magnitude == largest).map(|row| row / ROWS), "dim {dim}");
        }
    }
    blocks
}

/// The sums of the dims, and the figures of the rows, that one kind of pass gives.
fn pass_over<E: Element>(
    kernels: &Kernels<E>,
    rows: &[&[E]],
    pass: impl FnOnce(&[&[E]], &mut [DimSums<E>], &mut [RowFigures]),
) -> (Vec<DimSums<E>>, Vec<RowFigures>) {
    let mut sums = vec![DimSums::default(); DimSums::<E>::n_groups(rows[0].len())];
    let mut figures = vec![RowFigures::default(); rows.len()];
    kernels.begin(rows, &mut sums);
    pass(rows, &mut sums, &mut figures);
    (sums, figures)
}

/// Sets the seven lists to the moments of the rows.
fn moments<E: Element>(kernels: &Kernels<E>, rows: &[&[E]], lists: &mut [Vec<f64>]) {
    let (sums, _) = pass_over(kernels, rows, |rows, sums, figures| kernels.row_sums(rows, sums, figures));
    kernels.moments_of(rows.len(), &sums, &mut borrow(lists));
}

fn borrow(lists: &mut [Vec<f64>]) -> MomentRows<'_> {
    let [mean, m2, m3, m4, min, max, mean_lo] = lists else { panic!("seven lists") };
    MomentRows { mean, mean_lo, m2, m3, m4, min, max }
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
    for n_dims in (1..70).chain([127, 576, 1101]) {
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
        moments(&Kernels::at(Level::Scalar).unwrap(), &rows, &mut lists);
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
fn all_finite_float8_values_at_every_level() {
    fn check<E: Element>(values: impl Iterator<Item = E>) {
        let finite: Vec<E> = values.filter(|value| value.key() < E::INFINITY_KEY).collect();
        every_level_equals_scalar(&finite, finite.len() / 3);
    }
    check((0..=u8::MAX).map(F8E4M3));
    check((0..=u8::MAX).map(F8E5M2));
}

#[test]
fn the_pivot_is_never_far_off() {
    // All the sampled rows are the extreme ones: the worst case for a pivot made of a few rows.
    let values: Vec<f64> = (0..64).map(|row| if row % super::rows::PIVOT_STEP == 0 { 1e6 } else { row as f64 * 1e-3 }).collect();
    let rows: Vec<&[f64]> = values.chunks_exact(1).collect();
    let mut lists = vec![vec![0.0; 1]; 7];
    moments(&Kernels::at(Level::Scalar).unwrap(), &rows, &mut lists);
    let mean = values.iter().sum::<f64>() / 64.0;
    let exact: f64 = values.iter().map(|x| (x - mean).powi(4)).sum();
    assert!((lists[3][0] / exact - 1.0).abs() < 1e-12);
}

#[test]
fn columns_give_the_sketch_of_their_rows_wherever_they_lie() {
    fn check<E: Element>(n_rows: usize, n_columns: usize, first_column: usize, shift: usize) {
        // Sums of whole numbers are exact in whatever order.
        let mut values = vec![E::narrow(0.0); shift + n_rows * n_columns];
        for (index, value) in values[shift..].iter_mut().enumerate() {
            *value = E::narrow(((index * 7 + index / 5) % 15) as f64 - 7.0);
        }
        let columns: Vec<&[E]> = values[shift..].chunks_exact(n_rows).collect();
        for kernels in Level::ALL.into_iter().filter_map(Kernels::at) {
            let (mut by_columns, mut by_rows) = (Box::<SketchTable>::default(), Box::<SketchTable>::default());
            kernels.sketch_columns(&columns, first_column, &mut by_columns);
            for row in 0..n_rows {
                let entries: Vec<E> = columns.iter().map(|column| column[row]).collect();
                let in_sketch = SketchRow::new(row);
                kernels.sketch(&entries, in_sketch, in_sketch.place(first_column), &mut by_rows);
            }
            assert!(by_columns.0 == by_rows.0, "{} at {}: {n_rows} x {n_columns}, {shift}", E::DTYPE, kernels.level());
        }
    }
    for n_rows in [1, 15, 16, 17, 31, 33, 100] {
        for n_columns in [1, 15, 16, 17, 63, SKETCH_COLUMNS] {
            for (first_column, shift) in [(0, 0), (64, 1), (29, 5), (192, 15)] {
                check::<f32>(n_rows, n_columns, first_column, shift);
                check::<F16>(n_rows, n_columns, first_column, shift);
                check::<Bf16>(n_rows, n_columns, first_column, shift);
                check::<f64>(n_rows, n_columns, first_column, shift);
                check::<F8E4M3>(n_rows, n_columns, first_column, shift);
            }
        }
    }
}

#[test]
fn a_slot_has_one_code() {
    for code in 0..=u16::MAX {
        assert_eq!(slot::<F16>(slot::<F16>(code)), code);
        assert_eq!(slot::<f32>(slot::<f32>(code)), code);
    }
}

#[test]
fn small_integers_have_slots_of_different_lower_bits() {
    fn distinct<E: Element>() -> usize {
        let lower = (-8..=8).map(|integer| slot::<E>(E::narrow(integer.into()).code()) & 0xff);
        lower.collect::<BTreeSet<_>>().len()
    }
    assert_eq!([distinct::<F16>(), distinct::<F8E4M3>()], [17; 2]);
}

#[test]
fn an_unknown_level_is_named() {
    let error = Level::by_name("sse9").unwrap_err().to_string();
    assert!(error.contains("sse9") && error.contains("scalar"), "{error}");
    assert_eq!(Level::by_name("scalar").unwrap(), Level::Scalar);
}
