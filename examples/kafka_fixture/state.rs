//! The state of an open log in the words of Kafka's recordings.

use std::path::{Path, PathBuf};

use idemlog::{AbortedTransaction, Batches, Log, Offset, ProducerBatch, ProducerInfo};
use serde_json::{Value, json};

use crate::Result;

/// The state of a log that does nothing at the moment.
pub(crate) fn of(log: &Log) -> Result<Value> {
    let epochs = log.leader_epochs();
    let epochs = epochs.iter().map(|(epoch, start)| json!({ "epoch": epoch.0, "startOffset": start.0 }));
    Ok(json!({
        "logStartOffset": log.log_start_offset().0,
        "logEndOffset": log.log_end_offset().0,
        "highWatermark": log.high_watermark().0,
        "lastStableOffset": log.last_stable_offset().0,
        "firstUndecidedOffset": log.first_undecided_offset().map(|offset| offset.0),
        "recoveryPoint": log.recovery_point().0,
        "producerMapEndOffset": log.log_end_offset().0,
        "segments": segments(log)?,
        "snapshotOffsets": offsets_of(log.directory(), "snapshot")?,
        "leaderEpochs": epochs.collect::<Vec<_>>(),
        "producers": log.producers().iter().map(producer).collect::<Vec<_>>(),
    }))
}

/// The base offsets of the files that end with `extension`.
fn offsets_of(directory: &Path, extension: &str) -> Result<Vec<i64>> {
    let paths: Vec<PathBuf> =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let base = |path: &PathBuf| {
        let is_one = path.extension().is_some_and(|its| its == extension);
        path.file_stem().filter(|_| is_one)?.to_str()?.parse().ok()
    };
    let mut offsets: Vec<i64> = paths.iter().filter_map(base).collect();
    offsets.sort_unstable();
    Ok(offsets)
}

/// The segments, by what is in their files.
fn segments(log: &Log) -> Result<Vec<Value>> {
    let aborted = log.aborted_transactions(Offset(0), Offset(i64::MAX))?;
    let bases = offsets_of(log.directory(), "log")?;
    let segment = |&base: &i64| {
        let mut segment = segment(&log.directory().join(format!("{base:020}.log")), base)?;
        let (base, next) = (Offset(base), Offset(segment["nextOffset"].as_i64().unwrap_or_default()));
        let own = aborted.iter().filter(|aborted| (base..next).contains(&aborted.last_offset));
        segment["abortedTxns"] = own.map(transaction).collect();
        Ok(segment)
    };
    bases.iter().map(segment).collect()
}

fn segment(path: &Path, base: i64) -> Result<Value> {
    let bytes = std::fs::read(path)?;
    // Behind the last batch are blocks that are not filled yet.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let (mut size, mut next, mut largest_timestamp) = (0, base, -1);
    for batch in Batches::new(bytes.into()) {
        if size >= used {
            break;
        }
        let batch = batch?;
        let header = batch.header();
        size += header.size();
        next = header.next_offset().0;
        largest_timestamp = largest_timestamp.max(header.max_timestamp.0);
    }
    Ok(json!({
        "baseOffset": base,
        "sizeInBytes": size,
        "nextOffset": next,
        "largestTimestamp": largest_timestamp,
    }))
}

fn transaction(aborted: &AbortedTransaction) -> Value {
    json!({
        "producerId": aborted.producer_id.0,
        "firstOffset": aborted.first_offset.0,
        "lastOffset": aborted.last_offset.0,
        "lastStableOffset": aborted.last_stable_offset.0,
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
