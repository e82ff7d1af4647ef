//! Snapshots of so many producers that they are large: how many of them stay, and that nobody is forgotten for it.

use idemlog::sim::{Fault, Operation};
use idemlog::{AppendOptions, Batch, IoMode, Log, Offset};

use crate::Fixture;
use crate::common::batch;

/// As many as make a snapshot of a mebibyte and more.
const PRODUCERS: i64 = 30_000;

/// The first of a producer's batches, or a later one.
fn of(id: i64, sequence: i32) -> Batch {
    batch(id, 0, sequence, 1)
}

/// A segment of all producers, and then `count` small ones, each of one producer.
fn fill(log: &Log, count: i64) {
    for id in 0..PRODUCERS {
        let _later = log.submit(&[of(id, 0)], AppendOptions::default()).unwrap();
    }
    log.roll().unwrap();
    for id in 0..count {
        log.append(&of(id, 1)).unwrap();
        log.roll().unwrap();
    }
}

fn fixture(mode: IoMode) -> Fixture {
    Fixture::new(mode).with(|options| options.segment_bytes(16 << 20))
}

fn assert_knows_all(log: &Log) {
    for id in (0..PRODUCERS).step_by(1_000) {
        let again = log.append(&of(id, 0)).unwrap();
        assert!(again.is_duplicate() && again.base_offset() == Offset(id), "{id}");
    }
}

/// There was one at the base of each segment, up to 200 MB of a million producers: a hundred segments had 20 GB of them, which no
/// retention counts.
#[test]
fn of_large_snapshots_the_newest_stay() {
    let fixture = fixture(IoMode::Write);
    let (dir, log) = fixture.open().unwrap();
    fill(&log, 20);
    let bases = fixture.bases(".snapshot");
    // The newest one, and eight before it.
    assert_eq!(bases, (12..=20).map(|number| PRODUCERS + number).collect::<Vec<_>>());

    // Retention has one made where the log will begin: nothing else tells of those whose batches go.
    log.delete_records(Offset(PRODUCERS + 5)).unwrap();
    assert_eq!(log.apply_retention().unwrap(), 6);
    let kept = fixture.bases(".snapshot");
    assert_eq!(kept, [[PRODUCERS + 5].as_slice(), &bases].concat());
    for id in 20..25 {
        log.append(&of(id, 1)).unwrap();
        log.roll().unwrap();
    }
    let kept = fixture.bases(".snapshot");
    assert_eq!((kept[0], kept.len()), (PRODUCERS + 5, 10), "{kept:?}");
    assert_knows_all(&log);

    // Also a truncation to below all of the newest finds everybody.
    log.truncate_to(Offset(PRODUCERS + 8)).unwrap();
    assert_knows_all(&log);
    let (_dir, log) = fixture.restart((dir, log), Some(false));
    assert_knows_all(&log);
}

/// Where a deletion cannot go on, segments are sealed meanwhile: the newest snapshots are others then, but nothing else than the one
/// where the log begins tells of those whose batches go.
#[test]
fn the_snapshot_where_the_log_begins_stays_while_segments_are_deleted() {
    let fixture = fixture(IoMode::Write);
    let (dir, log) = fixture.open().unwrap();
    fill(&log, 20);
    // As much as the last few segments have.
    log.set_options((*log.options()).clone().retention_bytes(Some(600))).unwrap();
    fixture.disk.inject(Fault::nth(Operation::Remove, 1).forever().errno(13).on(".log/"));
    log.apply_retention().unwrap_err();
    let start = log.log_start_offset();
    for id in 20..35 {
        log.append(&of(id, 1)).unwrap();
        log.roll().unwrap();
    }
    assert!(fixture.bases(".snapshot").contains(&start.0));
    fixture.disk.clear_faults();
    assert!(log.apply_retention().unwrap() > 0);
    let (_dir, log) = fixture.restart((dir, log), Some(false));
    log.truncate_to(log.log_start_offset() + 1).unwrap();
    assert_knows_all(&log);
}
