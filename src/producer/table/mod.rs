//! All producers of a partition.
//!
//! Nothing here costs time in proportion to their number, except what says so: memory grows in small chunks that never
//! move, the index by one bucket at a time, and expiry works in bounded steps.
//!
//! - here: the table, what it is asked, and how it keeps its entries.
//! - `absorb`: what a batch or a marker changes.
//! - `forgetting`: eviction, expiry, and rounds through a table in steps.

mod absorb;
mod forgetting;

use smallvec::SmallVec;

use super::clock::HostClock;
use super::decision::{Context, Decision, Subject, decide, decide_plain};
use super::entry::{Entry, EntryView, ProducerInfo, Side, StoredBatch};
use super::index::Index;
use super::policy::ProducerPolicy;
use super::recency::Recency;
use super::slab::{NONE, Pool, Slab};
use super::window::Ring;
use crate::batch::BatchHeader;
use crate::error::Rejection;
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};
use forgetting::Spare;
pub(crate) use forgetting::TableCursor;

/// Where the producer of a plain batch is in a table, as long as nothing changes there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainProducer(u32);

/// How many producers above the budget a replay keeps. It cannot tell who was forgotten meanwhile, and must forget nobody who was
/// not; but a log may tell of any number.
const REPLAYED_ABOVE_BUDGET: usize = 1 << 20;

/// Nobody has counted up to here: a client made the id up, and ids are not given out from behind it, where few are left.
const MADE_UP_FROM: ProducerId = ProducerId(1 << 62);

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

/// Whether some batch of a window does not go on behind the one before.
fn have_jumps(older: &[StoredBatch], last: StoredBatch) -> bool {
    let mut previous = StoredBatch::ABSENT;
    let mut batches = older.iter().copied().chain(last.present());
    batches.any(|batch| !batch.goes_on_behind(std::mem::replace(&mut previous, batch)))
}
