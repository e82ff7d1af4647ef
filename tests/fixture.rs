//! The other direction: directories that the example `kafka_fixture` wrote, loaded by the plain model of Kafka's log that
//! equals Kafka's recordings, shown by the tool, and verified. All come to the state that the example saw before the log
//! was closed or killed.
//!
//! `FIXTURE_SEEDS=A..B` tries those seeds.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test, which uses a part of another's modules"
)]

#[path = "kafka/compare.rs"]
mod compare;
#[path = "kafka/differences.rs"]
mod differences;
#[path = "kafka/golden.rs"]
mod golden;
#[path = "kafka/model/mod.rs"]
mod model;
#[path = "kafka/record_batch.rs"]
mod record_batch;

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use idemlog::verify::{Severity, VerifyOptions, verify};
use serde_json::Value;

use compare::Comparison;
use differences::Differences;
use golden::Case;
use model::{Load, Log, Outcome};

/// A directory of the example's.
struct Fixture {
    data: tempfile::TempDir,
    case: Case,
    place: String,
}

fn seeds() -> Range<u64> {
    let asked = std::env::var("FIXTURE_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(0..4)
}

/// Cargo builds the examples for `cargo test`, beside the directory of the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/kafka_fixture");
    assert!(program.exists(), "{} is not built: cargo build --example kafka_fixture", program.display());
    program
}

impl Fixture {
    fn write(seed: u64, crash: bool) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.arg(data.path()).args(["--seed", &seed.to_string()]);
        if crash {
            command.arg("--crash");
        }
        let output = command.output().unwrap();
        let place = format!("seed {seed}{}", if crash { " --crash" } else { "" });
        assert!(output.status.success(), "{place}: {output:?}");
        let mut case = Case::read(data.path());
        case.directory = data.path().join("fixture-0");
        "fixture-0".clone_into(&mut case.settings.partition);
        Self { data, case, place }
    }

    fn state(&self) -> &Value {
        &self.case.expected["stateBeforeClose"]
    }

    fn writer(&self, key: &str) -> i64 {
        self.case.expected["writer"][key].as_i64().unwrap()
    }

    fn load(&self, clean: bool) -> Load {
        let (log_start, recovery_point) = (self.writer("logStartOffset"), self.writer("recoveryPoint"));
        Load { clean, log_start, recovery_point, now: self.writer("nowMs") }
    }

    /// What the model comes to.
    fn loaded(&self, clean: bool, differences: Differences) -> Value {
        let mut log = Log::new(self.case.settings.clone(), differences);
        log.replace(self.case.found());
        let outcome = log.load(self.load(clean));
        assert!(matches!(outcome, Outcome::Done(_)), "{}: {outcome:?}", self.place);
        log.state()
    }

    /// What the tool says.
    fn inspected(&self) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idemlog"));
        command.arg("inspect").arg("--json").arg(&self.case.directory);
        for (flag, key) in
            [("--recovery-point", "recoveryPoint"), ("--log-start", "logStartOffset"), ("--now", "nowMs")]
        {
            command.args([flag, &self.writer(key).to_string()]);
        }
        if !self.case.was_closed() {
            command.arg("--unclean");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", self.place);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The state before the close, without what an opening changes: snapshots and the recovery point.
    fn lasting_state(&self) -> Value {
        let mut state = self.state().clone();
        for changed in ["recoveryPoint", "snapshotOffsets"] {
            state.as_object_mut().unwrap().remove(changed);
        }
        state
    }

    /// What is to be left of that in Kafka: of each producer's batches as many as Kafka remembers. In
    /// a snapshot of Kafka's a batch has the timestamp that was its producer's last one then.
    fn state_in_kafka(&self, loaded: &Value) -> Value {
        let mut state = self.lasting_state();
        let producers = state["producers"].as_array_mut().unwrap();
        for (own, kafkas) in producers.iter_mut().zip(loaded["producers"].as_array().unwrap()) {
            leave_as_in_kafka(own, kafkas["batches"].as_array().unwrap());
        }
        state
    }
}

fn leave_as_in_kafka(producer: &mut Value, kafkas: &[Value]) {
    let last_timestamp = producer["lastTimestamp"].as_i64();
    let batches = producer["batches"].as_array_mut().unwrap();
    let kept = kafkas.len().clamp(usize::from(!batches.is_empty()), batches.len());
    batches.drain(..batches.len() - kept);
    for (own, kafkas) in batches.iter_mut().zip(kafkas) {
        let timestamp = kafkas["timestamp"].as_i64();
        if own["timestamp"].as_i64() <= timestamp && timestamp <= last_timestamp {
            own["timestamp"] = timestamp.into();
        }
    }
}

/// Every seed, closed and killed.
fn fixtures() -> impl Iterator<Item = Fixture> {
    seeds().flat_map(|seed| [false, true].map(|crash| Fixture::write(seed, crash)))
}

#[test]
fn kafka_loads_what_the_engine_wrote() {
    let (mut comparison, mut loads) = (Comparison::default(), 0);
    for fixture in fixtures() {
        // A directory that was closed may have lost its marker.
        let ways: &[bool] = if fixture.case.was_closed() { &[true, false] } else { &[false] };
        for (&clean, differences) in
            ways.iter().flat_map(|clean| [Differences::NONE, Differences::ALL].map(|flags| (clean, flags)))
        {
            let loaded = fixture.loaded(clean, differences);
            let is_kafka = differences == Differences::NONE;
            let place = format!("{} clean {clean} kafka {is_kafka}", fixture.place);
            comparison.of(&place, &fixture.state_in_kafka(&loaded), &loaded);
            loads += 1;
        }
    }
    let _ = writeln!(std::io::stderr(), "{loads} loads, {} fields equal", comparison.fields);
    comparison.expect_none("fixtures");
}

#[test]
fn the_tool_shows_the_state_that_the_engine_was_in() {
    let mut comparison = Comparison::default();
    for fixture in fixtures() {
        comparison.of(&fixture.place, &fixture.lasting_state(), &fixture.inspected());
    }
    comparison.expect_none("inspect");
}

#[test]
fn nothing_is_wrong_with_what_the_engine_wrote() {
    // A truncation inside of a batch leaves a gap, as it does in Kafka.
    let options = VerifyOptions::default().allow_gaps(true);
    for fixture in fixtures() {
        let problems = verify(fixture.data.path(), &options).unwrap().problems;
        let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", fixture.place);
    }
}

/// What Kafka finds beside its own names must be nothing that it would act on, and hold nothing that it would miss.
#[test]
fn no_name_disturbs_kafka() {
    const KAFKAS: [&str; 5] = [".log", ".index", ".timeindex", ".txnindex", ".snapshot"];
    const WHOLE: [&str; 2] = ["leader-epoch-checkpoint", "partition.metadata"];
    for fixture in fixtures() {
        for (name, bytes) in fixture.case.files() {
            let is_kafkas = KAFKAS.iter().any(|end| name.ends_with(end)) || WHOLE.contains(&name.as_str());
            let is_empty = name == "segment.prepared" && bytes.iter().all(|byte| *byte == 0);
            assert!(is_kafkas || is_empty, "{}: {name}", fixture.place);
        }
    }
}

#[test]
fn the_same_seed_writes_the_same_files() {
    for crash in [false, true] {
        let [first, second] = [(); 2].map(|()| Fixture::write(1, crash));
        assert_eq!(first.case.expected, second.case.expected, "{}", first.place);
    }
}
