//! `idemlog inspect` of a log directory: whether it opens, and how much the opening reads.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use idemlog::inspect::{DirectoryInspection, inspect_directory};
use idemlog::{CutReason, Error, RecoveryReport, TopicPartition};
use indicatif::{HumanBytes, HumanCount};
use serde_json::{Value, json};

use crate::{Failure, opening, place, progress, report};

/// Looks at a directory of about so many partitions.
pub(crate) fn run(
    path: &Path,
    partitions: usize,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    let is_in_use = place::note_use(path);
    let begun = Instant::now();
    let bar = progress::counting("looking at partitions", partitions);
    let found = inspect_directory(path, |done, of| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let found = match found {
        Err(Error::Corrupt(damage)) => return opening::refused(&damage, is_in_use, as_json, out),
        found => found?,
    };
    if as_json {
        writeln!(out, "{:#}", json(path, &found, is_in_use))?;
    } else {
        describe(path, &found, begun.elapsed(), out)?;
    }
    Ok(ExitCode::from(status(&found)))
}

/// How bad it is: the worst come last, where they are seen.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Opens,
    OpensAndCuts,
    Refused,
    Unread,
}

type Opened = Result<RecoveryReport, Error>;

fn answer(opened: &Opened) -> Answer {
    match opened {
        Err(Error::Io(_)) => Answer::Unread,
        Err(_) => Answer::Refused,
        Ok(report) if report.lacks_durable() => Answer::Refused,
        Ok(report) if report.cut.is_some() || report.below_start.is_some() => Answer::OpensAndCuts,
        Ok(_) => Answer::Opens,
    }
}

fn status(found: &DirectoryInspection) -> u8 {
    match found.partitions.iter().map(|(_, opened)| answer(opened)).max() {
        Some(Answer::Unread) => 2,
        Some(Answer::Refused) => 1,
        _ => 0,
    }
}

/// What an opening reads: of a partition that it refuses, too.
fn bytes_to_read(found: &DirectoryInspection) -> u64 {
    found
        .partitions
        .iter()
        .filter_map(|(_, opened)| opened.as_ref().ok())
        .map(|report| report.bytes_read)
        .sum()
}

fn describe(
    path: &Path,
    found: &DirectoryInspection,
    took: Duration,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut partitions: Vec<_> = found.partitions.iter().collect();
    partitions.sort_by_key(|(_, opened)| answer(opened));
    for (name, opened) in partitions {
        writeln!(out, "{}", line(path, name, opened))?;
    }
    let count =
        |is: &[Answer]| found.partitions.iter().filter(|(_, opened)| is.contains(&answer(opened))).count();
    let (open, not) = (count(&[Answer::Opens, Answer::OpensAndCuts]), count(&[Answer::Refused]));
    let unread = count(&[Answer::Unread]);
    let mut counts = format!("{open} of {} partitions open", found.partitions.len());
    if not > 0 {
        counts += &format!(", {not} would be refused");
    }
    if unread > 0 {
        counts += &format!(", {unread} could not be read");
    }
    let counts = if not + unread > 0 { report::bad(counts) } else { report::good(counts) };
    let marked = if found.marked_clean { "closed well" } else { "not closed well" };
    let bytes = HumanBytes(bytes_to_read(found));
    writeln!(out, "{counts}; {marked}, the next opening reads {bytes} of batches (this look took {took:.1?})")
}

fn line(directory: &Path, name: &TopicPartition, opened: &Opened) -> String {
    match (answer(opened), opened) {
        (Answer::Unread, Err(error)) => report::bad(format_args!("{name}: could not be read: {error}")),
        (_, Err(error)) => report::bad(format_args!("{name}: REFUSED: {error}")),
        (Answer::Refused, Ok(report)) => {
            report::bad(format_args!("{name}: REFUSED: {}", why_refused(directory, name, report)))
        }
        (_, Ok(report)) => format!("{name}: opens, {}{}", extent(report), cut(report)),
    }
}

fn extent(report: &RecoveryReport) -> String {
    let RecoveryReport { log_start, log_end, bytes_read, .. } = report;
    format!("offsets {log_start} to {log_end}, reads {}", HumanBytes(*bytes_read))
}

fn why_refused(directory: &Path, name: &TopicPartition, report: &RecoveryReport) -> String {
    let partition = directory.join(name.to_string());
    let found = report.cut.as_ref().map(|cut| {
        let file = cut.found.path.file_name().unwrap_or_default().to_string_lossy();
        format!("{file} at byte {}: {}", cut.found.position, cut.found.kind)
    });
    format!(
        "{}; {} offsets below the recovery point {} were durable and are gone; without them {}{}; `idemlog repair {}`",
        found.unwrap_or_else(|| "segments are missing in front of the first".to_owned()),
        HumanCount(report.durable_offsets_cut()),
        report.recovery_point,
        extent(report),
        cut(report),
        partition.display(),
    )
}

/// What an opening would take away, behind a comma.
fn cut(report: &RecoveryReport) -> String {
    let mut text = String::new();
    if let Some(cut) = &report.cut {
        let what = if cut.reason == CutReason::Tail { " of an unfinished end" } else { "" };
        text += &format!(", cuts {} bytes{what} at offset {}", HumanCount(cut.bytes), cut.offset);
        if cut.batches > 0 {
            text += &format!(" with {} valid batches, which it keeps", HumanCount(cut.batches));
        }
    }
    if report.below_start.is_some() {
        text += ", begins the log anew and keeps its segments aside";
    }
    text
}

fn json(path: &Path, found: &DirectoryInspection, is_in_use: bool) -> Value {
    let partition = |(name, opened): &(TopicPartition, Opened)| {
        let opens = answer(opened) < Answer::Refused;
        let mut value = json!({ "path": path.join(name.to_string()).display().to_string(), "opens": opens });
        match opened {
            Ok(report) => {
                value["logStartOffset"] = report.log_start.0.into();
                value["logEndOffset"] = report.log_end.0.into();
                value["recovery"] = report::recovery(report);
            }
            Err(error) => value["error"] = error.to_string().into(),
        }
        value
    };
    let does_not_open = |(_, opened): &&(TopicPartition, Opened)| answer(opened) >= Answer::Refused;
    json!({
        "inUse": is_in_use,
        "refused": false,
        "markedClean": found.marked_clean,
        "bytesToRead": bytes_to_read(found),
        "notOpening": found.partitions.iter().filter(does_not_open).count(),
        "partitions": found.partitions.iter().map(partition).collect::<Value>(),
    })
}
