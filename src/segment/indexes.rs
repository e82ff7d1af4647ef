//! The sparse indexes of a segment, and how long they stay in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;
use arc_swap::{ArcSwapOption, Guard};

use super::{IndexOptions, OffsetIndex, Segment, TimeIndex};
use crate::error::Result;
use crate::types::Offset;

/// The sparse indexes of a segment.
#[derive(Debug)]
pub(crate) struct Indexes {
    pub(crate) offset: OffsetIndex,
    pub(crate) time: TimeIndex,
}

impl Indexes {
    pub(crate) fn new(base_offset: Offset, options: IndexOptions) -> Self {
        Self {
            offset: OffsetIndex::new(base_offset, options.max_bytes as usize),
            time: TimeIndex::new(base_offset, options.max_bytes as usize),
        }
    }

    /// How many more pairs of entries fit. With none left the segment must be rolled.
    pub(crate) fn left(&self) -> usize {
        self.offset.left().min(self.time.left())
    }

    /// Where the batch of the last entry begins.
    pub(crate) fn last_position(&self) -> u64 {
        self.offset.last().map_or(0, |entry| u64::from(entry.position))
    }

    /// Takes the memory of the entries of a segment that is filled up to `to`, if they lie as densely as up to `end`, and
    /// of one more. As densely as the interval allows would be many times as much where batches are large, or of the same
    /// time.
    pub(super) fn prepare(&self, end: u64, to: u64) {
        let expected = |len: usize| 1 + (len as u64 * to.max(end) / end.max(1)) as usize;
        self.offset.prepare(expected(self.offset.len()));
        self.time.prepare(expected(self.time.len()));
    }

    /// The bytes of memory that the entries take.
    pub(crate) fn memory(&self) -> usize {
        self.offset.memory() + self.time.memory()
    }

    /// How many entries there are. None is ever changed, or taken away.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.offset.len(), self.time.len())
    }
}

/// The indexes of one segment where they are in memory. Readers take no lock; who has them keeps them.
#[derive(Debug)]
pub(super) struct IndexSlot {
    loaded: ArcSwapOption<Indexes>,
    /// Whether something changed that the budget of indexes does not know of yet.
    news: AtomicBool,
    keeping: Mutex<Keeping>,
}

/// Why indexes stay in memory.
#[derive(Debug, Default)]
struct Keeping {
    /// A writer appends to them.
    has_writer: bool,
    /// The index files have all of their entries: they can be loaded again.
    is_saved: bool,
    /// The budget counts them.
    is_counted: bool,
    /// They were built from the log, and nobody was told yet.
    is_rebuilt: bool,
}

impl IndexSlot {
    /// With nothing in memory.
    pub(super) fn empty() -> Self {
        Self { loaded: ArcSwapOption::empty(), news: AtomicBool::new(false), keeping: Mutex::default() }
    }

    /// With indexes that may not be in files yet.
    pub(super) fn of(indexes: Indexes) -> Self {
        let slot = Self::empty();
        slot.keep(indexes, false);
        slot
    }

    #[inline]
    pub(super) fn load(&self) -> Guard<Option<Arc<Indexes>>> {
        self.loaded.load()
    }

    /// Keeps indexes that were built because the files do not fit the log: in memory, as to build them again would take much
    /// longer than to load them.
    pub(super) fn keep_rebuilt(&self, indexes: Indexes) -> Arc<Indexes> {
        let kept = self.keep(indexes, false);
        self.keeping.lock().is_rebuilt = true;
        kept
    }

    /// Whether the indexes were built from the log since this was asked last.
    pub(super) fn take_rebuilt(&self) -> bool {
        std::mem::take(&mut self.keeping.lock().is_rebuilt)
    }

    /// Keeps indexes in memory, unless somebody else did; returns those that are. `is_saved`: they come from the files.
    pub(super) fn keep(&self, indexes: Indexes, is_saved: bool) -> Arc<Indexes> {
        let mut keeping = self.keeping.lock();
        if let Some(loaded) = self.loaded.load_full() {
            return loaded;
        }
        let indexes = Arc::new(indexes);
        self.loaded.store(Some(Arc::clone(&indexes)));
        keeping.is_saved = is_saved;
        self.news.store(true, Ordering::Release);
        indexes
    }

    /// A writer adds to these from now on, so they stay in memory. Whatever was loaded meanwhile is the same.
    pub(super) fn begin_writing(&self, indexes: &Arc<Indexes>) {
        let mut keeping = self.keeping.lock();
        self.loaded.store(Some(Arc::clone(indexes)));
        (keeping.has_writer, keeping.is_saved) = (true, false);
    }

    /// The files are about to be replaced by those of a part: these stay in memory until they are written again.
    pub(super) fn hold(&self, indexes: &Arc<Indexes>) {
        let mut keeping = self.keeping.lock();
        self.loaded.store(Some(Arc::clone(indexes)));
        keeping.is_saved = false;
    }

    /// There is no writer any more.
    pub(super) fn end_writing(&self) {
        self.keeping.lock().has_writer = false;
    }

    /// The files have the first `len` entries of `indexes`, durably.
    pub(super) fn set_saved(&self, indexes: &Arc<Indexes>, len: (usize, usize)) {
        let mut keeping = self.keeping.lock();
        let is_loaded = self.loaded.load().as_ref().is_some_and(|loaded| Arc::ptr_eq(loaded, indexes));
        if is_loaded && !keeping.has_writer && indexes.len() == len {
            keeping.is_saved = true;
            self.news.store(true, Ordering::Release);
        }
    }

    /// Whether the budget should look again.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// The memory of indexes that could be let go and were not counted yet; from now on they are.
    pub(super) fn count(&self) -> Option<usize> {
        let mut keeping = self.keeping.lock();
        self.news.store(false, Ordering::Release);
        let loaded = self.loaded.load_full()?;
        if keeping.has_writer || !keeping.is_saved || keeping.is_counted {
            return None;
        }
        keeping.is_counted = true;
        Some(loaded.memory())
    }

    /// Lets the indexes go, if nothing speaks against it; the budget counts them no more in any case.
    pub(super) fn release(&self) {
        let mut keeping = self.keeping.lock();
        keeping.is_counted = false;
        if keeping.is_saved && !keeping.has_writer {
            self.loaded.store(None);
        }
    }
}

impl Segment {
    /// The indexes: in memory, or loaded, or built from the log where the files are missing or do not fit it.
    pub(crate) fn indexes(self: &Arc<Self>) -> Result<Arc<Indexes>> {
        match &*self.indexes.load() {
            Some(indexes) => Ok(Arc::clone(indexes)),
            None => self.fetch_indexes(),
        }
    }

    /// As [`indexes`](Self::indexes), to look something up: where they are in memory nobody else is told.
    #[inline]
    pub(super) fn look_up<T>(self: &Arc<Self>, look: impl FnOnce(&Indexes) -> T) -> Result<T> {
        if let Some(indexes) = &*self.indexes.load() {
            return Ok(look(indexes));
        }
        Ok(look(&*self.fetch_indexes()?))
    }

    #[cold]
    fn fetch_indexes(self: &Arc<Self>) -> Result<Arc<Indexes>> {
        Ok(match self.load_indexes() {
            Some(loaded) => self.indexes.keep(loaded, true),
            None => self.indexes.keep_rebuilt(self.build_indexes()?),
        })
    }

    /// Keeps the indexes in memory, because the files are about to be replaced.
    pub(crate) fn hold_indexes(self: &Arc<Self>) -> Result<()> {
        self.indexes.hold(&self.indexes()?);
        Ok(())
    }

    /// Notes that the index files are complete, and can be loaded again.
    pub(crate) fn set_indexes_saved(&self) {
        if let Some(indexes) = &*self.indexes.load() {
            self.indexes.set_saved(indexes, indexes.len());
        }
    }

    /// The memory of the indexes.
    pub(crate) fn index_memory(&self) -> usize {
        self.indexes.load().as_ref().map_or(0, |indexes| indexes.memory())
    }

    /// Whether the indexes were built from the log since this was asked last.
    pub(crate) fn take_rebuilt(&self) -> bool {
        self.indexes.take_rebuilt()
    }

    /// The memory of indexes that can be loaded again and were not counted yet; from now on they are.
    pub(crate) fn count_indexes(&self) -> Option<usize> {
        self.indexes.count()
    }

    /// Gives the memory of the indexes back, unless there is a writer. Who looks something up meanwhile keeps them that long.
    pub(crate) fn release_indexes(&self) {
        self.indexes.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    /// Memory was taken once for an index as dense as the interval allows, whatever the batches are like: of 64 KiB each, in
    /// 10,000 segments of 1 GiB, that was 30 GB for entries that never came.
    #[test]
    fn memory_is_taken_for_as_many_entries_as_will_come_and_hardly_more() {
        const BYTES: u64 = 512 << 20;
        let options = IndexOptions { interval_bytes: 4096, max_bytes: 10 << 20 };
        for (batch, is_one_time) in [(64 << 10, false), (64 << 10, true), (8 << 10, false), (BYTES, false)] {
            let indexes = Indexes::new(Offset(0), options);
            for number in 1..BYTES / batch {
                assert!(indexes.offset.append(Offset(number as i64), (number * batch) as u32));
                let timestamp = Timestamp(if is_one_time { 7 } else { number as i64 });
                let offset = Offset(number as i64);
                assert!(indexes.time.append(timestamp, offset, None) || is_one_time && number > 1);
            }
            indexes.prepare(BYTES, BYTES + (64 << 20));
            for (room, len) in
                [(indexes.offset.room(), indexes.offset.len()), (indexes.time.room(), indexes.time.len())]
            {
                let expected = len + len / 8 + 1;
                assert!(
                    (expected..=expected + 512).contains(&room),
                    "{room} for {expected} of {batch} bytes"
                );
            }
        }
    }
}
