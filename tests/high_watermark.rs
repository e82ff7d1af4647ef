//! The high watermark over restarts: written for a host that sets it, handed out, never applied by itself.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::{MODES, open, plain};
use idemlog::{Log, LogDir, Offset};

const FILE: &str = "replication-offset-checkpoint";

fn fill(dir: &LogDir, partition: i32) -> Log {
    let log = dir.partition("t", partition).unwrap();
    for number in 0..10 {
        log.append(&plain(&format!("{number}"))).unwrap();
    }
    log
}

fn text(data: &Path) -> String {
    std::fs::read_to_string(data.join(FILE)).unwrap()
}

#[test]
fn it_is_written_for_those_who_set_it_and_handed_out_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let (set, _unset) = (fill(&dir, 0), fill(&dir, 1));
        assert_eq!(set.checkpointed_high_watermark(), None);
        set.set_high_watermark(Offset(4));
        dir.close().unwrap();
        assert_eq!(text(data.path()), "0\n1\nt 0 4\n");

        let dir = open(data.path(), mode);
        let (set, unset) = (dir.partition("t", 0).unwrap(), dir.partition("t", 1).unwrap());
        assert_eq!(set.checkpointed_high_watermark(), Some(Offset(4)));
        assert_eq!(unset.checkpointed_high_watermark(), None);
        assert_eq!((set.high_watermark(), unset.high_watermark()), (Offset(10), Offset(10)), "not applied");
        unset.set_high_watermark(Offset(7));
        dir.close().unwrap();
        assert_eq!(text(data.path()), "0\n2\nt 0 4\nt 1 7\n", "kept where nobody set it again");
    }
}

#[test]
fn nobody_who_never_sets_it_gets_the_file() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    fill(&dir, 0);
    dir.close().unwrap();
    assert!(!data.path().join(FILE).exists());
}

#[test]
fn a_truncation_lowers_it_on_the_disk_before_the_log_is_cut() {
    for mode in MODES {
        for set_again in [false, true] {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), mode);
            fill(&dir, 0).set_high_watermark(Offset(8));
            dir.close().unwrap();
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            if set_again {
                log.set_high_watermark(log.checkpointed_high_watermark().unwrap());
            }
            log.truncate_to(Offset(5)).unwrap();
            assert_eq!(text(data.path()), "0\n1\nt 0 5\n");
            for number in 0..10 {
                log.append(&plain(&format!("{number}"))).unwrap();
            }
            drop((dir, log));
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            assert_eq!(log.checkpointed_high_watermark(), Some(Offset(5)));
        }
    }
}

/// The one in the file stayed above an end that a power cut had left. When other batches had come in its place, and no other
/// checkpoint, it was handed out for them: a host that applied it showed what nobody had replicated.
#[test]
fn an_opening_that_finds_less_lowers_it_on_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    fill(&dir, 0).set_high_watermark(Offset(8));
    dir.close().unwrap();
    std::fs::write(data.path().join(FILE), "0\n1\nt 0 15\n").unwrap();
    let dir = open(data.path(), MODES[0]);
    fill(&dir, 0);
    drop(dir);
    assert_eq!(text(data.path()), "0\n1\nt 0 10\n");
    let dir = open(data.path(), MODES[0]);
    assert_eq!(dir.partition("t", 0).unwrap().checkpointed_high_watermark(), Some(Offset(10)));
}

#[test]
fn one_above_the_log_is_handed_out_as_the_log_end() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    fill(&dir, 0);
    dir.close().unwrap();
    std::fs::write(data.path().join(FILE), "0\n1\nt 0 1000\n").unwrap();
    let dir = open(data.path(), MODES[0]);
    assert_eq!(dir.partition("t", 0).unwrap().checkpointed_high_watermark(), Some(Offset(10)));
}

/// One that was set above the log end was kept, and what was appended later was seen at once, durable or not.
#[test]
fn one_above_the_log_does_not_wait_there_for_the_log() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = fill(&dir, 0);
        let end = log.log_end_offset();
        log.set_high_watermark(end + 100);
        log.append(&plain("later")).unwrap();
        assert_eq!(log.high_watermark(), end, "{mode:?}");
    }
}

/// Setting it looked at the log end first and stored what it found afterwards. A truncation that came to its end in between
/// left it above the new end, and what was appended there was seen at once, replicated or not.
#[test]
fn it_is_never_above_where_a_truncation_has_ended_the_log() {
    const SETTERS: usize = 8;
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    for partition in 0..20 {
        let (log, is_over) = (fill(&dir, partition), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..SETTERS {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        log.set_high_watermark(Offset(10));
                    }
                });
            }
            // More threads than processors: some of them stop in the middle of it.
            thread::sleep(Duration::from_millis(5));
            log.truncate_to(Offset(5)).unwrap();
            is_over.store(true, Ordering::Relaxed);
        });
        log.append(&plain("replicated by nobody")).unwrap();
        assert!(log.high_watermark() <= Offset(5), "{}", log.high_watermark());
    }
}
