//! Whatever is wrong with a log is found, and nothing is found wrong with a sound one.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{MODES, batch, open, plain};
use idemlog::verify::{Problem, Severity, VerifyOptions, VerifyReport, verify};
use idemlog::{IoMode, LogDir};
use tempfile::TempDir;

/// A log of several segments with two producers.
fn filled(mode: IoMode) -> (TempDir, LogDir) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), mode);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..40 {
        log.append(&batch(7, 0, at * 3, 3)).unwrap();
        log.append(&batch(8, 0, at * 2, 2)).unwrap();
        log.append(&plain("no producer")).unwrap();
    }
    (data, dir)
}

fn closed(mode: IoMode) -> TempDir {
    let (data, dir) = filled(mode);
    dir.close().unwrap();
    data
}

fn look(path: &Path) -> VerifyReport {
    verify(path, &VerifyOptions::default()).unwrap()
}

fn errors(report: &VerifyReport) -> Vec<&Problem> {
    report.problems.iter().filter(|problem| problem.severity == Severity::Error).collect()
}

/// The files of the partition that end with `suffix`, by name.
fn files(data: &TempDir, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.path().join("orders-0")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(suffix));
    paths.sort();
    paths
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// An index entry with its bytes as two numbers.
fn entry(bytes: &[u8], at: usize) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(at), number(at + 4))
}

#[test]
fn a_closed_log_is_sound() {
    for mode in MODES {
        let data = closed(mode);
        let report = look(data.path());
        assert_eq!(report.problems, [], "{mode:?}");
        assert_eq!(report.batches, 120);
        let bytes: u64 = files(&data, ".log").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(report.bytes, bytes);
        assert_eq!(look(&data.path().join("orders-0")).problems, []);
        assert!(files(&data, ".log").len() > 2 && files(&data, ".snapshot").len() > 2);
        assert!(files(&data, ".index").iter().any(|path| path.metadata().unwrap().len() > 0));
    }
}

#[test]
fn a_log_that_was_not_closed_has_notes_and_no_error() {
    for mode in MODES {
        let (data, dir) = filled(mode);
        drop(dir);
        let report = look(data.path());
        assert_eq!(errors(&report), Vec::<&Problem>::new(), "{mode:?}");
        assert_eq!(report.batches, 120);
    }
}

#[test]
fn looking_changes_nothing() {
    let (data, dir) = filled(IoMode::Mapped);
    drop(dir);
    let state = || files(&data, "").iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = state();
    look(data.path());
    assert_eq!(state(), before);
}

#[test]
fn every_flipped_bit_of_a_batch_is_found() {
    let data = closed(IoMode::Mapped);
    let log = &files(&data, ".log")[1];
    let len = std::fs::read(log).unwrap().len();
    for at in (0..len).step_by(37) {
        change(log, |bytes| bytes[at] ^= 4);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *log), "byte {at}");
        change(log, |bytes| bytes[at] ^= 4);
    }
    assert_eq!(look(data.path()).problems, []);
}

#[test]
fn every_flipped_bit_of_an_index_is_found() {
    let data = closed(IoMode::Mapped);
    for suffix in [".index", ".timeindex"] {
        let index = &files(&data, suffix)[0];
        let len = std::fs::read(index).unwrap().len();
        assert!(len > 0);
        for at in 0..len {
            change(index, |bytes| bytes[at] ^= 1);
            let report = look(data.path());
            assert!(errors(&report).iter().any(|problem| problem.path == *index), "{suffix} byte {at}");
            change(index, |bytes| bytes[at] ^= 1);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_found() {
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    for at in 0..std::fs::read(snapshot).unwrap().len() {
        change(snapshot, |bytes| bytes[at] ^= 1);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *snapshot), "byte {at}");
        change(snapshot, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn a_missing_segment_is_found_unless_gaps_are_allowed() {
    let data = closed(IoMode::Mapped);
    std::fs::remove_file(&files(&data, ".log")[1]).unwrap();
    let report = look(data.path());
    let missing = errors(&report)[0];
    assert_eq!(missing.path, files(&data, ".log")[1]);
    assert!(missing.text.starts_with("no segment begins at offset"), "{missing}");
    let with_gaps = verify(data.path(), &VerifyOptions::default().allow_gaps(true)).unwrap();
    assert!(!with_gaps.problems.iter().any(|problem| problem.text.starts_with("no segment")));
}

#[test]
fn an_index_entry_into_the_middle_of_a_batch_is_found() {
    let data = closed(IoMode::Mapped);
    let index = &files(&data, ".index")[0];
    let (_, position) = entry(&std::fs::read(index).unwrap(), 0);
    change(index, |bytes| bytes[4..8].copy_from_slice(&(position + 1).to_be_bytes()));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path, found[0].position), (1, index, 0));
    assert!(found[0].text.ends_with("where no batch begins"), "{}", found[0]);
}

#[test]
fn a_snapshot_that_disagrees_with_the_log_is_found() {
    const CRC: usize = 2;
    const LAST_SEQUENCE: usize = 10 + 10;
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    change(snapshot, |bytes| {
        bytes[LAST_SEQUENCE + 3] ^= 1;
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    });
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, snapshot));
    assert!(found[0].text.contains("by the log sequences"), "{}", found[0]);
}

#[test]
fn a_snapshot_beyond_the_log_is_found() {
    let data = closed(IoMode::Mapped);
    let beyond = data.path().join("orders-0/00000000000000099999.snapshot");
    std::fs::copy(files(&data, ".snapshot").last().unwrap(), &beyond).unwrap();
    let report = look(data.path());
    assert_eq!(errors(&report).iter().map(|problem| &problem.path).collect::<Vec<_>>(), [&beyond]);
}

#[test]
fn leader_epochs_that_disagree_with_the_batches_are_found() {
    let data = closed(IoMode::Mapped);
    std::fs::write(data.path().join("orders-0/leader-epoch-checkpoint"), "0\n2\n0 0\n3 5\n").unwrap();
    assert!(errors(&look(data.path()))[0].text.contains("is of leader epoch 0, by"));
}

#[test]
fn a_log_that_ends_below_its_recovery_point_is_found() {
    let data = closed(IoMode::Mapped);
    let last = files(&data, ".log").pop().unwrap();
    std::fs::remove_file(last).unwrap();
    let report = look(data.path());
    assert!(errors(&report).iter().any(|problem| problem.text.contains("below the recovery point")));
}
