//! `idemlog producers`: who wrote to a partition, and how far each has come.

use std::path::PathBuf;
use std::process::ExitCode;

use idemlog::inspect::{InspectOptions, inspect};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The partition's directory.
    partition: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    for producer in inspect(&arguments.partition, &InspectOptions::default())?.producers {
        print!("producer {} epoch {}", producer.producer_id, producer.epoch);
        if let Some(last) = producer.batches.last() {
            print!(" last sequence {} offset {}", last.last_sequence, last.offsets.last);
        }
        if let Some(first) = producer.transaction_first_offset {
            print!(" transaction open from offset {first}");
        }
        println!(" timestamp {} remembered batches {}", producer.last_timestamp, producer.batches.len());
    }
    Ok(ExitCode::SUCCESS)
}
