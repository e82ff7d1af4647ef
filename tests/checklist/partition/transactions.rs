//! The last stable offset, aborted transactions and fencing, in whole logs.

use std::time::Duration;

use idemlog::ErrorCode::{
    InvalidProducerEpoch, InvalidTxnState, NotLeaderOrFollower, TransactionCoordinatorFenced,
};
use idemlog::TransactionVersion::{V1, V2};
use idemlog::sim::{Fault, Operation};
use idemlog::{AppendOptions, Error, LeaderEpoch, Log, Offset, Pending, ProducerEpoch, ProducerId, Sequence};

use crate::fixture::{
    Partition, REOPENINGS, aborted, at, by, committed, many, marker, partitions, partitions_with, plain, txn,
};

/// Base offsets of what a consumer reads that wants only committed records, aborted data and markers included.
fn committed_offsets(log: &Partition) -> Vec<i64> {
    let (mut offsets, mut next) = (Vec::new(), log.log_start_offset());
    loop {
        let fetched = log.read_committed(next, 1 << 20).unwrap();
        if fetched.bytes.is_empty() {
            return offsets;
        }
        next = fetched.next_offset;
        offsets.extend(fetched.batches().map(|batch| batch.unwrap().header().base_offset.0));
    }
}

/// C testFetchUpToLastStableOffset
#[test]
fn a_reader_of_committed_records_reads_up_to_the_last_stable_offset() {
    for log in partitions() {
        log.send_all([plain(), txn(1, 0, 0), plain(), txn(2, 0, 0)]);
        assert_eq!(committed_offsets(&log), [0]);
        log.commit(1, 0);
        assert_eq!(committed_offsets(&log), [0, 1, 2]);
        log.abort(2, 0);
        assert_eq!(committed_offsets(&log), [0, 1, 2, 3, 4, 5]);
        log.set_high_watermark(Offset(2));
        assert_eq!(committed_offsets(&log), [0, 1]);
    }
}

/// C testRebuildTransactionalState
#[test]
fn transactions_are_the_same_after_an_opening() {
    for mut log in partitions() {
        log.send_all([txn(1, 0, 0), txn(2, 0, 0), by(3, 0, 0)]);
        log.abort(1, 0);
        log.send(txn(1, 0, 1));
        let state = log.state();
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.state(), state);
        }
        log.commit(2, 0);
        log.commit(1, 0);
        assert_eq!((log.last_stable(), log.all_aborted()), (7, vec![(1, 0, 3, 1)]));
    }
}

/// C testFirstUnstableOffsetNoTransactionalData
#[test]
fn data_outside_of_transactions_is_stable() {
    for log in partitions() {
        log.send_all([by(1, 0, 0), plain(), by(1, 0, 1)]);
        assert_eq!((log.undecided(), log.last_stable()), (None, 3));
    }
}

/// C testFirstUnstableOffsetWithTransactionalData
#[test]
fn the_first_record_of_a_transaction_is_not_stable_until_it_ends() {
    for log in partitions() {
        log.send(many(1, 0, 0, 3).transactional());
        log.send(txn(1, 0, 3));
        log.send(plain());
        assert_eq!((log.undecided(), log.last_stable()), (Some(0), 0));
        log.set_high_watermark(Offset(5));
        log.commit(1, 0);
        assert_eq!((log.undecided(), log.last_stable()), (None, 0), "its marker is not replicated");
        log.set_high_watermark(Offset(6));
        assert_eq!(log.last_stable(), 6);
    }
}

/// C testReadCommittedWithConcurrentHighWatermarkUpdates
#[test]
fn a_committed_read_never_goes_beyond_an_undecided_record_while_the_high_watermark_moves() {
    for log in partitions() {
        let undecided = 300;
        for offset in 0..undecided {
            log.replicate([at(offset, plain())]);
        }
        log.set_high_watermark(Offset(0));
        log.replicate([at(undecided, txn(1, 0, 0)), at(undecided + 1, plain())]);
        std::thread::scope(|scope| {
            let moving = scope.spawn(|| {
                (0..=undecided + 2).for_each(|offset| log.set_high_watermark(Offset(offset)));
            });
            while !moving.is_finished() {
                let fetched = log.read_committed(Offset(0), 1 << 20).unwrap();
                let last =
                    fetched.batches().last().map_or(Offset(0), |batch| batch.unwrap().header().next_offset());
                assert!(last <= Offset(undecided) && last <= fetched.high_watermark);
            }
        });
        assert_eq!((log.last_stable(), log.high_watermark().0), (undecided, undecided + 2));
    }
}

enum Sent {
    Data(i64, i32),
    Abort(i64),
    Commit(i64),
}

/// Transactions of four producers among each other's records, two of them aborted.
const INTERLEAVED: [Sent; 13] = [
    Sent::Data(1, 0),
    Sent::Data(2, 0),
    Sent::Data(1, 1),
    Sent::Data(3, 0),
    Sent::Data(4, 0),
    Sent::Data(2, 1),
    Sent::Data(1, 2),
    Sent::Abort(1),
    Sent::Commit(3),
    Sent::Data(1, 3),
    Sent::Abort(2),
    Sent::Commit(4),
    Sent::Commit(1),
];

/// C testTransactionIndexUpdated
#[test]
fn aborted_transactions_are_listed_with_their_offsets() {
    for log in partitions() {
        for sent in INTERLEAVED {
            match sent {
                Sent::Data(id, sequence) => log.send(txn(id, 0, sequence)),
                Sent::Abort(id) => log.abort(id, 0),
                Sent::Commit(id) => log.commit(id, 0),
            };
        }
        assert_eq!(log.all_aborted(), [(1, 0, 7, 1), (2, 1, 10, 4)]);
        assert_eq!(log.last_stable(), 13);
    }
}

/// C testTransactionIndexUpdatedThroughReplication
#[test]
fn a_follower_lists_the_same_aborted_transactions() {
    for log in partitions() {
        for (sent, offset) in INTERLEAVED.into_iter().zip(0..) {
            let batch = match sent {
                Sent::Data(id, sequence) => txn(id, 0, sequence),
                Sent::Abort(id) => marker(id, 0, aborted(0)),
                Sent::Commit(id) => marker(id, 0, committed(0)),
            };
            log.replicate([at(offset, batch)]);
        }
        assert_eq!(log.all_aborted(), [(1, 0, 7, 1), (2, 1, 10, 4)]);
        assert_eq!(log.last_stable(), 13);
    }
}

/// C testZombieCoordinatorFenced
#[test]
fn a_coordinator_that_was_replaced_is_fenced() {
    for log in partitions() {
        log.send(txn(1, 5, 0));
        log.end(1, 5, aborted(1));
        log.send(txn(1, 5, 1));
        log.end(1, 5, committed(2));
        assert_eq!(log.refused_marker(1, 5, aborted(1)), TransactionCoordinatorFenced);
    }
}

/// C testZombieCoordinatorFencedEmptyTransaction
#[test]
fn a_coordinator_that_was_replaced_is_fenced_also_without_a_transaction() {
    for log in partitions() {
        log.end(1, 5, committed(1));
        log.end(1, 5, aborted(2));
        assert_eq!(log.refused_marker(1, 5, committed(1)), TransactionCoordinatorFenced);
        log.end(1, 5, committed(2));
    }
}

/// C testEndTxnWithFencedProducerEpoch
#[test]
fn a_marker_of_a_fenced_epoch_is_refused() {
    for log in partitions() {
        log.end(1, 5, aborted(1));
        assert_eq!(log.refused_marker(1, 4, aborted(1)), InvalidProducerEpoch);
    }
}

/// C testLastStableOffsetDoesNotExceedLogStartOffsetMidSegment
#[test]
fn the_last_stable_offset_is_not_below_a_log_start_in_the_middle_of_a_segment() {
    for mut log in partitions() {
        log.send_all([txn(1, 0, 0), plain(), plain(), txn(2, 0, 0)]);
        log.delete_records(Offset(2)).unwrap();
        for again in [|_: &mut Partition| {}, Partition::close_and_open, Partition::die_and_open] {
            again(&mut log);
            assert_eq!((log.start_offset(), log.last_stable(), log.undecided()), (2, 2, Some(0)));
            assert_eq!(committed_offsets(&log), []);
        }
        log.abort(1, 0);
        assert_eq!((log.last_stable(), log.undecided()), (3, Some(3)));
        assert_eq!(committed_offsets(&log), [2]);
    }
}

/// C testLastStableOffsetDoesNotExceedLogStartOffsetAfterSegmentDeletion. Here the transaction stays open when its records
/// go (difference 12).
#[test]
fn the_last_stable_offset_is_not_below_a_log_start_behind_a_segment_that_is_gone() {
    for mut log in partitions() {
        log.send_and_roll([txn(1, 0, 0), plain()]);
        log.send(plain());
        log.delete_records(Offset(2)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 2);
        for again in [|_: &mut Partition| {}, Partition::close_and_open, Partition::die_and_open] {
            again(&mut log);
            assert_eq!((log.start_offset(), log.last_stable(), log.open_transaction(1)), (2, 2, Some(0)));
        }
        log.abort(1, 0);
        assert_eq!((log.last_stable(), log.all_aborted()), (4, vec![(1, 0, 3, 4)]));
    }
}

/// C testAppendToTransactionIndexFailure. Here the index is kept in memory and written later, so its file fails no append;
/// what a crash leaves of it is checked against the log.
#[test]
fn a_transaction_index_that_cannot_be_written_loses_no_aborted_transaction() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.disk.inject(Fault::nth(Operation::Create, 1).forever());
        log.abort(1, 0);
        assert_eq!((log.last_stable(), log.all_aborted()), (2, vec![(1, 0, 1, 2)]));
        log.disk.clear_faults();
        log.die_and_open();
        assert_eq!((log.last_stable(), log.all_aborted()), (2, vec![(1, 0, 1, 2)]));
    }
}

/// C testAppendToTransactionIndexFailure: the marker itself cannot be made durable.
#[test]
fn the_last_stable_offset_stays_when_a_marker_is_not_durable() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.disk.inject(Fault::nth(Operation::Sync, 1));
        log.end_transaction(ProducerId(1), ProducerEpoch(0), aborted(0)).unwrap_err();
        assert_eq!(log.last_stable(), 0);
        assert!(matches!(log.read_committed(Offset(0), 1 << 20), Err(Error::Poisoned(_))));
        log.lose_power_and_open();
        assert_eq!((log.last_stable(), log.undecided()), (0, Some(0)));
        log.abort(1, 0);
        assert_eq!(log.last_stable(), 2);
    }
}

/// C testLastStableOffsetWithMixedProducerData
#[test]
fn the_last_stable_offset_is_where_the_oldest_open_transaction_begins() {
    for log in partitions() {
        log.send(many(1, 5, 0, 3).transactional());
        log.replicate([at(3, by(2, 1, 0)), at(4, txn(3, 5, 0)), at(5, txn(1, 5, 3))]);
        assert_eq!(log.last_stable(), 0);
        log.abort(1, 5);
        assert_eq!((log.last_stable(), log.undecided()), (4, Some(4)));
        log.commit(3, 5);
        assert_eq!(log.last_stable(), 8);
    }
}

/// C testAbortedTransactionSpanningMultipleSegments
#[test]
fn an_aborted_transaction_is_found_from_every_segment_that_it_spans() {
    for mut log in partitions() {
        log.send_and_roll((0..4).map(|sequence| txn(1, 0, sequence)));
        log.abort(1, 0);
        for again in [|_: &mut Partition| {}, Partition::close_and_open, Partition::recover_from_segments] {
            again(&mut log);
            for from in 0..5 {
                let fetched = log.read_committed(Offset(from), 1).unwrap();
                assert_eq!(
                    (fetched.aborted.len(), fetched.aborted[0].last_offset),
                    (1, Offset(4)),
                    "from {from}"
                );
            }
            assert_eq!(log.all_aborted(), [(1, 0, 4, 5)]);
        }
    }
}

fn verifying(required: bool) -> impl Iterator<Item = Partition> {
    partitions_with(move |options| options.verify_transactions(required))
}

/// C testTransactionIsOngoingAndVerificationGuard
#[test]
fn a_transaction_begins_only_with_the_guard_and_needs_none_once_it_is_open() {
    for log in verifying(true) {
        let begin = |sequence| {
            log.begin_verification(ProducerId(1), ProducerEpoch(0), Sequence(sequence), V1).unwrap()
        };
        log.send_all([by(1, 0, 0), by(1, 0, 1)]);
        assert_eq!(log.refused(txn(1, 0, 2)), InvalidTxnState);
        let guard = begin(2).unwrap();
        let options = AppendOptions::default().verification(guard);
        log.submit(&[txn(1, 0, 2).build().unwrap()], options).unwrap().wait().unwrap();
        assert_eq!((begin(3), log.open_transaction(1)), (None, Some(2)));
        log.send(txn(1, 0, 3));
        log.commit(1, 0);
        assert_eq!(log.refused(txn(1, 0, 4)), InvalidTxnState);
        assert_ne!(begin(4).unwrap(), guard);
    }
}

/// C testEmptyTransactionStillClearsVerificationGuard
#[test]
fn a_marker_without_data_ends_a_verification() {
    for log in verifying(true) {
        let begin =
            || log.begin_verification(ProducerId(1), ProducerEpoch(0), Sequence(0), V1).unwrap().unwrap();
        let guard = begin();
        log.abort(1, 0);
        let options = AppendOptions::default().verification(guard);
        log.refuses(|log| log.submit(&[txn(1, 0, 0).build().unwrap()], options).map(drop));
        assert_ne!(begin(), guard);
    }
}

/// C testDisabledVerificationClearsVerificationGuard
#[test]
fn verifications_that_are_no_longer_required_are_not_asked_for() {
    for log in verifying(true) {
        log.begin_verification(ProducerId(1), ProducerEpoch(0), Sequence(0), V1).unwrap().unwrap();
        assert_eq!(log.refused(txn(1, 0, 0)), InvalidTxnState);
        log.set_options((*log.options()).clone().verify_transactions(false)).unwrap();
        log.send(txn(1, 0, 0));
        log.commit(1, 0);
        log.send(txn(1, 0, 1));
    }
}

/// C testEnablingVerificationWhenRequestIsAtLogLayer
#[test]
fn verifications_are_asked_for_from_the_moment_that_they_are_required() {
    for log in verifying(false) {
        log.send(txn(1, 0, 0));
        log.commit(1, 0);
        log.set_options((*log.options()).clone().verify_transactions(true)).unwrap();
        assert_eq!(log.refused(txn(1, 0, 1)), InvalidTxnState);
        let guard =
            log.begin_verification(ProducerId(1), ProducerEpoch(0), Sequence(1), V1).unwrap().unwrap();
        let options = AppendOptions::default().verification(guard);
        log.submit(&[txn(1, 0, 1).build().unwrap()], options).unwrap().wait().unwrap();
    }
}

/// A commit as a coordinator sends it that raises the epoch with each transaction.
fn submit_commit(log: &Log, epoch: i16, options: AppendOptions) -> Result<Pending, Error> {
    let options = options.transaction_version(V2);
    log.submit_end_transaction(ProducerId(1), ProducerEpoch(epoch), committed(0), options)
}

/// A marker that was sent again, since its answer was lost, ended the next transaction half-way (KAFKA-19999).
#[test]
fn a_marker_that_comes_again_does_not_end_the_next_transaction() {
    for mut log in partitions() {
        log.send(txn(1, 5, 0));
        submit_commit(&log, 6, AppendOptions::default()).unwrap().wait().unwrap();
        log.send(txn(1, 6, 0));
        for _ in 0..2 {
            let late = log.refuses(|log| submit_commit(log, 6, AppendOptions::default()).map(drop));
            assert_eq!(late, InvalidProducerEpoch);
            let older = log.refuses(|log| submit_commit(log, 5, AppendOptions::default()).map(drop));
            assert_eq!(older, InvalidProducerEpoch);
            assert_eq!(log.undecided(), Some(2));
            log.close_and_open();
        }
        submit_commit(&log, 7, AppendOptions::default()).unwrap().wait().unwrap();
        assert_eq!((log.last_stable(), log.undecided()), (4, None));
    }
}

#[test]
fn a_marker_that_comes_again_is_stored_once_and_answered_once_it_is_durable() {
    for mut log in partitions() {
        log.send(txn(1, 5, 0));
        let first = submit_commit(&log, 6, AppendOptions::default()).unwrap();
        let again = submit_commit(&log, 6, AppendOptions::default()).unwrap();
        assert_eq!((again.is_durable(), log.end_offset()), (false, 2));
        let outcome = again.wait().unwrap()[0];
        assert_eq!((outcome.is_duplicate(), outcome.offsets()), (true, None));
        assert!(first.is_durable());
        log.close_and_open();
        assert!(submit_commit(&log, 6, AppendOptions::default()).unwrap().wait().unwrap()[0].is_duplicate());
        assert_eq!(log.end_offset(), 2);
    }
}

#[test]
fn a_marker_has_the_leader_epoch_that_its_coordinator_knows_and_may_wait_for_all_replicas() {
    for log in partitions() {
        log.send(txn(1, 5, 0));
        log.set_leader_epoch(LeaderEpoch(4));
        let led = |epoch| AppendOptions::default().leader_epoch(LeaderEpoch(epoch));
        let refused = log.refuses(|log| submit_commit(log, 6, led(3)).map(drop));
        assert_eq!(refused, NotLeaderOrFollower);
        log.set_high_watermark(Offset(1));
        let replicated = submit_commit(&log, 6, led(4)).unwrap().replicated();
        assert!(!replicated.wait(Duration::ZERO).unwrap());
        log.set_high_watermark(Offset(2));
        assert!(replicated.wait(Duration::ZERO).unwrap());
    }
}
