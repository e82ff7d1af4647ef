//! The log as it comes out of recovery: its producers, leader epochs and segments, when the disk is put right.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::repair::{self, Change};
use super::scan::ScannedSegment;
use super::{Recovered, Recovery, load_snapshot, quarantine, whole_file};
use crate::epoch::LeaderEpochs;
use crate::error::Result;
use crate::fs::name::SegmentFile;
use crate::log::producers::snapshots::Snapshot;
use crate::producer::ProducerTable;
use crate::segment::{LogFile, Segment};
use crate::types::Offset;

impl Recovery<'_> {
    pub(super) fn finish(mut self) -> Result<Recovered> {
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
            kept_bytes: self.kept_bytes(),
            report: self.report,
        })
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

    /// The size of what was kept by this opening, and before.
    fn kept_bytes(&self) -> u64 {
        let keeps = self.report.cut.is_some() || self.report.below_start.is_some();
        let request = self.request;
        let is_any = keeps || self.inventory.has_quarantined;
        if is_any { quarantine::size(&*request.environment.disk, &request.directory) } else { 0 }
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
