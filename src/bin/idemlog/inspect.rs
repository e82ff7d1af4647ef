//! `idemlog inspect`: the state that opening a partition would come to.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::inspect::{InspectOptions, Inspection, inspect};
use idemlog::{AbortedTransaction, Offset, Timestamp};

use crate::{Failure, place, progress, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory.
    partition: PathBuf,
    /// As JSON, in Kafka's words.
    #[arg(long)]
    json: bool,
    /// As if it had not been closed well.
    #[arg(long)]
    unclean: bool,
    /// The offset below which all is durable.
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    recovery_point: i64,
    /// The log start offset; else that of the first segment.
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
    let path = &arguments.partition;
    place::expect_partition(path)?;
    let options = InspectOptions::default()
        .clean(!arguments.unclean)
        .recovery_point(Offset(arguments.recovery_point))
        .log_start(arguments.log_start.map(Offset))
        .now(arguments.now.map(Timestamp))
        .producer_expiry(arguments.producer_expiry.unwrap_or(i64::MAX));
    let state = progress::waiting(path, || inspect(path, &options))?;
    if arguments.json {
        writeln!(out, "{:#}", report::state(&state))?;
    } else {
        describe(&state, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(state: &Inspection, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}", state.recovery)?;
    writeln!(
        out,
        "log start {}, last stable {}, high watermark {}, log end {}",
        state.log_start, state.last_stable, state.high_watermark, state.log_end
    )?;
    for segment in &state.segments {
        writeln!(
            out,
            "segment {} to {}, {} bytes, largest timestamp {}",
            segment.base_offset, segment.next_offset, segment.bytes, segment.largest_timestamp
        )?;
        for aborted in &segment.aborted {
            let AbortedTransaction { producer_id, first_offset, last_offset, .. } = aborted;
            writeln!(out, "  aborted: producer {producer_id}, offsets {first_offset} to {last_offset}")?;
        }
    }
    for (epoch, start) in &state.leader_epochs {
        writeln!(out, "leader epoch {epoch} from offset {start}")?;
    }
    state.producers.iter().try_for_each(|producer| writeln!(out, "{}", report::producer_line(producer)))
}
