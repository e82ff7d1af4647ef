//! What was under way where a disk was crashed, told from the disk's journal.

use std::collections::BTreeMap;

use crate::world::World;

/// A piece of work that shows in the journal, from the event that begins it to the one that ends it.
struct Trace {
    name: &'static str,
    begins: &'static str,
    ends: &'static str,
    /// Only while a directory is opened, or only while not.
    opening: Option<bool>,
}

const PREPARED: &str = "Add { name: \"segment.prepared\"";
const NAMED: &str = "Rename { from: \"segment.prepared\"";

const TRACES: [Trace; 7] = [
    Trace { name: "prepare a segment", begins: PREPARED, ends: "allocate", opening: None },
    Trace { name: "name a segment", begins: NAMED, ends: "sync directory", opening: Some(false) },
    Trace { name: "adopt a segment", begins: NAMED, ends: "sync directory", opening: Some(true) },
    Trace { name: "snapshot", begins: ".snapshot.tmp\", entry", ends: "sync directory", opening: None },
    Trace { name: "recovery point", begins: "recovery-point", ends: "sync directory", opening: None },
    Trace { name: "cut", begins: "set the length", ends: "sync file", opening: Some(true) },
    Trace { name: "trim", begins: "set the length", ends: "sync file", opening: Some(false) },
];

/// What must have been crashed inside of by the explorers.
pub const REQUIRED: [&str; 17] = [
    "open",
    "append",
    "submit",
    "transact",
    "commit",
    "abort",
    "sync",
    "roll",
    "truncate",
    "delete",
    "close",
    "kill",
    "prepare a segment",
    "adopt a segment",
    "snapshot",
    "recovery point",
    "cut",
];

/// For each point of a journal, what was begun and not finished there.
pub fn activities(world: &World) -> BTreeMap<usize, Vec<&'static str>> {
    let mut found: BTreeMap<usize, Vec<&'static str>> = BTreeMap::new();
    for span in &world.spans {
        (span.from + 1..span.to).for_each(|point| found.entry(point).or_default().push(span.verb));
    }
    for trace in &TRACES {
        points_inside(world, trace).for_each(|point| found.entry(point).or_default().push(trace.name));
    }
    found
}

fn points_inside<'a>(world: &'a World, trace: &'a Trace) -> impl Iterator<Item = usize> + 'a {
    let mut inside = false;
    (1..world.disk.crash_points()).filter(move |&point| {
        let event = world.disk.describe(point);
        if event.contains(trace.begins) {
            inside = trace.opening.is_none_or(|opening| opening == is_opening(world, point));
        } else if event.contains(trace.ends) {
            inside = false;
        }
        inside
    })
}

/// Whether a directory was being opened. (Closing well cuts nothing and adopts nothing.)
fn is_opening(world: &World, point: usize) -> bool {
    let span = world.spans.iter().find(|span| span.from < point && point <= span.to);
    span.is_some_and(|span| matches!(span.verb, "open" | "kill"))
}
