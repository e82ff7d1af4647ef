//! Every workload of up to four steps.
//!
//! A workload is crashed inside of its last step only: crashes inside of the others are those of a shorter workload. A
//! step that neither changed the disk nor promised anything leads nowhere, and no longer workload goes through it.

use std::time::Instant;

use idemlog::IoMode;

use crate::activity::REQUIRED;
use crate::explore::{Bounds, Explorer};
use crate::op::Op;
use crate::shrink::{self, Place};
use crate::violation::{Checked, catching};
use crate::world::{Geometry, World};

/// What is tried at a point.
pub const BOUNDS: Bounds = Bounds { combinations: 64, samples: 12, again: 64 };
/// How long a default run takes.
const SECONDS: u64 = 30;
/// The longest workloads.
const LENGTH: usize = 4;

/// The workloads of one length that lead somewhere, in an order that takes from everywhere when time is short.
fn longer(workloads: &[Vec<Op>]) -> Vec<Vec<Op>> {
    let mut longer: Vec<Vec<Op>> = workloads
        .iter()
        .flat_map(|ops| Op::ALPHABET.map(|op| ops.iter().copied().chain([op]).collect()))
        .collect();
    let mut rng = idemlog::sim::Rng::new(longer.len() as u64);
    for at in (1..longer.len()).rev() {
        longer.swap(at, rng.below(at as u64 + 1) as usize);
    }
    longer
}

/// Crashes a workload inside of its last step. `false` if that step did nothing.
fn explore_one(explorer: &mut Explorer, ops: &[Op]) -> Checked<bool> {
    let world = catching(|| World::run(explorer.mode, explorer.geometry, ops))?;
    let (Some(last), [.., before, after]) = (world.spans.last(), &world.moments[..]) else { return Ok(true) };
    if !ops.is_empty() && last.from == last.to && before.hash() == after.hash() {
        return Ok(false);
    }
    explorer.tally.workloads += 1;
    explorer.crash_everywhere(&world, last.from)?;
    Ok(true)
}

/// Both geometries.
struct Search {
    mode: IoMode,
    explorers: [Explorer; 2],
    deadline: Instant,
}

impl Search {
    /// Whether the workload leads somewhere.
    fn one(&mut self, ops: &[Op]) -> bool {
        let mode = self.mode;
        let lives = self.explorers.each_mut().map(|explorer| {
            explore_one(explorer, ops).unwrap_or_else(|violation| {
                let place = Place { mode, geometry: explorer.geometry, bounds: BOUNDS };
                shrink::fail(place, "a short workload", ops, violation)
            })
        });
        lives.contains(&true)
    }

    /// Explores workloads as far as the time goes, and at least until everything was crashed inside of once; those that
    /// lead somewhere.
    fn all(&mut self, workloads: Vec<Vec<Op>>, length: usize) -> Vec<Vec<Op>> {
        let (count, mut done, mut live) = (workloads.len(), 0, Vec::new());
        for ops in workloads {
            if Instant::now() > self.deadline && self.missed().is_empty() {
                break;
            }
            done += 1;
            if self.one(&ops) {
                live.push(ops);
            }
        }
        eprintln!(
            "exhaustive, {:?}: {done} of {count} workloads of {length} steps, {} lead on",
            self.mode,
            live.len()
        );
        live
    }

    fn report(&self) {
        for Explorer { geometry, tally, .. } in &self.explorers {
            eprintln!("exhaustive, {:?}, {geometry:?}: {tally}", self.mode);
        }
        let missed = self.missed();
        assert!(missed.is_empty(), "nothing was crashed inside of {missed:?}");
    }

    /// What must be crashed inside of, and was not yet.
    fn missed(&self) -> Vec<&'static str> {
        let misses = |name: &&str| self.explorers.iter().all(|one| !one.tally.inside.contains_key(*name));
        REQUIRED.iter().copied().filter(misses).collect()
    }
}

/// Explores all workloads, over both geometries, as far as the time goes.
pub fn explore(mode: IoMode) {
    let explorers = Geometry::ALL.map(|geometry| Explorer::new(mode, geometry, BOUNDS));
    let mut search = Search { mode, explorers, deadline: Instant::now() + crate::seconds(SECONDS) };
    let mut workloads = vec![Vec::new()];
    for length in 0..=LENGTH {
        workloads = longer(&search.all(workloads, length));
    }
    search.report();
}
