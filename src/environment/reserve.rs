//! Blocks of the disk that are kept for those who make room: before anything is deleted, what is about to go is written down.
//!
//! They lie in a file that holds nothing. It is emptied for a deletion that finds the disk full, and gets its blocks back before
//! any appender gets some: one would have taken them before the deletion came to it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use crate::error::{Error, IoContext, Result};
use crate::fs::{Access, Disk, DiskFile};
use crate::sync::Mutex;

/// Enough for the checkpoint files of some ten thousand partitions.
const SIZE: u64 = 1 << 20;

/// The blocks that a log directory keeps. They hold nothing, so a crash may leave any of them.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Whether the blocks are there. Looked at without a lock.
    is_there: AtomicBool,
    state: Mutex<State>,
    /// Held by the one who has them. Nobody waits for it.
    turn: Mutex<()>,
}

#[derive(Debug)]
enum State {
    /// They are there, or are to be.
    Kept,
    /// A thread has them, because of this error.
    Lent(ThreadId, Error),
    /// They may be another owner's.
    Left,
}

/// The reserve is lent as long as this lives.
struct Lent<'a>(&'a Reserve);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if matches!(*state, State::Lent(..)) {
            *state = State::Kept;
            // Where there is still no room, whoever asks for blocks next tries again. A disk that panics would end the process.
            if !thread::panicking() {
                let _ = self.0.make();
            }
        }
    }
}

impl Reserve {
    /// One that has nothing yet.
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let (is_there, state, turn) = (AtomicBool::new(false), Mutex::new(State::Kept), Mutex::new(()));
        Self { disk, path, is_there, state, turn }
    }

    /// Sees that the reserve is there. Comes before blocks are given to anybody.
    ///
    /// # Errors
    ///
    /// A full disk's; its answer to who has the reserve now, as no other thread may take what that one is to have.
    pub(crate) fn keep(&self) -> Result<()> {
        if self.is_there.load(Ordering::Acquire) {
            return Ok(());
        }
        match &*self.state.lock() {
            // Only a full disk keeps appenders from what there is.
            State::Kept => match self.make() {
                Err(error) if error.is_full_disk() => Err(error),
                _ => Ok(()),
            },
            State::Lent(to, full) if *to != thread::current().id() => Err(full.clone()),
            State::Lent(..) | State::Left => Ok(()),
        }
    }

    /// Whether somebody has the reserve, which is small.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(*self.state.lock(), State::Lent(..))
    }

    /// Does what makes room in the end: where the disk is full, once more, with the reserve. If somebody else has that, it can be
    /// tried again.
    pub(crate) fn lend<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(full) if full.is_full_disk() => self.lend_for(full, work),
            done => done,
        }
    }

    /// Nobody waits for who has it: that one calls wakers, which are the host's, and may wait for this thread.
    fn lend_for<T>(&self, full: Error, work: impl Fn() -> Result<T>) -> Result<T> {
        if matches!(*self.state.lock(), State::Lent(to, _) if to == thread::current().id()) {
            return work();
        }
        let Some(_turn) = self.turn.try_lock() else { return Err(full) };
        let _lent = self.hand_out(full)?;
        work()
    }

    /// Waits for whoever makes or empties the file. From here on nobody does.
    pub(crate) fn leave(&self) {
        *self.state.lock() = State::Left;
    }

    fn hand_out(&self, full: Error) -> Result<Lent<'_>> {
        let mut state = self.state.lock();
        if matches!(*state, State::Left) {
            return Err(full);
        }
        self.is_there.store(false, Ordering::Release);
        self.empty()?;
        *state = State::Lent(thread::current().id(), full);
        Ok(Lent(self))
    }

    /// Gives the blocks back to the file system. Not by removing the file: that some do later, when they come to it.
    fn empty(&self) -> Result<()> {
        match self.disk.open(&self.path, Access::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            opened => {
                let file = opened.at("open", &self.path)?;
                file.set_len(0).and_then(|()| file.sync()).at("empty", &self.path)
            }
        }
    }

    /// The caller holds the state.
    fn make(&self) -> Result<()> {
        let file = self.open()?;
        let made = file.allocate(0, SIZE);
        if made.is_err() {
            // What it got in part is of more use to those who make room.
            let _ = file.set_len(0);
        }
        self.is_there.store(made.is_ok(), Ordering::Release);
        made.at("allocate", &self.path)
    }

    fn open(&self) -> Result<Arc<dyn DiskFile>> {
        match self.disk.open(&self.path, Access::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.disk.open(&self.path, Access::CreateNew).at("create", &self.path)
            }
            opened => opened.at("open", &self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;

    const FILE: &str = "/reserve";

    fn reserve(disk: &SimDisk) -> Reserve {
        Reserve::new(Arc::new(disk.clone()), FILE.into())
    }

    fn blocks(disk: &SimDisk) -> u64 {
        disk.open(Path::new(FILE), Access::Read).unwrap().len().unwrap()
    }

    fn full() -> Error {
        Err::<(), _>(std::io::Error::from(ErrorKind::StorageFull))
            .at("write", Path::new("/checkpoint"))
            .unwrap_err()
    }

    fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn what_finds_the_disk_full_is_done_again_with_the_reserve_and_nobody_else_has_it() {
        let disk = SimDisk::new(IoMode::Write);
        let reserve = reserve(&disk);
        reserve.keep().unwrap();
        assert_eq!(blocks(&disk), SIZE);
        let done = reserve.lend(|| {
            if blocks(&disk) > 0 {
                return Err(full());
            }
            reserve.keep().unwrap();
            let refused = elsewhere(|| reserve.keep()).unwrap_err();
            assert!(refused.is_full_disk() && refused.to_string().contains("/checkpoint"), "{refused}");
            Ok(blocks(&disk))
        });
        assert_eq!(done.unwrap(), 0);
        assert_eq!(blocks(&disk), SIZE);
        elsewhere(|| reserve.keep()).unwrap();
    }

    #[test]
    fn nobody_gets_blocks_before_the_reserve_has_its_own_again() {
        let disk = SimDisk::new(IoMode::Write);
        let reserve = reserve(&disk);
        disk.set_capacity(Some(4096));
        assert!(reserve.keep().unwrap_err().is_full_disk());
        assert!(reserve.lend(|| Err::<(), _>(full())).is_err());
        assert!(reserve.keep().unwrap_err().is_full_disk());
        assert_eq!(blocks(&disk), 0);
        disk.set_capacity(None);
        reserve.keep().unwrap();
        assert_eq!(blocks(&disk), SIZE);
    }

    #[test]
    fn a_reserve_of_a_directory_that_is_closed_is_left_alone() {
        let disk = SimDisk::new(IoMode::Write);
        let reserve = reserve(&disk);
        reserve.keep().unwrap();
        reserve.leave();
        assert!(reserve.lend(|| Err::<(), _>(full())).is_err());
        assert_eq!(blocks(&disk), SIZE);
    }

    #[test]
    fn a_panic_does_not_keep_the_reserve() {
        let disk = SimDisk::new(IoMode::Write);
        let reserve = reserve(&disk);
        let panicked = elsewhere(|| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let calls = AtomicBool::new(false);
                let work = || {
                    if calls.swap(true, Ordering::Relaxed) {
                        panic!("a disk of the host's")
                    } else {
                        Err(full())
                    }
                };
                reserve.lend::<()>(work)
            }))
            .is_err()
        });
        assert!(panicked);
        reserve.keep().unwrap();
        assert_eq!(blocks(&disk), SIZE);
    }
}
