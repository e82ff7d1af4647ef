//! The verification guard of KIP-890: whether the coordinator was asked before a transaction begins.

use idemlog::ErrorCode::{InvalidTxnState, OutOfOrderSequenceNumber};
use idemlog::{AppendOptions, BatchBuilder, Error, ProducerEpoch, ProducerId, Sequence, VerificationGuard};

use crate::fixture::{Partition, by, partitions_with, policy, txn};

fn verifying(required: bool) -> impl Iterator<Item = Partition> {
    partitions_with(move |options| {
        options.verify_transactions(required).producers(policy().expiry_ms(60_000))
    })
}

fn begin(log: &Partition, epoch: i16, sequence: i32) -> Option<VerificationGuard> {
    log.begin_verification(ProducerId(1), ProducerEpoch(epoch), Sequence(sequence))
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
        let other = log.begin_verification(ProducerId(2), ProducerEpoch(0), Sequence(0)).unwrap();
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
