//! Reads what the log holds, batch by batch, and finds where it ends. Changes nothing.

use std::sync::Arc;

use super::behind::PIECE;
use crate::batch::{BatchHeader, layout};
use crate::environment::Sound;
use crate::epoch::LeaderEpochs;
use crate::error::{BatchError, Corruption, CorruptionKind, Error, Result};
use crate::log::producers::snapshots;
use crate::producer::ProducerTable;
use crate::segment::{BatchCursor, IndexFiller, Indexes, PlacedBatch, Segment, Summary, TransactionIndex};
use crate::transaction::{TransactionEffect, Transactions};
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// One pass over the end of the log.
#[derive(Debug)]
pub(super) struct Scan {
    /// From here on every batch has its CRC checked; below, only headers are read.
    pub(super) checked_from: Offset,
    /// From here on batches are applied to the producers.
    pub(super) replay_from: Offset,
    /// Batches that end at it or before are no part of the log any more.
    log_start: Offset,
    pub(super) producers: ProducerTable,
    transactions: Transactions,
    pub(super) leader_epochs: LeaderEpochs,
    /// The lowest offset that the next batch may have.
    pub(super) next_offset: Offset,
    /// The lowest leader epoch that the next batch may have.
    pub(super) leader_epoch: LeaderEpoch,
    /// Whether any batch was taken.
    has_begun: bool,
    pub(super) now: Timestamp,
    pub(super) stats: Stats,
    scratch: Vec<u8>,
}

/// How much work it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) bytes_read: u64,
    pub(super) batches_checked: u64,
    pub(super) batches_replayed: u64,
}

/// What a pass over one segment found.
#[derive(Debug)]
pub(super) struct ScannedSegment {
    pub(super) segment: Arc<Segment>,
    pub(super) indexes: Indexes,
    /// Its aborted transactions. `None` where they begin before what is replayed, and their file does not tell them.
    pub(super) transactions: Option<TransactionIndex>,
    pub(super) summary: Summary,
    /// Where the valid batches end.
    pub(super) end: u64,
    /// What stands there, if that is not the end of the file.
    pub(super) stop: Option<Corruption>,
}

impl Scan {
    pub(super) fn new(
        checked_from: Offset,
        replay_from: Offset,
        log_start: Offset,
        producers: ProducerTable,
        leader_epochs: LeaderEpochs,
        now: Timestamp,
    ) -> Self {
        Self {
            checked_from,
            replay_from,
            log_start,
            transactions: producers.open_transactions().collect(),
            producers,
            leader_epochs,
            next_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::UNKNOWN,
            has_begun: false,
            now,
            stats: Stats::default(),
            scratch: Vec::new(),
        }
    }

    /// Reads `segment` from the batch at its last index entry in `known` on, or from its beginning: also if that batch is
    /// not valid, since then nothing tells what comes before it. The next segment begins at `next_base`. What is known to be
    /// `sound` is not checked again.
    pub(super) fn segment(
        &mut self,
        segment: &Arc<Segment>,
        known: Option<Indexes>,
        next_base: Option<Offset>,
        mut sound: Sound<'_>,
    ) -> Result<ScannedSegment> {
        let options = segment.index_options();
        let indexes = known.unwrap_or_else(|| Indexes::new(segment.base_offset(), options));
        let start = indexes.last_position();
        let mut filler = IndexFiller::resume(options, &Summary::of_entries(segment.base_offset(), &indexes));
        let mut next_offset = segment.base_offset();
        let mut cursor = BatchCursor::new(Arc::clone(segment), start);
        self.next_offset = self.next_offset.max(segment.base_offset());
        let mut transactions = self.known_transactions(segment);
        let stop = loop {
            let batch = match cursor.peek() {
                Ok(Some(batch)) => batch,
                Ok(None) => break None,
                Err(Error::Corrupt(found)) => break Some(found),
                Err(error) => return Err(error),
            };
            let is_read = self.checks(&batch.header) && !sound.covers(&batch);
            match self.take(&cursor, &batch, is_read, next_base, transactions.as_mut()) {
                Ok(()) => {}
                Err(Error::Corrupt(found)) => break Some(found),
                Err(error) => return Err(error),
            }
            filler.add(&indexes, &batch);
            next_offset = batch.header.next_offset();
            if is_read { cursor.pass(&batch) } else { cursor.skip(&batch) }
        };
        if start > 0 && cursor.position() == start {
            return self.segment(segment, None, next_base, Sound::NOTHING);
        }
        // Kafka takes the last entry for the largest timestamp of the segment (`LogSegment.recover`).
        filler.seal(&indexes);
        self.stats.bytes_read += cursor.position() - start;
        let (segment, end, summary) = (Arc::clone(segment), cursor.position(), filler.summary(next_offset));
        Ok(ScannedSegment { segment, indexes, transactions, summary, end, stop })
    }

    /// The transactions that were aborted below what is replayed; those above come with the batches.
    fn known_transactions(&self, segment: &Arc<Segment>) -> Option<TransactionIndex> {
        if self.replay_from <= segment.base_offset() {
            return Some(TransactionIndex::default());
        }
        let mut known = segment.load_transactions()?;
        known.truncate(self.replay_from);
        Some(known)
    }

    /// Whether the CRC of a batch is checked.
    fn checks(&self, header: &BatchHeader) -> bool {
        header.last_offset() >= self.checked_from
    }

    /// Takes the batch at the cursor, if it is one that may stand there. Reads all of it, or relies on its being sound.
    fn take(
        &mut self,
        cursor: &BatchCursor,
        batch: &PlacedBatch,
        is_read: bool,
        next_base: Option<Offset>,
        transactions: Option<&mut TransactionIndex>,
    ) -> Result<()> {
        self.forget_deleted_epochs(&batch.header);
        self.check_place(cursor, batch, next_base)?;
        if is_read {
            cursor.check(batch, &mut self.scratch)?;
        }
        self.stats.batches_checked += u64::from(self.checks(&batch.header));
        if batch.header.base_offset >= self.replay_from {
            if let Some(effect) = snapshots::apply(&mut self.producers, cursor, batch, self.now)? {
                self.note(effect, transactions);
            }
            self.stats.batches_replayed += 1;
        }
        if !self.has_begun {
            // What the checkpoint says of batches from here on is seen again.
            self.leader_epochs.truncate_from_end(batch.header.base_offset);
            self.has_begun = true;
        }
        if batch.header.leader_epoch > self.leader_epoch {
            self.leader_epochs.assign(batch.header.leader_epoch, batch.header.base_offset);
            self.leader_epoch = batch.header.leader_epoch;
        }
        self.next_offset = batch.header.next_offset();
        Ok(())
    }

    /// Takes over what a batch did to a transaction. If it was aborted, the segment's index holds it.
    fn note(&mut self, effect: TransactionEffect, transactions: Option<&mut TransactionIndex>) {
        let aborted = self.transactions.note(effect);
        if let (Some(transactions), Some(aborted)) = (transactions, aborted) {
            transactions.append(aborted);
        }
    }

    /// Behind batches that are all deleted a lower leader epoch may follow: theirs was forgotten with them.
    fn forget_deleted_epochs(&mut self, next: &BatchHeader) {
        if next.leader_epoch < self.leader_epoch && self.next_offset <= self.log_start {
            self.leader_epoch = LeaderEpoch::UNKNOWN;
            self.leader_epochs = LeaderEpochs::default();
        }
    }

    /// Offsets only rise, inside of their segment, and leader epochs do not fall.
    fn check_place(
        &self,
        cursor: &BatchCursor,
        batch: &PlacedBatch,
        next_base: Option<Offset>,
    ) -> Result<()> {
        let header = &batch.header;
        let corrupt = |kind| Err(Error::corrupt(&cursor.segment().file().path(), batch.position, kind));
        let base = cursor.segment().base_offset();
        let fits = header.last_offset() - base <= i64::from(i32::MAX)
            && next_base.is_none_or(|next| header.last_offset() < next);
        if header.base_offset < self.next_offset || !fits {
            return corrupt(CorruptionKind::BaseOffset {
                expected: self.next_offset,
                got: header.base_offset,
            });
        }
        if header.leader_epoch < self.leader_epoch {
            let (expected, got) = (self.leader_epoch, header.leader_epoch);
            return corrupt(CorruptionKind::LeaderEpoch { expected, got });
        }
        Ok(())
    }
}

/// Whether what stopped a scan is a batch of another format rather than damage: it must never be cut.
pub(crate) fn is_unsupported(segment: &Segment, found: &Corruption) -> Result<bool> {
    let CorruptionKind::Batch(BatchError::UnsupportedMagic { got }) = found.kind else { return Ok(false) };
    let prefix = segment.file().bytes(found.position, found.position + layout::PREFIX_SIZE as u64)?;
    if prefix.len() < layout::PREFIX_SIZE {
        return Ok(false);
    }
    const SMALLEST_BATCH: i64 = 14;
    let length = i64::from(layout::read_i32(&prefix, layout::LENGTH));
    let offset = Offset(layout::read_i64(&prefix, layout::BASE_OFFSET));
    let end = found.position.saturating_add(length.max(0).unsigned_abs() + layout::LENGTH_OVERHEAD as u64);
    if length < SMALLEST_BATCH
        || end > segment.file().end()
        || !(0..=i64::from(i32::MAX)).contains(&(offset - segment.base_offset()))
    {
        return Ok(false);
    }
    match got {
        // A batch of ours that was torn behind its length has a zero here, too: only its checksum tells a message.
        0 | 1 => is_legacy_message(segment, found.position, end),
        3..=9 => Ok(true),
        _ => Ok(false),
    }
}

/// Whether the bytes in [`from`, `to`) are a message of Kafka's formats 0 or 1: its CRC-32 at 12 covers everything behind itself.
fn is_legacy_message(segment: &Segment, from: u64, to: u64) -> Result<bool> {
    const CRC: u64 = 12;
    const COVERED: u64 = CRC + 4;
    if to <= from + COVERED {
        return Ok(false);
    }
    let file = segment.file();
    let expected = layout::read_u32(&file.bytes(from + CRC, from + COVERED)?, 0);
    let mut got = 0;
    for start in (from + COVERED..to).step_by(PIECE as usize) {
        got = crc32(got, &file.bytes(start, to.min(start + PIECE))?);
    }
    Ok(got == expected)
}

/// The CRC-32 of zlib of the bytes that `crc` is of, and `bytes` behind them, bit by bit: used once, on the way to a refusal.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!crc, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_by_the_checksum_of_zlib() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }
}
