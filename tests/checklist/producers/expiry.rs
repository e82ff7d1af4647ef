//! Who is forgotten, and when.

use idemlog::ErrorCode::OutOfOrderSequenceNumber;
use idemlog::{ExpiryClock, LogOptions, ProducerPolicy};

use crate::fixture::{NOW, Partition, aborted, by, partitions_with, policy, txn};

const LIMIT: i64 = 60_000;

/// Kafka's clock: that of the records.
fn kafkas() -> ProducerPolicy {
    policy().expiry_ms(LIMIT).expiry_clock(ExpiryClock::RecordTimestamp)
}

/// The clock of the host, which is ours unless told otherwise.
fn hosts() -> ProducerPolicy {
    policy().expiry_ms(LIMIT)
}

fn by_either_clock() -> impl Iterator<Item = Partition> {
    [kafkas(), hosts()]
        .into_iter()
        .flat_map(|policy| partitions_with(move |options: LogOptions| options.producers(policy.clone())))
}

/// A23 testProducerStateAfterFencingAbortMarker
#[test]
fn a_producer_that_a_marker_fenced_stays_known_without_batches() {
    for mut log in by_either_clock() {
        log.send(txn(1, 0, 0).timestamp((NOW - LIMIT).into()));
        log.end(1, 1, aborted(0));
        log.close_and_open();
        log.expire_producers();
        assert_eq!((log.epoch(1), log.window(1), log.undecided()), (1, vec![], None));
    }
}

/// A24 testRemoveExpiredPidsOnReload. Here the opening forgets nobody (difference 11); the next look does. By the host's
/// clock, who is read from the log counts as seen then.
#[test]
fn a_producer_that_expired_is_forgotten_also_after_an_opening() {
    for (policy, more) in [(kafkas(), 0), (hosts(), LIMIT)] {
        for mut log in partitions_with(|options| options.producers(policy.clone())) {
            log.send(by(1, 0, 0));
            log.send(by(1, 0, 1));
            log.clock.advance(LIMIT);
            log.close_and_open();
            assert_eq!(log.known(), [1]);
            log.clock.advance(more);
            log.send(by(2, 0, 0).timestamp((NOW + LIMIT).into()));
            log.expire_producers();
            assert_eq!(log.known(), [2]);
            log.send(by(1, 0, 2));
            assert_eq!(log.window(1), [(2, 2)], "as an unknown producer");
        }
    }
}

/// A31 testLoadFromSnapshotRetainsNonExpiredProducers
#[test]
fn a_producer_that_did_not_expire_is_known_after_an_opening() {
    for mut log in by_either_clock() {
        log.send(by(1, 0, 0));
        log.send(by(2, 0, 0));
        log.clock.advance(LIMIT - 1);
        log.close_and_open();
        log.expire_producers();
        assert_eq!((log.known(), log.window(1), log.window(2)), (vec![1, 2], vec![(0, 0)], vec![(0, 0)]));
    }
}

/// A33 testPidExpirationTimeout
#[test]
fn a_producer_that_expired_may_go_on_as_an_unknown_one() {
    for mut log in by_either_clock() {
        log.send(by(1, 5, 0));
        log.clock.advance(LIMIT);
        log.expire_producers();
        assert_eq!(log.known(), []);
        log.close_and_open();
        assert_eq!(log.known(), [], "a snapshot does not bring it back");
        log.send(by(1, 5, 1));
        assert_eq!((log.epoch(1), log.window(1)), (5, vec![(1, 1)]));
    }
}

/// A35 testProducersWithOngoingTransactionsDontExpire
#[test]
fn a_producer_with_an_open_transaction_does_not_expire() {
    for mut log in by_either_clock() {
        log.send(txn(1, 5, 0));
        log.clock.advance(LIMIT + 1);
        log.expire_producers();
        assert_eq!(log.known(), [1]);
        log.close_and_open();
        log.expire_producers();
        assert_eq!((log.known(), log.undecided()), (vec![1], Some(0)));
        assert_eq!(log.refused(txn(1, 5, 2)), OutOfOrderSequenceNumber);
    }
}
