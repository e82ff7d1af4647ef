//! Clean and unclean ends, and where the log begins and ends after them.

use idemlog::{LeaderEpoch, Offset};

use crate::fixture::{Partition, REOPENINGS, at, by, many, partitions, plain, txn};

/// B1 testLogRecoveryIsCalledUponBrokerCrash
#[test]
fn a_log_is_recovered_unless_it_was_closed_well_and_again_if_that_is_interrupted() {
    for mut log in partitions() {
        log.send_all((0..3).map(|sequence| by(1, 0, sequence)));
        let state = log.state();
        log.die_and_open();
        assert!(!log.recovery().marked_clean && log.recovery().batches_checked == 3);
        log.close();
        assert!(log.is_marked_clean());
        log.disk.restart_journal();
        log.open();
        assert!(log.recovery().marked_clean && !log.is_marked_clean());
        let mut seen = [0; 2];
        for point in 0..log.disk.crash_points() {
            let killed = log.killed_at(point);
            assert_eq!(killed.state(), state, "behind {}", log.disk.describe(point));
            seen[usize::from(killed.recovery().marked_clean)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
    }
}

/// B16 testReopenThenTruncate
#[test]
fn a_log_can_be_truncated_once_it_is_opened_again() {
    for again in REOPENINGS {
        for mut log in partitions() {
            log.send_and_roll((0..10).map(|sequence| by(1, 0, sequence)));
            again(&mut log);
            log.truncate_to(Offset(3)).unwrap();
            assert_eq!((log.offsets(), log.end_offset()), (vec![0, 1, 2], 3));
            assert_eq!(log.send(by(1, 0, 3)), 3);
        }
    }
}

/// B17 testOpenDeletesObsoleteFiles
#[test]
fn what_a_deletion_left_is_removed() {
    for mut log in partitions() {
        log.send(by(1, 0, 0));
        log.roll().unwrap();
        log.close();
        let names = log.names();
        for name in ["log", "index", "timeindex", "txnindex", "snapshot"] {
            log.put(&format!("00000000000000000000.{name}.deleted"), b"left over");
            log.put(&format!("00000000000000000042.{name}.deleted"), b"left over");
        }
        log.open();
        log.close();
        assert_eq!(log.names(), names);
        log.open();
        assert_eq!(log.offsets(), [0]);
    }
}

/// Opens the log in each way, and it has the same batches in the same segments.
fn stays(mut log: Partition) {
    let (offsets, segments) = (log.offsets(), log.segments());
    for again in REOPENINGS {
        again(&mut log);
        assert_eq!((log.offsets(), log.segments()), (offsets.clone(), segments.clone()));
    }
    let end = log.end_offset();
    assert_eq!(log.send(plain()), end);
}

/// B19 testOverCompactedLogRecovery
#[test]
fn offsets_further_apart_than_an_index_can_say_begin_a_segment() {
    const MAX: i64 = i32::MAX as i64;
    for log in partitions() {
        for offset in [0, MAX, MAX + 1, 4 * MAX, 4 * MAX + 1] {
            log.replicate([at(offset, plain())]);
        }
        assert_eq!(log.segments(), [0, MAX + 1, 4 * MAX]);
        stays(log);
    }
}

/// B20 testOverCompactedLogRecoveryMultiRecord
#[test]
fn a_batch_whose_last_offset_an_index_cannot_say_begins_a_segment() {
    const MAX: i64 = i32::MAX as i64;
    for log in partitions() {
        for offset in [0, MAX - 1, 3 * MAX] {
            log.replicate([at(offset, many(-1, -1, -1, 3))]);
        }
        assert_eq!(log.segments(), [0, MAX - 1, 3 * MAX]);
        stays(log);
    }
}

/// B30 testLogRecoversForLeaderEpoch
#[test]
fn the_leader_epochs_are_found_again() {
    for mut log in partitions() {
        for (number, epoch) in [0, 0, 1, 1, 4, 4].into_iter().enumerate() {
            log.set_leader_epoch(LeaderEpoch(epoch));
            log.send_and_roll([by(1, 0, number as i32)]);
        }
        let epochs = log.state().leader_epochs;
        assert_eq!(epochs, [(0, 0), (1, 2), (4, 4)]);
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.state().leader_epochs, epochs);
        }
        log.close();
        log.remove("leader-epoch-checkpoint");
        log.open();
        assert_eq!(log.state().leader_epochs, epochs, "also in a log that was closed well");
        log.die();
        log.put("leader-epoch-checkpoint", b"0\n4\n0 0\n1 2\n4 4\n9 50\n");
        log.open();
        assert_eq!(log.state().leader_epochs, epochs, "those behind the end go");
    }
}

/// B34 testLogEndLessThanStartAfterReopen
#[test]
fn a_log_that_ends_below_its_start_is_empty_at_its_start() {
    for mut log in partitions() {
        log.send_and_roll((0..5).map(|sequence| by(1, 0, sequence)));
        log.die();
        log.checkpoint(0, 9);
        log.open();
        assert_eq!((log.start_offset(), log.end_offset(), log.offsets()), (9, 9, vec![]));
        assert_eq!(log.send(plain()), 9);
        assert_eq!(log.segments(), [9]);
        log.die_and_open();
        assert_eq!((log.start_offset(), log.offsets()), (9, vec![9]));
    }
}

/// B36 testRecoverWithEmptyActiveSegment
#[test]
fn a_log_with_an_empty_active_segment_goes_on() {
    for again in REOPENINGS {
        for mut log in partitions() {
            log.send_and_roll([txn(1, 0, 0), txn(1, 0, 1)]);
            let state = log.state();
            assert_eq!(log.segments(), [0, 1, 2]);
            again(&mut log);
            assert_eq!((log.state(), log.segments().last()), (state, Some(&2)));
            assert_eq!(log.send(txn(1, 0, 2)), 2);
            assert_eq!(log.offsets(), [0, 1, 2]);
        }
    }
}
