//! 8 GiB in one go, more than the page cache takes without writing back meanwhile. Prints figures.
//!
//! Throughput is compared with `pwrite` of 1 MiB blocks into a file that has its blocks; the percentiles of single
//! appends with those of a bare loop that copies batches into populated pages.

mod support;

use std::time::{Duration, Instant};

use idemlog::Pages;
use support::batches::{ONE_KIB, Pool};
use support::figures::{median, quantile, record};
use support::in_turn::each_of;
use support::targets::{Copier, Engine, allocated_file, buffered};
use support::{Reserve, amount, directory};

const SUSTAINED_BYTES: usize = 8 << 30;
const PERCENTILE_BYTES: usize = 1 << 30;
/// How many batches are made at a time, while the clock stands.
const POOL_BYTES: usize = 128 << 20;

/// Calls `append` with pools of batches that follow each other, `bytes` in all.
fn feed(bytes: usize, mut append: impl FnMut(&Pool, &mut Reserve)) {
    let mut pool = Pool::new(ONE_KIB, POOL_BYTES.min(bytes));
    let rounds = bytes / (pool.len() * pool.batch_size());
    for round in 0..rounds as i32 {
        pool.advance(1, round);
        append(&pool, &mut Reserve::new(pool.len() * pool.batch_size()));
    }
}

fn engine_time(bytes: usize) -> f64 {
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered());
    let mut took = Duration::ZERO;
    feed(bytes, |pool, reserve| {
        let step = Reserve::STEP / pool.batch_size();
        for from in (0..pool.len()).step_by(step) {
            reserve.release();
            let started = Instant::now();
            (from..pool.len().min(from + step)).for_each(|index| assert!(!engine.send(pool.slice(index))));
            took += started.elapsed();
        }
    });
    each_of(took, 1)
}

fn pwrite_time(bytes: usize) -> f64 {
    const BLOCK: usize = 1 << 20;
    let directory = directory();
    let file = allocated_file(directory.path(), bytes);
    let (mut position, mut took) = (0, Duration::ZERO);
    feed(bytes, |pool, reserve| {
        let all = pool.all();
        for piece in all.chunks(Reserve::STEP) {
            reserve.release();
            let started = Instant::now();
            for block in piece.chunks(BLOCK) {
                file.write_at(block, position as u64).expect("a write");
                position += block.len();
            }
            took += started.elapsed();
        }
    });
    each_of(took, 1)
}

/// The time that 9,999 of 10,000 calls of `append` stay within.
fn tail_of(mut append: impl FnMut(&[u8])) -> f64 {
    let mut times = Vec::with_capacity(amount(PERCENTILE_BYTES) / 1024);
    feed(amount(PERCENTILE_BYTES), |pool, reserve| {
        for index in 0..pool.len() {
            if index % (Reserve::STEP / pool.batch_size()) == 0 {
                reserve.release();
            }
            let batch = pool.slice(index);
            let started = Instant::now();
            append(batch);
            times.push(started.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32);
        }
    });
    quantile(&mut times, 0.9999)
}

fn engine_tail() -> f64 {
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered());
    tail_of(|batch| assert!(!engine.send(batch)))
}

fn copy_tail() -> f64 {
    let directory = directory();
    let mut copier = Copier::new(directory.path(), amount(PERCENTILE_BYTES), Pages::AsRead);
    tail_of(|batch| copier.copy(batch))
}

fn main() {
    let (tails, least): (Vec<_>, Vec<_>) = (0..5).map(|_| (engine_tail(), copy_tail())).unzip();
    record("sustained/p99.99", "idemlog", median(tails));
    record("sustained/p99.99", "limit", median(least));
    let bytes = amount(SUSTAINED_BYTES);
    let (times, least): (Vec<_>, Vec<_>) = (0..3).map(|_| (engine_time(bytes), pwrite_time(bytes))).unzip();
    record("sustained/8GiB", "idemlog", median(times));
    record("sustained/8GiB", "limit", median(least));
}
