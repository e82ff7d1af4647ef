//! From producers to bytes.

use std::convert::Infallible;

use super::{
    BATCH_SIZE, COVERED_FROM, CRC_AT, ENTRY_SIZE, FENCED, HAS_IDENTITY, HAS_SUPPLEMENT, HEAD_SIZE, MAGIC,
    MARKER_IS_LAST, ROW_SIZE, SUPPLEMENT_SIZE, SnapshotIdentity, TRAILER_HEAD_SIZE, TRAILER_VERSION, VERSION,
};
use crate::crc::crc32c_append;
use crate::producer::clock::{HostClock, to_seconds};
use crate::producer::entry::{EntryView, Side, StoredBatch};
use crate::producer::table::ProducerTable;
use crate::types::{ProducerEpoch, Timestamp};

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
