//! Checkpoints that somebody asks for, and snapshots that an opening calls for: the recovery point comes to the log end, and the next opening
//! has next to nothing to read.

use super::{Log, LogOptions, RecoveryReport, Shared};
use crate::environment::Chore;
use crate::error::Result;

/// How many bytes an opening counts as appended since the last snapshot: what it has read, which the next one reads again unless there
/// is another before. From a quarter of the interval on it calls for one: an idle partition comes to it, too, and crashes in a row
/// have no opening read more and more.
pub(super) fn bytes_behind(report: &RecoveryReport, options: &LogOptions) -> u64 {
    let interval = options.snapshot_interval_bytes;
    match report.bytes_read {
        _ if report.marked_clean => 0,
        read if read > interval / 4 => interval.max(read),
        read => read,
    }
}

impl Log {
    /// Has the next opening read next to nothing of what was appended so far, as a [`close`](Self::close) does, while the log goes on:
    /// syncs it, writes indexes and a snapshot, moves the [recovery point](Self::recovery_point) to the log end, and writes that down,
    /// durably. For a planned restart whose grace period may be short, or every ten minutes: by itself a partition comes to it only after
    /// [`snapshot_interval_bytes`](crate::LogOptions::snapshot_interval_bytes), which a slow one takes months for. Costs nothing where
    /// nothing was appended since.
    ///
    /// A crash in the middle leaves the recovery point where it was.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// log.checkpoint()?;
    /// drop((log, dir)); // not closed: as after a crash
    ///
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// assert_eq!(dir.partition("orders", 0)?.recovery().recovery_point, Offset(1));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`sync`](Self::sync); the disk's, where the log goes on, and an opening may read more.
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    pub fn checkpoint(&self) -> Result<()> {
        self.checkpoint_untold()?;
        self.shared.environment.checkpoints.settle()
    }

    /// The same but for the checkpoint files, which tell of all partitions at once.
    pub(crate) fn checkpoint_untold(&self) -> Result<()> {
        let shared = &self.shared;
        shared.check_writable()?;
        if shared.recovery_point() < shared.watermarks.log_end() {
            shared.change(|| shared.snapshot_appended())
        } else {
            Ok(())
        }
    }
}

impl Shared {
    /// Asks for a snapshot that an opening calls for. Without workers the next append comes to it.
    pub(super) fn request_due_snapshot(&self) {
        let is_due = self.appender.lock().since_snapshot >= self.options().snapshot_interval_bytes;
        if is_due && !self.environment.read_only {
            self.request(Chore::Snapshot);
        }
    }

    /// A snapshot of what was appended so far, and the recovery point behind it. What is appended from here on counts for the next one.
    pub(super) fn snapshot_appended(&self) -> Result<()> {
        self.appender.lock().since_snapshot = 0;
        self.take_snapshot()
    }
}
