//! `idemlog dump`: what a file holds, in order.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use idemlog::{Batches, UncheckedBatch};

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A `.log`, `.index`, `.timeindex` or `.snapshot` file, or a partition's directory.
    path: PathBuf,
    /// The records of each batch, too.
    #[arg(long)]
    records: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    for file in files(&arguments.path)? {
        let bytes = std::fs::read(&file)?;
        println!("{}", file.display());
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("log") => batches(bytes, arguments.records)?,
            Some("index") => offset_index(&bytes),
            Some("timeindex") => time_index(&bytes),
            Some("snapshot") => snapshot(&bytes),
            _ => return Err(format!("{} is no .log, .index, .timeindex or .snapshot", file.display()).into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file itself, or the `.log` files of a directory.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let paths =
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    let mut logs: Vec<PathBuf> = paths.into_iter().filter(is_log).collect();
    logs.sort();
    Ok(logs)
}

fn batches(bytes: Vec<u8>, with_records: bool) -> Result<(), Failure> {
    // Empty bytes behind the last batch are blocks that the owner had not filled yet.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut position = 0;
    for batch in Batches::new(bytes.into()) {
        if position >= used {
            break;
        }
        let batch = batch.map_err(|error| format!("byte {position}: {error}"))?;
        println!("{position:>10} {:?}", batch.header());
        if with_records {
            records(&batch)?;
        }
        position += batch.header().size();
    }
    Ok(())
}

fn records(batch: &UncheckedBatch) -> Result<(), Failure> {
    for record in batch.records() {
        let record = record?;
        println!(
            "           {} at {}: {:?} = {:?}",
            record.offset(),
            record.timestamp(),
            record.key(),
            record.value()
        );
    }
    Ok(())
}

fn offset_index(bytes: &[u8]) {
    for entry in bytes.as_chunks::<8>().0 {
        println!("relative offset {:>10} position {:>10}", number(entry, 0, 4), number(entry, 4, 4));
    }
}

fn time_index(bytes: &[u8]) {
    for entry in bytes.as_chunks::<12>().0 {
        println!("timestamp {:>15} relative offset {:>10}", number(entry, 0, 8), number(entry, 8, 4));
    }
}

/// The entries that Kafka's reader sees.
fn snapshot(bytes: &[u8]) {
    const HEAD: usize = 10;
    let count = if bytes.len() < HEAD { 0 } else { number(bytes, 6, 4).max(0) as usize };
    for entry in bytes.get(HEAD..).unwrap_or_default().as_chunks::<46>().0.iter().take(count) {
        println!(
            "producer {} epoch {} last sequence {} last offset {} offset delta {} timestamp {} coordinator {} transaction {}",
            number(entry, 0, 8),
            number(entry, 8, 2),
            number(entry, 10, 4),
            number(entry, 14, 8),
            number(entry, 22, 4),
            number(entry, 26, 8),
            number(entry, 34, 4),
            number(entry, 38, 8),
        );
    }
}

/// A signed number of `size` bytes, big endian.
fn number(bytes: &[u8], at: usize, size: usize) -> i64 {
    let unsigned = bytes[at..at + size].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let shift = 64 - 8 * size;
    (unsigned << shift).cast_signed() >> shift
}
