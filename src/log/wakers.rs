//! Waking futures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakes everybody. A waker is the host's: one that panics has said so, and keeps no other from being woken.
pub(super) fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}
