//! The engine and the model with all differences, one operation after the other.

use idemlog::{IoMode, Origin};
use serde_json::{Value, json};

use crate::compare::Comparison;
use crate::counting::loaded;
use crate::differences::Differences;
use crate::engine::{Answer, Engine};
use crate::golden::{Case, Opening};
use crate::model::{Load, Log, Outcome};
use crate::trace::{Line, Op, Trace};

/// Does every operation of a trace to both. Returns how many.
pub fn trace(trace: &Trace, mode: IoMode, comparison: &mut Comparison) -> u64 {
    let mut model = Log::new(trace.settings.clone(), Differences::ALL);
    let mut engine = Engine::new(&trace.settings, mode);
    let mut done = 0;
    for line in &trace.lines {
        engine.set_time(line.now);
        let answer = perform(&mut engine, line, torn(&model, line));
        let outcome = model.perform(line);
        let place = format!("{} line {} in mode {mode:?}", trace.name, line.number);
        comparison.same(&place, &expected(line, &outcome), &answer);
        compare_state(&place, &model, &engine, comparison);
        done += 1;
        if !comparison.mismatches.is_empty() {
            break;
        }
    }
    done
}

/// What is left of the active segment's file when the process dies: its base offset and size.
fn torn(model: &Log, line: &Line) -> (i64, usize) {
    let active = model.active();
    let bytes = if let Op::ReopenUnclean { torn, .. } = line.op { torn } else { 0 };
    (active.base_offset, active.size().saturating_sub(bytes))
}

fn perform(engine: &mut Engine, line: &Line, active: (i64, usize)) -> Answer {
    match &line.op {
        Op::Open => engine.open().unwrap(),
        Op::Append { sent, leader_epoch } => return engine.append(sent, *leader_epoch, Origin::Client),
        Op::Marker { sent, leader_epoch } => return engine.append(sent, *leader_epoch, Origin::Coordinator),
        Op::IncrementLogStart { offset } => return engine.increment_log_start(*offset),
        Op::DeleteOldSegments => return engine.delete_old_segments(),
        Op::Truncate { target } => return engine.truncate(*target),
        Op::ExpireProducers => engine.log().expire_producers(),
        Op::Roll => engine.log().roll().unwrap(),
        Op::Flush => engine.log().sync().unwrap(),
        Op::ReopenClean => engine.reopen_clean().unwrap(),
        Op::ReopenUnclean { log_start, recovery_point, .. } => {
            let load =
                Load { clean: false, log_start: *log_start, recovery_point: *recovery_point, now: line.now };
            engine.reopen_unclean(load, active).unwrap();
        }
        Op::AdvanceTime | Op::CheckState => {}
    }
    Answer::Done
}

fn expected(line: &Line, outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Appended { first, last, .. } => Answer::Appended { first: *first, last: *last },
        Outcome::Duplicate { original, .. } => Answer::Duplicate {
            first: original.first_offset,
            last: original.last_offset,
            timestamp: original.timestamp,
        },
        Outcome::Refused { refusal, .. } => Answer::Refused { exception: refusal.exception },
        Outcome::Done(Some(count)) if matches!(line.op, Op::DeleteOldSegments) => Answer::Deleted(*count),
        Outcome::Done(_) => Answer::Done,
        Outcome::Noop => Answer::Unchanged,
    }
}

/// Opens a golden case's directory with both.
pub fn load(case: &Case, opening: &Opening, mode: IoMode, comparison: &mut Comparison) {
    let model = loaded(case, opening, Differences::ALL);
    let mut engine = Engine::new(&case.settings, mode);
    for (name, bytes) in case.files() {
        let is_deleted =
            [".index", ".timeindex", ".txnindex", ".snapshot"].iter().any(|end| name.ends_with(end));
        if !(opening.from_log_alone && is_deleted) {
            engine.put(&name, &bytes);
        }
    }
    engine.checkpoint(opening.load);
    engine.set_time(opening.load.now);
    let place = format!("{} {} in mode {mode:?}", case.name, opening.name);
    match engine.open() {
        Ok(()) => compare_state(&place, &model, &engine, comparison),
        Err(error) => comparison.mismatches.push(format!("{place}: {error}")),
    }
}

fn compare_state(place: &str, model: &Log, engine: &Engine, comparison: &mut Comparison) {
    comparison.of(place, &shown(model), &engine.state());
    let stored = engine.segments();
    let bases: Vec<i64> = model.segments.keys().copied().filter(|base| *base < model.log_end).collect();
    let files: Vec<i64> = stored.iter().map(|(base, _)| *base).filter(|base| *base < model.log_end).collect();
    comparison.same(&format!("{place}, segments"), &bases, &files);
    for (base, file) in stored {
        let Some(segment) = model.segments.get(&base) else { continue };
        let bytes: Vec<u8> = segment.batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect();
        let is_same =
            file.get(..bytes.len()) == Some(&bytes) && file[bytes.len()..].iter().all(|byte| *byte == 0);
        comparison.same(&format!("{place}, the bytes of segment {base}"), &true, &is_same);
    }
}

/// The model's state, as far as the engine shows its own.
fn shown(model: &Log) -> Value {
    let state = model.state();
    let segments = state["segments"].as_array().unwrap();
    let aborted: Vec<&Value> =
        segments.iter().flat_map(|segment| segment["abortedTxns"].as_array().unwrap()).collect();
    json!({
        "logStartOffset": state["logStartOffset"],
        "logEndOffset": state["logEndOffset"],
        "highWatermark": state["highWatermark"],
        "lastStableOffset": state["lastStableOffset"],
        "firstUndecidedOffset": state["firstUndecidedOffset"],
        "abortedTxns": aborted,
        "leaderEpochs": state["leaderEpochs"],
        "producers": state["producers"],
    })
}
