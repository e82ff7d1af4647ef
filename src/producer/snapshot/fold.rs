//! A snapshot made from the one before, of which most producers are copied as they are: only those that have appended
//! since are looked at, which takes neither the time nor the memory of the whole table.

use super::read::{Trailer, decode_entry, decode_head, is_in_transaction, next};
use super::write::{Source, Stored, write_sources};
use super::{COVERED_FROM, ENTRY_SIZE, HEAD_SIZE, ROW_SIZE, Result, SnapshotIdentity};
use crate::batch::layout::{read_i64, read_u32};
use crate::error::CorruptionKind;
use crate::producer::clock::to_seconds;
use crate::producer::policy::ProducerPolicy;
use crate::producer::table::ProducerTable;
use crate::types::{Offset, ProducerId, Timestamp};

/// What becomes of a producer of the snapshot before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not appended since.
    Kept,
    /// It may have.
    Changed,
    /// It is forgotten, and has not appended since either.
    Forgotten,
}

/// A snapshot on its way to a later offset.
pub(crate) struct Fold<'a> {
    /// Which log the one before belongs to.
    pub(crate) identity: Option<SnapshotIdentity>,
    /// Those that change: of the one before, in its order; and behind them new ones. Takes any number.
    pub(crate) producers: ProducerTable,
    /// Of those that change, who is forgotten.
    forgotten: Vec<bool>,
    /// How many of the one before change.
    replaced: usize,
    /// The one before, from its first producer to its last.
    runs: Vec<Run<'a>>,
}

/// Producers that stay as they are, one behind the other.
struct Run<'a> {
    stored: Stored<'a>,
    /// Whether the next one that changes comes behind them.
    before_changed: bool,
}

/// What is left of a file.
#[derive(Clone)]
struct Unread<'a> {
    entries: &'a [u8],
    trailer: Trailer<'a>,
}

impl<'a> Unread<'a> {
    /// What was read since `start`.
    fn since(&self, start: &Self) -> Stored<'a> {
        let read = |start: &'a [u8], rest: &[u8]| &start[..start.len() - rest.len()];
        Stored {
            entries: read(start.entries, self.entries),
            rows: read(start.trailer.rows, self.trailer.rows),
            older_batches: read(start.trailer.older_batches, self.trailer.older_batches),
            supplements: read(start.trailer.supplements, self.trailer.supplements),
        }
    }

    fn next_id(&self) -> Option<ProducerId> {
        (!self.entries.is_empty()).then(|| ProducerId(read_i64(self.entries, 0)))
    }

    /// Whether the next one was seen later than now, by a clock that has been put back since. That is made right where a
    /// table is read, or it would never be idle.
    fn is_ahead_of(&self, now: Timestamp) -> bool {
        self.trailer.rows.len() >= ROW_SIZE && read_u32(self.trailer.rows, 0) > to_seconds(now.0)
    }

    /// Passes over the next producer, which must be one that could be read.
    fn skip(&mut self, end: Offset) -> Result<()> {
        decode_entry(next(&mut self.entries, ENTRY_SIZE)?, end, 0)?;
        self.trailer.skip()
    }

    /// Reads the next producer into a table.
    fn read_into(&mut self, table: &mut ProducerTable, end: Offset, now: Timestamp) -> Result<()> {
        let entry = next(&mut self.entries, ENTRY_SIZE)?;
        let (mut entry, mut side) = decode_entry(entry, end, to_seconds(now.0))?;
        let mut older = Vec::new();
        self.trailer.complete(&mut entry, &mut side, &mut older)?;
        if table.knows(entry.producer_id) {
            return Err(CorruptionKind::Format("a producer that is there twice"));
        }
        table.insert(entry, &older, side);
        Ok(())
    }
}

impl<'a> Fold<'a> {
    /// The ids in a file of those that may be forgotten ([`ProducerTable::ids_at_rest`]); none, if it is not one.
    pub(crate) fn ids_at_rest(bytes: &[u8]) -> impl Iterator<Item = ProducerId> {
        let entries = bytes.get(HEAD_SIZE..).unwrap_or_default().chunks_exact(ENTRY_SIZE);
        let at_rest = entries.take(Self::count(bytes)).filter(|entry| !is_in_transaction(entry));
        at_rest.map(|entry| ProducerId(read_i64(entry, 0)))
    }

    /// How many producers a file says that it has.
    pub(crate) fn count(bytes: &[u8]) -> usize {
        if bytes.len() < HEAD_SIZE { 0 } else { read_u32(bytes, COVERED_FROM) as usize }
    }

    /// Goes on from `bytes`, the file of `offset`. `None` for one of Kafka's own, which has not all that is copied.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, as far as it is looked at.
    pub(crate) fn new(
        bytes: &'a [u8],
        offset: Offset,
        policy: &ProducerPolicy,
        now: Timestamp,
        fate: impl Fn(ProducerId) -> Fate,
    ) -> Result<Option<Self>> {
        let before = decode_head(bytes)?;
        let (entries, trailer) = bytes[HEAD_SIZE..].split_at(before * ENTRY_SIZE);
        if trailer.is_empty() {
            return Ok(None);
        }
        let mut unread = Unread { entries, trailer: Trailer::decode(trailer, before, offset)? };
        let identity = unread.trailer.identity;
        let mut producers = ProducerTable::new(policy.clone().budget(usize::MAX));
        producers.clock.observe(now);
        let (mut runs, mut start) = (Vec::new(), unread.clone());
        while let Some(id) = unread.next_id() {
            let before_changed = match fate(id) {
                Fate::Kept if !unread.is_ahead_of(now) => {
                    unread.skip(offset)?;
                    continue;
                }
                fate => fate != Fate::Forgotten,
            };
            runs.push(Run { stored: unread.since(&start), before_changed });
            if before_changed {
                unread.read_into(&mut producers, offset, now)?;
            } else {
                unread.skip(offset)?;
            }
            start = unread.clone();
        }
        unread.trailer.expect_end()?;
        runs.push(Run { stored: unread.since(&start), before_changed: false });
        let replaced = producers.len();
        Ok(Some(Self { identity, producers, forgotten: Vec::new(), replaced, runs }))
    }

    /// Forgets those that have changed and are not to stay.
    pub(crate) fn retain(&mut self, stays: impl Fn(ProducerId) -> bool) {
        self.forgotten = self.producers.ids().map(|id| !stays(id)).collect();
    }

    /// How many producers there are now.
    pub(crate) fn len(&self) -> usize {
        let stored = self.runs.iter().map(|run| run.stored.count()).sum::<usize>();
        stored + self.producers.len() - self.forgotten.iter().filter(|&&forgotten| forgotten).count()
    }

    /// Hands out the new file's bytes as [`write`](super::write()) does.
    pub(crate) fn write<E>(
        &self,
        identity: Option<&SnapshotIdentity>,
        sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<[u8; HEAD_SIZE], E> {
        write_sources(|| self.sources(), self.len(), self.producers.clock, identity, sink)
    }

    /// What stayed and what has changed, in the order of the one before, and what is new.
    fn sources(&self) -> impl Iterator<Item = Source<'_>> {
        let changed = |slot: usize| {
            let is_forgotten = self.forgotten.get(slot).is_some_and(|&forgotten| forgotten);
            (!is_forgotten).then(|| Source::View(self.producers.view(slot as u32)))
        };
        let mut slots = 0..self.replaced;
        let before = self.runs.iter().flat_map(move |run| {
            let next = if run.before_changed { slots.next() } else { None };
            std::iter::once(Source::Stored(&run.stored)).chain(next.and_then(changed))
        });
        before.chain((self.replaced..self.producers.len()).filter_map(changed))
    }
}
