//! Appends that survive the loss of power, from one thread, from many, and into many partitions; and two threads that
//! append to one partition without waiting for the disk.
//!
//! Beside the engine stand its limits: bytes copied into a mapping and a ranged `msync` of just these, by the same
//! threads, one of which syncs for all that wait.

mod support;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use criterion::Criterion;
use idemlog::{AppendOptions, Batch, BatchBuilder, Log, LogDir, LogDirOptions, LogOptions, Pages, Pending};
use parking_lot::{Condvar, Mutex};
use support::batches::{ONE_KIB, Pool};
use support::in_turn::{each_of, group, in_turn, target, time_of};
use support::targets::{Copier, Engine, buffered, sample};
use support::{amount, directory, is_trial};

/// How many batches a thread may have in flight that does not wait for each.
const IN_FLIGHT: usize = 1000;

/// More samples are not taken. A limit's file has room for so many and no more: to make blocks of a file durable takes the
/// journal, and several times as long, once they are in more pieces than its inode lists by itself, of 128 MiB at most each.
const SAMPLES_MAX: usize = 20;

/// Calls `each` with the numbers of `threads` threads at once; returns the time from the start of the first to the end
/// of the last. They look at the clock themselves: a thread that waits for them would be late on a busy processor.
fn at_once(threads: usize, each: impl Fn(usize) + Sync) -> Duration {
    let (barrier, awake) = (Barrier::new(threads), AtomicUsize::new(0));
    let timed = |thread| {
        barrier.wait();
        // Who sleeps at a barrier wakes up when others have been running for a tenth of a millisecond.
        awake.fetch_add(1, Ordering::AcqRel);
        while awake.load(Ordering::Acquire) < threads {
            std::thread::yield_now();
        }
        let started = Instant::now();
        each(thread);
        (started, Instant::now())
    };
    let times: Vec<_> = std::thread::scope(|scope| {
        let timed = &timed;
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || timed(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().expect("its appends")).collect()
    });
    let first = times.iter().map(|&(started, _)| started).min().expect("a thread");
    times.iter().map(|&(_, ended)| ended).max().expect("a thread") - first
}

/// The batches of one of `threads` threads: every so many-th.
fn share(pool: &Pool, thread: usize, threads: usize) -> impl Iterator<Item = &[u8]> {
    (thread..pool.len()).step_by(threads).map(|index| pool.slice(index))
}

fn send(log: &Log, batch: &[u8]) {
    assert!(
        !log.append(&Batch::decode_lent(batch).expect("a sound batch")).expect("an append").is_duplicate()
    );
}

/// A partition's first batch, before the clock starts: it makes the file. (Each sample has a log of its own.)
fn begin(log: &Log) {
    log.append(&BatchBuilder::new().record(b"", b"first").build().expect("a batch")).expect("an append");
}

/// The bare loop: whoever finds nobody syncing syncs for all.
struct GroupCommit {
    state: Mutex<State>,
    synced: Condvar,
}

struct State {
    copier: Copier,
    durable: usize,
    is_syncing: bool,
}

impl GroupCommit {
    fn new(copier: Copier) -> Self {
        let state = State { copier, durable: 0, is_syncing: false };
        Self { state: Mutex::new(state), synced: Condvar::new() }
    }

    fn append(&self, batch: &[u8], map: &idemlog::Map) {
        let mut state = self.state.lock();
        state.copier.copy(batch);
        let end = state.copier.position;
        while state.durable < end {
            if state.is_syncing {
                self.synced.wait(&mut state);
                continue;
            }
            state.is_syncing = true;
            let range: Range<usize> = state.durable..state.copier.position;
            let to = range.end;
            parking_lot::MutexGuard::unlocked(&mut state, || map.sync(range).expect("a sync"));
            state.is_syncing = false;
            state.durable = to;
            self.synced.notify_all();
        }
    }
}

/// `threads` threads append to one partition, each waiting for its batch to be durable.
fn threads(criterion: &mut Criterion, threads: usize, count: usize) {
    let count = if is_trial() { threads } else { count };
    let pool = RefCell::new(Pool::of_producers(ONE_KIB, count));
    let (directory, other_directory) = (directory(), directory());
    let engine = Engine::open(directory.path(), LogOptions::default());
    begin(&engine.log);
    let mut round = 0;
    let append = || {
        pool.borrow_mut().advance(threads, round);
        round += 1;
        let pool = &*pool.borrow();
        let all = |thread| share(pool, thread, threads).for_each(|batch| send(&engine.log, batch));
        each_of(at_once(threads, all), count)
    };
    let copier =
        Copier::new(other_directory.path(), SAMPLES_MAX * count * pool.borrow().batch_size(), Pages::Small);
    let map = copier.map();
    let commit = GroupCommit::new(copier);
    let copy = || {
        let pool = &*pool.borrow();
        let all = |thread| share(pool, thread, threads).for_each(|batch| commit.append(batch, &map));
        each_of(at_once(threads, all), count)
    };
    let group = group(criterion, &format!("synced/{threads} threads"), 10);
    in_turn(group, vec![target("idemlog", append), target("limit", copy)]);
}

/// Appends a pool's batches with up to so many in flight.
fn submit_all(log: &Log, pool: &Pool) {
    let mut pending: VecDeque<Pending> = VecDeque::with_capacity(IN_FLIGHT);
    for index in 0..pool.len() {
        if pending.len() == IN_FLIGHT {
            let oldest = pending.pop_front();
            oldest.expect("one of many").wait().expect("a sync");
        }
        let batch = Batch::decode_lent(pool.slice(index)).expect("a sound batch");
        pending.push_back(log.submit(&[batch], AppendOptions::default()).expect("an append"));
    }
    pending.into_iter().for_each(|last| assert_eq!(last.wait().expect("a sync").len(), 1));
}

/// Copies a pool's batches, with a sync of as many as the engine has in flight at a time.
fn copy_all(copier: &mut Copier, pool: &Pool) {
    for from in (0..pool.len()).step_by(IN_FLIGHT) {
        let start = copier.position;
        (from..pool.len().min(from + IN_FLIGHT)).for_each(|index| copier.copy(pool.slice(index)));
        copier.map().sync(start..copier.position).expect("a sync");
    }
}

/// One thread that has up to 1000 batches in flight. Its limit is the slower of appending without a sync, and of as many
/// copies for each sync.
fn in_flight(criterion: &mut Criterion) {
    let pool = RefCell::new(Pool::new(ONE_KIB, amount(64 << 20)));
    let count = pool.borrow().len();
    let (directory, other_directory) = (directory(), directory());
    let engine = Engine::open(directory.path(), LogOptions::default());
    begin(&engine.log);
    let mut round = 0;
    let submit = || {
        pool.borrow_mut().advance(1, round);
        round += 1;
        time_of(|| submit_all(&engine.log, &pool.borrow())) / count as f64
    };
    let append = || {
        pool.borrow_mut().advance(1, 0);
        sample::<Engine>(&pool.borrow())
    };
    let mut copier =
        Copier::new(other_directory.path(), SAMPLES_MAX * count * pool.borrow().batch_size(), Pages::Small);
    let sync = || time_of(|| copy_all(&mut copier, &pool.borrow())) / count as f64;
    let targets = vec![target("idemlog", submit), target("buffered", append), target("syncs", sync)];
    in_turn(group(criterion, "submit/1000 in flight", 10), targets);
}

/// One batch for each of 1000 partitions, from eight threads.
fn partitions(criterion: &mut Criterion) {
    const THREADS: usize = 8;
    let count = if is_trial() { THREADS } else { 1000 };
    let pool = Pool::new(ONE_KIB, 1 << 20);
    let batches = || (0..).map(|round| pool.slice(round % pool.len()));
    let (directory, other_directory) = (directory(), directory());
    let dir = LogDir::open(directory.path(), LogDirOptions::default()).expect("an empty directory");
    let new = |number: usize| dir.partition("bench", number as i32).expect("a partition");
    let logs: Vec<Log> = (0..count).map(new).collect();
    logs.iter().for_each(begin);
    let mut sent = batches();
    let append = || {
        let batch = sent.next().expect("one of a pool");
        let of = |thread| logs.iter().skip(thread).step_by(THREADS);
        each_of(at_once(THREADS, |thread| of(thread).for_each(|log| send(log, batch))), 1)
    };
    let new = |number| Mutex::new(copier_with(other_directory.path(), number, pool.slice(0)));
    let copiers: Vec<_> = (0..count).map(new).collect();
    let mut sent = batches();
    let copy = || {
        let batch = sent.next().expect("one of a pool");
        let of = |thread| copiers.iter().skip(thread).step_by(THREADS);
        let copy = |thread| of(thread).for_each(|copier| copy_and_sync(&mut copier.lock(), batch));
        each_of(at_once(THREADS, copy), 1)
    };
    let group = group(criterion, "synced/1000 partitions", 10);
    in_turn(group, vec![target("idemlog", append), target("limit", copy)]);
}

/// A file as small as one of so many may be, with its first batch.
fn copier_with(directory: &Path, number: usize, first: &[u8]) -> Copier {
    let directory = directory.join(number.to_string());
    std::fs::create_dir(&directory).expect("a directory");
    let mut copier = Copier::new_unpopulated(&directory, 64 << 10);
    copy_and_sync(&mut copier, first);
    copier
}

fn copy_and_sync(copier: &mut Copier, batch: &[u8]) {
    let start = copier.position;
    copier.copy(batch);
    copier.map().sync(start..copier.position).expect("a sync");
}

/// One and two threads that append to one partition, in bursts short enough for the pages to be populated before, or
/// without a pause. Each has batches of its own, one behind the other in memory of its own, as if from its own connection.
fn contended(criterion: &mut Criterion, name: &str, burst: usize, pause: Duration) {
    let by_threads = |threads| {
        let pools: Vec<Pool> = (0..threads).map(|thread| connection(thread, threads)).collect();
        target(format!("{threads} threads"), move || in_bursts(&pools, burst / threads, pause))
    };
    in_turn(group(criterion, &format!("contended/{name}"), 10), [1, 2].map(by_threads).into());
}

/// The time of one of the batches of all pools, each appended by a thread of its own, with pauses between bursts. A burst
/// ends when one thread has appended as many as `burst`: from then on nobody would contend.
fn in_bursts(pools: &[Pool], burst: usize, pause: Duration) -> f64 {
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered());
    let sent: Vec<AtomicUsize> = pools.iter().map(|_| AtomicUsize::new(0)).collect();
    let mut took = Duration::ZERO;
    while sent.iter().zip(pools).all(|(sent, pool)| sent.load(Ordering::Relaxed) < pool.len()) {
        let is_over = AtomicBool::new(false);
        took += at_once(pools.len(), |thread| {
            let from = sent[thread].load(Ordering::Relaxed);
            let to = pools[thread].len().min(from + burst);
            let goes_on = |_: &usize| !is_over.load(Ordering::Relaxed);
            let count = (from..to)
                .take_while(goes_on)
                .map(|index| send(&engine.log, pools[thread].slice(index)))
                .count();
            is_over.store(true, Ordering::Relaxed);
            sent[thread].store(from + count, Ordering::Relaxed);
        });
        std::thread::sleep(pause);
    }
    each_of(took, sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum())
}

/// What one of so many threads appends.
fn connection(thread: usize, threads: usize) -> Pool {
    let mut pool = Pool::new(ONE_KIB, amount(256 << 20) / threads);
    pool.write_as(thread as i64);
    pool
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (count, all) in [(1, 2_048), (8, 2_048), (64, 2_048), (512, 16_384)] {
        threads(&mut criterion, count, all);
    }
    in_flight(&mut criterion);
    partitions(&mut criterion);
    contended(&mut criterion, "populated pages", 4_000, Duration::from_millis(4));
    contended(&mut criterion, "fresh pages", 64_000, Duration::ZERO);
    criterion.final_summary();
}
