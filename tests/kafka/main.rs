//! What Kafka's own log decided, replayed: a plain model of it must equal the recordings in every field, and the engine
//! must equal that model with the flags of the meant differences set, after every operation.
//!
//! `IDEMLOG_FIXTURES=DIR` reads another folder of the same layout, `golden/` and `traces/`.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test, and nobody's library")]

mod compare;
mod counting;
mod differences;
mod engine;
mod golden;
mod history;
#[path = "../../src/bin/idemlog/kafka_json.rs"]
mod kafka_json;
mod lockstep;
mod model;
mod record_batch;
mod trace;

use std::io::Write;
use std::path::PathBuf;

use compare::Comparison;
use counting::Table;
use differences::Differences;
use golden::{Case, Opening};
use history::History;
use idemlog::IoMode;
use model::{Load, Log, Origin, Outcome, Settings};
use record_batch::{Content, Records};
use trace::Trace;

/// Both ways to the disk.
const MODES: [IoMode; 2] = [IoMode::Mapped, IoMode::Write];

fn fixtures() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kafka");
    std::env::var_os("IDEMLOG_FIXTURES").map_or_else(|| own.into(), PathBuf::from)
}

fn sorted(folder: &str) -> Vec<PathBuf> {
    let directory = fixtures().join(folder);
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn traces() -> Vec<Trace> {
    let is_trace = |path: &PathBuf| path.to_string_lossy().ends_with(".jsonl.gz");
    let traces: Vec<Trace> =
        sorted("traces").into_iter().filter(is_trace).map(|path| Trace::read(&path)).collect();
    assert!(!traces.is_empty(), "no traces in {}", fixtures().display());
    traces
}

fn cases() -> Vec<Case> {
    let is_case = |path: &PathBuf| path.join("expected.json").exists();
    let cases: Vec<Case> =
        sorted("golden").into_iter().filter(is_case).map(|path| Case::read(&path)).collect();
    assert!(!cases.is_empty(), "no golden cases in {}", fixtures().display());
    cases
}

/// Also seen when the test passes.
fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn the_model_is_kafka_in_every_line_of_every_trace() {
    let (mut comparison, mut lines) = (Comparison::default(), 0);
    for trace in traces() {
        let mut log = Log::new(trace.settings.clone(), Differences::NONE);
        for line in &trace.lines {
            let before = log.log_end;
            let outcome = log.perform(line);
            let place = format!("{} line {}", trace.name, line.number);
            comparison.of(&place, &line.recorded, &log.answer(line, before, &outcome));
            lines += 1;
        }
    }
    print(&format!("model of Kafka, traces: {lines} lines, {} fields equal", comparison.fields));
    comparison.expect_none("traces");
}

#[test]
fn the_model_is_kafka_in_every_golden_case() {
    let (mut comparison, mut loads) = (Comparison::default(), 0);
    for case in cases() {
        let mut log = Log::new(case.settings.clone(), Differences::NONE);
        comparison
            .mismatches
            .extend(case.append_all(&mut log).into_iter().map(|wrong| format!("{} {wrong}", case.name)));
        comparison.of(&case.name, &case.expected["stateBeforeClose"], &log.state());
        for opening in case.openings() {
            comparison.of(
                &format!("{} {}", case.name, opening.name),
                &opening.recorded,
                &opened(&case, &opening),
            );
            loads += 1;
        }
    }
    print(&format!("model of Kafka, golden cases: {loads} loads, {} fields equal", comparison.fields));
    comparison.expect_none("golden cases");
}

fn opened(case: &Case, opening: &Opening) -> serde_json::Value {
    let mut log = Log::new(case.settings.clone(), Differences::NONE);
    let found = case.found();
    log.replace(if opening.from_log_alone { found.log_alone() } else { found });
    match log.load(opening.load) {
        Outcome::Refused { refusal, .. } => serde_json::json!({
            "exception": format!("org.apache.kafka.common.errors.{}", refusal.exception),
            "message": refusal.message,
        }),
        _ => log.state(),
    }
}

/// Where nothing was damaged, the model leaves what Kafka left: batches byte for byte, snapshots, leader epochs.
#[test]
fn the_model_leaves_what_kafka_left() {
    let mut comparison = Comparison::default();
    for case in cases() {
        let mut log = Log::new(case.settings.clone(), Differences::NONE);
        case.append_all(&mut log);
        if case.was_closed() {
            log.close();
        }
        case.compare_files(&log, &mut comparison);
    }
    print(&format!("model of Kafka, files of golden cases: {} parts equal", comparison.fields));
    comparison.expect_none("files");
}

/// After whatever was lost, no producer shows a batch that was not appended at these offsets, or that was cut off again.
#[test]
fn what_is_remembered_of_a_producer_is_true() {
    let mut remembered = 0;
    for trace in traces() {
        for differences in [Differences::NONE, Differences::ALL] {
            let mut log = Log::new(trace.settings.clone(), differences);
            let mut history = History::default();
            for line in &trace.lines {
                let outcome = log.perform(line);
                history.note(line, &outcome, &log);
                remembered += history.check(&log, &format!("{} line {}", trace.name, line.number));
            }
        }
    }
    print(&format!("windows: {remembered} remembered batches true"));
}

/// A transaction was opened, the log start moved past its beginning, a truncation forgot it.
#[test]
fn a_log_that_kafka_cannot_load_is_opened() {
    let settings = Settings {
        partition: "trace-0".to_owned(),
        segment_bytes: 8192,
        segment_ms: i64::MAX,
        max_batch_bytes: 4096,
        expiry_ms: 60_000,
    };
    let batch = |producer_id, base_sequence, transactional| {
        let (producer_epoch, timestamp) = (if producer_id < 0 { -1 } else { 0 }, 0);
        let records = Records::Data { count: 1, value_size: 1 };
        Content { producer_id, producer_epoch, base_sequence, transactional, timestamp, records }.encode()
    };
    let opened = |differences| {
        let mut log = Log::new(settings.clone(), differences);
        let append = |log: &mut Log, sent| log.append(&sent, 0, Origin::Client);
        append(&mut log, batch(7, 0, true));
        (0..3).for_each(|_| drop(append(&mut log, batch(-1, -1, false))));
        log.increment_log_start(2);
        log.truncate(3, 0);
        append(&mut log, batch(7, 1, false));
        log.load(Load { clean: false, log_start: 0, recovery_point: 0, now: 0 })
    };
    let outcome = opened(Differences::NONE);
    let is_refused = matches!(&outcome, Outcome::Refused { refusal, .. } if refusal.exception == "InvalidTxnStateException");
    assert!(is_refused, "{outcome:?}");
    assert_eq!(opened(Differences { open_never_fails: true, ..Differences::NONE }), Outcome::Done(None));
    assert_eq!(opened(Differences::ALL), Outcome::Done(None));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation: cargo test --release --test kafka")]
fn each_meant_difference_is_counted() {
    let mut table = Table::new();
    traces().iter().for_each(|trace| table.count_trace(trace));
    for case in cases() {
        case.openings().iter().for_each(|opening| table.count_load(&case, opening));
    }
    print(&table.print());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation: cargo test --release --test kafka")]
fn the_engine_is_the_model_with_all_differences_in_every_trace() {
    let (mut comparison, mut lines, mut reached) = (Comparison::default(), 0, 0);
    for trace in traces() {
        for mode in MODES {
            let mut own = Comparison::default();
            reached += lockstep::trace(&trace, mode, &mut own);
            lines += trace.lines.len();
            comparison.add(own);
        }
    }
    print(&format!("engine, traces: {reached} of {lines} operations, {} fields equal", comparison.fields));
    comparison.expect_none("engine");
}

#[test]
fn the_engine_is_the_model_with_all_differences_in_every_golden_case() {
    let (mut comparison, mut loads) = (Comparison::default(), 0);
    for case in cases() {
        for (opening, mode) in case.openings().iter().flat_map(|opening| MODES.map(|mode| (opening, mode))) {
            lockstep::load(&case, opening, mode, &mut comparison);
            loads += 1;
        }
    }
    print(&format!("engine, golden cases: {loads} loads, {} fields equal", comparison.fields));
    comparison.expect_none("engine");
}
