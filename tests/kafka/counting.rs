//! How often each meant difference changed an answer.
//!
//! Before every operation the log is asked twice: with the difference and without. If the answers, or the states after
//! them, are not the same, the difference changed an answer there. Nothing is carried over from one operation to the
//! next.

use serde_json::Value;

use crate::differences::Differences;
use crate::golden::{Case, Opening};
use crate::model::{Log, Outcome};
use crate::trace::{Line, Op, Trace};

/// The counts of one difference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Operations of the traces, in Kafka's log with the difference.
    pub alone: u64,
    /// Operations of the traces, in idemlog's log without it.
    pub left_out: u64,
    /// Loads of the golden cases, likewise.
    pub loads_alone: u64,
    pub loads_left_out: u64,
}

/// The differences by name, and what they changed.
#[derive(Clone, Debug)]
pub struct Table {
    alone: Vec<(&'static str, Differences)>,
    left_out: Vec<(&'static str, Differences)>,
    counts: Vec<Counts>,
}

impl Table {
    pub fn new() -> Self {
        let alone = Differences::each_alone();
        let counts = vec![Counts::default(); alone.len()];
        Self { alone, left_out: Differences::each_left_out(), counts }
    }

    pub fn count_trace(&mut self, trace: &Trace) {
        let counts = self.counts.iter_mut();
        let (mut alone, mut left_out) = (vec![0; counts.len()], vec![0; counts.len()]);
        count_operations(trace, Differences::NONE, &self.alone, &mut alone);
        count_operations(trace, Differences::ALL, &self.left_out, &mut left_out);
        for (counts, (alone, left_out)) in counts.zip(alone.into_iter().zip(left_out)) {
            counts.alone += alone;
            counts.left_out += left_out;
        }
    }

    pub fn count_load(&mut self, case: &Case, opening: &Opening) {
        let answer = |differences| comparable(&loaded(case, opening, differences));
        let (kafka, idemlog) = (answer(Differences::NONE), answer(Differences::ALL));
        for (at, counts) in self.counts.iter_mut().enumerate() {
            counts.loads_alone += u64::from(answer(self.alone[at].1) != kafka);
            counts.loads_left_out += u64::from(answer(self.left_out[at].1) != idemlog);
        }
    }

    pub fn print(&self) -> String {
        let mut text = format!(
            "answers changed by each meant difference {:>10} {:>10} {:>10} {:>10}\n{:>51} {:>10} {:>10} {:>10}\n",
            "traces", "traces", "loads", "loads", "alone", "left out", "alone", "left out"
        );
        for ((name, _), counts) in self.alone.iter().zip(&self.counts) {
            let Counts { alone, left_out, loads_alone, loads_left_out } = counts;
            text +=
                &format!("  {name:<38} {alone:>10} {left_out:>10} {loads_alone:>10} {loads_left_out:>10}\n");
        }
        text
    }
}

fn count_operations(
    trace: &Trace,
    own: Differences,
    others: &[(&'static str, Differences)],
    counts: &mut [u64],
) {
    let mut log = Log::new(trace.settings.clone(), own);
    for line in &trace.lines {
        let asked = log.clone();
        let answer = answer(&mut log, line);
        for (at, (_, differences)) in others.iter().enumerate() {
            if may_matter(line, own, *differences) {
                let mut other = Log { differences: *differences, ..asked.clone() };
                counts[at] += u64::from(self::answer(&mut other, line) != answer);
            }
        }
    }
}

/// Of all the differences only the first has a say in an append.
fn may_matter(line: &Line, own: Differences, other: Differences) -> bool {
    let is_append = matches!(line.op, Op::Append { .. } | Op::Marker { .. });
    !is_append || own.judge_before_roll != other.judge_before_roll
}

fn answer(log: &mut Log, line: &Line) -> (Outcome, Value) {
    let outcome = log.perform(line);
    (outcome, comparable(log))
}

/// What a user can see of a log: not which snapshots there are, and what they were taken at.
fn comparable(log: &Log) -> Value {
    let mut state = log.state();
    let fields = state.as_object_mut().unwrap();
    for hidden in ["snapshotOffsets", "recoveryPoint", "producerMapEndOffset"] {
        fields.remove(hidden);
    }
    state
}

/// The log of a golden case as it is opened.
pub fn loaded(case: &Case, opening: &Opening, differences: Differences) -> Log {
    let mut log = Log::new(case.settings.clone(), differences);
    let found = case.found();
    log.replace(if opening.from_log_alone { found.log_alone() } else { found });
    if let Outcome::Refused { .. } = log.load(opening.load) {
        // A log that does not open shows nothing.
        log.segments.clear();
        log.segments.insert(i64::MAX, crate::model::Segment::empty(i64::MAX));
    }
    log
}
