//! What a host can choose for a log directory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::progress::Watcher;
use crate::clock::{Clock, SystemClock};
use crate::environment::{
    CheckAhead, Checkpointing, ClockSteps, Environment, Fences, HeldBySegments, Queue, Removed, Reserve,
    SpaceBudget,
};
use crate::error::{Error, Result};
use crate::fs::name::TopicPartition;
use crate::fs::{DirectoryLock, Disk, RealDisk};
use crate::log::LogOptions;
use crate::sync::Mutex;
use crate::types::ProducerId;

/// Those that the format has room for, but for the last one.
pub(crate) const ALL_PRODUCER_IDS: Range<ProducerId> = ProducerId(0)..ProducerId(i64::MAX);

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
    /// How each partition stores its batches, where [`log_for`](Self::log_for) does not say it for each.
    pub log: LogOptions,
    /// How many threads prepare pages and segments ahead of the appenders, write snapshots, and sync for futures, 0 to 1,024.
    /// Of two or more, one is always free of what takes long. Each syncs one partition at a time, so that is also how many
    /// partitions sync for futures at once. Default: 0, the engine starts no thread; the appender does
    /// that work itself when it comes to it, and awaiting a [`Pending`](crate::Pending) is an error, unless the host has
    /// threads in [`LogDir::run_background`](crate::LogDir::run_background).
    pub background_threads: usize,
    /// How many threads recover partitions while the directory opens. One that finds none left checks the CRCs of another's
    /// segments ahead. As many close partitions while the directory closes. 0 to 1,024. Default: 0, as many as there are cores;
    /// and 16 to close, which is mostly waiting for the disk, and shares what the file system writes for each.
    pub recovery_threads: usize,
    /// How many bytes of disk may be allocated ahead of the appenders, over all partitions; beyond it, each partition
    /// gets 64 KiB at a time. 0 and up. Default: 4 GiB.
    pub max_allocated_ahead: u64,
    /// How many sealed segments may stay mapped or open at a time. In [`IoMode::Write`](crate::IoMode) each takes a descriptor:
    /// choose fewer than the process may have. 1 and up. Default: 16,384.
    pub max_open_segments: usize,
    /// How many bytes of memory the indexes of sealed segments may take, over all partitions. Beyond it those go first that were
    /// loaded first, and are read from their files again when somebody looks for an offset or a time in them. The segment read
    /// last stays in any case, and what no file has: the indexes of each partition's active segment, of sealed ones until their files
    /// are written, and those that were built because a file was missing or damaged. A segment takes up to 24 bytes for each
    /// [`index_interval_bytes`](crate::LogOptions::index_interval_bytes) of it, or for each batch where those are larger: at 4096
    /// bytes 6 MiB for 1 GiB. 0 and up. Default: 512 MiB.
    pub max_index_bytes: usize,
    /// Opens for reading only: takes no lock, changes nothing, keeps in memory what recovery would write. Reads as in
    /// [`IoMode::Write`](crate::IoMode), as whoever has the lock may cut what is mapped, and keeps 256 segments open at most.
    /// Default: false.
    pub read_only: bool,
    /// Opens only what is a log directory already, and makes none: for a host that knows the directory to be there, as on every
    /// start but the first. Else a volume that is not mounted would be an empty directory of the file system below it, and get a
    /// log directory without any partition. Default: false.
    ///
    /// ```
    /// use idemlog::{Error, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let known = LogDirOptions::default().must_exist(true);
    /// assert!(matches!(LogDir::open(data.path(), known.clone()), Err(Error::NotALogDir { .. })));
    ///
    /// LogDir::open(data.path(), LogDirOptions::default())?.close()?; // the first start
    /// LogDir::open(data.path(), known)?;
    /// # Ok::<(), Error>(())
    /// ```
    pub must_exist: bool,
    /// The ids that [`LogDir::new_producer_id`](crate::LogDir::new_producer_id) gives out, the end exclusive. **Two directories of
    /// one cluster must have ranges that do not meet**, whether they are of one broker or of several: a partition that is copied
    /// to the other directory takes along what it knows of its producers, and would take the first batches of another client
    /// with the id of one of them for duplicates, and not store them. **A directory that was lost, and begins again empty, gets a
    /// range that was never used**, or is told what its peers know ([`pass_producer_id`](crate::LogDir::pass_producer_id)).
    ///
    /// From 0 up, and not empty. A host may give a directory another
    /// range when it has used up its own, above it: of one that ends below an id that was reserved before it is not known which of
    /// its ids were given out, and the directory does not open ([`Error::InvalidOption`](crate::Error::InvalidOption)). Default: all
    /// there are, from 0 on, for a directory that shares partitions with none.
    pub producer_ids: Range<ProducerId>,
    /// The file system. Default: the operating system's.
    pub disk: Arc<dyn Disk>,
    /// The clock. Default: the operating system's.
    pub clock: Arc<dyn Clock>,
    log_for: Option<LogFor>,
    pub(super) watcher: Watcher,
}

/// What a host answers when it is asked how a partition stores its batches.
#[derive(Clone)]
struct LogFor(Arc<dyn Fn(&TopicPartition) -> LogOptions + Send + Sync>);

impl fmt::Debug for LogFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFor(..)")
    }
}

impl Default for LogDirOptions {
    fn default() -> Self {
        Self {
            log: LogOptions::default(),
            background_threads: 0,
            recovery_threads: 0,
            max_allocated_ahead: 4 << 30,
            max_open_segments: 16_384,
            max_index_bytes: 512 << 20,
            read_only: false,
            must_exist: false,
            producer_ids: ALL_PRODUCER_IDS,
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemClock),
            log_for: None,
            watcher: Watcher::default(),
        }
    }
}

setters! { LogDirOptions:
    log: LogOptions,
    background_threads: usize,
    recovery_threads: usize,
    max_allocated_ahead: u64,
    max_open_segments: usize,
    max_index_bytes: usize,
    read_only: bool,
    must_exist: bool,
    producer_ids: Range<ProducerId>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
}

impl LogDirOptions {
    /// How each partition stores its batches, asked once whenever one is opened or created; [`log`](Self#structfield.log)
    /// counts no more. A host that keeps the options of its topics answers with them here, so that those of
    /// [`Log::set_options`](crate::Log::set_options), too, are there again after a restart.
    ///
    /// An answer with a value that cannot work is the partition's [`Error::InvalidOption`]: it does not open, or is not
    /// created, and the others are as they would be. The function is called by several threads at a time while the
    /// directory opens; it must not call the directory.
    ///
    /// ```
    /// use idemlog::{LogDir, LogDirOptions, LogOptions, TopicPartition};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let options = LogDirOptions::default().log_for(|partition: &TopicPartition| match partition.topic() {
    ///     "metrics" => LogOptions::default().retention_ms(Some(60 * 60 * 1000)),
    ///     _ => LogOptions::default(),
    /// });
    /// let dir = LogDir::open(data.path(), options)?;
    /// assert_eq!(dir.partition("metrics", 0)?.options().retention_ms, Some(3_600_000));
    /// assert_eq!(dir.partition("orders", 0)?.options().retention_ms, None);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn log_for(
        mut self,
        options: impl Fn(&TopicPartition) -> LogOptions + Send + Sync + 'static,
    ) -> Self {
        self.log_for = Some(LogFor(Arc::new(options)));
        self
    }

    /// The options of one partition, which can work.
    pub(super) fn log_options(&self, partition: &TopicPartition) -> Result<LogOptions> {
        let options = self.log_for.as_ref().map_or_else(|| self.log.clone(), |log_for| log_for.0(partition));
        options.validate()?;
        Ok(options)
    }

    /// What the partitions of such a directory share, before the first of them is opened.
    pub(crate) fn environment(&self, lock: Option<DirectoryLock>, reserve: Option<Reserve>) -> Environment {
        Environment {
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            clock_steps: ClockSteps::from(self.clock.recently()),
            queue: Arc::new(Queue::default()),
            check_ahead: CheckAhead::default(),
            lock: Mutex::new(lock),
            removed: Removed::default(),
            space: SpaceBudget::new(self.max_allocated_ahead),
            held: if self.read_only {
                HeldBySegments::for_reading(self.max_open_segments, self.max_index_bytes)
            } else {
                HeldBySegments::new(self.max_open_segments, self.max_index_bytes)
            },
            fences: Fences::default(),
            read_only: self.read_only,
            checkpoints: Checkpointing::default(),
            reserve,
        }
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the first that cannot work; what [`log_for`](Self::log_for) answers is not asked for.
    pub fn validate(&self) -> Result<()> {
        let threads =
            [("background_threads", self.background_threads), ("recovery_threads", self.recovery_threads)];
        if let Some((option, got)) = threads.into_iter().find(|&(_, threads)| threads > 1024) {
            return Err(Error::InvalidOption { option, expected: "0 to 1024", got: got.to_string() });
        }
        if self.max_open_segments == 0 {
            let got = self.max_open_segments.to_string();
            return Err(Error::InvalidOption { option: "max_open_segments", expected: "1 or more", got });
        }
        if self.producer_ids.start < ProducerId(0) || self.producer_ids.is_empty() {
            let expected = "a range from 0 up that is not empty";
            let got = format!("{:?}", self.producer_ids);
            return Err(Error::InvalidOption { option: "producer_ids", expected, got });
        }
        self.log.validate()
    }

    pub(super) fn recovery_thread_count(&self) -> usize {
        match self.recovery_threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            threads => threads,
        }
    }

    pub(super) fn closing_thread_count(&self) -> usize {
        const CLOSING: usize = 16;
        if self.recovery_threads == 0 { CLOSING } else { self.recovery_threads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_of_a_directory_that_cannot_work_is_named() {
        let options = LogDirOptions::default;
        let cases = [
            ("background_threads", options().background_threads(1025)),
            ("recovery_threads", options().recovery_threads(1025)),
            ("max_open_segments", options().max_open_segments(0)),
        ];
        for (name, options) in cases {
            let error = options.validate().unwrap_err();
            assert!(
                matches!(error, Error::InvalidOption { option, .. } if option == name),
                "{name}: {error}"
            );
        }
        options().background_threads(1024).recovery_threads(1024).validate().unwrap();
    }
}
