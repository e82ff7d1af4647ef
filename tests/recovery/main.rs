//! Recovery and the limits of a log, from outside. Each test begins with the story of a bug that fuzzing found.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod beginning;
#[path = "../common/mod.rs"]
mod common;
mod cutting;
mod files;
mod interval;
mod kept;
mod limits;
mod readers;
mod snapshots;

use std::path::{Path, PathBuf};

use common::{batch, open, options, small};
use idemlog::{CorruptionPolicy, IoMode, LogDirOptions};

fn cut_and_keep(mode: IoMode) -> LogDirOptions {
    options(mode).log(small(mode).corruption(CorruptionPolicy::CutAndKeep))
}

/// Leaves the partition `t-0` closed, with `records` batches of one record each; at each of `bases` a segment begins.
fn fill(data: &Path, mode: IoMode, records: i32, bases: &[i32]) {
    let dir = open(data, mode);
    let log = dir.partition("t", 0).unwrap();
    for at in 0..records {
        if bases.contains(&at) {
            log.roll().unwrap();
        }
        log.append(&batch(1, 0, at, 1)).unwrap();
    }
    dir.close().unwrap();
}

/// The file of the partition `t-0` with the name of `base`.
fn file(data: &Path, base: i64, extension: &str) -> PathBuf {
    data.join(format!("t-0/{base:020}.{extension}"))
}

/// What lies in the files that recovery kept.
fn kept(data: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(data.join("t-0")).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| path.extension().is_some_and(|extension| extension == "corrupt"));
    kept.map(|path| std::fs::read(path).unwrap()).collect()
}
