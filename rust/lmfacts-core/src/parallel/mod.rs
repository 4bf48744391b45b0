//! Threads, and work whose result does not depend on how many there are.

mod float_mode;
mod openmp;

use std::ops::Range;
use std::sync::{Arc, OnceLock, RwLock};

use crate::accum::FreeLists;
use crate::error::{Error, Result};

pub(crate) use float_mode::IeeeMode;
pub use openmp::{MaxThreadsFn, OpenMp, ParallelFn};

/// A pool of threads, and the memory that the updates on them work in, which it keeps from one call to the next. Clones are the same
/// pool.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    threads: Threads,
    free: FreeLists,
}

#[derive(Debug)]
enum Threads {
    /// The caller's thread alone.
    Callers,
    /// The caller's thread and others of our own.
    Own(rayon::ThreadPool),
    /// Those of a runtime that runs already.
    Shared(OpenMp),
}

/// Whether a user asked for the number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Default,
    Asked,
}

/// The pool that updates use.
#[derive(Debug, Clone)]
struct Known {
    pool: Pool,
    choice: Choice,
    process: u32,
}

impl Pool {
    /// A pool of that many threads.
    ///
    /// # Errors
    /// `Error::Setting` if there are to be none, or the system gives no threads.
    pub fn new(n_threads: usize) -> Result<Self> {
        let refused = |got: String| Error::Setting {
            setting: "threads",
            expected: "at least 1 thread that the system can start".into(),
            got,
        };
        match n_threads {
            0 => Err(refused("0".into())),
            1 => Ok(Self::of(Threads::Callers)),
            n => rayon::ThreadPoolBuilder::new()
                .num_threads(n - 1)
                .thread_name(|index| format!("lmfacts-{index}"))
                .build()
                .map(|pool| Self::of(Threads::Own(pool)))
                .map_err(|error| refused(format!("{n} ({error})"))),
        }
    }

    fn of(threads: Threads) -> Self {
        Self(Arc::new(Parts { threads, free: FreeLists::default() }))
    }

    /// The memory that nobody uses at the moment.
    pub(crate) fn free_lists(&self) -> &FreeLists {
        &self.0.free
    }

    fn shared() -> &'static RwLock<Option<Known>> {
        static SHARED: OnceLock<RwLock<Option<Known>>> = OnceLock::new();
        SHARED.get_or_init(|| RwLock::new(None))
    }

    /// The pool that updates use: as many threads as cores, or as `LMFACTS_NUM_THREADS` says, until [`Pool::set_global`] or
    /// [`Pool::share`] is called.
    ///
    /// # Errors
    /// `Error::Setting` if the variable is not a number of threads.
    pub fn global() -> Result<Self> {
        if let Some(known) = Self::shared().read().ok().and_then(|known| known.clone()) {
            if known.process == std::process::id() {
                return Ok(known.pool);
            }
            // A fork: of all threads, only the one that forked is here. The others' pool is left alone, as they can no longer end it, nor
            // unlock its memory.
            let pool = match &known.pool.0.threads {
                Threads::Own(_) => Self::new(known.pool.n_threads())?,
                Threads::Callers | Threads::Shared(_) => Self::of(Threads::Callers),
            };
            Self::set(pool.clone(), known.choice);
            std::mem::forget(known);
            return Ok(pool);
        }
        let (n_threads, choice) = match wanted_threads()? {
            Some(n) => (n, Choice::Asked),
            None => (std::thread::available_parallelism().map_or(1, usize::from), Choice::Default),
        };
        let pool = Self::new(n_threads)?;
        Self::set(pool.clone(), choice);
        Ok(pool)
    }

    fn set(pool: Self, choice: Choice) {
        if let Ok(mut shared) = Self::shared().write() {
            *shared = Some(Known { pool, choice, process: std::process::id() });
        }
    }

    /// Makes and returns the pool that updates use from now on.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn set_global(n_threads: usize) -> Result<Self> {
        let pool = Self::new(n_threads)?;
        Self::set(pool.clone(), Choice::Asked);
        Ok(pool)
    }

    /// Makes updates use the threads of a runtime that runs already, unless a number of threads was asked for. Returns whether they do.
    ///
    /// # Errors
    /// As [`Pool::global`].
    pub fn share(runtime: OpenMp) -> Result<bool> {
        let asked = Self::shared().read().is_ok_and(|known| known.as_ref().is_some_and(|known| known.choice == Choice::Asked));
        if asked || wanted_threads()?.is_some() {
            return Ok(false);
        }
        Self::set(Self::of(Threads::Shared(runtime)), Choice::Default);
        Ok(true)
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        match &self.0.threads {
            Threads::Callers => 1,
            Threads::Own(pool) => pool.current_num_threads() + 1,
            Threads::Shared(runtime) => runtime.n_threads(),
        }
    }

    /// Gives each worker its share of the work; the workers run at the same time, in arithmetic that knows subnormal numbers.
    pub fn run<W: Send>(&self, workers: &mut [W], work: impl Fn(&mut W) + Send + Sync) {
        let work = |worker: &mut W| {
            let _mode = IeeeMode::enter();
            work(worker);
        };
        match (&self.0.threads, workers) {
            (Threads::Own(pool), [first, others @ ..]) if !others.is_empty() => pool.in_place_scope(|scope| {
                for worker in others {
                    scope.spawn(|_| work(worker));
                }
                work(first);
            }),
            (Threads::Shared(runtime), workers @ [_, _, ..]) => runtime.run(workers, &work),
            (_, workers) => workers.iter_mut().for_each(work),
        }
    }
}

/// The number of threads that `LMFACTS_NUM_THREADS` asks for.
fn wanted_threads() -> Result<Option<usize>> {
    match std::env::var("LMFACTS_NUM_THREADS") {
        Ok(text) if !text.is_empty() => text.parse().ok().filter(|&n| n > 0).map(Some).ok_or_else(|| Error::Setting {
            setting: "LMFACTS_NUM_THREADS",
            expected: "a number of threads, at least 1".into(),
            got: text,
        }),
        _ => Ok(None),
    }
}

/// Cuts a range into `n` contiguous parts of nearly the same length, the first the longest; some are empty if it is shorter than `n`.
pub(crate) fn split(range: &Range<usize>, n: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, length) = (range.start, range.len());
    (0..n).map(move |part| start + (part * length).div_ceil(n)..start + ((part + 1) * length).div_ceil(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_once_and_in_order() {
        for (range, n) in [(0..10, 3), (5..5, 2), (2..4, 5)] {
            let parts: Vec<_> = split(&range, n).collect();
            assert_eq!(parts.len(), n);
            assert_eq!(parts.into_iter().flatten().collect::<Vec<_>>(), range.collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_worker_runs_once() {
        for n_threads in [1, 3] {
            let mut workers = vec![0; 10];
            Pool::new(n_threads).unwrap().run(&mut workers, |worker| *worker += 1);
            assert_eq!(workers, [1; 10]);
        }
        assert!(Pool::new(0).is_err());
    }
}
