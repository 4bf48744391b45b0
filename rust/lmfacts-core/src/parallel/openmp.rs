//! Work on the threads of an OpenMP runtime that somebody else has started.
//!
//! Between two of its own loops, torch's threads wait by spinning, for a while, so that the next loop starts at once. Threads of our own
//! would share the cores with those that spin, and would have to be woken besides. The same runtime runs our work on the threads that
//! it has: on Linux every runtime that torch comes with (GNU's, LLVM's and Intel's) exports the entry that GCC's compiled code calls.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::{c_int, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `GOMP_parallel`: runs a function on the threads of a team, the caller's among them, and returns when all have returned. Of the two
/// numbers, the first is how many threads there are to be (0: as many as the runtime is set to), the second is 0.
pub type ParallelFn = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// `omp_get_max_threads`: how many threads a team has that is asked for now.
pub type MaxThreadsFn = unsafe extern "C" fn() -> c_int;

/// An OpenMP runtime.
#[derive(Debug, Clone, Copy)]
pub struct OpenMp {
    parallel: ParallelFn,
    max_threads: MaxThreadsFn,
}

/// What the threads of a team share.
struct Job<'a, W, F> {
    workers: *mut W,
    n_workers: usize,
    next: AtomicUsize,
    work: &'a F,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl OpenMp {
    /// The runtime with these entries.
    ///
    /// # Safety
    /// The functions do what [`ParallelFn`] and [`MaxThreadsFn`] say, and stay loaded for the rest of the process.
    pub const unsafe fn new(parallel: ParallelFn, max_threads: MaxThreadsFn) -> Self {
        Self { parallel, max_threads }
    }

    /// Threads of the next team.
    pub(super) fn n_threads(self) -> usize {
        // SAFETY: promised to `new`.
        usize::try_from(unsafe { (self.max_threads)() }).unwrap_or(1).max(1)
    }

    /// As [`super::Pool::run`]. Whichever thread is free takes the next worker.
    pub(super) fn run<W: Send, F: Fn(&mut W) + Sync>(self, workers: &mut [W], work: &F) {
        let mut job = Job {
            workers: workers.as_mut_ptr(),
            n_workers: workers.len(),
            next: AtomicUsize::new(0),
            work,
            panic: Mutex::new(None),
        };
        // SAFETY: promised to `new`; the job outlives the call, which returns when every thread is done with it.
        unsafe { (self.parallel)(take_part::<W, F>, (&raw mut job).cast(), 0, 0) };
        if let Ok(Some(panic)) = job.panic.into_inner() {
            resume_unwind(panic);
        }
    }
}

/// One thread's part in a job: worker after worker, until none is left. No panic passes through the runtime's frames.
extern "C" fn take_part<W: Send, F: Fn(&mut W) + Sync>(job: *mut c_void) {
    // SAFETY: `run` gave the runtime a pointer to a job of these types, which lives until all threads have returned.
    let job = unsafe { &*job.cast::<Job<'_, W, F>>() };
    loop {
        let index = job.next.fetch_add(1, Ordering::Relaxed);
        if index >= job.n_workers {
            return;
        }
        // SAFETY: the index is in range, and only the thread that drew it comes here with it, so that the borrow is the only one.
        let worker = unsafe { &mut *job.workers.add(index) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(worker)))
            && let Ok(mut first) = job.panic.lock()
        {
            first.get_or_insert(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// A runtime of three threads, which are started for each team.
    unsafe extern "C" fn three(work: extern "C" fn(*mut c_void), data: *mut c_void, _: c_uint, _: c_uint) {
        struct Shared(*mut c_void);
        // SAFETY: what the tests share may be shared.
        unsafe impl Sync for Shared {}
        let shared = &Shared(data);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || work(shared.0));
            }
        });
    }

    unsafe extern "C" fn max_three() -> c_int {
        3
    }

    #[test]
    fn every_worker_runs_once_whatever_the_team() {
        // SAFETY: the functions do what is said of them.
        let runtime = unsafe { OpenMp::new(three, max_three) };
        assert_eq!(runtime.n_threads(), 3);
        for n in [0, 1, 3, 10] {
            let mut workers = vec![0; n];
            let calls = AtomicU32::new(0);
            runtime.run(&mut workers, &|worker| {
                *worker += 1;
                calls.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!((workers, calls.into_inner()), (vec![1; n], n as u32));
        }
    }

    #[test]
    fn a_panic_comes_out_on_the_callers_thread_after_the_others_are_done() {
        // SAFETY: as above.
        let runtime = unsafe { OpenMp::new(three, max_three) };
        let mut workers: Vec<_> = (0..5).map(|index| (index, false)).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            runtime.run(&mut workers, &|(index, done)| {
                assert_ne!(*index, 2, "two is too many");
                *done = true;
            });
        }));
        assert!(outcome.is_err());
        assert_eq!(workers.iter().filter(|(_, done)| *done).count(), 4);
    }
}
