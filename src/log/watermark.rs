//! The offsets that divide a partition, in their order:
//!
//! ```text
//!  log start offset   <=   high watermark   <=   log end offset
//!  |                       |                     |
//!  |  readers see these    |  appended, not yet  |  the next record's offset
//!
//!  durable offset: everything below survives the loss of power; anywhere up to the log end
//! ```

use super::Log;
use super::options::Durability;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use crate::types::Offset;

/// Each stored with release and loaded with acquire: who sees an offset sees the bytes below it.
#[derive(Debug)]
pub(crate) struct Watermarks {
    log_start: AtomicI64,
    durable: AtomicI64,
    log_end: AtomicI64,
    /// Set by a replicating host; -1 until then.
    high_watermark: AtomicI64,
    /// Whether readers wait for the disk, without a host that says how far they may see.
    synced: AtomicBool,
    /// Where the log ended when readers came to wait for the disk. They had seen it, and are not sent back.
    seen: AtomicI64,
    /// The high watermark in the checkpoint that the log was opened with; -1 for none. Only handed out and written again.
    checkpointed_high_watermark: AtomicI64,
    /// After a truncation to the middle of a batch: where the last batch left ends, and the log end. No batch ends in
    /// between, and the offsets between them are not in any file.
    gap: Mutex<(Offset, Offset)>,
    /// The log start offset that checkpoints are to have already; -1 for the one that readers see.
    announced_start: AtomicI64,
    /// After a failed sync: what is above the durable offset may have been dropped by the kernel.
    poisoned: AtomicBool,
}

impl Watermarks {
    pub(crate) fn new(log_start: Offset, durable: Offset, log_end: Offset, durability: Durability) -> Self {
        Self {
            log_start: AtomicI64::new(log_start.0),
            durable: AtomicI64::new(durable.0),
            log_end: AtomicI64::new(log_end.0),
            high_watermark: AtomicI64::new(-1),
            synced: AtomicBool::new(durability == Durability::Synced),
            seen: AtomicI64::new(0),
            checkpointed_high_watermark: AtomicI64::new(-1),
            gap: Mutex::new((Offset::ZERO, Offset::ZERO)),
            announced_start: AtomicI64::new(-1),
            poisoned: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn durable(&self) -> Offset {
        Offset(self.durable.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// What can be read at all: everything, or what is durable after a failed sync.
    #[inline]
    pub(crate) fn readable_end(&self) -> Offset {
        if self.poisoned.load(Ordering::Acquire) { self.durable() } else { self.log_end() }
    }

    /// What readers see: up to here, exclusive.
    #[inline]
    pub(crate) fn high_watermark(&self) -> Offset {
        // First: if readers do not wait for the disk behind this look, what they come to wait behind lies no lower.
        let end = self.readable_end();
        let set = self.high_watermark.load(Ordering::Acquire);
        if set >= 0 {
            Offset(set).min(end)
        } else if self.synced.load(Ordering::Acquire) {
            self.durable().max(self.seen()).min(end)
        } else {
            end
        }
    }

    #[inline]
    fn seen(&self) -> Offset {
        Offset(self.seen.load(Ordering::Acquire))
    }

    /// Under the append lock.
    pub(crate) fn set_durability(&self, durability: Durability) {
        if durability == Durability::Buffered {
            self.synced.store(false, Ordering::Release);
        } else if !self.synced.load(Ordering::Acquire) {
            self.seen.fetch_max(self.log_end().0, Ordering::AcqRel);
            self.synced.store(true, Ordering::Release);
        }
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.0, Ordering::Release);
    }

    /// Moves the durable offset up. Called under the commit lock.
    pub(crate) fn raise_durable(&self, offset: Offset) {
        self.durable.fetch_max(offset.0, Ordering::AcqRel);
    }

    /// Takes over what the host says, within the log's bounds. Under the append lock, so that they stay meanwhile.
    pub(crate) fn set_high_watermark(&self, offset: Offset) {
        let within = offset.min(self.log_end()).max(self.log_start());
        self.high_watermark.store(within.0, Ordering::Release);
    }

    /// Keeps what the checkpoint said when the log was opened, as far as the log reaches.
    pub(crate) fn keep_checkpointed(&self, offset: Option<Offset>) {
        let within = |offset: Offset| offset.max(self.log_start()).min(self.log_end()).0;
        self.checkpointed_high_watermark.store(offset.map_or(-1, within), Ordering::Release);
    }

    pub(crate) fn checkpointed_high_watermark(&self) -> Option<Offset> {
        Some(Offset(self.checkpointed_high_watermark.load(Ordering::Acquire))).filter(|offset| offset.0 >= 0)
    }

    /// Whether the host has set the high watermark. Otherwise it follows the durable offset or the log end.
    pub(crate) fn is_high_watermark_set(&self) -> bool {
        self.high_watermark.load(Ordering::Acquire) >= 0
    }

    /// The high watermark for the checkpoint: the host's, or as it was.
    pub(crate) fn high_watermark_to_checkpoint(&self) -> Option<Offset> {
        if self.is_high_watermark_set() {
            Some(self.high_watermark())
        } else {
            self.checkpointed_high_watermark()
        }
    }

    /// Lowers the high watermark, before what lies above `offset` is cut.
    pub(crate) fn lower_high_watermark(&self, offset: Offset) {
        self.high_watermark.fetch_min(offset.0, Ordering::AcqRel);
        self.seen.fetch_min(offset.0, Ordering::AcqRel);
        self.checkpointed_high_watermark.fetch_min(offset.0, Ordering::AcqRel);
    }

    /// Raises the log start offset, and with it a high watermark that the host has set below. Under the append lock.
    pub(crate) fn raise_log_start(&self, offset: Offset) {
        if self.high_watermark.load(Ordering::Acquire) >= 0 {
            self.high_watermark.fetch_max(offset.0, Ordering::AcqRel);
        }
        self.log_start.fetch_max(offset.0, Ordering::AcqRel);
    }

    /// Ends the log at `end`, all of it durable. The last batch ends at `last_batch_end`. Under the append lock.
    ///
    /// From the lowest offset up, so that nobody sees one above the next.
    pub(crate) fn truncate(&self, last_batch_end: Offset, end: Offset) {
        self.log_start.fetch_min(end.0, Ordering::AcqRel);
        self.lower_high_watermark(end);
        self.durable.fetch_min(end.0, Ordering::AcqRel);
        *self.gap.lock() = (last_batch_end, end);
        self.set_log_end(end);
        self.durable.store(end.0, Ordering::Release);
    }

    /// Begins an empty log at `start`. Under the append lock.
    pub(crate) fn start_over(&self, start: Offset) {
        self.truncate(start, start);
        self.raise_log_start(start);
    }

    /// Has checkpoints say that the log begins at `start`, before it does.
    pub(crate) fn announce_start(&self, start: Option<Offset>) {
        self.announced_start.store(start.map_or(-1, |start| start.0), Ordering::Release);
    }

    /// The log start offset for the checkpoint.
    pub(crate) fn checkpointed_start(&self) -> Offset {
        match self.announced_start.load(Ordering::Acquire) {
            announced if announced >= 0 => Offset(announced),
            _ => self.log_start(),
        }
    }

    /// The end of the last batch that lies below `point`, which is that of a batch or a log end: what a recovery point
    /// may be, and below which readers find all there is. Opening the log finds its end there, if nothing comes behind.
    pub(crate) fn batch_end_at(&self, point: Offset) -> Offset {
        let (last_batch_end, end) = *self.gap.lock();
        if last_batch_end < point && point <= end { last_batch_end } else { point }
    }
}

impl Log {
    /// Below this offset readers see everything: the durable offset under [`Durability::Synced`] (or what they saw already when the
    /// log came to be so), the log end offset under [`Durability::Buffered`], or what
    /// [`set_high_watermark`](Self::set_high_watermark) said.
    pub fn high_watermark(&self) -> Offset {
        self.shared.watermarks.high_watermark()
    }

    /// The high watermark in the checkpoint that the log was opened with, within the log's bounds. `None` if there is none.
    ///
    /// It is never applied by itself. A host that replicates the log passes it to
    /// [`set_high_watermark`](Self::set_high_watermark); it is written to the checkpoint again from then on, whenever the
    /// recovery points are, and at a close.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"k1", b"v").record(b"k2", b"v").build()?)?;
    /// log.set_high_watermark(Offset(1));
    /// dir.close()?;
    ///
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// assert_eq!(log.high_watermark(), Offset(2));
    /// assert_eq!(log.checkpointed_high_watermark(), Some(Offset(1)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn checkpointed_high_watermark(&self) -> Option<Offset> {
        self.shared.watermarks.checkpointed_high_watermark()
    }

    /// Takes over the high watermark: from the first call on it is what the host says, as a host does that replicates
    /// the log. Taken within the log's bounds at this moment, from the log start offset to the log end offset; a lower one than
    /// before is taken, too.
    ///
    /// It is written with the next checkpoint, and at a close: a crash leaves the one written last, which
    /// [`checkpointed_high_watermark`](Self::checkpointed_high_watermark) hands out behind the next opening.
    pub fn set_high_watermark(&self, offset: Offset) {
        let appender = self.shared.appender.lock();
        // A truncation in between would leave it above the new end, and what is appended there would be seen at once.
        self.shared.watermarks.set_high_watermark(offset);
        drop(appender);
        self.shared.notify_tail();
    }

    /// The high watermark for the checkpoint, if it is to have one.
    pub(crate) fn high_watermark_to_checkpoint(&self) -> Option<Offset> {
        self.shared.watermarks.high_watermark_to_checkpoint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(watermarks: &Watermarks) -> (i64, i64, i64, i64) {
        let (start, high) = (watermarks.log_start(), watermarks.high_watermark());
        (start.0, high.0, watermarks.durable().0, watermarks.log_end().0)
    }

    #[test]
    fn a_truncation_lowers_all_that_lies_above() {
        let watermarks = Watermarks::new(Offset(10), Offset(80), Offset(100), Durability::Synced);
        watermarks.set_high_watermark(Offset(50));
        watermarks.truncate(Offset(58), Offset(60));
        assert_eq!(axis(&watermarks), (10, 50, 60, 60), "all of what is left is durable");
        watermarks.truncate(Offset(5), Offset(5));
        assert_eq!(axis(&watermarks), (5, 5, 5, 5));
    }

    /// A truncation that failed left the high watermark below the log start offset.
    #[test]
    fn a_log_never_starts_above_a_high_watermark_that_was_set() {
        let watermarks = Watermarks::new(Offset(10), Offset(80), Offset(100), Durability::Synced);
        watermarks.set_high_watermark(Offset(50));
        watermarks.lower_high_watermark(Offset(5));
        watermarks.raise_log_start(Offset(10));
        assert_eq!(axis(&watermarks), (10, 10, 80, 100));
    }

    #[test]
    fn a_log_starts_over_below_and_above() {
        for (set, start) in
            [(None, 3), (None, 30), (None, 300), (Some(50), 3), (Some(50), 60), (Some(50), 300)]
        {
            let watermarks = Watermarks::new(Offset(10), Offset(80), Offset(100), Durability::Synced);
            if let Some(offset) = set {
                watermarks.set_high_watermark(Offset(offset));
            }
            watermarks.start_over(Offset(start));
            assert_eq!(axis(&watermarks), (start, start, start, start), "{set:?}");
        }
    }

    #[test]
    fn a_recovery_point_never_lies_where_no_batch_ends() {
        let watermarks = Watermarks::new(Offset(0), Offset(80), Offset(100), Durability::Synced);
        watermarks.truncate(Offset(40), Offset(45));
        for (point, expected) in [(30, 30), (40, 40), (41, 40), (45, 40), (46, 46)] {
            assert_eq!(watermarks.batch_end_at(Offset(point)), Offset(expected), "{point}");
        }
        watermarks.truncate(Offset(20), Offset(20));
        assert_eq!(watermarks.batch_end_at(Offset(45)), Offset(45));
    }
}
