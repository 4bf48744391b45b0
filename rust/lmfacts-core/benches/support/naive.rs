//! Plain loops that say what the answers are.

use lmfacts_core::SiteState;

use super::data::Sample;

/// How often each code occurs.
pub fn codes<S: Sample>(values: &[S]) -> Vec<u32> {
    let mut counts = vec![0; 1 << 16];
    for value in values {
        counts[usize::from(value.code_by_definition())] += 1;
    }
    counts
}

/// How often a state says that each code occurs, in all tokens.
///
/// # Panics
/// If it says nothing of it.
pub fn counted_codes(state: &SiteState) -> Vec<u32> {
    let mut counted = vec![0; 1 << 16];
    for population in &state.populations {
        let codes = population.arrays.list::<u16>("codes").expect("codes");
        let counts = population.arrays.list::<u64>("counts").expect("their counts");
        for (&code, &count) in codes.iter().zip(counts) {
            counted[usize::from(code)] += count as u32;
        }
    }
    counted
}

/// Mean and second to fourth central moment sums of each dim, in two passes.
pub fn dim_moments<S: Sample>(rows: &[&[S]]) -> [Vec<f64>; 4] {
    let n_dims = rows[0].len();
    let mut found = [const { Vec::new() }; 4];
    for dim in 0..n_dims {
        let column = || rows.iter().map(|row| row[dim].value());
        let mean = column().sum::<f64>() / rows.len() as f64;
        found[0].push(mean);
        for (power, sums) in (2..).zip(&mut found[1..]) {
            sums.push(column().map(|value| (value - mean).powi(power)).sum());
        }
    }
    found
}

/// Asserts that two lists of numbers agree to `tolerance`, relative to `scale`.
///
/// # Panics
/// If they do not.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], scale: f64, tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale.max(b.abs()), "{what}, value {index}: {a}, expected {b}");
    }
}
