//! The thread team: fork-join over numbered items with an overhead of about a microsecond.
//!
//! A transformer layer is a handful of short parallel sections, so what matters is how fast a section starts and
//! ends. Workers therefore spin briefly between sections and park when nothing comes, so that an idle process uses no
//! CPU. A section never waits for a worker that has not arrived: the caller takes items too, and when they are used up
//! it closes the section and waits only for those workers that are inside it. A worker that wakes late finds the
//! section closed and goes back to waiting, so a busy machine costs parallelism, never progress.
//!
//! Items are handed out one by one through a counter. Which thread runs an item depends on timing; what an item
//! computes must not.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker spins for the next section before it parks.
const WORKER_SPIN: Duration = Duration::from_micros(50);
/// How long the caller spins for the workers inside its section before it yields its core between looks.
const CALLER_SPIN: Duration = Duration::from_micros(50);
/// Spin iterations between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 32;

/// `Shared::state`: workers inside the section (low bits), then the flags, then the section's number.
const ACTIVE_MASK: u64 = (1 << 30) - 1;
const SHUTDOWN: u64 = 1 << 30;
const OPEN: u64 = 1 << 31;
const EPOCH_ONE: u64 = 1 << 32;

/// The caller and its workers. Dropping it joins the workers.
#[derive(Debug)]
pub(crate) struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// One cache line pair per field that different threads write, so that they do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

#[derive(Debug)]
struct Shared {
    state: Padded<AtomicU64>,
    next_item: Padded<AtomicUsize>,
    /// Held by the one caller whose section is running.
    busy: Padded<AtomicBool>,
    asleep: Vec<Padded<AtomicBool>>,
    section: UnsafeCell<Section>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// The running section's closure, its type erased.
#[derive(Debug, Clone, Copy)]
struct Section {
    closure: *const (),
    run: unsafe fn(*const (), &AtomicUsize, usize),
    n_items: usize,
}

// SAFETY: `section` is the only field that is not `Sync` by itself. It is written only by the holder of `busy` while
// `state` is not OPEN and has no active worker, and read only by workers that entered an OPEN section through a
// compare-exchange on `state`; the closure behind it is `Sync` and outlives the section (see `Team::for_each`).
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer inside is dereferenced only while the closure's owner waits in `Team::for_each`.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `n_threads` threads, the caller of [`Team::for_each`] included. `n_threads` is at least 1.
    ///
    /// # Errors
    /// The operating system's error when a thread cannot be started; those already started are joined.
    pub(crate) fn new(n_threads: usize) -> io::Result<Self> {
        let n_workers = n_threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            next_item: Padded(AtomicUsize::new(0)),
            busy: Padded(AtomicBool::new(false)),
            asleep: (0..n_workers).map(|_| Padded(AtomicBool::new(false))).collect(),
            section: UnsafeCell::new(Section { closure: std::ptr::null(), run: run_items::<fn(usize)>, n_items: 0 }),
            panic: Mutex::new(None),
        });
        let mut team = Self { shared, workers: Vec::with_capacity(n_workers) };
        for index in 0..n_workers {
            let shared = Arc::clone(&team.shared);
            let worker =
                thread::Builder::new().name(format!("bantam-cpu-{}", index + 1)).spawn(move || shared.work(index))?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(0)`, ..., `f(n_items - 1)`, each once, and returns when all have returned. When the team is already
    /// running a section (a nested call, or another thread's) the items run on the calling thread.
    ///
    /// A panic in any item stops the handing out of further items and is raised here once all threads have left.
    pub(crate) fn for_each<F: Fn(usize) + Sync>(&self, n_items: usize, f: &F) {
        let shared = &*self.shared;
        if n_items <= 1 || self.workers.is_empty() || shared.busy.0.swap(true, Ordering::Acquire) {
            (0..n_items).for_each(f);
            return;
        }

        // SAFETY: this thread holds `busy` and the last section is closed and empty, so nobody else accesses it.
        unsafe {
            *shared.section.get() = Section { closure: std::ptr::from_ref(f).cast(), run: run_items::<F>, n_items };
        }
        shared.next_item.0.store(0, Ordering::Relaxed);
        let epoch = (shared.state.0.load(Ordering::Relaxed) & !(EPOCH_ONE - 1)).wrapping_add(EPOCH_ONE);
        shared.state.0.store(epoch | OPEN, Ordering::SeqCst);
        for (asleep, worker) in shared.asleep.iter().zip(&self.workers).take(n_items - 1) {
            if asleep.0.load(Ordering::SeqCst) && asleep.0.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }

        let outcome = catch_unwind(AssertUnwindSafe(|| {
            while let Some(item) = take_item(&shared.next_item.0, n_items) {
                f(item);
            }
        }));
        if outcome.is_err() {
            shared.next_item.0.store(n_items, Ordering::Relaxed);
        }

        // After this no worker can enter; `f` stays borrowed until those inside have left.
        if shared.state.0.fetch_and(!OPEN, Ordering::AcqRel) & ACTIVE_MASK != 0 {
            wait(CALLER_SPIN, thread::yield_now, || shared.state.0.load(Ordering::Acquire) & ACTIVE_MASK == 0);
        }
        let worker_panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        shared.busy.0.store(false, Ordering::Release);
        if let Some(payload) = outcome.err().or(worker_panic) {
            resume_unwind(payload);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.state.0.fetch_or(SHUTDOWN, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // A worker's panics are caught and carried to the caller, so there is nothing to report here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// A worker's life: wait for a section, help with it, leave it.
    fn work(&self, index: usize) {
        let mut last_epoch = 0;
        let news = |last_epoch: u64| {
            let state = self.state.0.load(Ordering::SeqCst);
            state & SHUTDOWN != 0 || (state & OPEN != 0 && state / EPOCH_ONE != last_epoch)
        };
        loop {
            let park = || {
                self.asleep[index].0.store(true, Ordering::SeqCst);
                if !news(last_epoch) {
                    thread::park();
                }
                self.asleep[index].0.store(false, Ordering::SeqCst);
            };
            wait(WORKER_SPIN, park, || news(last_epoch));

            let state = self.state.0.load(Ordering::Acquire);
            if state & SHUTDOWN != 0 {
                return;
            }
            if state & OPEN == 0
                || self.state.0.compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err()
            {
                continue;
            }
            last_epoch = state / EPOCH_ONE;
            // SAFETY: the section was OPEN when this worker was counted in, and it is neither changed nor its closure
            // released before the count is back at zero.
            let section = unsafe { *self.section.get() };
            // SAFETY: `run` was made for the type of `closure` (see `Team::for_each`), which is alive as said above.
            let outcome = catch_unwind(AssertUnwindSafe(|| unsafe {
                (section.run)(section.closure, &self.next_item.0, section.n_items);
            }));
            if let Err(payload) = outcome {
                self.next_item.0.store(section.n_items, Ordering::Relaxed);
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(payload);
            }
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Waits until `ready`: spins for `spin`, then calls `rest` between looks.
fn wait(spin: Duration, rest: impl Fn(), ready: impl Fn() -> bool) {
    let mut start = None;
    loop {
        for _ in 0..SPINS_PER_CLOCK {
            if ready() {
                return;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= spin {
            break;
        }
    }
    while !ready() {
        rest();
    }
}

fn take_item(next_item: &AtomicUsize, n_items: usize) -> Option<usize> {
    let item = next_item.fetch_add(1, Ordering::Relaxed);
    (item < n_items).then_some(item)
}

/// Takes items and runs them until none is left.
///
/// # Safety
/// `closure` must point to a live `F`.
unsafe fn run_items<F: Fn(usize)>(closure: *const (), next_item: &AtomicUsize, n_items: usize) {
    // SAFETY: promised by the caller.
    let f = unsafe { &*closure.cast::<F>() };
    while let Some(item) = take_item(next_item, n_items) {
        f(item);
    }
}
