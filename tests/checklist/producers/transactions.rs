//! Open transactions, what they hold back, and how they end.

use idemlog::Offset;

use crate::fixture::{
    NOW, Partition, REOPENINGS, aborted, at, by, committed, marker, partitions, plain, txn,
};

/// The longest time that a coordinator leaves a transaction open, and what is allowed on top of it.
const TIMEOUT: i64 = 15 * 60_000;
const ALLOWANCE: i64 = 5 * 60_000;

/// A8 testTxnFirstOffsetMetadataCached. (The place in the segment is not kept; the index finds it.)
#[test]
fn the_first_offset_of_an_open_transaction_is_remembered() {
    for log in partitions() {
        log.send(plain());
        log.send(txn(1, 0, 0));
        log.send(txn(1, 0, 1));
        assert_eq!((log.open_transaction(1), log.undecided()), (Some(1), Some(1)));
        let fetched = log.read(Offset(1), 1).unwrap();
        let first = fetched.batches().next().unwrap().unwrap();
        assert!(first.header().is_transactional() && first.header().base_offset == Offset(1));
    }
}

/// Opens a transaction that is late, of a producer with id 2, behind one that is committed.
fn late(log: &Partition) {
    log.send(txn(1, 0, 0));
    log.commit(1, 0);
    log.send(txn(2, 0, 0));
    log.clock.advance(TIMEOUT + ALLOWANCE + 1);
    assert!(log.has_late_transaction(TIMEOUT));
}

/// A9 testHasLateTransaction
#[test]
fn a_transaction_is_late_five_minutes_behind_the_longest_timeout() {
    for log in partitions() {
        assert!(!log.has_late_transaction(0));
        log.send(txn(1, 0, 0));
        log.clock.advance(500);
        log.send(txn(2, 0, 0).timestamp((NOW + 500).into()));
        log.clock.advance(TIMEOUT + ALLOWANCE - 500);
        assert!(!log.has_late_transaction(TIMEOUT));
        log.clock.advance(1);
        assert!(log.has_late_transaction(TIMEOUT));
        log.commit(1, 0);
        assert!(!log.has_late_transaction(TIMEOUT), "the second is younger");
        log.clock.advance(500);
        assert!(log.has_late_transaction(TIMEOUT));
        log.abort(2, 0);
        assert!(!log.has_late_transaction(TIMEOUT));
    }
}

/// A10 testHasLateTransactionInitializedAfterReload
#[test]
fn a_late_transaction_is_late_also_after_an_opening() {
    for mut log in partitions() {
        late(&log);
        for again in REOPENINGS {
            again(&mut log);
            assert!(log.has_late_transaction(TIMEOUT));
            assert!(!log.has_late_transaction(TIMEOUT + 1));
        }
    }
}

/// A11 testHasLateTransactionUpdatedAfterPartialTruncation
#[test]
fn a_late_transaction_that_is_truncated_is_late_no_more() {
    for log in partitions() {
        late(&log);
        log.truncate_to(Offset(2)).unwrap();
        assert!(!log.has_late_transaction(TIMEOUT));
        assert_eq!(log.undecided(), None);
    }
}

/// A12 testHasLateTransactionUpdatedAfterFullTruncation
#[test]
fn no_transaction_is_late_in_a_log_that_starts_over() {
    for log in partitions() {
        late(&log);
        log.truncate_fully(Offset(0)).unwrap();
        assert!(!log.has_late_transaction(TIMEOUT));
        assert_eq!((log.undecided(), log.known()), (None, vec![]));
    }
}

/// A14 updateProducerTransactionState
#[test]
fn several_batches_and_a_marker_in_one_call_are_the_same_as_one_by_one() {
    let call = || {
        [
            at(9, by(1, 5, 0)),
            at(16, txn(1, 5, 1)),
            at(26, txn(1, 5, 2)),
            at(40, marker(1, 5, aborted(9))),
            at(41, txn(1, 5, 3)),
        ]
    };
    for (together, single) in partitions().zip(partitions()) {
        together.replicate(call());
        for (number, batch) in call().into_iter().enumerate() {
            single.replicate([batch]);
            let first = [None, Some(16), Some(16), None, Some(41)][number];
            assert_eq!(single.open_transaction(1), first, "batch {number}");
        }
        assert_eq!(together.state(), single.state());
        assert_eq!(together.all_aborted(), [(1, 16, 40, 41)]);
        assert_eq!(together.of(1).unwrap().coordinator_epoch, Some(9));
        assert_eq!(together.window(1), [(0, 0), (1, 1), (2, 2), (3, 3)]);
    }
}

/// A30 testFirstUnstableOffsetAfterTruncation
#[test]
fn what_a_truncation_leaves_of_a_transaction_is_open() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        log.send(txn(1, 0, 1));
        log.send(txn(2, 0, 0));
        log.commit(1, 0);
        log.commit(2, 0);
        assert_eq!((log.undecided(), log.last_stable()), (None, 5));
        for (target, undecided) in [(4, Some(2)), (3, Some(0)), (2, Some(0)), (1, Some(0)), (0, None)] {
            log.truncate_to(Offset(target)).unwrap();
            assert_eq!(log.undecided(), undecided, "truncated to {target}");
            assert_eq!(log.last_stable(), undecided.unwrap_or(target), "truncated to {target}");
        }
    }
}

/// A34 testFirstUnstableOffset
#[test]
fn a_transaction_holds_the_last_stable_offset_until_its_marker_is_replicated() {
    for log in partitions() {
        log.set_high_watermark(Offset(0));
        assert_eq!((log.undecided(), log.last_stable()), (None, 0));
        log.send(txn(1, 0, 0));
        log.send(txn(2, 0, 0));
        log.set_high_watermark(Offset(2));
        assert_eq!((log.undecided(), log.last_stable()), (Some(0), 0));
        log.commit(2, 0);
        log.commit(1, 0);
        for (high_watermark, last_stable) in [(2, 0), (3, 0), (4, 4)] {
            log.set_high_watermark(Offset(high_watermark));
            assert_eq!(log.last_stable(), last_stable, "high watermark {high_watermark}");
        }
        log.send(txn(2, 0, 1));
        log.commit(2, 0);
        log.set_high_watermark(Offset(5));
        assert_eq!(
            (log.undecided(), log.last_stable()),
            (None, 4),
            "ended, but the marker is not replicated"
        );
        log.set_high_watermark(Offset(6));
        assert_eq!(log.last_stable(), 6);
    }
}

/// A52 testLastStableOffsetCompletedTxn
#[test]
fn an_aborted_transaction_knows_where_the_next_open_one_of_another_producer_begins() {
    for log in partitions() {
        let starts = [log.send(txn(1, 0, 0)), log.send(txn(2, 0, 0)), log.send(txn(3, 0, 0))];
        assert_eq!(starts, [0, 1, 2]);
        log.abort(2, 0);
        log.abort(1, 0);
        log.abort(3, 0);
        assert_eq!(log.all_aborted(), [(2, 1, 3, 0), (1, 0, 4, 2), (3, 2, 5, 6)]);
    }
}

/// A53 testSkipEmptyTransactions
#[test]
fn a_marker_without_data_completes_no_transaction() {
    for log in partitions() {
        log.send(txn(1, 0, 0));
        log.abort(2, 0);
        assert_eq!((log.undecided(), log.last_stable()), (Some(0), 0));
        log.end(1, 0, committed(0));
        log.abort(1, 0);
        log.send(txn(1, 0, 1));
        assert_eq!((log.undecided(), log.last_stable(), log.all_aborted()), (Some(4), 4, vec![]));
    }
}
