//! Threads of our own, and work whose result does not depend on how many there are.

use std::ops::Range;
use std::sync::{Arc, OnceLock, RwLock};

use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

use crate::error::{Error, Result};

/// A pool of threads.
#[derive(Debug, Clone)]
pub struct Pool {
    // None runs everything on the caller's thread.
    threads: Option<Arc<rayon::ThreadPool>>,
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
            1 => Ok(Self { threads: None }),
            n => rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .thread_name(|index| format!("lmfacts-{index}"))
                .build()
                .map(|pool| Self { threads: Some(Arc::new(pool)) })
                .map_err(|error| refused(format!("{n} ({error})"))),
        }
    }

    fn shared() -> &'static RwLock<Option<Self>> {
        static SHARED: OnceLock<RwLock<Option<Pool>>> = OnceLock::new();
        SHARED.get_or_init(|| RwLock::new(None))
    }

    /// The pool that updates use: as many threads as cores, or as `LMFACTS_NUM_THREADS` says, until [`Pool::set_global`] is called.
    ///
    /// # Errors
    /// `Error::Setting` if the variable is not a number of threads.
    pub fn global() -> Result<Self> {
        if let Some(pool) = Self::shared().read().ok().and_then(|pool| pool.clone()) {
            return Ok(pool);
        }
        let n_threads = match std::env::var("LMFACTS_NUM_THREADS") {
            Ok(text) if !text.is_empty() => text.parse().ok().filter(|&n| n > 0).ok_or_else(|| Error::Setting {
                setting: "LMFACTS_NUM_THREADS",
                expected: "a number of threads, at least 1".into(),
                got: text,
            })?,
            _ => std::thread::available_parallelism().map_or(1, usize::from),
        };
        Self::set_global(n_threads)
    }

    /// Makes and returns the pool that updates use from now on.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn set_global(n_threads: usize) -> Result<Self> {
        let pool = Self::new(n_threads)?;
        if let Ok(mut shared) = Self::shared().write() {
            *shared = Some(pool.clone());
        }
        Ok(pool)
    }

    /// Number of threads.
    pub fn n_threads(&self) -> usize {
        self.threads.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Gives each worker its share of the work; the workers run at the same time.
    pub fn run<W: Send>(&self, workers: &mut [W], work: impl Fn(&mut W) + Send + Sync) {
        match &self.threads {
            Some(pool) if workers.len() > 1 => pool.install(|| workers.par_iter_mut().for_each(work)),
            _ => workers.iter_mut().for_each(work),
        }
    }
}

/// Cuts a range into `n` contiguous parts of nearly the same length; some are empty if it is shorter than `n`.
pub(crate) fn split(range: &Range<usize>, n: usize) -> impl Iterator<Item = Range<usize>> {
    let (start, length) = (range.start, range.len());
    (0..n).map(move |part| start + part * length / n..start + (part + 1) * length / n)
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
