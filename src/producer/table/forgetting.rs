//! Who is forgotten: by the budget, after idle time, or because a host says so; and the rounds of steps through a table.

use std::ops::Range;

use super::ProducerTable;
use crate::producer::entry::{ProducerInfo, Side};
use crate::producer::policy::ExpiryClock;
use crate::producer::slab::NONE;
use crate::types::{ProducerId, Timestamp};

/// Where a round of steps through a table has got to: [`ProducerTable::expire_step`], [`ProducerTable::copy_step`]. Downwards:
/// removing moves the last entry into the hole, and that one was looked at before. So a round leaves nobody out that is there from
/// its beginning to its end, and may come by a moved one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableCursor(u32);

impl TableCursor {
    /// The beginning of a round.
    pub(crate) const START: Self = Self(NONE);
}

/// Whom eviction may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spare {
    /// Nobody who appended a short while ago, since its client may send again.
    Recent,
    /// Nobody: the past is being replayed, and there is no room for all of it.
    Nobody,
}

impl ProducerTable {
    /// Forgets up to `count` producers above the budget, the least recent first, none that appended a short while ago.
    /// Returns how many.
    pub(crate) fn evict_excess(&mut self, count: usize, now: Timestamp) -> usize {
        self.clock.observe(now);
        let excess = self.len().saturating_sub(self.policy.budget).min(count);
        (0..excess).take_while(|_| self.evict_one(Spare::Recent, now)).count()
    }

    pub(super) fn evict_one(&mut self, spare: Spare, now: Timestamp) -> bool {
        let Some(slot) = self.victim(spare, now) else { return false };
        self.remove(slot);
        self.evictions += 1;
        true
    }

    pub(super) fn victim(&self, spare: Spare, now: Timestamp) -> Option<u32> {
        let slot = self.recency.least_recent;
        (slot != NONE && (spare == Spare::Nobody || self.may_be_evicted(slot, now))).then_some(slot)
    }

    pub(in crate::producer) fn may_be_evicted(&self, slot: u32, now: Timestamp) -> bool {
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
}

fn cursor_behind(slots: &Range<u32>) -> Option<TableCursor> {
    (slots.start > 0).then_some(TableCursor(slots.start))
}
