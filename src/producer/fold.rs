//! A snapshot made from the one before, of which most producers are copied as they are: only those that have appended
//! since are looked at, which takes neither the time nor the memory of the whole table.

use super::clock::to_seconds;
use super::policy::ProducerPolicy;
use super::snapshot::{
    ENTRY_SIZE, HEAD_SIZE, Result, SnapshotIdentity, Source, Stored, Trailer, decode_entry, decode_head,
    next, write_sources,
};
use super::table::ProducerTable;
use crate::batch::layout::read_i64;
use crate::error::CorruptionKind;
use crate::types::{Offset, ProducerId, Timestamp};

/// What becomes of a producer of the snapshot before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It has not appended.
    Kept,
    /// It may have.
    Changed,
    /// It is forgotten.
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

    fn skip(&mut self) -> Result<()> {
        next(&mut self.entries, ENTRY_SIZE)?;
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
    /// Whether what is left of `bytes` may take longer to read than as many records.
    pub(crate) fn is_worth(bytes: &[u8], records: i64) -> bool {
        usize::try_from(records).is_ok_and(|records| records < bytes.len() / ENTRY_SIZE)
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
        mut fate: impl FnMut(ProducerId) -> Fate,
    ) -> Result<Option<Self>> {
        let count = decode_head(bytes)?;
        let (entries, trailer) = bytes[HEAD_SIZE..].split_at(count * ENTRY_SIZE);
        if trailer.is_empty() {
            return Ok(None);
        }
        let mut unread = Unread { entries, trailer: Trailer::decode(trailer, count, offset)? };
        let identity = unread.trailer.identity;
        let mut producers = ProducerTable::new(policy.clone().budget(usize::MAX));
        producers.clock.observe(now);
        let (mut runs, mut start) = (Vec::new(), unread.clone());
        while let Some(id) = unread.next_id() {
            let fate = fate(id);
            if fate == Fate::Kept {
                unread.skip()?;
                continue;
            }
            let (stored, before_changed) = (unread.since(&start), fate == Fate::Changed);
            runs.push(Run { stored, before_changed });
            if before_changed {
                unread.read_into(&mut producers, offset, now)?;
            } else {
                unread.skip()?;
            }
            start = unread.clone();
        }
        unread.trailer.expect_end()?;
        runs.push(Run { stored: unread.since(&start), before_changed: false });
        Ok(Some(Self { identity, producers, forgotten: Vec::new(), runs }))
    }

    /// Forgets those that have changed and that are not `known` any more. What changes is all in.
    pub(crate) fn retain(&mut self, mut known: impl FnMut(ProducerId) -> bool) {
        self.forgotten = self.producers.views().map(|view| !known(view.entry.producer_id)).collect();
    }

    /// How many producers there are now.
    pub(crate) fn len(&self) -> usize {
        let stored = self.runs.iter().map(|run| run.stored.count()).sum::<usize>();
        stored + self.producers.len() - self.forgotten.iter().filter(|&&forgotten| forgotten).count()
    }

    /// Hands out the new file's bytes as [`snapshot::write`](super::snapshot::write) does.
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
        let replaced = self.runs.iter().filter(|run| run.before_changed).count();
        let mut slots = 0..replaced;
        let before = self.runs.iter().flat_map(move |run| {
            let next = if run.before_changed { slots.next() } else { None };
            std::iter::once(Source::Stored(&run.stored)).chain(next.and_then(changed))
        });
        before.chain((replaced..self.producers.len()).filter_map(changed))
    }
}
