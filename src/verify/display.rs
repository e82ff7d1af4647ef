//! What `verify` finds, in words.

use std::fmt;

use super::{Problem, ProblemKind, ProducerDifference, Severity};
use crate::producer::ProducerBatch;
use crate::transaction::AbortedTransaction;
use crate::types::Offset;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} at byte {}: {}", self.severity, self.path.display(), self.position, self.kind)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Unread => "unread",
            Self::Note => "note",
        })
    }
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(kind) => kind.fmt(f),
            Self::Outlived { found } => write!(f, "{found}; the next opening puts it right"),
            Self::Unread { error } => f.write_str(error),
            Self::UnfinishedEnd { found, log_end } => {
                write!(f, "{found}: an unfinished end, which the next opening cuts at offset {log_end}")
            }
            Self::BehindUnfinishedEnd => {
                f.write_str("it lies behind the unfinished end of the log; the next opening keeps it aside")
            }
            Self::EmptyBytes { bytes } => {
                write!(f, "{bytes} empty bytes behind the last batch; the next opening gives them back")
            }
            Self::NotLookedAt(error) => write!(f, "not looked at: {error}"),
            Self::NotALog
            | Self::MissingPartition { .. }
            | Self::PartitionGone { .. }
            | Self::NotAFile
            | Self::UnfinishedCompaction
            | Self::Leftover
            | Self::KeptAside
            | Self::UnnamedSegment
            | Self::PreparedSegment => self.fmt_directory(f),
            Self::Gap { .. }
            | Self::MissingSegment { .. }
            | Self::LostSegment { .. }
            | Self::Gaps { .. }
            | Self::MissingHead { .. }
            | Self::MissingEnd { .. }
            | Self::BelowStart { .. }
            | Self::BeyondSegment { .. }
            | Self::IntoNextSegment { .. } => self.fmt_offsets(f),
            Self::MissingIndex
            | Self::OrphanIndex
            | Self::HalfEntry
            | Self::IndexPosition { .. }
            | Self::IndexOffset { .. }
            | Self::IndexTimestamp { .. }
            | Self::TransactionOrder { .. }
            | Self::WrongTransaction { .. }
            | Self::NoAbortedTransaction { .. }
            | Self::NoMarker { .. }
            | Self::MissingTransactions { .. } => self.fmt_index(f),
            Self::SnapshotBeyondEnd { .. }
            | Self::SnapshotBatch { .. }
            | Self::Producer { .. }
            | Self::ForgottenProducers { .. }
            | Self::LeaderEpoch { .. }
            | Self::NewLeaderEpoch { .. }
            | Self::LeaderEpochBeyondEnd { .. } => self.fmt_state(f),
        }
    }
}

/// By subject. Who sends a kind to one of them that has no words for it there gets its name.
impl ProblemKind {
    /// What lies in a directory, or should.
    fn fmt_directory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotALog => {
                f.write_str("neither a log directory nor a partition: no file of either is here")
            }
            Self::MissingPartition { recovery_point } => {
                write!(f, "the partition is missing; its recovery point is {recovery_point}")
            }
            Self::PartitionGone { recovery_point } => write!(
                f,
                "the partition is missing; its recovery point is {recovery_point}: it was deleted right before a crash, or is lost"
            ),
            Self::NotAFile => f.write_str("a regular file must be here, not a directory or a link"),
            Self::UnfinishedCompaction => f.write_str("a compaction or split by Kafka is unfinished"),
            Self::Leftover => f.write_str("a leftover, which the next opening removes"),
            Self::KeptAside => f.write_str("bytes that were cut out, kept for a human"),
            Self::UnnamedSegment => {
                f.write_str("the log goes on here; the next opening gives the file its name")
            }
            Self::PreparedSegment => f.write_str("a segment that was prepared and holds nothing of the log"),
            other => f.write_str(other.name()),
        }
    }

    /// Which offsets the log lacks, or has where it must not.
    fn fmt_offsets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, got } => write!(f, "a batch at offset {got} where {expected} must stand"),
            Self::MissingSegment { expected, got } => {
                write!(f, "no segment begins at offset {expected}, the next begins at {got}")
            }
            Self::LostSegment { expected, got } => write!(
                f,
                "the segment is gone, of which an index is left: from offset {expected} to {got}, where the next begins"
            ),
            Self::Gaps { count, missing, first, next } => {
                write!(f, "gaps: {count}, {missing} offsets in all, the first from {first} up to {next}")
            }
            Self::MissingHead { expected, got } => write!(
                f,
                "segments are missing: the first begins at offset {got}, the log at its start offset {expected}"
            ),
            Self::MissingEnd { expected, got } => write!(
                f,
                "the log ends at offset {got}, below the recovery point {expected}: what is between was durable"
            ),
            Self::BelowStart { log_start, log_end, kept: 0 } => write!(
                f,
                "the log ends at offset {log_end}, and was being emptied to begin at {log_start}: the next opening does that"
            ),
            Self::BelowStart { log_start, log_end, kept } => write!(
                f,
                "the log ends at offset {log_end}, below its start {log_start}: the next opening keeps {kept} segments aside and begins there"
            ),
            Self::BeyondSegment { last_offset } => {
                write!(f, "the batch ends at offset {last_offset}, too far from the segment's base")
            }
            Self::IntoNextSegment { last_offset } => {
                write!(f, "the batch ends at offset {last_offset}, in the next segment")
            }
            other => f.write_str(other.name()),
        }
    }

    /// What an index says.
    fn fmt_index(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingIndex => f.write_str("missing; it is built again from the batches"),
            Self::OrphanIndex => f.write_str("an index of a segment that is not there"),
            Self::HalfEntry => f.write_str("the file ends inside of an entry"),
            Self::IndexPosition { offset, position } => {
                write!(f, "the entry of offset {offset} points at byte {position}, where no batch begins")
            }
            Self::IndexOffset { position, expected, got } => {
                write!(f, "the batch at byte {position} ends with offset {expected}, the entry says {got}")
            }
            Self::IndexTimestamp { timestamp, offset } => {
                write!(f, "timestamp {timestamp} is not the largest up to offset {offset}, and new there")
            }
            Self::TransactionOrder { last_offset } => {
                write!(f, "the transaction that ends at offset {last_offset} is not behind the one before")
            }
            Self::WrongTransaction { expected, got } => {
                write!(f, "{}, by the log {}", transaction(got), transaction(expected))
            }
            Self::NoAbortedTransaction { last_offset } => {
                write!(f, "no aborted transaction ends at offset {last_offset}")
            }
            Self::NoMarker { producer_id, last_offset } => {
                write!(f, "no transaction of producer {producer_id} ends at offset {last_offset}")
            }
            Self::MissingTransactions { count } => {
                write!(f, "it lacks {count} of the transactions that were aborted in the segment")
            }
            other => f.write_str(other.name()),
        }
    }

    /// What is noted of producers and leaders.
    fn fmt_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SnapshotBeyondEnd { log_end } => {
                write!(f, "it lies beyond the log, which ends at {log_end}")
            }
            Self::SnapshotBatch { offset } => {
                write!(f, "its last batch, at offset {offset}, is not in the log")
            }
            Self::Producer { producer_id, difference } => write!(f, "producer {producer_id}: {difference}"),
            Self::ForgottenProducers { count } => {
                write!(f, "{count} producers of the log are not in it, forgotten as idle or to make room")
            }
            Self::LeaderEpoch { offset, expected, got } => {
                write!(f, "the batch at offset {offset} is of leader epoch {got}, by this file of {expected}")
            }
            Self::NewLeaderEpoch { epoch, offset } => {
                write!(f, "leader epoch {epoch}, from offset {offset} on, is not in it yet")
            }
            Self::LeaderEpochBeyondEnd { epoch, start, log_end } => {
                write!(f, "leader epoch {epoch} begins at offset {start}, the log ends at {log_end}")
            }
            other => f.write_str(other.name()),
        }
    }
}

impl fmt::Display for ProducerDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no batch of it is in the log"),
            Self::Epoch { expected, got } => write!(f, "epoch {got}, by the log {expected}"),
            Self::Transaction { expected, got } => {
                write!(f, "open transaction: {}, by the log {}", beginning(*got), beginning(*expected))
            }
            Self::Batches => f.write_str("it has batches, by the log none"),
            Self::Batch { expected, got } => write!(f, "{}, by the log {}", batch(got), batch(expected)),
        }
    }
}

fn transaction(aborted: &AbortedTransaction) -> String {
    let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } = aborted;
    format!(
        "producer {producer_id} aborted {first_offset}..={last_offset}, last stable offset {last_stable_offset}"
    )
}

fn beginning(first: Option<Offset>) -> String {
    first.map_or("none".to_owned(), |first| format!("one from {first}"))
}

fn batch(batch: &ProducerBatch) -> String {
    let ProducerBatch { first_sequence, last_sequence, offsets, .. } = batch;
    format!("sequences {first_sequence}..={last_sequence} at offsets {offsets}")
}
