//! When snapshots come and go with segments, rolls and closes.

use idemlog::Offset;
use idemlog::sim::{Fault, Operation};

use crate::fixture::{Partition, by, partitions, partitions_with, plain};

/// A segment for each of `count` batches by one producer, and an empty one behind.
fn segments(log: &Partition, count: i32) {
    log.send_and_roll((0..count).map(|sequence| by(1, 0, sequence)));
}

/// C testOffsetFromProducerSnapshotFile
#[test]
fn the_offset_of_a_snapshot_is_its_name() {
    for log in partitions() {
        log.truncate_fully(Offset(23_423_422)).unwrap();
        log.send(by(1, 0, 0));
        log.roll().unwrap();
        assert_eq!(log.named(".snapshot"), ["00000000000023423423.snapshot"]);
        assert_eq!(log.snapshots(), [23_423_423]);
    }
}

/// C testInitializationOfProducerSnapshotsUpgradePath. Here only the one at the end is made again, by the close.
#[test]
fn a_snapshot_that_is_missing_is_made_again() {
    for mut log in partitions() {
        segments(&log, 3);
        log.send(by(1, 0, 3));
        let known = log.producers();
        log.die();
        log.remove_all(".snapshot");
        log.open();
        assert_eq!(log.producers(), known);
        log.close_and_open();
        assert_eq!((log.snapshots().last(), log.recovery().snapshot), (Some(&4), Some(Offset(4))));
    }
}

/// C testInitializationOfProducerSnapshotsUpgradePath, of a log that was closed well
#[test]
fn a_snapshot_that_is_missing_from_a_log_that_was_closed_well_is_made_again() {
    for mut log in partitions() {
        segments(&log, 3);
        log.close();
        log.remove_all(".snapshot");
        log.open();
        log.close_and_open();
        assert_eq!((log.snapshots(), log.recovery().snapshot), (vec![3], Some(Offset(3))));
    }
}

/// C testLogReinitializeAfterManualDelete
#[test]
fn a_partition_whose_files_were_removed_by_hand_begins_again() {
    for mut log in partitions() {
        segments(&log, 3);
        log.die();
        log.remove_all("");
        log.remove_checkpoints();
        log.open();
        assert_eq!((log.start_offset(), log.end_offset(), log.known()), (0, 0, vec![]));
        assert_eq!(log.send(by(1, 0, 0)), 0);
    }
}

/// C testProducerIdMapOffsetUpdatedForNonIdempotentData
#[test]
fn a_snapshot_covers_data_without_producers_as_well() {
    for mut log in partitions() {
        log.send(plain());
        log.roll().unwrap();
        log.send(plain());
        log.close();
        assert_eq!(log.snapshots(), [1, 2]);
        log.open();
        assert_eq!((log.recovery().snapshot, log.recovery().batches_replayed), (Some(Offset(2)), 0));
    }
}

/// C testRetentionDeletesProducerStateSnapshots
#[test]
fn retention_removes_the_snapshots_of_the_segments_that_go() {
    for log in partitions_with(|options| options.retention_bytes(Some(0))) {
        segments(&log, 3);
        log.apply_retention().unwrap();
        assert_eq!((log.segments(), log.snapshots()), (vec![3], vec![3]));
        assert_eq!(log.window(1), [(0, 0), (1, 1), (2, 2)]);
    }
}

/// C testRetentionIdempotency
#[test]
fn retention_twice_is_retention_once() {
    for log in partitions_with(|options| options.retention_ms(Some(900))) {
        segments(&log, 2);
        log.clock.advance(1000);
        assert_eq!(log.apply_retention().unwrap(), 2);
        let (state, names) = (log.state(), log.names());
        assert_eq!(log.apply_retention().unwrap(), 0);
        assert_eq!((log.state(), log.names()), (state, names));
    }
}

/// C testLogStartOffsetMovementDeletesSnapshots
#[test]
fn a_log_start_that_moves_takes_snapshots_with_it() {
    for log in partitions() {
        segments(&log, 3);
        assert_eq!(log.snapshots(), [1, 2, 3]);
        log.delete_records(Offset(2)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(log.snapshots(), [2, 3]);
    }
}

/// C testDeleteSnapshotsOnIncrementLogStartOffset
#[test]
fn the_snapshot_at_the_log_start_stays_when_those_below_it_go() {
    for mut log in partitions() {
        log.send(by(1, 0, 0));
        log.roll().unwrap();
        log.send(by(2, 0, 0));
        log.roll().unwrap();
        log.send(plain());
        log.delete_records(Offset(2)).unwrap();
        log.apply_retention().unwrap();
        assert_eq!(log.snapshots(), [2]);
        log.die_and_open();
        assert_eq!((log.known(), log.recovery().snapshot), (vec![1, 2], Some(Offset(2))));
    }
}

/// C testLoadingLogDeletesProducerStateSnapshotsPastLogEndOffset
#[test]
fn snapshots_from_behind_the_end_are_removed() {
    for mut log in partitions() {
        segments(&log, 2);
        log.close();
        let bytes = log.get("00000000000000000002.snapshot");
        for offset in [5, 42] {
            log.put(&format!("{offset:020}.snapshot"), &bytes);
        }
        log.open();
        assert_eq!((log.snapshots(), log.end_offset(), log.known()), (vec![1, 2], 2, vec![1]));
    }
}

/// C testTakeSnapshotOnRollAndDeleteSnapshotOnRecoveryPointCheckpoint
#[test]
fn a_roll_writes_a_snapshot_and_a_sync_removes_none() {
    for log in partitions() {
        for count in 1..4 {
            log.send(by(1, 0, count as i32 - 1));
            log.roll().unwrap();
            assert_eq!(log.snapshots(), (1..=count).collect::<Vec<_>>());
        }
        log.send(by(1, 0, 3));
        log.sync().unwrap();
        assert_eq!(log.snapshots(), [1, 2, 3]);
    }
}

/// C testProducerSnapshotAfterSegmentRollOnAppend
#[test]
fn the_snapshot_of_a_roll_does_not_know_of_the_batch_that_made_it() {
    for mut log in partitions_with(|options| options.segment_bytes(1024)) {
        let batch = |id| by(id, 0, 0).record("key", "x".repeat(600));
        log.send(batch(1));
        log.send(batch(2));
        assert_eq!((log.segments(), log.snapshots()), (vec![0, 2], vec![2]));
        assert_eq!(log.get("00000000000000000002.snapshot")[6..10], [0, 0, 0, 1]);
        log.die_and_open();
        assert_eq!((log.recovery().snapshot, log.recovery().batches_replayed), (Some(Offset(2)), 1));
        assert_eq!(log.known(), [1, 2]);
    }
}

/// C testRecoveryPointNotIncrementedOnProducerStateSnapshotFlushFailure
#[test]
fn the_recovery_point_stays_when_a_snapshot_cannot_be_written() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
        let mut failures = 0;
        for log in partitions() {
            log.send(by(1, 0, 0));
            for call in 1..12 {
                let sequence = log.end_offset() as i32;
                log.disk.inject(Fault::nth(operation, call));
                let rolled = log.roll();
                log.disk.clear_faults();
                let newest = log.snapshots().last().copied().unwrap_or(0);
                assert!(log.recovery_point() <= Offset(newest), "{operation:?} {call} {rolled:?}");
                failures += usize::from(newest < i64::from(sequence));
                if log.append(&by(1, 0, sequence).build().unwrap()).is_err() {
                    break;
                }
            }
        }
        assert!(failures > 0, "{operation:?}");
    }
}
