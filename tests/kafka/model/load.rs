//! Opening a log: what of it is valid, and what the producers are.

use std::collections::BTreeMap;

use super::{Entry, Log, Outcome, Producers, Refusal, Segment};
use crate::model::producers::{Completed, Rules, Update};
use crate::record_batch::Tail;

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub clean: bool,
    pub log_start: i64,
    pub recovery_point: i64,
    pub now: i64,
}

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub segments: BTreeMap<i64, Segment>,
    pub snapshots: BTreeMap<i64, super::Snapshot>,
    pub leader_epochs: Vec<(i32, i64)>,
}

/// Which producers a rebuild is to find.
struct Rebuild<'a> {
    segments: &'a BTreeMap<i64, Segment>,
    log_start: i64,
    end: i64,
    now: i64,
    clean: bool,
    expiry_ms: i64,
    rules: Rules<'a>,
}

impl Log {
    /// Replaces what is stored, as if the directory had been exchanged.
    pub fn replace(&mut self, found: Found) {
        self.segments = found.segments;
        self.snapshots = found.snapshots;
        self.leader_epochs = found.leader_epochs;
    }

    /// What a clean close leaves.
    pub fn close(&mut self) {
        self.flush_to(self.log_end);
        self.write_snapshot();
    }

    /// Loses the last bytes of the active segment.
    pub fn tear(&mut self, bytes: usize) {
        self.active_mut().tear(bytes);
    }

    pub fn load(&mut self, load: Load) -> Outcome {
        match self.try_load(load) {
            Ok(()) => Outcome::Done(None),
            Err(refusal) => Outcome::Refused { refusal, rolled: None },
        }
    }

    fn try_load(&mut self, load: Load) -> Result<(), Refusal> {
        self.producers = Producers::default();
        self.open_segments(load)?;
        if !load.clean {
            self.recover_segments(load)?;
        } else if self.differences.clean_marker_is_checked {
            self.verify_end();
        }
        let end = self.active().next_offset(&self.settings.partition)?;
        if end < load.log_start {
            self.start_over(end, load);
        } else {
            self.log_end = end;
        }
        self.recovery_point = if load.clean && end >= load.log_start { end } else { load.recovery_point };
        self.recovery_point = self.recovery_point.min(self.log_end);
        self.log_start = load.log_start.max(self.first_base());
        self.truncate_epochs_from_end(self.log_end);
        self.truncate_epochs_from_start(load.log_start);
        self.recovery_point = self.recovery_point.max(self.log_start);
        self.remove_stray_snapshots();
        self.rebuild_producers(self.log_start, self.log_end, load.now, load.clean)?;
        Ok(())
    }

    /// Opens one segment after the other; one without index is recovered on the spot, whatever comes behind it.
    fn open_segments(&mut self, load: Load) -> Result<(), Refusal> {
        let found = std::mem::take(&mut self.segments);
        for (base, segment) in found {
            let lacks_index = !segment.is_indexed;
            let (is_rebuilt, is_foreign) =
                (!segment.has_sound_transaction_index, segment.has_foreign_transactions);
            self.segments.insert(base, segment);
            let differences = self.differences;
            if lacks_index && !differences.nothing_thrown_away
                || is_foreign && !differences.transaction_index_is_rebuilt
            {
                let before: BTreeMap<i64, Segment> =
                    self.segments.range(..base).map(|(base, segment)| (*base, segment.clone())).collect();
                self.recover_segment(base, &before, load)?;
            } else if is_rebuilt && differences.transaction_index_is_rebuilt {
                self.rebuild_transaction_index(base);
            }
        }
        Ok(())
    }

    /// After a crash: from the segment that holds the recovery point on.
    fn recover_segments(&mut self, load: Load) -> Result<(), Refusal> {
        let floor =
            self.segments.range(..=load.recovery_point).next_back().map_or(i64::MIN, |(base, _)| *base);
        let bases: Vec<i64> = self.segments.range(floor..).map(|(base, _)| *base).collect();
        for base in bases {
            let all = self.segments.clone();
            if self.recover_segment(base, &all, load)? {
                let later = self.segments.split_off(&(base + 1));
                later.keys().for_each(|base| {
                    self.snapshots.remove(base);
                });
                break;
            }
        }
        Ok(())
    }

    /// Cuts the segment in front of the first batch that is not valid, and makes its indexes anew. Returns whether
    /// something was cut.
    fn recover_segment(
        &mut self,
        base: i64,
        segments: &BTreeMap<i64, Segment>,
        load: Load,
    ) -> Result<bool, Refusal> {
        let outlives = self.differences.state_outlives_records;
        let kept_snapshots = outlives.then(|| self.snapshots.clone());
        let mut producers = Producers::default();
        self.rebuild(&mut producers, segments, load.log_start, base, load.now, false)?;
        let mut segment = self.segments[&base].clone();
        if !self.differences.transaction_index_is_rebuilt || !segment.has_sound_transaction_index {
            segment.aborted.clear();
        }
        let is_rebuilt = segment.aborted.is_empty();
        let checked_from = if self.differences.nothing_thrown_away { load.recovery_point } else { i64::MIN };
        let mut valid = 0;
        for at in 0..segment.batches.len() {
            let batch = segment.batches[at].clone();
            if !batch.is_sound && batch.last_offset >= checked_from {
                break;
            }
            valid += 1;
            self.note_leader_epoch(&batch);
            if let Some((completed, stable)) = producers.apply(&batch, &self.rules())?
                && is_rebuilt
            {
                segment.note_completed(&completed, stable);
            }
        }
        let was_cut = segment.cut(valid);
        segment.timestamp_in_index = None;
        segment.is_indexed = true;
        segment.has_sound_transaction_index = true;
        self.segments.insert(base, segment);
        producers.take_snapshot(&mut self.snapshots);
        if let Some(kept) = kept_snapshots {
            self.snapshots = kept;
        }
        Ok(was_cut)
    }

    /// The end of a log that is marked clean: from the last index entry on every batch is checked.
    fn verify_end(&mut self) {
        let mut active = self.segments.last_entry().unwrap();
        let active = active.get_mut();
        let from = active.indexed_position;
        let is_bad = active.positions().position(|(position, batch)| position >= from && !batch.is_sound);
        active.cut(is_bad.unwrap_or(active.batches.len()));
    }

    /// The aborted transactions of a segment, from everything that the log shows.
    fn rebuild_transaction_index(&mut self, base: i64) {
        let mut producers = Producers::default();
        let mut aborted = Segment::empty(base);
        for segment in self.segments.range(..=base).map(|(_, segment)| segment) {
            for batch in &segment.batches {
                let completed = producers.apply(batch, &self.rules()).ok().flatten();
                if let Some((completed, stable)) = completed.filter(|_| segment.base_offset == base) {
                    aborted.note_completed(&completed, stable);
                }
            }
        }
        let segment = self.segments.get_mut(&base).unwrap();
        segment.aborted = aborted.aborted;
        segment.has_sound_transaction_index = true;
    }

    /// The log ends below its start: nothing of it is left, and it begins there.
    fn start_over(&mut self, end: i64, load: Load) {
        let offsets: Vec<i64> = self.snapshots.range(..=end).map(|(at, _)| *at).collect();
        let outliving =
            self.differences.state_outlives_records.then(|| self.rebuilt_producers(end, &offsets).entries);
        self.segments = BTreeMap::from([(load.log_start, Segment::empty(load.log_start))]);
        self.leader_epochs.clear();
        self.snapshots.clear();
        self.producers = Producers { end: load.log_start, ..Producers::default() };
        self.log_end = load.log_start;
        if let Some(entries) = outliving {
            self.snapshots.insert(load.log_start, Some(entries));
            self.producers.end = 0;
        }
    }

    /// Keeps the snapshots at the bases of segments, and the newest other one if it lies behind all of them.
    fn remove_stray_snapshots(&mut self) {
        if self.differences.state_outlives_records {
            return;
        }
        let active = self.active().base_offset;
        let is_stray = |at: &i64| !self.segments.contains_key(at);
        let newest = self.snapshots.keys().copied().rfind(|at| is_stray(at));
        let strays: Vec<i64> = self
            .snapshots
            .keys()
            .copied()
            .filter(|at| is_stray(at) && (Some(*at) != newest || *at < active))
            .collect();
        strays.iter().for_each(|at| {
            self.snapshots.remove(at);
        });
    }

    /// What the log shows below `end`, from the newest of the snapshots at `offsets` on. Changes nothing on the disk.
    pub(super) fn rebuilt_producers(&self, end: i64, offsets: &[i64]) -> Producers {
        let mut scratch = self.clone();
        scratch.snapshots.retain(|at, _| offsets.contains(at));
        let mut producers = Producers::default();
        let segments = self.segments.clone();
        let rebuilt = scratch.rebuild(&mut producers, &segments, self.log_start, end, i64::MIN, false);
        if rebuilt.is_ok() { producers } else { self.producers.clone() }
    }

    /// The producers of the whole log.
    pub(super) fn rebuild_producers(
        &mut self,
        log_start: i64,
        end: i64,
        now: i64,
        clean: bool,
    ) -> Result<(), Refusal> {
        let differences = self.differences;
        if differences.state_outlives_records && !differences.open_transaction_survives {
            let mut forgetful = self.clone();
            forgetful.differences.state_outlives_records = false;
            forgetful.rebuild_producers(log_start, end, now, clean)?;
            self.replace_producers(log_start, end, now, clean)?;
            self.producers.lose_transactions(&forgetful.producers);
            return Ok(());
        }
        self.replace_producers(log_start, end, now, clean)
    }

    fn replace_producers(&mut self, log_start: i64, end: i64, now: i64, clean: bool) -> Result<(), Refusal> {
        let segments = std::mem::take(&mut self.segments);
        let mut producers = std::mem::take(&mut self.producers);
        let rebuilt = self.rebuild(&mut producers, &segments, log_start, end, now, clean);
        self.segments = segments;
        self.producers = producers;
        rebuilt
    }

    fn rebuild(
        &mut self,
        producers: &mut Producers,
        segments: &BTreeMap<i64, Segment>,
        log_start: i64,
        end: i64,
        now: i64,
        clean: bool,
    ) -> Result<(), Refusal> {
        let rules = Rules { differences: &self.differences, partition: &self.settings.partition };
        let expiry_ms = self.settings.expiry_ms;
        let rebuild = Rebuild { segments, log_start, end, now, clean, expiry_ms, rules };
        rebuild.run(producers, &mut self.snapshots)
    }
}

impl Producers {
    /// Keeps open only the transactions that the others know.
    fn lose_transactions(&mut self, others: &Self) {
        self.open.retain(|first, _| others.open.contains_key(first));
        for entry in self.entries.values_mut() {
            entry.transaction_first = entry.transaction_first.filter(|first| others.open.contains_key(first));
        }
    }

    fn take_snapshot(&mut self, snapshots: &mut BTreeMap<i64, super::Snapshot>) {
        if self.end > self.snapshot_at {
            snapshots.insert(self.end, Some(self.entries.clone()));
            self.snapshot_at = self.end;
        }
    }
}

impl Rebuild<'_> {
    fn run(
        &self,
        producers: &mut Producers,
        snapshots: &mut BTreeMap<i64, super::Snapshot>,
    ) -> Result<(), Refusal> {
        let outlives = self.rules.differences.state_outlives_records;
        let points = self.snapshot_points();
        if snapshots.is_empty() && self.clean && !outlives {
            for point in points {
                producers.end = point;
                producers.take_snapshot(snapshots);
            }
            return Ok(());
        }
        let was_empty = producers.entries.is_empty() && producers.end >= self.end;
        self.load_snapshot(producers, snapshots);
        if self.end > producers.end && (!was_empty || outlives) {
            self.replay(producers, snapshots, &points)?;
        }
        producers.end = self.end;
        self.take_snapshot(producers, snapshots);
        Ok(())
    }

    /// Opening and truncating leave no snapshot, since one that is there already would not be written at the next roll: it
    /// would bring back who expires until then.
    fn take_snapshot(&self, producers: &mut Producers, snapshots: &mut BTreeMap<i64, super::Snapshot>) {
        if !self.rules.differences.expiry_ignores_snapshots {
            producers.take_snapshot(snapshots);
        }
    }

    /// The bases of the last two segments, and the end.
    fn snapshot_points(&self) -> Vec<i64> {
        let mut points: Vec<i64> = self.segments.keys().rev().take(2).rev().copied().collect();
        points.push(self.end);
        points
    }

    /// Begins with the newest snapshot in range.
    fn load_snapshot(&self, producers: &mut Producers, snapshots: &mut BTreeMap<i64, super::Snapshot>) {
        let differences = self.rules.differences;
        let outlives = differences.state_outlives_records;
        snapshots.retain(|at, _| *at <= self.end && (outlives || *at > self.log_start));
        if self.end == producers.end {
            producers.end = producers.end.max(self.log_start);
            producers.snapshot_at = snapshots.keys().next_back().copied().unwrap_or(self.log_start);
            return;
        }
        producers.clear();
        while let Some((at, snapshot)) = snapshots.last_key_value() {
            if let Some(entries) = snapshot {
                (producers.end, producers.snapshot_at) = (*at, *at);
                entries.iter().filter(|(_, entry)| !self.is_dropped(entry)).for_each(|(id, entry)| {
                    producers.insert(*id, entry.read_back(differences));
                });
                return;
            }
            snapshots.pop_last();
        }
        let first = self.segments.keys().next().copied().unwrap_or(self.log_start);
        let from = if outlives { first.min(self.end) } else { self.log_start };
        (producers.end, producers.snapshot_at) = (from, from);
    }

    fn is_dropped(&self, entry: &Entry) -> bool {
        !self.rules.differences.expiry_ignores_snapshots && entry.is_expired(self.now, self.expiry_ms)
    }

    fn replay(
        &self,
        producers: &mut Producers,
        snapshots: &mut BTreeMap<i64, super::Snapshot>,
        points: &[i64],
    ) -> Result<(), Refusal> {
        let floor = self.segments.range(..=producers.end).next_back().map_or(i64::MIN, |(base, _)| *base);
        for segment in self.segments.range(floor..self.end).map(|(_, segment)| segment) {
            let mut start = segment.base_offset.max(producers.end);
            if !self.rules.differences.state_outlives_records {
                start = start.max(self.log_start);
            }
            producers.end = start;
            if points.contains(&segment.base_offset) {
                self.take_snapshot(producers, snapshots);
            }
            self.replay_segment(segment, start, producers)?;
        }
        Ok(())
    }

    /// Applies the batches from the one that holds `start` on, all of a producer at once.
    fn replay_segment(
        &self,
        segment: &Segment,
        start: i64,
        producers: &mut Producers,
    ) -> Result<(), Refusal> {
        let mut updates: BTreeMap<i64, Update> = BTreeMap::new();
        let mut completed: Vec<Completed> = Vec::new();
        let in_range = |batch: &&crate::record_batch::Batch| {
            batch.last_offset >= start && batch.last_offset < self.end && batch.producer_id >= 0
        };
        for batch in segment.batches.iter().filter(in_range) {
            let id = batch.producer_id;
            let update = updates.entry(id).or_insert_with(|| Update::begin(producers, id));
            completed.extend(update.append(batch, super::Origin::Log, &self.rules)?);
        }
        updates.into_values().for_each(|update| producers.update(update, self.rules.differences));
        completed.iter().for_each(|completed| producers.complete(completed));
        if let Tail::Garbage { length, .. } = segment.tail {
            return Err(Refusal::undersized(self.rules.partition, segment.base_offset, length));
        }
        Ok(())
    }
}
