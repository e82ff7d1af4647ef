//! `idemlog inspect`: the state that opening a partition would come to.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use idemlog::inspect::{InspectOptions, Inspection, Place, SegmentState, inspect};
use idemlog::{Error, Offset, Timestamp};
use indicatif::HumanCount;

use crate::{Failure, directory, opening, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory, or a log directory.
    path: PathBuf,
    /// As JSON, in Kafka's words.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    assumed: Assumed,
}

/// What is taken for true of a partition instead of what lies around it.
#[derive(clap::Args, PartialEq, Eq, Default)]
struct Assumed {
    /// As if it had been closed well; else as the log directory around it is marked.
    #[arg(long, conflicts_with = "unclean")]
    clean: bool,
    /// As if it had not been closed well.
    #[arg(long)]
    unclean: bool,
    /// The offset below which all is durable; else that of the checkpoint beside the partition.
    #[arg(long, value_name = "OFFSET")]
    recovery_point: Option<i64>,
    /// The log start offset; else that of the checkpoint, or of the first segment.
    #[arg(long, value_name = "OFFSET")]
    log_start: Option<i64>,
    /// The time; else the host's.
    #[arg(long, value_name = "MS")]
    now: Option<i64>,
    /// After how long by the timestamps of its records a producer is forgotten; else never.
    #[arg(long, value_name = "MS")]
    producer_expiry: Option<i64>,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let path = &arguments.path;
    if let Place::LogDirectory { partitions } = place::found(path)? {
        if arguments.assumed != Assumed::default() {
            Err(format!(
                "{} is a log directory: it is looked at as it is, without assumptions",
                path.display()
            ))?;
        }
        return directory::run(path, partitions.len(), arguments.json, out);
    }
    let is_in_use = place::note_use(path);
    let inspected = options(path, &arguments.assumed)
        .and_then(|options| progress::waiting(path, || inspect(path, &options)));
    let state = match inspected {
        Err(Error::Corrupt(damage)) => return opening::refused(&damage, is_in_use, arguments.json, out),
        inspected => inspected?,
    };
    if arguments.json {
        writeln!(out, "{:#}", report::state(&state, is_in_use))?;
    } else {
        describe(path, &state, out)?;
    }
    Ok(ExitCode::from(u8::from(state.recovery.lacks_durable())))
}

/// What the log directory says, as far as the arguments say nothing else.
fn options(path: &Path, assumed: &Assumed) -> idemlog::Result<InspectOptions> {
    let found = InspectOptions::of_partition(path)?;
    let clean = assumed.clean || (found.clean && !assumed.unclean);
    let recovery_point = assumed.recovery_point.map_or(found.recovery_point, Offset);
    let log_start = assumed.log_start.map(Offset).or(found.log_start);
    Ok(found
        .clean(clean)
        .recovery_point(recovery_point)
        .log_start(log_start)
        .now(assumed.now.map(Timestamp))
        .producer_expiry_ms(assumed.producer_expiry.unwrap_or(i64::MAX)))
}

fn describe(path: &Path, state: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    opening::describe(&state.recovery, out)?;
    writeln!(
        out,
        "log start {}, last stable {}, high watermark {}, log end {}",
        state.log_start, state.last_stable, state.high_watermark, state.log_end
    )?;
    if let Some(high_watermark) = state.checkpointed_high_watermark {
        writeln!(out, "high watermark by the checkpoint {high_watermark}")?;
    }
    for segment in &state.segments {
        let SegmentState { base_offset, next_offset, bytes, largest_timestamp, aborted, .. } = segment;
        let aborted = match aborted.len() {
            0 => String::new(),
            count => format!(", aborted transactions: {}", HumanCount(count as u64)),
        };
        writeln!(
            out,
            "segment {base_offset} to {next_offset}, {bytes} bytes, largest timestamp {largest_timestamp}{aborted}"
        )?;
    }
    for (epoch, start) in &state.leader_epochs {
        writeln!(out, "leader epoch {epoch} from offset {start}")?;
    }
    aborted(path, state, out)?;
    producers(path, state, out)
}

/// How many there are in all, and where to see them: after a crash an index may lack some, which an opening finds.
fn aborted(path: &Path, state: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    let count: usize = state.segments.iter().map(|segment| segment.aborted.len()).sum();
    if count == 0 {
        return Ok(());
    }
    let path = path.display();
    let command = if state.recovery.marked_clean {
        format!("dump {path}/*.txnindex")
    } else {
        format!("inspect --json {path}")
    };
    writeln!(out, "aborted transactions: {}; `idemlog {command}` lists them", HumanCount(count as u64))
}

/// How many there are: a line for each, of a million, would bury all the rest.
fn producers(path: &Path, state: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    if state.producers.is_empty() {
        return writeln!(out, "no producers");
    }
    writeln!(
        out,
        "producers: {}, with an open transaction: {}; `idemlog producers {}` lists them",
        HumanCount(state.producers.len() as u64),
        HumanCount(report::open_transactions(state) as u64),
        path.display()
    )
}
