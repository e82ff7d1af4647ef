//! Producers over truncation, compaction, retention and time.

use idemlog::{ExpiryClock, Offset, ProducerId};

use crate::fixture::{
    NOW, REOPENINGS, at, by, committed, emptied, many, partitions, partitions_with, plain, policy, txn,
};

/// C testActiveProducers
#[test]
fn a_producer_is_described_with_its_last_sequence_epoch_time_and_transaction() {
    for log in partitions() {
        log.send(by(1, 5, 0));
        log.send(many(1, 5, 1, 3).timestamp((NOW + 7).into()));
        log.end(1, 5, committed(17));
        log.send(txn(2, 0, 0));
        let one = log.of(1).unwrap();
        assert_eq!((one.producer_id, one.epoch.0, one.coordinator_epoch), (ProducerId(1), 5, Some(17)));
        assert_eq!(one.batches.last().unwrap().last_sequence.0, 3);
        assert_eq!((one.last_timestamp.0, one.transaction_first_offset), (NOW, None), "that of the marker");
        let two = log.of(2).unwrap();
        assert_eq!((two.coordinator_epoch, two.transaction_first_offset), (None, Some(Offset(5))));
    }
}

/// C testRebuildProducerIdMapWithCompactedData
#[test]
fn producers_are_found_again_in_a_log_with_holes() {
    for mut log in partitions() {
        log.replicate([at(3, many(1, 0, 3, 4)), at(9, by(2, 0, 0)), at(10, by(1, 0, 9))]);
        log.replicate([at(15, many(2, 0, 4, 2).compacted(4))]);
        let state = log.state();
        assert_eq!(log.window(1), [(3, 6), (9, 9)]);
        assert_eq!(log.window(2), [(0, 0), (4, 8)], "a batch keeps its range when records of it go");
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.state(), state);
        }
        log.send(by(2, 0, 9));
    }
}

/// C testRebuildProducerStateWithEmptyCompactedBatch
#[test]
fn a_batch_that_compaction_emptied_still_tells_of_its_producer() {
    for mut log in partitions() {
        log.try_replicate(&[emptied(at(0, many(1, 0, 0, 2)))]).unwrap();
        log.replicate([at(5, by(2, 0, 0))]);
        assert_eq!((log.end_offset(), log.window(1)), (6, vec![(0, 1)]));
        let state = log.state();
        for again in REOPENINGS {
            again(&mut log);
            assert_eq!(log.state(), state);
        }
        log.send(by(1, 0, 2));
    }
}

/// C testUpdateProducerIdMapWithCompactedData
#[test]
fn producers_are_known_by_what_compaction_left() {
    for log in partitions() {
        log.replicate([at(2, many(1, 0, 2, 2)), at(7, many(1, 0, 7, 3).compacted(4)), at(20, by(2, 3, 8))]);
        assert_eq!((log.window(1), log.window(2)), (vec![(2, 3), (7, 11)], vec![(8, 8)]));
        assert_eq!(log.send_again(many(1, 0, 7, 5)), (7, 11));
        assert_eq!(log.send(by(1, 0, 12)), 21);
    }
}

/// C testProducerIdMapTruncateTo
#[test]
fn producers_are_as_they_were_where_a_log_is_truncated() {
    for log in partitions() {
        log.send_all([by(1, 0, 0), by(1, 0, 1)]);
        log.roll().unwrap();
        log.send_all([by(2, 0, 0), by(1, 0, 2)]);
        log.truncate_to(Offset(3)).unwrap();
        assert_eq!((log.window(1), log.window(2)), (vec![(0, 0), (1, 1)], vec![(0, 0)]));
        log.truncate_to(Offset(1)).unwrap();
        assert_eq!((log.known(), log.window(1)), (vec![1], vec![(0, 0)]));
        log.truncate_to(Offset(0)).unwrap();
        assert_eq!(log.known(), []);
    }
}

/// C testProducerIdMapTruncateToWithNoSnapshots
#[test]
fn producers_are_as_they_were_where_a_log_without_snapshots_is_truncated() {
    for log in partitions() {
        log.send_and_roll([by(1, 0, 0), by(2, 0, 0), by(1, 0, 1), by(3, 0, 0)]);
        log.remove_all(".snapshot");
        log.truncate_to(Offset(3)).unwrap();
        assert_eq!((log.known(), log.window(1)), (vec![1, 2], vec![(0, 0), (1, 1)]));
        log.truncate_to(Offset(1)).unwrap();
        assert_eq!((log.known(), log.window(1)), (vec![1], vec![(0, 0)]));
    }
}

/// C testProducerIdMapTruncateFullyAndStartAt
#[test]
fn a_log_that_starts_over_knows_nobody() {
    for mut log in partitions() {
        log.send_and_roll([by(1, 0, 0), by(2, 0, 0), txn(3, 0, 0)]);
        log.truncate_fully(Offset(29)).unwrap();
        assert_eq!(log.snapshots(), []);
        for _ in 0..2 {
            assert_eq!((log.known(), log.undecided()), (vec![], None));
            assert_eq!((log.start_offset(), log.end_offset()), (29, 29));
            log.die_and_open();
        }
        log.send(by(1, 0, 5));
    }
}

/// C testProducerIdExpirationOnSegmentDeletion
#[test]
fn a_producer_is_known_when_its_segment_is_gone() {
    for mut log in partitions() {
        log.send_and_roll([by(1, 0, 0), by(2, 0, 0)]);
        log.send(by(2, 0, 1));
        let known = log.producers();
        log.delete_records(Offset(2)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(log.producers(), known);
        log.die_and_open();
        assert_eq!(log.producers(), known);
        assert_eq!(log.send_again(by(1, 0, 0)), (0, 0));
    }
}

/// C testPeriodicProducerIdExpiration
#[test]
fn appends_look_for_producers_to_forget_every_so_often() {
    let policy = policy().expiry_ms(200).expiry_clock(ExpiryClock::RecordTimestamp);
    for log in partitions_with(|options| options.producers(policy.clone()).expiry_interval_ms(1000)) {
        log.send(by(1, 0, 0));
        log.clock.advance(999);
        log.send(plain());
        assert_eq!(log.known(), [1], "not yet looked");
        log.clock.advance(1);
        log.send(plain());
        assert_eq!(log.known(), []);
    }
}

/// C testProducerExpireCheckAfterDelete
#[test]
fn who_looks_for_idle_producers_of_a_deleted_partition_finds_none_and_no_error() {
    for log in partitions_with(|options| options.producers(policy().expiry_ms(1))) {
        log.send(by(1, 0, 0));
        log.clock.advance(1000);
        log.dir().delete_partition("t", 0).unwrap();
        log.expire_producers();
        assert!(matches!(log.append(&by(1, 0, 1).build().unwrap()), Err(idemlog::Error::Gone)));
    }
}
