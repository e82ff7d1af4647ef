//! From bytes to producers, of which nothing is believed.

use super::restore::Restoring;
use super::{
    BATCH_SIZE, COVERED_FROM, CRC_AT, ENTRY_SIZE, FENCED, HAS_IDENTITY, HAS_SUPPLEMENT, HEAD_SIZE, MAGIC,
    MARKER_IS_LAST, ROW_SIZE, Result, SUPPLEMENT_SIZE, SnapshotIdentity, TRAILER_HEAD_SIZE, TRAILER_VERSION,
    VERSION,
};
use crate::batch::layout::{read_i16, read_i32, read_i64, read_u32};
use crate::crc::{crc32c, crc32c_append};
use crate::error::CorruptionKind;
use crate::producer::clock::to_seconds;
use crate::producer::entry::{Entry, Side, StoredBatch};
use crate::producer::policy::ProducerPolicy;
use crate::producer::table::ProducerTable;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

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
