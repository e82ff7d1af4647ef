//! How states look as JSON and in colour.

use anstyle::{AnsiColor, Style};
use idemlog::inspect::Inspection;
use idemlog::verify::{Problem, Severity};
use idemlog::{ProducerBatch, ProducerInfo};
use serde_json::{Value, json};

/// A state, in the words of Kafka's own.
pub(crate) fn state(state: &Inspection) -> Value {
    let segments = state.segments.iter().map(|segment| {
        json!({
            "baseOffset": segment.base_offset.0,
            "sizeInBytes": segment.bytes,
            "nextOffset": segment.next_offset.0,
            "largestTimestamp": segment.largest_timestamp.0,
        })
    });
    let epochs =
        state.leader_epochs.iter().map(|(epoch, start)| json!({ "epoch": epoch.0, "startOffset": start.0 }));
    json!({
        "logStartOffset": state.log_start.0,
        "logEndOffset": state.log_end.0,
        "highWatermark": state.high_watermark.0,
        "lastStableOffset": state.last_stable.0,
        "firstUndecidedOffset": state.first_undecided.map(|offset| offset.0),
        "recoveryPoint": state.recovery_point.0,
        "producerMapEndOffset": state.log_end.0,
        "segments": segments.collect::<Vec<_>>(),
        "snapshotOffsets": state.snapshots.iter().map(|offset| offset.0).collect::<Vec<_>>(),
        "leaderEpochs": epochs.collect::<Vec<_>>(),
        "producers": state.producers.iter().map(producer).collect::<Vec<_>>(),
        "recovery": state.recovery.to_string(),
    })
}

fn producer(producer: &ProducerInfo) -> Value {
    json!({
        "producerId": producer.producer_id.0,
        "producerEpoch": producer.epoch.0,
        "coordinatorEpoch": producer.coordinator_epoch.unwrap_or(-1),
        "lastTimestamp": producer.last_timestamp.0,
        "currentTxnFirstOffset": producer.transaction_first_offset.map(|offset| offset.0),
        "batches": producer.batches.iter().map(batch).collect::<Vec<_>>(),
    })
}

fn batch(batch: &ProducerBatch) -> Value {
    json!({
        "firstSeq": batch.first_sequence.0,
        "lastSeq": batch.last_sequence.0,
        "firstOffset": batch.offsets.first.0,
        "lastOffset": batch.offsets.last.0,
        "timestamp": batch.timestamp.0,
    })
}

/// A problem on one line, in colour where somebody watches.
pub(crate) fn problem(problem: &Problem, is_watched: bool) -> String {
    let color = if problem.severity == Severity::Error { AnsiColor::Red } else { AnsiColor::Yellow };
    let style = if is_watched { Style::new().fg_color(Some(color.into())) } else { Style::new() };
    format!("{style}{problem}{style:#}")
}
