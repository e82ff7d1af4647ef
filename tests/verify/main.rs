//! Whatever is wrong with a log is found, and nothing is found wrong with a sound one.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod batches;
#[path = "../common/mod.rs"]
mod common;
mod crashes;
mod files;
mod indexes;
mod missing;
mod sound;
mod transactions;

use std::path::{Path, PathBuf};

use common::{batch, open, plain};
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
