//! What a host can choose for a log directory.

use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::fs::{Disk, RealDisk};
use crate::log::LogOptions;

/// How a directory of partitions is opened.
///
/// ```
/// use idemlog::{LogDir, LogDirOptions, LogOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let options = LogDirOptions::default()
///     .log(LogOptions::default().segment_bytes(64 << 20))
///     .background_threads(2);
/// let dir = LogDir::open(data.path(), options)?;
/// # dir.close()?;
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogDirOptions {
    /// How each partition stores its batches.
    pub log: LogOptions,
    /// How many threads prepare pages and segments ahead of the appenders, write snapshots, and sync for futures.
    /// Of two or more, one is always free of what takes long. Default: 0, the engine starts no thread; the appender does
    /// that work itself when it comes to it, and awaiting a [`Pending`](crate::Pending) is an error, unless the host has
    /// threads in [`LogDir::run_background`](crate::LogDir::run_background).
    pub background_threads: usize,
    /// How many threads recover partitions while the directory opens. One that finds none left checks the CRCs of another's
    /// segments ahead. Default: 0, as many as there are cores.
    pub recovery_threads: usize,
    /// How many bytes of disk may be allocated ahead of the appenders, over all partitions; beyond it, each partition
    /// gets 64 KiB at a time. Default: 4 GiB.
    pub max_allocated_ahead: u64,
    /// How many sealed segments may stay mapped or open at a time. In [`IoMode::Write`](crate::IoMode) each takes a descriptor:
    /// choose fewer than the process may have. Default: 16,384.
    pub max_open_segments: usize,
    /// Opens for reading only: takes no lock, changes nothing, keeps in memory what recovery would write. Reads as in
    /// [`IoMode::Write`](crate::IoMode), as whoever has the lock may cut what is mapped, and keeps 256 segments open at most.
    /// Default: false.
    pub read_only: bool,
    /// The file system. Default: the operating system's.
    pub disk: Arc<dyn Disk>,
    /// The clock. Default: the operating system's.
    pub clock: Arc<dyn Clock>,
}

impl Default for LogDirOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            background_threads: 0,
            recovery_threads: 0,
            max_allocated_ahead: 4 << 30,
            max_open_segments: 16_384,
            read_only: false,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
        }
    }
}

setters! { LogDirOptions:
    log: LogOptions,
    background_threads: usize,
    recovery_threads: usize,
    max_allocated_ahead: u64,
    max_open_segments: usize,
    read_only: bool,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
}

impl LogDirOptions {
    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        if self.background_threads > 1024 {
            let got = self.background_threads.to_string();
            return Err(Error::InvalidOption { option: "background_threads", expected: "0 to 1024", got });
        }
        if self.max_open_segments == 0 {
            let got = self.max_open_segments.to_string();
            return Err(Error::InvalidOption { option: "max_open_segments", expected: "1 or more", got });
        }
        self.log.validate()
    }

    pub(super) fn recovery_thread_count(&self) -> usize {
        match self.recovery_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }
}
