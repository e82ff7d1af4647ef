//! What batches and markers change: windows, epochs, transactions, and who was seen last.

use super::forgetting::Spare;
use super::{ProducerTable, is_plain};
use crate::batch::{BatchHeader, ControlRecord};
use crate::producer::decision::goes_on;
use crate::producer::entry::{Entry, StoredBatch};
use crate::producer::policy::SequenceRule;
use crate::producer::slab::{NONE, Pool};
use crate::producer::window::Ring;
use crate::transaction::TransactionEffect;
use crate::types::{ProducerEpoch, ProducerId, Timestamp};

impl ProducerTable {
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
    pub(super) fn absorb_plain(&mut self, slot: u32, batch: StoredBatch) {
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

    pub(super) fn forget_window(&mut self, slot: u32) {
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
