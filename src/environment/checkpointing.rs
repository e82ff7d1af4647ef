//! Who writes a directory's checkpoint files, and for whom.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::panic::watched;
use crate::sync::Mutex;

/// Writes the recovery points and log starts of all partitions of a directory, when it is the caller's turn.
pub(crate) trait Checkpointer: Debug + Send + Sync {
    fn write_checkpoints(&self) -> Result<()>;
}

/// The checkpoint files of a directory. They tell of all its partitions, so one write does for all who ask until it begins.
#[derive(Debug, Default)]
pub(crate) struct Checkpointing {
    /// The directory, which writes them.
    checkpointer: OnceLock<Weak<dyn Checkpointer>>,
    /// Set when a recovery point or log start moved; taken by whoever writes.
    stale: AtomicBool,
    /// Since when the files have lacked something.
    behind_since: Mutex<Option<Instant>>,
    /// How many have asked for a write.
    asked: AtomicU64,
    /// Held by the one who writes.
    turn: Mutex<Turn>,
}

/// Which of those it was who have asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked(u64);

#[derive(Debug, Default)]
struct Turn {
    /// For how many of those who have asked, from the first on, something was written.
    served: u64,
    /// Whether the files may be another owner's by now.
    has_left: bool,
}

impl Checkpointing {
    /// Has the directory write them from now on. Until then nobody does.
    pub(crate) fn write_by(&self, checkpointer: Weak<dyn Checkpointer>) {
        let _ = self.checkpointer.set(checkpointer);
    }

    /// Notes that a partition has moved.
    pub(crate) fn set_stale(&self) {
        // Under the lock: a write in between would leave it behind with nothing to write.
        let mut behind_since = self.behind_since.lock();
        behind_since.get_or_insert_with(Instant::now);
        self.stale.store(true, Ordering::Release);
    }

    /// For how long the files have lacked something that moved since; zero while they lack nothing.
    pub(crate) fn behind_for(&self) -> Duration {
        self.behind_since.lock().map(|since| since.elapsed()).unwrap_or_default()
    }

    /// Waits for whoever writes. From here on nobody does.
    pub(crate) fn leave(&self) {
        self.turn.lock().has_left = true;
    }

    /// Writes the files, if a partition has moved since, and the directory still has a handle.
    pub(crate) fn write_if_stale(&self) -> Result<()> {
        if !self.stale.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.settle() {
            Err(Error::Closed) => Ok(()),
            written => written,
        }
    }

    /// Writes the files, if a partition has moved since: what they say is durable when this returns, whoever wrote it.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub(crate) fn settle(&self) -> Result<()> {
        // The turn comes first: whoever is still at it may fail.
        let mut turn = self.turn.lock();
        if self.stale.load(Ordering::Acquire) { self.write_in(&mut turn) } else { Ok(()) }
    }

    /// Sees that what was changed before the call is in the files, and durable.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the directory is closed or has no handle any more, and nobody writes them; the disk's.
    pub(crate) fn write(&self) -> Result<()> {
        self.write_asked(self.ask())
    }

    /// Asks for a write of what was changed before the call. It is made by [`write_asked`](Self::write_asked), or by whoever writes
    /// before that: many may ask before the first of them sees to it.
    pub(crate) fn ask(&self) -> Asked {
        Asked(self.asked.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Sees that what was changed before it was asked for is in the files, and durable.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub(crate) fn write_asked(&self, asked: Asked) -> Result<()> {
        let mut turn = self.turn.lock();
        if turn.served >= asked.0 { Ok(()) } else { self.write_in(&mut turn) }
    }

    fn write_in(&self, turn: &mut Turn) -> Result<()> {
        let Some(checkpointer) = self.checkpointer.get() else { return Ok(()) };
        // Before anything is looked at: what moves from here on is for the next.
        let (asked, began) = (self.asked.load(Ordering::Acquire), Instant::now());
        self.stale.store(false, Ordering::Release);
        let write = || match checkpointer.upgrade() {
            Some(checkpointer) if !turn.has_left => checkpointer.write_checkpoints(),
            _ => Err(Error::Closed),
        };
        let written = watched(write, || self.set_stale());
        match &written {
            Ok(()) => {
                turn.served = asked;
                let mut behind_since = self.behind_since.lock();
                *behind_since = self.stale.load(Ordering::Acquire).then_some(began);
            }
            Err(_) => self.set_stale(),
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;

    use super::*;

    /// Says when it begins, and ends as it is told.
    #[derive(Debug)]
    struct Files {
        begun: Mutex<Sender<()>>,
        end: Mutex<Receiver<Result<()>>>,
        writes: AtomicUsize,
    }

    impl Checkpointer for Files {
        fn write_checkpoints(&self) -> Result<()> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.begun.lock().send(()).unwrap();
            self.end.lock().recv().unwrap()
        }
    }

    /// Every one of a directory's partitions had all files written for itself, one after the other.
    #[test]
    fn many_who_ask_at_once_share_a_write_that_begins_afterwards() {
        let ((begins, begun), (end, ends)) = (channel(), channel());
        let (begun_by, end_by) = (Mutex::new(begins), Mutex::new(ends));
        let files = Arc::new(Files { begun: begun_by, end: end_by, writes: AtomicUsize::new(0) });
        let checkpoints = Checkpointing::default();
        checkpoints.write_by(Arc::<Files>::downgrade(&files) as Weak<dyn Checkpointer>);
        thread::scope(|scope| {
            let first = scope.spawn(|| checkpoints.write());
            begun.recv().unwrap();
            let others: Vec<_> = (0..20).map(|_| scope.spawn(|| checkpoints.write())).collect();
            while checkpoints.asked.load(Ordering::Relaxed) < 21 {
                thread::yield_now();
            }
            // What the first one writes may be from before the others' changes. And a write that fails serves nobody.
            for result in [Ok(()), Err(Error::Gone), Ok(())] {
                end.send(result).unwrap();
            }
            first.join().unwrap().unwrap();
            let failed = others.into_iter().filter_map(|other| other.join().unwrap().err()).count();
            assert_eq!(failed, 1);
        });
        assert_eq!(files.writes.load(Ordering::Relaxed), 3);
    }

    /// A disk that panicked had what was to be written taken for written.
    #[test]
    fn what_a_panic_kept_from_the_files_is_still_to_be_written() {
        #[derive(Debug)]
        struct Panics;
        impl Checkpointer for Panics {
            fn write_checkpoints(&self) -> Result<()> {
                std::panic::resume_unwind(Box::new("no disk"));
            }
        }
        let checkpoints = Checkpointing::default();
        let panics = Arc::new(Panics);
        checkpoints.write_by(Arc::<Panics>::downgrade(&panics) as Weak<dyn Checkpointer>);
        checkpoints.set_stale();
        for _ in 0..2 {
            let written = catch_unwind(AssertUnwindSafe(|| checkpoints.write_if_stale()));
            assert!(written.is_err(), "the second one writes again");
        }
    }
}
