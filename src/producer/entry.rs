//! What is remembered of one producer, and how it lies in memory.
//!
//! An [`Entry`] is one cache line: the producer, its last batch, and the links of the index and of the recency list.
//! The older batches of the window and the rare [`Side`] live elsewhere, for the producers that have them.

use super::slab::{NONE, Slab};
use super::window::{Older, Ring};
use crate::batch::{BatchHeader, TimestampType};
use crate::error::WindowBounds;
use crate::types::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// What a partition remembers of a producer.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let id = dir.new_producer_id()?;
/// log.append(&BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?)?;
///
/// let producer = log.producer(id).unwrap();
/// assert_eq!(producer.epoch, ProducerEpoch(0));
/// assert_eq!(producer.batches.last().unwrap().last_sequence, Sequence(0));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerInfo {
    /// Who.
    pub producer_id: ProducerId,
    /// Its current epoch: older ones are fenced.
    pub epoch: ProducerEpoch,
    /// The last batches, oldest first.
    pub batches: Vec<ProducerBatch>,
    /// The epoch that the last batch was written in. Lower than [`epoch`](Self::epoch) when the producer was fenced since:
    /// then the batches only tell where it stopped, and none of them is answered as a duplicate under
    /// [`SequenceRule::Contiguous`](crate::SequenceRule::Contiguous).
    pub batches_epoch: ProducerEpoch,
    /// The epoch of the last transaction coordinator heard of.
    pub coordinator_epoch: Option<i32>,
    /// The timestamp of the last batch or transaction marker.
    pub last_timestamp: Timestamp,
    /// When the host last saw it append, to the second.
    pub last_seen: Timestamp,
    /// Where its open transaction begins.
    pub transaction_first_offset: Option<Offset>,
}

/// A stored batch of a producer.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let id = dir.new_producer_id()?;
/// let batch = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?;
/// let stored = log.append(&batch)?;
///
/// let remembered = log.producer(id).unwrap().batches[0];
/// assert_eq!(Some(remembered.offsets), stored.offsets());
/// assert_eq!(remembered.crc, Some(batch.header().crc));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerBatch {
    /// The sequence of the first record.
    pub first_sequence: Sequence,
    /// The sequence of the last record.
    pub last_sequence: Sequence,
    /// Where it is stored.
    pub offsets: OffsetRange,
    /// Its largest timestamp.
    pub timestamp: Timestamp,
    /// Its CRC-32C. `None` where a snapshot written by Kafka did not tell.
    pub crc: Option<u32>,
}

/// A batch in 28 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct StoredBatch {
    pub(super) last_offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) last_sequence: Sequence,
    pub(super) offset_delta: i32,
    /// 0 stands for unknown. A true CRC of 0 is then unknown too, which is only less said, nothing false.
    pub(super) crc: u32,
}

const _: () = assert!(size_of::<StoredBatch>() == 28);

impl StoredBatch {
    /// Stands where no batch is.
    pub(super) const ABSENT: Self = Self {
        last_offset: Offset(-1),
        timestamp: Timestamp::NONE,
        last_sequence: Sequence::NONE,
        offset_delta: 0,
        crc: 0,
    };

    /// A batch as it was sent, and where it is stored.
    #[inline]
    pub(super) fn of(header: &BatchHeader, base_offset: Offset) -> Self {
        Self {
            last_offset: header.last_offset_at(base_offset),
            timestamp: header.max_timestamp,
            last_sequence: header.last_sequence(),
            offset_delta: header.last_offset_delta,
            // The log has put its own time into the batch, so the CRC is not that of what was sent.
            crc: if header.timestamp_type() == TimestampType::LogAppendTime { 0 } else { header.crc },
        }
    }

    #[inline]
    pub(super) fn present(self) -> Option<Self> {
        (self.last_offset.0 >= 0).then_some(self)
    }

    #[inline]
    pub(super) fn first_sequence(self) -> Sequence {
        if self.last_sequence.0 < 0 { Sequence::NONE } else { self.last_sequence.minus(self.offset_delta) }
    }

    /// Whether it begins where `previous` ends, if there is one, and is too small for a window of such batches to go round
    /// the circle of 2^31 sequences.
    #[inline]
    pub(super) fn goes_on_behind(self, previous: Self) -> bool {
        const SMALL: std::ops::Range<i32> = 0..1 << 24;
        let last = previous.last_sequence;
        let begins_there = previous.present().is_none()
            || (last.0 >= 0 && last.plus(self.offset_delta.wrapping_add(1)) == self.last_sequence);
        SMALL.contains(&self.offset_delta) && begins_there && self.last_sequence.0 >= 0
    }

    pub(super) fn offsets(self) -> OffsetRange {
        OffsetRange { first: self.last_offset + -i64::from(self.offset_delta), last: self.last_offset }
    }

    pub(super) fn known_crc(self) -> Option<u32> {
        (self.crc != 0).then_some(self.crc)
    }

    fn info(self) -> ProducerBatch {
        ProducerBatch {
            first_sequence: self.first_sequence(),
            last_sequence: self.last_sequence,
            offsets: self.offsets(),
            timestamp: self.timestamp,
            crc: self.known_crc(),
        }
    }
}

/// One producer.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub(super) producer_id: ProducerId,
    pub(super) last: StoredBatch,
    /// Seconds of the table's clock.
    pub(super) last_seen: u32,
    pub(super) epoch: ProducerEpoch,
    /// Where the older batches lie in their block.
    pub(super) ring: Ring,
    /// Whether some batch of the window, or one that has left it since, did not begin where the one before ended, or was
    /// large enough for the window to go round the circle of sequences. Else the batch that comes next cannot be one of the
    /// window.
    pub(super) has_jumps: bool,
    /// The handle of the block with the older batches.
    pub(super) older: u32,
    /// The handle of the [`Side`].
    pub(super) side: u32,
    /// The next entry of the same bucket.
    pub(super) chain: u32,
    /// The neighbours in the recency list. Entries with an open transaction are not in it.
    pub(super) less_recent: u32,
    pub(super) more_recent: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl Entry {
    pub(super) fn new(producer_id: ProducerId, epoch: ProducerEpoch, last_seen: u32) -> Self {
        Self {
            producer_id,
            last: StoredBatch::ABSENT,
            last_seen,
            epoch,
            ring: Ring::of(0),
            has_jumps: false,
            older: NONE,
            side: NONE,
            chain: NONE,
            less_recent: NONE,
            more_recent: NONE,
        }
    }
}

/// What only producers have that were fenced or have transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) coordinator_epoch: Option<i32>,
    pub(super) transaction_first: Option<Offset>,
    /// The timestamp of a marker that came behind the last batch, or of data that is not remembered as a batch.
    pub(super) marker_timestamp: Option<Timestamp>,
    /// The epoch of the batches, where the producer's was raised without one.
    pub(super) fenced_epoch: Option<ProducerEpoch>,
}

impl Side {
    /// That of a producer that has none.
    pub(super) const NOTHING: Self =
        Self { coordinator_epoch: None, transaction_first: None, marker_timestamp: None, fenced_epoch: None };
}

/// A producer as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EntryView<'a> {
    pub(super) entry: &'a Entry,
    /// Where the older batches are.
    pub(super) blocks: &'a Slab<StoredBatch>,
    pub(super) side: &'a Side,
}

impl<'a> EntryView<'a> {
    #[inline]
    pub(super) fn older(&self) -> Older<'a> {
        if self.entry.older == NONE {
            return Older::default();
        }
        self.entry.ring.view(self.blocks.block(self.entry.older))
    }

    pub(super) fn epoch(&self) -> ProducerEpoch {
        self.entry.epoch
    }

    /// The epoch of the batches and of the open transaction.
    pub(super) fn batches_epoch(&self) -> ProducerEpoch {
        self.side.fenced_epoch.unwrap_or(self.entry.epoch)
    }

    /// Whether a transaction of this epoch is open. The marker of one of an older epoch may be on its way, and would end with
    /// it what was taken into it.
    pub(super) fn has_open_transaction(&self, epoch: ProducerEpoch) -> bool {
        self.side.transaction_first.is_some() && self.batches_epoch() == epoch
    }

    pub(super) fn last(&self) -> Option<StoredBatch> {
        self.entry.last.present()
    }

    /// The batches, oldest first.
    #[inline]
    pub(super) fn batches(&self) -> impl Iterator<Item = StoredBatch> {
        self.older().iter().copied().chain(self.last())
    }

    /// The window's ends.
    pub(super) fn bounds(&self) -> Option<WindowBounds> {
        let newest = self.last()?;
        let oldest = self.older().first().copied().unwrap_or(newest);
        Some(WindowBounds {
            first_sequence: oldest.first_sequence(),
            last_sequence: newest.last_sequence,
            offsets: OffsetRange { first: oldest.offsets().first, last: newest.last_offset },
        })
    }

    pub(super) fn last_timestamp(&self) -> Timestamp {
        self.side.marker_timestamp.unwrap_or(self.entry.last.timestamp)
    }

    pub(super) fn info(&self, last_seen: Timestamp) -> ProducerInfo {
        ProducerInfo {
            producer_id: self.entry.producer_id,
            epoch: self.entry.epoch,
            batches: self.batches().map(StoredBatch::info).collect(),
            batches_epoch: self.batches_epoch(),
            coordinator_epoch: self.side.coordinator_epoch,
            last_timestamp: self.last_timestamp(),
            last_seen,
            transaction_first_offset: self.side.transaction_first,
        }
    }
}
