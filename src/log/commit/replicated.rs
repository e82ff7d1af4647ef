//! An append that is stored and not yet known to be on all replicas.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::log::Pending;
use crate::log::append::AppendOutcome;

/// Resolves when the batches of an append are on all replicas that the host counts: the high watermark has passed them, and
/// they are as durable here as was asked. See [`Pending::replicated`].
///
/// Block on it with [`wait`](Self::wait), or await it: then somebody else must sync, as for a [`Pending`], or it is
/// [`Error::NoSyncer`](crate::Error::NoSyncer). Dropping it cancels nothing.
#[derive(Debug)]
#[must_use = "the batches are stored, but not known to be replicated until this resolves"]
pub struct Replicated {
    pending: Pending,
    /// Where the tail keeps this future's waker.
    place: Option<u64>,
}

impl Replicated {
    pub(in crate::log) fn new(pending: Pending) -> Self {
        Self { pending, place: None }
    }

    /// Where each batch is stored, in the order in which they were given. Not an acknowledgement yet.
    pub fn outcomes(&self) -> &[AppendOutcome] {
        self.pending.outcomes()
    }

    /// Blocks until the batches are replicated, at most for `timeout`. `false`: they are not yet, and may be waited for again.
    ///
    /// Without [background threads](crate::LogDirOptions::background_threads) it leads the sync that they may need, when nobody else
    /// does, and that may take longer; so it does where `timeout` is [`Duration::MAX`]. With a deadline only they sync, as many
    /// partitions at a time as there are of them.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait`]: [`Error::Truncated`](crate::Error::Truncated) if a truncation removed them, whatever stands at
    /// their offsets now; [`Error::InDoubt`](crate::Error::InDoubt) if the log ended before.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(timeout);
        if !self.pending.settle_for_replicas(deadline)? {
            return Ok(false);
        }
        let tail = &self.pending.shared().tail;
        loop {
            if let Some(resolved) = self.pending.look_replicated() {
                return resolved.map(|()| true);
            }
            if !tail.wait(self.pending.wanted_of_replicas(), deadline, || {
                self.pending.look_replicated().is_some()
            }) {
                return Ok(false);
            }
        }
    }
}

impl Future for Replicated {
    type Output = Result<Vec<AppendOutcome>>;

    /// Never blocks and does no I/O.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pending, place } = &mut *self;
        ready!(pending.poll_for_replicas(context))?;
        loop {
            if let Some(resolved) = pending.look_replicated() {
                return Poll::Ready(resolved.map(|()| pending.take_outcomes()));
            }
            let ready = || pending.look_replicated().is_some();
            let wanted = pending.wanted_of_replicas();
            if !pending.shared().tail.register(wanted, place, context.waker(), ready) {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Replicated {
    /// An appender need not wake who waits no longer.
    fn drop(&mut self) {
        self.pending.shared().tail.forget(self.pending.wanted_of_replicas(), self.place);
    }
}
