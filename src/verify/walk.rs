//! Every batch of the log, in order.

use std::sync::Arc;

use super::epochs::Epochs;
use super::producers::Producers;
use super::unfinished::Unfinished;
use super::{ProblemKind, Progress, VerifyReport};
use crate::batch::{BatchHeader, DEFAULT_MAX_DECOMPRESSED, check_records};
use crate::error::{BatchError, Corruption, CorruptionKind, Error, Result};
use crate::fs::name::SegmentFile;
use crate::log::{CheckpointedState, is_unsupported, last_valid_batch};
use crate::segment::{BatchCursor, PlacedBatch, Segment};
use crate::transaction::AbortedTransaction;
use crate::types::{LeaderEpoch, Offset, ProducerId, Timestamp};

/// How much is looked at together behind the last batch.
const CHUNK: u64 = 256 << 10;

/// A batch, as far as index entries speak of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) position: u64,
    pub(super) last_offset: Offset,
    pub(super) timestamp: Timestamp,
    /// Of the batches of the segment up to this one.
    pub(super) largest_timestamp: Timestamp,
    /// Whose transaction it ends, if it is a control batch.
    pub(super) marker_of: Option<ProducerId>,
}

/// The offsets that no batch of a segment has, where that is allowed.
#[derive(Debug, Default)]
struct Gaps {
    count: u64,
    missing: i64,
    /// Where the first one is: a position, and the offsets on both sides.
    first: Option<(u64, Offset, Offset)>,
}

impl Gaps {
    fn add(&mut self, position: u64, expected: Offset, got: Offset) {
        self.count += 1;
        self.missing = self.missing.saturating_add(got - expected);
        self.first.get_or_insert((position, expected, got));
    }
}

/// A pass over the batches, and what it holds them against.
pub(super) struct Walk<'a> {
    pub(super) report: &'a mut VerifyReport,
    progress: Progress<'a>,
    allow_gaps: bool,
    /// The base offsets of segments of which only an index is there.
    orphans: Vec<Offset>,
    pub(super) unfinished: Unfinished,
    /// Where the walk ends, of a segment that goes on.
    below: Option<Offset>,
    /// Whether what a crash left was come by: an opening cuts the log there.
    has_ended: bool,
    /// Where the last valid batch of the segment under way begins, of those behind the first that is wrong: looked for once, as
    /// every batch may be wrong.
    last_valid: Option<Option<u64>>,
    gaps: Gaps,
    producers: Producers,
    epochs: Epochs,
    /// Where the segment behind the one under way begins.
    next_base: Option<Offset>,
    /// The offset that must come next; `None` at the beginning and behind damage, where any may.
    expected: Option<Offset>,
    /// Batches that end at it or before are no part of the log any more.
    log_start: Offset,
    log_end: Offset,
    /// How many segments hold batches.
    filled: usize,
    leader_epoch: LeaderEpoch,
    scratch: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        report: &'a mut VerifyReport,
        progress: Progress<'a>,
        allow_gaps: bool,
        orphans: Vec<Offset>,
        checkpointed: CheckpointedState,
        producers: Producers,
        epochs: Epochs,
    ) -> Self {
        Self {
            report,
            progress,
            allow_gaps,
            orphans,
            unfinished: Unfinished::of(checkpointed),
            below: None,
            has_ended: false,
            last_valid: None,
            gaps: Gaps::default(),
            producers,
            epochs,
            next_base: None,
            expected: None,
            log_start: checkpointed.log_start.unwrap_or(Offset::ZERO),
            log_end: Offset::ZERO,
            filled: 0,
            leader_epoch: LeaderEpoch::UNKNOWN,
            scratch: Vec::new(),
        }
    }

    pub(super) fn log_end(&self) -> Offset {
        self.log_end
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Whether the log has ended, for the next opening, in front of what is still to come.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The transactions that were aborted in the segment that was walked last, if all are known.
    pub(super) fn aborted(&self) -> Option<&[AbortedTransaction]> {
        self.producers.aborted()
    }

    /// Walks a segment; the next one begins at `next_base`. Returns its batches.
    pub(super) fn segment(&mut self, segment: &Arc<Segment>, next_base: Option<Offset>) -> Result<Vec<Seen>> {
        self.next_base = next_base;
        self.last_valid = None;
        self.begin(segment)?;
        let mut batches = Vec::new();
        self.has_ended = self.batches(segment, &mut batches)?;
        self.filled += usize::from(!batches.is_empty());
        self.note_gaps(segment);
        Ok(batches)
    }

    /// Whether the log ends in the segment although more follows.
    fn batches(&mut self, segment: &Arc<Segment>, batches: &mut Vec<Seen>) -> Result<bool> {
        let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
        loop {
            if self.is_above(None) {
                return Ok(true);
            }
            match cursor.peek() {
                // The recovery point lies inside of it.
                Ok(Some(batch)) if self.is_above(Some(&batch)) => {
                    self.log_end = self.below.unwrap_or(self.log_end);
                    return Ok(true);
                }
                Ok(Some(batch)) if self.batch(&cursor, &batch)? => return Ok(true),
                Ok(Some(batch)) => {
                    batches.push(seen(&batch, batches.last()));
                    cursor.skip(&batch);
                }
                Ok(None) => return Ok(false),
                Err(Error::Corrupt(found)) => return self.stop(segment, found),
                Err(error) => return Err(error),
            }
        }
    }

    /// Walks a segment up to the batch that ends above `below`: it goes on there, and may be under way.
    pub(super) fn segment_below(&mut self, segment: &Arc<Segment>, below: Offset) -> Result<()> {
        self.below = Some(below);
        let walked = self.segment(segment, None).map(drop);
        self.below = None;
        walked
    }

    /// Whether the walk ends in front of what comes next.
    fn is_above(&self, next: Option<&PlacedBatch>) -> bool {
        self.below.is_some_and(|below| {
            self.log_end >= below || next.is_some_and(|batch| batch.header.next_offset() > below)
        })
    }

    /// Walks a segment that has no name yet, if it goes on where the log ends.
    pub(super) fn prepared(&mut self, segment: &Arc<Segment>) -> Result<()> {
        let path = segment.file().path();
        match BatchCursor::new(Arc::clone(segment), 0).peek() {
            Ok(Some(first)) if first.header.base_offset == self.log_end => {
                self.report.note(&path, 0, ProblemKind::UnnamedSegment);
                self.segment(segment, None).map(drop)
            }
            Ok(_) | Err(Error::Corrupt(_)) => {
                self.report.note(&path, 0, ProblemKind::PreparedSegment);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// What only shows at the end. Returns the log end offset.
    pub(super) fn finish(mut self) -> Result<Offset> {
        let log_end = self.log_end.max(self.log_start);
        self.producers.finish(log_end, self.unfinished, self.report)?;
        self.epochs.finish(log_end, self.report);
        Ok(log_end)
    }

    /// The segment before must have ended where this one begins.
    pub(super) fn begin(&mut self, segment: &Segment) -> Result<()> {
        let base = segment.base_offset();
        if !self.is_behind_lost(segment) {
            self.follow(segment, 0, base, |expected, got| ProblemKind::MissingSegment { expected, got });
        }
        self.expected = Some(base);
        self.log_end = self.log_end.max(base);
        self.producers.begin_segment(base, self.report)
    }

    /// Whether a segment in front of this one is gone, whose index tells that no gap was here: also where gaps are allowed.
    fn is_behind_lost(&mut self, segment: &Segment) -> bool {
        let (Some(expected), got) = (self.expected, segment.base_offset()) else { return false };
        let Some(lost) = self.orphans.iter().filter(|base| (expected..got).contains(base)).min() else {
            return false;
        };
        let path = segment.file().path().with_file_name(SegmentFile::Log.name(*lost));
        self.report.error(&path, 0, ProblemKind::LostSegment { expected, got });
        self.producers.lose();
        true
    }

    /// What comes next begins at `got`. A gap in front of it is told here; that it begins too early was told before.
    fn follow(
        &mut self,
        segment: &Segment,
        position: u64,
        got: Offset,
        gap: impl FnOnce(Offset, Offset) -> ProblemKind,
    ) {
        let Some(expected) = self.expected.filter(|&expected| expected != got) else { return };
        self.producers.lose();
        if got > expected && self.allow_gaps {
            self.gaps.add(position, expected, got);
        } else if got > expected {
            self.report.error(&segment.file().path(), position, gap(expected, got));
        }
    }

    /// A line for each segment: a compacted log has gaps everywhere.
    fn note_gaps(&mut self, segment: &Segment) {
        let Gaps { count, missing, first } = std::mem::take(&mut self.gaps);
        if let Some((position, first, next)) = first {
            let kind = ProblemKind::Gaps { count, missing, first, next };
            self.report.note(&segment.file().path(), position, kind);
        }
    }

    /// Looks at a batch. `true` if the log ends in front of it.
    fn batch(&mut self, cursor: &BatchCursor, batch: &PlacedBatch) -> Result<bool> {
        self.report.batches += 1;
        self.report.bytes += batch.header.size() as u64;
        (self.progress)(self.report.bytes);
        let segment = cursor.segment();
        if let Some(damage) = self.damage(cursor, batch)? {
            return self.damaged(segment, batch.position, damage);
        }
        if let Some(kind) = self.misplaced(&batch.header)
            && self.wrong(segment, batch.position, kind)?
        {
            return Ok(true);
        }
        self.place(segment, batch);
        self.check_records(cursor, batch);
        self.epochs.check(batch, self.report);
        self.producers.batch(cursor, batch, self.report)?;
        Ok(false)
    }

    /// What keeps the bytes from being a batch of the segment, which has room for 2^31 offsets.
    fn damage(&mut self, cursor: &BatchCursor, batch: &PlacedBatch) -> Result<Option<ProblemKind>> {
        match cursor.check(batch, &mut self.scratch) {
            Err(Error::Corrupt(found)) => return Ok(Some(found.kind.into())),
            checked => checked?,
        };
        let last_offset = batch.header.last_offset();
        let is_far = last_offset - cursor.segment().base_offset() > i64::from(i32::MAX);
        Ok(is_far.then_some(ProblemKind::BeyondSegment { last_offset }))
    }

    fn check_records(&mut self, cursor: &BatchCursor, batch: &PlacedBatch) {
        let path = cursor.segment().file().path();
        let records =
            check_records(&batch.header, cursor.slice(batch), DEFAULT_MAX_DECOMPRESSED, &mut self.scratch);
        match records {
            Ok(()) => {}
            // Its owner may allow for more.
            Err(problem @ BatchError::DecompressedTooLarge { .. }) => {
                self.report.note(&path, batch.position, ProblemKind::NotLookedAt(problem));
            }
            Err(problem) => self.report.error(&path, batch.position, problem),
        }
    }

    /// Offsets rise and stay inside of their segment; leader epochs do not fall. What is wrong with that first.
    fn misplaced(&self, header: &BatchHeader) -> Option<ProblemKind> {
        let (got, last_offset) = (header.base_offset, header.last_offset());
        if let Some(expected) = self.expected.filter(|&expected| got < expected) {
            return Some(CorruptionKind::BaseOffset { expected, got }.into());
        }
        if self.next_base.is_some_and(|next| last_offset >= next) {
            return Some(ProblemKind::IntoNextSegment { last_offset });
        }
        let is_older = self.log_end > self.log_start && header.leader_epoch < self.leader_epoch;
        let (expected, got) = (self.leader_epoch, header.leader_epoch);
        is_older.then(|| CorruptionKind::LeaderEpoch { expected, got }.into())
    }

    /// The log goes on with a batch.
    fn place(&mut self, segment: &Segment, batch: &PlacedBatch) {
        let (header, position) = (&batch.header, batch.position);
        self.follow(segment, position, header.base_offset, |expected, got| ProblemKind::Gap {
            expected,
            got,
        });
        self.leader_epoch = header.leader_epoch;
        self.expected = Some(header.next_offset());
        self.log_end = self.log_end.max(header.next_offset());
    }

    /// Tells what no sound log has: damage, or the end that a crash left and the next opening cuts off. Whether it is the end.
    fn wrong(&mut self, segment: &Segment, position: u64, kind: ProblemKind) -> Result<bool> {
        let (path, log_end) = (segment.file().path(), self.log_end);
        let is_end = self.unfinished.begins(log_end, || self.is_last(segment, position))?;
        if is_end {
            let found = Box::new(kind);
            self.report.note(&path, position, ProblemKind::UnfinishedEnd { found, log_end });
        } else {
            self.report.error(&path, position, kind);
        }
        Ok(is_end)
    }

    /// Whether no batch of the log follows what is wrong at `position`, or is it.
    fn is_last(&mut self, segment: &Segment, position: u64) -> Result<bool> {
        if self.next_base.is_some() {
            return Ok(false);
        }
        let last = match self.last_valid {
            Some(last) => last,
            None => *self.last_valid.insert(last_valid_batch(segment, position)?),
        };
        Ok(last.is_none_or(|last| last < position))
    }

    /// As [`wrong`](Self::wrong), of bytes that are no batch.
    fn damaged(&mut self, segment: &Segment, position: u64, kind: ProblemKind) -> Result<bool> {
        let is_end = self.wrong(segment, position, kind)?;
        if !is_end {
            self.lose();
        }
        Ok(is_end)
    }

    /// Behind damage, or a segment that cannot be read, nothing is known of the offset that must come, nor of the producers.
    pub(super) fn lose(&mut self) {
        self.expected = None;
        self.producers.lose();
    }

    /// The bytes at `found` are no batch: whether the log ends there for the next opening. Zeros are what an owner that did not
    /// close leaves at the end of the log.
    fn stop(&mut self, segment: &Segment, found: Corruption) -> Result<bool> {
        let position = found.position;
        if self.next_base.is_none() && is_zero(segment, position)? {
            let bytes = segment.file().end() - position;
            self.report.note(&found.path, position, ProblemKind::EmptyBytes { bytes });
            return Ok(false);
        }
        if is_unsupported(segment, &found)? {
            self.report.error(&found.path, position, found.kind);
            self.lose();
            return Ok(false);
        }
        self.damaged(segment, position, found.kind.into())
    }
}

fn seen(batch: &PlacedBatch, before: Option<&Seen>) -> Seen {
    let timestamp = batch.header.max_timestamp;
    Seen {
        position: batch.position,
        last_offset: batch.header.last_offset(),
        timestamp,
        largest_timestamp: before.map_or(timestamp, |before| before.largest_timestamp.max(timestamp)),
        marker_of: batch.header.is_control().then_some(batch.header.producer_id),
    }
}

/// Whether there are only zeros from `position` on.
fn is_zero(segment: &Segment, mut position: u64) -> Result<bool> {
    while position < segment.file().end() {
        let chunk = segment.file().bytes(position, position + CHUNK)?;
        if chunk.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        position += chunk.len() as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{VerifyOptions, partition};
    use super::*;
    use crate::fs::sim::{Operation, SimDisk};
    use crate::fs::{Access, Disk, IoMode};
    use crate::log_dir::{LogDir, LogDirOptions};
    use crate::{BatchBuilder, LogOptions};

    const DATA: &str = "/data";
    const LOG: &str = "/data/orders-0/00000000000000000000.log";

    /// A log that no checkpoint tells of, the last of whose batches is the only sound one.
    fn damaged_but_for_its_last_batch(disk: &Arc<dyn Disk>, batches: usize) {
        let options = LogOptions::default().io_mode(Some(IoMode::Write));
        let options = LogDirOptions::default().disk(Arc::clone(disk)).log(options);
        let log = LogDir::open(DATA, options).unwrap().partition("orders", 0).unwrap();
        let batch = BatchBuilder::new().record("key", "value").build().unwrap();
        for _ in 0..batches {
            log.append(&batch).unwrap();
        }
        drop(log);
        let file = disk.open(Path::new(LOG), Access::Write).unwrap();
        let size = batch.bytes().len() as u64;
        (1..batches as u64).for_each(|at| file.write_at(&[0xff], at * size - 1).unwrap());
    }

    /// Behind each thing that was wrong all the rest of a segment was looked through for batches that follow, at gigabytes a time.
    #[test]
    fn batches_that_follow_are_looked_for_once_in_a_segment() {
        let sim = SimDisk::new(IoMode::Write);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        damaged_but_for_its_last_batch(&disk, 500);
        let before = sim.calls(Operation::Read);
        let (mut report, unknown) = (VerifyReport::default(), CheckpointedState::default());
        let (directory, options) = (Path::new("/data/orders-0"), VerifyOptions::default());
        partition::verify(&disk, directory, &options, unknown, &mut report, &mut |_| {}).unwrap();
        let errors = report.problems.iter().filter(|problem| problem.kind.name() == "crc").count();
        assert_eq!((errors, report.has_errors()), (499, true));
        let reads = sim.calls(Operation::Read) - before;
        assert!(reads < 50, "{reads} reads");
    }
}
