//! Work that must not slow an append down, and who does it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Weak;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

/// Who has chores.
pub(crate) trait Worked: Debug + Send + Sync {
    /// Does everything that was asked for so far.
    fn work(&self);
}

/// Partitions that have chores, in the order in which they asked, each at most once.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wakeup: Condvar,
    /// How many threads are inside [`run`](Self::run).
    workers: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Weak<dyn Worked>>,
    closed: bool,
}

impl Queue {
    /// Whether anybody works on the queue, so that a request is enough.
    pub(crate) fn has_workers(&self) -> bool {
        self.workers.load(Ordering::Acquire) > 0
    }

    pub(crate) fn push(&self, partition: Weak<dyn Worked>) {
        self.state.lock().waiting.push_back(partition);
        self.wakeup.notify_one();
    }

    /// Counts the calling thread as a worker before it runs, so that nobody in between thinks that there is none.
    pub(crate) fn enlist(&self) {
        self.workers.fetch_add(1, Ordering::AcqRel);
    }

    /// Works until the queue is closed. The thread must have [`enlist`](Self::enlist)ed.
    pub(crate) fn run(&self) {
        while let Some(partition) = self.pop() {
            if let Some(partition) = partition.upgrade() {
                partition.work();
            }
        }
        self.workers.fetch_sub(1, Ordering::AcqRel);
    }

    fn pop(&self) -> Option<Weak<dyn Worked>> {
        let mut state = self.state.lock();
        loop {
            if let Some(partition) = state.waiting.pop_front() {
                return Some(partition);
            }
            if state.closed {
                return None;
            }
            self.wakeup.wait(&mut state);
        }
    }

    /// Lets the workers finish what is waiting, and return.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.wakeup.notify_all();
    }
}

/// One kind of work of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Chore {
    /// Blocks and pages ahead of the writer.
    Populate = 1,
    /// The next segment.
    Prepare = 2,
    /// Everything appended so far made durable.
    Sync = 4,
    /// Names, indexes and a snapshot for what was rolled.
    Seal = 8,
    /// A snapshot and a recovery point in the middle of a segment.
    Checkpoint = 16,
    /// Idle producers forgotten.
    Expire = 32,
    /// Old segments deleted.
    Retain = 64,
    /// The leader epochs written.
    LeaderEpochs = 128,
}

/// The chores asked of one partition and not yet begun.
#[derive(Debug, Default)]
pub(crate) struct Chores(AtomicU32);

impl Chores {
    /// Notes a request. `true` if it is new, and the partition must be pushed on the queue.
    pub(crate) fn request(&self, chore: Chore) -> bool {
        let stands = |requested: u32| requested & chore as u32 != 0;
        // Cheap when the request stands already, which is what an appender mostly finds.
        !stands(self.0.load(Ordering::Relaxed)) && !stands(self.0.fetch_or(chore as u32, Ordering::AcqRel))
    }

    /// Takes all requests; a later one pushes again.
    pub(crate) fn take(&self) -> Requested {
        Requested(self.0.swap(0, Ordering::AcqRel))
    }
}

/// A set of chores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requested(u32);

impl Requested {
    pub(crate) fn includes(self, chore: Chore) -> bool {
        self.0 & chore as u32 != 0
    }
}
