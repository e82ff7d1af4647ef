//! How long single appends take: percentiles over millions of them, and what happens to one while the table of producers
//! grows or a segment is rolled. Prints figures; the clock is read around every append, which they include.

mod support;

use std::time::{Duration, Instant};

use idemlog::{Durability, LogOptions};
use support::batches::{ONE_KIB, Pool, SMALL};
use support::figures::{median, quantile, record};
use support::targets::{Engine, buffered};
use support::{Reserve, amount, directory, is_trial};

/// What ran before has freed memory, which a virtual machine gives back to its host some seconds later; its processors
/// stand still meanwhile, tens of microseconds at a time.
fn settle() {
    const SOME_SECONDS: u64 = 8;
    if !is_trial() {
        std::thread::sleep(Duration::from_secs(SOME_SECONDS));
    }
}

/// The times of the appends of all batches of a pool, in nanoseconds.
fn time_each(engine: &Engine, pool: &Pool, reserve: &mut Reserve, times: &mut Vec<u32>) {
    let step = Reserve::STEP / pool.batch_size();
    for index in 0..pool.len() {
        if index % step == 0 {
            reserve.release();
        }
        let batch = pool.slice(index);
        let started = Instant::now();
        assert!(!engine.send(batch));
        times.push(started.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
    }
}

/// The percentiles of a run, and how many of its appends had to wait for what was to be ready.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// The medians of some runs: whoever else is on the machine interrupts one in a thousand appends in one run, and in the
/// next one in five hundred.
fn percentiles() {
    const RUNS: usize = 3;
    let runs: Vec<_> = (0..RUNS).map(|_| run()).collect();
    for (at, (name, _)) in PERCENTILES.iter().enumerate() {
        record("append/latency", name, median(runs.iter().map(|run| run.0[at]).collect()));
    }
    record("append/latency", "stalls", median(runs.iter().map(|run| run.1).collect()));
}

/// 5,000,000 appends of 1 KiB by 100,000 producers in turn, in segments of 512 MiB, with checkpoints as by default.
fn run() -> ([f64; PERCENTILES.len()], f64) {
    let producers = if is_trial() { 100 } else { 100_000 };
    let directory = directory();
    let options = LogOptions::default().durability(Durability::Buffered).segment_bytes(512 << 20);
    let engine = Engine::open(directory.path(), options);
    let mut pool = Pool::of_producers(ONE_KIB, producers);
    let mut times = Vec::with_capacity(50 * producers);
    for round in 0..50 {
        pool.advance(producers, round);
        let mut reserve = Reserve::new(producers * pool.batch_size());
        time_each(&engine, &pool, &mut reserve, &mut times);
    }
    let metrics = engine.log.metrics();
    let stalls = (metrics.page_stalls + metrics.segment_stalls) as f64;
    (PERCENTILES.map(|(_, part)| quantile(&mut times, part)), stalls)
}

/// The table grows from nothing to a million producers. It grows at the same appends in every run, and everything else
/// that can make one take long does not: of each append the fastest run counts.
fn growth() {
    const RUNS: usize = 5;
    let pool = Pool::of_producers(SMALL, amount(1_000_000));
    let mut fastest = vec![u32::MAX; pool.len()];
    for _ in 0..RUNS {
        let directory = directory();
        let engine = Engine::open(directory.path(), buffered());
        let mut times = Vec::with_capacity(pool.len());
        time_each(&engine, &pool, &mut Reserve::new(pool.len() * pool.batch_size()), &mut times);
        fastest.iter_mut().zip(times).for_each(|(fastest, time)| *fastest = time.min(*fastest));
    }
    // The first ones make the segment.
    fastest[..100.min(pool.len() / 2)].fill(0);
    record("append/growth", "longest", quantile(&mut fastest, 1.0));
}

/// Rolls with a million producers in the table: the append that rolls, and the longest while the snapshot is written.
fn rolls() {
    const ROLLS: usize = 5;
    let producers = amount(1_000_000);
    let mut pool = Pool::of_producers(SMALL, producers);
    let segment_bytes = producers / 2 * pool.batch_size();
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered().segment_bytes(segment_bytes as u32));
    let (mut rolling, mut behind) = (Vec::new(), Vec::new());
    for round in 0..=ROLLS as i32 {
        pool.advance(producers, round);
        let mut times = Vec::with_capacity(pool.len());
        time_each(&engine, &pool, &mut Reserve::new(pool.len() * pool.batch_size()), &mut times);
        if round > 0 {
            let per_segment = segment_bytes / pool.batch_size();
            rolling.extend(
                [per_segment, 2 * per_segment - 1]
                    .iter()
                    .map(|&at| f64::from(times[at.min(times.len() - 1)])),
            );
            behind.push(quantile(&mut times, 0.9999));
        }
        std::thread::sleep(Duration::from_millis(if is_trial() { 1 } else { 1500 }));
    }
    record("roll/1000000 producers", "append that rolls", median(rolling));
    record("roll/1000000 producers", "p99.99", median(behind));
}

fn main() {
    for measure in [percentiles, growth, rolls] {
        settle();
        measure();
    }
}
