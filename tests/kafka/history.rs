//! Everything that was appended and not cut off again, whatever else became of it.

use std::collections::BTreeMap;

use crate::model::{Entry, Log, Outcome};
use crate::record_batch::Batch;
use crate::trace::{Line, Op};

/// The batches by their first offsets, those that were deleted from the head among them.
#[derive(Clone, Debug, Default)]
pub struct History {
    batches: BTreeMap<i64, Batch>,
}

impl History {
    pub fn note(&mut self, line: &Line, outcome: &Outcome, log: &Log) {
        if let (Op::Append { sent, leader_epoch }, Outcome::Appended { first, .. }) = (&line.op, outcome) {
            self.batches.insert(*first, sent.placed(*first, *leader_epoch));
        }
        self.batches.retain(|_, batch| batch.last_offset < log.log_end);
    }

    /// Looks at the window of every producer. Returns how many batches that was.
    pub fn check(&self, log: &Log, place: &str) -> u64 {
        log.producers.entries.iter().map(|(id, entry)| self.check_window(*id, entry, place)).sum()
    }

    fn check_window(&self, id: i64, entry: &Entry, place: &str) -> u64 {
        let rises = |pair: &[crate::model::StoredBatch]| pair[0].last_offset < pair[1].first_offset;
        assert!(
            entry.batches.windows(2).all(rises),
            "{place}: the window of {id} is out of order: {entry:?}"
        );
        for remembered in &entry.batches {
            let batch = self.batches.get(&remembered.first_offset);
            let is_true = batch.is_some_and(|batch| {
                let stored = (batch.producer_id, batch.base_sequence, batch.last_sequence, batch.last_offset);
                stored == (id, remembered.first_sequence, remembered.last_sequence, remembered.last_offset)
                    && batch.producer_epoch == entry.epoch
            });
            assert!(
                is_true,
                "{place}: {id} shows {remembered:?} of epoch {}, stored is {batch:?}",
                entry.epoch
            );
        }
        entry.batches.len() as u64
    }
}
