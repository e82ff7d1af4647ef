//! The state of an open log in the words of Kafka's recordings.

use std::path::{Path, PathBuf};

use idemlog::{Batches, Log, Offset};
use serde_json::{Value, json};

use crate::{Result, kafka_json};

/// The state of a log that does nothing at the moment.
pub(crate) fn of(log: &Log) -> Result<Value> {
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
        "leaderEpochs": kafka_json::leader_epochs(&log.leader_epochs()),
        "producers": kafka_json::producers(&log.producers()),
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
        segment["abortedTxns"] = kafka_json::aborted_transactions(own);
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
