//! Many segments, and many partitions: nobody waits for all of them, and what does for all is done once.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use idemlog::sim::SimDisk;
use idemlog::{Disk, IoMode, LogDir, LogDirOptions, Offset};

use crate::common::{batch, small, stored};
use crate::watched::WatchedDisk;

const STARTS: &str = "log-start-offset-checkpoint";

fn open(disk: &Arc<WatchedDisk>) -> LogDir {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    LogDir::open("/data", LogDirOptions::default().log(small(IoMode::Write)).disk(disk)).unwrap()
}

/// Whoever had a segment to name or to make waited for all of the deletion, ten seconds and more of a thousand segments, and all
/// who wanted an acknowledgement waited for it.
#[test]
fn a_roll_has_its_turn_in_the_middle_of_a_deletion_of_many_segments() {
    const SEGMENTS: usize = 150;
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let dir = open(&disk);
    let log = dir.partition("t", 0).unwrap();
    for number in 0..SEGMENTS as i32 {
        log.append(&batch(1, 0, number, 1)).unwrap();
        log.roll().unwrap();
    }
    log.delete_records(log.log_end_offset()).unwrap();
    disk.removal_takes(Duration::from_millis(1));
    thread::scope(|scope| {
        let deletes = scope.spawn(|| log.apply_retention().unwrap());
        let began = Instant::now();
        while disk.removed("log") == 0 {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::yield_now();
        }
        log.append(&batch(1, 0, SEGMENTS as i32, 1)).unwrap();
        log.roll().unwrap();
        let removed = disk.removed("log");
        assert!(removed < SEGMENTS / 2, "{removed} segments were removed before the roll");
        assert_eq!(deletes.join().unwrap(), SEGMENTS);
    });
    assert_eq!((disk.removed("log"), log.log_start_offset()), (SEGMENTS, Offset(SEGMENTS as i64)));
    assert_eq!(stored(&log).len(), 1);
}

/// Each partition had the files written that tell of all: the square of their number.
#[test]
fn retention_of_many_partitions_writes_the_checkpoints_once() {
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let dir = open(&disk);
    let logs: Vec<_> = (0..40).map(|number| dir.partition("t", number).unwrap()).collect();
    for (number, log) in logs.iter().enumerate() {
        for sequence in 0..3 {
            log.append(&batch(1, 0, sequence, 1)).unwrap();
            log.roll().unwrap();
        }
        // Every second one has something to delete.
        let bytes = (number % 2 == 0).then_some(1);
        log.set_options((*log.options()).clone().retention_bytes(bytes)).unwrap();
    }
    let written = disk.renamed(STARTS);
    assert_eq!(dir.apply_retention().unwrap(), 20 * 2);
    assert_eq!(disk.renamed(STARTS), written + 1);
    drop((logs, dir));
    let dir = open(&disk);
    for number in 0..40 {
        let start = if number % 2 == 0 { 2 } else { 0 };
        assert_eq!(dir.partition("t", number).unwrap().log_start_offset(), Offset(start), "{number}");
    }
}

/// A truncation between the two steps makes another log of it: what was condemned is none of its business.
#[test]
fn a_truncation_in_the_middle_of_a_deletion_is_not_undone_by_the_rest() {
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let dir = open(&disk);
    let log = dir.partition("t", 0).unwrap();
    for number in 0..60 {
        log.append(&batch(1, 0, number, 1)).unwrap();
        log.roll().unwrap();
    }
    log.delete_records(log.log_end_offset()).unwrap();
    disk.removal_takes(Duration::from_millis(1));
    thread::scope(|scope| {
        let deletes = scope.spawn(|| log.apply_retention());
        while disk.removed("log") == 0 {
            thread::yield_now();
        }
        log.truncate_fully(Offset(0)).unwrap();
        for number in 0..20 {
            log.append(&batch(1, 0, number, 1)).unwrap();
            log.roll().unwrap();
        }
        deletes.join().unwrap().unwrap();
    });
    assert_eq!((log.log_start_offset(), stored(&log).len()), (Offset(0), 20));
}
