//! A log to read, and its one file as the limits see it.

use std::sync::Arc;

use idemlog::{Access, Disk, DiskFile, Durability, Log, LogDir, LogDirOptions, LogOptions, RealDisk};
use tempfile::TempDir;

use super::batches::{Batches, ONE_KIB};
use super::directory;

/// A log of batches of 1 KiB in one segment.
pub(crate) struct Stored {
    /// Open, and never closed.
    dir: LogDir,
    pub(crate) log: Log,
    /// How many bytes the batches have.
    pub(crate) bytes: usize,
    pub(crate) batch_size: usize,
    pub(crate) directory: TempDir,
}

pub(crate) fn options() -> LogDirOptions {
    LogDirOptions::default().background_threads(1).log(LogOptions::default().durability(Durability::Buffered))
}

impl Stored {
    /// As many batches as fit into `bytes`. Synced, because only then the file has its name.
    pub(crate) fn new(bytes: usize) -> Self {
        let directory = directory();
        let dir = LogDir::open(directory.path(), options()).expect("an empty directory");
        let log = dir.partition("bench", 0).expect("a new partition");
        let mut batches = Batches::new(ONE_KIB).peekable();
        let batch_size = batches.peek().map_or(1, |batch| batch.bytes().len());
        let count = bytes / batch_size;
        batches.take(count).for_each(|batch| assert!(!log.append(&batch).expect("an append").is_duplicate()));
        log.sync().expect("a sync");
        Self { dir, log, bytes: count * batch_size, batch_size, directory }
    }

    /// How many batches there are. Each holds one record, so these are the offsets.
    pub(crate) fn count(&self) -> usize {
        self.bytes / self.batch_size
    }

    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        let path = self.log.directory().join("00000000000000000000.log");
        RealDisk.open(&path, Access::Read).expect("the first segment")
    }

    pub(crate) fn close(&self) {
        self.dir.close().expect("a clean end");
    }
}
