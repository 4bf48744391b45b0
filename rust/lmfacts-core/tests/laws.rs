//! The laws of accumulators, on random data of every dtype: any cut, order, number of threads and merge gives the whole.

use std::collections::BTreeMap;

use lmfacts_core::device::{N_BINS, N_BLOCKS, N_MAXIMA};
use lmfacts_core::dtype::{Bf16, F8E4M3, F8E5M2, F16};
use lmfacts_core::kernels::Kernels;
use lmfacts_core::state::{Arrays, NamedArray, PopulationState, Values};
use lmfacts_core::{
    BufferView, Dtype, Element, Error, Level, Pool, SiteAccumulator, SiteConfig, SiteState, Statistics, TokenBatch,
};
use proptest::prelude::*;

/// Rows of values with the place of each token.
#[derive(Debug, Clone)]
struct Data {
    n_dims: usize,
    values: Vec<f64>,
    places: Vec<(i64, i64, bool)>,
}

impl Data {
    fn part(&self, rows: std::ops::Range<usize>) -> Self {
        Self {
            n_dims: self.n_dims,
            values: self.values[rows.start * self.n_dims..rows.end * self.n_dims].to_vec(),
            places: self.places[rows].to_vec(),
        }
    }

    fn n_rows(&self) -> usize {
        self.places.len()
    }

    fn tokens(&self) -> TokenBatch {
        let pick = |f: fn(&(i64, i64, bool)) -> i64| self.places.iter().map(f).collect::<Vec<_>>();
        TokenBatch::new(
            pick(|place| place.0),
            pick(|place| place.1),
            pick(|place| place.0 * 100 + place.1),
            &self.places.iter().map(|place| place.2).collect::<Vec<_>>(),
        )
        .unwrap()
    }
}

const CONFIG: SiteConfig = SiteConfig { k: 5, threshold: 2.0, statistics: Statistics::ALL };

fn update<E: Element>(site: &mut SiteAccumulator, data: &Data, pool: &Pool) {
    let values: Vec<E> = data.values.iter().map(|&value| E::narrow(value)).collect();
    let view = BufferView::from_slice(&values, &[data.n_rows(), data.n_dims]).unwrap();
    site.update(&view, &data.tokens(), pool).unwrap();
}

/// Values of two bits, or three where the first two are one.
fn coarse(data: &Data) -> Data {
    let mut coarse = data.clone();
    for value in coarse.values.iter_mut().filter(|value| value.is_finite()) {
        *value = (*value * 4.0).round().clamp(-4.0, 4.0) / 4.0;
    }
    coarse
}

fn update_as(dtype: Dtype, site: &mut SiteAccumulator, data: &Data, pool: &Pool) {
    match dtype {
        Dtype::F64 => update::<f64>(site, data, pool),
        Dtype::F32 => update::<f32>(site, data, pool),
        Dtype::Bf16 => update::<Bf16>(site, data, pool),
        Dtype::F16 => update::<F16>(site, data, pool),
        // A multiple of a quarter of a power of two below 448, so that narrowing is exact.
        Dtype::F8E4M3 => update::<F8E4M3>(site, &coarse(data), pool),
        Dtype::F8E5M2 => update::<F8E5M2>(site, &coarse(data), pool),
    }
}

fn whole(dtype: Dtype, data: &Data, pool: &Pool) -> SiteAccumulator {
    let mut site = SiteAccumulator::new(CONFIG).unwrap();
    update_as(dtype, &mut site, data, pool);
    site
}

/// Values of many magnitudes with outlier dims, ties, zeros of both signs and a few that are not finite.
fn data(max_rows: usize, max_dims: usize) -> impl Strategy<Value = Data> {
    (1..max_rows, 1..max_dims, any::<u64>(), any::<bool>()).prop_map(|(n_rows, n_dims, seed, with_nonfinite)| {
        let mut state = seed;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let values = (0..n_rows * n_dims)
            .map(|index| {
                let base = f64::from(random()) / f64::from(u32::MAX >> 1) - 1.0;
                match random() % 40 {
                    0 => 3.0,
                    1 => -3.0,
                    2 => 0.0,
                    3 => -0.0,
                    4 if with_nonfinite => f64::NAN,
                    5 if with_nonfinite => f64::INFINITY,
                    6 if with_nonfinite => f64::NEG_INFINITY,
                    7 => base * 1e-6,
                    _ if index % n_dims == 1 => 500.0 + base,
                    _ if index % n_dims == 2 => 3e4 + 1e-1 * base,
                    _ => base,
                }
            })
            .collect();
        let places = (0..n_rows).map(|row| ((row / 7) as i64, (row % 7) as i64, random() % 9 != 0)).collect();
        Data { n_dims, values, places }
    })
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

/// The arrays of float64 that are values. All others are sums, which depend in their last bits on the order of the terms.
const VALUES: [&str; 2] = ["outlier_values", "maxima_values"];

/// The sums that `assert_moments_close` holds against the magnitudes of their terms, and what rounding took from means.
const MOMENTS: [&str; 7] =
    ["moments", "mean_rests", "token_moments", "token_mean_rests", "unit_sums", "block_token_moments", "block_token_mean_rests"];

fn is_sum(array: &NamedArray) -> bool {
    matches!(array.values(), Values::F64(_)) && !VALUES.contains(&array.name())
}

fn u64s<'a>(part: &'a PopulationState, name: &str) -> &'a [u64] {
    part.arrays.list(name).unwrap()
}

/// A list of float64, or all entries of a table, row after row.
fn f64s<'a>(part: &'a PopulationState, name: &str) -> &'a [f64] {
    let found = part.arrays.iter().find(|array| array.name() == name).unwrap();
    match found.values() {
        Values::F64(list) => list,
        other => panic!("{name} is {}", other.dtype()),
    }
}

/// Rows of a table of counts.
fn dim_counts(part: &PopulationState, n_dims: usize) -> &[u64] {
    part.arrays.table("dim_counts", [2, n_dims]).unwrap()
}

/// Tokens, and what must have the same bits however the data is cut: by name, whatever statistics there are.
fn exact_part(state: &SiteState) -> Vec<(u64, Vec<NamedArray>)> {
    let of = |part: &PopulationState| {
        let exact = part.arrays.iter().filter(|array| !is_sum(array)).cloned();
        // Extremes, as bits.
        let moments = f64s(part, "moments");
        let extremes: Vec<_> = moments[moments.len() / 6 * 4..].iter().map(|value| value.to_bits()).collect();
        let extremes = NamedArray::new("min and max", vec![extremes.len()], Values::U64(extremes)).unwrap();
        (part.n_tokens, exact.chain([extremes]).collect())
    };
    state.populations.iter().map(of).collect()
}

/// Moments (mean, M2, M3, M4) agree to 1e-12 of the sum of the magnitudes of the terms that make them up.
fn assert_close(n: f64, a: [f64; 4], b: [f64; 4]) {
    let [mean, m2, _, m4] = a;
    let std = (m2 / n.max(1.0)).sqrt();
    // The sum of |x - mean|^3 is at most the geometric mean of those of the second and the fourth powers.
    let sizes = [mean.abs().max(std), m2, (m2 * m4).sqrt(), m4];
    for (power, size) in sizes.into_iter().enumerate() {
        assert!((a[power] - b[power]).abs() <= 1e-12 * size + 1e-300, "moment {power}: {a:?} and {b:?}");
    }
}

fn assert_moments_close(a: &PopulationState, b: &PopulationState) {
    let n_dims = f64s(a, "moments").len() / 6;
    for dim in 0..n_dims {
        let of = |p: &PopulationState| std::array::from_fn(|row| f64s(p, "moments")[row * n_dims + dim]);
        assert_close((a.n_tokens - dim_counts(a, n_dims)[dim]) as f64, of(a), of(b));
    }
    for (x, y) in f64s(a, "unit_sums").iter().zip(f64s(b, "unit_sums")) {
        assert!((x - y).abs() <= 1e-12 * a.n_tokens as f64);
    }
    let of = |p: &PopulationState| [f64s(p, "token_moments"), f64s(p, "block_token_moments")].concat();
    for (x, y) in of(a).chunks_exact(7).zip(of(b).chunks_exact(7)) {
        assert_eq!((x[0], x[5], x[6]), (y[0], y[5], y[6]), "n, min and max");
        assert_close(x[0], [x[1], x[2], x[3], x[4]], [y[1], y[2], y[3], y[4]]);
    }
}

fn assert_same(a: &SiteAccumulator, b: &SiteAccumulator) {
    let (a, b) = (a.state(), b.state());
    assert_eq!(exact_part(&a), exact_part(&b));
    for (x, y) in a.populations.iter().zip(&b.populations) {
        assert_moments_close(x, y);
        for array in x.arrays.iter().filter(|array| is_sum(array) && !MOMENTS.contains(&array.name())) {
            let (ours, theirs) = (f64s(x, array.name()), f64s(y, array.name()));
            let size = ours.iter().fold(0.0, |most: f64, sum| most.max(sum.abs()));
            assert_eq!(ours.len(), theirs.len());
            assert!(ours.iter().zip(theirs).all(|(x, y)| (x - y).abs() <= 1e-12 * size), "{}", array.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_in_any_order_gives_the_whole(data in data(300, 24), dtype in dtypes(), cut in 0.0f64..1.0, backwards in any::<bool>()) {
        let pool = Pool::new(1).unwrap();
        let at = (cut * data.n_rows() as f64) as usize;
        let mut parts = [data.part(0..at), data.part(at..data.n_rows())];
        if backwards {
            parts.reverse();
        }
        let mut in_calls = SiteAccumulator::new(CONFIG).unwrap();
        let mut merged = SiteAccumulator::new(CONFIG).unwrap();
        for part in parts.iter().filter(|part| part.n_rows() > 0) {
            update_as(dtype, &mut in_calls, part, &pool);
            merged.merge(&whole(dtype, part, &pool)).unwrap();
        }
        let at_once = whole(dtype, &data, &pool);
        assert_same(&in_calls, &at_once);
        assert_same(&merged, &at_once);
    }

    #[test]
    fn merging_is_associative_and_commutative(data in data(200, 12), dtype in dtypes()) {
        let pool = Pool::new(1).unwrap();
        let n = data.n_rows();
        let [a, b, c] = [0..n / 3, n / 3..n / 2, n / 2..n].map(|rows| whole(dtype, &data.part(rows.start..rows.end.max(rows.start)), &pool));
        let mut left = a.clone();
        left.merge(&b).unwrap();
        left.merge(&c).unwrap();
        let mut right = b.clone();
        right.merge(&c).unwrap();
        let mut first = a.clone();
        first.merge(&right).unwrap();
        assert_same(&left, &first);
        let mut swapped = right;
        swapped.merge(&a).unwrap();
        assert_same(&left, &swapped);
    }

    #[test]
    fn the_empty_accumulator_is_the_identity_and_a_state_restores_all_bits(data in data(100, 12), dtype in dtypes()) {
        let site = whole(dtype, &data, &Pool::new(1).unwrap());
        let mut left = SiteAccumulator::new(CONFIG).unwrap();
        left.merge(&site).unwrap();
        let mut right = site.clone();
        right.merge(&SiteAccumulator::new(CONFIG).unwrap()).unwrap();
        let state = site.state();
        prop_assert_eq!(&left.state(), &state);
        prop_assert_eq!(&right.state(), &state);
        prop_assert_eq!(&SiteAccumulator::from_state(&state).unwrap().state(), &state);
    }

    #[test]
    fn nonfinite_values_change_no_finite_moment(data in data(100, 12)) {
        let pool = Pool::new(1).unwrap();
        let site = whole(Dtype::F32, &data, &pool);
        let state = site.state();
        for (index, population) in state.populations.iter().enumerate() {
            for dim in 0..data.n_dims {
                let column: Vec<f64> = (0..data.n_rows())
                    .filter(|&row| data.places[row].2 && (data.places[row].1 != 0) == (index == 1))
                    .map(|row| f64::from(data.values[row * data.n_dims + dim] as f32))
                    .collect();
                let finite: Vec<f64> = column.iter().copied().filter(|value| value.is_finite()).collect();
                prop_assert_eq!(dim_counts(population, data.n_dims)[dim], (column.len() - finite.len()) as u64);
                let reached = column.iter().filter(|value| value.abs() >= CONFIG.threshold).count() as u64;
                prop_assert_eq!(dim_counts(population, data.n_dims)[data.n_dims + dim], reached);
                if !finite.is_empty() {
                    let n = finite.len() as f64;
                    let mean = finite.iter().sum::<f64>() / n;
                    let m2: f64 = finite.iter().map(|value| (value - mean).powi(2)).sum();
                    prop_assert!((f64s(population, "moments")[dim] - mean).abs() <= 1e-12 * mean.abs().max(1.0));
                    prop_assert!((f64s(population, "moments")[data.n_dims + dim] - m2).abs() <= 1e-10 * m2.max(1e-20));
                }
            }
        }
    }
}

#[test]
fn blocks_are_those_of_the_sequences() {
    let data = large(2_000, 9);
    let state = whole(Dtype::F32, &data, &Pool::new(2).unwrap()).state();
    let rest = &state.populations[1];
    let mut start = 0;
    for block in 0..N_BLOCKS {
        let rows: Vec<usize> = (0..data.n_rows())
            .filter(|&row| data.places[row].2 && data.places[row].1 > 0 && data.places[row].0 % N_BLOCKS as i64 == block as i64)
            .collect();
        assert_eq!(u64s(rest, "block_tokens")[block], rows.len() as u64);
        let mut counts = std::collections::BTreeMap::<u16, u64>::new();
        for value in rows.iter().flat_map(|&row| &data.values[row * 9..row * 9 + 9]) {
            *counts.entry((*value as f32).code()).or_default() += 1;
        }
        let range = start..start + u64s(rest, "block_lengths")[block] as usize;
        let codes = rest.arrays.list::<u16>("block_codes").unwrap();
        let found: Vec<_> =
            codes[range.clone()].iter().copied().zip(u64s(rest, "block_counts")[range.clone()].iter().copied()).collect();
        assert_eq!(found, counts.into_iter().collect::<Vec<_>>());
        start = range.end;
        let norms = rows
            .iter()
            .map(|&row| data.values[row * 9..row * 9 + 9].iter().map(|x| f64::from(*x as f32).powi(2)).sum::<f64>().sqrt());
        let mean = norms.sum::<f64>() / rows.len() as f64;
        assert!((f64s(rest, "block_token_moments")[block * 21 + 1] / mean - 1.0).abs() < 1e-12);
    }
}

#[test]
fn maxima_are_those_of_the_first_sequences_and_dims_are_counted_apart() {
    let mut data = large(4_000, 5);
    data.values[7 * 50 * 5 + 20 * 5 + 2] = -900.0; // sequence 7, position 20, dim 2
    data.values[7 * 50 * 5 + 21 * 5 + 2] = f64::NAN;
    data.places[7 * 50 + 20].2 = true;
    let state = whole(Dtype::F64, &data, &Pool::new(3).unwrap()).state();
    for (population, rest) in state.populations.iter().zip([false, true]) {
        let places = population.arrays.rows::<i64, 4>("maxima_index").unwrap();
        assert!(places.len() <= N_MAXIMA);
        for (value, place) in f64s(population, "maxima_values").iter().zip(places) {
            assert!(place[0] < N_MAXIMA as i64);
            let of_sequence = (0..data.n_rows()).filter(|&row| data.places[row].0 == place[0] && data.places[row].2);
            let values =
                of_sequence.filter(|&row| (data.places[row].1 > 0) == rest).flat_map(|row| &data.values[row * 5..row * 5 + 5]);
            assert_eq!(value.abs(), values.copied().filter(|x| x.is_finite()).map(f64::abs).fold(0.0, f64::max));
        }
    }
    let rest = &state.populations[1];
    let places = rest.arrays.rows::<i64, 4>("maxima_index").unwrap();
    assert_eq!((f64s(rest, "maxima_values")[7], places[7]), (-900.0, [7, 20, 2, 720]));
    for dim in 0..5 {
        let of_dim = rest
            .arrays
            .list::<u32>("dim_bins")
            .unwrap()
            .iter()
            .zip(u64s(rest, "dim_bin_counts"))
            .filter(|&(&bin, _)| bin as usize / N_BINS == dim);
        assert_eq!(of_dim.map(|(_, &count)| count).sum::<u64>(), rest.n_tokens - dim_counts(rest, 5)[dim]);
    }
}

/// Enough values for several turns of several threads.
fn large(n_rows: usize, n_dims: usize) -> Data {
    let values =
        (0..n_rows * n_dims).map(|i| ((i as f64 * 0.754_877_666).fract() - 0.5) * if i % n_dims == 3 { 400.0 } else { 1.0 });
    let places = (0..n_rows).map(|row| ((row / 50) as i64, (row % 50) as i64, row % 11 != 5));
    Data { n_dims, values: values.collect(), places: places.collect() }
}

#[test]
fn the_number_of_threads_and_the_level_change_no_bit() {
    let data = large(20_000, 33);
    for dtype in Dtype::ALL {
        let expected = whole(dtype, &data, &Pool::new(1).unwrap()).state();
        for n_threads in [2, 3, 7] {
            assert_eq!(whole(dtype, &data, &Pool::new(n_threads).unwrap()).state(), expected, "{dtype}, {n_threads} threads");
        }
        for level in Level::ALL.into_iter().filter(|&level| Kernels::<f32>::at(level).is_some()) {
            let mut site = SiteAccumulator::at_level(CONFIG, level).unwrap();
            update_as(dtype, &mut site, &data, &Pool::new(2).unwrap());
            assert_eq!(site.state(), expected, "{dtype} at {level}");
        }
    }
}

/// Counts integers, and now and then a value that is none, and compares with a plain loop.
fn check_few_different_values<E: Element>(odd: E) {
    let (n_rows, n_dims) = (2048, 96);
    let value = |index: usize| if index % 1009 == 500 { odd } else { E::narrow((index * index % 17) as f64 - 8.0) };
    let values: Vec<E> = (0..n_rows * n_dims).map(value).collect();
    let view = BufferView::from_slice(&values, &[n_rows, n_dims]).unwrap();
    let rows = 0..n_rows as i64;
    let (sequences, positions) = rows.clone().map(|row| (row / 4, row % 4)).unzip();
    let tokens = TokenBatch::new(sequences, positions, rows.collect(), &vec![true; n_rows]).unwrap();
    let mut expected = [BTreeMap::new(), BTreeMap::new()];
    for (row, values) in values.chunks(n_dims).enumerate() {
        for value in values {
            *expected[usize::from(row % 4 > 0)].entry(value.code_of_any()).or_insert(0) += 1;
        }
    }
    for n_threads in [1, 2] {
        let mut site = SiteAccumulator::new(SiteConfig::default()).unwrap();
        site.update(&view, &tokens, &Pool::new(n_threads).unwrap()).unwrap();
        let found: [BTreeMap<u16, u64>; 2] =
            site.state().populations.each_ref().map(|part| {
                part.arrays.list("codes").unwrap().iter().copied().zip(u64s(part, "counts").iter().copied()).collect()
            });
        assert_eq!(found, expected, "{} on {n_threads} threads", E::DTYPE);
    }
}

#[test]
fn few_different_values_have_the_codes_that_each_has() {
    check_few_different_values(f64::NAN);
    // The code that the bits of these two give is that of infinity.
    check_few_different_values(f32::from_bits(0x7f80_0001));
    check_few_different_values(f32::from_bits(0xff80_0001));
    check_few_different_values(Bf16(0x7f81));
    check_few_different_values(F16(0xfe00));
    check_few_different_values(F8E4M3(0x7f));
    check_few_different_values(F8E5M2(0x7e));
}

#[test]
fn strides_change_no_bit() {
    let data = large(400, 24);
    let values: Vec<f32> = data.values.iter().map(|&value| value as f32).collect();
    let pool = Pool::new(1).unwrap();
    let expected = whole(Dtype::F32, &data, &pool).state();
    // The same logical tensor, laid out as dims x tokens and as heads x tokens x dims of a head.
    for n_heads in [24, 4] {
        let head = 24 / n_heads;
        let mut moved = vec![0.0; values.len()];
        for row in 0..400 {
            for dim in 0..24 {
                moved[(dim / head) * 400 * head + row * head + dim % head] = values[row * 24 + dim];
            }
        }
        let view = BufferView::from_slice(&moved, &[n_heads, 400, head]).unwrap().permuted(&[1, 0, 2]);
        let mut site = SiteAccumulator::new(CONFIG).unwrap();
        site.update(&view, &data.tokens(), &pool).unwrap();
        assert_eq!(site.state(), expected);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let data = large(10, 4);
    let pool = Pool::new(1).unwrap();
    let mut site = whole(Dtype::F32, &data, &pool);
    let before = site.state();
    let wide = vec![0f32; 50];
    let five = BufferView::from_slice(&wide, &[10, 5]).unwrap();
    assert!(matches!(site.update(&five, &data.tokens(), &pool), Err(Error::Layout { .. })));
    let other = vec![0f64; 40];
    let double = BufferView::from_slice(&other, &[10, 4]).unwrap();
    assert!(matches!(site.update(&double, &data.tokens(), &pool), Err(Error::Dtype { .. })));
    assert!(matches!(site.merge(&whole(Dtype::F64, &data, &pool)), Err(Error::Merge { what: "dtype", .. })));
    let fewer = SiteAccumulator::new(SiteConfig { k: 4, ..CONFIG }).unwrap();
    assert!(matches!(site.merge(&fewer), Err(Error::Merge { what: "k", .. })));
    assert_eq!(site.state(), before);
    assert!(SiteAccumulator::new(SiteConfig { threshold: f64::NAN, ..CONFIG }).is_err());
}

/// A state with another array in the place of one of those of the rest, or with none.
fn replaced(state: &SiteState, name: &str, replace: impl Fn(&NamedArray) -> Option<NamedArray>) -> SiteState {
    let mut changed = state.clone();
    let mut arrays = Arrays::default();
    for array in state.populations[1].arrays.iter() {
        if let Some(array) = if array.name() == name { replace(array) } else { Some(array.clone()) } {
            arrays.push(array);
        }
    }
    changed.populations[1].arrays = arrays;
    changed
}

fn assert_refused(state: &SiteState, what: &str) {
    assert!(matches!(SiteAccumulator::from_state(state), Err(Error::State { .. })), "{what}");
}

#[test]
fn a_state_without_an_array_or_with_one_of_another_shape_or_type_is_refused() {
    let state = whole(Dtype::F32, &large(10, 4), &Pool::new(1).unwrap()).state();
    for name in state.populations[1].arrays.iter().map(NamedArray::name) {
        assert_refused(&replaced(&state, name, |_| None), name);
        let deeper =
            |array: &NamedArray| NamedArray::new(name.to_owned(), [array.shape(), &[1]].concat(), array.values().clone());
        assert_refused(&replaced(&state, name, |array| deeper(array).ok()), name);
        let retyped = |array: &NamedArray| match array.values() {
            Values::U64(list) => Values::I64(list.iter().map(|&number| number as i64).collect()),
            other => Values::U64(vec![0; other.len()]),
        };
        let other = |array: &NamedArray| NamedArray::new(name.to_owned(), array.shape().to_vec(), retyped(array));
        assert_refused(&replaced(&state, name, |array| other(array).ok()), name);
    }
}

#[test]
fn a_damaged_state_is_refused() {
    type Spoil = fn(&mut Values);
    let state = whole(Dtype::F32, &large(10, 4), &Pool::new(1).unwrap()).state();
    let mut more = state.clone();
    more.populations[1].n_tokens += 1;
    assert_refused(&more, "n_tokens");
    let damage: [(&str, Spoil); 6] = [
        ("codes", |values| with(values, |list: &mut Vec<u16>| list.reverse())),
        ("maxima_index", |values| with(values, |list: &mut Vec<i64>| list[0] = 64)),
        ("block_counts", |values| with(values, |list: &mut Vec<u64>| list[0] += 1)),
        ("block_lengths", |values| with(values, |list: &mut Vec<u64>| list[0] += 1)),
        ("dim_bins", |values| with(values, |list: &mut Vec<u32>| list.reverse())),
        ("dim_counts", |values| with(values, |list: &mut Vec<u64>| list[0] = 1 << 40)),
    ];
    for (name, spoil) in damage {
        let spoiled = |array: &NamedArray| {
            let mut values = array.values().clone();
            spoil(&mut values);
            NamedArray::new(name, array.shape().to_vec(), values).ok()
        };
        assert_refused(&replaced(&state, name, spoiled), name);
    }
}

/// Changes a list of numbers in place.
fn with<T: lmfacts_core::state::Number>(values: &mut Values, change: impl Fn(&mut Vec<T>)) {
    let mut list = T::unwrap(values).unwrap().to_vec();
    change(&mut list);
    *values = T::wrap(list);
}

#[test]
fn statistics_are_known_by_their_names() {
    let names: Vec<_> = Statistics::ALL.names().collect();
    assert_eq!(names.len(), Statistics::LIST.len());
    assert_eq!(Statistics::from_names(names.iter().copied()), Ok(Statistics::ALL));
    assert_eq!(Statistics::from_names([]), Ok(Statistics::NONE));
    let unknown = Statistics::from_names(["unit_sums", "sums"]).unwrap_err().to_string();
    assert!(unknown.starts_with("statistics: expected") && unknown.ends_with("got sums"), "{unknown}");
}

#[test]
fn a_site_keeps_the_arrays_of_its_statistics_alone() {
    let (data, pool) = (large(10, 4), Pool::new(1).unwrap());
    let arrays_of = |statistics| {
        let mut site = SiteAccumulator::new(SiteConfig { statistics, ..CONFIG }).unwrap();
        update::<f32>(&mut site, &data, &pool);
        site.state().populations[1].arrays.iter().map(|array| array.name().to_owned()).collect::<Vec<_>>()
    };
    let always = arrays_of(Statistics::NONE);
    assert_eq!(always, ["codes", "counts", "moments", "mean_rests", "dim_counts"]);
    let mut all = always.len();
    for (name, one) in Statistics::LIST {
        let with_it = arrays_of(*one).len();
        assert!(with_it > always.len(), "{name} has arrays");
        all += with_it - always.len();
    }
    assert_eq!(arrays_of(Statistics::ALL).len(), all);
}
