//! The bytes of a `.snapshot` file: all producers of a partition as of an offset.
//!
//! The file begins as Kafka's version 1. What Kafka does not keep stands in a trailer behind the entries, which the
//! file's CRC covers and Kafka's reader does not look at. All numbers are big endian.
//!
//! ```text
//!  at size
//!   0    2 version, 1
//!   2    4 CRC-32C over the bytes from 6 to the end of the file
//!   6    4 n, the number of entries
//!  10      n entries of 46 bytes
//!          +0  8 producer id
//!          +8  2 producer epoch
//!         +10  4 last sequence              -1: no batch
//!         +14  8 last offset                -1: no batch
//!         +22  4 last offset less first of the last batch
//!         +26  8 timestamp of the last batch or marker
//!         +34  4 coordinator epoch          -1: none
//!         +38  8 first offset of the open transaction, -1: none
//!  then the trailer
//!          +0  4 magic, "IDLP"
//!          +4  2 version, 1
//!          +6  2 flags: 1 = the identity is set
//!          +8  4 identity: leader epoch     of the last batch that the snapshot covers
//!         +12  8 identity: base offset
//!         +20  8 identity: byte position in its segment
//!         +28  4 identity: CRC-32C
//!         +32  4 w, the number of older batches of all windows
//!         +36  4 s, the number of supplements
//!  then n rows of 10 bytes, one for each entry
//!          +0  4 when the host last saw the producer, in seconds since 1970
//!          +4  4 CRC-32C of the last batch  0: unknown
//!          +8  1 how many older batches the entry has
//!          +9  1 flags: 1 = the entry has a supplement
//!  then w older batches of 28 bytes, in the order of the entries, oldest first
//!          +0  8 last offset
//!          +8  8 timestamp
//!         +16  4 last sequence
//!         +20  4 last offset less first
//!         +24  4 CRC-32C                    0: unknown
//!  then s supplements of 27 bytes, in the order of the entries: the last batch where the entry cannot tell it
//!          +0  1 flags: 1 = the entry's timestamp is that of a marker; 2 = the producer was fenced since the batch
//!          +1  2 the epoch of the batches, where the producer was fenced since
//!          +3 24 the last batch, as an older one without CRC
//! ```
//!
//! Of a producer that was fenced since its last batch, Kafka's entry shows no batch: it is of an older epoch. A trailer
//! of a newer version is refused, because skipping it would forget batches.

use std::convert::Infallible;

use super::clock::{HostClock, to_seconds};
use super::entry::{Entry, EntryView, Side, StoredBatch};
use super::policy::ProducerPolicy;
use super::restore::Restoring;
use super::table::ProducerTable;
use crate::batch::layout::{read_i16, read_i32, read_i64, read_u32};
use crate::crc::{crc32c, crc32c_append};
use crate::error::CorruptionKind;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// A larger file is not read, nor written.
pub(crate) const MAX_BYTES: u64 = 8 << 30;

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
pub(super) const COVERED_FROM: usize = 6;
pub(super) const HEAD_SIZE: usize = 10;
pub(super) const ENTRY_SIZE: usize = 46;

const MAGIC: u32 = u32::from_be_bytes(*b"IDLP");
const TRAILER_VERSION: i16 = 1;
const TRAILER_HEAD_SIZE: usize = 40;
pub(super) const ROW_SIZE: usize = 10;
const BATCH_SIZE: usize = 28;
const SUPPLEMENT_SIZE: usize = 27;

const HAS_IDENTITY: i16 = 1;
const HAS_SUPPLEMENT: u8 = 1;
const MARKER_IS_LAST: u8 = 1;
const FENCED: u8 = 2;

pub(super) type Result<T> = std::result::Result<T, CorruptionKind>;

/// The last batch that a snapshot covers. If it is not in the log, the snapshot describes batches that are not either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotIdentity {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) base_offset: Offset,
    /// Where it begins in its segment.
    pub(crate) position: u64,
    pub(crate) crc: u32,
}

/// How many producers with such a window are sure to find room in a file.
pub(super) fn producers_max(window: u8) -> usize {
    let older = BATCH_SIZE * usize::from(window.saturating_sub(1));
    let each = ENTRY_SIZE + ROW_SIZE + SUPPLEMENT_SIZE + older;
    ((MAX_BYTES - (HEAD_SIZE + TRAILER_HEAD_SIZE) as u64) / each as u64) as usize
}

/// The file's bytes.
pub(crate) fn encode(table: &ProducerTable, identity: Option<&SnapshotIdentity>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_SIZE + table.len() * (ENTRY_SIZE + ROW_SIZE) + TRAILER_HEAD_SIZE);
    let Ok(head) = write(table, identity, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    });
    put(&mut bytes, 0, head);
    bytes
}

/// Hands out the file's bytes in pieces, one behind the other, and returns those that are to replace the first ones. Takes
/// no memory for the whole file: to get its pages costs as much as to fill them.
pub(crate) fn write<E>(
    table: &ProducerTable,
    identity: Option<&SnapshotIdentity>,
    sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<[u8; HEAD_SIZE], E> {
    write_sources(|| table.views().map(Source::View), table.len(), table.clock, identity, sink)
}

/// Where a file's producers come from.
pub(super) enum Source<'a> {
    /// One of a table.
    View(EntryView<'a>),
    /// Some, one behind the other, of another file.
    Stored(&'a Stored<'a>),
}

/// Producers as they lie in a file: each part of them in one piece.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) entries: &'a [u8],
    pub(super) rows: &'a [u8],
    pub(super) older_batches: &'a [u8],
    pub(super) supplements: &'a [u8],
}

impl Stored<'_> {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.entries.len() / ENTRY_SIZE
    }
}

/// As [`write`], from any sources, of `count` producers together.
pub(super) fn write_sources<'a, E, S: Iterator<Item = Source<'a>>>(
    sources: impl Fn() -> S,
    count: usize,
    clock: HostClock,
    identity: Option<&SnapshotIdentity>,
    sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
) -> std::result::Result<[u8; HEAD_SIZE], E> {
    let mut head = [0; HEAD_SIZE];
    put(&mut head, 0, VERSION.to_be_bytes());
    put(&mut head, COVERED_FROM, (count as u32).to_be_bytes());
    let mut pieces = Pieces { buffer: head.to_vec(), covered_from: COVERED_FROM, crc: 0, flushed: 0, sink };
    let mut rest =
        Rest { rows: Vec::with_capacity(count * ROW_SIZE), older_batches: 0, supplements: Vec::new() };
    for source in sources() {
        match source {
            Source::View(view) => {
                pieces.push(encode_entry(&view))?;
                rest.add(&view, clock);
            }
            Source::Stored(stored) => {
                pieces.push_stored(stored.entries)?;
                rest.add_stored(stored);
            }
        }
    }
    let Rest { rows, older_batches, supplements } = rest;
    pieces.push(encode_trailer_head(older_batches, supplements.len() / SUPPLEMENT_SIZE, identity))?;
    pieces.push_all(rows)?;
    if older_batches > 0 {
        write_older(sources(), &mut pieces)?;
    }
    pieces.push_all(supplements)?;
    put(&mut head, CRC_AT, pieces.crc.to_be_bytes());
    Ok(head)
}

fn write_older<'a, E, W>(
    sources: impl Iterator<Item = Source<'a>>,
    pieces: &mut Pieces<W>,
) -> std::result::Result<(), E>
where
    W: FnMut(&[u8]) -> std::result::Result<(), E>,
{
    for source in sources {
        match source {
            Source::View(view) => {
                view.older().iter().try_for_each(|batch| pieces.push(encode_batch(*batch)))?;
            }
            Source::Stored(stored) => pieces.push_stored(stored.older_batches)?,
        }
    }
    Ok(())
}

/// What stands behind the entries and comes to light with them.
struct Rest {
    rows: Vec<u8>,
    older_batches: usize,
    supplements: Vec<u8>,
}

impl Rest {
    #[inline]
    fn add(&mut self, view: &EntryView<'_>, clock: HostClock) {
        let supplement = supplement(view);
        let last_seen = clock.to_host(view.entry.last_seen);
        self.rows.extend_from_slice(&encode_row(view, last_seen, supplement.is_some()));
        self.older_batches += view.older().len();
        self.supplements.extend(supplement.iter().flatten());
    }

    fn add_stored(&mut self, stored: &Stored<'_>) {
        self.rows.extend_from_slice(stored.rows);
        self.older_batches += stored.older_batches.len() / BATCH_SIZE;
        self.supplements.extend_from_slice(stored.supplements);
    }
}

/// Bytes on their way, as many at a time as are worth a call, and few enough to stay in a cache between all who look at
/// them.
struct Pieces<W> {
    buffer: Vec<u8>,
    /// Where in the buffer the CRC begins.
    covered_from: usize,
    crc: u32,
    /// How many bytes went to the sink.
    flushed: usize,
    sink: W,
}

impl<E, W: FnMut(&[u8]) -> std::result::Result<(), E>> Pieces<W> {
    const SIZE: usize = 256 << 10;
    /// As much of another file at once, up to multiples of it: the page cache then takes it in large pages.
    const STORED_SIZE: usize = 4 << 20;

    #[inline]
    fn push<const N: usize>(&mut self, bytes: [u8; N]) -> std::result::Result<(), E> {
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() < Self::SIZE { Ok(()) } else { self.flush() }
    }

    /// What is pushed behind the entries as a whole.
    fn push_all(&mut self, bytes: Vec<u8>) -> std::result::Result<(), E> {
        self.flush()?;
        self.buffer = bytes;
        self.flush()
    }

    /// Bytes of another file: not copied where that is worth a call.
    fn push_stored(&mut self, bytes: &[u8]) -> std::result::Result<(), E> {
        if self.buffer.len() + bytes.len() <= Self::SIZE {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush()?;
        let until_multiple = Self::STORED_SIZE - self.flushed % Self::STORED_SIZE;
        let (first, rest) = bytes.split_at(until_multiple.min(bytes.len()));
        std::iter::once(first)
            .chain(rest.chunks(Self::STORED_SIZE))
            .try_for_each(|piece| self.send(piece, piece))
    }

    fn flush(&mut self) -> std::result::Result<(), E> {
        let buffer = std::mem::take(&mut self.buffer);
        let covered = std::mem::take(&mut self.covered_from);
        self.send(&buffer, &buffer[covered..])?;
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    /// Hands on a piece, of which so much is under the CRC.
    fn send(&mut self, piece: &[u8], covered: &[u8]) -> std::result::Result<(), E> {
        self.crc = crc32c_append(self.crc, covered);
        self.flushed += piece.len();
        (self.sink)(piece)
    }
}

/// The table in the bytes of the file of `offset`, and which log it belongs to. Idle producers are in it, too, and those above
/// the budget.
pub(crate) fn decode(
    bytes: &[u8],
    offset: Offset,
    policy: ProducerPolicy,
    now: Timestamp,
) -> Result<(ProducerTable, Option<SnapshotIdentity>)> {
    let entries = decode_head(bytes)?;
    let (entries, trailer) = bytes[HEAD_SIZE..].split_at(entries * ENTRY_SIZE);
    let mut trailer = Trailer::decode(trailer, entries.len() / ENTRY_SIZE, offset)?;
    let mut table = ProducerTable::new(policy);
    table.clock.observe(now);
    let id = |slot| ProducerId(read_i64(entries, slot * ENTRY_SIZE));
    let mut table = Restoring::new(table, entries.len() / ENTRY_SIZE, id)
        .ok_or(CorruptionKind::Format("a producer that is there twice"))?;
    let mut older = Vec::new();
    for entry in entries.chunks_exact(ENTRY_SIZE) {
        let (mut entry, mut side) = decode_entry(entry, offset, to_seconds(now.0))?;
        older.clear();
        trailer.complete(&mut entry, &mut side, &mut older)?;
        table.add(entry, &older, side);
    }
    trailer.expect_end()?;
    Ok((table.finish(), trailer.identity))
}

/// The checksum over a file that comes in pieces.
#[derive(Debug)]
pub(crate) struct Check {
    expected: u32,
    got: u32,
}

impl Check {
    /// Takes the first piece. A file of another version is not looked at any further.
    pub(crate) fn begin(bytes: &[u8]) -> Result<Self> {
        check_version(bytes)?;
        Ok(Self { expected: read_u32(bytes, CRC_AT), got: crc32c(&bytes[COVERED_FROM..]) })
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.got = crc32c_append(self.got, bytes);
    }

    pub(crate) fn end(self) -> Result<()> {
        let Self { expected, got } = self;
        if expected == got { Ok(()) } else { Err(CorruptionKind::Checksum { expected, got }) }
    }
}

fn check_version(bytes: &[u8]) -> Result<()> {
    expect_length(bytes, HEAD_SIZE as u64)?;
    match read_i16(bytes, 0) {
        VERSION => Ok(()),
        got => Err(CorruptionKind::Version { expected: VERSION, got }),
    }
}

/// Checks version, size and CRC. Returns the number of entries, which are all there.
pub(super) fn decode_head(bytes: &[u8]) -> Result<usize> {
    Check::begin(bytes)?.end()?;
    let Ok(entries) = u32::try_from(read_i32(bytes, COVERED_FROM)) else {
        return Err(CorruptionKind::Format("a negative number of producers"));
    };
    expect_length(bytes, HEAD_SIZE as u64 + u64::from(entries) * ENTRY_SIZE as u64)?;
    Ok(entries as usize)
}

fn expect_length(bytes: &[u8], expected: u64) -> Result<()> {
    let got = bytes.len() as u64;
    if got < expected { Err(CorruptionKind::Length { expected, got }) } else { Ok(()) }
}

#[inline]
fn put<const N: usize>(bytes: &mut [u8], at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

fn encode_trailer_head(
    older_batches: usize,
    supplements: usize,
    identity: Option<&SnapshotIdentity>,
) -> [u8; TRAILER_HEAD_SIZE] {
    let mut bytes = [0; TRAILER_HEAD_SIZE];
    put(&mut bytes, 0, MAGIC.to_be_bytes());
    put(&mut bytes, 4, TRAILER_VERSION.to_be_bytes());
    if let Some(identity) = identity {
        put(&mut bytes, 6, HAS_IDENTITY.to_be_bytes());
        put(&mut bytes, 8, identity.leader_epoch.0.to_be_bytes());
        put(&mut bytes, 12, identity.base_offset.0.to_be_bytes());
        put(&mut bytes, 20, identity.position.to_be_bytes());
        put(&mut bytes, 28, identity.crc.to_be_bytes());
    }
    put(&mut bytes, 32, (older_batches as u32).to_be_bytes());
    put(&mut bytes, 36, (supplements as u32).to_be_bytes());
    bytes
}

/// What Kafka would write.
#[inline]
fn encode_entry(view: &EntryView<'_>) -> [u8; ENTRY_SIZE] {
    let last = if view.side.fenced_epoch.is_some() { StoredBatch::ABSENT } else { view.entry.last };
    let mut bytes = [0; ENTRY_SIZE];
    put(&mut bytes, 0, view.entry.producer_id.0.to_be_bytes());
    put(&mut bytes, 8, view.entry.epoch.0.to_be_bytes());
    put(&mut bytes, 10, last.last_sequence.0.to_be_bytes());
    put(&mut bytes, 14, last.last_offset.0.to_be_bytes());
    put(&mut bytes, 22, last.offset_delta.to_be_bytes());
    put(&mut bytes, 26, view.last_timestamp().0.to_be_bytes());
    put(&mut bytes, 34, view.side.coordinator_epoch.unwrap_or(-1).to_be_bytes());
    put(&mut bytes, 38, view.side.transaction_first.map_or(-1, |offset| offset.0).to_be_bytes());
    bytes
}

#[inline]
fn encode_row(view: &EntryView<'_>, last_seen: Timestamp, has_supplement: bool) -> [u8; ROW_SIZE] {
    let mut bytes = [0; ROW_SIZE];
    put(&mut bytes, 0, to_seconds(last_seen.0).to_be_bytes());
    put(&mut bytes, 4, view.entry.last.crc.to_be_bytes());
    bytes[8] = view.older().len() as u8;
    bytes[9] = if has_supplement { HAS_SUPPLEMENT } else { 0 };
    bytes
}

#[inline]
fn encode_batch(batch: StoredBatch) -> [u8; BATCH_SIZE] {
    let StoredBatch { last_offset, timestamp, last_sequence, offset_delta, crc } = batch;
    let mut bytes = [0; BATCH_SIZE];
    put(&mut bytes, 0, last_offset.0.to_be_bytes());
    put(&mut bytes, 8, timestamp.0.to_be_bytes());
    put(&mut bytes, 16, last_sequence.0.to_be_bytes());
    put(&mut bytes, 20, offset_delta.to_be_bytes());
    put(&mut bytes, 24, crc.to_be_bytes());
    bytes
}

/// The last batch, where Kafka's entry does not show it or not its timestamp.
fn supplement(view: &EntryView<'_>) -> Option<[u8; SUPPLEMENT_SIZE]> {
    let last = view.last()?;
    let Side { marker_timestamp, fenced_epoch, .. } = *view.side;
    if marker_timestamp.is_none() && fenced_epoch.is_none() {
        return None;
    }
    let mut bytes = [0; SUPPLEMENT_SIZE];
    bytes[0] |= if marker_timestamp.is_some() { MARKER_IS_LAST } else { 0 };
    bytes[0] |= if fenced_epoch.is_some() { FENCED } else { 0 };
    put(&mut bytes, 1, fenced_epoch.unwrap_or(ProducerEpoch::NONE).0.to_be_bytes());
    bytes[3..].copy_from_slice(&encode_batch(last)[..SUPPLEMENT_SIZE - 3]);
    Some(bytes)
}

/// Whether the entry's producer has a transaction open.
pub(super) fn is_in_transaction(bytes: &[u8]) -> bool {
    read_i64(bytes, 38) >= 0
}

/// Reads Kafka's entry: all there is, unless a trailer completes it.
#[inline]
pub(super) fn decode_entry(bytes: &[u8], end: Offset, last_seen: u32) -> Result<(Entry, Side)> {
    let id = ProducerId(read_i64(bytes, 0));
    if !id.is_some() {
        return Err(CorruptionKind::Format("a producer id below 0"));
    }
    let timestamp = Timestamp(read_i64(bytes, 26));
    let last = StoredBatch {
        last_offset: Offset(read_i64(bytes, 14)),
        timestamp,
        last_sequence: Sequence(read_i32(bytes, 10)),
        offset_delta: read_i32(bytes, 22),
        crc: 0,
    };
    let last = checked(last, end)?;
    let coordinator_epoch = read_i32(bytes, 34);
    let transaction_first = Offset(read_i64(bytes, 38));
    if transaction_first >= end {
        return Err(CorruptionKind::Format(
            "a transaction that begins at the snapshot's offset or behind it",
        ));
    }
    let side = Side {
        coordinator_epoch: (coordinator_epoch >= 0).then_some(coordinator_epoch),
        transaction_first: (transaction_first.0 >= 0).then_some(transaction_first),
        marker_timestamp: last.is_none().then_some(timestamp),
        fenced_epoch: None,
    };
    let mut entry = Entry::new(id, ProducerEpoch(read_i16(bytes, 8)), last_seen);
    entry.last = last.unwrap_or(StoredBatch::ABSENT);
    Ok((entry, side))
}

/// `None` stands for no batch. Every batch in a table has offsets and sequences that can be computed with, and lies
/// below `end`: the repetition of one that does not would wait for offsets that the log has yet to reach.
#[inline]
fn checked(batch: StoredBatch, end: Offset) -> Result<Option<StoredBatch>> {
    if ({ batch.last_offset }) < Offset(0) {
        return Ok(None);
    }
    let delta_fits = batch.offset_delta >= 0 && i64::from(batch.offset_delta) <= { batch.last_offset }.0;
    if !delta_fits || { batch.last_offset } >= end || batch.last_sequence < Sequence::NONE {
        return Err(CorruptionKind::Format("a producer's batch with impossible offsets or sequences"));
    }
    Ok(Some(batch))
}

fn decode_batch(bytes: &[u8], crc: u32, end: Offset) -> Result<StoredBatch> {
    let batch = StoredBatch {
        last_offset: Offset(read_i64(bytes, 0)),
        timestamp: Timestamp(read_i64(bytes, 8)),
        last_sequence: Sequence(read_i32(bytes, 16)),
        offset_delta: read_i32(bytes, 20),
        crc,
    };
    checked(batch, end)?.ok_or(CorruptionKind::Format("a producer's batch without offsets"))
}

/// What is left to read of the trailer. All empty for a file of Kafka's.
#[derive(Clone)]
pub(super) struct Trailer<'a> {
    /// The offset that the snapshot is of.
    end: Offset,
    pub(super) identity: Option<SnapshotIdentity>,
    pub(super) rows: &'a [u8],
    pub(super) older_batches: &'a [u8],
    pub(super) supplements: &'a [u8],
}

impl<'a> Trailer<'a> {
    pub(super) fn decode(bytes: &'a [u8], entries: usize, end: Offset) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self { end, identity: None, rows: &[], older_batches: &[], supplements: &[] });
        }
        expect_length(bytes, TRAILER_HEAD_SIZE as u64)?;
        if read_u32(bytes, 0) != MAGIC {
            return Err(CorruptionKind::Format("bytes of another kind behind the producers"));
        }
        let version = read_i16(bytes, 4);
        if version != TRAILER_VERSION {
            return Err(CorruptionKind::Version { expected: TRAILER_VERSION, got: version });
        }
        let (older_batches, supplements) = (read_u32(bytes, 32), read_u32(bytes, 36));
        let rows_size = (entries * ROW_SIZE) as u64;
        let older_size = u64::from(older_batches) * BATCH_SIZE as u64;
        let expected = TRAILER_HEAD_SIZE as u64
            + rows_size
            + older_size
            + u64::from(supplements) * SUPPLEMENT_SIZE as u64;
        if bytes.len() as u64 != expected {
            return Err(CorruptionKind::Length { expected, got: bytes.len() as u64 });
        }
        let (rows, rest) = bytes[TRAILER_HEAD_SIZE..].split_at(rows_size as usize);
        let (older_batches, supplements) = rest.split_at(older_size as usize);
        Ok(Self { end, identity: decode_identity(bytes), rows, older_batches, supplements })
    }

    /// Adds to the next entry what the trailer knows of it.
    #[inline]
    pub(super) fn complete(
        &mut self,
        entry: &mut Entry,
        side: &mut Side,
        older: &mut Vec<StoredBatch>,
    ) -> Result<()> {
        let Some((row, rows)) = self.rows.split_at_checked(ROW_SIZE) else { return Ok(()) };
        self.rows = rows;
        entry.last_seen = entry.last_seen.min(read_u32(row, 0));
        if row[9] & HAS_SUPPLEMENT != 0 {
            self.supplement(entry, side)?;
        }
        let is_present = entry.last.present().is_some();
        entry.last.crc = if is_present { read_u32(row, 4) } else { 0 };
        if row[8] > 0 && !is_present {
            return Err(CorruptionKind::Format("older batches of a producer without a last one"));
        }
        for _ in 0..row[8] {
            let batch = next(&mut self.older_batches, BATCH_SIZE)?;
            older.push(decode_batch(batch, read_u32(batch, 24), self.end)?);
        }
        Ok(())
    }

    fn supplement(&mut self, entry: &mut Entry, side: &mut Side) -> Result<()> {
        let bytes = next(&mut self.supplements, SUPPLEMENT_SIZE)?;
        let timestamp = side.marker_timestamp.unwrap_or(entry.last.timestamp);
        entry.last = decode_batch(&bytes[3..], 0, self.end)?;
        side.marker_timestamp = (bytes[0] & MARKER_IS_LAST != 0).then_some(timestamp);
        side.fenced_epoch = (bytes[0] & FENCED != 0).then_some(ProducerEpoch(read_i16(bytes, 1)));
        Ok(())
    }

    /// Passes over what the trailer knows of the next entry.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<()> {
        let row = next(&mut self.rows, ROW_SIZE)?;
        next(&mut self.older_batches, usize::from(row[8]) * BATCH_SIZE)?;
        let supplements = usize::from(row[9] & HAS_SUPPLEMENT != 0);
        next(&mut self.supplements, supplements * SUPPLEMENT_SIZE).map(|_| ())
    }

    pub(super) fn expect_end(&self) -> Result<()> {
        if self.older_batches.is_empty() && self.supplements.is_empty() {
            return Ok(());
        }
        Err(CorruptionKind::Format("batches of no producer"))
    }
}

fn decode_identity(trailer: &[u8]) -> Option<SnapshotIdentity> {
    (read_i16(trailer, 6) & HAS_IDENTITY != 0).then(|| SnapshotIdentity {
        leader_epoch: LeaderEpoch(read_i32(trailer, 8)),
        base_offset: Offset(read_i64(trailer, 12)),
        position: read_i64(trailer, 20) as u64,
        crc: read_u32(trailer, 28),
    })
}

pub(super) fn next<'a>(bytes: &mut &'a [u8], size: usize) -> Result<&'a [u8]> {
    let missing = CorruptionKind::Format("fewer batches than the producers are said to have");
    let (taken, rest) = bytes.split_at_checked(size).ok_or(missing)?;
    *bytes = rest;
    Ok(taken)
}
