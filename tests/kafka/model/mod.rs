//! Kafka's log of one partition over plain maps and lists, and, with the flags of [`Differences`] set, idemlog's.
//!
//! It follows Kafka's own steps (`UnifiedLog`, `LocalLog`, `LogLoader`, `ProducerStateManager`), so that what they do in a
//! case nobody thought of comes out as there. The high watermark is always the log end.

mod load;
mod producers;
mod refusal;
mod segment;
mod state;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::differences::Differences;
use crate::record_batch::Batch;
pub use load::{Found, Load};
use producers::{Completed, Rules, Update};
pub use producers::{Entry, Origin, Producers, StoredBatch};
pub use refusal::Refusal;
pub use segment::{Aborted, Segment};

/// The settings of a log.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `topic-partition`.
    pub partition: String,
    pub segment_bytes: usize,
    pub segment_ms: i64,
    pub max_batch_bytes: usize,
    pub expiry_ms: i64,
}

/// A snapshot file. `None`: damaged.
pub type Snapshot = Option<BTreeMap<i64, Entry>>;

/// What an operation answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Appended {
        first: i64,
        last: i64,
        rolled: Option<i64>,
    },
    Duplicate {
        original: StoredBatch,
        rolled: Option<i64>,
    },
    Refused {
        refusal: Refusal,
        rolled: Option<i64>,
    },
    /// Done, with a number where there is one to tell.
    Done(Option<i64>),
    Noop,
}

/// What is decided about a batch.
enum Judged {
    New(Option<(Update, Option<Completed>)>),
    Duplicate(StoredBatch),
}

/// A log.
#[derive(Clone, Debug)]
pub struct Log {
    pub settings: Rc<Settings>,
    pub differences: Differences,
    pub segments: BTreeMap<i64, Segment>,
    pub snapshots: BTreeMap<i64, Snapshot>,
    /// Epochs and where they began.
    pub leader_epochs: Vec<(i32, i64)>,
    pub producers: Producers,
    pub log_start: i64,
    pub log_end: i64,
    pub recovery_point: i64,
}

impl Log {
    pub fn new(settings: Settings, differences: Differences) -> Self {
        Self {
            settings: Rc::new(settings),
            differences,
            segments: BTreeMap::from([(0, Segment::empty(0))]),
            snapshots: BTreeMap::new(),
            leader_epochs: Vec::new(),
            producers: Producers::default(),
            log_start: 0,
            log_end: 0,
            recovery_point: 0,
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules { differences: &self.differences, partition: &self.settings.partition }
    }

    pub fn active(&self) -> &Segment {
        self.segments.last_key_value().unwrap().1
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.last_entry().unwrap().into_mut()
    }

    pub fn first_base(&self) -> i64 {
        *self.segments.first_key_value().unwrap().0
    }

    pub fn last_stable_offset(&self) -> i64 {
        let first_open = self.producers.open.keys().next().copied();
        first_open.map_or(self.log_end, |first| first.max(self.log_start).min(self.log_end))
    }

    /// Appends what a client or a coordinator sent.
    pub fn append(&mut self, sent: &Batch, leader_epoch: i32, origin: Origin) -> Outcome {
        if let Err(refusal) = self.check_sent(sent) {
            return Outcome::Refused { refusal, rolled: None };
        }
        let batch = sent.placed(self.log_end, leader_epoch);
        let mut rolled = None;
        if !self.differences.judge_before_roll {
            rolled = self.make_room(&batch);
        }
        match self.judge(&batch, origin) {
            Err(refusal) => Outcome::Refused { refusal, rolled },
            Ok(Judged::Duplicate(original)) => Outcome::Duplicate { original, rolled },
            Ok(Judged::New(update)) => {
                if self.differences.judge_before_roll {
                    rolled = self.make_room(&batch);
                }
                let (first, last) = (batch.base_offset, batch.last_offset);
                self.store(batch, update);
                Outcome::Appended { first, last, rolled }
            }
        }
    }

    fn check_sent(&self, sent: &Batch) -> Result<(), Refusal> {
        let Settings { partition, max_batch_bytes, .. } = &*self.settings;
        if sent.size > *max_batch_bytes {
            return Err(Refusal::too_large(sent, partition, *max_batch_bytes));
        }
        if !sent.is_sound {
            return Err(Refusal::corrupt(sent, partition));
        }
        if sent.marker.is_none() && sent.producer_id >= 0 && sent.base_sequence < 0 {
            return Err(Refusal::negative_sequence(sent, partition));
        }
        Ok(())
    }

    /// Notes the leader epoch, and rolls if the segment is full.
    fn make_room(&mut self, batch: &Batch) -> Option<i64> {
        self.note_leader_epoch(batch);
        let active = self.active();
        let size = active.size();
        let is_full = size + batch.size > self.settings.segment_bytes;
        let first = active.batches.first().map(|first| first.max_timestamp);
        let is_old = first.is_some_and(|first| batch.max_timestamp - first > self.settings.segment_ms);
        if size > 0 && (is_full || is_old) { self.roll() } else { None }
    }

    /// Only a higher one is news; epochs that began at this offset held no batch.
    fn note_leader_epoch(&mut self, batch: &Batch) {
        if self.leader_epochs.last().is_none_or(|latest| batch.leader_epoch > latest.0)
            && batch.leader_epoch >= 0
        {
            self.leader_epochs.retain(|(_, start)| *start < batch.base_offset);
            self.leader_epochs.push((batch.leader_epoch, batch.base_offset));
        }
    }

    fn judge(&self, batch: &Batch, origin: Origin) -> Result<Judged, Refusal> {
        if batch.producer_id < 0 {
            return Ok(Judged::New(None));
        }
        let entry = self.producers.entries.get(&batch.producer_id);
        if origin == Origin::Client
            && let Some(original) = entry.and_then(|entry| entry.duplicate_of(batch))
        {
            return Ok(Judged::Duplicate(original));
        }
        let mut update = Update::begin(&self.producers, batch.producer_id);
        let completed = update.append(batch, origin, &self.rules())?;
        Ok(Judged::New(Some((update, completed))))
    }

    fn store(&mut self, batch: Batch, update: Option<(Update, Option<Completed>)>) {
        self.log_end = batch.next_offset();
        self.active_mut().batches.push(batch);
        if let Some((update, completed)) = update {
            self.producers.update(update, &self.differences);
            if let Some(completed) = completed {
                let stable = self.producers.stable_behind(&completed);
                self.producers.complete(&completed);
                self.active_mut().note_completed(&completed, stable);
            }
        }
        self.producers.end = self.log_end;
    }

    /// Starts a segment at the log end, unless there is an empty one. Returns its base offset.
    pub fn roll(&mut self) -> Option<i64> {
        let base = self.log_end;
        let is_new = !self.segments.contains_key(&base);
        self.segments.entry(base).or_insert_with(|| Segment::empty(base));
        self.producers.end = base;
        self.write_snapshot();
        self.flush_to(base);
        is_new.then_some(base)
    }

    /// As the log goes on: at a roll and at a clean close.
    fn write_snapshot(&mut self) {
        if self.producers.end <= self.producers.snapshot_at {
            return;
        }
        let offset = self.producers.end;
        let entries = match self.differences.expiry_ignores_snapshots {
            true => self.folded(),
            false => self.producers.entries.clone(),
        };
        self.snapshots.insert(offset, Some(entries));
        self.producers.snapshot_at = offset;
        if self.differences.state_outlives_records {
            let segments = &self.segments;
            self.snapshots.retain(|at, _| *at >= offset || segments.contains_key(at));
        }
    }

    /// What the log shows, from the snapshot before on, of the producers that are known now.
    fn folded(&self) -> BTreeMap<i64, Entry> {
        let before: Vec<i64> = self.snapshots.keys().copied().collect();
        let shown = self.rebuilt_producers(self.log_end, &before);
        let known = |id: &i64| self.producers.entries.contains_key(id);
        shown.entries.into_iter().filter(|(id, _)| known(id)).collect()
    }

    fn flush_to(&mut self, offset: i64) {
        self.recovery_point = self.recovery_point.max(offset);
    }

    pub fn flush(&mut self) -> Outcome {
        self.flush_to(self.log_end);
        Outcome::Done(Some(self.recovery_point))
    }

    pub fn expire_producers(&mut self, now: i64) {
        self.producers.expire(now, self.settings.expiry_ms);
    }

    /// Deletes records from the head, without touching a file.
    pub fn increment_log_start(&mut self, offset: i64) -> Outcome {
        if offset > self.log_end {
            return Outcome::Refused { refusal: Refusal::out_of_range(), rolled: None };
        }
        if offset <= self.log_start {
            return Outcome::Noop;
        }
        self.log_start = offset;
        self.flush_to(offset);
        self.truncate_epochs_from_start(offset);
        self.note_log_start();
        Outcome::Done(None)
    }

    /// What the producers take from a log start that moved.
    fn note_log_start(&mut self) {
        self.producers.end = self.producers.end.max(self.log_start);
        self.producers.snapshot_at = self.snapshots.keys().next_back().copied().unwrap_or(self.log_start);
    }

    /// The epoch that covers `offset` begins there.
    fn truncate_epochs_from_start(&mut self, offset: i64) {
        let begun = self.leader_epochs.partition_point(|(_, start)| *start <= offset);
        if let Some(covering) = begun.checked_sub(1) {
            self.leader_epochs.drain(..covering);
            self.leader_epochs[0].1 = offset;
        }
    }

    fn truncate_epochs_from_end(&mut self, offset: i64) {
        self.leader_epochs.retain(|(_, start)| *start < offset);
    }

    /// Deletes the segments below the log start, with their snapshots.
    pub fn delete_old_segments(&mut self) -> Outcome {
        let bases: Vec<i64> = self.segments.keys().copied().collect();
        let is_below = |pair: &&[i64]| pair[1] <= self.log_start;
        let deleted: Vec<i64> = bases.windows(2).take_while(is_below).map(|pair| pair[0]).collect();
        for base in &deleted {
            self.segments.remove(base);
            self.snapshots.remove(base);
        }
        Outcome::Done(Some(deleted.len() as i64))
    }

    /// Deletes records from the tail.
    pub fn truncate(&mut self, target: i64, now: i64) -> Outcome {
        if target >= self.log_end {
            self.truncate_epochs_from_end(self.log_end);
            return Outcome::Noop;
        }
        if target < self.first_base() {
            self.truncate_fully(target);
            return Outcome::Done(None);
        }
        let gone = self.segments.split_off(&(target + 1));
        gone.keys().for_each(|base| {
            self.snapshots.remove(base);
        });
        self.active_mut().truncate(target);
        self.log_end = target;
        self.recovery_point = self.recovery_point.min(target);
        self.truncate_epochs_from_end(target);
        self.log_start = self.log_start.min(target);
        match self.rebuild_producers(self.log_start, target, now, false) {
            Ok(()) => Outcome::Done(None),
            Err(refusal) => Outcome::Refused { refusal, rolled: None },
        }
    }

    /// Starts over, empty, at `target`.
    fn truncate_fully(&mut self, target: i64) {
        self.segments = BTreeMap::from([(target, Segment::empty(target))]);
        self.snapshots.clear();
        self.leader_epochs.clear();
        self.producers = Producers { end: target, ..Producers::default() };
        (self.log_start, self.log_end) = (target, target);
        self.recovery_point = self.recovery_point.min(target);
        self.note_log_start();
    }
}

impl Segment {
    fn note_completed(&mut self, completed: &Completed, last_stable_offset: i64) {
        if completed.aborted {
            self.aborted.push(Aborted {
                producer_id: completed.producer_id,
                first_offset: completed.first_offset,
                last_offset: completed.last_offset,
                last_stable_offset,
            });
        }
    }
}
