//! What is known of producers and transactions after an opening.

use idemlog::Offset;

use crate::fixture::{Partition, REOPENINGS, at, by, committed, marker, partitions, txn};

fn name(offset: i64) -> String {
    format!("{offset:020}.snapshot")
}

/// Six segments of one batch each, by one producer, the last one active.
fn six_segments(log: &Partition) {
    log.send_and_roll((0..5).map(|sequence| by(1, 0, sequence)));
    log.send(by(1, 0, 5));
    assert_eq!(log.segments(), [0, 1, 2, 3, 4, 5]);
}

/// B2 testProducerSnapshotsRecoveryAfterUncleanShutdownCurrentMessageFormat
#[test]
fn an_opening_reads_what_lies_above_the_recovery_point_and_the_newest_snapshot() {
    for mut log in partitions() {
        six_segments(&log);
        let state = log.state();
        for (recovery_point, snapshot, checked, replayed) in
            [(4, 4, 2, 2), (2, 4, 4, 2), (2, 2, 4, 4), (4, 1, 2, 5), (0, 0, 6, 6)]
        {
            log.die();
            log.checkpoint(recovery_point, 0);
            let above = log.snapshots().into_iter().filter(|&offset| offset > snapshot);
            above.for_each(|offset| log.remove(&name(offset)));
            log.open();
            let report = log.recovery();
            let what = format!("recovery point {recovery_point}, snapshot {snapshot}: {report}");
            assert_eq!((report.batches_checked, report.batches_replayed), (checked, replayed), "{what}");
            assert_eq!(log.state(), state, "{what}");
            log.close_and_open();
            assert_eq!(log.snapshots().last(), Some(&6), "the one at the end is written again");
            put_snapshots_back(&mut log);
        }
    }
}

/// Truncates to an end that is a segment's, and appends again, so that every segment has its snapshot.
fn put_snapshots_back(log: &mut Partition) {
    log.truncate_fully(Offset(0)).unwrap();
    six_segments(log);
}

/// B4 testRecoverAfterNonMonotonicCoordinatorEpochWrite
#[test]
fn recovery_takes_a_marker_of_an_older_coordinator() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.end(1, 0, committed(5));
        log.send(txn(1, 0, 1));
        log.replicate([at(3, marker(1, 0, committed(3)))]);
        let state = log.state();
        assert_eq!(state.last_stable, 4);
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.state(), state);
        }
    }
}

/// B7 testSkipTruncateAndReloadIfNewMessageFormatAndCleanShutdown, in which Kafka takes a clean log without snapshots for
/// one without producers. Here they are found in the log (difference 3).
#[test]
fn a_log_that_was_closed_well_and_has_no_snapshots_does_not_forget_its_producers() {
    for mut log in partitions() {
        six_segments(&log);
        let state = log.state();
        log.close();
        log.remove_all(".snapshot");
        log.open();
        assert!(log.recovery().marked_clean);
        assert_eq!(log.state(), state);
    }
}

/// B8 testLoadProducersAfterDeleteRecordsMidSegment
#[test]
fn producers_come_back_whose_records_were_deleted_in_the_middle_of_a_segment() {
    for mut log in partitions() {
        log.send(by(1, 0, 0));
        log.send(by(2, 0, 0));
        log.delete_records(Offset(1)).unwrap();
        for again in [Partition::close_and_open, Partition::die_and_open] {
            again(&mut log);
            assert_eq!((log.start_offset(), log.known(), log.offsets()), (1, vec![1, 2], vec![1]));
            assert_eq!(log.send_again(by(1, 0, 0)), (0, 0));
        }
    }
}

/// B9 testLoadingLogKeepsLargestStrayProducerStateSnapshot
#[test]
fn the_largest_snapshot_is_kept_that_belongs_to_no_segment() {
    for mut log in partitions() {
        log.send_and_roll([by(1, 0, 0), by(1, 0, 1)]);
        log.send(by(1, 0, 2));
        log.close_and_open();
        log.send(by(1, 0, 3));
        log.close_and_open();
        assert_eq!((log.segments(), log.snapshots()), (vec![0, 1, 2], vec![1, 2, 4]));
        assert_eq!(log.recovery().snapshot, Some(Offset(4)));
    }
}

/// B10 testLoadProducersAfterDeleteRecordsOnSegment, in which Kafka loses the producer whose segment is gone. Here it stays
/// (difference 3).
#[test]
fn producers_come_back_whose_segments_are_gone() {
    for mut log in partitions() {
        log.send_and_roll([by(9, 0, 0)]);
        log.send(by(1, 0, 0));
        log.delete_records(Offset(1)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 1);
        for again in [Partition::close_and_open, Partition::die_and_open, Partition::lose_power_and_open] {
            again(&mut log);
            assert_eq!((log.segments(), log.known()), (vec![1], vec![1, 9]));
            assert_eq!(log.send_again(by(9, 0, 0)), (0, 0));
        }
    }
}

/// A log over several segments, with transactions that were aborted in each and over the border of two, and one open.
fn aborting(log: &Partition) {
    for round in 0..4 {
        log.send(txn(1, 0, round));
        log.send(by(2, 0, round));
        log.roll().unwrap();
        log.send(txn(3, 0, 2 * round));
        log.abort(1, 0);
        log.send(txn(3, 0, 2 * round + 1));
        if round % 2 == 0 {
            log.abort(3, 0)
        } else {
            log.commit(3, 0)
        };
    }
    log.send(txn(4, 0, 0));
    assert_eq!(log.all_aborted().len(), 6);
    assert_eq!((log.segments().len(), log.named(".txnindex").len()), (5, 4));
}

/// B31 testFullTransactionIndexRecovery
#[test]
fn aborted_transactions_are_found_again_without_any_index() {
    for mut log in partitions() {
        aborting(&log);
        let state = log.state();
        log.recover_from_segments();
        assert_eq!(log.state(), state);
        log.close_and_open();
        assert_eq!(log.state(), state);
    }
}

/// B32 testRecoverOnlyLastSegment
#[test]
fn the_aborted_transactions_of_the_last_segment_are_found_again() {
    for mut log in partitions() {
        aborting(&log);
        finds_the_last_segment_again(&mut log, &[]);
    }
}

/// Loses the indexes of the last segment, and what ends with one of `lost`.
fn finds_the_last_segment_again(log: &mut Partition, lost: &[&str]) {
    let (state, last) = (log.state(), *log.segments().last().unwrap());
    log.die();
    lost.iter().for_each(|suffix| log.remove_all(suffix));
    for suffix in ["index", "timeindex", "txnindex"] {
        log.remove_all(&format!("{last:020}.{suffix}"));
    }
    log.checkpoint(last, 0);
    log.open();
    assert_eq!(log.state(), state);
}

/// B33 testRecoverLastSegmentWithNoSnapshots
#[test]
fn the_aborted_transactions_of_the_last_segment_are_found_again_without_snapshots() {
    for mut log in partitions() {
        aborting(&log);
        finds_the_last_segment_again(&mut log, &[".snapshot"]);
    }
}
