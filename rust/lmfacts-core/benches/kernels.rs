//! Speed of the kernels at every level that this processor has.
//!
//!     cargo bench --package lmfacts-core --bench kernels [-- REGEX]
//!
//! An id is `kernel/dtype/distribution/level/place`. Values `in memory` (64 MiB) are each time followed by a pure read of the same
//! buffer, and the table at the end shows what share of that speed a kernel has; values `in L2` (256 KiB) are read again and again, as
//! a hook finds them. Only the speed of what counts codes depends on the values, so the others are timed on one distribution, unless
//! `LMFACTS_BENCH_FULL` is set. Before a kernel is timed, its answer is compared with the scalar level's and with a plain loop's.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use lmfacts_core::Level;
use lmfacts_core::dtype::{Bf16, F16};
use lmfacts_core::kernels::{CodeHistogram, CodeTable, DimSums, Kernels, MomentRows, RowFigures};
use support::data::{Distribution, Sample};
use support::paired::{IN_MEMORY, Report};
use support::{N_DIMS, full, levels, naive};

/// Bytes of a buffer that stays in a second-level cache.
const IN_L2: usize = 256 << 10;
/// Rows that kernels get at a time, as in an accumulator's update.
const CHUNK_ROWS: usize = 128;

/// What is timed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Codes,
    RowSums,
    RowPass,
    Absmax,
}

impl Kernel {
    const ALL: [Self; 4] = [Self::Codes, Self::RowSums, Self::RowPass, Self::Absmax];

    const fn name(self) -> &'static str {
        match self {
            Self::Codes => "codes",
            Self::RowSums => "row_sums",
            Self::RowPass => "row_pass",
            Self::Absmax => "absmax",
        }
    }
}

/// Where kernels put their answers, made once.
struct Scratch<S: Sample> {
    table: Box<CodeTable>,
    sums: Vec<DimSums<S>>,
    figures: Vec<RowFigures>,
    lists: [Vec<f64>; 7],
    n_at_least: Vec<u64>,
}

impl<S: Sample> Scratch<S> {
    fn new() -> Self {
        Self {
            table: CodeHistogram::zeroed_table(),
            sums: vec![DimSums::default(); DimSums::<S>::n_groups(N_DIMS)],
            figures: vec![RowFigures::default(); CHUNK_ROWS],
            lists: [const { Vec::new() }; 7].map(|_: Vec<f64>| vec![0.0; N_DIMS]),
            n_at_least: vec![0; N_DIMS],
        }
    }
}

/// What is timed: a kernel over all rows.
fn work<S: Sample>(kernel: Kernel, kernels: &Kernels<S>, values: &[S], scratch: &mut Scratch<S>) {
    let rows = values.chunks_exact(N_DIMS);
    match kernel {
        Kernel::Codes => rows.for_each(|row| kernels.codes(row, &mut scratch.table)),
        Kernel::Absmax => rows.for_each(|row| {
            black_box(kernels.absmax(row));
        }),
        Kernel::RowSums | Kernel::RowPass => {
            for chunk in values.chunks(CHUNK_ROWS * N_DIMS) {
                pass_over(kernel, kernels, chunk, scratch);
            }
        }
    }
}

/// The sums of the dims and the figures of the rows of a chunk, with or without its codes, and the moments that they give.
fn pass_over<S: Sample>(kernel: Kernel, kernels: &Kernels<S>, chunk: &[S], scratch: &mut Scratch<S>) {
    let mut rows: [&[S]; CHUNK_ROWS] = [&[]; CHUNK_ROWS];
    let n_rows = chunk.len() / N_DIMS;
    for (place, row) in rows.iter_mut().zip(chunk.chunks_exact(N_DIMS)) {
        *place = row;
    }
    let (rows, figures) = (&rows[..n_rows], &mut scratch.figures[..n_rows]);
    kernels.begin(rows, &mut scratch.sums);
    match kernel {
        Kernel::RowPass => kernels.row_pass(rows, &mut scratch.table, &mut scratch.sums, figures),
        _ => kernels.row_sums(rows, &mut scratch.sums, figures),
    }
    let [mean, mean_lo, m2, m3, m4, min, max] = &mut scratch.lists;
    kernels.moments_of(n_rows, &scratch.sums, &mut MomentRows { mean, mean_lo, m2, m3, m4, min, max });
    kernels.count_reached(rows, 6.0, &scratch.sums, &mut scratch.n_at_least);
}

/// Asserts that a level says what the scalar one says, and both what a plain loop says.
fn check<S: Sample>(kernel: Kernel, kernels: &Kernels<S>, values: &[S]) {
    let scalar = Kernels::at(Level::Scalar).expect("every processor has it");
    let rows = || values.chunks_exact(N_DIMS);
    match kernel {
        Kernel::Codes => {
            let mut scratch = Scratch::new();
            work(kernel, kernels, values, &mut scratch);
            assert!(scratch.table[..] == naive::codes(values)[..], "the codes differ from a plain loop\'s");
        }
        Kernel::Absmax => rows().for_each(|row| {
            let largest = row.iter().copied().fold(S::of(0.0), |a, b| if b.value().abs() > a.value().abs() { b } else { a });
            assert_eq!(kernels.absmax(row), scalar.absmax(row));
            assert_eq!(kernels.absmax(row), largest.key());
        }),
        Kernel::RowSums | Kernel::RowPass => {
            for chunk in values.chunks(CHUNK_ROWS * N_DIMS) {
                check_pass(kernel, (kernels, &scalar), chunk);
            }
        }
    }
}

fn check_pass<S: Sample>(kernel: Kernel, (kernels, scalar): (&Kernels<S>, &Kernels<S>), chunk: &[S]) {
    let (mut found, mut expected) = (Scratch::new(), Scratch::new());
    pass_over(kernel, kernels, chunk, &mut found);
    pass_over(kernel, scalar, chunk, &mut expected);
    let all = |scratch: &Scratch<S>| (scratch.lists.clone(), scratch.n_at_least.clone(), scratch.figures.clone());
    assert!(all(&found) == all(&expected), "sums differ from the scalar level's");
    let counted = if kernel == Kernel::RowPass { naive::codes(chunk) } else { vec![0; 1 << 16] };
    assert!(found.table[..] == counted[..], "the codes differ from a plain loop\'s");

    let rows: Vec<_> = chunk.chunks_exact(N_DIMS).collect();
    for (row, found) in rows.iter().zip(&found.figures) {
        let (sum, square) = (row.iter().map(|x| x.value()).sum(), row.iter().map(|x| x.value().powi(2)).sum());
        assert_eq!(Some(found.absmax), row.iter().map(|x| x.magnitude_bits()).max());
        naive::assert_close("sums", &[found.sum, found.square], &[sum, square], square, 1e-12);
    }
    let [mean, _, m2, m3, m4, min, max] = &found.lists;
    for (name, list, plain) in [("mean", mean, 0), ("m2", m2, 1), ("m3", m3, 2), ("m4", m4, 3)] {
        naive::assert_close(name, list, &naive::dim_moments(&rows)[plain], rows.len() as f64, 1e-9);
    }
    for dim in 0..N_DIMS {
        let column = || rows.iter().map(|row| row[dim].value());
        assert_eq!(min[dim], column().fold(f64::INFINITY, f64::min));
        assert_eq!(max[dim], column().fold(f64::NEG_INFINITY, f64::max));
    }
}

fn bench<S: Sample>(criterion: &mut Criterion, report: &mut Report) {
    for distribution in Distribution::ALL {
        let kernels_here = Kernel::ALL.into_iter().filter(|&kernel| {
            matches!(kernel, Kernel::Codes | Kernel::RowPass) || distribution == Distribution::Gaussian || full()
        });
        let in_memory = LazyCell::new(|| distribution.buffer::<S>(IN_MEMORY));
        let in_l2 = LazyCell::new(|| distribution.values::<S>(IN_L2 / size_of::<S>()));
        for kernel in kernels_here {
            for level in levels() {
                let kernels = Kernels::<S>::at(level).expect("only levels that this processor has");
                let id = |place| format!("{}/{}/{}/{place}", S::NAME, distribution.name(), level.name());
                report.in_memory(criterion, (kernel.name(), &id("memory")), &in_memory, || {
                    check(kernel, &kernels, &in_l2);
                    let (mut scratch, values) = (Scratch::new(), &in_memory);
                    move || work(kernel, &kernels, values, &mut scratch)
                });
                let mut group = criterion.benchmark_group(kernel.name());
                group
                    .throughput(Throughput::Elements((IN_L2 / size_of::<S>()) as u64))
                    .sample_size(20)
                    .sampling_mode(SamplingMode::Flat)
                    .nresamples(2000)
                    .warm_up_time(Duration::from_millis(10))
                    .measurement_time(Duration::from_millis(60))
                    .bench_function(id("L2"), |bencher| {
                        check(kernel, &kernels, &in_l2);
                        let mut scratch = Scratch::new();
                        bencher.iter(|| work(kernel, &kernels, &in_l2, &mut scratch));
                    });
                group.finish();
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    let mut report = Report::default();
    bench::<f32>(&mut criterion, &mut report);
    bench::<Bf16>(&mut criterion, &mut report);
    bench::<F16>(&mut criterion, &mut report);
    bench::<f64>(&mut criterion, &mut report);
    criterion.final_summary();
    report.finish();
}
