//! The model's state in the recordings' words.

use serde_json::{Value, json};

use super::{Aborted, Entry, Log, Outcome, Refusal, Segment, StoredBatch};

impl Log {
    /// What stands in `state` of a trace, and as a load in a golden case.
    pub fn state(&self) -> Value {
        json!({
            "logStartOffset": self.log_start,
            "logEndOffset": self.log_end,
            "highWatermark": self.log_end,
            "lastStableOffset": self.last_stable_offset(),
            "firstUndecidedOffset": self.producers.open.keys().next(),
            "recoveryPoint": self.recovery_point,
            "producerMapEndOffset": self.producers.end,
            "segments": self.segments.values().map(|segment| self.segment_state(segment)).collect::<Vec<_>>(),
            "snapshotOffsets": self.snapshots.keys().collect::<Vec<_>>(),
            "leaderEpochs": self.leader_epochs.iter().map(leader_epoch).collect::<Vec<_>>(),
            "producers": self.producers.entries.iter().map(|(id, entry)| producer(*id, entry)).collect::<Vec<_>>(),
        })
    }

    /// What stands in every line of a trace.
    pub fn summary(&self) -> Value {
        json!({
            "leo": self.log_end,
            "lso": self.last_stable_offset(),
            "logStart": self.log_start,
            "activeSegment": self.active().base_offset,
            "numProducers": self.producers.entries.len(),
        })
    }

    fn segment_state(&self, segment: &Segment) -> Value {
        json!({
            "baseOffset": segment.base_offset,
            "sizeInBytes": segment.size(),
            "nextOffset": segment.batches_end(),
            "largestTimestamp": segment.largest_timestamp(&self.differences),
            "abortedTxns": segment.aborted.iter().map(aborted).collect::<Vec<_>>(),
        })
    }
}

fn leader_epoch((epoch, start): &(i32, i64)) -> Value {
    json!({ "epoch": epoch, "startOffset": start })
}

fn aborted(aborted: &Aborted) -> Value {
    json!({
        "producerId": aborted.producer_id,
        "firstOffset": aborted.first_offset,
        "lastOffset": aborted.last_offset,
        "lastStableOffset": aborted.last_stable_offset,
    })
}

fn producer(id: i64, entry: &Entry) -> Value {
    json!({
        "producerId": id,
        "producerEpoch": entry.epoch,
        "coordinatorEpoch": entry.coordinator_epoch,
        "lastTimestamp": entry.last_timestamp,
        "currentTxnFirstOffset": entry.transaction_first,
        "batches": entry.batches.iter().map(batch).collect::<Vec<_>>(),
    })
}

fn batch(batch: &StoredBatch) -> Value {
    json!({
        "firstSeq": batch.first_sequence,
        "lastSeq": batch.last_sequence,
        "firstOffset": batch.first_offset,
        "lastOffset": batch.last_offset,
        "timestamp": batch.timestamp,
    })
}

impl Outcome {
    /// What stands in `out` of a trace.
    pub fn out(&self) -> Value {
        match self {
            Self::Appended { first, last, rolled } => {
                json!({ "r": "ok", "baseOffset": first, "lastOffset": last, "rolled": rolled })
            }
            Self::Duplicate { original, rolled } => json!({
                "r": "dup",
                "baseOffset": original.first_offset,
                "lastOffset": original.last_offset,
                "timestamp": original.timestamp,
                "rolled": rolled,
            }),
            Self::Refused { refusal: Refusal { exception, message }, rolled } => {
                json!({ "r": "err", "ex": exception, "msg": message, "rolled": rolled })
            }
            Self::Done(_) => json!({ "r": "ok" }),
            Self::Noop => json!({ "r": "noop" }),
        }
    }
}
