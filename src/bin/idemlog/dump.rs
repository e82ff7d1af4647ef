//! `idemlog dump`: what a file holds, in order.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use idemlog::{BatchHeader, Batches, Record, UncheckedBatch};

use crate::{Failure, place, progress};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A `.log`, `.index`, `.timeindex`, `.txnindex` or `.snapshot` file, or a partition's directory.
    path: PathBuf,
    /// The records of each batch, too.
    #[arg(long)]
    records: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    for file in files(&arguments.path)? {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("log") => batches(&file, arguments.records, out)?,
            Some("index") => entries(&file, 8, offset_index, out)?,
            Some("timeindex") => entries(&file, 12, time_index, out)?,
            Some("txnindex") => entries(&file, 34, transaction_index, out)?,
            Some("snapshot") => snapshot(&file, out)?,
            _ => Err(format!("{} is neither a segment, an index nor a snapshot", file.display()))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file itself, or the `.log` files of a partition.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        if let Err(error) = path.symlink_metadata() {
            Err(format!("{}: {error}", path.display()))?;
        }
        return Ok(vec![path.to_owned()]);
    }
    place::expect_partition(path)?;
    let mut logs = place::entries(path)?;
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    Ok(logs)
}

/// The most bytes that a file of each kind has.
const LONGEST: u64 = i32::MAX as u64;
const LONGEST_SNAPSHOT: u64 = 8 << 30;

/// All of a file of `longest` bytes at most. A pipe would be waited for, and a device has no end.
fn read(file: &Path, longest: u64) -> Result<Vec<u8>, Failure> {
    let shown = file.display();
    let found = std::fs::metadata(file).map_err(|error| format!("look at {shown}: {error}"))?;
    if !found.is_file() {
        Err(format!("{shown} is no regular file"))?;
    }
    if found.len() > longest {
        Err(format!("{shown} has {} bytes; a file of its kind has {longest} at the most", found.len()))?;
    }
    std::fs::read(file).map_err(|error| format!("read {shown}: {error}").into())
}

fn batches(file: &Path, with_records: bool, out: &mut impl Write) -> Result<(), Failure> {
    let bytes = read(file, LONGEST)?;
    writeln!(out, "{}", file.display())?;
    // Empty bytes behind the last batch are blocks that the owner had not filled yet.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bar = progress::bar(&name, used as u64, std::io::stdout().is_terminal());
    let mut position = 0;
    for batch in Batches::new(bytes.into()) {
        if position >= used {
            break;
        }
        let damaged =
            |error| format!("{} at byte {position}: {error}; `verify` tells the rest", file.display());
        let batch = batch.map_err(damaged)?;
        writeln!(out, "{position:>10} {}", summary(batch.header()))?;
        if with_records {
            records(&batch, damaged, out)?;
        }
        position += batch.header().size();
        bar.set_position(position as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn summary(header: &BatchHeader) -> String {
    let codec = header.compression().map_or("an unknown codec".to_owned(), |codec| format!("{codec:?}"));
    let mut line = format!(
        "offsets {}-{} leader epoch {} timestamp {} {} bytes {} records {}",
        header.base_offset,
        header.last_offset(),
        header.leader_epoch,
        header.max_timestamp,
        header.size(),
        header.record_count,
        codec.to_lowercase(),
    );
    if header.is_idempotent() {
        line += &format!(
            " producer {} epoch {} sequences {}-{}",
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            header.last_sequence()
        );
    }
    let marks = [(header.is_transactional(), " transactional"), (header.is_control(), " control")];
    marks.into_iter().filter(|(is_set, _)| *is_set).for_each(|(_, mark)| line += mark);
    line
}

fn records<E: Into<Failure>>(
    batch: &UncheckedBatch,
    damaged: impl Fn(idemlog::BatchError) -> E,
    out: &mut impl Write,
) -> Result<(), Failure> {
    for record in batch.records() {
        let record: Record = record.map_err(|error| damaged(error).into())?;
        let (key, value) = (content(record.key()), content(record.value()));
        writeln!(out, "{:>14} timestamp {} {key} = {value}", record.offset(), record.timestamp())?;
    }
    Ok(())
}

/// Bytes as text, with escapes for what is none.
fn content(bytes: Option<Bytes>) -> String {
    bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()))
}

/// The entries of an index file, of `size` bytes each, as `lines` reads its bytes.
fn entries(
    file: &Path,
    size: usize,
    lines: fn(&[u8]) -> Vec<String>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let bytes = read(file, LONGEST)?;
    print(file, &lines(&bytes), out)?;
    let (whole, rest) = (bytes.len() / size * size, bytes.len() % size);
    if rest > 0 {
        Err(format!("{} at byte {whole}: {rest} bytes where an entry has {size}", file.display()))?;
    }
    Ok(())
}

fn print(file: &Path, lines: &[String], out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{}", file.display())?;
    lines.iter().try_for_each(|line| writeln!(out, "  {line}"))
}

fn offset_index(bytes: &[u8]) -> Vec<String> {
    let entries = bytes.as_chunks::<8>().0.iter();
    entries
        .map(|entry| format!("relative offset {} position {}", number(entry, 0, 4), number(entry, 4, 4)))
        .collect()
}

fn time_index(bytes: &[u8]) -> Vec<String> {
    let entries = bytes.as_chunks::<12>().0.iter();
    entries
        .map(|entry| format!("timestamp {} relative offset {}", number(entry, 0, 8), number(entry, 8, 4)))
        .collect()
}

fn transaction_index(bytes: &[u8]) -> Vec<String> {
    let aborted = |entry: &[u8; 34]| {
        format!(
            "aborted: producer {} offsets {}-{} last stable offset {}",
            number(entry, 2, 8),
            number(entry, 10, 8),
            number(entry, 18, 8),
            number(entry, 26, 8),
        )
    };
    bytes.as_chunks::<34>().0.iter().map(aborted).collect()
}

/// The head of a snapshot: its version, the CRC-32C over what follows, and the number of entries.
const SNAPSHOT_HEAD: usize = 10;
const SNAPSHOT_ENTRY: usize = 46;

/// The entries that Kafka's reader sees, as far as they are there.
fn snapshot(file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let bytes = read(file, LONGEST_SNAPSHOT)?;
    let count = if bytes.len() < SNAPSHOT_HEAD { 0 } else { number(&bytes, 6, 4).max(0) as usize };
    let entries = bytes.get(SNAPSHOT_HEAD..).unwrap_or_default();
    let entries = entries.as_chunks::<SNAPSHOT_ENTRY>().0.iter().take(count);
    print(file, &entries.map(producer).collect::<Vec<_>>(), out)?;
    match wrong_with_snapshot(&bytes, count) {
        Some(problem) => Err(format!("{}: {problem}", file.display()))?,
        None => Ok(()),
    }
}

fn wrong_with_snapshot(bytes: &[u8], count: usize) -> Option<String> {
    let needed = count.saturating_mul(SNAPSHOT_ENTRY).saturating_add(SNAPSHOT_HEAD);
    if bytes.len() < needed {
        return Some(format!(
            "{} bytes where a snapshot of {count} producers has {needed} or more",
            bytes.len()
        ));
    }
    let (expected, got) = (number(bytes, 2, 4) as u32, crc32c::crc32c(&bytes[6..]));
    (expected != got).then(|| format!("the checksum is {expected:#010x}, that of the bytes {got:#010x}"))
}

fn producer(entry: &[u8; SNAPSHOT_ENTRY]) -> String {
    format!(
        "producer {} epoch {} last sequence {} last offset {} offset delta {} timestamp {} coordinator {} transaction {}",
        number(entry, 0, 8),
        number(entry, 8, 2),
        number(entry, 10, 4),
        number(entry, 14, 8),
        number(entry, 22, 4),
        number(entry, 26, 8),
        number(entry, 34, 4),
        number(entry, 38, 8),
    )
}

/// A signed number of `size` bytes, big endian.
fn number(bytes: &[u8], at: usize, size: usize) -> i64 {
    let unsigned = bytes[at..at + size].iter().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let shift = 64 - 8 * size;
    (unsigned << shift).cast_signed() >> shift
}
