//! The commit protocol under a model checker that tries one interleaving of the threads after the other: appenders that
//! wait or await, a truncator, workers that leave, and what ends a log. Run by `ci/model`.

use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use shuttle::{check_pct, check_random, thread};

use crate::environment::{Chore, Chores, Queue, Urgency, Worked};
use crate::error::{Error, IoError, Result};
use crate::log::commit::{Commit, End, Ticket};
use crate::log::options::Durability;
use crate::log::read::bound::{Bound, Wanted};
use crate::log::read::tail::Tail;
use crate::log::watermark::Watermarks;
use crate::sync::Mutex;
use crate::types::Offset;

/// What the log is to the commit: batches of one record, the disk's view of them, and the lock over appends.
#[derive(Debug)]
struct Model {
    commit: Commit,
    watermarks: Watermarks,
    /// What each offset holds: the number of the append. The append lock.
    log: Mutex<Vec<u64>>,
    /// What the disk has of it.
    disk: Mutex<Vec<u64>>,
    /// How many more syncs succeed.
    syncs_left: Mutex<u32>,
    queue: Queue,
    chores: Chores,
    itself: Weak<Self>,
}

impl Model {
    fn new(syncs: u32) -> Arc<Self> {
        Arc::new_cyclic(|itself: &Weak<Self>| Self {
            commit: Commit::default(),
            watermarks: Watermarks::new(Offset(0), Offset(0), Offset(0), Durability::Synced),
            log: Mutex::default(),
            disk: Mutex::default(),
            syncs_left: Mutex::new(syncs),
            queue: Queue::default(),
            chores: Chores::default(),
            itself: itself.clone(),
        })
    }

    /// Does something in a thread of its own.
    fn spawn(self: &Arc<Self>, act: impl FnOnce(&Self) + Send + 'static) -> thread::JoinHandle<()> {
        let model = Arc::clone(self);
        thread::spawn(move || act(&model))
    }

    /// Three who append, each with a number of its own.
    fn spawn_appenders(self: &Arc<Self>, append: fn(&Self, u64)) -> Vec<thread::JoinHandle<()>> {
        (0..3).map(|number| self.spawn(move |model| append(model, number))).collect()
    }

    /// Appends as `Shared::place_checked` does.
    fn append(&self, number: u64) -> Result<Ticket> {
        let mut log = self.log.lock();
        self.commit.check()?;
        log.push(number);
        self.watermarks.set_log_end(Offset(log.len() as i64));
        Ok(Ticket { target: Offset(log.len() as i64), generation: self.commit.generation() })
    }

    /// Syncs as `Shared::sync_appended` does: what was appended before it began.
    fn sync(&self) -> Result<Offset> {
        let end = self.watermarks.log_end();
        let mut left = self.syncs_left.lock();
        if *left == 0 {
            return Err(Error::Io(IoError::new(
                "sync",
                std::path::Path::new("f"),
                std::io::Error::other("broken"),
            )));
        }
        *left -= 1;
        let log = self.log_without_lock();
        *self.disk.lock() = log[..end.0 as usize].to_vec();
        Ok(end)
    }

    /// Syncing reads what is published, without the append lock.
    fn log_without_lock(&self) -> Vec<u64> {
        self.log.lock().clone()
    }

    fn truncate(&self, target: i64) {
        let paused = self.commit.pause();
        let mut log = self.log.lock();
        if target < log.len() as i64 {
            log.truncate(target as usize);
            self.disk.lock().truncate(target as usize);
            // What is left is durable: the truncation has synced it.
            *self.disk.lock() = log.clone();
            self.watermarks.truncate(Offset(target), Offset(target));
            paused.truncated(Offset(target));
        }
    }

    fn wait(&self, ticket: Ticket) -> Result<()> {
        self.commit.wait(ticket, &self.watermarks, || self.sync())
    }

    /// As `Shared::request_sync` does.
    fn request_sync(&self) -> bool {
        self.queue.request_awaited(&self.itself, &self.chores, Chore::Sync, || self.commit.wake_all())
    }

    /// An acknowledged append is on the disk at its offset, unless a truncation took it later.
    fn assert_stored(&self, number: u64, ticket: Ticket) {
        // With the append lock no truncation is half done.
        let _log = self.log.lock();
        let may_be_cut = self.commit.generation() != ticket.generation;
        let disk = self.disk.lock();
        let stored = disk.get(ticket.target.0 as usize - 1);
        assert!(stored == Some(&number) || may_be_cut, "{number} at {ticket:?}: {disk:?}");
    }
}

impl Worked for Model {
    fn work(&self, urgency: Urgency) {
        let later = || Waker::from(Arc::new(SyncLater(self.itself.clone())));
        if self.chores.take(urgency).includes(Chore::Sync) && !self.commit.wake_behind_sync(later) {
            self.commit.sync(&self.watermarks, || self.sync()).unwrap();
        }
    }
}

/// As that of the chores.
struct SyncLater(Weak<Model>);

impl Wake for SyncLater {
    fn wake(self: Arc<Self>) {
        let Some(model) = self.0.upgrade() else { return };
        if !model.request_sync() {
            model.commit.wake_all();
        }
    }
}

const ITERATIONS: usize = 20_000;
const DEPTH: usize = 4;

/// Both ways of choosing who goes on: at random, and so that bugs of a small depth are likely.
fn check(model: fn()) {
    check_random(model, ITERATIONS);
    check_pct(model, ITERATIONS, DEPTH);
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn whoever_waits_is_woken_with_its_batch_on_the_disk() {
    check(|| {
        let model = Model::new(u32::MAX);
        let appenders = model.spawn_appenders(|model, number| {
            for round in 0..2 {
                let number = number * 10 + round;
                let ticket = model.append(number).unwrap();
                model.wait(ticket).unwrap();
                model.assert_stored(number, ticket);
            }
        });
        join(appenders);
    });
}

/// Polls once, then blocks until it is woken.
fn block_on(model: &Model, ticket: Ticket) -> Result<()> {
    let mut place = None;
    shuttle::future::block_on(std::future::poll_fn(move |context| {
        model.commit.poll(ticket, &mut place, &model.watermarks, context.waker())
    }))
}

#[test]
fn a_future_is_woken_by_the_sync_that_covers_it() {
    check(|| {
        let model = Model::new(u32::MAX);
        let ticket = model.append(1).unwrap();
        let syncer = model.spawn(|model| model.commit.sync(&model.watermarks, || model.sync()).unwrap());
        let other = model.spawn(|model| {
            let ticket = model.append(2).unwrap();
            model.wait(ticket).unwrap();
        });
        block_on(&model, ticket).unwrap();
        model.assert_stored(1, ticket);
        join([syncer, other]);
    });
}

/// A worker that had found the queue closed was still counted for a moment, and who counted on it then waited for ever.
#[test]
fn nobody_waits_for_a_worker_that_has_left() {
    check(|| {
        let model = Model::new(u32::MAX);
        model.queue.enlist();
        let worker = model.spawn(|model| model.queue.run());
        let submitters = [1, 2].map(|number| model.spawn(move |model| submit_and_await(model, number)));
        model.queue.close();
        join([worker].into_iter().chain(submitters));
    });
}

/// A worker that finds somebody syncing goes on, and asks for a sync again behind that one. When the last worker had left by then,
/// nobody told those who counted on it.
#[test]
fn a_worker_that_leaves_a_sync_to_others_forgets_nobody() {
    for stays in [true, false] {
        let model = move || {
            let model = Model::new(u32::MAX);
            model.queue.enlist();
            let worker = model.spawn(|model| model.queue.run());
            let appender = model.spawn(|model| {
                let ticket = model.append(1).unwrap();
                model.wait(ticket).unwrap();
            });
            let submitter = model.spawn(|model| submit_and_await(model, 2));
            if stays {
                join([appender, submitter]);
                model.queue.close();
                join([worker]);
            } else {
                model.queue.close();
                join([appender, submitter, worker]);
            }
        };
        check_random(model, ITERATIONS);
        check_pct(model, ITERATIONS, DEPTH);
    }
}

fn submit_and_await(model: &Model, number: u64) {
    let ticket = model.append(number).unwrap();
    model.request_sync();
    let mut place = None;
    let awaited = shuttle::future::block_on(std::future::poll_fn(|context| {
        match model.commit.poll(ticket, &mut place, &model.watermarks, context.waker()) {
            Poll::Pending if !model.request_sync() => Poll::Ready(Err(Error::NoSyncer)),
            polled => polled,
        }
    }));
    match awaited {
        Ok(()) => model.assert_stored(number, ticket),
        Err(error) => assert!(matches!(error, Error::NoSyncer), "{error}"),
    }
}

#[test]
fn a_truncation_never_lets_a_batch_be_taken_for_another() {
    check(|| {
        let model = Model::new(u32::MAX);
        let appenders = model.spawn_appenders(|model, number| {
            let ticket = model.append(number).unwrap();
            match model.wait(ticket) {
                // A truncation may come between the answer and this look.
                Ok(()) => model.assert_stored(number, ticket),
                Err(Error::Truncated) => assert_ne!(model.commit.generation(), ticket.generation),
                Err(other) => panic!("{other}"),
            }
        });
        let truncator = model.spawn(|model| {
            model.truncate(1);
            model.truncate(0);
        });
        join(appenders.into_iter().chain([truncator]));
        assert_eq!(*model.disk.lock(), model.log.lock()[..model.watermarks.durable().0 as usize]);
    });
}

/// A sync that had read the log end before a truncation, and the generation behind it, waited for an end that was gone and that
/// nothing condemned: it synced again and again, for ever.
#[test]
fn a_sync_beside_a_truncation_comes_back() {
    check(|| {
        let model = Model::new(u32::MAX);
        let tickets = [model.append(1).unwrap(), model.append(2).unwrap()];
        let syncer = model.spawn(|model| model.commit.sync(&model.watermarks, || model.sync()).unwrap());
        let truncator = model.spawn(|model| model.truncate(1));
        join([syncer, truncator]);
        model.assert_stored(1, tickets[0]);
        assert_eq!(model.watermarks.durable(), model.watermarks.log_end());
    });
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_nobody_hangs() {
    check(|| {
        let model = Model::new(1);
        let appenders = model.spawn_appenders(|model, number| {
            let Ok(ticket) = model.append(number) else { return };
            match model.wait(ticket) {
                Ok(()) => model.assert_stored(number, ticket),
                Err(error) => assert!(matches!(error, Error::InDoubt), "{error}"),
            }
        });
        join(appenders);
        if model.commit.end().is_some() {
            assert!(matches!(model.append(9), Err(Error::Poisoned(_))));
        }
    });
}

#[test]
fn a_close_resolves_everybody() {
    check(|| {
        let model = Model::new(u32::MAX);
        let (first, second) = (model.append(1).unwrap(), model.append(2).unwrap());
        let closer = model.spawn(|model| {
            model.commit.finish(End::Closed);
            model.commit.wake_all();
        });
        let waiter = model.spawn(move |model| match model.wait(first) {
            Ok(()) => model.assert_stored(1, first),
            Err(error) => assert!(matches!(error, Error::InDoubt)),
        });
        let _ = block_on(&model, second);
        join([closer, waiter]);
        let polled = pin!(std::future::poll_fn(|context: &mut Context<'_>| {
            model.commit.poll(second, &mut None, &model.watermarks, context.waker())
        }));
        assert!(matches!(polled.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_)));
    });
}

/// Who waits at the tail for an offset, be it a thread or a future, hears of it, whoever else waits for another one, leaves, or
/// is told of a truncation.
#[test]
fn whoever_waits_at_the_tail_is_woken_when_it_has_come() {
    fn wait(model: &Model, tail: &Tail, offset: i64) {
        let wanted = Wanted { bound: Bound::LogEnd, offset: Offset(offset) };
        assert!(tail.wait(wanted, None, || model.watermarks.log_end() > wanted.offset));
    }
    check(|| {
        let (model, tail) = (Model::new(0), Arc::new(Tail::new()));
        let at_tail = |act: fn(&Model, &Tail)| {
            let tail = Arc::clone(&tail);
            model.spawn(move |model| act(model, &tail))
        };
        let threads = [
            at_tail(|model, tail| wait(model, tail, 0)),
            at_tail(|model, tail| wait(model, tail, 1)),
            at_tail(|_, tail| {
                let (wanted, mut number) = (Wanted { bound: Bound::LogEnd, offset: Offset::ZERO }, None);
                tail.register(wanted, &mut number, Waker::noop(), || false);
                tail.forget(wanted, number);
            }),
            at_tail(|_, tail| tail.notify_all()),
            at_tail(|model, tail| {
                for number in 0..2 {
                    model.append(number).unwrap();
                    tail.notify(|_| model.watermarks.log_end());
                }
            }),
        ];
        join(threads);
    });
}
