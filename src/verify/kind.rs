//! What `verify` finds, as values.

use crate::error::{BatchError, CorruptionKind};
use crate::producer::ProducerBatch;
use crate::transaction::AbortedTransaction;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// What a [`Problem`](super::Problem) is. Printed, it is the text of the problem.
///
/// ```
/// use idemlog::Offset;
/// use idemlog::verify::{ProblemKind, VerifyOptions, verify};
/// # use idemlog::{BatchBuilder, LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # let log = dir.partition("orders", 0)?;
/// # log.append(&BatchBuilder::new().record(b"k", b"v").record(b"k", b"v").build()?)?;
/// # log.truncate_to(Offset(1))?;
/// # log.append(&BatchBuilder::new().record(b"k", b"v").build()?)?;
/// # dir.close()?;
/// # drop(log);
///
/// let report = verify(data.path(), &VerifyOptions::default())?;
/// let gap = &report.problems[0].kind;
/// assert_eq!(*gap, ProblemKind::Gap { expected: Offset(0), got: Offset(1) });
/// assert_eq!(gap.name(), "gap");
/// assert_eq!(gap.to_string(), "a batch at offset 1 where 0 must stand");
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The bytes of a file are not what they must be.
    Corrupt(CorruptionKind),
    /// What is found so of batches that a crash may have taken away; the next opening puts it right.
    Outlived {
        /// What it would be in a log that was closed well.
        found: Box<Self>,
    },
    /// The disk does not let it be read.
    Unread {
        /// The error, in words.
        error: String,
    },

    /// No file of a log directory or of a partition is here.
    NotALog,
    /// A partition that has a recovery point is not there.
    MissingPartition {
        /// Up to here it was durable.
        recovery_point: Offset,
    },
    /// The same behind a crash, right before which it may have been deleted.
    PartitionGone {
        /// Up to here it was durable.
        recovery_point: Offset,
    },

    /// A directory or a link has the name of a file.
    NotAFile,
    /// Kafka has begun a compaction or a split of a segment, and not ended it.
    UnfinishedCompaction,
    /// A file that nothing refers to.
    Leftover,
    /// Bytes that were cut out of the log before.
    KeptAside,
    /// A segment that has no name yet, and batches of the log.
    UnnamedSegment,
    /// A segment that has no name, and nothing of the log.
    PreparedSegment,

    /// Offsets are missing in front of a batch. A log that was compacted, replicated or truncated inside of a batch has gaps.
    Gap {
        /// The offset that must stand here.
        expected: Offset,
        /// The offset found.
        got: Offset,
    },
    /// Offsets are missing in front of a segment: there is such a gap, or a segment is missing.
    MissingSegment {
        /// The offset at which a segment must begin.
        expected: Offset,
        /// Where the next one begins.
        got: Offset,
    },
    /// The same, but it is no gap: an index of the segment that is missing is left.
    LostSegment {
        /// The offset at which a segment must begin.
        expected: Offset,
        /// Where the next one begins.
        got: Offset,
    },
    /// Offsets are missing in a segment, and may.
    Gaps {
        /// In how many places.
        count: u64,
        /// How many offsets in all.
        missing: i64,
        /// The first one that is missing.
        first: Offset,
        /// The offset behind the first gap.
        next: Offset,
    },
    /// The first segments are missing.
    MissingHead {
        /// The log start offset.
        expected: Offset,
        /// Where the first segment begins.
        got: Offset,
    },
    /// The log ends below the offset up to which it was durable.
    MissingEnd {
        /// The recovery point.
        expected: Offset,
        /// The log end offset found.
        got: Offset,
    },
    /// The log ends below its start: the next opening begins it there, and takes its segments out of the log.
    BelowStart {
        /// The log start offset.
        log_start: Offset,
        /// The log end offset found.
        log_end: Offset,
        /// How many segments it keeps aside; none where somebody died who was emptying the log.
        kept: usize,
    },
    /// A batch ends farther from the segment's base than its indexes can count.
    BeyondSegment {
        /// Where it ends.
        last_offset: Offset,
    },
    /// A batch ends at or behind the base of the next segment.
    IntoNextSegment {
        /// Where it ends.
        last_offset: Offset,
    },
    /// The end that a crash left.
    UnfinishedEnd {
        /// What is there.
        found: Box<Self>,
        /// The log end offset of the next opening.
        log_end: Offset,
    },
    /// A segment behind the end that a crash left.
    BehindUnfinishedEnd,
    /// Zeros behind the last batch.
    EmptyBytes {
        /// How many.
        bytes: u64,
    },
    /// The records of a batch are more than are looked at.
    NotLookedAt(BatchError),

    /// A segment lacks an index.
    MissingIndex,
    /// An index lacks a segment.
    OrphanIndex,
    /// An index file ends inside of an entry.
    HalfEntry,
    /// An entry of an offset index points at no batch.
    IndexPosition {
        /// The offset in the entry.
        offset: Offset,
        /// The position in the entry.
        position: u64,
    },
    /// An entry of an offset index names an offset that is not the last of its batch.
    IndexOffset {
        /// Where the batch begins.
        position: u64,
        /// The batch's last offset.
        expected: Offset,
        /// The offset in the entry.
        got: Offset,
    },
    /// An entry of a time index is not of the first batch with the largest timestamp so far.
    IndexTimestamp {
        /// The timestamp in the entry.
        timestamp: Timestamp,
        /// The offset in the entry.
        offset: Offset,
    },
    /// An entry of a transaction index is not behind the one before.
    TransactionOrder {
        /// The last offset in the entry.
        last_offset: Offset,
    },
    /// An entry of a transaction index is not of the transaction that was aborted there.
    WrongTransaction {
        /// The transaction by the log.
        expected: AbortedTransaction,
        /// The one in the entry.
        got: AbortedTransaction,
    },
    /// No transaction was aborted where an entry of a transaction index says so.
    NoAbortedTransaction {
        /// The last offset in the entry.
        last_offset: Offset,
    },
    /// No transaction of the producer ends where an entry of a transaction index says so.
    NoMarker {
        /// The producer in the entry.
        producer_id: ProducerId,
        /// The last offset in the entry.
        last_offset: Offset,
    },
    /// A transaction index lacks transactions that were aborted in its segment.
    MissingTransactions {
        /// How many.
        count: usize,
    },

    /// A snapshot is of an offset that the log does not have.
    SnapshotBeyondEnd {
        /// The log end offset.
        log_end: Offset,
    },
    /// The last batch that a snapshot covers is not in the log.
    SnapshotBatch {
        /// The offset of that batch.
        offset: Offset,
    },
    /// A snapshot and the log do not say the same of a producer.
    Producer {
        /// Whose state it is.
        producer_id: ProducerId,
        /// What differs.
        difference: ProducerDifference,
    },
    /// Producers of the log are not in a snapshot.
    ForgottenProducers {
        /// How many.
        count: usize,
    },

    /// A batch is not of the leader epoch that the checkpoint has for its offset.
    LeaderEpoch {
        /// The batch's offset.
        offset: Offset,
        /// The epoch by the checkpoint.
        expected: LeaderEpoch,
        /// The batch's.
        got: LeaderEpoch,
    },
    /// A leader epoch of the log is not in the checkpoint.
    NewLeaderEpoch {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The offset of its first batch.
        offset: Offset,
    },
    /// A leader epoch begins behind the end of the log.
    LeaderEpochBeyondEnd {
        /// The epoch.
        epoch: LeaderEpoch,
        /// Where it begins.
        start: Offset,
        /// The log end offset.
        log_end: Offset,
    },
}

impl ProblemKind {
    /// A word for it that stays the same, whatever the values are; of [`Corrupt`](Self::Corrupt), for what is damaged: `crc`, `records`
    /// under a CRC that matches, `batch` where the header is, `unsupported-format`, `base-offset`, `batch-leader-epoch`,
    /// `newer-version`, `corrupt`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Corrupt(kind) => damage_name(kind),
            Self::Outlived { found } => found.name(),
            Self::Unread { .. } => "unread",
            Self::NotALog => "not-a-log",
            Self::MissingPartition { .. } => "missing-partition",
            Self::PartitionGone { .. } => "partition-gone",
            Self::NotAFile => "not-a-file",
            Self::UnfinishedCompaction => "unfinished-compaction",
            Self::Leftover => "leftover",
            Self::KeptAside => "kept-aside",
            Self::UnnamedSegment => "unnamed-segment",
            Self::PreparedSegment => "prepared-segment",
            Self::Gap { .. } => "gap",
            Self::MissingSegment { .. } => "missing-segment",
            Self::LostSegment { .. } => "lost-segment",
            Self::Gaps { .. } => "gaps",
            Self::MissingHead { .. } => "missing-head",
            Self::MissingEnd { .. } => "missing-end",
            Self::BelowStart { .. } => "below-start",
            Self::BeyondSegment { .. } => "beyond-segment",
            Self::IntoNextSegment { .. } => "into-next-segment",
            Self::UnfinishedEnd { .. } => "unfinished-end",
            Self::BehindUnfinishedEnd => "behind-unfinished-end",
            Self::EmptyBytes { .. } => "empty-bytes",
            Self::NotLookedAt(_) => "not-looked-at",
            Self::MissingIndex => "missing-index",
            Self::OrphanIndex => "orphan-index",
            Self::HalfEntry => "half-entry",
            Self::IndexPosition { .. } => "index-position",
            Self::IndexOffset { .. } => "index-offset",
            Self::IndexTimestamp { .. } => "index-timestamp",
            Self::TransactionOrder { .. } => "transaction-order",
            Self::WrongTransaction { .. } => "wrong-transaction",
            Self::NoAbortedTransaction { .. } => "no-aborted-transaction",
            Self::NoMarker { .. } => "no-marker",
            Self::MissingTransactions { .. } => "missing-transactions",
            Self::SnapshotBeyondEnd { .. } => "snapshot-beyond-end",
            Self::SnapshotBatch { .. } => "snapshot-batch",
            Self::Producer { .. } => "producer",
            Self::ForgottenProducers { .. } => "forgotten-producers",
            Self::LeaderEpoch { .. } => "leader-epoch",
            Self::NewLeaderEpoch { .. } => "new-leader-epoch",
            Self::LeaderEpochBeyondEnd { .. } => "leader-epoch-beyond-end",
        }
    }

    /// Whether it says that data is missing which was durable.
    pub(super) fn loses_data(&self) -> bool {
        matches!(
            self,
            Self::MissingPartition { .. }
                | Self::MissingSegment { .. }
                | Self::LostSegment { .. }
                | Self::MissingHead { .. }
                | Self::MissingEnd { .. }
        )
    }
}

fn damage_name(kind: &CorruptionKind) -> &'static str {
    match kind {
        CorruptionKind::Batch(BatchError::Crc { .. }) => "crc",
        CorruptionKind::Batch(BatchError::UnsupportedMagic { .. }) => "unsupported-format",
        CorruptionKind::Batch(
            BatchError::Record { .. } | BatchError::Decompression { .. } | BatchError::UnknownCodec { .. },
        ) => "records",
        CorruptionKind::Batch(_) => "batch",
        CorruptionKind::BaseOffset { .. } => "base-offset",
        CorruptionKind::LeaderEpoch { .. } => "batch-leader-epoch",
        CorruptionKind::Version { expected, got } if got > expected => "newer-version",
        _ => "corrupt",
    }
}

impl From<CorruptionKind> for ProblemKind {
    fn from(kind: CorruptionKind) -> Self {
        Self::Corrupt(kind)
    }
}

impl From<BatchError> for ProblemKind {
    fn from(error: BatchError) -> Self {
        Self::Corrupt(CorruptionKind::Batch(error))
    }
}

/// What a snapshot says of a producer, and the log does not. Part of a [`ProblemKind`].
///
/// ```
/// use idemlog::ProducerEpoch;
/// use idemlog::verify::ProducerDifference;
///
/// let older = ProducerDifference::Epoch { expected: ProducerEpoch(2), got: ProducerEpoch(1) };
/// assert_eq!(older.to_string(), "epoch 1, by the log 2");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProducerDifference {
    /// No batch of the producer is in the log.
    Unknown,
    /// It has another epoch.
    Epoch {
        /// The epoch by the log.
        expected: ProducerEpoch,
        /// The one in the snapshot.
        got: ProducerEpoch,
    },
    /// Its open transaction begins elsewhere, or only one of the two has it.
    Transaction {
        /// Where it begins by the log.
        expected: Option<Offset>,
        /// And by the snapshot.
        got: Option<Offset>,
    },
    /// The snapshot remembers batches, the log shows none.
    Batches,
    /// One of its last batches is another.
    Batch {
        /// The batch by the log.
        expected: ProducerBatch,
        /// The one in the snapshot.
        got: ProducerBatch,
    },
}
