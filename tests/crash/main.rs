//! Power cuts and killed processes at every point of seeded workloads, over the simulated disk.
//!
//! `CRASH_SEEDS=A..B` runs those seeds, `CRASH_SECONDS=N` as many as fit. A failure prints the seed and the shortest
//! workload that still fails.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod check;
mod workload;

use std::time::{Duration, Instant};

use idemlog::IoMode;
use workload::{Op, Run};

/// Images per crash point, where there are more than these.
const IMAGES: usize = 6;
/// How long the default run takes, per mode.
const SECONDS: u64 = 12;

/// What was tried.
#[derive(Debug, Default)]
struct Tried {
    workloads: u64,
    points: u64,
    images: u64,
}

fn seconds() -> Duration {
    let asked = std::env::var("CRASH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(SECONDS))
}

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("CRASH_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(0..u64::MAX)
}

/// Runs one workload and crashes it everywhere. The first violation, in words.
fn explore(mode: IoMode, seed: u64, ops: &[Op], tried: &mut Tried) -> Result<(), String> {
    let run = Run::of(mode, ops);
    tried.workloads += 1;
    for point in 0..run.disk.crash_points() {
        tried.points += 1;
        let must = run.disk.marks(point);
        let images = run
            .disk
            .images(point, IMAGES, seed)
            .chain([run.disk.kill(point), run.disk.kill_within(point, 100)]);
        for image in images {
            tried.images += 1;
            check::image(&run, &image, &must).map_err(|violation| {
                format!("{violation}\n  crashed behind event {point}: {}", run.disk.describe(point))
            })?;
        }
    }
    Ok(())
}

/// The workload without the operations that the failure does not need.
fn shrink(mode: IoMode, seed: u64, mut ops: Vec<Op>) -> (Vec<Op>, String) {
    let fails = |ops: &[Op]| explore(mode, seed, ops, &mut Tried::default()).err();
    let mut violation = fails(&ops).unwrap_or_default();
    let mut at = 0;
    while at < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(at);
        match fails(&fewer) {
            Some(still) => {
                ops = fewer;
                violation = still;
            }
            None => at += 1,
        }
    }
    (ops, violation)
}

fn run(mode: IoMode) {
    let started = Instant::now();
    let mut tried = Tried::default();
    for seed in seeds().take_while(|_| started.elapsed() < seconds()) {
        let ops = workload::generate(seed);
        if let Err(violation) = explore(mode, seed, &ops, &mut tried) {
            eprintln!("CRASH_SEEDS={seed}..{} fails in {mode:?} mode: {violation}", seed + 1);
            let (ops, violation) = shrink(mode, seed, ops);
            panic!("the shortest workload that fails: {ops:?}\n{violation}");
        }
    }
    println!("{mode:?}: {tried:?}");
    assert!(tried.workloads > 0);
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_made_up_by_a_crash_in_mapped_mode() {
    run(IoMode::Mapped);
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_made_up_by_a_crash_in_write_mode() {
    run(IoMode::Write);
}
