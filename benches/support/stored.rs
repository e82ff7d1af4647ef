//! A log to read, and its files as the limits see them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use idemlog::{Access, Disk, Log, LogDir, LogDirOptions, Map, RealDisk};

use super::batches::{Batches, Shape};
use super::targets::buffered;

/// A log of batches of one shape.
pub(crate) struct Stored {
    dir: LogDir,
    pub(crate) log: Log,
    /// How many bytes the batches have.
    pub(crate) bytes: usize,
    pub(crate) batch_size: usize,
}

pub(crate) fn options() -> LogDirOptions {
    LogDirOptions::default().background_threads(1).log(buffered())
}

impl Stored {
    /// As many batches as fit into `bytes`. Synced, because only then the last file has its name.
    pub(crate) fn new(directory: &Path, partition: i32, shape: Shape, bytes: usize) -> Self {
        let dir = LogDir::open(directory, options()).expect("a directory");
        let log = dir.partition("bench", partition).expect("a new partition");
        let mut batches = Batches::new(shape).peekable();
        let batch_size = batches.peek().map_or(1, |batch| batch.bytes().len());
        let count = bytes / batch_size;
        for batch in batches.take(count) {
            assert!(!log.append(&batch).expect("an append").is_duplicate());
        }
        log.sync().expect("a sync");
        Self { dir, log, bytes: count * batch_size, batch_size }
    }

    /// How many batches there are. Each holds one record, so these are the offsets.
    pub(crate) fn count(&self) -> usize {
        self.bytes / self.batch_size
    }

    /// Ends everything that is done in the background.
    pub(crate) fn close(&self) {
        self.dir.close().expect("a clean end");
    }

    pub(crate) fn directory(&self) -> &Path {
        self.log.directory()
    }
}

/// The `.log` files of a partition, mapped, in their order.
pub(crate) fn mapped_segments(partition: &Path) -> Vec<Arc<Map>> {
    let entries =
        std::fs::read_dir(partition).expect("a partition").map(|entry| entry.expect("a name").path());
    let mut paths: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    paths.sort();
    let map = |path: &PathBuf| {
        let file = RealDisk.open(path, Access::Read).expect("a segment");
        let len = file.len().expect("its size") as usize;
        file.map_read(len).expect("a mapping")
    };
    paths.iter().map(map).collect()
}
