//! The command-line tool, run as a process.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{batch, change, open};
use idemlog::{BatchBuilder, ControlRecord, IoMode, ProducerEpoch, ProducerId, Sequence};
use serde_json::Value;
use tempfile::TempDir;

fn idemlog(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idemlog")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A closed log with a producer's ten records, and its `.log` file.
fn closed() -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..5 {
        log.append(&batch(7, 0, at * 2, 2)).unwrap();
    }
    dir.close().unwrap();
    let path = data.path().join("orders-0/00000000000000000000.log");
    (data, path)
}

#[test]
fn verify_exits_with_0_for_a_sound_log_and_1_for_a_damaged_one() {
    let (data, log) = closed();
    let path = data.path().to_str().unwrap();
    let sound = idemlog(&["verify", path]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(text(&sound).starts_with("sound: 5 batches"), "{sound:?}");

    change(&log, |bytes| bytes[100] ^= 1);
    let damaged = idemlog(&["verify", path, "--allow-gaps"]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(text(&damaged).contains("error: ") && text(&damaged).contains("CRC-32C"), "{damaged:?}");
}

#[test]
fn inspect_prints_the_state_as_json() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let output =
        idemlog(&["inspect", "--json", partition.to_str().unwrap(), "--unclean", "--recovery-point", "2"]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(state["logEndOffset"], 10);
    assert_eq!(state["producers"][0]["batches"][4]["lastSeq"], 9);
    assert_eq!(state["recoveryPoint"], 2);
    assert_eq!(state["recovery"]["markedClean"], false);
    assert!(state["recovery"]["cut"].is_null());
}

#[test]
fn inspect_tells_of_segments_and_aborted_transactions() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for (id, abort) in [(7, true), (8, false)] {
        let (id, epoch, coordinator_epoch) = (ProducerId(id), ProducerEpoch(0), 0);
        let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record("k", "v");
        log.append(&batch.build().unwrap()).unwrap();
        if abort {
            log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch }).unwrap();
        }
    }
    dir.close().unwrap();
    let partition = data.path().join("orders-0");
    let output = idemlog(&["inspect", "--json", partition.to_str().unwrap()]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    let segment = &state["segments"][0];
    let aborted = serde_json::json!([
        { "producerId": 7, "firstOffset": 0, "lastOffset": 1, "lastStableOffset": 2 },
    ]);
    assert_eq!(segment["abortedTxns"], aborted);
    assert_eq!((&segment["offsetIndexEntries"], &segment["timeIndexEntries"]), (&0.into(), &1.into()));
    assert_eq!((&state["firstUndecidedOffset"], &state["lastStableOffset"]), (&2.into(), &2.into()));
    let lines = text(&idemlog(&["inspect", partition.to_str().unwrap()]));
    assert!(lines.contains("aborted: producer 7, offsets 0 to 1"), "{lines}");
}

#[test]
fn producers_and_dump_print_a_line_each() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let producers = text(&idemlog(&["producers", partition.to_str().unwrap()]));
    assert!(producers.starts_with("producer 7 epoch 0 last sequence 9 offset 9 "), "{producers}");
    let records = text(&idemlog(&["dump", partition.to_str().unwrap(), "--records"]));
    assert_eq!(records.lines().filter(|line| !line.ends_with(".log")).count(), 5 + 10, "{records}");
    let snapshot = partition.join("00000000000000000010.snapshot");
    let snapshot = text(&idemlog(&["dump", snapshot.to_str().unwrap()]));
    assert!(snapshot.contains("producer 7 epoch 0 last sequence 9 last offset 9"), "{snapshot}");
}

#[test]
fn a_path_that_a_command_cannot_read_is_told_with_the_one_that_it_can() {
    let (data, log) = closed();
    let empty = tempfile::tempdir().unwrap();
    let (data, log, empty) =
        (data.path().to_str().unwrap(), log.to_str().unwrap(), empty.path().to_str().unwrap());
    let partition = format!("such as {data}/orders-0");
    let cases = [
        ("verify", "/nowhere/at/all", "/nowhere/at/all: No such file"),
        ("verify", empty, "neither a log directory nor a partition"),
        ("verify", log, "name the directory that it lies in"),
        ("inspect", data, &partition),
        ("producers", data, &partition),
        ("dump", data, &partition),
        ("dump", "/nowhere/at/all.log", "/nowhere/at/all.log: No such file"),
        (
            "dump",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "neither a segment, an index nor a snapshot",
        ),
    ];
    for (command, path, expected) in cases {
        let output = idemlog(&[command, path]);
        assert_eq!(output.status.code(), Some(2), "{command} {path}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(expected), "{command} {path}: {told}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let mut child = Command::new(env!("CARGO_BIN_EXE_idemlog"))
        .args(["dump", "--records", partition.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_dump_ends_at_damage_and_says_where() {
    let (data, log) = closed();
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let output = idemlog(&["dump", data.path().join("orders-0").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output).lines().count(), 1 + 4, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(".log at byte "), "{output:?}");
}
