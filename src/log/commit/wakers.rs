//! Waking futures, and threads that wait as one would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::sync::{Condvar, Mutex};

/// A thread that waits to be woken. Each has a place of its own to wait at: many are woken at once, while those who wait for the
/// same lock would hand it from one to the next.
#[derive(Debug, Default)]
pub(in crate::log) struct Sleeper {
    is_woken: Mutex<bool>,
    wakeup: Condvar,
}

impl Sleeper {
    pub(in crate::log) fn sleep(&self) {
        self.sleep_until(None);
    }

    /// `false`: the deadline came first. Woken once, it sleeps again the next time.
    pub(in crate::log) fn sleep_until(&self, deadline: Option<Instant>) -> bool {
        let mut is_woken = self.is_woken.lock();
        while !*is_woken {
            match deadline {
                None => self.wakeup.wait(&mut is_woken),
                Some(deadline) if self.wakeup.wait_until(&mut is_woken, deadline).timed_out() => break,
                Some(_) => {}
            }
        }
        std::mem::take(&mut is_woken)
    }

    pub(in crate::log) fn wake_up(&self) {
        *self.is_woken.lock() = true;
        self.wakeup.notify_all();
    }
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.wake_up();
    }
}

/// Wakes everybody. A waker is the host's: one that panics has said so, and keeps no other from being woken.
pub(in crate::log) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
