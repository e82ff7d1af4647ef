//! What Kafka loads from a directory, this engine comes to as well, but for the meant differences: each a named
//! exception, and how often it was met is counted.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use idemlog::inspect::{InspectOptions, Inspection, inspect};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Offset, ProducerBatch, ProducerInfo, Timestamp};
use serde_json::{Value, json};

const CASES: [&str; 15] = [
    "a1_idempotent_clean",
    "a2_idempotent_crash",
    "a3_non_idempotent",
    "a5_rejections",
    "c_gzip",
    "c_lz4",
    "c_snappy",
    "c_zstd",
    "d1_epoch_bump",
    "e1_torn_tail",
    "e2_flipped_byte_last_batch",
    "e3_missing_indexes",
    "e4_corrupt_last_snapshot",
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
    ours: Inspection,
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
            let ours = inspect(partition.path().join("golden-0"), &options(&kafka["loadArgs"]));
            assert_eq!(files(&partition.path().join("golden-0")), before, "{case} {name} was changed");
            let load = Load {
                place: format!("{case} {name}"),
                kafka: kafka.clone(),
                unclean: expected["loads"]["unclean_recoveryPointOfWriter"].clone(),
                ours: ours.unwrap(),
            };
            outcome.compare(&load);
        }
    }
    let _ = writeln!(std::io::stderr(), "{} loads, exceptions: {:?}", outcome.loads, outcome.exceptions);
    assert!(outcome.wrong.is_empty(), "{} wrong:\n{}", outcome.wrong.len(), outcome.wrong.join("\n"));
    assert_eq!(outcome.loads, 60);
    assert_eq!(outcome.exceptions, meant());
}

#[test]
fn nothing_is_wrong_with_what_kafka_left_but_the_damage() {
    let is_damaged = |case: &&str| {
        let directory = fixtures().join(case).join("golden-0");
        verify(directory, &VerifyOptions::default()).unwrap().has_errors()
    };
    let damaged: Vec<&str> = CASES.into_iter().filter(is_damaged).collect();
    let expected =
        ["e1_torn_tail", "e2_flipped_byte_last_batch", "e4_corrupt_last_snapshot", "e9_corrupt_index"];
    assert_eq!(damaged, expected);
}

/// How often each exception is met: no more, and no fewer.
fn meant() -> BTreeMap<&'static str, usize> {
    BTreeMap::from([
        ("a clean marker is checked", 3),
        ("largest timestamp of batches", 3),
        ("window survives", 56),
    ])
}

impl Outcome {
    fn compare(&mut self, load: &Load) {
        self.loads += 1;
        let recovery = &load.ours.recovery;
        let end_was_found_wrong = recovery.cut.is_some() || recovery.trimmed_bytes > 0;
        let kafka = if recovery.marked_clean && end_was_found_wrong {
            self.except("a clean marker is checked");
            &load.unclean
        } else {
            &load.kafka
        };
        let ours = &load.ours;
        self.same(&load.place, "logStartOffset", &kafka["logStartOffset"], &json!(ours.log_start.0));
        self.same(&load.place, "logEndOffset", &kafka["logEndOffset"], &json!(ours.log_end.0));
        let epochs =
            ours.leader_epochs.iter().map(|(epoch, start)| json!({"epoch": epoch.0, "startOffset": start.0}));
        self.same(&load.place, "leaderEpochs", &kafka["leaderEpochs"], &epochs.collect());
        self.segments(load, kafka);
        self.producers(load, kafka);
    }

    fn except(&mut self, exception: &'static str) {
        *self.exceptions.entry(exception).or_default() += 1;
    }

    fn same(&mut self, place: &str, what: &str, kafka: &Value, ours: &Value) {
        if kafka != ours {
            self.wrong.push(format!("{place} {what}: Kafka {kafka}, ours {ours}"));
        }
    }

    fn segments(&mut self, load: &Load, kafka: &Value) {
        let segments = array(kafka, "segments");
        if segments.len() != load.ours.segments.len() {
            return self.wrong.push(format!("{}: {} segments", load.place, load.ours.segments.len()));
        }
        for (kafka, ours) in segments.iter().zip(&load.ours.segments) {
            let place = format!("{} segment {}", load.place, ours.base_offset);
            self.same(&place, "base", &kafka["baseOffset"], &json!(ours.base_offset.0));
            self.same(&place, "bytes", &kafka["sizeInBytes"], &json!(ours.bytes));
            self.same(&place, "next", &kafka["nextOffset"], &json!(ours.next_offset.0));
            if kafka["largestTimestamp"] == 0 && ours.largest_timestamp > Timestamp(0) {
                self.except("largest timestamp of batches");
            } else {
                self.same(&place, "timestamp", &kafka["largestTimestamp"], &json!(ours.largest_timestamp.0));
            }
        }
    }

    fn producers(&mut self, load: &Load, kafka: &Value) {
        let producers = array(kafka, "producers");
        let ids = |ids: Vec<i64>| json!(ids);
        let kafkas = producers.iter().map(|producer| producer["producerId"].as_i64().unwrap()).collect();
        let ours = load.ours.producers.iter().map(|producer| producer.producer_id.0).collect();
        if kafkas != ours {
            return self.same(&load.place, "producers", &ids(kafkas), &ids(ours));
        }
        for (kafka, ours) in producers.iter().zip(&load.ours.producers) {
            self.producer(&format!("{} producer {}", load.place, ours.producer_id), kafka, ours);
        }
    }

    fn producer(&mut self, place: &str, kafka: &Value, ours: &ProducerInfo) {
        self.same(place, "epoch", &kafka["producerEpoch"], &json!(ours.epoch.0));
        self.same(
            place,
            "coordinator",
            &kafka["coordinatorEpoch"],
            &json!(ours.coordinator_epoch.unwrap_or(-1)),
        );
        self.same(place, "timestamp", &kafka["lastTimestamp"], &json!(ours.last_timestamp.0));
        let transaction = ours.transaction_first_offset.map(|first| first.0);
        self.same(place, "transaction", &kafka["currentTxnFirstOffset"], &json!(transaction));
        let (kafkas, ours) = (array(kafka, "batches"), ours.batches.iter().map(batch).collect::<Vec<_>>());
        if kafkas.len() < ours.len() && ours.ends_with(kafkas) {
            return self.except("window survives");
        }
        self.same(place, "batches", &json!(kafkas), &json!(ours));
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

fn batch(batch: &ProducerBatch) -> Value {
    json!({
        "firstSeq": batch.first_sequence.0,
        "lastSeq": batch.last_sequence.0,
        "firstOffset": batch.offsets.first.0,
        "lastOffset": batch.offsets.last.0,
        "timestamp": batch.timestamp.0,
    })
}

fn options(arguments: &Value) -> InspectOptions {
    let number = |key: &str| arguments[key].as_i64().unwrap();
    InspectOptions::default()
        .clean(arguments["hadCleanShutdown"].as_bool().unwrap())
        .recovery_point(Offset(number("recoveryPointCheckpoint")))
        .log_start(Some(Offset(number("logStartOffsetCheckpoint"))))
        .now(Some(Timestamp(number("nowMs"))))
        .producer_expiry(number("producerIdExpirationMs"))
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
