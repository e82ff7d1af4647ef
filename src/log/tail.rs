//! Those who wait at the tail of the log for new batches.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::wakers::wake_all;
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

/// The wakers of the futures that wait, each at its future's place.
#[derive(Debug, Default)]
struct Kept {
    wakers: BTreeMap<u64, Waker>,
    last_place: u64,
}

impl Kept {
    /// Returns the one that was in this place.
    fn keep(&mut self, place: &mut Option<u64>, waker: Waker) -> Option<Waker> {
        let place = place.get_or_insert_with(|| {
            self.last_place += 1;
            self.last_place
        });
        self.wakers.insert(*place, waker)
    }
}

/// Readers that wait. An appender that finds none pays a fence and a load.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Blocked threads and kept wakers. Raised before the last look at the log, so that one of the two sides sees the
    /// other: the reader the new end, or the appender the reader.
    waiting: AtomicUsize,
    kept: Mutex<Kept>,
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
        let wakers = std::mem::take(&mut self.kept.lock().wakers);
        self.waiting.fetch_sub(wakers.len(), Ordering::SeqCst);
        self.wakeup.notify_all();
        wake_all(wakers.into_values());
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
        let mut kept = self.kept.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_ready = loop {
            if ready() {
                break true;
            }
            match deadline {
                None => self.wakeup.wait(&mut kept),
                Some(deadline) if self.wakeup.wait_until(&mut kept, deadline).timed_out() => break ready(),
                Some(_) => {}
            }
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_ready
    }

    /// Keeps the waker in the future's `place`, unless `ready` already.
    pub(crate) fn register(&self, place: &mut Option<u64>, waker: &Waker, ready: impl Fn() -> bool) -> bool {
        // First of all: a clone is the host's, and may panic.
        let waker = waker.clone();
        let mut kept = self.kept.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let is_ready = ready();
        let left = if is_ready { Some(waker) } else { kept.keep(place, waker) };
        if left.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        // Before the waker: with it may go what it would have woken, and that looks for its place here.
        drop(kept);
        is_ready
    }

    /// Forgets the waker in a future's place, if it is there still.
    pub(crate) fn forget(&self, place: u64) {
        let kept = self.kept.lock().wakers.remove(&place);
        if kept.is_some() {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
