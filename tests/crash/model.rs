//! What must be in a log, written down plainly beside the log itself.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use idemlog::{Batch, Log, OffsetRange, ProducerEpoch, ProducerId, ProducerInfo};

use crate::transactions::Transactions;

/// The batches of a producer that are remembered.
pub const WINDOW: usize = 5;

/// A batch that the log took, and where.
#[derive(Clone, Debug)]
pub struct Placed {
    pub batch: Batch,
    pub base_offset: i64,
}

impl Placed {
    pub fn offsets(&self) -> OffsetRange {
        let last = self.base_offset + i64::from(self.batch.header().last_offset_delta);
        OffsetRange { first: self.base_offset.into(), last: last.into() }
    }

    pub fn next_offset(&self) -> i64 {
        self.offsets().last.0 + 1
    }

    /// The bytes as they are stored, but for the leader epoch.
    fn stored(&self) -> Vec<u8> {
        let mut bytes = self.batch.bytes().to_vec();
        bytes[..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes
    }

    /// Whether `bytes` hold the batch somewhere, whole.
    pub fn lies_in(&self, bytes: &[u8]) -> bool {
        let stored = self.stored();
        bytes.windows(stored.len()).any(|window| is_stored(&stored, window))
    }

    /// Whether `found` is this batch where it was placed.
    pub fn is(&self, found: &Batch) -> bool {
        found.bytes().len() == self.batch.bytes().len() && is_stored(&self.stored(), found.bytes())
    }
}

/// Compares two stored batches in all but their leader epochs.
fn is_stored(one: &[u8], other: &[u8]) -> bool {
    one[..12] == other[..12] && one[16..] == other[16..]
}

/// What is known at one moment of a workload.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The batches that were deleted from the beginning of the log. Producers are still known by them.
    pub deleted: Vec<Placed>,
    /// The batches of the log, in order.
    pub log: Vec<Placed>,
    pub log_start: i64,
    /// Everything in the log below this offset was acknowledged as durable.
    pub durable: i64,
    /// The highest producer id that was handed out.
    pub highest_id: i64,
    /// The last epoch of the named producer that was handed out.
    pub named_epoch: i16,
}

impl Moment {
    /// Nothing was done, nothing promised.
    pub fn first() -> Self {
        Self {
            deleted: Vec::new(),
            log: Vec::new(),
            log_start: 0,
            durable: 0,
            highest_id: -1,
            named_epoch: -1,
        }
    }

    /// Moments of the same hash expect the same.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for placed in &self.log {
            (placed.base_offset, placed.batch.header().crc).hash(&mut hasher);
        }
        (self.log_start, self.durable, self.highest_id, self.named_epoch).hash(&mut hasher);
        hasher.finish()
    }

    /// The last batches of each producer in its last epoch.
    pub fn producers(&self) -> BTreeMap<ProducerId, (ProducerEpoch, Vec<&Placed>)> {
        replay(self.deleted.iter().chain(&self.log))
    }

    /// The transactions of the log, those that were deleted from its beginning included.
    pub fn transactions(&self) -> Transactions {
        Transactions::replay(self.deleted.iter().chain(&self.log))
    }

    /// The moment at which the log has only its first `batches`.
    pub fn cut_to(&self, batches: usize) -> Self {
        Self { log: self.log[..batches].to_vec(), ..self.clone() }
    }

    /// The moment at which its first `batches` are deleted, as far as they are durable.
    pub fn without_first(&self, batches: usize) -> Self {
        let durable = |placed: &&Placed| placed.next_offset() <= self.durable;
        let gone = self.log[..batches].iter().take_while(durable).count();
        let mut after = self.clone();
        after.deleted.extend(after.log.drain(..gone));
        after.log_start = after.deleted.last().map_or(self.log_start, Placed::next_offset);
        after
    }

    /// The moment at which `batch` stands at its end, durable.
    pub fn with(&self, batch: &Batch) -> Self {
        let mut after = self.clone();
        after.log.push(Placed { batch: batch.clone(), base_offset: self.log_end() });
        after.durable = after.log_end();
        after
    }

    pub fn log_end(&self) -> i64 {
        self.log.last().map_or(self.log_start, Placed::next_offset)
    }
}

/// What a disk may hold that was crashed between two moments: the log of one or the other, or a beginning of it.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    pub before: &'a Moment,
    pub after: &'a Moment,
    /// Behind a crash, as long as the opening is under way, the disk may still hold what it may have held at the crash:
    /// what an opening found is promised to nobody before it returns.
    pub origin: &'a [Moment],
    /// The log does not end before.
    pub at_least: i64,
    /// Only the process died: no batch that was written whole is given up.
    pub powered: bool,
}

impl Expected<'_> {
    pub fn hash(&self) -> u64 {
        let promised = self.at_least as u64 ^ u64::from(self.powered) << 63;
        let origin = self.origin.iter().fold(0, |hash: u64, moment| hash.rotate_left(5) ^ moment.hash());
        self.before.hash().rotate_left(1) ^ self.after.hash() ^ origin ^ promised
    }

    /// The logs that may be found, or beginnings of them, the likeliest first.
    pub fn moments(&self) -> impl Iterator<Item = &Moment> {
        [self.after, self.before].into_iter().chain(self.origin)
    }

    /// Every batch that may be found, of each offset one.
    pub fn all(&self) -> impl Iterator<Item = &Placed> {
        let mut seen = HashSet::new();
        let placed = [self.before, self.after].into_iter().chain(self.origin).flat_map(|moment| &moment.log);
        placed.filter(move |placed| seen.insert(placed.base_offset))
    }

    /// What was placed, is not in `found`, and may be sent again.
    pub fn lost(&self, found: &Moment) -> Vec<Placed> {
        self.all().filter(|placed| placed.base_offset >= found.log_end()).cloned().collect()
    }
}

/// Replays a log: the last batches of each producer in its last epoch.
fn replay<'a>(
    log: impl Iterator<Item = &'a Placed>,
) -> BTreeMap<ProducerId, (ProducerEpoch, Vec<&'a Placed>)> {
    let mut producers = BTreeMap::new();
    for placed in log.filter(|placed| placed.batch.header().is_idempotent()) {
        let header = placed.batch.header();
        let (epoch, batches): &mut (ProducerEpoch, Vec<&Placed>) =
            producers.entry(header.producer_id).or_insert_with(|| (header.producer_epoch, Vec::new()));
        if *epoch != header.producer_epoch {
            *epoch = header.producer_epoch;
            batches.clear();
        }
        // A marker has no sequence.
        if !header.is_control() {
            batches.push(placed);
        }
        if batches.len() > WINDOW {
            batches.remove(0);
        }
    }
    producers
}

/// Compares the producers of a log with those that its batches tell of.
pub fn compare_producers(log: &Log, moment: &Moment) -> Result<(), String> {
    let (expected, transactions) = (moment.producers(), moment.transactions());
    let found = log.producers();
    let ids: Vec<_> = found.iter().map(|producer| producer.producer_id).collect();
    if !ids.iter().eq(expected.keys()) {
        return Err(format!("knows the producers {ids:?} instead of {:?}", expected.keys()));
    }
    found.iter().zip(expected.values()).try_for_each(|(found, (epoch, batches))| {
        compare(found, *epoch, batches, transactions.begun_by(found.producer_id))
    })
}

fn compare(
    found: &ProducerInfo,
    epoch: ProducerEpoch,
    expected: &[&Placed],
    transaction: Option<i64>,
) -> Result<(), String> {
    let same = found.epoch == epoch
        && found.transaction_first_offset.map(|first| first.0) == transaction
        && found.batches.len() == expected.len()
        && found.batches.iter().zip(expected).all(|(found, placed)| {
            let header = placed.batch.header();
            found.offsets == placed.offsets()
                && found.first_sequence == header.base_sequence
                && found.last_sequence == header.last_sequence()
                && found.timestamp == header.max_timestamp
                && found.crc == Some(header.crc)
        });
    let offsets = || expected.iter().map(|placed| placed.base_offset).collect::<Vec<_>>();
    if same {
        return Ok(());
    }
    let open = transaction.map_or(String::new(), |first| format!(" and a transaction from {first} on"));
    Err(format!("knows {found:?} instead of epoch {epoch} at {:?}{open}", offsets()))
}
