//! What all partitions together may take: of the disk ahead of their appenders, and of the process for their sealed segments.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::segment::Segment;
use crate::sync::Mutex;

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
