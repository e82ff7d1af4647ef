//! Appends that survive the loss of power, from one thread, from many, and into many partitions; and two threads that
//! append to one partition without waiting for the disk.
//!
//! Beside the engine stand its limits: bytes copied into a mapping and a ranged `msync` of just these, by the same
//! threads, one of which syncs for all that wait.

mod support;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use idemlog::{AppendOptions, Batch, BatchBuilder, Log, LogDir, LogDirOptions, LogOptions};
use parking_lot::{Condvar, Mutex};
use support::batches::{ONE_KIB, Pool};
use support::targets::{Copier, Engine, buffered};
use support::{amount, directory, is_trial};

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(1));
    group
}

/// Calls `each` with the numbers of `threads` threads at once; returns the time from the start of the first to the end
/// of the last. They look at the clock themselves: a thread that waits for them would be late on a busy processor.
fn at_once(threads: usize, each: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let timed = |thread| {
        barrier.wait();
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
fn share(pool: &Pool, thread: usize, threads: usize) -> impl Iterator<Item = Bytes> {
    (thread..pool.len()).step_by(threads).map(|index| pool.batch(index))
}

fn send(log: &Log, batch: Bytes) {
    assert!(!log.append(&Batch::decode(batch).expect("a sound batch")).expect("an append").is_duplicate());
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
    let mut group = group(criterion, &format!("synced/{threads} threads"));
    let mut pool = Pool::of_producers(ONE_KIB, count);
    group.bench_function("idemlog", |bench| {
        let directory = directory();
        let engine = Engine::open(directory.path(), LogOptions::default());
        begin(&engine.log);
        let mut round = 0;
        bench.iter_custom(|iterations| {
            pool.advance(threads, round);
            round += 1;
            let all = |thread| share(&pool, thread, threads).for_each(|batch| send(&engine.log, batch));
            at_once(threads, all).mul_f64(iterations as f64 / count as f64)
        });
    });
    group.bench_function("limit", |bench| {
        let directory = directory();
        let copier = Copier::new(directory.path(), 100 * count * pool.batch_size());
        let map = copier.map();
        let commit = GroupCommit::new(copier);
        bench.iter_custom(|iterations| {
            let all = |thread| share(&pool, thread, threads).for_each(|batch| commit.append(&batch, &map));
            at_once(threads, all).mul_f64(iterations as f64 / count as f64)
        });
    });
    group.finish();
}

/// One thread that has up to 1000 batches in flight. Its limit is the slower of appending without a sync, and of as many
/// copies for each sync.
fn in_flight(criterion: &mut Criterion) {
    const IN_FLIGHT: usize = 1000;
    let mut group = group(criterion, "submit/1000 in flight");
    let mut pool = Pool::new(ONE_KIB, amount(64 << 20));
    group.bench_function("idemlog", |bench| {
        let directory = directory();
        let engine = Engine::open(directory.path(), LogOptions::default());
        begin(&engine.log);
        let mut round = 0;
        bench.iter_custom(|iterations| {
            pool.advance(1, round);
            round += 1;
            let started = Instant::now();
            let mut pending = VecDeque::with_capacity(IN_FLIGHT);
            for index in 0..pool.len() {
                if pending.len() == IN_FLIGHT {
                    let oldest: Option<idemlog::Pending> = pending.pop_front();
                    oldest.expect("one of many").wait().expect("a sync");
                }
                let batch = Batch::decode(pool.batch(index)).expect("a sound batch");
                pending.push_back(engine.log.submit(&[batch], AppendOptions::default()).expect("an append"));
            }
            pending.into_iter().for_each(|last| assert_eq!(last.wait().expect("a sync").len(), 1));
            started.elapsed().mul_f64(iterations as f64 / pool.len() as f64)
        });
    });
    pool.advance(1, 0);
    group.bench_function("buffered", |bench| {
        bench.iter_custom(|iterations| support::targets::sample::<Engine>(&pool, iterations));
    });
    group.bench_function("syncs", |bench| {
        let directory = directory();
        let mut copier = Copier::new(directory.path(), 100 * pool.len() * pool.batch_size());
        bench.iter_custom(|iterations| {
            let started = Instant::now();
            for from in (0..pool.len()).step_by(IN_FLIGHT) {
                let start = copier.position;
                (from..pool.len().min(from + IN_FLIGHT)).for_each(|index| copier.copy(pool.slice(index)));
                copier.map().sync(start..copier.position).expect("a sync");
            }
            started.elapsed().mul_f64(iterations as f64 / pool.len() as f64)
        });
    });
    group.finish();
}

/// One batch for each of 1000 partitions, from eight threads.
fn partitions(criterion: &mut Criterion) {
    const THREADS: usize = 8;
    let count = if is_trial() { THREADS } else { 1000 };
    let mut group = group(criterion, "synced/1000 partitions");
    let pool = Pool::new(ONE_KIB, 1 << 20);
    let round = AtomicU64::new(0);
    let next = || pool.batch(round.fetch_add(1, Ordering::Relaxed) as usize % pool.len());
    group.bench_function("idemlog", |bench| {
        round.store(0, Ordering::Relaxed);
        let directory = directory();
        let dir = LogDir::open(directory.path(), LogDirOptions::default()).expect("an empty directory");
        let logs: Vec<Log> =
            (0..count).map(|number| dir.partition("bench", number as i32).expect("a partition")).collect();
        logs.iter().for_each(begin);
        bench.iter_custom(|iterations| {
            let batch = next();
            let all =
                |thread| logs.iter().skip(thread).step_by(THREADS).for_each(|log| send(log, batch.clone()));
            at_once(THREADS, all).mul_f64(iterations as f64)
        });
    });
    group.bench_function("limit", |bench| {
        let directory = directory();
        let new = |number: usize| {
            let directory = directory.path().join(number.to_string());
            std::fs::create_dir(&directory).expect("a directory");
            let mut copier = Copier::new_unpopulated(&directory, 64 << 10);
            copier.copy(pool.slice(0));
            copier.map().sync(0..copier.position).expect("a sync");
            Mutex::new(copier)
        };
        let copiers: Vec<_> = (0..count).map(new).collect();
        bench.iter_custom(|iterations| {
            let batch = next();
            let all = |thread| {
                for copier in copiers.iter().skip(thread).step_by(THREADS) {
                    let mut copier = copier.lock();
                    let start = copier.position;
                    copier.copy(&batch);
                    copier.map().sync(start..copier.position).expect("a sync");
                }
            };
            at_once(THREADS, all).mul_f64(iterations as f64)
        });
    });
    group.finish();
}

/// One and two threads that append to one partition, in bursts short enough for the pages to be populated before, or
/// without a pause. Each has batches of its own, one behind the other in memory of its own, as if from its own connection.
fn contended(criterion: &mut Criterion, name: &str, burst: usize, pause: Duration) {
    let mut group = group(criterion, &format!("contended/{name}"));
    for threads in [1, 2] {
        let pools: Vec<Pool> = (0..threads).map(|thread| connection(thread, threads)).collect();
        let (count, burst) = (pools[0].len(), burst / threads);
        group.bench_function(format!("{threads} threads"), |bench| {
            bench.iter_custom(|iterations| {
                let directory = directory();
                let engine = Engine::open(directory.path(), buffered());
                let mut took = Duration::ZERO;
                for from in (0..count).step_by(burst) {
                    let to = count.min(from + burst);
                    took += at_once(threads, |thread| {
                        (from..to).for_each(|index| send(&engine.log, pools[thread].batch(index)));
                    });
                    std::thread::sleep(pause);
                }
                took.mul_f64(iterations as f64 / (threads * count) as f64)
            });
        });
    }
    group.finish();
}

/// What one of so many threads appends.
fn connection(thread: usize, threads: usize) -> Pool {
    let mut pool = Pool::new(ONE_KIB, amount(256 << 20) / threads);
    pool.write_as(thread as i64);
    pool
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (count, all) in [(1, 500), (8, 2_000), (64, 8_000), (512, 32_000)] {
        threads(&mut criterion, count, all);
    }
    in_flight(&mut criterion);
    partitions(&mut criterion);
    contended(&mut criterion, "populated pages", 4_000, Duration::from_millis(4));
    contended(&mut criterion, "fresh pages", 64_000, Duration::ZERO);
    criterion.final_summary();
}
