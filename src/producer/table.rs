//! All producers of a partition.
//!
//! Nothing here costs time in proportion to their number, except what says so: memory grows in small chunks that never
//! move, the index by one bucket at a time, and expiry works in bounded steps.

use std::ops::Range;

use smallvec::SmallVec;

use super::clock::HostClock;
use super::decision::{Context, Decision, Subject, decide, decide_plain, goes_on};
use super::entry::{Entry, EntryView, ProducerInfo, Side, StoredBatch};
use super::index::Index;
use super::policy::{ExpiryClock, ProducerPolicy, SequenceRule};
use super::recency::Recency;
use super::slab::{NONE, Pool, Slab};
use super::window::Ring;
use crate::batch::{BatchHeader, ControlRecord};
use crate::error::Rejection;
use crate::transaction::TransactionEffect;
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// Where a round of steps through a table has got to: [`ProducerTable::expire_step`], [`ProducerTable::copy_step`]. Downwards:
/// removing moves the last entry into the hole, and that one was looked at before. So a round leaves nobody out that is there from
/// its beginning to its end, and may come by a moved one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableCursor(u32);

impl TableCursor {
    /// The beginning of a round.
    pub(crate) const START: Self = Self(NONE);
}

/// Where the producer of a plain batch is in a table, as long as nothing changes there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainProducer(u32);

/// How many producers above the budget a replay keeps. It cannot tell who was forgotten meanwhile, and must forget nobody who was
/// not; but a log may tell of any number.
const REPLAYED_ABOVE_BUDGET: usize = 1 << 20;

/// Nobody has counted up to here: a client made the id up, and ids are not given out from behind it, where few are left.
const MADE_UP_FROM: ProducerId = ProducerId(1 << 62);

/// Whom eviction may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    /// Nobody who appended a short while ago, since its client may send again.
    Recent,
    /// Nobody: the past is being replayed, and there is no room for all of it.
    Nobody,
}

fn cursor_behind(slots: &Range<u32>) -> Option<TableCursor> {
    (slots.start > 0).then_some(TableCursor(slots.start))
}

/// The producers of a partition, with what is needed to judge their next batch.
#[derive(Clone, Debug)]
pub(crate) struct ProducerTable {
    pub(super) policy: ProducerPolicy,
    pub(super) entries: Slab<Entry>,
    pub(super) index: Index,
    pub(super) recency: Recency,
    pub(super) older: Pool<StoredBatch>,
    sides: Pool<Side>,
    highest_id: Option<ProducerId>,
    pub(super) clock: HostClock,
    expiries: u64,
    evictions: u64,
    /// How many tables there were before it in its place.
    generation: u64,
}

impl ProducerTable {
    /// An empty table. Allocates nothing.
    pub(crate) fn new(policy: ProducerPolicy) -> Self {
        let older = Pool::new(usize::from(policy.window.max(2)) - 1);
        Self {
            policy,
            entries: Slab::new(1),
            index: Index::new(),
            recency: Recency::new(),
            older,
            sides: Pool::new(1),
            highest_id: None,
            clock: HostClock::default(),
            expiries: 0,
            evictions: 0,
            generation: 0,
        }
    }

    /// Judges and forgets by `policy` from now on. Window and sequence rule must be the same.
    pub(crate) fn set_policy(&mut self, policy: ProducerPolicy) {
        debug_assert!(
            policy.window == self.policy.window && policy.sequence_rule == self.policy.sequence_rule
        );
        self.policy = policy;
    }

    /// How many producers are known.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many producers were forgotten because they were idle for too long.
    pub(crate) fn expiries(&self) -> u64 {
        self.expiries
    }

    /// How many producers were forgotten to make room for others.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether any producer was forgotten: if none was, all that the log tells of are here.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.expiries + self.evictions > 0
    }

    /// Goes on counting where `before` has stopped, in whose place it comes.
    pub(crate) fn succeed(&mut self, before: &Self) {
        self.expiries += before.expiries;
        self.evictions += before.evictions;
        self.generation = before.generation + 1;
        self.highest_id = self.highest_id.max(before.highest_id);
    }

    /// Which of the tables it is that came one in the place of the other: a cursor is good for one.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Notes the host's time.
    pub(crate) fn observe(&mut self, now: Timestamp) {
        self.clock.observe(now);
    }

    /// What is known of a producer.
    pub(crate) fn get(&self, id: ProducerId) -> Option<ProducerInfo> {
        self.find(id).map(|slot| self.info(slot))
    }

    /// Whether there is an entry for `id`.
    pub(crate) fn knows(&self, id: ProducerId) -> bool {
        self.find(id).is_some()
    }

    /// The producer's epoch: older ones are fenced.
    pub(crate) fn epoch(&self, id: ProducerId) -> Option<ProducerEpoch> {
        self.find(id).map(|slot| self.entries[slot].epoch)
    }

    /// Whether the producer's transaction is open, in this epoch.
    pub(crate) fn has_open_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.find(id).is_some_and(|slot| self.view(slot).has_open_transaction(epoch))
    }

    /// All producers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ProducerInfo> {
        (0..self.len() as u32).map(|slot| self.info(slot))
    }

    /// Their ids, in no order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ProducerId> {
        self.views().map(|view| view.entry.producer_id)
    }

    /// The ids of those that may be forgotten, in no order: who has a transaction open may not.
    pub(crate) fn ids_at_rest(&self) -> impl Iterator<Item = ProducerId> {
        let at_rest = self.views().filter(|view| view.side.transaction_first.is_none());
        at_rest.map(|view| view.entry.producer_id)
    }

    /// The highest producer id below 2^62 that was ever known.
    pub(crate) fn highest_id(&self) -> Option<ProducerId> {
        self.highest_id
    }

    /// The open transactions, in no order.
    pub(crate) fn open_transactions(&self) -> impl Iterator<Item = (Offset, ProducerId)> {
        // Few have a side, so the entries are not looked through.
        let open =
            |(side, owner): (&Side, u32)| Some((side.transaction_first?, self.entries[owner].producer_id));
        self.sides.iter().filter_map(open)
    }

    /// Judges a batch. Changes nothing.
    #[inline(never)]
    pub(crate) fn decide(&self, header: &BatchHeader, context: &Context) -> Result<Decision, Rejection> {
        decide(&self.subject(header.producer_id, context.now), header, context, &self.policy)
    }

    /// Judges what most batches are, if this is one: a client's data outside of transactions, without a producer or in the
    /// current epoch of one that is known and has no side. Says what [`decide`](Self::decide) says, and where the producer
    /// is; nothing of other batches, nor of those that are refused.
    #[inline(always)]
    pub(crate) fn decide_plain(&self, header: &BatchHeader) -> Option<(PlainProducer, Decision)> {
        if header.is_control() || header.is_transactional() {
            return None;
        }
        if !header.is_idempotent() {
            return Some((PlainProducer(NONE), Decision::Append));
        }
        let (slot, entry) = self.index.find(&self.entries, header.producer_id)?;
        if !is_plain(entry, header) {
            return None;
        }
        Some((PlainProducer(slot), decide_plain(self.view_of(entry), header, &self.policy)?))
    }

    /// Takes over a batch that [`decide_plain`](Self::decide_plain) just found new and that was stored at `base_offset`, as
    /// [`apply`](Self::apply) does.
    #[inline(always)]
    pub(crate) fn apply_plain(
        &mut self,
        producer: PlainProducer,
        header: &BatchHeader,
        base_offset: Offset,
        now: Timestamp,
    ) {
        self.clock.observe(now);
        if producer.0 != NONE {
            self.absorb_plain(producer.0, StoredBatch::of(header, base_offset));
        }
    }

    #[inline(always)]
    fn subject(&self, id: ProducerId, now: Timestamp) -> Subject<'_> {
        match self.index.find(&self.entries, id) {
            Some((_, entry)) => Subject::Known(self.view_of(entry)),
            None => Subject::unknown(self.has_room(now)),
        }
    }

    fn has_room(&self, now: Timestamp) -> bool {
        self.len() < self.policy.budget || self.victim(Spare::Recent, now).is_some()
    }

    /// Takes over a batch that was stored at `header.base_offset`. Never refuses: what is in the log is right.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        now: Timestamp,
    ) -> Option<TransactionEffect> {
        self.absorb(header, control, now, Spare::Recent)
    }

    /// As [`apply`](Self::apply), for a batch that was stored before now. Nobody makes room: it does not tell when its
    /// producer was seen, nor who had expired by then. Whoever replays forgets afterwards those who are known to be
    /// forgotten, or [`evict_excess`](Self::evict_excess).
    pub(crate) fn replay(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        now: Timestamp,
    ) -> Option<TransactionEffect> {
        self.absorb(header, control, now, Spare::Nobody)
    }

    fn absorb(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        now: Timestamp,
        spare: Spare,
    ) -> Option<TransactionEffect> {
        self.clock.observe(now);
        if !header.is_idempotent() {
            return None;
        }
        if header.is_control() {
            return self.absorb_control(header, control, now, spare);
        }
        let slot = self.find_or_create(header, spare, now);
        let is_numbered = header.base_sequence.0 >= 0;
        if header.is_transactional() || !is_numbered || !is_plain(&self.entries[slot], header) {
            return self.absorb_data(slot, header);
        }
        self.leave_ended_run(slot, header);
        self.absorb_plain(slot, StoredBatch::of(header, header.base_offset));
        None
    }

    #[inline(never)]
    fn absorb_control(
        &mut self,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        now: Timestamp,
        spare: Spare,
    ) -> Option<TransactionEffect> {
        // Compaction leaves the headers of empty control batches behind: those say nothing.
        let (coordinator_epoch, aborted) = match control.filter(|_| header.record_count > 0)? {
            ControlRecord::Commit { coordinator_epoch } => (coordinator_epoch, false),
            ControlRecord::Abort { coordinator_epoch } => (coordinator_epoch, true),
            ControlRecord::Other { .. } => return None,
        };
        let slot = self.find_or_create(header, spare, now);
        let opened = self.side(slot).transaction_first;
        self.absorb_marker(slot, header, coordinator_epoch);
        self.touch(slot, opened.is_some());
        let (producer_id, marker) = (header.producer_id, header.base_offset);
        opened.map(|first_offset| TransactionEffect::Ended { producer_id, first_offset, marker, aborted })
    }

    /// Takes over data outside of transactions that [`is_plain`] for its producer, whose window alone changes.
    #[inline(always)]
    fn absorb_plain(&mut self, slot: u32, batch: StoredBatch) {
        let entry = &mut self.entries[slot];
        entry.last_seen = self.clock.second();
        remember(entry, slot, &mut self.older, self.policy.window, batch);
        if !self.recency.is_most_recent(slot) {
            self.make_most_recent(slot, false);
        }
    }

    #[inline(never)]
    fn absorb_data(&mut self, slot: u32, header: &BatchHeader) -> Option<TransactionEffect> {
        let was_open = self.side(slot).transaction_first.is_some();
        if header.producer_epoch >= self.entries[slot].epoch {
            self.enter_epoch(slot, header.producer_epoch);
            self.absorb_batch(slot, header);
        }
        let (producer_id, first_offset) = (header.producer_id, header.base_offset);
        let begins = !was_open && header.is_transactional();
        if begins {
            self.update_side(slot, |side| side.transaction_first = Some(first_offset));
        }
        self.touch(slot, was_open);
        begins.then_some(TransactionEffect::Began { producer_id, first_offset })
    }

    fn absorb_batch(&mut self, slot: u32, header: &BatchHeader) {
        if self.policy.sequence_rule == SequenceRule::Increasing && header.base_sequence.0 < 0 {
            // The last batch tells the highest sequence, and must go on doing so.
            self.update_side(slot, |side| side.marker_timestamp = Some(header.max_timestamp));
            return;
        }
        self.leave_ended_run(slot, header);
        let batch = StoredBatch::of(header, header.base_offset);
        remember(&mut self.entries[slot], slot, &mut self.older, self.policy.window, batch);
        self.forget_in_side(slot, |side| side.marker_timestamp = None);
    }

    /// The window goes of a producer that had been forgotten where the batch was appended, and began anew with it. What
    /// fences stays.
    #[inline]
    fn leave_ended_run(&mut self, slot: u32, header: &BatchHeader) {
        let is_numbered = header.base_sequence.0 >= 0;
        if is_numbered && !goes_on(self.view(slot), header, &self.policy) {
            self.forget_window(slot);
        }
    }

    fn absorb_marker(&mut self, slot: u32, header: &BatchHeader, coordinator_epoch: i32) {
        let current = self.entries[slot].epoch;
        if header.producer_epoch > current {
            self.enter_epoch(slot, header.producer_epoch);
        }
        self.update_side(slot, |side| {
            side.transaction_first = None;
            if header.producer_epoch >= current {
                side.coordinator_epoch = Some(coordinator_epoch);
                side.marker_timestamp = Some(header.max_timestamp);
            }
        });
    }

    /// A batch or marker of an epoch not older than the current one came.
    #[inline]
    fn enter_epoch(&mut self, slot: u32, epoch: ProducerEpoch) {
        let entry = &self.entries[slot];
        if epoch > entry.epoch || entry.side != NONE {
            self.leave_older_epoch(slot, epoch);
        }
    }

    /// The window of an older epoch goes.
    #[inline(never)]
    fn leave_older_epoch(&mut self, slot: u32, epoch: ProducerEpoch) {
        let before = std::mem::replace(&mut self.entries[slot].epoch, epoch);
        let raised = epoch > before;
        let fenced = self.side(slot).fenced_epoch.is_some();
        self.forget_in_side(slot, |side| side.fenced_epoch = None);
        if raised || fenced {
            match self.policy.sequence_rule {
                SequenceRule::Contiguous => self.forget_window(slot),
                SequenceRule::Increasing => self.forget_bytes(slot),
            }
        }
    }

    /// Refuses the producer's older epochs from now on, if it is known. Its last batch stays readable until one of the
    /// new epoch comes.
    pub(crate) fn raise_epoch(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        if let Some(slot) = self.find(id) {
            self.raise_epoch_at(slot, epoch);
        }
    }

    /// The same for all for whom there is a `fence`.
    pub(crate) fn raise_epochs(&mut self, fence: impl Fn(ProducerId) -> Option<ProducerEpoch>) {
        for slot in 0..self.len() as u32 {
            if let Some(epoch) = fence(self.entries[slot].producer_id) {
                self.raise_epoch_at(slot, epoch);
            }
        }
    }

    fn raise_epoch_at(&mut self, slot: u32, epoch: ProducerEpoch) {
        let before = self.entries[slot].epoch;
        if epoch <= before {
            return;
        }
        self.entries[slot].epoch = epoch;
        if self.entries[slot].last.present().is_some() {
            self.update_side(slot, |side| side.fenced_epoch = side.fenced_epoch.or(Some(before)));
        }
    }

    fn forget_window(&mut self, slot: u32) {
        let entry = &mut self.entries[slot];
        entry.last = StoredBatch::ABSENT;
        (entry.ring, entry.has_jumps) = (Ring::of(0), false);
        let handle = std::mem::replace(&mut entry.older, NONE);
        if handle != NONE
            && let Some(owner) = self.older.release(handle)
        {
            self.entries[owner].older = handle;
        }
    }

    /// The CRC covers the producer epoch: those of older epochs say nothing about what is sent now.
    fn forget_bytes(&mut self, slot: u32) {
        let entry = &mut self.entries[slot];
        entry.last.crc = 0;
        if entry.older != NONE {
            self.older.blocks.block_mut(entry.older).iter_mut().for_each(|batch| batch.crc = 0);
        }
    }

    /// The producer was seen now. It is in the recency list unless its transaction is open.
    #[inline]
    fn touch(&mut self, slot: u32, was_open: bool) {
        let entry = &mut self.entries[slot];
        entry.last_seen = self.clock.second();
        if !self.recency.is_most_recent(slot) || entry.side != NONE {
            self.make_most_recent(slot, was_open);
        }
    }

    #[inline(never)]
    fn make_most_recent(&mut self, slot: u32, was_open: bool) {
        if !was_open {
            self.recency.remove(&mut self.entries, slot);
        }
        if self.side(slot).transaction_first.is_none() {
            self.recency.push(&mut self.entries, slot);
        }
    }

    /// Forgets up to `count` producers above the budget, the least recent first, none that appended a short while ago.
    /// Returns how many.
    pub(crate) fn evict_excess(&mut self, count: usize, now: Timestamp) -> usize {
        self.clock.observe(now);
        let excess = self.len().saturating_sub(self.policy.budget).min(count);
        (0..excess).take_while(|_| self.evict_one(Spare::Recent, now)).count()
    }

    fn evict_one(&mut self, spare: Spare, now: Timestamp) -> bool {
        let Some(slot) = self.victim(spare, now) else { return false };
        self.remove(slot);
        self.evictions += 1;
        true
    }

    fn victim(&self, spare: Spare, now: Timestamp) -> Option<u32> {
        let slot = self.recency.least_recent;
        (slot != NONE && (spare == Spare::Nobody || self.may_be_evicted(slot, now))).then_some(slot)
    }

    pub(super) fn may_be_evicted(&self, slot: u32, now: Timestamp) -> bool {
        self.idle_ms(slot, now) >= self.policy.eviction_min_idle_ms
    }

    fn idle_ms(&self, slot: u32, now: Timestamp) -> i64 {
        self.clock.peek(now) - i64::from(self.entries[slot].last_seen) * 1000
    }

    /// Forgets the idle producers among the next `count`. Returns where to go on, `None` at the end of the round.
    pub(crate) fn expire_step(
        &mut self,
        cursor: TableCursor,
        count: usize,
        now: Timestamp,
    ) -> Option<TableCursor> {
        self.clock.observe(now);
        let slots = self.next_slots(cursor, count);
        for slot in slots.clone().rev() {
            if self.is_expired(slot, now) {
                self.remove(slot);
                self.expiries += 1;
            }
        }
        cursor_behind(&slots)
    }

    /// Adds the next `count` producers to `copied`. Returns where to go on, `None` at the end of the round.
    pub(crate) fn copy_step(
        &self,
        cursor: TableCursor,
        count: usize,
        copied: &mut Vec<ProducerInfo>,
    ) -> Option<TableCursor> {
        let slots = self.next_slots(cursor, count);
        copied.extend(slots.clone().map(|slot| self.info(slot)));
        cursor_behind(&slots)
    }

    fn next_slots(&self, cursor: TableCursor, count: usize) -> Range<u32> {
        let end = cursor.0.min(self.len() as u32);
        end.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX))..end
    }

    fn is_expired(&self, slot: u32, now: Timestamp) -> bool {
        let view = self.view(slot);
        let idle = match self.policy.expiry_clock {
            ExpiryClock::HostTime => self.idle_ms(slot, now),
            ExpiryClock::RecordTimestamp => now.0.saturating_sub(view.last_timestamp().0),
        };
        view.side.transaction_first.is_none() && idle >= self.policy.expiry_ms
    }

    #[inline]
    pub(super) fn find(&self, id: ProducerId) -> Option<u32> {
        self.index.find(&self.entries, id).map(|(slot, _)| slot)
    }

    #[inline]
    fn find_or_create(&mut self, header: &BatchHeader, spare: Spare, now: Timestamp) -> u32 {
        match self.find(header.producer_id) {
            Some(slot) => slot,
            None => self.create(header, spare, now),
        }
    }

    #[inline(never)]
    fn create(&mut self, header: &BatchHeader, spare: Spare, now: Timestamp) -> u32 {
        let above_budget = if spare == Spare::Nobody { REPLAYED_ABOVE_BUDGET } else { 0 };
        if self.len() >= self.policy.budget.saturating_add(above_budget) {
            self.evict_one(spare, now);
        }
        let slot = self.entries.push(Entry::new(header.producer_id, header.producer_epoch, 0));
        self.note_id(header.producer_id);
        self.index.insert(&mut self.entries, slot);
        self.recency.push(&mut self.entries, slot);
        slot
    }

    #[inline]
    fn note_id(&mut self, id: ProducerId) {
        if id < MADE_UP_FROM {
            self.highest_id = self.highest_id.max(Some(id));
        }
    }

    /// Forgets the producers that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(ProducerId) -> bool) {
        // Downwards: removing moves the last entry into the hole, and that one was looked at before.
        for slot in (0..self.len() as u32).rev() {
            if !keep(self.entries[slot].producer_id) {
                self.remove(slot);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        if self.side(slot).transaction_first.is_none() {
            self.recency.remove(&mut self.entries, slot);
        }
        self.forget_window(slot);
        self.set_side(slot, Side::NOTHING);
        self.index.remove(&mut self.entries, slot);
        if let Some(moved) = self.entries.swap_remove(slot) {
            self.relocated(moved, slot);
        }
    }

    /// Tells everyone who knows the entry by its old slot.
    fn relocated(&mut self, from: u32, to: u32) {
        let entry = self.entries[to];
        self.index.replace(&mut self.entries, entry.producer_id, from, to);
        self.older.set_owner(entry.older, to);
        self.sides.set_owner(entry.side, to);
        if self.side(to).transaction_first.is_none() {
            self.recency.relocate(&mut self.entries, to);
        }
    }

    #[inline]
    pub(super) fn side(&self, slot: u32) -> &Side {
        let handle = self.entries[slot].side;
        if handle == NONE { &Side::NOTHING } else { &self.sides.blocks[handle] }
    }

    /// Forgets something of a side, if there is one.
    #[inline]
    fn forget_in_side(&mut self, slot: u32, forget: impl FnOnce(&mut Side)) {
        if self.entries[slot].side != NONE {
            self.update_side(slot, forget);
        }
    }

    fn update_side(&mut self, slot: u32, change: impl FnOnce(&mut Side)) {
        let before = *self.side(slot);
        let mut side = before;
        change(&mut side);
        if side != before {
            self.set_side(slot, side);
        }
    }

    /// Only a side that says something takes room.
    fn set_side(&mut self, slot: u32, side: Side) {
        let handle = self.entries[slot].side;
        if side != Side::NOTHING {
            if handle == NONE {
                self.entries[slot].side = self.sides.allocate(slot, side);
            } else {
                self.sides.blocks[handle] = side;
            }
        } else if handle != NONE {
            self.entries[slot].side = NONE;
            if let Some(owner) = self.sides.release(handle) {
                self.entries[owner].side = handle;
            }
        }
    }

    #[inline]
    pub(super) fn view(&self, slot: u32) -> EntryView<'_> {
        self.view_of(&self.entries[slot])
    }

    /// All producers, in the order of their slots.
    pub(super) fn views(&self) -> impl Iterator<Item = EntryView<'_>> {
        self.entries.iter().map(|entry| self.view_of(entry))
    }

    #[inline(always)]
    fn view_of<'a>(&'a self, entry: &'a Entry) -> EntryView<'a> {
        let side = if entry.side == NONE { &Side::NOTHING } else { &self.sides.blocks[entry.side] };
        EntryView { entry, blocks: &self.older.blocks, side }
    }

    fn info(&self, slot: u32) -> ProducerInfo {
        self.view(slot).info(self.clock.to_host(self.entries[slot].last_seen))
    }

    /// Adds a producer that is not known, with all that is remembered of it: as the most recent, but to the index.
    #[inline]
    pub(super) fn restore(&mut self, entry: Entry, older: &[StoredBatch], side: Side) -> u32 {
        let slot = self.entries.push(Entry { older: NONE, ring: Ring::of(0), side: NONE, ..entry });
        self.note_id(entry.producer_id);
        let room = usize::from(self.policy.window) - 1;
        let older = &older[older.len().saturating_sub(room)..];
        if !older.is_empty() {
            let handle = self.older.allocate(slot, StoredBatch::ABSENT);
            self.older.blocks.block_mut(handle)[..older.len()].copy_from_slice(older);
            self.entries[slot].older = handle;
            self.entries[slot].ring = Ring::of(older.len());
        }
        self.entries[slot].has_jumps = have_jumps(older, entry.last);
        self.set_side(slot, side);
        if side.transaction_first.is_none() {
            self.recency.push(&mut self.entries, slot);
        }
        slot
    }

    /// Adds a copy of another table's producer, as the most recent.
    pub(super) fn adopt(&mut self, view: &EntryView<'_>) {
        let older: SmallVec<[_; 8]> = view.older().iter().copied().collect();
        self.insert(*view.entry, &older, *view.side);
    }

    /// As [`restore`](Self::restore), to the index as well.
    pub(super) fn insert(&mut self, entry: Entry, older: &[StoredBatch], side: Side) {
        let slot = self.restore(entry, older, side);
        self.index.insert(&mut self.entries, slot);
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.entries.allocated() + self.index.allocated() + self.older.allocated() + self.sides.allocated()
    }
}

/// Whether the batch is of the current epoch of a producer that has no side.
#[inline(always)]
fn is_plain(entry: &Entry, header: &BatchHeader) -> bool {
    entry.side == NONE && entry.epoch == header.producer_epoch
}

/// Makes the batch the last one of the window of the entry in `slot`; of a full window the oldest goes.
#[inline(always)]
fn remember(entry: &mut Entry, slot: u32, older: &mut Pool<StoredBatch>, window: u8, batch: StoredBatch) {
    let previous = std::mem::replace(&mut entry.last, batch);
    entry.has_jumps |= !batch.goes_on_behind(previous);
    if previous.present().is_none() || window == 1 {
        return;
    }
    if entry.older == NONE {
        entry.older = older.allocate(slot, StoredBatch::ABSENT);
    }
    let block = older.blocks.block_mut(entry.older);
    block[entry.ring.advance(block.len())] = previous;
}

/// Whether some batch of a window does not go on behind the one before.
fn have_jumps(older: &[StoredBatch], last: StoredBatch) -> bool {
    let mut previous = StoredBatch::ABSENT;
    let mut batches = older.iter().copied().chain(last.present());
    batches.any(|batch| !batch.goes_on_behind(std::mem::replace(&mut previous, batch)))
}
