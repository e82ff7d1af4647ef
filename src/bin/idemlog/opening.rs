//! What an opening would do about a partition, in words: nothing of it has happened.

use std::io::{self, Write};
use std::process::ExitCode;

use idemlog::{Corruption, Cut, CutReason, RecoveryReport};
use serde_json::json;

use crate::output::tell;
use crate::{Failure, hint, report};

/// Tells of damage with which nothing opens, under any policy.
pub(crate) fn refused(
    damage: &Corruption,
    is_in_use: bool,
    as_json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, Failure> {
    if as_json {
        let state = json!({ "inUse": is_in_use, "refused": true, "error": damage.to_string() });
        writeln!(out, "{state:#}")?;
    } else {
        writeln!(out, "{}", report::bad(format_args!("an opening refuses this: {damage}")))?;
    }
    out.flush()?;
    hint::of(damage).iter().for_each(tell);
    Ok(ExitCode::FAILURE)
}

/// A line, and one more for each thing out of the ordinary.
pub(crate) fn describe(report: &RecoveryReport, out: &mut impl Write) -> io::Result<()> {
    if report.lacks_durable() {
        let found = report.cut.as_ref().map(|cut| cut.found.to_string());
        writeln!(
            out,
            "an opening refuses this: {}; {} offsets below the recovery point {} were durable and are gone\n\
             `idemlog repair` says what can be done; without them, it would be:",
            found.unwrap_or_else(|| "segments are missing in front of the first".to_owned()),
            report.durable_offsets_cut(),
            report.recovery_point
        )?;
    }
    writeln!(
        out,
        "{}, an opening would begin at offset {}: offsets {} to {} in {} segments, {} bytes to read, {} batches to check, \
         {} to replay, {} producers",
        if report.marked_clean { "closed well" } else { "not closed well" },
        report.recovery_point,
        report.log_start,
        report.log_end,
        report.segments,
        report.bytes_read,
        report.batches_checked,
        report.batches_replayed,
        report.producers,
    )?;
    if let Some(cut) = &report.cut {
        writeln!(out, "  it would {}", cut_in_words(cut))?;
    }
    if let Some(below) = &report.below_start {
        writeln!(out, "  it would begin the log anew at {}: {below}", report.log_start)?;
    }
    if report.trimmed_bytes > 0 {
        writeln!(out, "  it would give back {} empty bytes behind the last batch", report.trimmed_bytes)?;
    }
    if report.adopted_prepared {
        writeln!(out, "  it would take in a segment that has no name yet")?;
    }
    for (path, reason) in &report.snapshots_skipped {
        writeln!(out, "  it would pass over {}: {reason}", path.display())?;
    }
    for base in &report.indexes_rebuilt {
        writeln!(out, "  it would build the indexes of the segment at {base} again")?;
    }
    Ok(())
}

fn cut_in_words(cut: &Cut) -> String {
    let reason = match cut.reason {
        CutReason::Tail => "cut an unfinished end",
        _ => "cut in front of damage",
    };
    let mut text = format!("{reason} at offset {}: {}; {} bytes", cut.offset, cut.found, cut.bytes);
    if cut.batches > 0 {
        text += &format!(" with {} valid batches", cut.batches);
    }
    let mut kept = cut.kept.iter().map(|path| path.display().to_string());
    if let Some(first) = kept.next() {
        text += &kept.fold(format!(", to be kept in {first}"), |text, path| text + ", " + &path);
    }
    text
}
