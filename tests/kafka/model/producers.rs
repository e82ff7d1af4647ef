//! The producers of a partition: who may append what, and what is remembered of it.

use std::collections::BTreeMap;

use crate::differences::Differences;
use crate::model::Refusal;
use crate::record_batch::{Batch, Marker, wrapping_sum};

/// How many batches are remembered of a producer.
const WINDOW: usize = 5;

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Client,
    Coordinator,
    /// What is in the log already.
    Log,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub first_offset: i64,
    pub last_offset: i64,
    pub timestamp: i64,
}

/// What is remembered of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub epoch: i16,
    pub coordinator_epoch: i32,
    pub last_timestamp: i64,
    pub transaction_first: Option<i64>,
    /// Oldest first.
    pub batches: Vec<StoredBatch>,
}

impl Entry {
    const UNKNOWN: Self = Self {
        epoch: -1,
        coordinator_epoch: -1,
        last_timestamp: -1,
        transaction_first: None,
        batches: Vec::new(),
    };

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }

    /// Whether the batch goes on behind the window, or behind a gap.
    fn goes_on_with(&self, batch: &StoredBatch) -> bool {
        let Some((oldest, newest)) = self.batches.first().zip(self.batches.last()) else { return true };
        let first = batch.first_sequence;
        if first < 0 || newest.last_sequence < 0 {
            return first <= 0;
        }
        let from_oldest =
            |sequence: i32| (i64::from(sequence) - i64::from(oldest.first_sequence)).rem_euclid(1 << 31);
        let is_above = from_oldest(first) > from_oldest(newest.last_sequence) && from_oldest(first) < 1 << 30;
        first == wrapping_sum(newest.last_sequence, 1) || is_above
    }

    fn remember(&mut self, batch: StoredBatch) {
        if self.batches.len() == WINDOW {
            self.batches.remove(0);
        }
        self.batches.push(batch);
    }

    pub fn is_expired(&self, now: i64, expiry_ms: i64) -> bool {
        self.transaction_first.is_none() && now.wrapping_sub(self.last_timestamp) >= expiry_ms
    }

    pub fn duplicate_of(&self, batch: &Batch) -> Option<StoredBatch> {
        let same = |stored: &&StoredBatch| {
            (stored.first_sequence, stored.last_sequence) == (batch.base_sequence, batch.last_sequence)
        };
        if self.epoch == batch.producer_epoch { self.batches.iter().find(same).copied() } else { None }
    }

    /// What a snapshot gives back of the entry.
    pub fn read_back(&self, differences: &Differences) -> Self {
        let mut entry = self.clone();
        if !differences.window_survives {
            entry.batches.drain(..entry.batches.len().saturating_sub(1));
        }
        if !differences.true_timestamps
            && let Some(last) = entry.batches.last_mut()
        {
            last.timestamp = entry.last_timestamp;
        }
        entry
    }
}

/// A transaction that a marker ended.
#[derive(Clone, Copy, Debug)]
pub struct Completed {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
    pub aborted: bool,
}

/// All producers, as of an offset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Producers {
    pub entries: BTreeMap<i64, Entry>,
    /// The open transactions: first offset and producer.
    pub open: BTreeMap<i64, i64>,
    /// They cover everything below this offset.
    pub end: i64,
    /// The offset of the last snapshot taken or read.
    pub snapshot_at: i64,
}

impl Producers {
    pub fn insert(&mut self, id: i64, entry: Entry) {
        if let Some(first) = entry.transaction_first {
            self.open.insert(first, id);
        }
        self.entries.insert(id, entry);
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.open.clear();
    }

    pub fn expire(&mut self, now: i64, expiry_ms: i64) {
        self.entries.retain(|_, entry| !entry.is_expired(now, expiry_ms));
    }

    /// Takes over what was collected. Of one epoch, the window goes on; with another, it begins anew.
    pub fn update(&mut self, update: Update, differences: &Differences) {
        let Update { producer_id, updated, started, .. } = update;
        let entry = self.entries.entry(producer_id).or_insert(Entry::UNKNOWN);
        entry.enter_epoch(updated.epoch);
        for batch in updated.batches {
            if differences.window_rises && !entry.goes_on_with(&batch) {
                entry.batches.clear();
            }
            entry.remember(batch);
        }
        entry.coordinator_epoch = updated.coordinator_epoch;
        entry.transaction_first = updated.transaction_first;
        entry.last_timestamp = updated.last_timestamp;
        self.open.extend(started.into_iter().map(|first| (first, producer_id)));
    }

    /// Up to where readers of committed data may see, once `completed` is.
    pub fn stable_behind(&self, completed: &Completed) -> i64 {
        let other = self.open.iter().find(|(_, id)| **id != completed.producer_id);
        other.map_or(completed.last_offset + 1, |(first, _)| *first)
    }

    pub fn complete(&mut self, completed: &Completed) {
        self.open.remove(&completed.first_offset);
    }

    /// Applies one batch of the log.
    pub fn apply(&mut self, batch: &Batch, rules: &Rules<'_>) -> Result<Option<(Completed, i64)>, Refusal> {
        let mut completed = None;
        if batch.producer_id >= 0 {
            let mut update = Update::begin(self, batch.producer_id);
            let ended = update.append(batch, Origin::Log, rules)?;
            self.update(update, rules.differences);
            completed = ended.map(|ended| (ended, self.stable_behind(&ended)));
            if let Some((ended, _)) = &completed {
                self.complete(ended);
            }
        }
        self.end = batch.next_offset();
        Ok(completed)
    }
}

/// By which rules a batch is judged.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    pub differences: &'a Differences,
    /// The partition, for messages.
    pub partition: &'a str,
}

/// What batches of one producer change, collected before any of it is taken over.
#[derive(Clone, Debug)]
pub struct Update {
    producer_id: i64,
    current: Entry,
    updated: Entry,
    started: Vec<i64>,
}

impl Update {
    pub fn begin(producers: &Producers, producer_id: i64) -> Self {
        let current = producers.entries.get(&producer_id).cloned().unwrap_or(Entry::UNKNOWN);
        let updated = Entry { batches: Vec::new(), ..current.clone() };
        Self { producer_id, current, updated, started: Vec::new() }
    }

    pub fn append(
        &mut self,
        batch: &Batch,
        origin: Origin,
        rules: &Rules<'_>,
    ) -> Result<Option<Completed>, Refusal> {
        match batch.marker {
            Some(marker) => self.append_marker(batch, marker, origin, rules),
            None => self.append_data(batch, origin, rules).map(|()| None),
        }
    }

    fn append_data(&mut self, batch: &Batch, origin: Origin, rules: &Rules<'_>) -> Result<(), Refusal> {
        self.check_epoch(batch, origin, rules)?;
        if origin == Origin::Client {
            self.check_sequence(batch, rules)?;
        }
        if !self.is_left_alone_by(batch, origin, rules) {
            self.updated.enter_epoch(batch.producer_epoch);
            self.updated.remember(StoredBatch {
                first_sequence: batch.base_sequence,
                last_sequence: batch.last_sequence,
                first_offset: batch.base_offset,
                last_offset: batch.last_offset,
                timestamp: batch.max_timestamp,
            });
            self.updated.last_timestamp = batch.max_timestamp;
        }
        let is_open = self.updated.transaction_first.is_some();
        let may_fail = origin != Origin::Log || !rules.differences.open_never_fails;
        if is_open && !batch.transactional && may_fail {
            return Err(Refusal::transaction_open(batch, rules.partition));
        }
        if !is_open && batch.transactional {
            self.updated.transaction_first = Some(batch.base_offset);
            self.started.push(batch.base_offset);
        }
        Ok(())
    }

    fn append_marker(
        &mut self,
        batch: &Batch,
        marker: Marker,
        origin: Origin,
        rules: &Rules<'_>,
    ) -> Result<Option<Completed>, Refusal> {
        self.check_epoch(batch, origin, rules)?;
        if marker.coordinator_epoch < self.updated.coordinator_epoch && origin != Origin::Log {
            return Err(Refusal::coordinator_fenced(
                batch,
                rules.partition,
                marker.coordinator_epoch,
                self.updated.coordinator_epoch,
            ));
        }
        let first = self.updated.transaction_first.take();
        if !self.is_left_alone_by(batch, origin, rules) {
            self.updated.enter_epoch(batch.producer_epoch);
            self.updated.coordinator_epoch = marker.coordinator_epoch;
            self.updated.last_timestamp = batch.max_timestamp;
        }
        Ok(first.map(|first_offset| Completed {
            producer_id: self.producer_id,
            first_offset,
            last_offset: batch.base_offset,
            aborted: marker.abort,
        }))
    }

    fn is_left_alone_by(&self, batch: &Batch, origin: Origin, rules: &Rules<'_>) -> bool {
        rules.differences.replay_never_lowers_epochs
            && origin == Origin::Log
            && batch.producer_epoch < self.updated.epoch
    }

    fn check_epoch(&self, batch: &Batch, origin: Origin, rules: &Rules<'_>) -> Result<(), Refusal> {
        if batch.producer_epoch < self.updated.epoch && origin != Origin::Log {
            return Err(Refusal::fenced(batch, rules.partition, self.updated.epoch));
        }
        Ok(())
    }

    fn check_sequence(&self, batch: &Batch, rules: &Rules<'_>) -> Result<(), Refusal> {
        if batch.producer_epoch != self.updated.epoch {
            if batch.base_sequence != 0 && self.updated.epoch != -1 {
                return Err(Refusal::new_epoch_not_at_zero(batch, rules.partition, self.updated.epoch));
            }
            return Ok(());
        }
        let last = match self.updated.batches.is_empty() {
            true => self.current.last_sequence(),
            false => self.updated.last_sequence(),
        };
        let expected = if last < 0 { 0 } else { wrapping_sum(last, 1) };
        if self.current.epoch == -1 || batch.base_sequence == expected {
            return Ok(());
        }
        Err(Refusal::out_of_order(batch, rules.partition, last))
    }
}
