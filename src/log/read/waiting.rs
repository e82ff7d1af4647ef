//! Waiting for something to read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::log::read::bound::{Bound, Wanted};
use crate::log::{Log, Shared};
use crate::types::Offset;

impl Log {
    /// Waits until [`high_watermark`](Self::high_watermark) is above `offset`, at most for `timeout`. `false`: it is
    /// not yet. Returns at once when the log ends (closed, deleted, poisoned). Where a [truncation](Self::truncate_to) inside of
    /// a batch has left no records from `offset` to the high watermark, it waits for what comes behind.
    ///
    /// Who has to wait sleeps for some 70 us before it asks to be woken: to wake somebody costs an append a call of the
    /// kernel, and at the tail of a busy log the next batch is there by then. [`readable`](Self::readable) is woken at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use idemlog::{LogDir, LogDirOptions};
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// assert!(!log.wait_for(log.high_watermark(), Duration::from_millis(1)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn wait_for(&self, offset: Offset, timeout: Duration) -> bool {
        self.wait(Wanted { offset, bound: Bound::HighWatermark }, timeout)
    }

    /// The same for readers of committed records: waits until [`last_stable_offset`](Self::last_stable_offset) is above
    /// `offset`. While a transaction is open there may be records above it, which such a reader does not see.
    ///
    /// ```
    /// use std::time::Duration;
    /// use idemlog::{BatchBuilder, ControlRecord, LogDir, LogDirOptions, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    /// let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?;
    /// let from = log.append(&batch)?.base_offset();
    /// assert!(log.wait_for(from, Duration::ZERO));
    /// assert!(!log.wait_for_committed(from, Duration::from_millis(1)));
    ///
    /// log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 })?;
    /// assert!(log.wait_for_committed(from, Duration::ZERO));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn wait_for_committed(&self, offset: Offset, timeout: Duration) -> bool {
        self.wait(Wanted { offset, bound: Bound::LastStableOffset }, timeout)
    }

    /// The same for followers, and whoever else reads [to the log end](Self::read_to_log_end): waits until
    /// [`log_end_offset`](Self::log_end_offset) is above `offset`. The high watermark of a leader that replicates does not move
    /// before its followers have fetched, so who fetches for one of them must not wait for that.
    ///
    /// ```
    /// use std::time::Duration;
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// log.set_high_watermark(log.log_end_offset());
    /// let from = log.append(&BatchBuilder::new().record(b"k", b"v").build()?)?.base_offset();
    /// assert!(log.wait_for_log_end(from, Duration::ZERO));
    /// assert!(!log.wait_for(from, Duration::from_millis(1)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn wait_for_log_end(&self, offset: Offset, timeout: Duration) -> bool {
        self.wait(Wanted { offset, bound: Bound::LogEnd }, timeout)
    }

    fn wait(&self, wanted: Wanted, timeout: Duration) -> bool {
        let shared = &self.shared;
        let ready = || shared.has(wanted) || shared.commit.is_over();
        if !ready() {
            shared.tail.wait(wanted, Instant::now().checked_add(timeout), ready);
        }
        shared.has(wanted)
    }

    /// The same as [`wait_for`](Self::wait_for), as a future that resolves when there is something to read at `offset`,
    /// or the log has ended.
    pub fn readable(&self, offset: Offset) -> TailWait {
        TailWait::new(&self.shared, Wanted { offset, bound: Bound::HighWatermark })
    }

    /// The same as [`wait_for_committed`](Self::wait_for_committed), as a future that resolves when there is something
    /// committed to read at `offset`, or the log has ended.
    pub fn readable_committed(&self, offset: Offset) -> TailWait {
        TailWait::new(&self.shared, Wanted { offset, bound: Bound::LastStableOffset })
    }

    /// The same as [`wait_for_log_end`](Self::wait_for_log_end), as a future that resolves when something is stored at
    /// `offset`, whether consumers see it or not, or the log has ended.
    pub fn readable_to_log_end(&self, offset: Offset) -> TailWait {
        TailWait::new(&self.shared, Wanted { offset, bound: Bound::LogEnd })
    }
}

/// A future that resolves when there is something to read at its offset, or the log has ended. See
/// [`Log::readable`], [`Log::readable_committed`] and [`Log::readable_to_log_end`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct TailWait {
    shared: Arc<Shared>,
    wanted: Wanted,
    /// Where the tail keeps this future's waker.
    place: Option<u64>,
}

impl TailWait {
    fn new(shared: &Arc<Shared>, wanted: Wanted) -> Self {
        Self { shared: Arc::clone(shared), wanted, place: None }
    }
}

impl Future for TailWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { shared, wanted, place } = &mut *self;
        let ready = || shared.has(*wanted) || shared.commit.is_over();
        let is_ready = ready() || shared.tail.register(*wanted, place, context.waker(), ready);
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for TailWait {
    /// An appender need not wake who waits no longer.
    fn drop(&mut self) {
        self.shared.tail.forget(self.wanted, self.place);
    }
}
