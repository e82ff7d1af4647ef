//! The end of a directory: every partition is closed, and what others may own from then on is left alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::found::Failed;
use super::producers::{NamedProducers, ProducerIds};
use super::{Inner, LogDir, checkpoints, several};
use crate::environment::Reserve;
use crate::error::{Error, IoError, Result};
use crate::fs::atomic;
use crate::fs::name::directory_file;
use crate::log::Log;

/// How often the checkpoint files are written while partitions are closed: a process that is killed in the middle has those told
/// that were closed by then.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(1);

/// How far the closing of a directory has come, and what it came to.
#[derive(Debug, Default)]
pub(super) struct Closing {
    has_begun: AtomicBool,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The threads that the closing waits for, and that by which it is done.
    threads: Vec<ThreadId>,
    outcome: Option<Result<()>>,
}

impl Closing {
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Begins the closing, which will wait for `threads`. Where somebody else has begun it: what it came to, waiting for that.
    ///
    /// # Errors
    ///
    /// [`Error::Closing`] on a thread that the closing waits for.
    fn begin(&self, threads: impl FnOnce() -> Vec<ThreadId>) -> Option<Result<()>> {
        let this = thread::current().id();
        let mut state = self.state.lock();
        if !self.has_begun.swap(true, Ordering::AcqRel) {
            state.threads = threads();
            state.threads.push(this);
            return None;
        }
        if state.outcome.is_none() && state.threads.contains(&this) {
            return Some(Err(Error::Closing));
        }
        while state.outcome.is_none() {
            self.over.wait(&mut state);
        }
        state.outcome.clone()
    }

    /// Notes that the closing waits for the calling thread, too.
    fn take_part(&self) {
        let (this, mut state) = (thread::current().id(), self.state.lock());
        if !state.threads.contains(&this) {
            state.threads.push(this);
        }
    }

    fn end(&self, outcome: Result<()>) {
        self.state.lock().outcome = Some(outcome);
        self.over.notify_all();
    }
}

impl LogDir {
    /// Closes every partition, several at a time ([`recovery_threads`](crate::LogDirOptions::recovery_threads)), and marks the directory
    /// clean if all of them closed well, and none is among those that [`failed`](Self::failed) but for a
    /// [missing](crate::CorruptionKind::MissingPartition) one, so that the next opening reads next to nothing. Other handles get
    /// [`Error::Closed`] afterwards.
    ///
    /// Up to where each partition is on the disk is written down also where others did not close well, and about every second
    /// while they are closed. A crash before it returns takes nothing that was durable: the next opening recovers, unless the directory
    /// is marked already, and reads little of the partitions that were closed by then.
    ///
    /// Called again, it answers the same, and while another thread is at it, waits for that: whoever has an answer may exit.
    ///
    /// ```
    /// use idemlog::{LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let on_signal = std::thread::spawn({
    ///     let dir = dir.clone();
    ///     move || dir.close()
    /// });
    /// dir.close()?; // whichever of the two comes first
    /// on_signal.join().unwrap()?;
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The first partition's that did not close well; the directory is closed all the same, not marked clean, and the next
    /// opening recovers. A disk of the host's that panics makes it [`Error::Poisoned`] of a partition, or [`Error::Io`].
    /// [`Error::Closing`] on a thread that the closing itself waits for, as by a waker that is called in the middle of it, or on
    /// one of the background threads: it goes on behind it.
    pub fn close(&self) -> Result<()> {
        let inner = &self.inner;
        let background = || inner.threads.lock().iter().map(|thread| thread.thread().id()).collect();
        if let Some(outcome) = inner.closing.begin(background) {
            return outcome;
        }
        let started = Instant::now();
        let closed = unpanicking(&inner.path, || inner.close_all(CHECKPOINT_PAUSE));
        inner.let_go_of_threads();
        let written = unpanicking(&inner.path, || inner.write_end(&closed));
        let closed = closed.and(written);
        inner.leave_to_the_next_owner();
        *inner.environment.lock.lock() = None;
        inner.closing.end(closed.clone());
        inner.report_end(&closed, started.elapsed());
        closed
    }
}

impl Inner {
    /// Closes the partitions, so many at a time. The first error, in their order.
    fn close_all(&self, pause: Duration) -> Result<()> {
        // Whoever creates or deletes a partition finishes first, and nobody begins any more.
        drop(self.creating.lock());
        let pace = Pace { began: Instant::now(), pause, written: AtomicU64::new(0) };
        let logs = self.logs();
        let watched = self.options.watched(logs.len());
        several::each(&logs, self.options.closing_thread_count(), |log| {
            self.closing.take_part();
            let closed = close_one(log);
            // The host's panic must not keep the directory from being given back.
            let _ = catch_unwind(AssertUnwindSafe(|| watched.closed(log.name())));
            if pace.is_time() {
                self.write_stale_checkpoints();
            }
            closed
        })
    }

    /// Writes down how far the partitions have come that are closed. What fails here is done at the end, whose error counts.
    fn write_stale_checkpoints(&self) {
        if !self.options.read_only {
            let _ = unpanicking(&self.path, || self.environment.checkpoints.write_if_stale());
        }
    }

    fn let_go_of_threads(&self) {
        self.environment.queue.close();
        // A waker may close on one of the threads themselves. In a log that is closed it has nothing more to do.
        let this = thread::current().id();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads.into_iter().filter(|other| other.thread().id() != this) {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
    }

    /// Says on the disk how far each partition is there, whatever became of the others; and that all were closed well, if so.
    fn write_end(&self, closed: &Result<()>) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        self.environment.checkpoints.write()?;
        // Of one that is missing the next opening is to find the same.
        let others_closed_well = || self.failed.lock().values().all(Failed::is_missing);
        if closed.is_ok() && others_closed_well() { self.mark_clean() } else { Ok(()) }
    }

    /// Tells the host's subscriber what the closing came to.
    fn report_end(&self, closed: &Result<()>, _elapsed: Duration) {
        let _directory = self.path.display();
        match closed {
            Ok(()) => {
                event!(info, directory = %_directory, elapsed = ?_elapsed, "log directory closed");
            }
            Err(_error) => {
                event!(warn, directory = %_directory, elapsed = ?_elapsed, error = %_error, "log directory closed badly");
            }
        }
    }

    fn mark_clean(&self) -> Result<()> {
        let path = self.path.join(directory_file::CLEAN_SHUTDOWN);
        atomic::replace_file(&*self.options.disk, &path, checkpoints::clean_shutdown(-1).as_bytes())
    }

    /// Waits for whoever writes a file of the directory's. From here on nobody does: they may be another owner's soon.
    fn leave_to_the_next_owner(&self) {
        self.environment.checkpoints.leave();
        self.environment.reserve.iter().for_each(Reserve::leave);
        self.named_producers.iter().for_each(NamedProducers::leave);
        self.producer_ids.iter().for_each(ProducerIds::leave);
    }
}

/// When the checkpoints are to be written again.
struct Pace {
    began: Instant,
    pause: Duration,
    /// When they were last, in milliseconds since it began.
    written: AtomicU64,
}

impl Pace {
    /// Whether it is for the caller to write them, who holds nobody up with it.
    fn is_time(&self) -> bool {
        let (now, written) = (self.began.elapsed().as_millis() as u64, self.written.load(Ordering::Relaxed));
        u128::from(now - written.min(now)) >= self.pause.as_millis()
            && self.written.compare_exchange(written, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Closes a log. If the host's disk panics in it, the log is poisoned, and then ends without the disk.
fn close_one(log: &Log) -> Result<()> {
    catch_unwind(AssertUnwindSafe(|| log.close())).unwrap_or_else(|_| log.close())
}

/// Does `change`. A panic of the host's disk has said so, and must not keep a directory from being given back.
fn unpanicking<T>(path: &Path, change: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(change)).unwrap_or_else(|_| {
        let panicked = std::io::Error::other("the disk panicked");
        Err(Error::Io(IoError::new("close", path, panicked)))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;
    use crate::{BatchBuilder, LogDirOptions, Offset};

    /// The checkpoint files were written once, behind the last partition: a process that was killed when it had closed nearly
    /// all left none of them told, and the next opening read each.
    #[test]
    fn partitions_that_are_closed_are_told_while_others_are_not() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let disk = SimDisk::new(mode);
            let options = LogDirOptions::default().disk(Arc::new(disk.clone()));
            let dir = LogDir::open("/data", options.clone()).unwrap();
            let logs = ["a", "b"].map(|topic| dir.partition(topic, 0).unwrap());
            for log in &logs {
                log.append(&BatchBuilder::new().record("k", "v").build().unwrap()).unwrap();
            }
            dir.inner.close_all(Duration::ZERO).unwrap();
            let killed = disk.kill(disk.crash_points() - 1);
            let again = LogDir::open("/data", options.disk(Arc::new(killed))).unwrap();
            let report = again.partition("a", 0).unwrap().recovery().clone();
            assert!(!report.marked_clean, "{mode:?}");
            assert_eq!(report.recovery_point, Offset(1), "{mode:?}");
        }
    }
}
