//! Opening a directory of 10,000 partitions of three segments each that was closed well, with 1024 file descriptors.
//! Prints figures.

mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::batches::{Batches, SMALL};
use support::figures::{median, record};
use support::stored::options;
use support::{directory, is_trial, own_bytes};

const LIMITED: &str = "IDEMLOG_BENCH_LIMITED";
const CLEAN_MARKER: &str = ".kafka_cleanshutdown";
const CHECKPOINTS: [&str; 2] = ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"];

/// Starts this program again with fewer descriptors; returns in the one that has them.
fn limit_descriptors() {
    if std::env::var_os(LIMITED).is_none() {
        let program = std::env::current_exe().expect("a program");
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 1024; exec \"$0\" \"$@\""]).arg(program).args(std::env::args().skip(1));
        let failed = shell.env(LIMITED, "1").exec();
        panic!("no shell to set the limit: {failed}");
    }
}

/// A partition of three segments, closed well.
fn model(directory: &Path) {
    let dir = idemlog::LogDir::open(directory, options()).expect("an empty directory");
    let log = dir.partition("bench", 0).expect("a new partition");
    let mut batches = Batches::new(SMALL);
    for _ in 0..3 {
        log.roll().expect("a roll");
        batches
            .by_ref()
            .take(10)
            .for_each(|batch| assert!(!log.append(&batch).expect("an append").is_duplicate()));
    }
    dir.close().expect("a clean end");
}

/// Copies the one partition of a directory until there are `count`.
fn multiply(directory: &Path, count: usize) {
    let files: Vec<_> = fs::read_dir(directory.join("bench-0")).expect("the partition").collect();
    let files: Vec<_> = files.into_iter().map(|file| file.expect("a file").path()).collect();
    for number in 1..count {
        let copy = directory.join(format!("bench-{number}"));
        fs::create_dir(&copy).expect("a partition");
        for file in files.iter().filter(|file| !file.ends_with("partition.metadata")) {
            fs::copy(file, copy.join(file.file_name().expect("a name"))).expect("a copy");
        }
    }
    for name in CHECKPOINTS {
        let path = directory.join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Some(offset) = text.lines().nth(2).and_then(|line| line.rsplit(' ').next()) else { continue };
        let lines: String = (0..count).map(|number| format!("bench {number} {offset}\n")).collect();
        fs::write(path, format!("0\n{count}\n{lines}")).expect("a checkpoint");
    }
}

/// How long opening took, and how many bytes each partition takes. Nothing is closed, which would write all of it again:
/// what says that the logs are clean is put back.
fn open(directory: &Path, count: usize) -> (Duration, f64) {
    let marker = directory.join(CLEAN_MARKER);
    let clean = fs::read(&marker).expect("a directory that was closed well");
    let before = own_bytes();
    let started = Instant::now();
    let dir = idemlog::LogDir::open(directory, options()).expect("the directory");
    let took = started.elapsed();
    let bytes = own_bytes() - before;
    assert_eq!((dir.partitions().len(), dir.failed().len()), (count, 0));
    drop(dir);
    fs::write(marker, clean).expect("the marker");
    (took, bytes / count as f64)
}

fn main() {
    limit_descriptors();
    let count = if is_trial() { 10 } else { 10_000 };
    let directory = directory();
    model(directory.path());
    multiply(directory.path(), count);
    // The first one makes what the copies lack.
    let bytes = open(directory.path(), count).1;
    let times = (0..3).map(|_| open(directory.path(), count).0.as_nanos() as f64).collect();
    record("open-clean/10000 partitions", "time", median(times));
    record("open-clean/10000 partitions", "bytes each", bytes);
}
