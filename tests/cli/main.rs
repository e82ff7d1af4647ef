//! The command-line tool, run as a process.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[path = "../common/mod.rs"]
mod common;
mod dump;
mod incident;
mod inspect;
mod places;
mod repair;
mod unheard;
mod verify;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{batch, open, truncated_inside_a_batch};
use idemlog::IoMode;
use tempfile::TempDir;

fn idemlog(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idemlog")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said beside its output.
fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
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

/// A closed log of five segments, of four batches of ten records each, and its directory.
fn closed_in_segments() -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..20 {
        log.append(&batch(7, 0, at * 10, 10)).unwrap();
    }
    dir.close().unwrap();
    let partition = log.directory().to_owned();
    (data, partition)
}

/// The same with `damage` done to one of its files.
fn damaged(file: &str, damage: impl Fn(&mut Vec<u8>)) -> (TempDir, PathBuf) {
    let (data, partition) = closed_in_segments();
    let file = partition.join(file);
    let mut bytes = std::fs::read(&file).unwrap();
    damage(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
    (data, file)
}

/// All bytes below a partition's directory, by name.
fn contents(partition: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// A log that was truncated inside of a batch, and lacks offsets 5 to 7 since.
fn with_gap() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let (dir, log) = truncated_inside_a_batch(data.path());
    log.append(&batch(7, 0, 5, 5)).unwrap();
    dir.close().unwrap();
    data
}
