//! Those who wait at the tail of the log for new batches.

use std::task::Waker;
use std::time::{Duration, Instant};

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Condvar, Mutex};

/// The shortest sleep: with what the kernel adds to each, some 70 us.
const NAP: Duration = Duration::from_micros(1);

#[cfg(not(idemlog_shuttle))]
fn nap(time: Duration) {
    std::thread::sleep(time);
}

/// The model checker has no time.
#[cfg(idemlog_shuttle)]
fn nap(_time: Duration) {}

/// Readers that wait. An appender that finds none pays a fence and a load.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Blocked threads and kept wakers. Raised before the last look at the log, so that one of the two sides sees the
    /// other: the reader the new end, or the appender the reader.
    waiting: AtomicUsize,
    wakers: Mutex<Vec<Waker>>,
    wakeup: Condvar,
}

impl Tail {
    /// Wakes everybody who waits. Called after the end that readers see has moved.
    pub(crate) fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        self.waiting.fetch_sub(wakers.len(), Ordering::SeqCst);
        self.wakeup.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Blocks until `ready` or the deadline. `false`: the deadline came first.
    ///
    /// Whoever comes to the tail of a busy log naps once before it counts as waiting: the next append finds nobody to wake,
    /// which would cost it a call of the kernel.
    pub(crate) fn wait(&self, deadline: Option<Instant>, ready: impl Fn() -> bool) -> bool {
        let left = deadline.map_or(NAP, |deadline| deadline.saturating_duration_since(Instant::now()));
        nap(left.min(NAP));
        if ready() {
            return true;
        }
        let mut wakers = self.wakers.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_ready = loop {
            if ready() {
                break true;
            }
            match deadline {
                None => self.wakeup.wait(&mut wakers),
                Some(deadline) if self.wakeup.wait_until(&mut wakers, deadline).timed_out() => break ready(),
                Some(_) => {}
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_ready
    }

    /// Keeps the waker unless `ready` already.
    pub(crate) fn register(&self, waker: &Waker, ready: impl Fn() -> bool) -> bool {
        let mut wakers = self.wakers.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if ready() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return true;
        }
        if wakers.iter().any(|kept| kept.will_wake(waker)) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        } else {
            wakers.push(waker.clone());
        }
        false
    }
}
