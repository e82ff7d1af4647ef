//! `idemlog dump`: what a file holds, in order.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use idemlog::{BatchError, BatchHeader, Record, UncheckedBatch};

use crate::batches::{Piece, Pieces};
use crate::output::tell;
use crate::{Failure, is_broken_pipe, place, progress};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// `.log`, `.index`, `.timeindex`, `.txnindex` or `.snapshot` files, also those that were kept aside as `.corrupt`, or
    /// `segment.prepared`; or partitions' directories.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The records of each batch, too.
    #[arg(long)]
    records: bool,
}

/// What is wrong with a file does not keep the others from it.
pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut status = ExitCode::SUCCESS;
    for path in &arguments.paths {
        for file in files(path)? {
            match dump(&file, arguments.records, out) {
                Err(failure) if is_broken_pipe(&failure) => return Err(failure),
                Err(failure) => {
                    // What came before it is shown before it.
                    out.flush()?;
                    tell(failure);
                    status = ExitCode::from(2);
                }
                Ok(()) => {}
            }
        }
    }
    Ok(status)
}

fn dump(file: &Path, with_records: bool, out: &mut impl Write) -> Result<(), Failure> {
    match kind(file) {
        "log" => batches(file, with_records, out),
        "index" => entries(file, 8, offset_index, out),
        "timeindex" => entries(file, 12, time_index, out),
        "txnindex" => entries(file, 34, transaction_index, out),
        "snapshot" => snapshot(file, out),
        _ => Err(format!("{} is neither a segment, an index nor a snapshot", file.display()).into()),
    }
}

/// What a file is, or was before it was kept aside, as its suffix: what was cut out of a segment is named by its base offset and
/// position only, a file that was set aside as a whole has a number behind its own name.
fn kind(file: &Path) -> &str {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let was = match name.strip_suffix(".corrupt") {
        _ if name == "segment.prepared" => ".log",
        Some(kept) if is_cut_out(kept) => ".log",
        Some(kept) => kept.rsplit_once('.').map_or(kept, |(was, _)| was),
        None => name,
    };
    was.rsplit_once('.').map_or("", |(_, kind)| kind)
}

/// Whether a name without `.corrupt` is that of bytes of a segment: `00000000000000000000.4711`, and `.1` behind it for the second.
fn is_cut_out(kept: &str) -> bool {
    kept.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
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

/// Batch by batch, also those behind damage, which is told where it is and at the end.
fn batches(file: &Path, with_records: bool, out: &mut impl Write) -> Result<(), Failure> {
    let bytes = read(file, LONGEST)?;
    writeln!(out, "{}", file.display())?;
    // Empty bytes behind the last batch are blocks that the owner had not filled yet.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let bar = progress::bar(&name, used as u64, std::io::stdout().is_terminal());
    let damaged = |position, error| format!("{} at byte {position}: {error}", file.display());
    let mut first_damage = None;
    for (position, piece) in Pieces::new(bytes.into()).take_while(|&(position, _)| position < used) {
        bar.set_position(position as u64);
        let wrong = show(position, &piece, out)?;
        if let Piece::Batch(batch, _) = &piece
            && with_records
        {
            records(batch, |error| damaged(position, error), out)?;
        }
        first_damage = first_damage.or(wrong.map(|error| damaged(position, error)));
    }
    bar.finish_and_clear();
    first_damage.map_or(Ok(()), |damage| Err(damage + verify_tells_more(file))).map_err(Into::into)
}

/// A line for a batch, or for bytes that a batch follows. What is wrong there.
fn show(position: usize, piece: &Piece, out: &mut impl Write) -> std::io::Result<Option<BatchError>> {
    match piece {
        Piece::Batch(batch, None) => writeln!(out, "{position:>10} {}", summary(batch.header()))?,
        Piece::Batch(batch, Some(error)) => {
            writeln!(out, "{position:>10} {} DAMAGED: {error}", summary(batch.header()))?;
        }
        Piece::Other { bytes, error, goes_on: true } => {
            writeln!(out, "{position:>10} {bytes} bytes that are no batch: {error}")?;
        }
        Piece::Other { goes_on: false, .. } => {}
    }
    Ok(match piece {
        Piece::Batch(_, wrong) => wrong.clone(),
        Piece::Other { error, .. } => Some(error.clone()),
    })
}

/// It looks at no file that was kept aside.
fn verify_tells_more(file: &Path) -> &'static str {
    if file.extension().is_some_and(|extension| extension == "log") {
        "; `verify` tells the rest"
    } else {
        ""
    }
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
