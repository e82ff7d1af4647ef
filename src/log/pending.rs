//! An append that is stored and not yet known to be durable.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Shared;
use super::append::{AppendOutcome, Outcomes};
use super::commit::Ticket;
use crate::error::{Error, Result};

/// Resolves when the batches are durable; for a duplicate, when its original is. Dropping it cancels nothing.
///
/// Block on it with [`wait`](Self::wait), or await it: then somebody else must sync, a thread of
/// [`LogDirOptions::background_threads`](crate::LogDirOptions) or one in
/// [`LogDir::run_background`](crate::LogDir::run_background).
///
/// ```
/// use idemlog::{AppendOptions, BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let batch = BatchBuilder::new().record(b"k", b"v").build()?;
///
/// let first = log.submit(&[batch.clone()], AppendOptions::default())?;
/// let second = log.submit(&[batch], AppendOptions::default())?;
/// second.wait()?; // one sync for both
/// assert!(first.is_durable());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the batches are stored, but not known to be durable until this resolves"]
pub struct Pending {
    shared: Arc<Shared>,
    outcomes: Outcomes,
    /// `None`: durable enough already.
    ticket: Option<Ticket>,
    /// Where the commit keeps this future's waker.
    place: Option<u64>,
}

impl Pending {
    pub(super) fn new(shared: Arc<Shared>, outcomes: Outcomes, ticket: Option<Ticket>) -> Self {
        Self { shared, outcomes, ticket, place: None }
    }

    /// Where each batch is stored, in the order in which they were given. Not an acknowledgement yet.
    pub fn outcomes(&self) -> &[AppendOutcome] {
        &self.outcomes
    }

    /// Whether it has resolved well, without waiting.
    pub fn is_durable(&self) -> bool {
        self.ticket.is_none_or(|ticket| {
            matches!(self.shared.commit.look(ticket, &self.shared.watermarks), Some(Ok(())))
        })
    }

    /// Blocks until the batches are durable, syncing itself when nobody else does.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if a truncation removed them; [`Error::InDoubt`] if the log was closed, deleted or poisoned
    /// before. [`Error::Io`] where only the way to the sync failed (a file that cannot be opened or named): they are stored and
    /// not durable yet, and the log goes on: sending them again, or [`Log::sync`](crate::Log::sync), tells.
    pub fn wait(self) -> Result<Vec<AppendOutcome>> {
        self.shared.settle(self.ticket)?;
        Ok(self.outcomes.into_vec())
    }
}

impl Future for Pending {
    type Output = Result<Vec<AppendOutcome>>;

    /// Never blocks and does no I/O.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(ticket) = this.ticket {
            let shared = &this.shared;
            let polled = shared.commit.poll(ticket, &mut this.place, &shared.watermarks, context.waker());
            match polled {
                Poll::Pending if shared.request_sync() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(Error::NoSyncer)),
                Poll::Ready(resolved) => resolved?,
            }
        }
        Poll::Ready(Ok(std::mem::take(&mut this.outcomes).into_vec()))
    }
}
