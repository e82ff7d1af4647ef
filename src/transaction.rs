//! Transactions of a partition: which are open, up to where all are decided, and which were aborted. Pure.
//!
//! The last stable offset is the end of what a reader may see that wants no open and no aborted transactions: the first
//! offset of the oldest transaction that is open, or whose marker is not below the high watermark yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::batch::BatchHeader;
use crate::batch::layout::{read_i16, read_i64};
use crate::error::CorruptionKind;
use crate::types::{Offset, ProducerId, Timestamp};

/// How much longer than its timeout a transaction may be open before it counts as left behind.
const LATE_BUFFER_MS: i64 = 5 * 60 * 1000;

/// What a stored batch did to its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionEffect {
    /// It opened one.
    Began { producer_id: ProducerId, first_offset: Offset },
    /// It is the marker that ended one.
    Ended { producer_id: ProducerId, first_offset: Offset, marker: Offset, aborted: bool },
}

/// The transactions of a partition that hold the last stable offset back, by their first offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    open: BTreeMap<Offset, ProducerId>,
    /// Ended, by a marker that is not known to be below the high watermark yet.
    ended: BTreeSet<Offset>,
    /// Their markers, which rise, each with the first offset. A committed reader asks at every look which are below the high
    /// watermark, and must not wait the longer the more are above.
    markers: VecDeque<(Offset, Offset)>,
}

impl FromIterator<(Offset, ProducerId)> for Transactions {
    /// The open transactions of a producer table.
    fn from_iter<I: IntoIterator<Item = (Offset, ProducerId)>>(open: I) -> Self {
        Self { open: open.into_iter().collect(), ..Self::default() }
    }
}

impl Transactions {
    /// The log ends at `log_end` now, and these transactions are open there. What was ended below stays to be settled.
    pub(crate) fn begin_again(&mut self, open: impl Iterator<Item = (Offset, ProducerId)>, log_end: Offset) {
        self.open = open.collect();
        while let Some((_, first_offset)) = self.markers.pop_back_if(|(marker, _)| *marker >= log_end) {
            self.ended.remove(&first_offset);
        }
    }

    /// Takes over what a stored batch did. Returns the transaction that it aborted.
    pub(crate) fn note(&mut self, effect: TransactionEffect) -> Option<AbortedTransaction> {
        match effect {
            TransactionEffect::Began { producer_id, first_offset } => {
                self.begin(producer_id, first_offset);
                None
            }
            TransactionEffect::Ended { producer_id, first_offset, marker, aborted } => {
                let last_stable_offset = self.end(producer_id, first_offset, marker);
                aborted.then_some(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset: marker,
                    last_stable_offset,
                })
            }
        }
    }

    /// A producer stored the first batch of a transaction.
    fn begin(&mut self, producer_id: ProducerId, first_offset: Offset) {
        self.open.insert(first_offset, producer_id);
    }

    /// A marker was stored. Returns the last stable offset as it is once the marker is below the high watermark.
    fn end(&mut self, producer_id: ProducerId, first_offset: Offset, marker: Offset) -> Offset {
        let other = self.open.iter().find(|(_, other)| **other != producer_id);
        let stable = other.map_or(marker + 1, |(first, _)| *first);
        self.open.remove(&first_offset);
        self.ended.insert(first_offset);
        self.markers.push_back((marker, first_offset));
        stable
    }

    /// The high watermark has come to `offset`: markers below hold nothing back. Looks at no more than `count`.
    pub(crate) fn settle(&mut self, offset: Offset, count: usize) {
        for _ in 0..count {
            let settled = self.markers.pop_front_if(|(marker, _)| *marker < offset);
            let Some((_, first_offset)) = settled else { return };
            self.ended.remove(&first_offset);
        }
    }

    /// The first offset that is not decided.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.first().copied();
        open.into_iter().chain(ended).min()
    }

    /// The first offset of the oldest open transaction, and its producer.
    pub(crate) fn oldest(&self) -> Option<(Offset, ProducerId)> {
        self.open.first_key_value().map(|(first, producer_id)| (*first, *producer_id))
    }
}

/// Never below the log start offset, never above the high watermark.
pub(crate) fn last_stable_offset(
    first_unstable: Option<Offset>,
    log_start: Offset,
    high_watermark: Offset,
) -> Offset {
    first_unstable.map_or(high_watermark, |first| first.max(log_start).min(high_watermark))
}

/// The aborted transactions of a range of offsets, to be left out when it is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct AbortedRanges(BTreeMap<(ProducerId, Offset), Offset>);

impl FromIterator<AbortedTransaction> for AbortedRanges {
    fn from_iter<I: IntoIterator<Item = AbortedTransaction>>(aborted: I) -> Self {
        let range =
            |aborted: AbortedTransaction| ((aborted.producer_id, aborted.last_offset), aborted.first_offset);
        Self(aborted.into_iter().map(range).collect())
    }
}

impl AbortedRanges {
    /// Whether the batch is data of one of them. Transactions of one producer do not overlap: the first that ends
    /// behind the batch is the only one that it can belong to.
    pub(crate) fn cover(&self, header: &BatchHeader) -> bool {
        let from = (header.producer_id, header.base_offset);
        header.is_transactional()
            && self.0.range(from..).next().is_some_and(|(&(producer_id, _), &first)| {
                producer_id == header.producer_id && first <= header.base_offset
            })
    }
}

/// Whether a transaction is open for longer than any coordinator would leave it. `last_timestamp` is its producer's.
pub(crate) fn is_late(last_timestamp: Timestamp, now: Timestamp, longest_timeout_ms: i64) -> bool {
    let limit = longest_timeout_ms.saturating_add(LATE_BUFFER_MS);
    last_timestamp.0 > 0 && now.0.saturating_sub(last_timestamp.0) > limit
}

/// How the transactions of a producer are told apart: Kafka's `transaction.version`, which the client and the coordinator
/// agree on.
///
/// ```
/// use idemlog::TransactionVersion;
///
/// assert_eq!(TransactionVersion::default(), TransactionVersion::V1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransactionVersion {
    /// Not at all: they follow one another in the same producer epoch, and a marker has the epoch of the batches that it
    /// ends. Kafka's versions 0 and 1.
    #[default]
    V1,
    /// By the producer epoch, which the coordinator raises when it ends one: a marker has a higher epoch than the batches
    /// that it ends, which is that of the next transaction (KIP-890, part 2).
    V2,
}

/// An aborted transaction, as it stands in the index of the segment that holds its marker.
/// It concerns readers of the offsets from the first to the last: they leave the producer's transactional batches out.
///
/// ```text
///  at size
///   0    2 version, 0
///   2    8 producer id
///  10    8 first offset
///  18    8 last offset: that of the marker
///  26    8 last stable offset behind the marker
/// ```
///
/// ```
/// use idemlog::{BatchBuilder, ControlRecord, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
/// log.append(&BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?)?;
/// log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 })?;
///
/// let aborted = log.aborted_transactions(Offset(0), log.log_end_offset())?;
/// assert_eq!((aborted[0].producer_id, aborted[0].first_offset), (id, Offset(0)));
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it is.
    pub producer_id: ProducerId,
    /// The offset of its first record.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// Below this offset every transaction was decided, once the marker was.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    /// The size of an entry in bytes.
    pub(crate) const SIZE: usize = 34;
    const VERSION: i16 = 0;

    pub(crate) fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let numbers =
            [self.producer_id.0, self.first_offset.0, self.last_offset.0, self.last_stable_offset.0];
        for (field, number) in bytes[2..].chunks_exact_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; Self::SIZE]) -> Result<Self, CorruptionKind> {
        let version = read_i16(bytes, 0);
        if version != Self::VERSION {
            return Err(CorruptionKind::Version { expected: Self::VERSION, got: version });
        }
        Ok(Self {
            producer_id: ProducerId(read_i64(bytes, 2)),
            first_offset: Offset(read_i64(bytes, 10)),
            last_offset: Offset(read_i64(bytes, 18)),
            last_stable_offset: Offset(read_i64(bytes, 26)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProducerId = ProducerId(1);
    const B: ProducerId = ProducerId(2);

    #[test]
    fn an_ended_transaction_holds_back_until_its_marker_is_below_the_high_watermark() {
        let mut transactions = Transactions::default();
        let stable = |transactions: &Transactions, watermark| {
            last_stable_offset(transactions.first_unstable(), Offset(0), Offset(watermark)).0
        };
        transactions.begin(A, Offset(10));
        transactions.begin(B, Offset(20));
        assert_eq!(stable(&transactions, 30), 10);
        assert_eq!(transactions.end(A, Offset(10), Offset(30)), Offset(20), "B is open");
        assert_eq!(stable(&transactions, 31), 10, "the marker is not replicated");
        transactions.settle(Offset(30), 9);
        assert_eq!(stable(&transactions, 31), 10);
        transactions.settle(Offset(31), 9);
        assert_eq!(stable(&transactions, 31), 20);
        assert_eq!(transactions.end(B, Offset(20), Offset(31)), Offset(32), "nobody else is open");
        transactions.settle(Offset(32), 9);
        assert_eq!(stable(&transactions, 32), 32);
    }

    /// What was above the log's new end counted as looked at, so that nothing was decided before the log had passed that again.
    #[test]
    fn a_look_above_the_end_of_a_truncated_log_keeps_nothing_undecided() {
        let mut transactions = Transactions::default();
        transactions.begin(A, Offset(45));
        transactions.end(A, Offset(45), Offset(70));
        transactions.begin_again([(Offset(45), A)].into_iter(), Offset(50));
        transactions.settle(Offset(100), 9);
        assert_eq!(transactions.first_unstable(), Some(Offset(45)), "its marker was cut");
        transactions.end(A, Offset(45), Offset(60));
        transactions.settle(Offset(60), 9);
        assert_eq!(transactions.first_unstable(), Some(Offset(45)));
        transactions.settle(Offset(61), 9);
        assert_eq!(transactions.first_unstable(), None);
    }

    #[test]
    fn what_was_ended_is_settled_a_few_at_a_time() {
        let mut transactions = Transactions::default();
        for at in 0..5 {
            transactions.begin(A, Offset(2 * at));
            transactions.end(A, Offset(2 * at), Offset(2 * at + 1));
        }
        for (offset, count, first) in [(0, 2, Some(0)), (99, 2, Some(4)), (6, 2, Some(6)), (99, 9, None)] {
            transactions.settle(Offset(offset), count);
            assert_eq!(transactions.first_unstable(), first.map(Offset), "{count} up to {offset}");
        }
    }

    #[test]
    fn the_last_stable_offset_stays_between_log_start_and_high_watermark() {
        let transactions: Transactions = [(Offset(10), A)].into_iter().collect();
        for (start, watermark, stable) in [(0, 20, 10), (15, 20, 15), (0, 5, 5)] {
            let first = transactions.first_unstable();
            assert_eq!(last_stable_offset(first, Offset(start), Offset(watermark)), Offset(stable));
        }
        assert_eq!(transactions.oldest(), Some((Offset(10), A)));
        assert_eq!(transactions.first_unstable(), Some(Offset(10)));
    }

    #[test]
    fn only_data_of_an_aborted_transaction_is_left_out() {
        let aborted = |producer_id, first, last| AbortedTransaction {
            producer_id,
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last + 1),
        };
        let ranges: AbortedRanges = [aborted(A, 10, 20), aborted(A, 40, 50)].into_iter().collect();
        let cases = [
            (A, 9, false),
            (A, 10, true),
            (A, 19, true),
            (A, 21, false),
            (A, 39, false),
            (A, 45, true),
            (A, 51, false),
            (B, 15, false),
        ];
        for (producer_id, offset, expected) in cases {
            let batch = crate::BatchBuilder::new()
                .producer(producer_id, crate::ProducerEpoch(0), crate::Sequence(0))
                .base_offset(Offset(offset))
                .record(b"k", b"v");
            let data = batch.clone().transactional().build().unwrap();
            assert_eq!(ranges.cover(data.header()), expected, "{producer_id} at {offset}");
            assert!(!ranges.cover(batch.build().unwrap().header()), "not transactional");
        }
    }

    #[test]
    fn a_transaction_is_late_five_minutes_behind_its_timeout() {
        let late = |last, now| is_late(Timestamp(last), Timestamp(now), 1000);
        assert!(!late(10, 301_010));
        assert!(late(10, 301_011));
        assert!(!late(-1, i64::MAX));
    }

    #[test]
    fn an_aborted_transaction_is_read_back() {
        let aborted = AbortedTransaction {
            producer_id: ProducerId(258),
            first_offset: Offset(1),
            last_offset: Offset(i64::MAX),
            last_stable_offset: Offset(3),
        };
        let mut bytes = aborted.encode();
        assert_eq!(bytes[..10], [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(AbortedTransaction::decode(&bytes), Ok(aborted));
        bytes[1] = 1;
        let refused = CorruptionKind::Version { expected: 0, got: 1 };
        assert_eq!(AbortedTransaction::decode(&bytes), Err(refused));
    }
}
