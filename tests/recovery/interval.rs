//! How much an opening reads: what the interval of snapshots promises, whatever happened before.

use std::sync::Arc;

use idemlog::sim::SimDisk;
use idemlog::{IoMode, LogDir, LogDirOptions, LogOptions};

use crate::common::{MODES, batch, small};

const INTERVAL: u64 = 16 << 10;

fn on(disk: &SimDisk, mode: IoMode) -> LogDirOptions {
    let log: LogOptions = small(mode).segment_bytes(1 << 20).snapshot_interval_bytes(INTERVAL);
    LogDirOptions::default().log(log).disk(Arc::new(disk.clone()))
}

/// A partition that is slow came to a checkpoint after months.
#[test]
fn a_checkpoint_that_is_asked_for_leaves_the_next_opening_nothing_to_read() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        let logs = [0, 1].map(|partition| dir.partition("t", partition).unwrap());
        logs.iter().for_each(|log| drop(log.append(&batch(7, 0, 0, 4)).unwrap()));
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
