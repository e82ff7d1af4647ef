//! Several batches in one call, each judged as if those before it were stored already.

use std::collections::HashSet;

use super::decision::{Context, Decision, Subject, decide};
use super::policy::ProducerPolicy;
use super::slab::NONE;
use super::table::ProducerTable;
use crate::batch::{BatchHeader, ControlRecord};
use crate::error::Rejection;
use crate::types::{Offset, ProducerId, Timestamp};

/// What a table would be behind the batches of a call, without changing it.
#[derive(Debug)]
pub(crate) struct Staging<'a> {
    table: &'a ProducerTable,
    /// The producers of the call as they would be.
    touched: ProducerTable,
    /// Those that new ones would take the room of.
    evicted: HashSet<ProducerId>,
    /// Of the table's recency list, where to look for the next of those: all before are evicted or touched.
    least_recent: u32,
    /// How many producers there would be that the table does not have.
    created: usize,
    /// Where the last batch of the call ends.
    end: Offset,
}

impl<'a> Staging<'a> {
    pub(crate) fn new(table: &'a ProducerTable) -> Self {
        let policy = ProducerPolicy { budget: usize::MAX, ..table.policy.clone() };
        let mut touched = ProducerTable::new(policy);
        touched.clock = table.clock;
        Self {
            table,
            touched,
            evicted: HashSet::new(),
            least_recent: table.recency.least_recent,
            created: 0,
            end: Offset::ZERO,
        }
    }

    /// Judges the next batch of the call.
    pub(crate) fn decide(&self, header: &BatchHeader, context: &Context) -> Result<Decision, Rejection> {
        let context = Context { log_end: context.log_end.max(self.end), ..*context };
        decide(&self.subject(header.producer_id, context.now), header, &context, &self.table.policy)
    }

    /// Takes over a batch that will be stored at `header.base_offset`.
    pub(crate) fn stage(&mut self, header: &BatchHeader, control: Option<ControlRecord>, now: Timestamp) {
        self.end = header.next_offset();
        let id = header.producer_id;
        let is_known = self.bring(id);
        self.touched.apply(header, control, now);
        if !is_known && self.touched.find(id).is_some() {
            self.make_room(now);
        }
    }

    fn subject(&self, id: ProducerId, now: Timestamp) -> Subject<'_> {
        if let Some(slot) = self.touched.find(id) {
            return Subject::Known(self.touched.view(slot));
        }
        match self.untouched(id) {
            Some(slot) => Subject::Known(self.table.view(slot)),
            None => Subject::unknown(!self.is_full() || self.may_be_evicted(self.next_victim(), now)),
        }
    }

    /// The producer's slot in the table, if it would still be there.
    fn untouched(&self, id: ProducerId) -> Option<u32> {
        self.table.find(id).filter(|_| !self.evicted.contains(&id))
    }

    fn is_full(&self) -> bool {
        self.table.len() + self.created - self.evicted.len() >= self.table.policy.budget
    }

    /// Makes a known producer one of the touched.
    fn bring(&mut self, id: ProducerId) -> bool {
        if self.touched.find(id).is_some() {
            return true;
        }
        let Some(slot) = self.untouched(id) else { return false };
        self.touched.adopt(&self.table.view(slot));
        true
    }

    /// A producer was created: another goes for it, if one must and can.
    fn make_room(&mut self, now: Timestamp) {
        if self.is_full() {
            self.least_recent = self.next_victim();
            if self.may_be_evicted(self.least_recent, now) {
                self.evicted.insert(self.table.entries[self.least_recent].producer_id);
            }
        }
        self.created += 1;
    }

    /// Who would be forgotten next, [`NONE`] if nobody is left. The touched ones appended just now.
    fn next_victim(&self) -> u32 {
        let mut slot = self.least_recent;
        while slot != NONE {
            let entry = &self.table.entries[slot];
            if self.touched.find(entry.producer_id).is_none() && !self.evicted.contains(&entry.producer_id) {
                break;
            }
            slot = entry.more_recent;
        }
        slot
    }

    fn may_be_evicted(&self, slot: u32, now: Timestamp) -> bool {
        slot != NONE && self.table.may_be_evicted(slot, now)
    }
}
