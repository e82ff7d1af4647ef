//! How states look as JSON, on a line, and in colour.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anstyle::{AnsiColor, Style};
use idemlog::inspect::{Inspection, SegmentState};
use idemlog::verify::{Problem, Severity, VerifyReport};
use idemlog::{Cut, CutReason, Offset, ProducerInfo, RecoveryReport};
use serde_json::{Value, json};

use crate::kafka_json;

/// A state, in the words of Kafka's own.
pub(crate) fn state(state: &Inspection, is_in_use: bool) -> Value {
    json!({
        "inUse": is_in_use,
        "refused": state.recovery.lacks_durable(),
        "logStartOffset": state.log_start.0,
        "logEndOffset": state.log_end.0,
        "highWatermark": state.high_watermark.0,
        "checkpointedHighWatermark": state.checkpointed_high_watermark.map(|offset| offset.0),
        "lastStableOffset": state.last_stable.0,
        "firstUndecidedOffset": state.first_undecided.map(|offset| offset.0),
        "recoveryPoint": state.recovery_point.0,
        "producerMapEndOffset": state.log_end.0,
        "segments": state.segments.iter().map(segment).collect::<Vec<_>>(),
        "snapshotOffsets": offsets(&state.snapshots),
        "leaderEpochs": kafka_json::leader_epochs(&state.leader_epochs),
        "producerCount": state.producers.len(),
        "openTransactions": open_transactions(state),
        "producers": kafka_json::producers(&state.producers),
        "recovery": recovery(&state.recovery),
    })
}

/// How many producers have a transaction that is open.
pub(crate) fn open_transactions(state: &Inspection) -> usize {
    state.producers.iter().filter(|producer| producer.transaction_first_offset.is_some()).count()
}

fn segment(segment: &SegmentState) -> Value {
    json!({
        "baseOffset": segment.base_offset.0,
        "sizeInBytes": segment.bytes,
        "nextOffset": segment.next_offset.0,
        "offsetIndexEntries": segment.offset_index_entries,
        "timeIndexEntries": segment.time_index_entries,
        "largestTimestamp": segment.largest_timestamp.0,
        "abortedTxns": kafka_json::aborted_transactions(&segment.aborted),
    })
}

/// What `verify` found, of the directory and of each partition.
pub(crate) fn found(found: &VerifyReport) -> Value {
    let mut of_partitions: HashMap<&Path, Vec<&Problem>> = HashMap::new();
    let mut of_directory = Vec::new();
    let partitions: HashSet<&Path> = found.partitions.iter().map(PathBuf::as_path).collect();
    for problem in &found.problems {
        // The path is the partition's, or that of a file in it.
        let partition = problem.path.ancestors().take(2).find(|path| partitions.contains(path));
        partition.map_or(&mut of_directory, |path| of_partitions.entry(path).or_default()).push(problem);
    }
    let looked_below: HashMap<&Path, i64> =
        found.looked_below.iter().map(|(path, offset)| (path.as_path(), offset.0)).collect();
    let mut partition = |path: &PathBuf| {
        let problems = of_partitions.remove(path.as_path()).unwrap_or_default();
        let below = looked_below.get(path.as_path());
        let (verdict, findings) = (word(problems.iter().copied()), findings(&problems));
        json!({ "path": shown(path), "verdict": verdict, "lookedBelow": below, "findings": findings })
    };
    json!({
        "verdict": word(&found.problems),
        "batches": found.batches,
        "bytes": found.bytes,
        "findings": findings(&of_directory),
        "partitions": found.partitions.iter().map(&mut partition).collect::<Value>(),
    })
}

/// The verdict in a word.
fn word<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> &'static str {
    match worst(problems) {
        Some(Severity::Error) => "damaged",
        Some(Severity::Unread) => "unread",
        _ => "sound",
    }
}

fn findings(problems: &[&Problem]) -> Value {
    let finding = |problem: &&Problem| {
        json!({
            "kind": problem.kind.name(),
            "severity": problem.severity.to_string(),
            "file": shown(&problem.path),
            "position": problem.position,
            "losesData": problem.loses_data,
            "text": problem.kind.to_string(),
        })
    };
    problems.iter().map(finding).collect()
}

pub(crate) fn recovery(report: &RecoveryReport) -> Value {
    let skipped = report
        .snapshots_skipped
        .iter()
        .map(|(path, reason)| json!({ "path": shown(path), "reason": reason }));
    json!({
        "markedClean": report.marked_clean,
        "recoveryPoint": report.recovery_point.0,
        "bytesRead": report.bytes_read,
        "batchesChecked": report.batches_checked,
        "batchesReplayed": report.batches_replayed,
        "snapshot": report.snapshot.map(|offset| offset.0),
        "snapshotsSkipped": skipped.collect::<Vec<_>>(),
        "missingHead": report.missing_head.map(|missing| json!({ "first": missing.first.0, "last": missing.last.0 })),
        "cut": report.cut.as_ref().map(cut),
        "belowStart": report.below_start.as_ref().map(|below| {
            json!({ "logEndOffset": below.log_end.0, "kept": below.kept.iter().map(shown).collect::<Vec<_>>() })
        }),
        "trimmedBytes": report.trimmed_bytes,
        "adoptedPrepared": report.adopted_prepared,
        "indexesRebuilt": offsets(&report.indexes_rebuilt),
        "removed": report.removed.iter().map(shown).collect::<Vec<_>>(),
        "notWritten": report.not_written,
        "elapsedMicros": report.elapsed.as_micros() as u64,
    })
}

fn cut(cut: &Cut) -> Value {
    let reason = match cut.reason {
        CutReason::Tail => "tail",
        CutReason::Corruption => "corruption",
        _ => "other",
    };
    json!({
        "reason": reason,
        "found": cut.found.to_string(),
        "offset": cut.offset.0,
        "bytes": cut.bytes,
        "batches": cut.batches,
        "kept": cut.kept.iter().map(shown).collect::<Vec<_>>(),
    })
}

fn offsets(offsets: &[Offset]) -> Vec<i64> {
    offsets.iter().map(|offset| offset.0).collect()
}

fn shown(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

/// The producers of a state.
pub(crate) fn producers(state: &Inspection, is_in_use: bool) -> Value {
    json!({ "inUse": is_in_use, "producers": kafka_json::producers(&state.producers) })
}

/// A producer on one line.
pub(crate) fn producer_line(producer: &ProducerInfo) -> String {
    let mut line = format!("producer {} epoch {}", producer.producer_id, producer.epoch);
    if let Some(last) = producer.batches.last() {
        line += &format!(" last sequence {} offset {}", last.last_sequence, last.offsets.last);
    }
    if let Some(first) = producer.transaction_first_offset {
        line += &format!(" transaction open from offset {first}");
    }
    line + &format!(" timestamp {} remembered batches {}", producer.last_timestamp, producer.batches.len())
}

/// A problem on one line.
pub(crate) fn problem(problem: &Problem) -> String {
    let color = if problem.severity > Severity::Note { AnsiColor::Red } else { AnsiColor::Yellow };
    colored(color, problem)
}

/// What is wrong.
pub(crate) fn bad(text: impl Display) -> String {
    colored(AnsiColor::Red, text)
}

/// What is as it should be.
pub(crate) fn good(text: impl Display) -> String {
    colored(AnsiColor::Green, text)
}

/// The verdict over everything.
pub(crate) fn verdict(found: &VerifyReport) -> String {
    match worst(&found.problems) {
        Some(Severity::Error) => bad("damaged"),
        Some(Severity::Unread) => bad("not all could be read"),
        _ => good("sound"),
    }
}

/// The exit status that says the same. What could not be read is a failure, whatever else was found.
pub(crate) fn status(found: &VerifyReport) -> u8 {
    match found.problems.iter().map(|problem| problem.severity).max() {
        Some(Severity::Unread) => 2,
        Some(Severity::Error) => 1,
        _ => 0,
    }
}

/// Damage is told also where not all could be read.
fn worst<'a>(problems: impl IntoIterator<Item = &'a Problem>) -> Option<Severity> {
    let severities = problems.into_iter().map(|problem| problem.severity);
    severities.max_by_key(|&severity| (severity == Severity::Error, severity))
}

/// In colour where somebody watches who did not ask for none.
fn colored(color: AnsiColor, text: impl Display) -> String {
    let is_wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let style = if is_wanted { Style::new().fg_color(Some(color.into())) } else { Style::new() };
    format!("{style}{text}{style:#}")
}
