//! The append path: check without the lock; under it judge, plan, copy, stamp, index, apply, publish.
//!
//! One batch of a client mostly takes a short way (`plain`), which is inlined where one is appended; the long way is here.

pub(super) mod admission;
mod incoming;
mod judge;
mod options;
mod outcome;
pub(super) mod pace;
mod plain;
mod plan;
mod room;

use std::slice;

use smallvec::SmallVec;

use super::commit::Ticket;
use super::options::Durability;
use super::{Appender, Log, Pending, Shared};
use crate::batch::{Batch, BatchBytes};
use crate::environment::{Chore, Urgency};
use crate::epoch::LeaderEpochs;
use crate::error::{Error, RejectionReason, Result};
use crate::segment::{ALLOCATION_STEP_MIN, PlacedBatch, SegmentWriter, Stamps};
use crate::sync::MutexGuard;
use crate::types::{Offset, Timestamp};
use incoming::{Incoming, Lent};
pub use options::{AppendOptions, Origin};
pub use outcome::AppendOutcome;
pub(super) use outcome::Outcomes;
use plan::Plan;
pub(super) use room::Need;

/// How many turns of an idle loop pass between the looks of whoever finds the append lock taken, before it goes to sleep.
/// A batch is placed in less time than a thread takes to sleep and wake up; and a lock that changes hands at every batch
/// moves all that it guards from one processor's cache to the other's each time.
const PAUSES: [u32; 4] = [64, 128, 256, 512];

/// What placing a call's batches came to.
struct Placed {
    /// Behind which all batches are; `None` without any.
    ticket: Option<Ticket>,
    /// Whether any batch was stored, so that the log ends higher.
    is_new: bool,
    /// Where a segment was begun.
    rolled: Option<Offset>,
    /// Whether there are chores that should not wait.
    has_chores: bool,
    /// Whether the segment begins above the end of the last batch before it, and has no name yet.
    left_gap: bool,
}

impl Log {
    /// Stores a batch, or recognises it as stored already, and waits until that is as durable as the log's
    /// [`Durability`] says.
    ///
    /// A crash before it returns leaves the batch stored whole or not at all; sending it again tells which. The batch's bytes
    /// are copied: they may be borrowed ([`Batch::decode_lent`]) from memory that is used for something else afterwards.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidBatch`] and [`Error::Rejected`]: the batch is not acceptable, and the log is unchanged.
    /// [`Error::Io`] for a full disk: unchanged, and appends go on when there is room; where only the way to the sync
    /// failed (a file that cannot be opened or named), stored and not durable yet: sending it again tells.
    /// [`Error::Poisoned`] after a failed sync. [`Error::OffsetsExhausted`] at the last offset there is.
    /// [`Error::InDoubt`], [`Error::Truncated`]: stored, but not known to be durable. [`Error::Closed`], [`Error::Gone`],
    /// [`Error::ReadOnly`]; [`Error::Corrupt`] where the first append since the opening finds its segment damaged: unchanged.
    #[inline]
    pub fn append<B: BatchBytes>(&self, batch: &Batch<B>) -> Result<AppendOutcome> {
        self.append_lent(&batch.lend())
    }

    fn append_lent(&self, batch: &Lent<'_>) -> Result<AppendOutcome> {
        let (mut outcome, options) = (AppendOutcome::UNKNOWN, AppendOptions::default());
        let (batches, outcomes) = (slice::from_ref(batch), slice::from_mut(&mut outcome));
        let placed = self.shared.place(batches, options, true, outcomes)?;
        self.shared.settle(self.shared.follow_up(&placed, options, true)?)?;
        Ok(outcome)
    }

    /// The same for several batches, which are judged one after the other: duplicates are answered, new ones stored,
    /// and if one is refused, none is stored. Readers see all of them at once; a crash may leave a prefix.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let (log, id) = (dir.partition("orders", 0)?, dir.new_producer_id()?);
    /// let batch = |sequence| {
    ///     BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(sequence)).record(b"k", b"v").build()
    /// };
    /// log.append(&batch(0)?)?;
    /// let outcomes = log.append_all(&[batch(0)?, batch(1)?])?; // the first one comes again
    /// assert!(outcomes[0].is_duplicate() && !outcomes[1].is_duplicate());
    ///
    /// assert!(log.append_all(&[batch(2)?, batch(9)?]).is_err()); // a gap: neither is stored
    /// assert_eq!(log.log_end_offset(), Offset(2));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); all batches together may not be larger than a segment, nor take more than 2^31
    /// offsets.
    pub fn append_all<B: BatchBytes>(&self, batches: &[Batch<B>]) -> Result<Vec<AppendOutcome>> {
        self.append_all_lent(&lend(batches))
    }

    fn append_all_lent(&self, batches: &[Lent<'_>]) -> Result<Vec<AppendOutcome>> {
        let mut outcomes = Outcomes::from_elem(AppendOutcome::UNKNOWN, batches.len());
        let options = AppendOptions::default();
        let placed = self.shared.place_any(batches, options, true, &mut outcomes)?;
        self.shared.settle(self.shared.follow_up(&placed, options, true)?)?;
        Ok(outcomes.into_vec())
    }

    /// Stores batches as [`append_all`](Self::append_all) does, and returns before they are durable. Waits while more than
    /// [`LogOptions::max_unsynced_bytes`](crate::LogOptions) or `max_pending` is not durable yet. The bytes are copied by then;
    /// what is returned holds none of them.
    ///
    /// Now and then it waits for the disk: where the segment has no blocks left, or the next one is not made yet, whose making
    /// syncs the ones before; background threads see to both ahead of time, if they keep up. Without any it also does their
    /// chores when they are due: snapshots, indexes, retention. And a follower's batch behind a gap is synced at once if its
    /// segment has no name yet.
    ///
    /// A crash of the process leaves the batches; one of the machine, before the `Pending` has resolved, a part of what was
    /// appended since the last sync, from the front, each batch whole. Sending them again tells.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for what can happen while waiting; and [`Error::StaleLeaderEpoch`] for an
    /// [`AppendOptions::leader_epoch`] that is over, with nothing stored and no duplicate answered. Of replicated batches
    /// ([`Origin::Replication`]) [`Error::UnexpectedOffset`] where one begins below the log end offset or the batch before it, and
    /// [`Error::StaleLeaderEpoch`] where its leader epoch is lower; nothing is stored.
    pub fn submit<B: BatchBytes>(&self, batches: &[Batch<B>], options: AppendOptions) -> Result<Pending> {
        self.submit_within(&lend(batches), options, true)
    }

    /// The same as [`submit`](Self::submit) for a thread that must not block: it waits neither for what is not durable yet nor for
    /// the disk, and leaves chores to others. What is left is a copy into memory, or in [`IoMode::Write`](crate::IoMode) one write
    /// into the page cache; and a sync where a follower's batch comes behind a gap, as for `submit`.
    ///
    /// ```
    /// use idemlog::{AppendOptions, BatchBuilder, Error, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let (batches, options) = ([BatchBuilder::new().record(b"k", b"v").build()?], AppendOptions::default());
    ///
    /// let refused = log.try_submit(&batches, options).unwrap_err();
    /// assert!(matches!(refused, Error::WouldBlock { bound: "room" })); // there is no segment yet
    /// let first = log.submit(&batches, options)?; // on a thread that may block
    /// let second = log.try_submit(&batches, options)?;
    /// second.wait()?; // as for `submit`
    /// assert!(first.is_durable());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where too much is not durable, or the log has to make room first: blocks, the next segment, or its
    /// first append since it was opened. Nothing is stored, and background threads are asked for what is missing: try again a
    /// little later, or `submit` on a thread that may block. Without background threads somebody must do that, or
    /// [`sync`](Self::sync), before more is taken. On a full disk it is `WouldBlock` each time: `submit` returns the disk's error,
    /// and where background threads try to make the room, [`LogMetrics::last_failed_chore`](crate::LogMetrics) has it. Else as
    /// `submit`.
    pub fn try_submit<B: BatchBytes>(&self, batches: &[Batch<B>], options: AppendOptions) -> Result<Pending> {
        self.submit_within(&lend(batches), options, false)
    }

    /// Stores batches within the bounds of what may not be durable yet, for which it may wait or not.
    fn submit_within(&self, batches: &[Lent<'_>], options: AppendOptions, may_wait: bool) -> Result<Pending> {
        let mut outcomes = Outcomes::from_elem(AppendOutcome::UNKNOWN, batches.len());
        let placed = self.shared.place(batches, options, may_wait, &mut outcomes)?;
        let ticket = self.shared.follow_up(&placed, options, may_wait)?;
        // Nobody may come to wait; and readers of a synced log see nothing earlier.
        if ticket.is_some() || self.shared.admission.durability() == Durability::Synced {
            self.shared.request_sync();
        }
        Ok(Pending::new(self.shared.clone(), outcomes, placed.ticket, ticket))
    }
}

impl Shared {
    /// Stores batches, and says what came of each.
    #[inline(always)]
    fn place(
        &self,
        batches: &[Lent<'_>],
        options: AppendOptions,
        may_wait: bool,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Placed> {
        let plain = match (batches, &mut *outcomes) {
            ([batch], [outcome]) if options.are_plain() => {
                self.telling(|| self.place_plain(batch, outcome))?
            }
            _ => None,
        };
        match plain {
            Some(placed) => Ok(placed),
            None => self.place_any(batches, options, may_wait, outcomes),
        }
    }

    /// What placing batches leaves to do without the lock. The ticket, if they must become durable.
    #[inline(always)]
    fn follow_up(&self, placed: &Placed, options: AppendOptions, may_wait: bool) -> Result<Option<Ticket>> {
        if placed.is_new {
            self.notify_tail();
        }
        if let Some(base) = placed.rolled {
            self.report_roll(base);
        }
        if placed.left_gap {
            // A segment without a name is found again only if it goes on where the log ends.
            self.sync()?;
        }
        if placed.has_chores && may_wait && !self.environment.queue.has_workers() {
            self.whole(|| self.do_chores());
        }
        let durability = options.durability.unwrap_or_else(|| self.admission.durability());
        Ok(placed.ticket.filter(|_| durability == Durability::Synced))
    }

    /// The long way.
    #[inline(never)]
    fn place_any(
        &self,
        batches: &[Lent<'_>],
        options: AppendOptions,
        may_wait: bool,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Placed> {
        self.check_not_read_only()?;
        let incoming = Incoming::check(batches, options, &self.admission)?;
        let controls = incoming.read_controls()?;
        let incoming = incoming.with_controls(&controls);
        self.come_within_bounds(may_wait)?;
        let placed = self.telling(|| {
            if incoming.must_be_stamped(&self.admission) {
                self.place_stamped(incoming, may_wait, outcomes)
            } else {
                self.place_checked(incoming, may_wait, outcomes)
            }
        });
        if matches!(&placed, Err(Error::Rejected(refused)) if refused.reason == RejectionReason::ProducerBudget)
        {
            self.let_time_pass(may_wait);
        }
        placed
    }

    /// Where nothing but refusals happens, nobody else would come to see that producers have become idle.
    #[cold]
    fn let_time_pass(&self, may_wait: bool) {
        let mut appender = self.lock_appender();
        let now = self.now();
        appender.producers.observe(now);
        let interval = appender.options.expiry_interval_ms;
        let is_due = is_time(&mut appender.expired_at, interval, now);
        drop(appender);
        if is_due {
            self.request(Chore::Expire);
        }
        // Also what one has asked for that may not wait.
        if may_wait && self.chores.stand(Urgency::Slow) && !self.environment.queue.has_workers() {
            self.whole(|| self.do_chores());
        }
    }

    /// Waits while too much is not durable yet.
    fn come_within_bounds(&self, may_wait: bool) -> Result<()> {
        while let Some(bound) = self.backlog.exceeds(&self.counters, &self.admission) {
            if !may_wait {
                // What came in without a ticket has asked for no sync.
                self.request_sync();
                return Err(Error::WouldBlock { bound });
            }
            self.counters.budget_stalls.add(1);
            self.sync()?;
        }
        Ok(())
    }

    /// Stores the batches with the time of the append as theirs.
    #[inline(never)]
    fn place_stamped(
        &self,
        incoming: Incoming<'_>,
        may_wait: bool,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Placed> {
        let stamped = incoming.stamped(self.environment.clock.now());
        self.place_checked(incoming.with_stamped(&lend(&stamped)), may_wait, outcomes)
    }

    /// Judges and stores under the lock; lets go of it to get what is missing, and then judges again.
    fn place_checked(
        &self,
        incoming: Incoming<'_>,
        may_wait: bool,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Placed> {
        match self.try_place(incoming, outcomes)? {
            Ok(placed) => Ok(placed),
            Err(need) if may_wait => self.place_with(need, incoming, outcomes),
            Err(Need::Offsets) => Err(Error::OffsetsExhausted),
            Err(need) => {
                *self.needed.lock() = Some(need);
                self.request(Chore::Room);
                Err(Error::WouldBlock { bound: "room" })
            }
        }
    }

    /// Goes on behind a first try that found something missing.
    #[cold]
    fn place_with(
        &self,
        mut need: Need,
        incoming: Incoming<'_>,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Placed> {
        loop {
            self.change(|| self.provide(need))?;
            match self.try_place(incoming, outcomes)? {
                Ok(placed) => return Ok(placed),
                Err(next) => need = next,
            }
        }
    }

    /// Judges and stores as far as that goes without letting go of the lock.
    fn try_place(
        &self,
        incoming: Incoming<'_>,
        outcomes: &mut [AppendOutcome],
    ) -> Result<Result<Placed, Need>> {
        let mut appender = self.lock_appender();
        self.commit.check()?;
        if appender.closing {
            return Err(Error::Closed);
        }
        let now = self.now();
        let plan = self.judge(&appender, incoming, now, outcomes)?;
        let rolled = match self.make_room(&mut appender, plan.demand, now) {
            Ok(rolled) => rolled,
            Err(need) => return Ok(Err(need)),
        };
        let left_gap = self.leaves_gap(&mut appender, plan.demand);
        self.counters.duplicates.add_locked(plan.duplicates);
        if plan.demand.is_some() {
            self.storing(&mut appender, |appender| self.store(appender, incoming, &plan, now))?;
        }
        let generation = self.commit.generation();
        let has_chores = self.request_chores(&mut appender, now) || rolled.is_some();
        if left_gap {
            // The short way does not look.
            appender.writer.iter_mut().for_each(SegmentWriter::end_leeway);
        } else {
            self.renew_leeway(&mut appender, now);
        }
        let ticket = plan.target.map(|target| Ticket { target, generation });
        Ok(Ok(Placed { ticket, is_new: plan.demand.is_some(), rolled, has_chores, left_gap }))
    }

    #[inline(always)]
    fn lock_appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.try_lock().unwrap_or_else(|| self.wait_for_appender())
    }

    #[cold]
    fn wait_for_appender(&self) -> MutexGuard<'_, Appender> {
        for pause in PAUSES {
            (0..pause).for_each(|_| std::hint::spin_loop());
            if let Some(appender) = self.appender.try_lock() {
                return appender;
            }
        }
        self.appender.lock()
    }

    /// Stores under the lock. The writer goes with a write that failed: what that has left is cut before the next one opens.
    #[inline(always)]
    fn storing<T>(
        &self,
        appender: &mut Appender,
        store: impl FnOnce(&mut Appender) -> Result<T>,
    ) -> Result<T> {
        let stored = self.whole_under_lock(|| store(appender));
        if stored.is_err() {
            appender.writer = None;
        }
        stored
    }

    /// Copies the new batches, applies them to the producers, and publishes them.
    fn store(
        &self,
        appender: &mut Appender,
        incoming: Incoming<'_>,
        plan: &Plan<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let leader_epoch = incoming.options.leader_epoch.unwrap_or_else(|| appender.lowest_next_epoch());
        let Some(writer) = appender.writer.as_mut() else { return Err(Error::Closed) };
        for (index, batch) in incoming.batches.iter().enumerate() {
            if !plan.is_new(index) {
                continue;
            }
            let stamps = if incoming.is_replicated() {
                Stamps::of(batch.header())
            } else {
                Stamps { base_offset: writer.next_offset(), leader_epoch }
            };
            writer.write(batch.header(), &stamps, batch.bytes())?;
        }
        self.publish(appender, incoming, plan, now)
    }

    fn publish(
        &self,
        appender: &mut Appender,
        incoming: Incoming<'_>,
        plan: &Plan<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let Some(writer) = appender.writer.as_mut() else { return Err(Error::Closed) };
        let from = writer.segment().file().end();
        writer.publish()?;
        let (bytes, log_end) = (writer.position() - from, writer.next_offset());
        let batches = writer.published().len() as u64;
        self.take_over(appender, incoming, plan, now);
        self.count(appender, batches, bytes);
        self.watermarks.set_log_end(log_end);
        Ok(())
    }

    #[inline(always)]
    fn count(&self, appender: &mut Appender, batches: u64, bytes: u64) {
        self.counters.appended_batches.add_locked(batches);
        self.counters.appended_bytes.add_locked(bytes);
        appender.since_snapshot += bytes;
        appender.filled += bytes;
        if appender.filled >= ALLOCATION_STEP_MIN {
            self.environment.space.give_back(std::mem::take(&mut appender.filled));
        }
    }

    /// Notes what the batches that were just published say of their producers and leader epochs.
    fn take_over(&self, appender: &mut Appender, incoming: Incoming<'_>, plan: &Plan<'_>, now: Timestamp) {
        let Appender { writer, producers, leader_epochs, epochs_untold, verifications, .. } = appender;
        let Some(writer) = writer else { return };
        let mut published = writer.published().iter();
        for index in 0..incoming.batches.len() {
            if !plan.is_new(index) {
                continue;
            }
            let Some(PlacedBatch { header, .. }) = published.next() else { return };
            if let Some(effect) = producers.apply(header, incoming.control(index), now) {
                self.note_effect(writer.segment(), effect);
            }
            // A marker or a replicated batch makes a producer known at an epoch that clients may not use any more.
            if let Some(fence) = self.environment.fences.get(header.producer_id) {
                producers.raise_epoch(header.producer_id, fence);
            }
            if leader_epochs.assign(header.leader_epoch, header.base_offset) {
                *epochs_untold |= self.is_told_by_file_only(leader_epochs, header.base_offset);
            }
            verifications.end(header);
        }
    }

    /// Whether a leader epoch that begins at `start` is the only one known of a log that has older batches, because a
    /// truncation cut what the deletion of records had left: from the batches an opening would find more.
    fn is_told_by_file_only(&self, epochs: &LeaderEpochs, start: Offset) -> bool {
        let first = self.segments.load().first().map(|first| first.base_offset());
        epochs.entries().len() == 1 && first.is_some_and(|first| first < start)
    }

    /// Asks for what the next appends will need. `true` if somebody must do it now when there are no workers.
    fn request_chores(&self, appender: &mut Appender, now: Timestamp) -> bool {
        let Some(writer) = &appender.writer else { return false };
        let position = writer.position();
        if self.environment.queue.has_workers() {
            self.request_pages(appender, position);
            let is_half_full = position > u64::from(appender.options.segment_bytes) / 2;
            if is_half_full && appender.prepared.is_none() {
                self.request(Chore::Prepare);
            }
        }
        let snapshot = appender.since_snapshot >= appender.options.snapshot_interval_bytes;
        if snapshot {
            appender.since_snapshot = 0;
            self.request(Chore::Snapshot);
        }
        let expire = is_time(&mut appender.expired_at, appender.options.expiry_interval_ms, now);
        if expire {
            self.request(Chore::Expire);
        }
        let epochs = std::mem::take(&mut appender.epochs_untold);
        if epochs {
            self.request(Chore::LeaderEpochs);
        }
        let retain = is_time(&mut appender.retained_at, appender.options.retention_interval_ms, now)
            && self.request_due_retention();
        snapshot || expire || epochs || retain
    }

    /// Up to which position of the segment no append has [`request_chores`](Self::request_chores) ask for pages or for the
    /// next segment.
    fn next_request(&self, appender: &Appender) -> u64 {
        if !self.environment.queue.has_workers() {
            return u64::MAX;
        }
        let half = u64::from(appender.options.segment_bytes) / 2;
        let prepare = if appender.prepared.is_some() { u64::MAX } else { half };
        appender.pace.next().saturating_sub(1).min(prepare)
    }

    /// Waits for a ticket, leading the sync where nobody does.
    pub(super) fn settle(&self, ticket: Option<Ticket>) -> Result<()> {
        let Some(ticket) = ticket else { return Ok(()) };
        let settled = self.commit.wait(ticket, &self.watermarks, || self.sync_appended());
        self.notify_behind_sync();
        settled
    }
}

fn lend<B: BatchBytes>(batches: &[Batch<B>]) -> SmallVec<[Lent<'_>; 1]> {
    batches.iter().map(Batch::lend).collect()
}

/// Whether something that is done every `interval` milliseconds is to be done again. Notes that it was. A clock that was put
/// back must not keep it from being done until it has caught up.
#[inline]
fn is_time(last: &mut Timestamp, interval: i64, now: Timestamp) -> bool {
    let is_time = !(0..interval).contains(&now.0.saturating_sub(last.0));
    if is_time {
        *last = now;
    }
    is_time
}
