//! What the batches of a call come to once they are judged, before anything is stored. Offsets depend on where
//! the log ends alone, so every outcome is known by then.

use super::incoming::Lent;
use super::outcome::AppendOutcome;
use crate::batch::{Batch, BatchHeader};
use crate::producer::Decision;
use crate::types::{Offset, Timestamp};

/// The room that the new batches of a call take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) bytes: u64,
    /// Where the first one will stand. Above the log end offset where a replicated log has a gap.
    pub(super) first_offset: Offset,
    pub(super) last_offset: Offset,
    /// That of the first batch.
    pub(super) timestamp: Timestamp,
    pub(super) latest_timestamp: Timestamp,
}

/// What a call will do.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// Where the next new batch will stand.
    pub(super) next_offset: Offset,
    /// `None` if no batch is new.
    pub(super) demand: Option<Demand>,
    /// Up to where the log must be durable for all batches to be; `None` without batches.
    pub(super) target: Option<Offset>,
    pub(super) duplicates: u64,
    /// One for each batch of the call.
    outcomes: &'a mut [AppendOutcome],
    /// How many of them are known.
    judged: usize,
}

impl<'a> Plan<'a> {
    /// Of no batch yet, for a log that ends at `log_end`.
    pub(super) fn new(log_end: Offset, outcomes: &'a mut [AppendOutcome]) -> Self {
        Self { next_offset: log_end, demand: None, target: None, duplicates: 0, outcomes, judged: 0 }
    }

    /// Adds the next batch of the call.
    pub(super) fn add(&mut self, header: &BatchHeader, decision: Decision) {
        match decision {
            Decision::Append => self.add_new(header, self.next_offset),
            Decision::Duplicate(duplicate) => {
                self.conclude(AppendOutcome::duplicate(&duplicate));
                self.target = self.target.max(Some(duplicate.durable_at));
                self.duplicates += 1;
            }
        }
    }

    /// The plan with replicated batches, which stay where they are.
    pub(super) fn with_replicated(mut self, batches: &[Lent<'_>]) -> Self {
        batches.iter().map(Batch::header).for_each(|header| self.add_new(header, header.base_offset));
        self
    }

    /// Adds a batch that will be stored at `base_offset`.
    fn add_new(&mut self, header: &BatchHeader, base_offset: Offset) {
        let (last_offset, timestamp) = (header.last_offset_at(base_offset), header.max_timestamp);
        let none = Demand {
            bytes: 0,
            first_offset: base_offset,
            last_offset,
            timestamp,
            latest_timestamp: timestamp,
        };
        let before = self.demand.unwrap_or(none);
        let bytes = before.bytes + header.size() as u64;
        let latest_timestamp = before.latest_timestamp.max(timestamp);
        self.demand = Some(Demand { bytes, last_offset, latest_timestamp, ..before });
        self.next_offset = last_offset + 1;
        self.target = self.target.max(Some(self.next_offset));
        self.conclude(AppendOutcome::appended(header, base_offset));
    }

    fn conclude(&mut self, outcome: AppendOutcome) {
        self.outcomes[self.judged] = outcome;
        self.judged += 1;
    }

    /// Whether the batch at `index` of the call is new.
    pub(super) fn is_new(&self, index: usize) -> bool {
        !self.outcomes[index].is_duplicate()
    }
}
