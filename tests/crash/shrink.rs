//! The shortest workload that still fails, and how to run it again.

use std::fmt;

use idemlog::IoMode;

use crate::explore::{Bounds, Explorer};
use crate::op::{Op, text};
use crate::violation::{Checked, catching};
use crate::world::{Geometry, World};

/// Where a workload fails.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub mode: IoMode,
    pub geometry: Geometry,
    pub bounds: Bounds,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.mode, self.geometry)
    }
}

/// Runs one workload, crashed everywhere; one with power cuts of its own around these.
pub fn run(place: Place, ops: &[Op]) -> Checked<Explorer> {
    let mut explorer = Explorer::new(place.mode, place.geometry, place.bounds);
    if ops.iter().any(|op| matches!(op, Op::Cut { .. })) {
        explorer.run_with_cuts(ops)?;
    } else {
        let world = catching(|| World::run(place.mode, place.geometry, ops))?;
        explorer.crash_everywhere(&world, 0)?;
    }
    Ok(explorer)
}

/// The beginning of a violation without its numbers: another one would lead astray.
fn kind(violation: &str) -> String {
    violation.chars().filter(|letter| letter.is_alphabetic()).take(20).collect()
}

/// Leaves out every step that the failure does not need.
fn shrink(place: Place, mut ops: Vec<Op>, mut violation: String) -> (Vec<Op>, String) {
    let mut at = 0;
    while at < ops.len() {
        let mut fewer = ops.clone();
        fewer.remove(at);
        match run(place, &fewer) {
            Err(still) if kind(&still) == kind(&violation) => (ops, violation, at) = (fewer, still, 0),
            _ => at += 1,
        }
    }
    (ops, violation)
}

/// Prints a failure, makes it small, and fails.
pub fn fail(place: Place, found_by: &str, ops: &[Op], violation: String) -> ! {
    eprintln!("{found_by} fails in {place}: {}\n{violation}", text(ops));
    // The failure may need what other workloads left seen: then it is shown as it was found.
    let (ops, violation) = shrink(place, ops.to_vec(), violation);
    let workload = text(&ops);
    panic!(
        "the shortest workload that fails: {workload}\n{violation}\nagain: CRASH_WORKLOAD='{workload}' \
         CRASH_PLACE={place} cargo test --release --test crash replay -- --nocapture"
    );
}
