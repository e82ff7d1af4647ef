//! Sequences, epochs and markers: who may append what.

use idemlog::ErrorCode::{
    InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequenceNumber, TransactionCoordinatorFenced,
};
use idemlog::{AppendOptions, FirstAppend, Offset, OffsetRange, Origin};

use crate::fixture::{
    REOPENINGS, aborted, at, by, committed, emptied, many, marker, partitions, partitions_with, policy, txn,
};

const MAX: i32 = i32::MAX;

/// A1 testBasicIdMapping. (Kafka's producer state refuses a repeated sequence; its log, as ours, answers it first.)
#[test]
fn a_sequence_follows_the_one_before_and_a_new_epoch_begins_at_zero() {
    for log in partitions() {
        assert_eq!((log.send(by(1, 0, 0)), log.send(by(1, 0, 1))), (0, 1));
        assert_eq!(log.send_again(by(1, 0, 1)), (1, 1));
        assert_eq!(log.refused(by(1, 0, 5)), OutOfOrderSequenceNumber);
        assert_eq!(log.refused(by(1, 1, 2)), OutOfOrderSequenceNumber);
        assert_eq!(log.send(by(1, 1, 0)), 2);
        assert_eq!(log.refused(by(1, 0, 2)), InvalidProducerEpoch);
    }
}

/// A2 testAppendTxnMarkerWithNoProducerState
#[test]
fn a_marker_of_an_unknown_producer_makes_its_epoch_known() {
    for log in partitions() {
        log.commit(1, 5);
        assert_eq!((log.epoch(1), log.window(1)), (5, vec![]));
        assert_eq!(log.refused(by(1, 4, 0)), InvalidProducerEpoch);
        assert_eq!(log.refused(by(1, 5, 17)), OutOfOrderSequenceNumber);
        assert_eq!(log.refused(by(1, 6, 17)), OutOfOrderSequenceNumber);
        log.send(by(1, 5, 0));
        assert_eq!((log.epoch(1), log.window(1)), (5, vec![(0, 0)]));
    }
}

/// A3 testProducerSequenceWrapAround
#[test]
fn zero_follows_the_highest_sequence() {
    for log in partitions() {
        log.send(by(1, 0, MAX));
        log.send(by(1, 0, 0));
        assert_eq!(log.window(1), [(MAX, MAX), (0, 0)]);
    }
}

/// A4 testProducerSequenceWithWrapAroundBatchRecord
#[test]
fn a_batch_may_run_over_the_highest_sequence() {
    for log in partitions() {
        log.send(many(1, 0, MAX - 10, 21));
        assert_eq!(log.window(1), [(MAX - 10, 9)]);
        let offsets = OffsetRange { first: Offset(0), last: Offset(20) };
        assert_eq!(log.of(1).unwrap().batches[0].offsets, offsets);
        assert_eq!(log.send_again(many(1, 0, MAX - 10, 21)), (0, 20));
        assert_eq!(log.send(by(1, 0, 10)), 21);
    }
}

/// A5 testProducerSequenceInvalidWrapAround
#[test]
fn one_does_not_follow_the_highest_sequence() {
    for log in partitions() {
        log.send(by(1, 0, MAX));
        assert_eq!(log.refused(by(1, 0, 1)), OutOfOrderSequenceNumber);
    }
}

/// A6 testNoValidationOnFirstEntryWhenLoadingLog
#[test]
fn what_is_in_the_log_may_begin_at_any_sequence() {
    for mut log in
        partitions_with(|options| options.producers(policy().first_append(FirstAppend::RequireZero)))
    {
        log.replicate([at(735, by(1, 5, 16))]);
        log.recover_from_segments();
        assert_eq!((log.epoch(1), log.window(1)), (5, vec![(16, 16)]));
        assert_eq!(log.of(1).unwrap().batches[0].offsets.last, Offset(735));
        log.send(by(1, 5, 17));
    }
}

/// A7 testControlRecordBumpsProducerEpoch
#[test]
fn a_marker_of_a_higher_epoch_raises_the_producers_and_empties_its_window() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        log.end(1, 1, aborted(1));
        let producer = log.of(1).unwrap();
        assert_eq!((log.epoch(1), log.window(1)), (1, vec![]));
        assert_eq!((producer.coordinator_epoch, producer.transaction_first_offset), (Some(1), None));
        assert_eq!(log.refused(by(1, 0, 1)), InvalidProducerEpoch);
        log.send(by(1, 1, 0));
        assert_eq!((log.epoch(1), log.window(1)), (1, vec![(0, 0)]));
    }
}

/// A13 testPrepareUpdateDoesNotMutate
#[test]
fn a_call_with_a_batch_that_is_refused_changes_nothing() {
    for log in partitions() {
        log.send(by(1, 0, 0));
        let call: Vec<_> = [by(1, 0, 1), by(2, 0, 0), txn(3, 0, 0), by(1, 0, 3)]
            .into_iter()
            .map(|batch| batch.build().unwrap())
            .collect();
        assert_eq!(log.refuses(|log| log.append_all(&call)), OutOfOrderSequenceNumber);
        assert_eq!(log.append_all(&call[..3]).unwrap().len(), 3);
        assert_eq!((log.known(), log.window(1)), (vec![1, 2, 3], vec![(0, 0), (1, 1)]));
    }
}

/// A15 testOutOfSequenceAfterControlRecordEpochBump
#[test]
fn a_sequence_does_not_go_on_over_an_epoch_that_a_marker_raised() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        log.send(txn(1, 0, 1));
        log.end(1, 1, aborted(1));
        assert_eq!(log.refused(txn(1, 1, 2)), OutOfOrderSequenceNumber);
        log.send(txn(1, 1, 0));
        log.send(txn(1, 1, 1));
    }
}

/// A16 testNonTransactionalAppendWithOngoingTransaction
#[test]
fn data_outside_of_a_transaction_is_refused_while_one_is_open() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        assert_eq!(log.refused(by(1, 0, 1)), InvalidTxnState);
        log.commit(1, 0);
        log.send(by(1, 0, 1));
    }
}

/// A25 testAcceptAppendWithoutProducerStateOnReplica
#[test]
fn a_follower_takes_an_unknown_producer_at_any_sequence() {
    for log in partitions_with(|options| options.producers(policy().first_append(FirstAppend::RequireZero))) {
        log.replicate([at(0, by(1, 0, 1)), at(1, many(2, 7, 50, 3))]);
        assert_eq!((log.window(1), log.window(2), log.epoch(2)), (vec![(1, 1)], vec![(50, 52)], 7));
    }
}

/// A26 testAcceptAppendWithSequenceGapsOnReplica
#[test]
fn a_follower_takes_gaps_of_a_producers_sequence() {
    for log in partitions() {
        log.send(by(1, 0, 0));
        assert_eq!(log.refused(by(1, 0, 3)), OutOfOrderSequenceNumber);
        log.replicate([at(1, by(1, 0, 3))]);
        assert_eq!(log.window(1), [(0, 0), (3, 3)]);
        log.send(by(1, 0, 4));
    }
}

/// A36 testSequenceNotValidatedForGroupMetadataTopic
#[test]
fn a_coordinators_data_needs_no_sequence() {
    for log in partitions() {
        for offset in 0..3 {
            let batch = by(1, 0, -1).transactional().build().unwrap();
            let options = AppendOptions::default().origin(Origin::Coordinator);
            let outcomes = log.submit(&[batch], options).unwrap().wait().unwrap();
            assert!(!outcomes[0].is_duplicate());
            assert_eq!(outcomes[0].base_offset(), Offset(offset));
        }
        log.commit(1, 0);
        assert_eq!(log.last_stable(), 4);
    }
}

/// A37 testOldEpochForControlRecord
#[test]
fn a_marker_of_an_older_epoch_is_refused() {
    for log in partitions() {
        log.send(txn(1, 5, 0));
        assert_eq!(log.refused_marker(1, 4, committed(0)), InvalidProducerEpoch);
        assert_eq!(log.open_transaction(1), Some(0));
    }
}

/// A38 testCoordinatorFencing
#[test]
fn a_marker_of_an_older_coordinator_is_refused() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        log.end(1, 0, committed(1));
        assert_eq!(log.of(1).unwrap().coordinator_epoch, Some(1));
        log.send(txn(1, 0, 1));
        log.end(1, 0, committed(1));
        log.send(txn(1, 0, 2));
        assert_eq!(log.refused_marker(1, 0, committed(0)), TransactionCoordinatorFenced);
        log.end(1, 0, committed(2));
        assert_eq!(log.of(1).unwrap().coordinator_epoch, Some(2));
    }
}

/// A39 testCoordinatorFencedAfterReload
#[test]
fn an_older_coordinator_is_refused_also_after_an_opening() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.end(1, 0, committed(1));
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.refused_marker(1, 0, committed(0)), TransactionCoordinatorFenced);
        }
    }
}

/// A43 testAppendEmptyControlBatch
#[test]
fn a_control_batch_without_its_record_tells_nothing() {
    for mut log in partitions() {
        log.replicate([at(0, txn(1, 0, 0))]);
        let known = log.producers();
        log.try_replicate(&[emptied(at(1, marker(1, 0, committed(0))))]).unwrap();
        assert_eq!((log.producers(), log.undecided()), (known.clone(), Some(0)));
        log.recover_from_segments();
        assert_eq!((log.producers(), log.undecided(), log.end_offset()), (known, Some(0), 2));
    }
}
