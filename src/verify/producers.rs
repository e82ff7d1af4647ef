//! Snapshots, held against the producers that the batches show; and the transactions that were aborted.
//!
//! The batches are replayed once, in order. Where they tell everything (from offset 0, or from a snapshot on) each
//! snapshot that is come by must agree. It may lack producers: whoever was idle for too long is forgotten.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sealed::is_gone;
use super::unfinished::Unfinished;
use super::{ProblemKind, ProducerDifference, VerifyReport};
use crate::batch::{DEFAULT_MAX_DECOMPRESSED, read_control};
use crate::error::{Error, IoContext, Result};
use crate::fs::name::SegmentFile;
use crate::fs::{Access, Disk};
use crate::log::read_snapshot;
use crate::producer::{
    ProducerBatch, ProducerInfo, ProducerPolicy, ProducerTable, SnapshotIdentity, snapshot,
};
use crate::segment::{BatchCursor, PlacedBatch, Segment, segment_at};
use crate::transaction::{AbortedTransaction, Transactions};
use crate::types::{Offset, ProducerId, Timestamp};

/// The producers as far as the log was walked, and the snapshots that are still to come.
#[derive(Debug)]
pub(super) struct Producers {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segments: Vec<Arc<Segment>>,
    /// Where the log begins.
    first: Offset,
    pending: VecDeque<Offset>,
    /// `None` while the batches do not tell everything.
    replayed: Option<ProducerTable>,
    /// Those that a snapshot lacked: what comes of them later is not known.
    forgotten: HashSet<ProducerId>,
    /// The open transactions of `replayed`.
    transactions: Transactions,
    /// Those that were aborted in the segment under way; `None` if the batches do not tell of all.
    aborted: Option<Vec<AbortedTransaction>>,
}

impl Producers {
    pub(super) fn new(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        snapshots: &[Offset],
        first: Option<Offset>,
        segments: Vec<Arc<Segment>>,
    ) -> Self {
        let mut pending = snapshots.to_vec();
        pending.sort_unstable();
        // Of a log without a segment nothing is told: its producers may have been imported.
        let tells_all = first == Some(Offset::ZERO);
        let first = first.unwrap_or(Offset::ZERO);
        Self {
            disk: Arc::clone(disk),
            directory: directory.to_owned(),
            segments,
            first,
            pending: pending.into(),
            replayed: tells_all.then(|| ProducerTable::new(ProducerPolicy::remembering_all())),
            forgotten: HashSet::new(),
            transactions: Transactions::default(),
            aborted: None,
        }
    }

    /// A segment begins at `base`.
    pub(super) fn begin_segment(&mut self, base: Offset, report: &mut VerifyReport) -> Result<()> {
        self.reach(base, report)?;
        self.aborted = self.replayed.is_some().then(Vec::new);
        Ok(())
    }

    /// The transactions that were aborted in the segment that was walked last, if all are known.
    pub(super) fn aborted(&self) -> Option<&[AbortedTransaction]> {
        self.aborted.as_deref()
    }

    /// What was replayed does not tell everything any more, until the next snapshot does.
    pub(super) fn lose(&mut self) {
        self.replayed = None;
        self.aborted = None;
    }

    /// Takes the next batch of the log.
    pub(super) fn batch(
        &mut self,
        cursor: &BatchCursor,
        batch: &PlacedBatch,
        report: &mut VerifyReport,
    ) -> Result<()> {
        self.reach(batch.header.base_offset, report)?;
        let Some(replayed) = &mut self.replayed else { return Ok(()) };
        let control =
            read_control(&batch.header, cursor.slice(batch), DEFAULT_MAX_DECOMPRESSED, &mut Vec::new());
        let Ok(control) = control else {
            self.lose();
            return Ok(());
        };
        let effect = replayed.replay(&batch.header, control, batch.header.max_timestamp);
        let aborted = effect.and_then(|effect| self.transactions.note(effect));
        if let Some(known) = &mut self.aborted {
            known.extend(aborted);
        }
        Ok(())
    }

    /// Judges what is left at the end of the log. A crash may take batches away that a snapshot has.
    pub(super) fn finish(
        &mut self,
        log_end: Offset,
        unfinished: Unfinished,
        report: &mut VerifyReport,
    ) -> Result<()> {
        self.reach(log_end, report)?;
        for offset in std::mem::take(&mut self.pending) {
            let (path, beyond) = (self.path(offset), ProblemKind::SnapshotBeyondEnd { log_end });
            if unfinished.has(offset, None) {
                report.note(&path, 0, ProblemKind::Outlived { found: Box::new(beyond) });
            } else {
                report.error(&path, 0, beyond);
            }
        }
        Ok(())
    }

    fn path(&self, offset: Offset) -> PathBuf {
        self.directory.join(SegmentFile::Snapshot.name(offset))
    }

    /// Judges the snapshots up to `offset`: every batch below it has been taken.
    fn reach(&mut self, offset: Offset, report: &mut VerifyReport) -> Result<()> {
        while let Some(&next) = self.pending.front()
            && next <= offset
        {
            self.pending.pop_front();
            let read = self.read(next);
            // The owner has removed it since, as it does with older ones.
            if read.as_ref().is_err_and(is_gone) {
                continue;
            }
            let Some((table, identity)) = report.take(read)? else { continue };
            self.check_identity(next, identity.as_ref(), report)?;
            self.judge(next, table, report);
        }
        Ok(())
    }

    fn read(&self, offset: Offset) -> Result<(ProducerTable, Option<SnapshotIdentity>)> {
        let path = self.path(offset);
        let file = self.disk.open(&path, Access::Read).at("open", &path)?;
        let bytes = read_snapshot(&*file, file.len().at("read", &path)?, &path)?;
        snapshot::decode(&bytes, offset, ProducerPolicy::remembering_all(), Timestamp(0))
            .map_err(|kind| Error::corrupt(&path, 0, kind))
    }

    /// The last batch that the snapshot covers must be where it says, unless the log begins behind it.
    fn check_identity(
        &self,
        offset: Offset,
        identity: Option<&SnapshotIdentity>,
        report: &mut VerifyReport,
    ) -> Result<()> {
        let Some(identity) = identity.filter(|identity| identity.base_offset >= self.first) else {
            return Ok(());
        };
        let Some(segment) = segment_at(&self.segments, identity.base_offset) else { return Ok(()) };
        let found = match BatchCursor::new(Arc::clone(segment), identity.position).peek() {
            Err(Error::Corrupt(_)) => None,
            // That is told where the segment is walked.
            Err(Error::Io(_)) => return Ok(()),
            peeked => peeked?,
        };
        let fits = found.is_some_and(|batch| {
            let header = batch.header;
            (header.base_offset, header.crc, header.leader_epoch)
                == (identity.base_offset, identity.crc, identity.leader_epoch)
        });
        if !fits {
            let kind = ProblemKind::SnapshotBatch { offset: identity.base_offset };
            report.error(&self.path(offset), 0, kind);
        }
        Ok(())
    }

    /// Holds the snapshot against the batches, or begins with it where they do not tell everything.
    fn judge(&mut self, offset: Offset, snapshot: ProducerTable, report: &mut VerifyReport) {
        let Some(replayed) = &self.replayed else {
            if offset >= self.first {
                self.transactions = snapshot.open_transactions().collect();
                self.replayed = Some(snapshot);
                self.forgotten.clear();
            }
            return;
        };
        let path = self.path(offset);
        let mut shown: HashMap<ProducerId, ProducerInfo> =
            replayed.iter().map(|producer| (producer.producer_id, producer)).collect();
        for producer in snapshot.iter() {
            let producer_id = producer.producer_id;
            let in_log = shown.remove(&producer_id);
            if self.forgotten.contains(&producer_id) {
                continue;
            }
            if let Some(difference) = difference(&producer, in_log.as_ref()) {
                report.error(&path, 0, ProblemKind::Producer { producer_id, difference });
            }
        }
        let lacking = shown.into_keys().filter(|id| !self.forgotten.contains(id)).collect::<Vec<_>>();
        if !lacking.is_empty() {
            report.note(&path, 0, ProblemKind::ForgottenProducers { count: lacking.len() });
            self.forgotten.extend(lacking);
        }
    }
}

/// Where a snapshot and the log do not say the same of a producer.
fn difference(snapshot: &ProducerInfo, log: Option<&ProducerInfo>) -> Option<ProducerDifference> {
    let Some(log) = log else { return Some(ProducerDifference::Unknown) };
    if snapshot.epoch != log.epoch {
        return Some(ProducerDifference::Epoch { expected: log.epoch, got: snapshot.epoch });
    }
    let (got, expected) = (snapshot.transaction_first_offset, log.transaction_first_offset);
    if got != expected {
        return Some(ProducerDifference::Transaction { expected, got });
    }
    if !snapshot.batches.is_empty() && log.batches.is_empty() {
        return Some(ProducerDifference::Batches);
    }
    // Either may remember fewer: Kafka's snapshots have one, and a window is as wide as its owner wants. Where sequences only
    // increase, no batch without them is remembered.
    let newest_first = |known: &'_ ProducerInfo| {
        let numbered = known.batches.iter().rev().filter(|batch| batch.last_sequence.0 >= 0);
        numbered.copied().collect::<Vec<_>>()
    };
    let pairs = newest_first(snapshot).into_iter().zip(newest_first(log));
    let (got, expected) = pairs.into_iter().find(|(got, expected)| !same(got, expected))?;
    Some(ProducerDifference::Batch { expected, got })
}

fn same(got: &ProducerBatch, expected: &ProducerBatch) -> bool {
    let place = |batch: &ProducerBatch| (batch.first_sequence, batch.last_sequence, batch.offsets);
    let crc_differs = got.crc.zip(expected.crc).is_some_and(|(got, expected)| got != expected);
    place(got) == place(expected) && !crc_differs
}
