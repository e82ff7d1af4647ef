//! The append path: check without the lock; under it judge, copy, stamp, index, apply, publish.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::background::Chore;
use super::commit::Ticket;
use super::options::Durability;
use super::{Appender, Log, Pending, Shared};
use crate::batch::{Batch, BatchHeader};
use crate::error::{BatchError, Error, Result};
use crate::producer::{Context, Decision, Duplicate, Origin, Staging};
use crate::segment::Stamps;
use crate::types::{LeaderEpoch, Offset, OffsetRange, Timestamp};

/// Choices for one append.
///
/// ```
/// use idemlog::{AppendOptions, Durability};
///
/// let options = AppendOptions::default().durability(Durability::Buffered);
/// assert_eq!(options.durability, Some(Durability::Buffered));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendOptions {
    /// What this append survives once it is acknowledged. Default: as the log.
    pub durability: Option<Durability>,
    /// The leader epoch to stamp. Default: the log's.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl AppendOptions {
    /// Sets [`durability`](Self#structfield.durability).
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Sets [`leader_epoch`](Self#structfield.leader_epoch).
    #[must_use]
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }
}

/// Where a batch is stored: now, or since it was sent the first time.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let id = dir.new_producer_id()?;
/// let batch = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?;
///
/// let first = log.append(&batch)?;
/// let again = log.append(&batch)?;
/// assert!(!first.is_duplicate() && again.is_duplicate());
/// assert_eq!(first.offsets(), again.offsets());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    duplicate: bool,
    offsets: Option<OffsetRange>,
    timestamp: Timestamp,
    same_bytes: Option<bool>,
}

impl AppendOutcome {
    fn appended(header: &BatchHeader) -> Self {
        Self {
            duplicate: false,
            offsets: Some(header.offsets()),
            timestamp: header.max_timestamp,
            same_bytes: None,
        }
    }

    fn duplicate(duplicate: &Duplicate) -> Self {
        Self {
            duplicate: true,
            offsets: duplicate.original,
            timestamp: duplicate.timestamp,
            same_bytes: duplicate.same_bytes,
        }
    }

    /// Whether the batch was stored before and this append changed nothing.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// The offsets under which the batch is stored. `None` only for a duplicate older than the window under
    /// [`SequenceRule::Increasing`](crate::SequenceRule::Increasing).
    pub fn offsets(&self) -> Option<OffsetRange> {
        self.offsets
    }

    /// The offset of the first record; -1 where [`offsets`](Self::offsets) is `None`.
    pub fn base_offset(&self) -> Offset {
        self.offsets.map_or(Offset(-1), |offsets| offsets.first)
    }

    /// The offset of the last record; -1 where [`offsets`](Self::offsets) is `None`.
    pub fn last_offset(&self) -> Offset {
        self.offsets.map_or(Offset(-1), |offsets| offsets.last)
    }

    /// The largest timestamp of the stored batch.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// For a duplicate: whether the bytes sent now are those stored, where that is known.
    pub fn same_bytes(&self) -> Option<bool> {
        self.same_bytes
    }
}

/// What the append path found for each batch of a call.
type Decisions = SmallVec<[Decision; 1]>;
/// One outcome per batch of a call.
pub(super) type Outcomes = SmallVec<[AppendOutcome; 1]>;

/// What an append lacks before it can go on. Made without the append lock.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Blocks of the disk up to this position of the active segment.
    Blocks(u64),
    /// A writer for the last segment, which was opened or recovered.
    Writer,
    /// A new segment.
    Segment,
}

/// The room that the new batches of a call take.
#[derive(Clone, Copy, Debug)]
struct Demand {
    bytes: u64,
    offsets: i64,
    /// That of the first batch.
    timestamp: Timestamp,
}

impl Demand {
    /// `None` if no batch is new.
    fn of(batches: &[Batch], decisions: &Decisions) -> Option<Self> {
        let mut demand: Option<Self> = None;
        for (batch, decision) in batches.iter().zip(decisions) {
            if matches!(decision, Decision::Append) {
                let header = batch.header();
                let nothing = Self { bytes: 0, offsets: 0, timestamp: header.max_timestamp };
                let demand = demand.get_or_insert(nothing);
                demand.bytes += header.size() as u64;
                demand.offsets += i64::from(header.last_offset_delta) + 1;
            }
        }
        demand
    }
}

impl Log {
    /// Stores a batch, or recognises it as stored already, and waits until that is as durable as the log's
    /// [`Durability`] says.
    ///
    /// A crash before it returns leaves the batch stored whole or not at all; sending it again tells which.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidBatch`] and [`Error::Rejected`]: the batch is not acceptable, and the log is unchanged.
    /// [`Error::Io`] for a full disk: unchanged, and appends go on when there is room. [`Error::Poisoned`] after a
    /// failed sync. [`Error::InDoubt`], [`Error::Truncated`]: stored, but not known to be durable.
    pub fn append(&self, batch: &Batch) -> Result<AppendOutcome> {
        let (mut outcomes, ticket) =
            self.shared.place(std::slice::from_ref(batch), AppendOptions::default(), true)?;
        self.shared.settle(ticket)?;
        outcomes.pop().ok_or(Error::Closed)
    }

    /// The same for several batches, which are judged one after the other: duplicates are answered, new ones stored,
    /// and if one is refused, none is stored. Readers see all of them at once; a crash may leave a prefix.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); all batches together may not be larger than a segment.
    pub fn append_all(&self, batches: &[Batch]) -> Result<Vec<AppendOutcome>> {
        let (outcomes, ticket) = self.shared.place(batches, AppendOptions::default(), true)?;
        self.shared.settle(ticket)?;
        Ok(outcomes.into_vec())
    }

    /// Stores batches as [`append_all`](Self::append_all) does, and returns before they are durable. Waits only while
    /// more than [`LogOptions::max_unsynced_bytes`](crate::LogOptions) or `max_pending` is not durable yet.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for what can happen while waiting.
    pub fn submit(&self, batches: &[Batch], options: AppendOptions) -> Result<Pending> {
        let (outcomes, ticket) = self.shared.place(batches, options, true)?;
        self.shared.request_sync(ticket);
        Ok(Pending::new(self.shared.clone(), outcomes, ticket))
    }

    /// The same as [`submit`](Self::submit), never waiting.
    ///
    /// # Errors
    ///
    /// [`Error::WouldBlock`] where `submit` would wait; nothing is stored.
    pub fn try_submit(&self, batches: &[Batch], options: AppendOptions) -> Result<Pending> {
        let (outcomes, ticket) = self.shared.place(batches, options, false)?;
        self.shared.request_sync(ticket);
        Ok(Pending::new(self.shared.clone(), outcomes, ticket))
    }
}

impl Shared {
    /// Stores batches. The ticket is `None` when they are as durable as they must be.
    fn place(
        &self,
        batches: &[Batch],
        options: AppendOptions,
        may_wait: bool,
    ) -> Result<(Outcomes, Option<Ticket>)> {
        self.check(batches)?;
        self.within_bounds(may_wait)?;
        let (outcomes, ticket, roll) = self.place_checked(batches, options)?;
        if roll && !self.environment.queue.has_workers() {
            self.do_chores();
        }
        self.tail.notify();
        let durability = options.durability.unwrap_or(self.options().durability);
        Ok((outcomes, ticket.filter(|_| durability == Durability::Synced)))
    }

    /// What can be said of batches without knowing the log.
    fn check(&self, batches: &[Batch]) -> Result<()> {
        if self.environment.read_only {
            return Err(Error::ReadOnly { path: self.directory.clone() });
        }
        let too_large =
            |limit: u32, got, option| Err(BatchError::TooLarge { limit: limit as usize, got, option }.into());
        let mut total = 0;
        for batch in batches {
            let size = batch.bytes().len();
            if size > self.options().max_batch_bytes as usize {
                return too_large(self.options().max_batch_bytes, size, "max_batch_bytes");
            }
            batch.check_client_rules()?;
            batch.ensure_checked(self.options().record_check, self.options().max_decompressed_bytes)?;
            total += size;
        }
        if total > self.options().segment_bytes as usize {
            return too_large(self.options().segment_bytes, total, "segment_bytes");
        }
        Ok(())
    }

    /// Waits while too much is not durable yet.
    fn within_bounds(&self, may_wait: bool) -> Result<()> {
        while let Some(bound) = self.backlog.exceeds(&self.options()) {
            if !may_wait {
                return Err(Error::WouldBlock { bound });
            }
            self.counters.budget_stalls.add(1);
            self.sync()?;
        }
        Ok(())
    }

    /// Judges and stores under the lock; lets go of it to get what is missing, and then judges again.
    fn place_checked(
        &self,
        batches: &[Batch],
        options: AppendOptions,
    ) -> Result<(Outcomes, Option<Ticket>, bool)> {
        loop {
            let mut appender = self.appender.lock();
            self.commit.check()?;
            if appender.closing {
                return Err(Error::Closed);
            }
            let now = self.now();
            let decisions = self.judge(&appender, batches, now)?;
            let rolled = match self.make_room(&mut appender, batches, &decisions, now) {
                Ok(rolled) => rolled,
                Err(need) => {
                    drop(appender);
                    // A file that is not found may be that of a log that was deleted meanwhile.
                    self.provide(need).or_else(|error| self.commit.check().and(Err(error)))?;
                    continue;
                }
            };
            let (outcomes, target) = self.store(&mut appender, batches, &decisions, options, now)?;
            let generation = self.commit.generation();
            let urgent = self.request_chores(&mut appender, now) || rolled;
            drop(appender);
            return Ok((outcomes, target.map(|target| Ticket { target, generation }), urgent));
        }
    }

    fn judge(&self, appender: &Appender, batches: &[Batch], now: Timestamp) -> Result<Decisions> {
        let context = |header: &BatchHeader| Context {
            origin: Origin::Client,
            log_is_empty: self.log_is_empty(),
            fenced_below: self.environment.fences.get(header.producer_id),
            now,
        };
        let decided = if let [batch] = batches {
            let header = batch.header();
            appender.producers.decide(header, &context(header)).map(|decision| SmallVec::from_buf([decision]))
        } else {
            let mut staging = Staging::new(&appender.producers);
            let mut next_offset = self.watermarks.log_end();
            let judge = |batch: &Batch| {
                let header = batch.header();
                let decision = staging.decide(header, &context(header))?;
                if matches!(decision, Decision::Append) {
                    let placed = BatchHeader { base_offset: next_offset, ..*header };
                    staging.stage(&placed, None, now);
                    next_offset = placed.next_offset();
                }
                Ok(decision)
            };
            batches.iter().map(judge).collect()
        };
        decided.map_err(|rejection: crate::error::Rejection| {
            self.counters.refused(rejection.reason);
            rejection.into()
        })
    }

    /// Sees that the active segment can take the batches, rolling if the next one is ready. `true` if it rolled.
    fn make_room(
        &self,
        appender: &mut Appender,
        batches: &[Batch],
        decisions: &Decisions,
        now: Timestamp,
    ) -> Result<bool, Need> {
        let Some(demand) = Demand::of(batches, decisions) else { return Ok(false) };
        let mut rolled = false;
        if self.must_roll(appender, &demand, now)? {
            self.roll_locked(appender)?;
            rolled = true;
        }
        let writer = appender.writer.as_ref().ok_or(Need::Segment)?;
        let end = writer.position() + demand.bytes;
        if end > writer.segment().file().allocated() { Err(Need::Blocks(end)) } else { Ok(rolled) }
    }

    /// Kafka's rule (`LogSegment.shouldRoll`): the segment would become too large, is too old, an index is full, or the
    /// last offset is too far from the base.
    fn must_roll(&self, appender: &Appender, demand: &Demand, now: Timestamp) -> Result<bool, Need> {
        let Some(writer) = &appender.writer else {
            return if self.last_segment_takes_more() { Err(Need::Writer) } else { Ok(true) };
        };
        let base = writer.segment().base_offset();
        let last_offset = self.watermarks.log_end() + (demand.offsets - 1);
        if last_offset - base > i64::from(i32::MAX) {
            return Ok(true);
        }
        Ok(writer.position() > 0
            && (writer.position() + demand.bytes > u64::from(self.options().segment_bytes)
                || writer.age(demand.timestamp, now) > self.options().segment_ms
                || writer.indexes_are_full()))
    }

    /// Without a writer: whether the last segment is one that appends may go on in.
    fn last_segment_takes_more(&self) -> bool {
        self.segments
            .load()
            .last()
            .is_some_and(|last| last.file().end() < u64::from(self.options().segment_bytes))
    }

    /// Takes the prepared segment as the active one.
    fn roll_locked(&self, appender: &mut Appender) -> Result<(), Need> {
        let prepared = appender.prepared.take().ok_or(Need::Segment)?;
        self.activate(appender, prepared);
        Ok(())
    }

    fn provide(&self, need: Need) -> Result<()> {
        match need {
            Need::Blocks(end) => {
                self.counters.page_stalls.add(1);
                self.allocate(end)
            }
            Need::Writer => self.open_writer(),
            Need::Segment => {
                self.counters.segment_stalls.add(1);
                self.prepare()
            }
        }
    }

    /// Copies the new batches, applies them to the producers, and publishes them. Returns the outcomes and up to where
    /// the log must be durable for all of them to be.
    fn store(
        &self,
        appender: &mut Appender,
        batches: &[Batch],
        decisions: &Decisions,
        options: AppendOptions,
        now: Timestamp,
    ) -> Result<(Outcomes, Option<Offset>)> {
        let mut outcomes = Outcomes::new();
        let mut target = None;
        // Recovery takes no batch behind one of a higher leader epoch, so none is written.
        let latest = appender.leader_epochs.latest().map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| epoch);
        let leader_epoch = options.leader_epoch.unwrap_or(appender.leader_epoch).max(latest);
        for (batch, decision) in batches.iter().zip(decisions) {
            let (outcome, durable_at) = match decision {
                Decision::Duplicate(duplicate) => {
                    self.counters.duplicates.add_locked(1);
                    (AppendOutcome::duplicate(duplicate), duplicate.durable_at)
                }
                Decision::Append => {
                    let header = self.write(appender, batch, leader_epoch)?;
                    (AppendOutcome::appended(&header), header.next_offset())
                }
            };
            target = target.max(Some(durable_at));
            outcomes.push(outcome);
        }
        if outcomes.iter().any(|outcome| !outcome.is_duplicate()) {
            self.publish(appender, leader_epoch, now)?;
        }
        Ok((outcomes, target))
    }

    /// Copies one batch behind the others of its call. Nobody sees it yet.
    fn write(
        &self,
        appender: &mut Appender,
        batch: &Batch,
        leader_epoch: LeaderEpoch,
    ) -> Result<BatchHeader> {
        let writer = appender.writer.as_mut().ok_or(Error::Closed)?;
        let stamps = Stamps { base_offset: writer.next_offset(), leader_epoch };
        writer.write(batch.header(), &stamps, batch.bytes())?;
        Ok(BatchHeader { base_offset: stamps.base_offset, leader_epoch, ..*batch.header() })
    }

    fn publish(&self, appender: &mut Appender, leader_epoch: LeaderEpoch, now: Timestamp) -> Result<()> {
        let Appender { writer, producers, leader_epochs, since_checkpoint, .. } = appender;
        let writer = writer.as_mut().ok_or(Error::Closed)?;
        let (first_offset, from) = (self.watermarks.log_end(), writer.segment().file().end());
        let mut count = 0;
        writer.publish(|batch| {
            producers.apply(&batch.header, None, now);
            count += 1;
        })?;
        leader_epochs.assign(leader_epoch, first_offset);
        let bytes = writer.position() - from;
        *since_checkpoint += bytes;
        self.counters.appended_batches.add_locked(count);
        self.counters.appended_bytes.add_locked(bytes);
        self.backlog.appended_bytes.store(self.counters.appended_bytes.get(), Ordering::Relaxed);
        self.backlog.appended.store(self.counters.appended_batches.get(), Ordering::Relaxed);
        self.environment.space.give_back(bytes);
        self.watermarks.set_log_end(writer.next_offset());
        Ok(())
    }

    /// Asks for what the next appends will need. `true` if somebody must do it now when there are no workers.
    fn request_chores(&self, appender: &mut Appender, now: Timestamp) -> bool {
        let Some(writer) = &appender.writer else { return false };
        let position = writer.position();
        if self.environment.queue.has_workers() {
            if position >= appender.pace.look_again {
                self.request(Chore::Populate);
            }
            let nearly_full = position > u64::from(self.options().segment_bytes) / 4 * 3;
            if nearly_full && appender.prepared.is_none() {
                self.request(Chore::Prepare);
            }
        }
        let checkpoint = appender.since_checkpoint >= self.options().snapshot_interval_bytes;
        if checkpoint {
            appender.since_checkpoint = 0;
            self.request(Chore::Checkpoint);
        }
        let interval = self.options().expiry_interval_ms;
        let expire = now.0.saturating_sub(appender.expired_at.0) >= interval;
        if expire {
            appender.expired_at = now;
            self.request(Chore::Expire);
        }
        let retain = self.request_due_retention(appender, now);
        checkpoint || expire || retain
    }

    /// Waits for a ticket, leading the sync where nobody does.
    pub(super) fn settle(&self, ticket: Option<Ticket>) -> Result<()> {
        ticket.map_or(Ok(()), |ticket| {
            self.commit
                .wait(ticket, &self.watermarks, || self.sync_appended())
                .inspect(|()| self.tail.notify())
        })
    }

    fn request_sync(&self, ticket: Option<Ticket>) {
        if ticket.is_some() && self.environment.queue.has_workers() {
            self.request(Chore::Sync);
        }
    }
}
