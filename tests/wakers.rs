//! What a host's wakers and futures may do: wake by calling the log, and be dropped.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{batch, options, plain};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    AppendOptions, AppendOutcome, BatchBuilder, Disk, Error, IoMode, Log, LogDir, Offset, Producer,
    ProducerEpoch, Sequence, TailWait,
};
use parking_lot::Mutex;

/// Longer than anything takes that does not hang.
const SOON: Duration = Duration::from_secs(30);
/// Where the log ends at first.
const END: Offset = Offset(1);

/// A log of one batch.
fn open() -> (SimDisk, LogDir, Log) {
    let disk = SimDisk::new(IoMode::Mapped);
    let dir = LogDir::open(Path::new("/data"), options(IoMode::Mapped).disk(Arc::new(disk.clone()))).unwrap();
    let log = dir.partition("t", 0).unwrap();
    log.append(&plain("first")).unwrap();
    (disk, dir, log)
}

/// Wakes as an executor does that runs a task at once, on the thread that wakes it: the task appends, reads and looks at
/// the producers.
struct AtOnce {
    log: Log,
    woken: Mutex<Sender<()>>,
}

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        // Each of these may be refused, if the log has ended.
        let _ = self.log.append(&plain("woken"));
        let _ = self.log.read(self.log.log_start_offset(), 1 << 20);
        let _ = self.log.producers();
        let _ = self.woken.lock().send(());
    }
}

/// The commit called wakers with its lock held, and a truncation with the append lock: who was woken, and called the log
/// at once, waited for itself.
#[test]
fn a_waker_may_call_the_log_whatever_it_is_woken_by() {
    type Act = fn(&SimDisk, &LogDir, &Log);
    let acts: [(&str, Act); 6] = [
        ("a sync", |_, _, log| log.sync().unwrap()),
        ("an append", |_, _, log| assert_eq!(log.append(&plain("waits")).unwrap().base_offset(), Offset(2))),
        ("a truncation", |_, _, log| assert!(log.truncate_to(END).unwrap())),
        ("a new start", |_, _, log| log.truncate_fully(Offset(9)).unwrap()),
        ("a failed sync", |disk, _, log| {
            disk.inject(Fault::nth(Operation::Sync, 1));
            assert!(matches!(log.sync(), Err(Error::Poisoned(_))));
        }),
        ("the end", |_, dir, _| dir.close().unwrap()),
    ];
    for (name, act) in acts {
        let (done, is_done) = channel();
        let (woken, is_woken) = channel();
        std::thread::spawn(move || {
            let (disk, dir, log) = open();
            let waker = Waker::from(Arc::new(AtOnce { log: log.clone(), woken: Mutex::new(woken) }));
            let mut context = Context::from_waker(&waker);
            let mut pending = pin!(log.submit(&[batch(1, 0, 0, 1)], AppendOptions::default()).unwrap());
            // Nobody syncs, as there are no workers; the waker is kept all the same.
            let polled = pending.as_mut().poll(&mut context);
            assert!(matches!(polled, Poll::Ready(Err(Error::NoSyncer))), "{polled:?}");
            let mut readable = pin!(log.readable(END));
            assert!(readable.as_mut().poll(&mut context).is_pending());
            act(&disk, &dir, &log);
            done.send(()).unwrap();
        });
        assert!(is_done.recv_timeout(SOON).is_ok(), "{name}");
        assert!(is_woken.try_iter().count() >= 2, "{name} wakes both");
    }
}

/// A closing that was overtaken by another, of a second thread or of a waker in the middle of it, found the log closed, took that
/// for its own failure, and left the directory without the marker of a clean shutdown.
#[test]
fn a_waker_may_close_the_log_whose_closing_wakes_it() {
    struct Closes(Log);
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            self.0.close().unwrap();
        }
    }
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let (disk, dir, log) = open();
        let waker = Waker::from(Arc::new(Closes(log.clone())));
        let mut pending = pin!(log.submit(&[plain("waits")], AppendOptions::default()).unwrap());
        let _ = pending.as_mut().poll(&mut Context::from_waker(&waker));
        dir.close().unwrap();
        done.send(disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(SOON), Ok(true));
}

/// A waker that closed the directory on one of its own background threads had that thread wait for its own end: the closing
/// panicked, without the marker of a clean shutdown, and kept the lock.
#[test]
fn a_waker_may_close_the_directory_on_one_of_its_background_threads() {
    struct Closes(LogDir, Mutex<Sender<idemlog::Result<()>>>);
    impl Wake for Closes {
        fn wake(self: Arc<Self>) {
            let closed = self.0.close();
            let _ = self.1.lock().send(closed);
        }
    }
    for threads in 1..3 {
        let disk = SimDisk::new(IoMode::Mapped);
        let options = options(IoMode::Mapped).disk(Arc::new(disk.clone())).background_threads(threads);
        let dir = LogDir::open("/data", options.clone()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let (closes, is_closed) = channel();
        let waker = Waker::from(Arc::new(Closes(dir, Mutex::new(closes))));
        let mut submit = || {
            let mut pending = Box::pin(log.submit(&[plain("waits")], AppendOptions::default()).unwrap());
            let is_pending = pending.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
            is_pending.then_some(pending)
        };
        // The thread may be faster.
        let _pending = std::iter::repeat_with(&mut submit).flatten().next();
        is_closed.recv_timeout(SOON).unwrap().unwrap();
        assert!(disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap());
        LogDir::open("/data", options).unwrap();
    }
}

/// A producer held a lock over the append, in the middle of which wakers are called: one that appended by the same producer
/// waited for itself for ever.
#[test]
fn a_waker_that_appends_by_the_producer_whose_append_wakes_it_is_refused() {
    struct Appends(Arc<Producer>, Log, Mutex<Sender<idemlog::Result<()>>>);
    impl Wake for Appends {
        fn wake(self: Arc<Self>) {
            let Self(producer, log, done) = &*self;
            let appended =
                producer.append(log, BatchBuilder::new().record("k", "woken")).map(drop::<AppendOutcome>);
            let retried = producer.retry(log).map(drop::<Option<AppendOutcome>>);
            done.lock().send(appended).unwrap();
            done.lock().send(retried).unwrap();
        }
    }
    let (done, is_done) = channel();
    let appender = std::thread::spawn(move || {
        let (_disk, dir, log) = open();
        let producer = Arc::new(dir.producer("p").unwrap());
        let waker = Waker::from(Arc::new(Appends(Arc::clone(&producer), log.clone(), Mutex::new(done))));
        let mut pending = pin!(log.submit(&[plain("waits")], AppendOptions::default()).unwrap());
        let _ = pending.as_mut().poll(&mut Context::from_waker(&waker));
        let append = |value: &str| producer.append(&log, BatchBuilder::new().record("k", value));
        [append("first"), append("second")].map(|appended| appended.unwrap().base_offset())
    });
    for _ in 0..2 {
        assert!(matches!(is_done.recv_timeout(SOON), Ok(Err(Error::Unsettled))));
    }
    assert_eq!(appender.join().unwrap(), [Offset(2), Offset(3)]);
}

/// A deletion told those who wait while it held what whoever creates a partition needs.
#[test]
fn a_waker_may_create_a_partition_in_place_of_the_one_whose_deletion_wakes_it() {
    struct Creates(LogDir);
    impl Wake for Creates {
        fn wake(self: Arc<Self>) {
            self.0.partition("t", 0).unwrap();
        }
    }
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let (_disk, dir, log) = open();
        let waker = Waker::from(Arc::new(Creates(dir.clone())));
        let mut readable = pin!(log.readable(END));
        assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(dir.delete_partition("t", 0).unwrap());
        done.send(dir.partition("t", 0).unwrap().log_end_offset()).unwrap();
    });
    assert_eq!(is_done.recv_timeout(SOON), Ok(Offset(0)));
}

/// A waker that panicked took the wakers behind it along, and the log, whose change counted as not made.
#[test]
fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as it was told to");
        }
    }
    let (_disk, _dir, log) = open();
    let (woken, is_woken) = channel();
    let sound = Waker::from(Arc::new(AtOnce { log: log.clone(), woken: Mutex::new(woken) }));
    let wakers = [Waker::from(Arc::new(Panics)), sound];
    let mut waits = wakers.each_ref().map(|_| Box::pin(log.readable(END)));
    for (waits, waker) in waits.iter_mut().zip(&wakers) {
        assert!(waits.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    log.append(&plain("wakes")).unwrap();
    assert_eq!(is_woken.try_iter().count(), 1);
    log.append(&plain("goes on")).unwrap();
}

/// Whoever waits for something to read waits for nothing when the log takes no more. A group commit told the appenders
/// of its failed sync, but not the readers.
#[test]
fn a_failed_sync_ends_the_wait_of_readers() {
    let (disk, _dir, log) = open();
    std::thread::scope(|scope| {
        let (ended, has_ended) = channel();
        let waiting = log.clone();
        scope.spawn(move || ended.send(waiting.wait_for(END, 4 * SOON)).unwrap());
        let lost = log.submit(&[plain("lost")], AppendOptions::default()).unwrap();
        // It was woken for nothing, and waits again.
        std::thread::sleep(Duration::from_millis(50));
        disk.inject(Fault::nth(Operation::Sync, 1));
        assert!(matches!(lost.wait(), Err(Error::InDoubt)));
        assert_eq!(has_ended.recv_timeout(SOON), Ok(false));
    });
}

/// Does nothing; the test counts who keeps it.
struct Idle;

impl Wake for Idle {
    fn wake(self: Arc<Self>) {}
}

/// A task that waits for one of several partitions, or for a timer, drops what did not resolve. Each left its waker
/// with the idle partition, and the append that came at last woke them all.
#[test]
fn a_future_that_is_dropped_leaves_nothing_behind() {
    let (_disk, _dir, log) = open();
    let idle = Arc::new(Idle);
    for _ in 0..3 {
        let waker = Waker::from(Arc::clone(&idle));
        let mut readable = Box::pin(log.readable(END));
        for _ in 0..2 {
            assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    assert_eq!(Arc::strong_count(&idle), 1);
    // A sync wakes them, but there may be none for long.
    for _ in 0..3 {
        let waker = Waker::from(Arc::clone(&idle));
        let mut pending = Box::pin(log.submit(&[plain("waits")], AppendOptions::default()).unwrap());
        let polled = pending.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Ready(Err(Error::NoSyncer))));
    }
    assert_eq!(Arc::strong_count(&idle), 1);
}

/// A task, which owns the future that it waits for and goes with its last waker.
struct Task {
    _future: Mutex<TailWait>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// With the last waker goes the task, and with that a future, which looks for its own waker where the task's was: it must not
/// be dropped under the lock of that place.
#[test]
fn a_future_may_go_with_the_waker_whose_place_is_taken() {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let (_disk, _dir, log) = open();
        let mut owned = log.readable(END);
        assert!(pin!(&mut owned).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let task = Waker::from(Arc::new(Task { _future: Mutex::new(owned) }));
        let mut waits = pin!(log.readable(END));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
        drop(task);
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        done.send(()).unwrap();
    });
    assert!(is_done.recv_timeout(SOON).is_ok());
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counts(AtomicUsize);

impl Counts {
    fn woken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Each append woke all who waited at the tail, and each looked and waited again: of a leader with ten thousand batches on
/// their way to its followers, ten thousand futures for each batch.
#[test]
fn only_who_waits_for_what_has_come_is_woken() {
    let (_disk, _dir, log) = open();
    log.set_high_watermark(END);
    let pendings = [(); 3].map(|()| log.submit(&[plain("in flight")], AppendOptions::default()).unwrap());
    let mut replicated = pendings.map(|pending| Box::pin(pending.replicated()));
    log.sync().unwrap();
    let at = |offsets: i64| END + offsets;
    let mut readable =
        [log.readable(at(0)), log.readable(at(2)), log.readable_to_log_end(at(4))].map(Box::pin);
    let counts: [_; 6] = std::array::from_fn(|_| Arc::new(Counts::default()));
    let wakers: Vec<Waker> = counts.iter().map(|count| Waker::from(Arc::clone(count))).collect();
    for (future, waker) in replicated.iter_mut().zip(&wakers[..3]) {
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    for (future, waker) in readable.iter_mut().zip(&wakers[3..]) {
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    let woken = || counts.each_ref().map(|count| count.woken());

    log.append(&plain("more")).unwrap();
    assert_eq!(woken(), [0, 0, 0, 0, 0, 0], "the fourth is in front of the offset that is waited for");
    log.append(&plain("and more")).unwrap();
    assert_eq!(woken(), [0, 0, 0, 0, 0, 1]);
    log.set_high_watermark(at(1));
    assert_eq!(woken(), [1, 0, 0, 1, 0, 1]);
    log.set_high_watermark(at(3));
    assert_eq!(woken(), [1, 1, 1, 1, 1, 1]);
    for (future, waker) in replicated.iter_mut().zip(&wakers) {
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_ready());
    }
}

/// What ends a wait without anything to read: it is told to all, wherever they wait.
#[test]
fn who_waits_far_behind_the_log_end_is_woken_by_its_end() {
    let (_disk, _dir, log) = open();
    let count = Arc::new(Counts::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut far = Box::pin(log.readable(END + 1_000));
    assert!(far.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let waiting = log.clone();
    let thread = std::thread::spawn(move || waiting.wait_for(END + 1_000, 4 * SOON));
    // It waits by now, or finds the log closed.
    std::thread::sleep(Duration::from_millis(50));
    log.close().unwrap();
    assert_eq!(count.woken(), 1);
    assert!(far.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    assert!(!thread.join().unwrap());
}

/// A deletion that went above where an open transaction begins raised the last stable offset, and told nobody.
#[test]
fn a_deletion_wakes_those_who_waited_for_a_transaction_that_began_below_it() {
    let (_disk, dir, log) = open();
    let (id, epoch) = (dir.new_producer_id().unwrap(), ProducerEpoch(0));
    let open = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v");
    log.append(&open.build().unwrap()).unwrap();
    log.append(&plain("behind it")).unwrap();
    let count = Arc::new(Counts::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut committed = Box::pin(log.readable_committed(END));
    assert!(committed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    log.delete_records(END + 1).unwrap();
    assert_eq!(log.last_stable_offset(), END + 1);
    assert_eq!(count.woken(), 1);
}
