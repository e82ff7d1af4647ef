//! Power cuts, killed processes and failing disks at every point of many workloads, over the simulated disk.
//!
//! * Exhaustive: every workload of up to four steps from an alphabet, crashed at every call to the disk and in the
//!   middle of stores, with every combination of survivors where they are few, sampled where they are many.
//! * Random: long workloads from a seed, with one crash behind the other.
//! * Faults: the n-th call to the disk fails, for every n.
//!
//! The default run takes a share that fits in two minutes. `CRASH_SECONDS=N` gives each explorer so much time and
//! `CRASH_SEEDS=A..B` runs those seeds. A failure prints the shortest workload that still fails, and the command that
//! runs it again.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod activity;
mod check;
mod exhaustive;
mod explore;
mod faults;
mod model;
mod op;
mod shrink;
mod transactions;
mod violation;
mod world;

use std::ops::Range;
use std::time::{Duration, Instant};

use idemlog::IoMode;
use idemlog::sim::Rng;

use explore::{Bounds, Explorer};
use op::Op;
use shrink::Place;
use violation::Checked;
use world::Geometry;

/// What random workloads try at a point.
const BOUNDS: Bounds = Bounds { combinations: 16, samples: 6, again: 64 };
/// How long a default run of random workloads takes.
const SECONDS: u64 = 15;

/// How much time an explorer has.
fn seconds(default: u64) -> Duration {
    let asked = std::env::var("CRASH_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(asked.unwrap_or(default))
}

fn seeds() -> Range<u64> {
    let asked = std::env::var("CRASH_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(0..u64::MAX)
}

fn random(mode: IoMode) {
    let started = Instant::now();
    let mut explorers = Geometry::ALL.map(|geometry| Explorer::new(mode, geometry, BOUNDS));
    let mut last = 0;
    for seed in seeds().take_while(|_| started.elapsed() < seconds(SECONDS)) {
        let (ops, at) = (Op::workload(seed), Rng::new(seed).below(2));
        let explorer = &mut explorers[at as usize];
        if let Err(violation) = explorer.run_with_cuts(&ops) {
            let place = Place { mode, geometry: explorer.geometry, bounds: BOUNDS };
            shrink::fail(place, &format!("CRASH_SEEDS={seed}..{}", seed + 1), &ops, violation);
        }
        explorer.forget();
        last = seed;
    }
    for explorer in explorers {
        eprintln!("random, {mode:?}, {:?}, seeds up to {last}: {}", explorer.geometry, explorer.tally);
    }
}

#[test]
fn nothing_is_lost_doubled_or_made_up_by_crash_after_crash_in_mapped_mode() {
    random(IoMode::Mapped);
}

#[test]
fn nothing_is_lost_doubled_or_made_up_by_crash_after_crash_in_write_mode() {
    random(IoMode::Write);
}

#[test]
fn nothing_is_lost_doubled_or_made_up_by_any_short_workload_in_mapped_mode() {
    exhaustive::explore(IoMode::Mapped);
}

#[test]
fn nothing_is_lost_doubled_or_made_up_by_any_short_workload_in_write_mode() {
    exhaustive::explore(IoMode::Write);
}

/// Workloads in which something was found once.
const FOUND: [&str; 3] = [
    // The shortened index of aborted transactions was on the disk, and a snapshot from behind the missing marker.
    "transact/1/middle abort/1 close truncate/1",
    // An entry of offsets was on the disk, and the entry of the largest timestamp in front of it was not.
    "append/2/exact transact/1/large again/0/0 again/0/0 plain cut/151964580 truncate/3 commit/2 transact/2/exact \
     close append/1/exact new-id/0 transact/1/exact delete/3 plain abort/2 truncate/3 submit/0/exact abort/0 \
     append/2/small new-id/1 submit/1/exact abort/0 sync sync submit/1/large new-id/0 again/1/0 retry named \
     truncate/2 sync transact/2/exact kill both/1 kill submit/1/small delete/1 append/1/middle roll \
     transact/0/small append/1/middle cut/2403719986 append/2/middle append/0/exact cut/2483266891",
    // A killed process had cut the last segment without a sync; opening believed the cut, and the next one saw it undone.
    "named abort/1 sync submit/1/large submit/2/middle transact/0/large named new-id/2 named submit/0/large \
     truncate/4 abort/0 truncate/3 cut/536496175 append/2/exact submit/0/exact append/0/small truncate/3 commit/0 \
     expire append/1/small commit/2 transact/0/large roll abort/1 append/0/small submit/1/small append/1/middle \
     cut/1813967028",
];

#[test]
fn what_was_found_once_stays_away() {
    for workload in FOUND {
        each_place(workload, "", |place, explored| {
            explored.unwrap_or_else(|violation| panic!("{workload} over {place}: {violation}"));
        });
    }
}

/// Runs a workload in every mode and over every geometry, at the places whose text begins as `asked`.
fn each_place(workload: &str, asked: &str, look: impl Fn(Place, Checked<Explorer>)) {
    let ops = op::parse(workload).unwrap();
    let has_cuts = ops.iter().any(|op| matches!(op, Op::Cut { .. }));
    let bounds = if has_cuts { BOUNDS } else { exhaustive::BOUNDS };
    for mode in [IoMode::Mapped, IoMode::Write] {
        for geometry in Geometry::ALL {
            let place = Place { mode, geometry, bounds };
            if place.to_string().starts_with(asked) {
                look(place, shrink::run(place, &ops));
            }
        }
    }
}

/// The workload in `CRASH_WORKLOAD`, in the mode and over the geometry in `CRASH_PLACE`.
#[test]
fn replay() {
    let Ok(workload) = std::env::var("CRASH_WORKLOAD") else { return };
    let asked = std::env::var("CRASH_PLACE").unwrap_or_default();
    each_place(&workload, &asked, |place, explored| match explored {
        Ok(explorer) => eprintln!("{place}: {}", explorer.tally),
        Err(violation) => panic!("{workload} over {place}: {violation}"),
    });
}
