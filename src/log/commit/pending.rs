//! An append that is stored and not yet known to be durable.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::log::append::{AppendOutcome, Outcomes};
use crate::log::commit::Ticket;
use crate::log::commit::wakers::Sleeper;
use crate::log::options::Durability;
use crate::log::read::bound::{Bound, Wanted};
use crate::log::{Replicated, Shared};
use crate::types::Offset;

/// Resolves when the batches are durable; for a duplicate, when its original is. Dropping it cancels nothing.
///
/// Block on it with [`wait`](Self::wait), or await it: then somebody else must sync, a thread of
/// [`LogDirOptions::background_threads`](crate::LogDirOptions) or one in
/// [`LogDir::run_background`](crate::LogDir::run_background). Where there is none, awaiting batches that are not durable yet is
/// [`Error::NoSyncer`]: they stay stored, and the next sync is theirs, too. Else it resolves as `wait` does.
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
    /// Where the log ends behind the batches; `None` without any.
    placed: Option<Ticket>,
    /// The same while it is not known that they are durable enough.
    ticket: Option<Ticket>,
    /// Where the commit keeps this future's waker.
    place: Option<u64>,
}

impl Pending {
    pub(in crate::log) fn new(
        shared: Arc<Shared>,
        outcomes: Outcomes,
        placed: Option<Ticket>,
        ticket: Option<Ticket>,
    ) -> Self {
        Self { shared, outcomes, placed, ticket, place: None }
    }

    /// Where each batch is stored, in the order in which they were given. Not an acknowledgement yet.
    pub fn outcomes(&self) -> &[AppendOutcome] {
        &self.outcomes
    }

    /// Whether it has resolved well, without waiting: of a [`Buffered`](Durability::Buffered) append it has from the beginning.
    pub fn is_durable(&self) -> bool {
        self.ticket.is_none_or(|ticket| {
            matches!(self.shared.commit.look(ticket, self.shared.watermarks.durable()), Some(Ok(())))
        })
    }

    /// Blocks until the batches are durable, syncing itself when nobody else does.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] if a truncation removed them; [`Error::InDoubt`] if the log was closed, deleted or poisoned
    /// before. [`Error::Io`] where only the way to the sync failed (a file that cannot be opened or named): they are stored and
    /// not durable yet, and the log goes on: sending them again, or [`Log::sync`](crate::Log::sync), tells.
    pub fn wait(mut self) -> Result<Vec<AppendOutcome>> {
        self.settle()?;
        Ok(self.take_outcomes())
    }

    /// Waits until the batches are durable, at most for `timeout`. `false`: they are not yet, and may be waited for again. For a
    /// host that has promised its client an answer by then, also where the disk hangs.
    ///
    /// Whoever leads a sync cannot leave it, so somebody else must sync, as where it is awaited.
    ///
    /// ```
    /// use std::time::Duration;
    /// use idemlog::{AppendOptions, BatchBuilder, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default().background_threads(1))?;
    /// let log = dir.partition("orders", 0)?;
    /// let batch = BatchBuilder::new().record(b"k", b"v").build()?;
    /// let pending = log.submit(&[batch], AppendOptions::default())?;
    /// if pending.wait_for(Duration::from_secs(30))? {
    ///     println!("stored at {}", pending.outcomes()[0].base_offset());
    /// } else {
    ///     println!("timed out: it is stored, and becomes durable if the disk comes back");
    /// }
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait); [`Error::NoSyncer`] where they are not durable and no background thread syncs.
    pub fn wait_for(&self, timeout: Duration) -> Result<bool> {
        self.shared.settle_until(self.ticket, Instant::now().checked_add(timeout))
    }

    /// The same for all replicas: resolves when the [high watermark](crate::Log::set_high_watermark) has passed the batches
    /// as well, for a duplicate its original. So a host that replicates acknowledges `acks=all`: a batch that was truncated
    /// resolves to [`Error::Truncated`], also when the high watermark passes another one that has its offset by then.
    ///
    /// Where the host sets no high watermark it is nothing more than this `Pending`; of a `Buffered` append to a log that is
    /// `Synced`, one that waits for the disk.
    ///
    /// ```
    /// use std::time::Duration;
    /// use idemlog::{AppendOptions, BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.set_high_watermark(Offset(0)); // of this host's replicas, from now on
    ///
    /// let batch = BatchBuilder::new().record(b"k", b"v").build()?;
    /// let replicated = log.submit(&[batch], AppendOptions::default())?.replicated();
    /// assert!(!replicated.wait(Duration::ZERO)?);
    /// log.set_high_watermark(Offset(1)); // all of them have fetched it
    /// assert!(replicated.wait(Duration::ZERO)?);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn replicated(self) -> Replicated {
        Replicated::new(self)
    }

    /// What is to become durable before the high watermark is looked at: where that follows the disk, also what was not to wait
    /// for it.
    fn first_awaited(&self) -> Option<Ticket> {
        let shared = &self.shared;
        let follows_the_disk =
            shared.admission.durability() == Durability::Synced && !shared.watermarks.is_high_watermark_set();
        if follows_the_disk { self.placed } else { self.ticket }
    }

    /// Blocks until the batches are as durable as the high watermark needs them, or until the deadline where others sync: who leads
    /// a sync cannot leave it. Without a deadline it leads as well. `false`: the deadline came first.
    pub(in crate::log) fn settle_for_replicas(&self, deadline: Option<Instant>) -> Result<bool> {
        let ticket = self.first_awaited();
        let by_others = if deadline.is_some() {
            self.shared.settle_until(ticket, deadline)
        } else {
            Err(Error::NoSyncer)
        };
        match by_others {
            Err(Error::NoSyncer) => self.shared.settle(ticket).map(|()| true),
            settled => settled,
        }
    }

    pub(in crate::log) fn poll_for_replicas(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.ticket = self.first_awaited();
        self.poll_durable(context)
    }

    pub(in crate::log) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Blocks until the batches are durable enough.
    pub(in crate::log) fn settle(&self) -> Result<()> {
        self.shared.settle(self.ticket)
    }

    /// What waiting for the high watermark has come to; `None` while it is open. That it has come far enough is read first:
    /// had a truncation come before that, the generation would show.
    pub(in crate::log) fn look_replicated(&self) -> Option<Result<()>> {
        let reached = self.shared.watermarks.high_watermark();
        self.placed.map_or(Some(Ok(())), |placed| self.shared.commit.look(placed, reached))
    }

    /// What [`look_replicated`](Self::look_replicated) waits for at the tail, where there is something to wait for.
    pub(in crate::log) fn wanted_of_replicas(&self) -> Wanted {
        let behind = self.placed.map_or(Offset(0), |placed| placed.target);
        Wanted { bound: Bound::HighWatermark, offset: Offset(behind.0.saturating_sub(1)) }
    }

    /// Polls whether the batches are durable enough. Never blocks and does no I/O.
    pub(in crate::log) fn poll_durable(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(ticket) = self.ticket else { return Poll::Ready(Ok(())) };
        ready!(self.shared.poll_settled(ticket, &mut self.place, context.waker()))?;
        self.ticket = None;
        Poll::Ready(Ok(()))
    }

    pub(in crate::log) fn take_outcomes(&mut self) -> Vec<AppendOutcome> {
        std::mem::take(&mut self.outcomes).into_vec()
    }
}

impl Shared {
    /// Waits for a ticket until the deadline, as a future does: others sync. `false`: the deadline came first.
    fn settle_until(&self, ticket: Option<Ticket>, deadline: Option<Instant>) -> Result<bool> {
        let Some(ticket) = ticket else { return Ok(true) };
        if let Some(resolved) = self.commit.look(ticket, self.watermarks.durable()) {
            return resolved.map(|()| true);
        }
        let mut place = None;
        let settled = self.sleep_until_settled(ticket, &mut place, deadline);
        place.into_iter().for_each(|place| self.commit.forget(ticket.target, place));
        settled
    }

    fn sleep_until_settled(
        &self,
        ticket: Ticket,
        place: &mut Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<bool> {
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        loop {
            match self.poll_settled(ticket, place, &waker) {
                Poll::Ready(resolved) => return resolved.map(|()| true),
                Poll::Pending if !sleeper.sleep_until(deadline) => return Ok(false),
                Poll::Pending => {}
            }
        }
    }

    /// Looks what a ticket has come to, and keeps the waker and asks for a sync while it is open.
    fn poll_settled(&self, ticket: Ticket, place: &mut Option<u64>, waker: &Waker) -> Poll<Result<()>> {
        match self.commit.poll(ticket, place, &self.watermarks, waker) {
            Poll::Pending if !self.request_sync() => Poll::Ready(Err(Error::NoSyncer)),
            polled => polled,
        }
    }
}

impl Drop for Pending {
    /// Nobody waits any more. What was kept to wake would go with the log, wherever that goes.
    fn drop(&mut self) {
        if let (Some(place), Some(placed)) = (self.place, self.placed) {
            self.shared.commit.forget(placed.target, place);
        }
    }
}

impl Future for Pending {
    type Output = Result<Vec<AppendOutcome>>;

    /// Never blocks and does no I/O.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_durable(context).map_ok(|()| self.take_outcomes())
    }
}
