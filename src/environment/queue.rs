//! Work that must not slow an append down, and who does it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;

use crate::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};

/// How many quick chores a worker that is alone does before one that is slow.
const QUICK_IN_A_ROW: u32 = 64;

/// Who has chores.
pub(crate) trait Worked: Debug + Send + Sync {
    /// Does everything of this kind that was asked for so far. If it panics, the panic goes no further than to the worker.
    fn work(&self, urgency: Urgency);
}

/// How long somebody can wait for a chore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// An appender or a future waits, or soon will.
    Quick,
    /// Nobody does; it may take seconds.
    Slow,
}

/// Partitions that have chores, in the order in which they asked, the quick ones first as long as slow ones come as well: a
/// synced log with a busy appender always has a quick one, and what is never sealed and never deleted fills the disk.
///
/// Where there are two workers or more, one of them is always free of slow chores: a fast appender would come to pages
/// that nobody has populated while all of them write snapshots.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wakeup: Condvar,
    /// How many threads are inside [`run`](Self::run).
    workers: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    quick: VecDeque<Weak<dyn Worked>>,
    slow: VecDeque<Weak<dyn Worked>>,
    /// How many workers are at slow chores.
    slow_workers: usize,
    /// How many quick ones were taken since the last slow one.
    quick_in_a_row: u32,
    closed: bool,
}

impl State {
    /// Of two workers or more, one is at slow chores as long as there are any; one that is alone is from time to time.
    fn pop(&mut self, workers: usize) -> Option<(Weak<dyn Worked>, Urgency)> {
        let may_be_slow = self.slow_workers + 1 < workers.max(2);
        let is_slow_due = self.slow_workers == 0 && (workers > 1 || self.quick_in_a_row >= QUICK_IN_A_ROW);
        if may_be_slow
            && (is_slow_due || self.quick.is_empty())
            && let Some(partition) = self.slow.pop_front()
        {
            self.slow_workers += 1;
            self.quick_in_a_row = 0;
            return Some((partition, Urgency::Slow));
        }
        let partition = self.quick.pop_front()?;
        self.quick_in_a_row = self.quick_in_a_row.saturating_add(1);
        Some((partition, Urgency::Quick))
    }
}

impl Queue {
    /// Whether anybody works on the queue, so that a request is enough.
    pub(crate) fn has_workers(&self) -> bool {
        self.workers.load(Ordering::SeqCst) > 0
    }

    /// How many requests wait for a worker.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.quick.len() + state.slow.len()
    }

    /// Whether there is a slow request that a worker will come to.
    pub(crate) fn has_slow(&self) -> bool {
        self.state.lock().slow.iter().any(|partition| partition.strong_count() > 0)
    }

    pub(crate) fn push(&self, partition: Weak<dyn Worked>, urgency: Urgency) {
        let mut state = self.state.lock();
        match urgency {
            Urgency::Quick => state.quick.push_back(partition),
            Urgency::Slow => state.slow.push_back(partition),
        }
        drop(state);
        self.wakeup.notify_one();
    }

    /// Asks for one of a partition's `chores`. Without workers, the request stands until there are some, or somebody does them.
    pub(crate) fn request(&self, partition: &Weak<impl Worked + 'static>, chores: &Chores, chore: Chore) {
        if let Some(urgency) = chores.request(chore)
            && self.has_workers()
        {
            self.push(partition.clone(), urgency);
        }
    }

    /// The same for what somebody waits for. `false` if there are no workers. `wake_all` is called if the last one has left
    /// meanwhile: others may count on what was asked for here.
    pub(crate) fn request_awaited(
        &self,
        partition: &Weak<impl Worked + 'static>,
        chores: &Chores,
        chore: Chore,
        wake_all: impl FnOnce(),
    ) -> bool {
        if !self.has_workers() {
            return false;
        }
        self.request(partition, chores, chore);
        let is_asked = self.has_workers();
        if !is_asked {
            wake_all();
        }
        is_asked
    }

    /// Counts the calling thread as a worker before it runs, so that nobody in between thinks that there is none. What was asked
    /// for before is for the caller to push ([`Chores::stand`]): of a request and a worker, whoever comes second sees the other.
    pub(crate) fn enlist(&self) {
        self.workers.fetch_add(1, Ordering::SeqCst);
    }

    /// Works until the queue is closed. The thread must have [`enlist`](Self::enlist)ed.
    pub(crate) fn run(&self) {
        while let Some((partition, urgency)) = self.pop() {
            if let Some(partition) = partition.upgrade() {
                // The partition has seen to itself, and the others still need the worker.
                let _ = catch_unwind(AssertUnwindSafe(|| partition.work(urgency)));
            }
            if urgency == Urgency::Slow {
                self.state.lock().slow_workers -= 1;
            }
        }
    }

    /// `None` when the queue is closed and nothing is left, or only what another worker comes to. The caller is no worker any
    /// more then: whoever pushes something later sees that it is not.
    fn pop(&self) -> Option<(Weak<dyn Worked>, Urgency)> {
        let mut state = self.state.lock();
        loop {
            let next = state.pop(self.workers.load(Ordering::Acquire));
            if next.is_some() {
                return next;
            }
            if state.closed {
                self.workers.fetch_sub(1, Ordering::SeqCst);
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
    Snapshot = 16,
    /// Idle producers forgotten.
    Expire = 32,
    /// Old segments deleted.
    Retain = 64,
    /// The leader epochs written.
    LeaderEpochs = 128,
    /// What an append lacks that does not wait.
    Room = 256,
}

impl Chore {
    fn urgency(self) -> Urgency {
        if QUICK & self as u32 != 0 { Urgency::Quick } else { Urgency::Slow }
    }
}

/// The chores that are [`Urgency::Quick`]. The next segment is one of them: an appender that is through half of its own in
/// less time than a snapshot takes would wait for that one to be written. (It waits for the sync of the segment before.)
const QUICK: u32 = Chore::Populate as u32 | Chore::Sync as u32 | Chore::Prepare as u32 | Chore::Room as u32;

/// The chores asked of one partition and not yet begun.
#[derive(Debug, Default)]
pub(crate) struct Chores(AtomicU32);

impl Chores {
    /// Notes a request. The answer is for whom it is new, and the partition must be pushed on the queue.
    pub(crate) fn request(&self, chore: Chore) -> Option<Urgency> {
        let stands = |requested: u32| requested & chore as u32 != 0;
        // Cheap when the request stands already, which is what an appender mostly finds.
        let is_new = !stands(self.0.load(Ordering::Relaxed))
            && !stands(self.0.fetch_or(chore as u32, Ordering::SeqCst));
        is_new.then(|| chore.urgency())
    }

    /// Whether there are requests of a kind.
    pub(crate) fn stand(&self, urgency: Urgency) -> bool {
        self.0.load(Ordering::SeqCst) & mask(urgency) != 0
    }

    /// Takes all requests of a kind; a later one pushes again.
    pub(crate) fn take(&self, urgency: Urgency) -> Requested {
        let mask = mask(urgency);
        Requested(self.0.fetch_and(!mask, Ordering::AcqRel) & mask)
    }
}

fn mask(urgency: Urgency) -> u32 {
    if urgency == Urgency::Quick { QUICK } else { !QUICK }
}

/// A set of chores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Requested(u32);

impl Requested {
    pub(crate) fn includes(self, chore: Chore) -> bool {
        self.0 & chore as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Says what it is at, and is at slow work until it is told to go on.
    #[derive(Debug)]
    struct Partition {
        at: Mutex<Sender<Urgency>>,
        go_on: Mutex<Receiver<()>>,
    }

    impl Worked for Partition {
        fn work(&self, urgency: Urgency) {
            self.at.lock().send(urgency).unwrap();
            if urgency == Urgency::Slow {
                self.go_on.lock().recv().unwrap();
            }
        }
    }

    fn partition() -> (Arc<Partition>, Receiver<Urgency>, Sender<()>) {
        let ((at, seen), (go, go_on)) = (channel(), channel());
        (Arc::new(Partition { at: Mutex::new(at), go_on: Mutex::new(go_on) }), seen, go)
    }

    fn push(queue: &Queue, partition: &Arc<Partition>, urgency: Urgency) {
        let partition: Weak<dyn Worked> = Arc::downgrade(partition) as Weak<dyn Worked>;
        queue.push(partition, urgency);
    }

    #[test]
    fn one_of_two_workers_is_free_of_slow_chores() {
        let queue = Queue::default();
        let (partition, seen, go) = partition();
        (0..2).for_each(|_| queue.enlist());
        thread::scope(|scope| {
            (0..2).for_each(|_| drop(scope.spawn(|| queue.run())));
            push(&queue, &partition, Urgency::Slow);
            push(&queue, &partition, Urgency::Slow);
            assert_eq!(seen.recv_timeout(SOON), Ok(Urgency::Slow));
            push(&queue, &partition, Urgency::Quick);
            assert_eq!(seen.recv_timeout(SOON), Ok(Urgency::Quick), "the second slow one waits");
            assert!(seen.recv_timeout(Duration::from_millis(20)).is_err());
            queue.close();
            (0..2).for_each(|_| go.send(()).unwrap());
            assert_eq!(
                seen.recv_timeout(SOON),
                Ok(Urgency::Slow),
                "the one that is closed finishes what waits"
            );
        });
        assert!(!queue.has_workers());
    }

    #[test]
    fn a_worker_that_is_alone_does_everything() {
        let queue = Queue::default();
        let (partition, seen, go) = partition();
        queue.enlist();
        (0..2).for_each(|_| go.send(()).unwrap());
        for urgency in [Urgency::Slow, Urgency::Quick, Urgency::Slow] {
            push(&queue, &partition, urgency);
        }
        queue.close();
        queue.run();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Urgency::Quick, Urgency::Slow, Urgency::Slow]);
    }
    /// Has more quick chores whenever one is done, as a synced log with a busy appender.
    #[derive(Debug)]
    struct Busy {
        queue: Arc<Queue>,
        itself: Weak<Self>,
        slow: Sender<()>,
        is_over: AtomicBool,
    }

    impl Worked for Busy {
        fn work(&self, urgency: Urgency) {
            match urgency {
                Urgency::Slow => self.slow.send(()).unwrap(),
                Urgency::Quick if self.is_over.load(Ordering::Relaxed) => {}
                Urgency::Quick => self.queue.push(self.itself.clone(), Urgency::Quick),
            }
        }
    }

    /// With more busy partitions than workers there was always something quick to do: nothing was sealed, no recovery point
    /// moved and no old segment went, until the disk was full.
    #[test]
    fn slow_chores_come_where_quick_ones_never_end() {
        for workers in [1, 2, 3] {
            let (queue, (slow, came)) = (Arc::new(Queue::default()), channel());
            let busy: Vec<_> = (0..2 * workers)
                .map(|_| {
                    Arc::new_cyclic(|itself| Busy {
                        queue: Arc::clone(&queue),
                        itself: Weak::clone(itself),
                        slow: slow.clone(),
                        is_over: AtomicBool::new(false),
                    })
                })
                .collect();
            (0..workers).for_each(|_| queue.enlist());
            let push = |urgency| busy.iter().for_each(|one| queue.push(one.itself.clone(), urgency));
            push(Urgency::Quick);
            let came = thread::scope(|scope| {
                (0..workers).for_each(|_| drop(scope.spawn(|| queue.run())));
                push(Urgency::Slow);
                let came = busy.iter().filter(|_| came.recv_timeout(SOON).is_ok()).count();
                busy.iter().for_each(|one| one.is_over.store(true, Ordering::Relaxed));
                queue.close();
                came
            });
            assert_eq!(came, busy.len(), "{workers} workers");
        }
    }

    /// Who waits for quick ones would notice a slow one in between.
    #[test]
    fn a_worker_that_is_alone_does_many_quick_chores_before_a_slow_one() {
        let mut state = State::default();
        let nobody = || Weak::<Partition>::new() as Weak<dyn Worked>;
        (0..100).for_each(|_| state.quick.push_back(nobody()));
        (0..2).for_each(|_| state.slow.push_back(nobody()));
        let order: Vec<_> = std::iter::from_fn(|| {
            let (_, urgency) = state.pop(1)?;
            state.slow_workers = 0;
            Some(urgency)
        })
        .collect();
        let slow: Vec<_> = (0..order.len()).filter(|&at| order[at] == Urgency::Slow).collect();
        assert_eq!(slow, [64, 101]);
    }
}
