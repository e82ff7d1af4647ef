//! One segment: a `.log` file with its indexes. The last one of a partition is active, the others are sealed.

mod cursor;
mod cut;
mod entries;
mod file;
mod index_files;
mod index_filler;
mod indexes;
mod list;
mod look_up;
mod offset_index;
mod summary;
mod time_index;
mod transaction_index;
mod writer;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

pub(crate) use cursor::{BatchCursor, PlacedBatch};
pub(crate) use cut::Prefix;
pub(crate) use file::{ALLOCATION_STEP_MIN, LogFile, Sink, Stamps};
pub(crate) use index_filler::IndexFiller;
use indexes::IndexSlot;
pub(crate) use indexes::Indexes;
pub(crate) use list::{first_behind, segment_at, segments_from};
pub(crate) use offset_index::{IndexPosition, OffsetIndex};
pub(crate) use summary::Summary;
pub(crate) use time_index::TimeIndex;
pub(crate) use transaction_index::TransactionIndex;
pub(crate) use writer::{Leeway, SegmentWriter};

use crate::error::{Error, Result};
use crate::fs::Pages;
use crate::fs::name::SegmentFile;
use crate::sync::{Mutex, MutexGuard};
use crate::types::{Offset, Timestamp};

/// A run of batches in one file. Cheap to hold: the bytes stay readable as long as somebody has it.
#[derive(Debug)]
pub(crate) struct Segment {
    base_offset: Offset,
    file: LogFile,
    /// Those of the active segment are made with it; those of a sealed one are loaded when needed, and let go when all
    /// segments' take too much memory.
    indexes: IndexSlot,
    /// The aborted transactions whose markers lie here; loaded, or built, when first needed.
    transactions: OnceLock<Mutex<TransactionIndex>>,
    index_options: IndexOptions,
    /// The offset behind the last published batch; of a sealed segment not yet looked at, -1.
    next_offset: AtomicI64,
    /// The largest timestamp of a batch, and the last offset of that batch.
    largest_timestamp: AtomicI64,
    largest_timestamp_offset: AtomicI64,
    /// Held by whoever says all three of a segment that has no writer.
    summarising: Mutex<()>,
    /// Whether the file has its final name, durably.
    named: AtomicBool,
}

/// How dense the indexes are and how large they may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexOptions {
    /// The bytes of batches between two entries.
    pub(crate) interval_bytes: u32,
    /// The size at which an index is full and the segment is rolled.
    pub(crate) max_bytes: u32,
}

impl Segment {
    /// A segment whose file is all published, its indexes not loaded.
    pub(crate) fn sealed(base_offset: Offset, file: LogFile, index_options: IndexOptions) -> Self {
        Self {
            base_offset,
            file,
            indexes: IndexSlot::empty(),
            transactions: OnceLock::new(),
            index_options,
            next_offset: AtomicI64::new(-1),
            largest_timestamp: AtomicI64::new(Timestamp::NONE.0),
            largest_timestamp_offset: AtomicI64::new(-1),
            summarising: Mutex::default(),
            named: AtomicBool::new(true),
        }
    }

    /// A new, empty segment. Its indexes come with its [`SegmentWriter`].
    pub(crate) fn empty(
        base_offset: Offset,
        file: LogFile,
        index_options: IndexOptions,
        named: bool,
    ) -> Self {
        let segment = Self::sealed(base_offset, file, index_options);
        let _ = segment.transactions.set(Mutex::default());
        segment.next_offset.store(base_offset.0, Ordering::Release);
        segment.named.store(named, Ordering::Release);
        segment
    }

    /// A segment that recovery has read. `transactions`: its aborted ones, where they are known.
    pub(crate) fn recovered(
        base_offset: Offset,
        file: LogFile,
        index_options: IndexOptions,
        indexes: Indexes,
        transactions: Option<TransactionIndex>,
        summary: Summary,
    ) -> Self {
        let indexes = IndexSlot::of(indexes);
        let segment = Self { indexes, ..Self::sealed(base_offset, file, index_options) };
        if let Some(transactions) = transactions {
            let _ = segment.transactions.set(Mutex::new(transactions));
        }
        segment.publish(&summary);
        segment
    }

    pub(crate) fn base_offset(&self) -> Offset {
        self.base_offset
    }

    pub(crate) fn file(&self) -> &LogFile {
        &self.file
    }

    pub(crate) fn index_options(&self) -> IndexOptions {
        self.index_options
    }

    /// Where a file of the segment is, or will be.
    fn path_of(&self, file: SegmentFile) -> PathBuf {
        self.file.path().with_file_name(file.name(self.base_offset))
    }

    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Ordering::Acquire)
    }

    /// Gives a prepared file its name, durably. Everything in the segments before it must be durable: a crash then
    /// never leaves a hole in front of a segment with a name.
    pub(crate) fn give_name(&self) -> Result<()> {
        if !self.is_named() {
            self.file.rename(&self.path_of(SegmentFile::Log))?;
            self.file.sync_directory()?;
            self.named.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Has memory ready where batches will be written, and for their entries in the indexes. Only ever a matter of speed.
    pub(crate) fn populate(&self, from: u64, to: u64, pages: Pages) {
        if let Some(indexes) = &*self.indexes.load() {
            indexes.prepare(self.file.end(), to.min(self.file.allocated()));
        }
        self.file.populate(from, to, pages);
    }

    /// Whether the budgets of open files and of indexes know what is in memory.
    #[inline]
    pub(crate) fn is_counted(&self) -> bool {
        self.file.is_counted() && !self.indexes.has_news()
    }

    /// The aborted transactions, where they are in memory.
    pub(crate) fn transactions(&self) -> Option<MutexGuard<'_, TransactionIndex>> {
        self.transactions.get().map(Mutex::lock)
    }

    /// Keeps the aborted transactions in memory, unless somebody else did.
    pub(crate) fn set_transactions(&self, index: TransactionIndex) -> MutexGuard<'_, TransactionIndex> {
        self.transactions.get_or_init(|| Mutex::new(index)).lock()
    }

    /// Whether `error` says that the file is gone: retention or deletion removed it.
    pub(crate) fn is_gone(error: &Error) -> bool {
        matches!(error, Error::Io(io) if io.source.kind() == std::io::ErrorKind::NotFound)
    }
}
