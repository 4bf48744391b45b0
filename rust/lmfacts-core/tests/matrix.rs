//! Measuring a matrix, against plain sums.

use lmfacts_core::dtype::Bf16;
use lmfacts_core::kernels::SKETCH_BUCKETS;
use lmfacts_core::matrix::{MatrixState, Orientation, measure_matrix};
use lmfacts_core::{BufferView, Element, Pool};
use proptest::prelude::*;

fn measure<E: Element>(values: &[E], shape: &[usize], n_threads: usize) -> MatrixState {
    let view = BufferView::from_slice(values, shape).unwrap();
    measure_matrix(&view, shape[..shape.len() - 1].iter().product(), Orientation::Rows, 8, &Pool::new(n_threads).unwrap())
        .unwrap()
}

fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let squares: Vec<f64> = values.map(|value| value * value).collect();
    (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
}

/// Values over several magnitudes; a column of zeros, and a row of them, where there is room.
fn matrix(n_rows: usize, n_columns: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    (0..n_rows * n_columns)
        .map(|index| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
            let (row, column) = (index / n_columns, index % n_columns);
            if (n_columns > 2 && column == 2) || (n_rows > 3 && row == 3) {
                return 0.0;
            }
            f64::from((unit * 2f64.powi((column % 5) as i32 - (row % 3) as i32)) as f32)
        })
        .collect()
}

proptest! {
    #[test]
    fn scaled_values_are_those_divided_by_columns_then_rows(n_rows in 1usize..80, n_columns in 1usize..70, seed in any::<u64>()) {
        let values = matrix(n_rows, n_columns, seed);
        let column_rms: Vec<f64> = (0..n_columns).map(|j| rms((0..n_rows).map(|i| values[i * n_columns + j]))).collect();
        let mut scaled = Vec::new();
        for row in values.chunks_exact(n_columns) {
            let divided: Vec<f64> = row.iter().zip(&column_rms).filter(|&(_, &c)| c > 0.0).map(|(x, c)| x / c).collect();
            let row_rms = rms(divided.iter().copied());
            if row_rms > 0.0 {
                scaled.extend(divided.iter().map(|x| x / row_rms));
            }
        }
        let narrow: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        let [state, from_f32] = [measure(&values, &[n_rows, n_columns], 1), measure(&narrow, &[n_rows, n_columns], 1)];
        prop_assert_eq!(&from_f32.row_rms, &state.row_rms);
        for (row, found) in values.chunks_exact(n_columns).zip(&state.row_rms) {
            prop_assert!((rms(row.iter().copied()) - found).abs() <= 1e-13 * found);
        }
        let n = scaled.len() as f64;
        let mean = scaled.iter().sum::<f64>() / n;
        for state in [state, from_f32] {
            let moments = state.scaled_moments;
            prop_assert_eq!(moments.n, scaled.len() as u64);
            prop_assert_eq!(state.scaled_counts.iter().sum::<u64>(), scaled.len() as u64);
            if scaled.is_empty() {
                return Ok(());
            }
            prop_assert!((moments.mean - mean).abs() < 1e-6);
            for (power, found) in [(2, moments.m2), (3, moments.m3), (4, moments.m4)] {
                let exact: f64 = scaled.iter().map(|x| (x - mean).powi(power)).sum();
                let size: f64 = scaled.iter().map(|x| (x - mean).abs().powi(power)).sum();
                // Powers of numbers about 1 are summed about zero in f32, so that even those of equal numbers are off by its rounding.
                prop_assert!((exact - found).abs() <= 1e-5 * size + 1e-6 * n, "power {}: {} and {}", power, exact, found);
            }
            let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!((moments.max - largest).abs() <= 1e-6 * largest.abs());
        }
    }
}

#[test]
fn threads_and_strides_change_no_bit() {
    let values: Vec<Bf16> = matrix(700, 96, 5).into_iter().map(Bf16::narrow).collect();
    let expected = measure(&values, &[700, 96], 1);
    for n_threads in [2, 5] {
        assert_eq!(measure(&values, &[700, 96], n_threads), expected);
    }
    assert_eq!(measure(&values, &[7, 100, 96], 3), expected);
    let mut moved = values.clone();
    for row in 0..700 {
        for column in 0..96 {
            moved[column * 700 + row] = values[row * 96 + column];
        }
    }
    let view = BufferView::from_slice(&moved, &[96, 700]).unwrap().permuted(&[1, 0]);
    assert_eq!(measure_matrix(&view, 700, Orientation::Rows, 8, &Pool::new(2).unwrap()).unwrap(), expected);
}

#[test]
fn a_nan_takes_its_row_and_column_out_of_the_scaled_values_only() {
    let mut values = vec![1f32; 12];
    values[5] = f32::NAN;
    let state = measure(&values, &[3, 4], 1);
    assert_eq!(state.scaled_moments.n, 6);
    assert_eq!(state.values.populations[1].arrays.table::<u64, 2>("dim_counts", [2, 4]).unwrap()[..4], [0, 1, 0, 0]);
    assert!(state.row_rms[1].is_nan() && state.row_rms[0] == 1.0);
}

#[test]
fn columns_too_small_for_an_inverse_in_f32_are_scaled_too() {
    let tiny = f32::from_bits(3);
    let values: Vec<f32> =
        (0..64).map(|index| if index % 2 == 0 { tiny } else { 2.0 } * if index % 3 == 0 { -1.0 } else { 1.0 }).collect();
    let state = measure(&values, &[32, 2], 1);
    assert_eq!(state.scaled_moments.n, 64);
    assert!((state.scaled_moments.max - 1.0).abs() < 1e-6 && (state.scaled_moments.min + 1.0).abs() < 1e-6);
}

#[test]
fn scaled_values_of_nearly_one_size_keep_their_spread() {
    let state = measure(&[8f32, 9.0, 10.0, 11.0], &[2, 2], 1);
    let moments = state.scaled_moments;
    assert!((moments.m2 / 1.317_526_840_022e-4 - 1.0).abs() < 1e-4 && (moments.m4 / 5.034_431_108e-9 - 1.0).abs() < 1e-3);
    let rank_one: Vec<f32> = (0..35 * 53).map(|index| ((index / 53 + 1) * (index % 53 + 2)) as f32 / 7.0).collect();
    let moments = measure(&rank_one, &[35, 53], 2).scaled_moments;
    // Scales, quotients and products are each rounded to f32.
    let most = 2.0 * f64::from(f32::EPSILON);
    assert!((moments.mean - 1.0).abs() < most && moments.max - moments.min < 2.0 * most);
    assert!((0.0..=1855.0 * most.powi(2)).contains(&moments.m2) && (0.0..=1855.0 * most.powi(4)).contains(&moments.m4));
}

fn distance(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn a_sketch_is_the_sum_of_those_of_the_entries() {
    let (n_rows, n_columns) = (3, 70);
    let values: Vec<f64> = (0..n_rows * n_columns).map(|index| (index as f64 * 0.7).sin()).collect();
    let mut expected = vec![0.0; SKETCH_BUCKETS];
    let mut used = std::collections::BTreeSet::new();
    for (index, value) in values.iter().enumerate() {
        let mut single = vec![0f64; values.len()];
        single[index] = 1.0;
        let sketch = measure(&single, &[n_rows, n_columns], 1).sketch;
        let filled: Vec<_> = (0..SKETCH_BUCKETS).filter(|&bucket| sketch[bucket] != 0.0).collect();
        let [bucket] = filled[..] else { panic!("{} buckets of one entry", filled.len()) };
        assert!(sketch[bucket].abs() == 1.0);
        expected[bucket] += sketch[bucket] * value;
        used.insert(bucket);
    }
    assert!(used.len() > 190, "210 entries in {} buckets", used.len());
    let sketch = measure(&values, &[n_rows, n_columns], 2).sketch;
    assert!(distance(&sketch, &expected) < 1e-13);
}

#[test]
fn a_sketch_is_of_the_matrix_and_not_of_how_it_is_stored() {
    for (n_rows, n_columns) in [(1, 1), (5, 3), (33, 150), (70, 16), (129, 257), (300, 40)] {
        let values: Vec<Bf16> = matrix(n_rows, n_columns, 9).into_iter().map(Bf16::narrow).collect();
        let moved: Vec<f32> =
            (0..values.len()).map(|index| values[index % n_rows * n_columns + index / n_rows].widen() as f32).collect();
        let expected = measure(&values, &[n_rows, n_columns], 1).sketch;
        let norm = distance(&expected, &vec![0.0; SKETCH_BUCKETS]);
        let pool = Pool::new(2).unwrap();
        let view = BufferView::from_slice(&moved, &[n_columns, n_rows]).unwrap();
        let transposed = measure_matrix(&view, n_columns, Orientation::Columns, 8, &pool).unwrap().sketch;
        assert!(distance(&transposed, &expected) <= 1e-14 * norm, "{n_rows} x {n_columns}");
        let view = BufferView::from_slice(&values, &[n_rows, n_columns]).unwrap().permuted(&[1, 0]);
        let gathered = measure_matrix(&view, n_columns, Orientation::Columns, 8, &pool).unwrap().sketch;
        assert!(distance(&gathered, &expected) <= 1e-14 * norm, "{n_rows} x {n_columns}, gathered");
        assert!(
            norm > 0.0
                && (n_rows == n_columns || distance(&measure(&moved, &[n_columns, n_rows], 1).sketch, &expected) > 0.1 * norm)
        );
    }
}

#[test]
fn a_sketch_leaves_out_what_is_not_finite() {
    let mut values: Vec<f32> = matrix(20, 90, 3).into_iter().map(|value| value as f32).collect();
    let mut without = values.clone();
    for (place, value) in [(0, f32::NAN), (700, f32::INFINITY), (701, f32::NEG_INFINITY), (1799, f32::NAN)] {
        (values[place], without[place]) = (value, 0.0);
    }
    let expected = measure(&without, &[20, 90], 1).sketch;
    assert_eq!(measure(&values, &[20, 90], 1).sketch, expected);
    let view = BufferView::from_slice(&values, &[20, 90]).unwrap();
    let transposed = |values: &[f32]| {
        let view = BufferView::from_slice(values, &[20, 90]).unwrap();
        measure_matrix(&view, 20, Orientation::Columns, 8, &Pool::new(1).unwrap()).unwrap().sketch
    };
    assert_eq!(transposed(&values), transposed(&without));
    assert_eq!(measure_matrix(&view, 20, Orientation::Rows, 8, &Pool::new(3).unwrap()).unwrap().sketch, expected);
}
