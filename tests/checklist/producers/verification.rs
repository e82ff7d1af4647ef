//! The verification guard of KIP-890: whether the coordinator was asked before a transaction begins.

use idemlog::ErrorCode::{InvalidProducerEpoch, InvalidTxnState, OutOfOrderSequenceNumber};
use idemlog::TransactionVersion::{V1, V2};
use idemlog::{
    AppendOptions, BatchBuilder, Error, Origin, ProducerEpoch, ProducerId, RejectionReason, Sequence,
    VerificationGuard,
};

use crate::fixture::{Partition, by, committed, marker, partitions_with, plain, policy, txn};

fn verifying(required: bool) -> impl Iterator<Item = Partition> {
    partitions_with(move |options| {
        options.verify_transactions(required).producers(policy().expiry_ms(60_000))
    })
}

fn begin(log: &Partition, epoch: i16, sequence: i32) -> Option<VerificationGuard> {
    log.begin_verification(ProducerId(1), ProducerEpoch(epoch), Sequence(sequence), V1).unwrap()
}

/// The same for a client and a coordinator that raise the epoch with each transaction.
fn begin_next(log: &Partition, epoch: i16, sequence: i32) -> Option<VerificationGuard> {
    log.begin_verification(ProducerId(1), ProducerEpoch(epoch), Sequence(sequence), V2).unwrap()
}

fn send_with(log: &Partition, batch: BatchBuilder, guard: VerificationGuard) -> Result<(), Error> {
    let options = AppendOptions::default().verification(guard);
    log.submit(&[batch.build().unwrap()], options)?.wait().map(drop)
}

/// A48 testEntryForVerification
#[test]
fn a_verification_is_one_until_a_batch_of_the_transaction_ends_it() {
    for log in verifying(true) {
        let guard = begin(&log, 0, 0).unwrap();
        assert_eq!(begin(&log, 0, 0), Some(guard));
        log.send(by(1, 0, 0));
        assert_eq!(begin(&log, 0, 1), Some(guard), "data outside of transactions does not end it");
        assert_eq!(log.refused(txn(1, 0, 1)), InvalidTxnState);
        let other =
            log.begin_verification(ProducerId(2), ProducerEpoch(0), Sequence(0), V1).unwrap().unwrap();
        assert_ne!(guard, other);
        let refused = send_with(&log, txn(1, 0, 1), other).unwrap_err();
        assert_eq!(refused.code(), InvalidTxnState);
        log.abort(1, 0);
        let next = begin(&log, 0, 1).unwrap();
        assert_ne!(guard, next, "a marker ends it");
        send_with(&log, txn(1, 0, 1), next).unwrap();
        assert_eq!(begin(&log, 0, 2), None, "the transaction is open");
    }
}

/// A49 testSequenceAndEpochInVerificationEntry
#[test]
fn the_lowest_sequence_of_the_highest_epoch_counts() {
    let steps = [(0, 5, 5), (0, 3, 3), (0, 4, 3), (1, 9, 9), (0, 1, 9), (1, 7, 7)];
    for last in 1..=steps.len() {
        for log in verifying(true) {
            let mut guard = None;
            for &(epoch, sequence, _) in &steps[..last] {
                guard = begin(&log, epoch, sequence);
            }
            let guard = guard.unwrap();
            let lowest = steps[last - 1].2;
            let above = send_with(&log, txn(1, 1, lowest + 1), guard).unwrap_err();
            assert_eq!(above.code(), OutOfOrderSequenceNumber, "{last} steps");
            send_with(&log, txn(1, 1, lowest), guard).unwrap();
        }
    }
}

/// A50 testThrowOutOfOrderSequenceWithVerificationSequenceCheck
#[test]
fn a_sequence_above_the_lowest_seen_is_refused_whether_verifications_are_required_or_not() {
    for required in [true, false] {
        for log in verifying(required) {
            let guard = begin(&log, 0, 0).unwrap();
            let refused = send_with(&log, txn(1, 0, 4), guard).unwrap_err();
            assert_eq!(refused.code(), OutOfOrderSequenceNumber);
            assert_eq!((log.known(), log.end_offset()), (vec![], 0));
            send_with(&log, txn(1, 0, 0), guard).unwrap();
        }
    }
}

/// A51 testVerificationStateEntryExpiration
#[test]
fn a_verification_expires() {
    for log in verifying(true) {
        let guard = begin(&log, 0, 0).unwrap();
        log.clock.advance(59_999);
        log.expire_producers();
        assert_eq!(begin(&log, 0, 0), Some(guard));
        log.clock.advance(1);
        log.expire_producers();
        assert_eq!(send_with(&log, txn(1, 0, 0), guard).unwrap_err().code(), InvalidTxnState);
        assert_ne!(begin(&log, 0, 0), Some(guard));
    }
}

/// A client that was not told yet that its transaction timed out took a fatal error for an answer: its guard was not the
/// one. Behind an older epoch it aborts and goes on (KAFKA-19690).
#[test]
fn an_older_epoch_is_fenced_whether_it_is_verified_or_not() {
    for log in verifying(true) {
        let guard = begin(&log, 3, 0).unwrap();
        log.abort(1, 4);
        assert_eq!(log.refused(txn(1, 3, 0)), InvalidProducerEpoch);
        let refused = log.refuses(|log| {
            let options = AppendOptions::default().verification(guard);
            log.submit(&[txn(1, 3, 0).build().unwrap()], options).map(drop)
        });
        assert_eq!(refused, InvalidProducerEpoch);
        for version in [V1, V2] {
            let refused = log.begin_verification(ProducerId(1), ProducerEpoch(3), Sequence(7), version);
            let Err(Error::Rejected(rejection)) = refused else { panic!("{refused:?}") };
            assert_eq!(rejection.code(), InvalidProducerEpoch);
            assert_eq!(
                (rejection.current_epoch, rejection.first_sequence),
                (Some(ProducerEpoch(4)), Sequence(7))
            );
        }
        assert_eq!(log.metrics().refusals, [(RejectionReason::Fenced, 4)]);
    }
}

/// Behind the first transactional batch of a call, be it a marker, none needed the guard any more.
#[test]
fn a_marker_verifies_nothing_that_comes_behind_it_in_the_same_call() {
    for log in verifying(true) {
        let data = txn(1, 0, -1).build().unwrap();
        let both = [marker(1, 0, committed(0)).build().unwrap(), data];
        let options = AppendOptions::default().origin(Origin::Coordinator);
        assert_eq!(log.refuses(|log| log.submit(&both, options).map(drop)), InvalidTxnState);
    }
}

/// A coordinator that raises the epoch answers a client before all markers are written. The first batch of the next
/// transaction came before the marker of the one before, found that one open, and was taken for a part of it without the
/// coordinator being asked: it was committed with it, and stayed so when its own transaction was aborted (KAFKA-18575).
#[test]
fn the_next_transaction_does_not_begin_in_the_one_before_whose_marker_is_on_its_way() {
    for log in verifying(true) {
        send_with(&log, txn(1, 5, 0), begin_next(&log, 5, 0).unwrap()).unwrap();
        assert_eq!(begin_next(&log, 5, 1), None, "it is open");
        assert_eq!(log.refused(txn(1, 6, 0)), InvalidTxnState);
        let guard = begin_next(&log, 6, 0).expect("the coordinator is asked");
        log.commit(1, 6);
        send_with(&log, txn(1, 6, 0), guard).expect("the late marker was not that of this transaction");
        log.abort(1, 7);
        assert_eq!(log.all_aborted(), [(1, 2, 3, 4)]);
    }
}

/// A later batch came first, and was taken for the beginning.
#[test]
fn the_first_transaction_of_an_epoch_begins_at_0_where_nothing_is_known_of_its_producer() {
    for log in verifying(true) {
        log.send(plain());
        let guard = begin_next(&log, 1, 4).unwrap();
        assert_eq!(send_with(&log, txn(1, 1, 4), guard).unwrap_err().code(), OutOfOrderSequenceNumber);
        assert_eq!(begin_next(&log, 1, 0), Some(guard));
        send_with(&log, txn(1, 1, 0), guard).unwrap();
    }
}
