//! What Kafka loads from a directory, this engine comes to as well, but for the meant differences: each a named
//! exception, and how often it was met is counted. Both sides are JSON: Kafka's as recorded, ours from `idemlog inspect`.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use idemlog::verify::{VerifyOptions, verify};
use serde_json::Value;

const CASES: [&str; 21] = [
    "a1_idempotent_clean",
    "a2_idempotent_crash",
    "a3_non_idempotent",
    "a5_rejections",
    "b1_txn_clean",
    "b2_txn_open_crash",
    "b4_markers_edge",
    "c_gzip",
    "c_lz4",
    "c_snappy",
    "c_zstd",
    "d1_epoch_bump",
    "e11_txn_missing_txnindex",
    "e1_torn_tail",
    "e2_flipped_byte_last_batch",
    "e3_missing_indexes",
    "e4_corrupt_last_snapshot",
    "e6_no_snapshots_clean",
    "e7_flipped_byte_middle_segment",
    "e8_zero_tail",
    "e9_corrupt_index",
];

fn fixtures() -> PathBuf {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kafka");
    std::env::var_os("IDEMLOG_FIXTURES").map_or_else(|| own.into(), PathBuf::from).join("golden")
}

/// What one load came to on both sides.
struct Load {
    place: String,
    kafka: Value,
    /// What Kafka comes to when the log is not taken for clean: its state where the clean marker lied.
    unclean: Value,
    /// What Kafka comes to when it recovers everything, indexes and snapshots at hand.
    recovered: Value,
    ours: Value,
}

/// Named exceptions, and how often each was met; and what is explained by none.
#[derive(Default)]
struct Outcome {
    loads: usize,
    exceptions: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

#[test]
fn every_load_of_kafkas_comes_to_the_same_state() {
    let mut outcome = Outcome::default();
    for case in CASES {
        let directory = fixtures().join(case);
        let text = std::fs::read_to_string(directory.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        for (name, kafka) in expected["loads"].as_object().unwrap() {
            let partition = partition(&directory.join("golden-0"), name);
            let before = files(&partition.path().join("golden-0"));
            let ours = inspect(&partition.path().join("golden-0"), &kafka["loadArgs"]);
            assert_eq!(files(&partition.path().join("golden-0")), before, "{case} {name} was changed");
            let load = Load {
                place: format!("{case} {name}"),
                kafka: kafka.clone(),
                unclean: expected["loads"]["unclean_recoveryPointOfWriter"].clone(),
                recovered: expected["loads"]["unclean_recoveryPoint0"].clone(),
                ours,
            };
            outcome.compare(&load);
        }
    }
    let _ = writeln!(std::io::stderr(), "{} loads, exceptions: {:?}", outcome.loads, outcome.exceptions);
    assert!(outcome.wrong.is_empty(), "{} wrong:\n{}", outcome.wrong.len(), outcome.wrong.join("\n"));
    assert_eq!(outcome.loads, 84);
    assert_eq!(outcome.exceptions, meant());
}

#[test]
fn nothing_is_wrong_with_what_kafka_left_but_the_damage() {
    let is_damaged = |case: &&str| {
        let directory = fixtures().join(case).join("golden-0");
        verify(directory, &VerifyOptions::default()).unwrap().has_errors()
    };
    let damaged: Vec<&str> = CASES.into_iter().filter(is_damaged).collect();
    let expected = [
        "e1_torn_tail",
        "e2_flipped_byte_last_batch",
        "e4_corrupt_last_snapshot",
        "e7_flipped_byte_middle_segment",
        "e9_corrupt_index",
    ];
    assert_eq!(damaged, expected);
}

/// How often each exception is met: no more, and no fewer.
fn meant() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("a clean marker is checked", 3),
        ("a clean marker that lied counts for nothing", 2),
        ("a missing transaction index is rebuilt", 7),
        ("largest timestamp of batches", 5),
        ("no hole is made", 1),
        ("state outlives records", 1),
        ("true timestamps", 9),
        ("window survives", 97),
    ])
}

impl Outcome {
    fn compare(&mut self, load: &Load) {
        self.loads += 1;
        let (kafka, ours) = (self.meant_state(load), &load.ours);
        let keys = [
            "logStartOffset",
            "logEndOffset",
            "highWatermark",
            "lastStableOffset",
            "firstUndecidedOffset",
            "producerMapEndOffset",
            "leaderEpochs",
        ];
        self.same(&load.place, &keys, kafka, ours);
        self.recovery_point(load, kafka);
        for (at, kafka, ours) in self.pairs(&load.place, "segments", kafka, ours) {
            let recovered = &load.recovered["segments"][at];
            self.segment(&format!("{} segment {at}", load.place), kafka, ours, recovered);
        }
        let is_forgetful = array(kafka, "producers").is_empty() && !array(ours, "producers").is_empty();
        let kafka = if is_forgetful {
            self.except("state outlives records");
            &load.recovered
        } else {
            kafka
        };
        for (at, kafka, ours) in self.pairs(&load.place, "producers", kafka, ours) {
            self.producer(&format!("{} producer {at}", load.place), kafka, ours);
        }
    }

    /// What Kafka comes to, if it is asked so that both do the same with the log.
    fn meant_state<'a>(&mut self, load: &'a Load) -> &'a Value {
        let recovery = &load.ours["recovery"];
        let end_was_found_wrong = !recovery["cut"].is_null() || recovery["trimmedBytes"] != 0;
        if recovery["markedClean"] == true && end_was_found_wrong {
            self.except("a clean marker is checked");
            &load.unclean
        } else if !recovery["cut"].is_null() && load.kafka["logEndOffset"] != load.ours["logEndOffset"] {
            self.except("no hole is made");
            &load.recovered
        } else {
            &load.kafka
        }
    }

    /// Kafka takes the end of a log that is marked clean for its recovery point. Here a marker that lied counts for
    /// nothing.
    fn recovery_point(&mut self, load: &Load, kafka: &Value) {
        let (arguments, ours) = (&load.kafka["loadArgs"], &load.ours["recoveryPoint"]);
        let is_clean = arguments["hadCleanShutdown"] == true;
        let expected = if is_clean { &kafka["logEndOffset"] } else { &kafka["recoveryPoint"] };
        if is_clean && ours != expected && *ours == arguments["recoveryPointCheckpoint"] {
            self.except("a clean marker that lied counts for nothing");
        } else if ours != expected {
            self.wrong.push(format!("{} recoveryPoint: Kafka {expected}, ours {ours}", load.place));
        }
    }

    fn except(&mut self, exception: &'static str) {
        *self.exceptions.entry(exception).or_default() += 1;
    }

    /// Holds the values of `keys` against each other.
    fn same(&mut self, place: &str, keys: &[&str], kafka: &Value, ours: &Value) {
        for key in keys {
            if kafka[key] != ours[key] {
                self.wrong.push(format!("{place} {key}: Kafka {}, ours {}", kafka[key], ours[key]));
            }
        }
    }

    /// The elements of both arrays, which must be as many.
    fn pairs<'a>(
        &mut self,
        place: &str,
        key: &str,
        kafka: &'a Value,
        ours: &'a Value,
    ) -> Vec<(usize, &'a Value, &'a Value)> {
        let (kafkas, ours) = (array(kafka, key), array(ours, key));
        if kafkas.len() != ours.len() {
            self.wrong.push(format!("{place}: Kafka has {} {key}, ours {}", kafkas.len(), ours.len()));
        }
        kafkas.iter().zip(ours).enumerate().map(|(at, (kafka, ours))| (at, kafka, ours)).collect()
    }

    fn segment(&mut self, place: &str, kafka: &Value, ours: &Value, recovered: &Value) {
        self.same(place, &["baseOffset", "sizeInBytes", "nextOffset"], kafka, ours);
        if array(kafka, "abortedTxns").is_empty() && !array(ours, "abortedTxns").is_empty() {
            self.except("a missing transaction index is rebuilt");
            self.same(place, &["abortedTxns"], recovered, ours);
        } else {
            self.same(place, &["abortedTxns"], kafka, ours);
        }
        if kafka["largestTimestamp"] == 0 && ours["largestTimestamp"].as_i64() > Some(0) {
            self.except("largest timestamp of batches");
        } else {
            self.same(place, &["largestTimestamp"], kafka, ours);
        }
    }

    fn producer(&mut self, place: &str, kafka: &Value, ours: &Value) {
        let keys =
            ["producerId", "producerEpoch", "coordinatorEpoch", "lastTimestamp", "currentTxnFirstOffset"];
        self.same(place, &keys, kafka, ours);
        let (kafkas, own) = (array(kafka, "batches"), array(ours, "batches"));
        let kafkas_last = &kafka["lastTimestamp"];
        if kafkas.len() < own.len() {
            self.except("window survives");
        }
        for (kafka, ours) in kafkas.iter().rev().zip(own.iter().rev()) {
            self.same(place, &["firstSeq", "lastSeq", "firstOffset", "lastOffset"], kafka, ours);
            self.timestamp(place, &ours["timestamp"], kafka, kafkas_last);
        }
        if kafkas.len() > own.len() {
            self.wrong.push(format!("{place}: Kafka remembers more, {kafkas:?}, ours {own:?}"));
        }
    }

    /// Kafka gives the last batch that it reads from a snapshot its producer's last timestamp.
    fn timestamp(&mut self, place: &str, ours: &Value, kafka: &Value, producers_last: &Value) {
        if kafka["timestamp"] == *ours {
            return;
        }
        self.except("true timestamps");
        if kafka["timestamp"] != *producers_last {
            self.wrong.push(format!("{place}: Kafka {kafka}, ours of {ours}"));
        }
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

/// What the tool says of a partition that is opened as Kafka opened it.
fn inspect(partition: &Path, arguments: &Value) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_idemlog"));
    command.arg("inspect").arg("--json").arg(partition);
    let numbers = [
        ("--recovery-point", "recoveryPointCheckpoint"),
        ("--log-start", "logStartOffsetCheckpoint"),
        ("--now", "nowMs"),
        ("--producer-expiry", "producerIdExpirationMs"),
    ];
    for (flag, key) in numbers {
        command.args([flag, &arguments[key].as_i64().unwrap().to_string()]);
    }
    if arguments["hadCleanShutdown"] == false {
        command.arg("--unclean");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A copy of the directory, without every index and snapshot where the load says so.
fn partition(directory: &Path, load: &str) -> tempfile::TempDir {
    let log_alone = load.ends_with("indexesAndSnapshotsDeleted");
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join("golden-0");
    std::fs::create_dir(&target).unwrap();
    for (name, bytes) in files(directory) {
        let is_derived = ["index", "snapshot"].iter().any(|suffix| name.ends_with(suffix));
        if !(log_alone && is_derived) {
            std::fs::write(target.join(name), bytes).unwrap();
        }
    }
    copy
}

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    };
    std::fs::read_dir(directory).unwrap().map(file).collect()
}
