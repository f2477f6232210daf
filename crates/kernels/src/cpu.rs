//! [`Cpu`]: what every kernel needs to run, namely the instruction set chosen once and the thread team.

use std::ops::Range;
use std::sync::Arc;
use std::{io, thread};

use thiserror::Error;

use crate::isa::{IsaError, IsaLevel};
use crate::team::Team;

/// More threads than this are taken for a mistake.
pub const MAX_THREADS: usize = 1024;

/// How to set up a [`Cpu`]. The default takes all threads the process may use and the machine's best instruction set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuConfig {
    /// Threads that compute, the calling thread included. 0 takes the available parallelism, which obeys CPU affinity
    /// and cgroup limits.
    pub n_threads: usize,
    /// The instruction set; without one [`IsaLevel::choose`] decides.
    pub isa: Option<IsaLevel>,
}

/// Why a [`Cpu`] could not be set up.
#[derive(Debug, Error)]
pub enum CpuError {
    /// The thread count is beyond [`MAX_THREADS`].
    #[error("n_threads is {n_threads}: use 0 (all available) to {MAX_THREADS}")]
    TooManyThreads {
        /// The count asked for.
        n_threads: usize,
    },
    /// The operating system did not start a thread.
    #[error("cannot start {n_threads} compute threads: use fewer")]
    StartThread {
        /// The count asked for.
        n_threads: usize,
        /// The operating system's error.
        source: io::Error,
    },
    /// The instruction set asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
}

/// The thread team and the instruction set that kernels use. Clones share the team; the last one dropped joins it.
///
/// No result depends on the number of threads or on the instruction set.
#[derive(Debug, Clone)]
pub struct Cpu {
    team: Arc<Team>,
    isa: IsaLevel,
}

impl Cpu {
    /// Starts the threads.
    ///
    /// # Errors
    /// See [`CpuError`].
    pub fn new(config: CpuConfig) -> Result<Self, CpuError> {
        let isa = IsaLevel::choose(config.isa)?;
        let n_threads = match config.n_threads {
            0 => thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS),
            n => n,
        };
        if n_threads > MAX_THREADS {
            return Err(CpuError::TooManyThreads { n_threads });
        }
        let team = Team::new(n_threads).map_err(|source| CpuError::StartThread { n_threads, source })?;
        Ok(Self { team: Arc::new(team), isa })
    }

    /// The instruction set that kernels run.
    #[must_use]
    pub fn isa(&self) -> IsaLevel {
        self.isa
    }

    /// Threads that compute, the caller's included.
    #[must_use]
    pub fn n_threads(&self) -> usize {
        self.team.n_threads()
    }

    /// Runs `f(0)`, ..., `f(n_items - 1)`, each once, spread over the team, and returns when all have returned.
    ///
    /// Which thread runs an item depends on timing, so an item must not depend on another one of the same call. Nested
    /// calls, and calls while another thread uses the team, run their items on the calling thread. A panic in an item
    /// is raised in the caller after all threads have left.
    pub fn for_each(&self, n_items: usize, f: impl Fn(usize) + Sync) {
        self.team.for_each(n_items, &f);
    }

    /// Cuts `0..n` into ranges of `chunk` (the last may be shorter) and runs `f` once on each.
    pub fn for_each_range(&self, n: usize, chunk: usize, f: impl Fn(Range<usize>) + Sync) {
        let chunk = chunk.max(1);
        self.for_each(n.div_ceil(chunk), |i| f(i * chunk..n.min((i + 1) * chunk)));
    }

    /// Cuts `data` into pieces of `chunk` elements (the last may be shorter) and runs `f(i, piece i)` once on each.
    pub fn for_each_chunk_mut<T: Send>(&self, data: &mut [T], chunk: usize, f: impl Fn(usize, &mut [T]) + Sync) {
        let chunk = chunk.max(1);
        let base = SendPtr(data.as_mut_ptr());
        self.for_each_range(data.len(), chunk, |range| {
            // SAFETY: the range lies within `data`, which is borrowed mutably for the whole call, and every range is
            // handed out once, so the pieces do not overlap. `T: Send` lets another thread have them.
            let piece = unsafe { std::slice::from_raw_parts_mut(base.get().add(range.start), range.len()) };
            f(range.start / chunk, piece);
        });
    }
}

/// A pointer that the items of one section share. Whoever dereferences it says why the accesses do not overlap.
#[derive(Debug)]
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

// SAFETY: only the address is shared; every dereference has a SAFETY line of its own.
unsafe impl<T: Send> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    /// A method, so that closures capture the whole wrapper and not the bare pointer.
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn cpu(n_threads: usize) -> Cpu {
        Cpu::new(CpuConfig { n_threads, ..CpuConfig::default() }).unwrap()
    }

    /// Runs `n_items` and says how often each one ran.
    fn counts(cpu: &Cpu, n_items: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..n_items).map(|_| AtomicUsize::new(0)).collect();
        cpu.for_each(n_items, |i| {
            counts[i].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_item_runs_once() {
        for n_threads in [1, 2, 3, 8] {
            let cpu = cpu(n_threads);
            assert_eq!(cpu.n_threads(), n_threads);
            for n_items in [0, 1, 2, 3, 7, 64, 1000] {
                assert_eq!(counts(&cpu, n_items), vec![1; n_items]);
            }
        }
        assert!(cpu(0).n_threads() >= 1);
    }

    #[test]
    fn many_short_sections_with_pauses() {
        let cpu = cpu(4);
        let mut data = vec![0u32; 37];
        for round in 0..20_000 {
            cpu.for_each_chunk_mut(&mut data, 5, |_, piece| piece.iter_mut().for_each(|x| *x += 1));
            if round % 1000 == 0 {
                // Long enough for the workers to park.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(data, vec![20_000; 37]);
    }

    #[test]
    fn ranges_and_chunks_cover_everything() {
        let cpu = cpu(2);
        let seen = AtomicUsize::new(0);
        cpu.for_each_range(10, 4, |r| {
            assert!([0..4, 4..8, 8..10].contains(&r));
            seen.fetch_add(r.len(), Ordering::Relaxed);
        });
        assert_eq!(seen.into_inner(), 10);
        let mut data = vec![usize::MAX; 11];
        cpu.for_each_chunk_mut(&mut data, 4, |i, piece| piece.fill(i));
        assert_eq!(data, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn workers_take_part() {
        let cpu = cpu(3);
        // Passes only when three threads are inside at the same time.
        let barrier = Barrier::new(3);
        cpu.for_each(3, |_| {
            barrier.wait();
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_lives_on() {
        let cpu = cpu(3);
        for round in 0..200 {
            let bad = round % 40;
            let caught = catch_unwind(AssertUnwindSafe(|| {
                cpu.for_each(40, |i| {
                    if i == bad {
                        std::panic::panic_any(format!("item {i}"));
                    }
                });
            }));
            assert_eq!(caught.unwrap_err().downcast_ref::<String>().unwrap(), &format!("item {bad}"));
            assert_eq!(counts(&cpu, 40), vec![1; 40]);
        }
        let barrier = Barrier::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            cpu.for_each(3, |_| {
                barrier.wait();
                std::panic::panic_any("all");
            });
        }));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"all"));
    }

    #[test]
    fn nested_calls_run_inline() {
        let cpu = cpu(3);
        let total = AtomicUsize::new(0);
        cpu.for_each(20, |_| {
            let thread = std::thread::current().id();
            cpu.for_each(30, |_| {
                assert_eq!(std::thread::current().id(), thread);
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 600);
    }

    #[test]
    fn several_callers_at_once() {
        let cpu = cpu(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2000 {
                        let n = round % 9;
                        assert_eq!(counts(&cpu, n), vec![1; n]);
                    }
                });
            }
        });
    }

    #[test]
    fn too_many_threads_is_an_error() {
        let error = Cpu::new(CpuConfig { n_threads: MAX_THREADS + 1, ..CpuConfig::default() }).unwrap_err();
        assert!(matches!(error, CpuError::TooManyThreads { .. }), "{error}");
    }
}
