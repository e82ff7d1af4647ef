//! The end of a directory: every partition is closed, and what others may own from then on is left alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::producers::{NamedProducers, ProducerIds};
use super::{Inner, LogDir, checkpoints};
use crate::environment::Reserve;
use crate::error::Result;
use crate::fs::atomic;
use crate::fs::name::directory_file;
use crate::log::Log;

impl LogDir {
    /// Closes every partition, several at a time ([`recovery_threads`](crate::LogDirOptions::recovery_threads)), and marks the directory
    /// clean if all of them closed well, and none is among those that [`failed`](Self::failed), so that the next opening reads next to
    /// nothing. Other handles get [`Error::Closed`](crate::Error::Closed) afterwards.
    ///
    /// A crash before it returns takes nothing that was durable: the next opening recovers, unless the directory is marked already.
    ///
    /// # Errors
    ///
    /// The first partition's that did not close well; the directory is closed all the same, not marked clean, and the next
    /// opening recovers.
    pub fn close(&self) -> Result<()> {
        let inner = &self.inner;
        if inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Whoever creates or deletes a partition finishes first, and nobody begins any more.
        drop(inner.creating.lock());
        let partitions: Vec<Log> = inner.partitions.read().values().cloned().collect();
        let closed = close_all(&partitions, inner.options.closing_thread_count());
        inner.environment.queue.close();
        // A waker may close on one of the threads themselves. In a log that is closed it has nothing more to do.
        let this = thread::current().id();
        let threads = std::mem::take(&mut *inner.threads.lock());
        for thread in threads.into_iter().filter(|other| other.thread().id() != this) {
            // A thread that panicked has said so; there is nothing left to do for it.
            let _ = thread.join();
        }
        let marked = closed.and_then(|()| inner.say_closed_well());
        inner.leave_to_the_next_owner();
        *inner.environment.lock.lock() = None;
        marked
    }
}

impl Inner {
    /// Every partition closed well: says so on the disk.
    fn say_closed_well(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        self.environment.checkpoints.write()?;
        if self.failed.lock().is_empty() { self.mark_clean() } else { Ok(()) }
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

/// Closes the partitions, so many at a time. The first error, in their order.
fn close_all(partitions: &[Log], threads: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(BTreeMap::new());
    let close = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(log) = partitions.get(at)
        {
            if let Err(error) = log.close() {
                failed.lock().insert(at, error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(partitions.len()) {
            // Without it the others do its work.
            let _ = thread::Builder::new().spawn_scoped(scope, close);
        }
        close();
    });
    failed.into_inner().pop_first().map_or(Ok(()), |(_, error)| Err(error))
}
