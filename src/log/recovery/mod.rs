//! Opening a partition: what is there, what of it is valid, and what must be put right.
//!
//! Reading comes first and changes nothing; the outcome is a state in memory and a list of changes to the disk. A log that is
//! opened for reading only stops there.

mod behind;
mod below_start;
mod checkpointed;
mod inventory;
mod quarantine;
mod repair;
mod report;
mod scan;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use behind::last_valid_batch;
pub(crate) use checkpointed::CheckpointedState;
pub(crate) use inventory::{read_leader_epochs, segment_length};
pub use report::{BelowStart, Cut, CutReason, RecoveryReport};
pub(crate) use scan::is_unsupported;

use super::metadata;
use super::options::{CorruptionPolicy, LogOptions};
use super::snapshots::{self, Place, Snapshot};
use crate::environment::{Environment, Sound};
use crate::epoch::LeaderEpochs;
use crate::error::{Corruption, CorruptionKind, Error, Result};
use crate::fs::IoMode;
use crate::fs::name::{SegmentFile, TopicPartition, partition_file};
use crate::producer::ProducerTable;
use crate::segment::{BatchCursor, Indexes, LogFile, PlacedBatch, Segment, first_behind};
use crate::types::{Offset, TopicId};
use inventory::Inventory;
use repair::Change;
use scan::{Scan, ScannedSegment};

/// Which partition to open, and what the checkpoints of its directory say about it.
#[derive(Debug)]
pub(crate) struct OpenRequest {
    pub(crate) name: TopicPartition,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Arc<Environment>,
    pub(crate) options: LogOptions,
    pub(crate) mode: IoMode,
    pub(crate) checkpointed: CheckpointedState,
    /// Whether this is a repair: every batch is checked, although it is known to be durable; and what depends on how the host
    /// wants its producers remembered, which is not known, is left to an opening.
    pub(crate) for_repair: bool,
}

impl OpenRequest {
    fn durable_below(&self) -> Offset {
        self.checkpointed.durable_below()
    }
}

/// A partition as it was found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) producers: ProducerTable,
    pub(crate) leader_epochs: LeaderEpochs,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) durable: Offset,
    pub(crate) recovery_point: Offset,
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) report: RecoveryReport,
}

/// Opens the log and puts it right.
///
/// # Errors
///
/// [`Error::Corrupt`] for damage below the recovery point, unless the policy is to cut; for a batch of an unsupported
/// format. The disk's errors, where the log cannot be read, or a cut cannot be made durable.
pub(crate) fn recover(request: &OpenRequest) -> Result<Recovered> {
    let started = Instant::now();
    let mut belief = Belief::of(request);
    let recovery = loop {
        let recovery = Recovery::read(request, belief)?;
        match recovery.belief_left() {
            less if less == belief => break recovery,
            less => belief = less,
        }
    };
    let mut recovered = recovery.finish()?;
    recovered.report.elapsed = started.elapsed();
    event!(info, partition = %request.name, report = %recovered.report, "opened");
    Ok(recovered)
}

/// What is taken for granted while the log is read. What is found may shake it; then the log is read again with less, so
/// that the next opening finds nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Belief {
    /// Whether everything in the log is taken for durable.
    clean: bool,
    /// Below this, headers are enough.
    headers_below: Offset,
}

impl Belief {
    fn of(request: &OpenRequest) -> Self {
        if request.for_repair {
            // What was deleted may be damaged, as long as it leads on to the rest.
            Self { clean: false, headers_below: request.checkpointed.log_start.unwrap_or(Offset::ZERO) }
        } else {
            Self { clean: request.checkpointed.clean, headers_below: request.durable_below() }
        }
    }
}

/// An opening under way.
struct Recovery<'a> {
    request: &'a OpenRequest,
    belief: Belief,
    inventory: Inventory,
    /// Every `.log` file, whole, whatever is in it.
    files: Vec<Arc<Segment>>,
    log_start: Offset,
    scan: Scan,
    scanned: Vec<ScannedSegment>,
    /// How many of the files, from the first, are sound without a scan.
    untouched: usize,
    snapshot: Option<Offset>,
    changes: Vec<Change>,
    /// Whether all that is left is deleted, and removed.
    starts_over: bool,
    topic_id: Option<TopicId>,
    report: RecoveryReport,
}

impl<'a> Recovery<'a> {
    /// Finds out what is there and what is to be done. Changes nothing.
    fn read(request: &'a OpenRequest, belief: Belief) -> Result<Self> {
        let mut recovery = Self::look(request, belief)?;
        recovery.scan()?;
        recovery.judge_head()?;
        recovery.adopt_prepared()?;
        recovery.judge_end()?;
        Ok(recovery)
    }

    /// A log that was cut was not clean. All of the segment where it ends is checked if it is damaged, or if segments behind
    /// it went: the end of the last one is what every opening looks at.
    fn belief_left(&self) -> Belief {
        let Some(cut) = &self.report.cut else { return self.belief };
        let became_last = |scanned: &ScannedSegment| {
            self.inventory.logs.keys().any(|&base| base > scanned.segment.base_offset())
        };
        let damaged = |scanned: &&ScannedSegment| cut.reason == CutReason::Corruption || became_last(scanned);
        let checked = self.scanned.last().filter(damaged);
        let base = checked.map_or(Offset(i64::MAX), |scanned| scanned.segment.base_offset());
        Belief { clean: false, headers_below: self.belief.headers_below.min(base) }
    }

    /// Lists the files, and chooses the snapshot to begin with.
    fn look(request: &'a OpenRequest, belief: Belief) -> Result<Self> {
        let disk = &*request.environment.disk;
        let inventory = Inventory::of(disk, &request.directory)?;
        let topic_id = match metadata::read(disk, &request.directory) {
            // It is set aside.
            Err(Error::Corrupt(_)) if request.for_repair => None,
            read => read?,
        };
        let files: Vec<_> = inventory
            .logs
            .iter()
            .map(|(&base, &len)| {
                whole_file(request, request.directory.join(SegmentFile::Log.name(base)), base, len)
            })
            .collect();
        let first = files.first().map_or(Offset::ZERO, |segment| segment.base_offset());
        let log_start = request.checkpointed.log_start.unwrap_or(first).max(first);
        let now = request.environment.clock.now();
        let mut report = RecoveryReport {
            marked_clean: request.checkpointed.clean,
            recovery_point: request.durable_below(),
            ..RecoveryReport::default()
        };
        let (snapshot, skipped) =
            load_snapshot(request, &inventory.snapshots, &files, log_start, Offset(i64::MAX))?;
        report.snapshots_skipped = skipped;
        let Snapshot { offset: replay_from, producers, .. } =
            Snapshot::or_empty(snapshot, &request.options.producers);
        let epochs = inventory.leader_epochs.clone().unwrap_or_default();
        let scan = Scan::new(belief.headers_below, replay_from, log_start, producers, epochs, now);
        let snapshot = (replay_from > Offset::ZERO).then_some(replay_from);
        let changes = inventory.leftovers.iter().cloned().map(Change::Remove).collect();
        let scanned = Vec::new();
        Ok(Self {
            request,
            belief,
            inventory,
            files,
            log_start,
            scan,
            scanned,
            untouched: 0,
            snapshot,
            changes,
            starts_over: false,
            topic_id,
            report,
        })
    }

    /// Reads every segment that the recovery point, the snapshot, or a missing checkpoint calls for. The last one is
    /// always read from its last index entry on: also the end of a log that is marked clean is looked at.
    fn scan(&mut self) -> Result<()> {
        let from = self.scan_from();
        self.untouched = first_behind(&self.files, from).saturating_sub(1);
        self.rebuild_missing_indexes()?;
        let checked_from = self.scan.checked_from;
        let checked =
            self.files[self.untouched..].iter().filter(|segment| segment.base_offset() >= checked_from);
        let ahead = self.request.environment.check_ahead.scan(checked);
        for at in self.untouched..self.files.len() {
            let segment = Arc::clone(&self.files[at]);
            let known = self.known_indexes(&segment, from);
            self.begin_checks(&segment, known.as_ref());
            let next_base = self.files.get(at + 1).map(|next| next.base_offset());
            let scanned = self.scan.segment(&segment, known, next_base, ahead.enter(&segment))?;
            // Of a log with more segments than there are descriptors, few are open at a time.
            segment.file().release();
            let stopped = scanned.stop.is_some();
            self.scanned.push(scanned);
            if stopped {
                break;
            }
        }
        Ok(())
    }

    /// The offset from which something must be read.
    fn scan_from(&self) -> Offset {
        if self.inventory.leader_epochs.is_none() {
            return Offset::ZERO;
        }
        let checked = if self.belief.clean { Offset(i64::MAX) } else { self.belief.headers_below };
        checked.min(self.scan.replay_from)
    }

    /// The entries of a segment's index files that lie below what must be read.
    fn known_indexes(&self, segment: &Arc<Segment>, from: Offset) -> Option<Indexes> {
        let has = self.inventory.has_indexes(segment.base_offset());
        let indexes = has.then(|| segment.load_indexes()).flatten()?;
        // The two files are replaced one after the other: only below the recovery point they are known to agree.
        let complete = from.max(segment.base_offset());
        Some(Indexes { offset: indexes.offset.truncated(complete), time: indexes.time.truncated(complete) })
    }

    /// The batches from the last index entry on are always checked, also below the recovery point: the end of the log is
    /// what a lying marker or checkpoint would hide.
    fn begin_checks(&mut self, segment: &Arc<Segment>, known: Option<&Indexes>) {
        let is_last = self.files.last().is_some_and(|last| last.base_offset() == segment.base_offset());
        if is_last {
            let last_entry = known.and_then(|known| known.offset.last());
            let from = last_entry.map_or(segment.base_offset(), |entry| entry.offset);
            self.scan.checked_from = self.scan.checked_from.min(from);
        }
    }

    /// Builds the indexes of sealed segments that are not scanned and lack them. From one that is damaged on, the log is
    /// scanned, and its end judged; but nobody reads what was deleted.
    fn rebuild_missing_indexes(&mut self) -> Result<()> {
        for at in 0..self.untouched {
            let segment = Arc::clone(&self.files[at]);
            let is_deleted = self.files.get(at + 1).is_some_and(|next| next.base_offset() <= self.log_start);
            if self.inventory.has_indexes(segment.base_offset()) {
                continue;
            }
            match segment.indexes() {
                Ok(_) => {
                    segment.file().release();
                    self.report.indexes_rebuilt.push(segment.base_offset());
                    self.changes.push(Change::WriteIndexes(segment));
                }
                Err(Error::Corrupt(_)) if is_deleted => {}
                Err(Error::Corrupt(_)) => {
                    self.untouched = at;
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes in a segment that was written to before it had its name, if it goes on where the log ends.
    fn adopt_prepared(&mut self) -> Result<()> {
        let Some(len) = self.inventory.prepared else { return Ok(()) };
        let path = self.request.directory.join(partition_file::PREPARED);
        let log_end = self.log_end();
        let prepared = whole_file(self.request, path.clone(), log_end, len);
        match first_sound(&prepared)? {
            Ok(first) if first.header.base_offset == log_end => {}
            Ok(first) => {
                let (expected, got) = (log_end, first.header.base_offset);
                let kind = CorruptionKind::BaseOffset { expected, got };
                return self.pass_over(&prepared, Corruption::new(path, 0, kind));
            }
            Err(found) => return self.pass_over(&prepared, found),
        }
        self.close_scanned_end()?;
        let scanned = self.scan.segment(&prepared, None, None, Sound::NOTHING)?;
        let before = self.scanned.iter().map(|scanned| Arc::clone(&scanned.segment)).collect();
        self.changes.push(Change::Name { from: path, base: log_end, before });
        self.files.push(prepared);
        self.scanned.push(scanned);
        self.report.adopted_prepared = true;
        Ok(())
    }

    /// A prepared segment that does not go on where the log ends: it is removed, but for batches that are whole, which are
    /// kept aside and reported.
    fn pass_over(&mut self, prepared: &Arc<Segment>, found: Corruption) -> Result<()> {
        let behind = behind::behind(prepared, 0)?;
        if behind.batches == 0 {
            self.changes.push(Change::Remove(prepared.file().path()));
            return Ok(());
        }
        self.close_scanned_end()?;
        let offset = self.log_end();
        // What was kept of a segment at the same offset has the position at which it was cut, which is lower.
        let to = quarantine::of_file(self.request, offset, prepared.file().end())?;
        self.changes.push(Change::MoveAside { segment: Arc::clone(prepared), to: to.clone() });
        let none = Cut { reason: CutReason::Tail, found, offset, bytes: 0, batches: 0, kept: Vec::new() };
        let cut = self.report.cut.get_or_insert(none);
        cut.bytes += behind.bytes;
        cut.batches += behind.batches;
        cut.kept.push(to);
        Ok(())
    }

    /// Where the log ends, as far as it was read.
    fn log_end(&self) -> Offset {
        match self.scanned.last() {
            Some(scanned) => scanned.summary.next_offset.max(scanned.segment.base_offset()),
            None => self.log_start,
        }
    }

    /// Whether durable records are missing in front of the first segment. A log that is only read may have an owner who deletes
    /// some just now.
    fn judge_head(&mut self) -> Result<()> {
        let Some(first) = self.files.first() else { return Ok(()) };
        let base = first.base_offset();
        let Some(missing) = self.request.checkpointed.missing_head(base) else { return Ok(()) };
        let is_refused = self.request.options.corruption == CorruptionPolicy::Refuse;
        if is_refused && !self.request.environment.read_only {
            let kind = CorruptionKind::MissingSegment { expected: missing.first, got: base };
            let found = Corruption::new(first.file().path(), 0, kind);
            return Err(Error::Corrupt(Corruption { below: Some(self.request.durable_below()), ..found }));
        }
        self.report.missing_head = Some(missing);
        Ok(())
    }

    /// Decides about what stands behind the last valid batch.
    fn judge_end(&mut self) -> Result<()> {
        self.close_scanned_end()?;
        let log_end = self.log_end();
        // Of what is deleted nothing can be missing: an opening that starts over may have been interrupted.
        let is_missing = log_end.max(self.log_start) < self.request.durable_below();
        if self.report.cut.is_none() && is_missing {
            let found = self.missing_end(log_end);
            self.refuse_or_note(found, log_end, 0, 0, Vec::new())?;
        }
        self.judge_start(log_end)
    }

    /// If the last scanned segment did not end where its file does: cuts it there, and drops the segments behind it.
    fn close_scanned_end(&mut self) -> Result<()> {
        let Some(scanned) = self.scanned.last_mut() else { return Ok(()) };
        let Some(found) = scanned.stop.take() else { return Ok(()) };
        let (segment, end) = (Arc::clone(&scanned.segment), scanned.end);
        if scan::is_unsupported(&segment, &found)? {
            return Err(Error::Corrupt(found));
        }
        let behind = behind::behind(&segment, end)?;
        let later = self.files.split_off(self.untouched + self.scanned.len());
        let log_end = self.log_end();
        self.changes.push(Change::Cut { segment: Arc::clone(&segment), end });
        if behind.bytes == 0 && later.is_empty() {
            self.report.trimmed_bytes += segment.file().end() - end;
            return if log_end < self.request.durable_below() {
                self.refuse_or_note(found, log_end, 0, 0, Vec::new())
            } else {
                Ok(())
            };
        }
        let keeps_all = self.request.for_repair || log_end < self.request.durable_below();
        let mut kept = Vec::new();
        if behind.batches > 0 || (keeps_all && behind.bytes > 0) {
            let path = quarantine::of_copy(self.request, &segment, end, behind.bytes)?;
            kept.push(path.clone());
            self.changes.push(Change::KeepAside { segment, from: end, bytes: behind.bytes, to: path });
        }
        let bytes = behind.bytes + later.iter().map(|segment| segment.file().end()).sum::<u64>();
        let mut batches = behind.batches;
        // From the highest down: a crash in between leaves no hole.
        for segment in later.into_iter().rev() {
            batches += behind::behind(&segment, 0)?.batches;
            let to = quarantine::of_file(self.request, segment.base_offset(), 0)?;
            kept.push(to.clone());
            self.changes.push(Change::MoveAside { segment, to });
        }
        self.refuse_or_note(found, log_end, bytes, batches, kept)
    }

    /// A cut below the recovery point is refused or reported, by the policy; one above is what a crash leaves.
    fn refuse_or_note(
        &mut self,
        found: Corruption,
        offset: Offset,
        bytes: u64,
        batches: u64,
        kept: Vec<PathBuf>,
    ) -> Result<()> {
        let is_tail = offset >= self.request.durable_below();
        if !is_tail && self.request.options.corruption == CorruptionPolicy::Refuse {
            return Err(Error::Corrupt(Corruption { below: Some(self.request.durable_below()), ..found }));
        }
        let reason = if is_tail { CutReason::Tail } else { CutReason::Corruption };
        self.report.cut = Some(Cut { reason, found, offset, bytes, batches, kept });
        Ok(())
    }

    /// The log ends, without any damage, below what was durable.
    fn missing_end(&self, log_end: Offset) -> Corruption {
        let (path, position) = self.scanned.last().map_or_else(
            || (self.request.directory.clone(), 0),
            |last| (last.segment.file().path(), last.end),
        );
        let kind = CorruptionKind::MissingEnd { expected: self.request.durable_below(), got: log_end };
        Corruption::new(path, position, kind)
    }

    /// The producers as they are at the log end, without those above the budget that have been idle long enough.
    fn producers(&mut self, log_end: Offset) -> Result<ProducerTable> {
        let mut producers = self.producers_at(log_end)?;
        producers.evict_excess(usize::MAX, self.scan.now);
        Ok(producers)
    }

    /// When the log turned out to end below the snapshot, from an older one.
    fn producers_at(&mut self, log_end: Offset) -> Result<ProducerTable> {
        let empty = ProducerTable::new(self.request.options.producers.clone());
        let producers = std::mem::replace(&mut self.scan.producers, empty);
        if self.scan.replay_from <= log_end {
            return Ok(producers);
        }
        let segments = self.preview();
        let (older, skipped) =
            load_snapshot(self.request, &self.inventory.snapshots, &segments, self.log_start, log_end)?;
        self.report.snapshots_skipped.extend(skipped);
        self.snapshot = older.as_ref().map(|older| older.offset);
        let older = Snapshot::or_empty(older, &self.request.options.producers);
        Ok(older.replay(&segments, log_end, self.scan.now)?.producers)
    }

    fn finish(mut self) -> Result<Recovered> {
        let end_of_batches = self.log_end();
        let log_end = end_of_batches.max(self.log_start);
        // Whatever may refuse the log comes before the first repair.
        let producers = self.producers(log_end)?;
        self.repair(log_end, &producers)?;
        let segments = self.final_segments(log_end)?;
        let is_left_alone = self.starts_over || self.request.for_repair;
        if segments.is_empty() && log_end > Offset::ZERO && !is_left_alone {
            // No record tells of the producers any more: what is known of them must be on the disk.
            repair::write_snapshot(self.request, log_end, &producers, &mut self.report);
        }
        let leader_epochs = self.leader_epochs(log_end);
        self.fill_report(log_end, segments.len(), producers.len());
        // The marker of a clean end is gone by now; what it said of this log stays known.
        let durable_below = if self.belief.clean { log_end } else { self.request.durable_below() };
        Ok(Recovered {
            segments,
            producers,
            leader_epochs,
            log_start: self.log_start,
            log_end,
            durable: log_end,
            recovery_point: durable_below.min(end_of_batches),
            topic_id: self.topic_id,
            report: self.report,
        })
    }

    /// Carries out what was found to be necessary.
    fn repair(&mut self, log_end: Offset, producers: &ProducerTable) -> Result<()> {
        self.remove_snapshots(log_end);
        if self.starts_over {
            self.changes.push(Change::keep_producers(self.request, log_end, producers));
        }
        repair::apply(self.request, std::mem::take(&mut self.changes), &mut self.report)
    }

    /// Drops the snapshots that were passed over, and those behind the end of the log.
    fn remove_snapshots(&mut self, log_end: Offset) {
        let behind = self.inventory.snapshots.iter().filter(|&&offset| offset > log_end);
        let behind = behind.map(|&offset| self.request.directory.join(SegmentFile::Snapshot.name(offset)));
        let passed_over = self.report.snapshots_skipped.iter().map(|(path, _)| path.clone());
        let doomed: BTreeSet<PathBuf> = behind.chain(passed_over).collect();
        self.changes.extend(doomed.into_iter().map(Change::Remove));
    }

    /// Those that were not scanned and stay.
    fn untouched_files(&self) -> &[Arc<Segment>] {
        &self.files[..self.untouched.min(self.files.len())]
    }

    /// The segments as they will be, of files that are not repaired yet.
    fn preview(&self) -> Vec<Arc<Segment>> {
        let cut = |ScannedSegment { segment, end, .. }: &ScannedSegment| {
            whole_file(self.request, segment.file().path(), segment.base_offset(), *end)
        };
        self.untouched_files().iter().cloned().chain(self.scanned.iter().map(cut)).collect()
    }

    /// The leader epochs as they are from the log start to the log end. Those below the first one of the checkpoint stay
    /// forgotten, although their batches may still be there.
    fn leader_epochs(&mut self, log_end: Offset) -> LeaderEpochs {
        let known = self.inventory.leader_epochs.clone().unwrap_or_default();
        let first = known.entries().first().copied();
        let mut epochs = std::mem::take(&mut self.scan.leader_epochs);
        if let Some((_, first)) = first {
            epochs.truncate_from_start(first);
        }
        // In this order, so that an epoch of deleted batches alone is forgotten, at every opening.
        epochs.truncate_from_start(self.log_start);
        epochs.truncate_from_end(log_end);
        if known != epochs {
            repair::write_leader_epochs(self.request, &epochs, &mut self.report);
        }
        epochs
    }

    /// The segments of the log, of files that are repaired.
    fn final_segments(&mut self, log_end: Offset) -> Result<Vec<Arc<Segment>>> {
        let mut rebuilt = std::mem::take(&mut self.scanned);
        if self.scan.replay_from > log_end {
            // What was replayed is not what the log ends with.
            rebuilt.iter_mut().for_each(|scanned| scanned.transactions = None);
        }
        let mut segments = self.untouched_files().to_vec();
        let count = rebuilt.len();
        for (at, scanned) in rebuilt.into_iter().enumerate() {
            let is_last = at + 1 == count;
            segments.push(self.final_segment(scanned, is_last)?);
        }
        Ok(segments)
    }

    /// A segment that was scanned, with its true end. What a crash may have left in memory only is made durable.
    fn final_segment(&mut self, scanned: ScannedSegment, is_last: bool) -> Result<Arc<Segment>> {
        let base = scanned.segment.base_offset();
        let unsynced = scanned.summary.next_offset > self.request.durable_below();
        let path = self.request.directory.join(SegmentFile::Log.name(base));
        let request = self.request;
        let path = if request.environment.read_only { scanned.segment.file().path() } else { path };
        let file = LogFile::new(Arc::clone(&request.environment.disk), request.mode, path, scanned.end, 0);
        // A killed process may have cut the last one without a sync: what it cut must not come back behind this opening.
        if (unsynced || (is_last && !self.belief.clean)) && !request.environment.read_only {
            let durable = scanned.indexes.offset.lookup(request.durable_below(), |_| ());
            file.sync_found(u64::from(durable.position))?;
        }
        file.mark_synced();
        let rebuilt = !is_last && !self.inventory.has_indexes(base);
        let segment = Arc::new(Segment::recovered(
            base,
            file,
            request.options.indexes(),
            scanned.indexes,
            scanned.transactions,
            scanned.summary,
        ));
        if rebuilt {
            self.report.indexes_rebuilt.push(base);
        }
        // What an index says of batches that were cut would have the next opening check more than this one.
        let was_cut = is_last && self.report.cut.is_some();
        if was_cut || (!is_last && (unsynced || rebuilt)) {
            repair::write_indexes(request, &segment, &mut self.report);
        } else if !is_last {
            // They were complete before the recovery point came to lie behind them.
            segment.set_indexes_saved();
        }
        Ok(segment)
    }

    fn fill_report(&mut self, log_end: Offset, segments: usize, producers: usize) {
        let report = &mut self.report;
        report.log_start = self.log_start;
        report.log_end = log_end;
        report.segments = segments;
        report.producers = producers;
        report.snapshot = self.snapshot;
        report.bytes_read = self.scan.stats.bytes_read;
        report.batches_checked = self.scan.stats.batches_checked;
        report.batches_replayed = self.scan.stats.batches_replayed;
    }
}

/// The batch that a file begins with, or what is wrong with it.
fn first_sound(segment: &Arc<Segment>) -> Result<Result<PlacedBatch, Corruption>> {
    let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
    let first = cursor.peek().and_then(|first| match first {
        Some(first) => cursor.check(&first, &mut Vec::new()).map(|()| Ok(first)),
        None => Ok(Err(empty(segment))),
    });
    match first {
        Err(Error::Corrupt(found)) => Ok(Err(found)),
        first => first,
    }
}

/// What is said of a file without a batch.
fn empty(segment: &Segment) -> Corruption {
    let kind = CorruptionKind::Format("no batch");
    Corruption::new(segment.file().path(), 0, kind)
}

/// A file of the partition, its first `len` bytes readable, valid or not.
fn whole_file(request: &OpenRequest, path: PathBuf, base: Offset, len: u64) -> Arc<Segment> {
    let file = LogFile::new(Arc::clone(&request.environment.disk), request.mode, path, len, len);
    Arc::new(Segment::sealed(base, file, request.options.indexes()))
}

/// Snapshots that were passed over, and why.
type Skipped = Vec<(PathBuf, String)>;

/// The newest snapshot that the log bears out, and what was passed over.
fn load_snapshot(
    request: &OpenRequest,
    offsets: &[Offset],
    segments: &[Arc<Segment>],
    log_start: Offset,
    limit: Offset,
) -> Result<(Option<Snapshot>, Skipped)> {
    let now = request.environment.clock.now();
    let (disk, policy) = (&*request.environment.disk, &request.options.producers);
    let place = Place { disk, directory: &request.directory, mode: request.mode };
    let (snapshot, unusable) = snapshots::newest(place, offsets, segments, log_start, limit, policy, now)?;
    Ok((snapshot, unusable.into_iter().map(|unusable| (unusable.path, unusable.kind.to_string())).collect()))
}
