//! How much an opening reads: what the interval of snapshots promises, whatever happened before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idemlog::sim::SimDisk;
use idemlog::{IoMode, LogDir, LogDirOptions, LogOptions};

use crate::common::{MODES, batch, small};

const INTERVAL: u64 = 16 << 10;

fn on(disk: &SimDisk, mode: IoMode) -> LogDirOptions {
    let log: LogOptions = small(mode).segment_bytes(1 << 20).snapshot_interval_bytes(INTERVAL);
    LogDirOptions::default().log(log).disk(Arc::new(disk.clone()))
}

/// An opening left the recovery point where it was, and counted the bytes to the next one from nothing: who was killed again and
/// again before the interval was full read all of the segment in the end.
#[test]
fn openings_of_a_log_that_is_killed_again_and_again_read_no_more_each_time() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        for round in 0..20 {
            let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let read = log.recovery().bytes_read;
            assert!(read < 2 * INTERVAL, "{mode:?} {round}: {read}");
            (0..25).for_each(|at| {
                assert!(!log.append(&batch(7, 0, 4 * (round * 25 + at), 4)).unwrap().is_duplicate());
            });
        } // killed
    }
}

/// And so did a partition that nobody appends to, at every opening.
#[test]
fn an_idle_partition_that_took_long_to_open_does_not_again() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..30).for_each(|at| assert!(!log.append(&batch(7, 0, 4 * at, 4)).unwrap().is_duplicate()));
        drop((log, dir)); // killed
        let dir = LogDir::open("/data", on(&disk, mode).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        assert!(log.recovery().bytes_read > INTERVAL / 4);
        let began = Instant::now();
        while log.recovery_point() < log.log_end_offset() {
            assert!(began.elapsed() < Duration::from_secs(30), "{mode:?}");
            std::thread::yield_now();
        }
    }
}

/// A partition that is slow came to a checkpoint after months.
#[test]
fn a_checkpoint_that_is_asked_for_leaves_the_next_opening_nothing_to_read() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        let logs = [0, 1].map(|partition| dir.partition("t", partition).unwrap());
        logs.iter().for_each(|log| assert!(!log.append(&batch(7, 0, 0, 4)).unwrap().is_duplicate()));
        dir.checkpoint().unwrap();
        logs[1].append(&batch(7, 0, 4, 4)).unwrap();
        logs[1].checkpoint().unwrap();
        let calls = || idemlog::sim::Operation::ALL.map(|operation| disk.calls(operation));
        let before = calls();
        dir.checkpoint().unwrap();
        assert_eq!(calls(), before, "nothing was appended since");
        drop((logs, dir)); // killed
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        for partition in [0, 1] {
            let report = dir.partition("t", partition).unwrap().recovery().clone();
            assert!(!report.marked_clean && report.recovery_point == report.log_end, "{mode:?}: {report}");
            assert_eq!(
                (report.batches_replayed, report.snapshot),
                (0, Some(report.log_end)),
                "{mode:?}: {report}"
            );
        }
    }
}
