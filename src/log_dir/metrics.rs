//! What an operator sees of a whole directory.

use std::time::Duration;

use super::LogDir;
use crate::fs::mapped_files;
use crate::log::LogMetrics;

/// What the partitions of a directory come to together, and what it has besides them.
///
/// ```
/// use std::time::Duration;
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// for partition in 0..3 {
///     let batch = BatchBuilder::new().record(b"k", b"v").build()?;
///     dir.partition("orders", partition)?.append(&batch)?;
/// }
/// let metrics = dir.metrics();
/// assert_eq!((metrics.partitions, metrics.sum.appended_batches), (3, 3));
/// assert_eq!(metrics.failed_partitions, 0);
/// if metrics.checkpoints_behind_for > Duration::from_secs(60) {
///     eprintln!("the checkpoints are not written: {:?}", metrics.sum.last_failed_chore);
/// }
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LogDirMetrics {
    /// The sum of all [`partitions`](LogDir::partitions); where a sum says nothing, each field tells what it is of a directory. The counters of
    /// one that is deleted, or opened again, leave the sum, which is then less than before: for rates over such a time take each
    /// partition's own.
    pub sum: LogMetrics,
    /// How many partitions have opened, those closed or poisoned since among them.
    pub partitions: u64,
    /// Partitions that did not open, or whose deletion failed: [`LogDir::failed`] lists them.
    pub failed_partitions: u64,
    /// For how long the checkpoint files have lacked a recovery point, or a log start, that has moved; zero while they lack nothing.
    /// While they are not written, the next opening after a crash reads more and more.
    pub checkpoints_behind_for: Duration,
    /// Requests that no background thread has come to yet: blocks, syncs, snapshots, retention. Where it goes on rising, there are
    /// too few of them, or the disk hangs. Without any nobody is asked.
    pub chores_waiting: u64,
    /// Bytes of removed segments that slices still hold.
    pub pinned_bytes: u64,
    /// Files that this process has mapped, of whichever directory, to be held against `vm.max_map_count`. Those of a disk of the
    /// host's own are not counted.
    pub mapped_files: u64,
}

impl LogDir {
    /// Counters and state of all partitions, and of the directory, for an operator.
    pub fn metrics(&self) -> LogDirMetrics {
        let inner = &self.inner;
        let environment = &inner.environment;
        let failed_partitions = self.failed().len() as u64;
        // Each of them waits for an append: not while a creation or deletion waits for the list.
        let logs = inner.logs();
        let mut sum = LogMetrics::default();
        logs.iter().for_each(|log| sum.add(&log.metrics()));
        LogDirMetrics {
            sum,
            partitions: logs.len() as u64,
            failed_partitions,
            checkpoints_behind_for: environment.checkpoints.behind_for(),
            chores_waiting: environment.queue.waiting() as u64,
            pinned_bytes: environment.removed.pinned_bytes(),
            mapped_files: mapped_files() as u64,
        }
    }
}
