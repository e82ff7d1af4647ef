//! Eight readers that wait at the tail of a log for a writer that appends 50,000 batches a second: how long after an
//! append they are awake, and what they cost the writer. Prints figures, medians of several runs.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use idemlog::Offset;
use rustix::time::{ClockId, clock_gettime};
use support::batches::{ONE_KIB, Pool};
use support::figures::{median, quantile, record};
use support::targets::{Engine, buffered};
use support::{directory, is_trial};

const READERS: usize = 8;
const PER_SECOND: u32 = 50_000;
/// Of so many runs of each kind the median counts.
const ROUNDS: usize = 3;

/// What one run found.
struct Run {
    /// Nanoseconds of the writer's processor time for an append.
    cost: f64,
    /// Nanoseconds from an append to a reader that waited for it.
    wake_ups: Vec<u32>,
}

/// Nanoseconds of processor time of this thread.
fn processor_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// What it takes to look at the clock.
fn price_of_a_look() -> f64 {
    const LOOKS: i64 = 100_000;
    let started = processor_time();
    for _ in 1..LOOKS {
        std::hint::black_box(processor_time());
    }
    (processor_time() - started) as f64 / LOOKS as f64
}

/// Appends the batches of a pool at their times, and notes when each was in.
fn write(engine: &Engine, pool: &Pool, start: Instant, appended_at: &[AtomicU64]) -> f64 {
    let interval = Duration::from_secs(1) / PER_SECOND;
    let mut cost = 0;
    for (index, appended_at) in appended_at.iter().enumerate() {
        while start.elapsed() < interval * index as u32 {
            std::thread::yield_now();
        }
        let batch = pool.slice(index);
        appended_at.store(start.elapsed().as_nanos() as u64, Ordering::Release);
        let before = processor_time();
        assert!(!engine.send(batch));
        cost += processor_time() - before;
    }
    cost as f64 / pool.len() as f64 - price_of_a_look()
}

/// Reads to the end again and again until `done`.
fn follow(engine: &Engine, start: Instant, appended_at: &[AtomicU64], done: &AtomicBool) -> Vec<u32> {
    let (mut next, mut wake_ups) = (Offset(0), Vec::new());
    while !done.load(Ordering::Acquire) {
        let had_to_wait = engine.log.high_watermark() == next;
        if engine.log.wait_for(next, Duration::from_millis(100)) {
            let appended = appended_at[next.0 as usize].load(Ordering::Acquire);
            if had_to_wait {
                wake_ups.push((start.elapsed().as_nanos() as u64).saturating_sub(appended) as u32);
            }
            next = engine.log.read(next, 1 << 20).expect("batches").next_offset;
        }
    }
    wake_ups
}

fn run(readers: usize) -> Run {
    let seconds = if is_trial() { 0 } else { 3 };
    let mut pool = Pool::of_producers(ONE_KIB, (seconds * PER_SECOND as usize).max(100));
    pool.go_on(1, 0);
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered());
    let appended_at: Vec<_> = (0..pool.len()).map(|_| AtomicU64::new(0)).collect();
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let follow = || follow(&engine, start, &appended_at, &done);
        let followers: Vec<_> = (0..readers).map(|_| scope.spawn(follow)).collect();
        let cost = write(&engine, &pool, start, &appended_at);
        done.store(true, Ordering::Release);
        let wake_ups = followers.into_iter().flat_map(|follower| follower.join().expect("a reader"));
        Run { cost, wake_ups: wake_ups.collect() }
    })
}

fn main() {
    // In turn, as the speed of a virtual machine changes.
    let rounds = if is_trial() { 1 } else { ROUNDS };
    let (alone, mut followed): (Vec<_>, Vec<_>) = (0..rounds).map(|_| (run(0), run(READERS))).unzip();
    let cost = |runs: &[Run]| median(runs.iter().map(|run| run.cost).collect());
    record("read/tail writer", "limit", cost(&alone));
    record("read/tail writer", "idemlog", cost(&followed));
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let wake_ups = followed.iter_mut().map(|run| quantile(&mut run.wake_ups, part));
        record("read/tail wake-up", name, median(wake_ups.collect()));
    }
}
