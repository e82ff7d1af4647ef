//! What the partitions of a directory share.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use super::background::Queue;
use super::check_ahead::CheckAhead;
use super::checkpointing::Checkpointing;
use super::reserve::Reserve;
use crate::clock::Clock;
use crate::error::Result;
use crate::fs::{DirectoryLock, Disk, Map};
use crate::producer::ProducerTable;
use crate::segment::Segment;
use crate::sync::Mutex;
use crate::types::{ProducerEpoch, ProducerId};

/// Disk, clock, workers and budgets. Knows no partition.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) check_ahead: CheckAhead,
    /// Held as long as anything of the directory can still be written, and given back by a close.
    pub(crate) lock: Mutex<Option<DirectoryLock>>,
    pub(crate) removed: Removed,
    pub(crate) space: SpaceBudget,
    pub(crate) held: HeldBySegments,
    pub(crate) fences: Fences,
    /// Whether nothing may be written at all.
    pub(crate) read_only: bool,
    pub(crate) checkpoints: Checkpointing,
    /// `None` where nothing may be written.
    pub(crate) reserve: Option<Reserve>,
}

impl Environment {
    /// Sees that there is room to write down what is about to be deleted. Comes before blocks are given to anybody.
    pub(crate) fn keep_reserve(&self) -> Result<()> {
        self.reserve.as_ref().map_or(Ok(()), Reserve::keep)
    }

    /// Makes a change that makes room: once more with what is kept for it, where the disk is full.
    pub(crate) fn with_reserve<T>(&self, change: impl Fn() -> Result<T>) -> Result<T> {
        match &self.reserve {
            Some(reserve) => reserve.lend(change),
            None => change(),
        }
    }
}

/// How much of the disk may be allocated and not yet written, over all partitions. Small steps are always granted.
#[derive(Debug)]
pub(crate) struct SpaceBudget {
    limit: u64,
    ahead: AtomicU64,
}

impl SpaceBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, ahead: AtomicU64::new(0) }
    }

    /// What may still be allocated ahead.
    pub(crate) fn room(&self) -> u64 {
        self.limit.saturating_sub(self.ahead.load(Ordering::Relaxed))
    }

    pub(crate) fn take(&self, bytes: u64) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        let _ = self
            .ahead
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ahead| Some(ahead.saturating_sub(bytes)));
    }
}

/// The maps of segments whose files are removed, as long as somebody holds slices of them.
#[derive(Debug, Default)]
pub(crate) struct Removed(Mutex<Vec<Weak<Map>>>);

impl Removed {
    pub(crate) fn note(&self, maps: impl Iterator<Item = Arc<Map>>) {
        self.0.lock().extend(maps.map(|map| Arc::downgrade(&map)));
    }

    /// The bytes that are still held.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let mut maps = self.0.lock();
        maps.retain(|map| map.strong_count() > 0);
        maps.iter().filter_map(Weak::upgrade).map(|map| map.published() as u64).sum()
    }
}

/// What sealed segments may hold of the process: maps or descriptors, and memory for their indexes. Those that have held it
/// longest give it back first; who is just reading keeps what he has.
#[derive(Debug)]
pub(crate) struct HeldBySegments {
    max_open: usize,
    max_index_bytes: usize,
    /// Whether dirty segments keep what they are synced through.
    syncs: bool,
    open: Mutex<VecDeque<Weak<Segment>>>,
    indexes: Mutex<HeldIndexes>,
}

/// The indexes in memory that can be loaded again.
#[derive(Debug, Default)]
struct HeldIndexes {
    bytes: usize,
    segments: VecDeque<(Weak<Segment>, usize)>,
}

impl HeldBySegments {
    pub(crate) fn new(max_open: usize, max_index_bytes: usize) -> Self {
        let (open, indexes) = (Mutex::default(), Mutex::default());
        Self { max_open, max_index_bytes, syncs: true, open, indexes }
    }

    /// For those who only read, and hold a descriptor for each segment, of which a process may have few.
    pub(crate) fn for_reading(max_open: usize, max_index_bytes: usize) -> Self {
        const DESCRIPTORS: usize = 256;
        Self { syncs: false, ..Self::new(max_open.min(DESCRIPTORS), max_index_bytes) }
    }

    /// Counts what a segment without an appender holds, and has others give it back while it is too much.
    pub(crate) fn count(&self, segment: &Arc<Segment>) {
        if segment.file().count() {
            self.count_open(segment);
        }
        if let Some(bytes) = segment.count_indexes() {
            self.count_indexes(segment, bytes);
        }
    }

    fn count_open(&self, segment: &Arc<Segment>) {
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(segment));
        // At most one look at each: dirty ones must keep what they are synced through.
        for _ in 0..open.len() {
            if open.len() <= self.max_open {
                break;
            }
            match open.pop_front().and_then(|oldest| oldest.upgrade()) {
                Some(segment) if self.syncs && segment.file().is_dirty() => {
                    open.push_back(Arc::downgrade(&segment));
                }
                Some(segment) => segment.file().release(),
                None => {}
            }
        }
    }

    /// Those that were counted last stay in any case: somebody is just looking something up in them.
    fn count_indexes(&self, segment: &Arc<Segment>, bytes: usize) {
        let mut held = self.indexes.lock();
        held.bytes += bytes;
        held.segments.push_back((Arc::downgrade(segment), bytes));
        while held.bytes > self.max_index_bytes && held.segments.len() > 1 {
            let Some((oldest, bytes)) = held.segments.pop_front() else { break };
            held.bytes -= bytes;
            if let Some(segment) = oldest.upgrade() {
                segment.release_indexes();
            }
        }
    }
}

/// The epochs below which named producers are refused, also in partitions that never heard of them.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    epochs: RwLock<HashMap<ProducerId, ProducerEpoch>>,
    count: AtomicUsize,
}

impl Fences {
    /// The lowest epoch accepted from `id`, if it is fenced at all.
    #[inline]
    pub(crate) fn get(&self, id: ProducerId) -> Option<ProducerEpoch> {
        if self.count.load(Ordering::Acquire) == 0 { None } else { self.search(id) }
    }

    #[cold]
    fn search(&self, id: ProducerId) -> Option<ProducerEpoch> {
        self.epochs.read().get(&id).copied()
    }

    pub(crate) fn raise(&self, id: ProducerId, epoch: ProducerEpoch) {
        let mut epochs = self.epochs.write();
        let fence = epochs.entry(id).or_insert(epoch);
        *fence = epoch.max(*fence);
        self.count.store(epochs.len(), Ordering::Release);
    }

    /// Has a table that is taken into use refuse them, too. Goes through the fewer: names or producers.
    pub(crate) fn raise_in(&self, producers: &mut ProducerTable) {
        let epochs = self.epochs.read();
        if epochs.len() < producers.len() {
            epochs.iter().for_each(|(&id, &epoch)| producers.raise_epoch(id, epoch));
        } else {
            producers.raise_epochs(|id| epochs.get(&id).copied());
        }
    }
}
