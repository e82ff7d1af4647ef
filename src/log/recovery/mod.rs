//! Opening a partition: what is there, what of it is valid, and what must be put right.
//!
//! Reading comes first and changes nothing; the outcome is a state in memory and a list of changes to the disk. A log that is
//! opened for reading only stops there.

mod assembly;
mod behind;
mod below_start;
mod checkpointed;
mod ends;
mod inventory;
mod prepared;
mod quarantine;
mod repair;
mod report;
mod scan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use behind::last_valid_batch;
pub(crate) use checkpointed::CheckpointedState;
pub(crate) use inventory::{read_leader_epochs, segment_length};
pub use report::{BelowStart, Cut, CutReason, RecoveryReport};
pub(crate) use scan::is_unsupported;

use super::metadata;
use super::options::LogOptions;
use super::producers::snapshots::{self, Place, Snapshot};
use crate::environment::Environment;
use crate::epoch::LeaderEpochs;
use crate::error::{Error, Result};
use crate::fs::IoMode;
use crate::fs::name::{SegmentFile, TopicPartition};
use crate::producer::ProducerTable;
use crate::segment::{Indexes, LogFile, Segment, first_behind};
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
    /// The size of what was taken out of the log, and kept.
    pub(crate) kept_bytes: u64,
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
    // Before anything is read: a sector that cannot be is a signal where it is mapped, and nobody would know in which partition.
    event!(debug, partition = %request.name, directory = %request.directory.display(), "opening");
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
    if recovered.report.cut.is_some() {
        event!(warn, partition = %request.name, report = %recovered.report, "opened, and cut");
    } else {
        event!(info, partition = %request.name, report = %recovered.report, "opened");
    }
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
        let inventory = Inventory::of(&*request.environment.disk, &request.directory)?;
        let topic_id = read_topic_id(request)?;
        let files = whole_files(request, &inventory);
        let first = files.first().map_or(Offset::ZERO, |segment| segment.base_offset());
        let log_start = request.checkpointed.log_start.unwrap_or(first).max(first);
        let (snapshot, snapshots_skipped) =
            load_snapshot(request, &inventory.snapshots, &files, log_start, Offset(i64::MAX))?;
        Ok(Self {
            request,
            belief,
            snapshot: snapshot.as_ref().map(|found| found.offset).filter(|&offset| offset > Offset::ZERO),
            scan: begin_scan(request, belief, &inventory, log_start, snapshot),
            changes: inventory.leftovers.iter().cloned().map(Change::Remove).collect(),
            inventory,
            files,
            log_start,
            scanned: Vec::new(),
            untouched: 0,
            starts_over: false,
            topic_id,
            report: RecoveryReport {
                marked_clean: request.checkpointed.clean,
                recovery_point: request.durable_below(),
                snapshots_skipped,
                ..RecoveryReport::default()
            },
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

    /// Where the log ends, as far as it was read.
    fn log_end(&self) -> Offset {
        match self.scanned.last() {
            Some(scanned) => scanned.summary.next_offset.max(scanned.segment.base_offset()),
            None => self.log_start,
        }
    }
}

fn read_topic_id(request: &OpenRequest) -> Result<Option<TopicId>> {
    match metadata::read(&*request.environment.disk, &request.directory) {
        // It is set aside.
        Err(Error::Corrupt(_)) if request.for_repair => Ok(None),
        read => read,
    }
}

/// A scan that goes on from what is known of the log below.
fn begin_scan(
    request: &OpenRequest,
    belief: Belief,
    inventory: &Inventory,
    log_start: Offset,
    snapshot: Option<Snapshot>,
) -> Scan {
    let now = request.environment.clock.now();
    let epochs = inventory.leader_epochs.clone().unwrap_or_default();
    let Snapshot { offset: replay_from, producers, .. } =
        Snapshot::or_empty(snapshot, &request.options.producers);
    Scan::new(belief.headers_below, replay_from, log_start, producers, epochs, now)
}

fn whole_files(request: &OpenRequest, inventory: &Inventory) -> Vec<Arc<Segment>> {
    let path = |base| request.directory.join(SegmentFile::Log.name(base));
    inventory.logs.iter().map(|(&base, &len)| whole_file(request, path(base), base, len)).collect()
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
