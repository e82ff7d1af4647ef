//! The snapshots of the producers: when they are written, loaded, passed over and removed.

use idemlog::Offset;

use crate::fixture::{Partition, REOPENINGS, aborted, by, partitions, plain, txn};

/// Five segments of one batch each, by one producer.
fn five_segments(log: &Partition) {
    log.send_and_roll((0..5).map(|sequence| by(1, 0, sequence)));
    assert_eq!((log.segments(), log.snapshots()), (vec![0, 1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]));
}

fn name(offset: i64) -> String {
    format!("{offset:020}.snapshot")
}

/// A17 testTruncateAndReloadRemovesOutOfRangeSnapshots. (Kafka also removes those at the log start offset and below; here
/// they go with the segments below it.)
#[test]
fn a_truncation_removes_the_snapshots_above_it() {
    for log in partitions() {
        five_segments(&log);
        log.delete_records(Offset(1)).unwrap();
        log.truncate_to(Offset(3)).unwrap();
        assert_eq!(log.snapshots(), [1, 2, 3]);
        log.apply_retention().unwrap();
        assert_eq!((log.segments()[0], log.snapshots()), (1, vec![1, 2, 3]));
        assert_eq!(log.window(1), [(0, 0), (1, 1), (2, 2)]);
    }
}

/// A18 testTakeSnapshot
#[test]
fn a_roll_writes_a_snapshot_named_by_the_offset_that_it_covers() {
    for log in partitions() {
        log.send(by(1, 0, 0));
        log.send(by(1, 0, 1));
        log.roll().unwrap();
        assert_eq!(log.named(".snapshot"), ["00000000000000000002.snapshot"]);
        let bytes = log.get(&name(2));
        assert_eq!(bytes[..2], [0, 1], "version 1");
        assert_eq!(bytes[6..10], [0, 0, 0, 1], "one producer");
        assert_eq!(bytes[10..18], 1_i64.to_be_bytes());
    }
}

/// A19 testFetchSnapshotEmptySnapShot
#[test]
fn an_empty_log_has_no_snapshot_and_exports_no_producer() {
    for log in partitions() {
        assert_eq!(log.snapshots(), []);
        let states = log.export_producers();
        assert_eq!(states.offset, Offset(0));
        log.import_producers(&states).unwrap();
        assert_eq!(log.known(), []);
    }
}

/// A20 testRecoverFromSnapshotUnfinishedTransaction
#[test]
fn an_open_transaction_comes_back_and_holds_the_last_stable_offset() {
    for mut log in partitions() {
        log.send(plain());
        log.send(txn(1, 0, 0));
        log.send(txn(1, 0, 1));
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.open_transaction(1), Some(1));
            assert_eq!((log.undecided(), log.last_stable()), (Some(1), 1));
        }
        log.send(txn(1, 0, 2));
        log.commit(1, 0);
        assert_eq!(log.last_stable(), 5);
    }
}

/// A21 testRecoverFromSnapshotFinishedTransaction. Here the whole window comes back (difference 2).
#[test]
fn the_whole_window_of_a_producer_comes_back() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.send(txn(1, 0, 1));
        log.abort(1, 0);
        let known = log.producers();
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.producers(), known);
            assert_eq!(log.send_again(txn(1, 0, 0)), (0, 0));
            assert_eq!((log.undecided(), log.last_stable()), (None, 3));
        }
    }
}

/// A22 testRecoverFromSnapshotEmptyTransaction
#[test]
fn a_producer_of_which_only_a_marker_is_known_comes_back() {
    for mut log in partitions() {
        log.abort(1, 3);
        let known = log.producers();
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!((log.epoch(1), log.window(1)), (3, vec![]));
            assert_eq!(log.producers(), known);
        }
    }
}

/// A27 testDeleteSnapshotsBefore
#[test]
fn the_snapshots_below_the_first_segment_go_and_the_one_at_it_stays() {
    for log in partitions() {
        five_segments(&log);
        log.delete_records(Offset(3)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 3);
        assert_eq!((log.segments(), log.snapshots()), (vec![3, 4, 5], vec![3, 4, 5]));
    }
}

/// A28 testTruncateFullyAndStartAt
#[test]
fn a_log_that_starts_over_has_no_snapshot_and_no_producer() {
    for mut log in partitions() {
        five_segments(&log);
        log.truncate_fully(Offset(0)).unwrap();
        assert_eq!((log.snapshots(), log.known(), log.end_offset()), (vec![], vec![], 0));
        log.die_and_open();
        assert_eq!((log.snapshots(), log.known(), log.end_offset()), (vec![], vec![], 0));
    }
}

/// A29 testReloadSnapshots
#[test]
fn an_opening_takes_the_newest_snapshot_that_is_there() {
    for mut log in partitions() {
        five_segments(&log);
        let known = log.producers();
        for newest in [Some(5), Some(3), Some(1), None] {
            log.die();
            let above = log.snapshots().into_iter().filter(|&offset| Some(offset) > newest);
            above.for_each(|offset| log.remove(&name(offset)));
            log.open();
            assert_eq!(log.recovery().snapshot, newest.map(Offset));
            assert_eq!(log.producers(), known, "the rest comes from the log");
        }
    }
}

/// A32 testSkipSnapshotIfOffsetUnchanged
#[test]
fn there_is_one_snapshot_for_an_offset() {
    for mut log in partitions() {
        log.send(by(1, 0, 0));
        log.roll().unwrap();
        log.roll().unwrap();
        let bytes = log.get(&name(1));
        log.close_and_open();
        log.close_and_open();
        assert_eq!((log.snapshots(), log.get(&name(1))), (vec![1], bytes));
    }
}

/// Opens a log whose newest snapshot is none: it is reported and removed, and the one before is taken.
fn passes_over(spoil: fn(&mut Vec<u8>)) {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.roll().unwrap();
        log.send(by(2, 0, 0));
        log.close();
        let mut bytes = log.get(&name(2));
        spoil(&mut bytes);
        log.put(&name(2), &bytes);
        log.open();
        let report = log.recovery();
        assert_eq!(report.snapshot, Some(Offset(1)));
        assert_eq!(report.snapshots_skipped[0].0, log.path(&name(2)));
        assert_eq!(log.snapshots(), [1]);
        assert_eq!((log.known(), log.open_transaction(1)), (vec![1, 2], Some(0)));
    }
}

/// A40 testLoadFromEmptySnapshotFile
#[test]
fn an_empty_snapshot_is_passed_over() {
    passes_over(Vec::clear);
}

/// A41 testLoadFromTruncatedSnapshotFile
#[test]
fn half_a_snapshot_is_passed_over() {
    passes_over(|bytes| bytes.truncate(bytes.len() / 2));
}

/// A42 testLoadFromCorruptSnapshotFile
#[test]
fn a_damaged_snapshot_is_passed_over() {
    passes_over(|bytes| bytes[20] ^= 1);
}

/// A44 testRemoveStraySnapshotsKeepCleanShutdownSnapshot
#[test]
fn the_snapshot_of_a_close_stays_while_its_offset_is_the_end() {
    for mut log in partitions() {
        log.send_and_roll([by(1, 0, 0), by(1, 0, 1)]);
        log.send(by(1, 0, 2));
        log.close_and_open();
        assert_eq!((log.segments(), log.snapshots()), (vec![0, 1, 2], vec![1, 2, 3]));
        assert_eq!(log.recovery().snapshot, Some(Offset(3)));
    }
}

/// A45 testRemoveAllStraySnapshots. (Here one inside of a segment goes with the next snapshot, not with the opening.)
#[test]
fn a_snapshot_inside_of_a_segment_goes_when_there_is_a_newer_one() {
    for mut log in partitions() {
        log.send_and_roll([by(1, 0, 0)]);
        for sequence in 1..4 {
            log.send(by(1, 0, sequence));
            log.close_and_open();
            assert_eq!(log.snapshots(), [1, 1 + i64::from(sequence)]);
        }
        log.send(by(1, 0, 4));
        log.roll().unwrap();
        assert_eq!((log.segments(), log.snapshots()), (vec![0, 1, 5], vec![1, 5]));
    }
}

/// A46 testRemoveAndMarkSnapshotForDeletion. (Here files are removed at once, and never renamed.)
#[test]
fn a_snapshot_goes_with_its_segment() {
    for log in partitions() {
        five_segments(&log);
        log.delete_records(Offset(4)).unwrap();
        log.apply_retention().unwrap();
        assert_eq!((log.snapshots(), log.named(".deleted")), (vec![4, 5], vec![]));
    }
}

/// A47 testRemoveAndMarkSnapshotForDeletionAlreadyDeleted
#[test]
fn a_snapshot_that_is_gone_already_does_not_stop_retention() {
    for log in partitions() {
        five_segments(&log);
        let known = log.producers();
        log.remove(&name(2));
        log.remove(&name(4));
        log.delete_records(Offset(4)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 4);
        assert_eq!(log.snapshots(), [4, 5], "the one that covers what went is made");
        assert_eq!(log.producers(), known);
    }
}

/// A54 testReadWriteSnapshot
#[test]
fn producers_are_the_same_once_written_and_read() {
    for (from, to) in partitions().zip(partitions()) {
        from.send_all((0..7).map(|sequence| by(1, 3, sequence)));
        from.send(by(2, 0, i32::MAX));
        from.end(3, 9, aborted(4));
        from.send(txn(4, 0, 0));
        from.send(txn(5, 0, 0));
        from.end(5, 1, aborted(2));
        let states = from.export_producers();
        to.truncate_fully(states.offset).unwrap();
        to.import_producers(&states).unwrap();
        assert_eq!(to.producers(), from.producers());
        assert_eq!((to.undecided(), to.export_producers()), (from.undecided(), states));
    }
}
