//! A persistent pool of threads for loops over independent work items.
//!
//! Items are handed out one by one through a shared counter, so uneven items balance; nothing about a result may depend
//! on which thread runs an item. Waiting threads spin for a while, then sleep: between loops that follow each other
//! closely a dispatch costs well under a microsecond, and a thread that wakes too late is not waited for. A panic in an item is carried to the caller once all threads are
//! done with the loop.
//!
//! A loop started from inside a loop of the same pool, or while another thread's loop runs, is done by the calling
//! thread alone.

use std::any::Any;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: longer than the gaps between a model's loops, too short to matter after.
const SPIN: Duration = Duration::from_micros(100);

/// The body of a loop with its lifetime taken off; valid while the loop's caller waits.
type Body = *const (dyn Fn(usize) + Sync);

struct Job {
    body: Option<Body>,
    items: usize,
}

/// What the threads share. Counters that different threads write stand in cache lines of their own.
struct Shared {
    /// Number of loops begun; a change tells the workers to look.
    round: Line<AtomicU64>,
    /// Next item to hand out.
    next: Line<AtomicUsize>,
    /// Workers that take part in the current loop, or are about to look whether it is open.
    joined: Line<AtomicUsize>,
    /// Whether workers may still join the current loop: one that wakes too late is not waited for.
    open: AtomicBool,
    /// Written by the caller while the loop is closed and no one has joined, read by joined workers that saw it open.
    job: UnsafeCell<Job>,
    stop: AtomicBool,
    /// Workers asleep or about to be.
    sleepers: AtomicUsize,
    wake: Mutex<()>,
    woken: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[repr(align(128))]
struct Line<T>(T);

// SAFETY: `job` is the only part that is not Sync by itself. It is written by the one thread that holds `Pool::busy`
// after it closed the previous loop and then saw `joined` at zero. A worker reads it only after it counted itself in
// `joined` and then saw `open`, and before it counts itself out. All four accesses are sequentially consistent, so
// either the worker sees the loop closed or the caller sees the worker. The body it points to is Sync.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer in `job` is only used while its referent lives.
unsafe impl Send for Shared {}

impl Shared {
    /// Runs items until there are none left; keeps the first panic.
    fn drain(&self, body: &(dyn Fn(usize) + Sync), items: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let item = self.next.0.fetch_add(1, Ordering::Relaxed);
                if item >= items {
                    break;
                }
                body(item);
            }
        }));
        if let Err(panic) = outcome {
            // no further items; those under way finish
            self.next.0.store(items, Ordering::Relaxed);
            self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }

    /// Waits until `round` is no longer `seen`: spinning, then asleep. Returns the new value.
    fn wait(&self, seen: u64) -> u64 {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let round = self.round.0.load(Ordering::Acquire);
                if round != seen {
                    return round;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut guard = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        // sequentially consistent with the caller's order: it changes `round`, then looks at `sleepers`
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        loop {
            let round = self.round.0.load(Ordering::SeqCst);
            if round != seen {
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return round;
            }
            guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Begins a new round, waking whoever sleeps.
    fn announce(&self) {
        self.round.0.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // with the lock held no worker is between its last look and its sleep
            let _guard = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
            self.woken.notify_all();
        }
    }

    fn work(&self) {
        let mut seen = 0;
        loop {
            seen = self.wait(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.joined.0.fetch_add(1, Ordering::SeqCst);
            if self.open.load(Ordering::SeqCst) {
                // SAFETY: see the impl of Sync: this worker has joined and then seen the loop open.
                let (body, items) = unsafe {
                    let job = &*self.job.get();
                    (job.body, job.items)
                };
                if let Some(body) = body {
                    // SAFETY: the caller of the loop keeps the body alive until `joined` is zero.
                    self.drain(unsafe { &*body }, items);
                }
            }
            self.joined.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Threads that run loops together with their caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
}

/// The C form of a parallel loop, as generated code takes it: `parallel_for(ctx, n, body, arg)` calls `body(arg, i)`
/// for every i below n, in any order, on any threads, and returns when all are done.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ParallelFor {
    /// Passed through.
    pub ctx: *mut c_void,
    /// The loop.
    pub parallel_for:
        extern "C" fn(ctx: *mut c_void, n: usize, body: extern "C" fn(arg: *mut c_void, i: usize), arg: *mut c_void),
}

impl Pool {
    /// A pool that runs loops on `threads` threads in all, the caller's among them; 0 counts as 1. Where the system
    /// refuses a thread, the pool has fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            round: Line(AtomicU64::new(0)),
            next: Line(AtomicUsize::new(0)),
            joined: Line(AtomicUsize::new(0)),
            open: AtomicBool::new(false),
            job: UnsafeCell::new(Job { body: None, items: 0 }),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            wake: Mutex::new(()),
            woken: Condvar::new(),
            panic: Mutex::new(None),
        });
        let spawn = |number: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("mixc-{number}")).spawn(move || shared.work())
        };
        let workers = (1..threads.max(1)).map_while(|number| spawn(number).ok()).collect();
        Pool { shared, workers, busy: AtomicBool::new(false) }
    }

    /// Threads that a loop runs on, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `body(i)` for every i below `n`, in any order, and returns when all calls have. A panic in one of them
    /// is resumed here; items not begun by then may be left out.
    pub fn parallel_for(&self, n: usize, body: &(dyn Fn(usize) + Sync)) {
        if n <= 1 || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire) {
            (0..n).for_each(body);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; this function does not return, nor unwind, before the loop is closed and empty.
        let lasting = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(body) };
        // SAFETY: see the impl of Sync: `busy` is held, the last loop is closed and no one is in it.
        unsafe { *shared.job.get() = Job { body: Some(lasting), items: n } };
        shared.next.0.store(0, Ordering::Relaxed);
        shared.open.store(true, Ordering::SeqCst);
        shared.announce();
        shared.drain(body, n);
        shared.open.store(false, Ordering::SeqCst);
        let mut spins = 0u32;
        while shared.joined.0.load(Ordering::SeqCst) > 0 {
            spins = spins.saturating_add(1);
            if spins < 1 << 14 {
                std::hint::spin_loop();
            } else {
                // a worker has lost its processor to someone else
                std::thread::yield_now();
            }
        }
        let panic = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// This pool as generated code takes it. The result must not be used after the pool is gone. A body that unwinds
    /// aborts the process, as in any C function.
    pub fn c_interface(&self) -> ParallelFor {
        ParallelFor { ctx: std::ptr::from_ref(self).cast_mut().cast(), parallel_for: parallel_for_c }
    }
}

/// The body's argument, which the caller allows any thread to use.
struct Argument(*mut c_void);

// SAFETY: the contract of `ParallelFor` is that bodies run on any threads with this argument.
unsafe impl Sync for Argument {}

impl Argument {
    fn get(&self) -> *mut c_void {
        self.0
    }
}

extern "C" fn parallel_for_c(
    ctx: *mut c_void,
    n: usize,
    body: extern "C" fn(arg: *mut c_void, i: usize),
    arg: *mut c_void,
) {
    // SAFETY: `c_interface` put a pool there, which the caller keeps alive.
    let pool = unsafe { &*ctx.cast::<Pool>() };
    let arg = Argument(arg);
    pool.parallel_for(n, &|i| body(arg.get(), i));
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.announce();
        for worker in self.workers.drain(..) {
            // a worker cannot panic: it catches what items throw
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_once() {
        for threads in [0, 1, 2, 3, 7] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for n in [0, 1, 2, 3, 13, 1000] {
                let counts: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..5 {
                    pool.parallel_for(n, &|i| {
                        counts[i].fetch_add(1, Ordering::Relaxed);
                    });
                }
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 5));
            }
        }
    }

    #[test]
    fn sleeping_threads_wake() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(1));
            let sum = AtomicUsize::new(0);
            pool.parallel_for(100, &|i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3);
        for item in [0, 50, 99] {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.parallel_for(100, &|i| assert!(i != item, "planted"));
            }));
            assert!(outcome.is_err());
            let count = AtomicUsize::new(0);
            pool.parallel_for(10, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 10);
        }
    }

    #[test]
    fn loops_within_loops_and_from_many_threads_finish() {
        let pool = Pool::new(2);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        pool.parallel_for(4, &|_| {
                            pool.parallel_for(4, &|_| {
                                count.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 3 * 20 * 16);
    }

    #[test]
    fn the_c_interface_runs_every_item() {
        extern "C" fn body(arg: *mut c_void, i: usize) {
            // SAFETY: the test passes an array of 100 counters.
            let counters = unsafe { &*arg.cast::<[AtomicUsize; 100]>() };
            counters[i].fetch_add(i + 1, Ordering::Relaxed);
        }
        let pool = Pool::new(2);
        let counters: [AtomicUsize; 100] = std::array::from_fn(|_| AtomicUsize::new(0));
        let interface = pool.c_interface();
        (interface.parallel_for)(interface.ctx, 100, body, std::ptr::from_ref(&counters).cast_mut().cast());
        assert!(counters.iter().enumerate().all(|(i, counter)| counter.load(Ordering::Relaxed) == i + 1));
    }
}
