//! Which batches are taken, and where they are put: duplicates, epochs, offsets, sizes.

use idemlog::ErrorCode::{InvalidProducerEpoch, MessageTooLarge, OutOfOrderSequenceNumber};
use idemlog::sim::{Fault, Operation};
use idemlog::{Error, FirstAppend, Offset, ProducerPolicy};

use crate::fixture::{at, by, many, partitions, partitions_with, plain, policy, sized};

/// After how many ms without an append a producer is forgotten.
const LIMIT: i64 = 60_000;

/// C testDuplicateAppends
#[test]
fn the_last_five_batches_are_known_when_they_are_sent_again() {
    for log in partitions() {
        let size = |number: i32| 1 + number as usize % 3;
        let mut sent = Vec::new();
        for number in 0..8 {
            let sequence = sent.last().map_or(0, |&(sequence, count, _)| sequence + count as i32);
            let base = log.send(many(1, 0, sequence, size(number)));
            sent.push((sequence, size(number), base));
        }
        for &(sequence, count, base) in &sent[3..] {
            assert_eq!(log.send_again(many(1, 0, sequence, count)), (base, base + count as i64 - 1));
        }
        for &(sequence, count, _) in &sent[..3] {
            assert_eq!(log.refused(many(1, 0, sequence, count)), OutOfOrderSequenceNumber, "too old");
        }
        let (sequence, count, _) = sent[7];
        assert_eq!(log.refused(many(1, 0, sequence, count + 1)), OutOfOrderSequenceNumber, "a superset");
        let (sequence, count, _) = sent[5];
        assert_eq!(count, 3);
        assert_eq!(log.refused(many(1, 0, sequence, 2)), OutOfOrderSequenceNumber, "a part");
        assert_eq!(log.refused(many(1, 0, sequence + 1, 2)), OutOfOrderSequenceNumber, "a part");
    }
}

/// C testMultipleProducerIdsPerMemoryRecord
#[test]
fn a_follower_takes_several_producers_in_one_call() {
    for log in partitions() {
        log.replicate((0..4).map(|number| at(number, by(1 + number, 0, 0))));
        assert_eq!((log.known(), log.offsets()), (vec![1, 2, 3, 4], vec![0, 1, 2, 3]));
        let fetched = log.read(Offset(0), 1 << 20).unwrap();
        let producers = fetched.batches().map(|batch| batch.unwrap().header().producer_id.0);
        assert_eq!(producers.collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}

/// C testDuplicateAppendToFollower
#[test]
fn a_follower_stores_also_what_looks_like_a_duplicate() {
    for log in partitions() {
        log.replicate([at(0, by(1, 0, 0)), at(1, by(1, 0, 0))]);
        log.replicate([at(2, by(1, 0, 0))]);
        assert_eq!((log.end_offset(), log.offsets()), (3, vec![0, 1, 2]));
    }
}

/// C testMultipleProducersWithDuplicatesInSingleAppend
#[test]
fn a_follower_stores_several_producers_with_what_looks_like_duplicates_in_one_call() {
    for log in partitions() {
        let pairs = [(1, 0), (2, 0), (1, 1), (2, 1), (1, 1), (2, 1)];
        let batches =
            || pairs.iter().zip(0..).map(|(&(id, sequence), offset)| at(offset, by(id, 0, sequence)));
        log.replicate(batches());
        assert_eq!(log.offsets(), [0, 1, 2, 3, 4, 5]);
        let again = batches().map(|batch| batch.build().unwrap()).collect::<Vec<_>>();
        let refused = log.try_replicate(&again);
        assert!(matches!(refused, Err(Error::UnexpectedOffset { expected: Offset(6), got: Offset(0) })));
    }
}

/// C testOldProducerEpoch
#[test]
fn a_producer_of_an_older_epoch_is_fenced() {
    for log in partitions() {
        log.send(by(1, 1, 0));
        for sequence in [0, 1, 5] {
            assert_eq!(log.refused(by(1, 0, sequence)), InvalidProducerEpoch);
        }
    }
}

/// C testAllowNonZeroSequenceOnFirstAppendNonZeroEpoch
#[test]
fn an_unknown_producer_may_begin_at_any_sequence_where_the_policy_says_so() {
    for log in partitions() {
        log.send(by(1, 5, 17));
        assert_eq!((log.epoch(1), log.window(1)), (5, vec![(17, 17)]));
    }
    for (rule, code) in [(FirstAppend::RequireZero, 59), (FirstAppend::RequireZeroInNewLog, 45)] {
        for log in partitions_with(|options| options.producers(policy().first_append(rule))) {
            assert_eq!(log.refused(by(1, 5, 17)).number(), code, "{rule:?}");
            log.send(by(1, 5, 0));
        }
    }
}

/// A log that was emptied was taken for a new one: who had been forgotten and went on counting was refused there, with a
/// code (59) on which a Java client sends the same batch again until it gives up. Kafka (4.5, KAFKA-15591) asks for 0 only
/// where there has never been a record.
#[test]
fn a_producer_that_was_forgotten_goes_on_in_a_log_that_was_emptied() {
    for mut log in partitions_with(|options| options.producers(ProducerPolicy::default().expiry_ms(LIMIT))) {
        assert_eq!(log.refused(by(1, 0, 56)), OutOfOrderSequenceNumber);
        log.send(many(1, 0, 0, 57));
        log.clock.advance(LIMIT);
        log.expire_producers();
        log.delete_records(Offset(57)).unwrap();
        log.close_and_open();
        assert_eq!((log.known(), log.offsets()), (vec![], vec![]));
        log.send(by(1, 0, 57));
        assert_eq!(log.window(1), [(57, 57)]);
    }
}

/// C testNonSequentialAppend. (A client's batch has no offset yet, so a gap can only come from a leader.)
#[test]
fn a_clients_batch_that_has_an_offset_is_refused() {
    for log in partitions() {
        log.send(plain());
        assert_eq!(log.refused(plain().base_offset(Offset(5))).number(), 87);
    }
}

/// C testAppendWithOutOfOrderOffsetsThrowsException
#[test]
fn a_leaders_batches_that_are_out_of_order_are_refused_as_a_whole() {
    for log in partitions() {
        for offsets in [[0, 2, 1], [0, 0, 1], [1, 0, 2]] {
            let batches = offsets.map(|offset| at(offset, plain()).build().unwrap());
            log.refuses(|_| log.try_replicate(&batches));
        }
        log.replicate([0, 3, 4].map(|offset| at(offset, plain())));
        assert_eq!(log.offsets(), [0, 3, 4]);
    }
}

/// C testAppendBelowExpectedOffsetThrowsException
#[test]
fn a_leaders_batch_below_the_end_is_refused() {
    for log in partitions() {
        log.replicate((0..3).map(|offset| at(offset, plain())));
        for offset in 0..3 {
            log.refuses(|_| log.try_replicate(&[at(offset, plain()).build().unwrap()]));
        }
        log.replicate([at(3, plain())]);
    }
}

/// C testAppendEmptyLogBelowLogStartOffsetThrowsException
#[test]
fn a_leaders_batch_below_the_start_of_an_empty_log_is_refused() {
    for log in partitions() {
        log.truncate_fully(Offset(7)).unwrap();
        for batch in [at(2, plain()), at(6, many(1, 0, 0, 4))] {
            log.refuses(|_| log.try_replicate(&[batch.build().unwrap()]));
        }
        log.replicate([at(7, plain())]);
    }
}

/// C testMessageSetSizeCheck
#[test]
fn what_is_larger_than_a_segment_is_refused() {
    for log in partitions_with(|options| options.segment_bytes(1024).max_batch_bytes(1 << 20)) {
        assert_eq!(log.refused(sized(1024)).number(), 18);
        log.send(sized(900));
    }
}

/// C testMessageSizeCheck
#[test]
fn a_clients_batch_that_is_too_large_is_refused() {
    for log in partitions_with(|options| options.max_batch_bytes(200)) {
        log.send(sized(50));
        assert_eq!(log.refused(sized(200)), MessageTooLarge);
    }
}

/// C testMessageSizeCheckInAppendAsFollower
#[test]
fn a_leaders_batch_is_never_too_large() {
    for log in partitions_with(|options| options.max_batch_bytes(200)) {
        log.replicate([at(0, sized(50)), at(1, sized(500))]);
        assert_eq!(log.offsets(), [0, 1]);
    }
}

/// C testAppendInfoFirstOffset
#[test]
fn an_append_answers_with_its_first_and_last_offset() {
    for log in partitions() {
        log.send(plain());
        let outcome = log.append(&many(1, 0, 0, 3).build().unwrap()).unwrap();
        assert_eq!((outcome.base_offset(), outcome.last_offset()), (Offset(1), Offset(3)));
        let outcomes = log.try_replicate(&[at(10, many(1, 0, 3, 2)).build().unwrap()]).unwrap();
        assert_eq!((outcomes[0].base_offset(), outcomes[0].last_offset()), (Offset(10), Offset(11)));
    }
}

/// C testAppendAndReadWithSequentialOffsets
#[test]
fn what_was_appended_is_read_at_its_offset() {
    for log in partitions_with(|options| options.segment_bytes(1024)) {
        log.send_all((0..100).map(|sequence| by(1, 0, sequence)));
        for offset in 0..100 {
            let fetched = log.read(Offset(offset), 1).unwrap();
            let batch = fetched.batches().next().unwrap().unwrap();
            assert_eq!(
                (batch.header().base_offset.0, batch.header().base_sequence.0),
                (offset, offset as i32)
            );
        }
        assert!(log.read(Offset(100), 1).unwrap().bytes.is_empty());
    }
}

/// C testAppendAndReadWithNonSequentialOffsets, testReadAtLogGap
#[test]
fn a_read_in_a_gap_begins_at_the_next_batch() {
    for log in partitions_with(|options| options.segment_bytes(1024)) {
        let offsets: Vec<i64> = (0..50).map(|number| number * 7).collect();
        log.replicate(offsets[..10].iter().map(|&offset| at(offset, plain())));
        offsets[10..].iter().for_each(|&offset| log.replicate([at(offset, plain())]));
        for from in 0..log.end_offset() {
            let fetched = log.read(Offset(from), 1).unwrap();
            let found = fetched.batches().next().unwrap().unwrap().header().base_offset.0;
            assert_eq!(found, (from + 6) / 7 * 7, "from {from}");
        }
    }
}

/// C testAppendToOrReadFromLogInFailedLogDir. (A failed sync fails the partition; what is durable can be read.)
#[test]
fn a_log_whose_sync_failed_takes_nothing_and_shows_what_is_durable() {
    for mut log in partitions() {
        log.send(by(1, 0, 0));
        log.disk.inject(Fault::nth(Operation::Sync, 1));
        assert!(log.append(&by(1, 0, 1).build().unwrap()).is_err());
        assert!(matches!(log.append(&by(1, 0, 1).build().unwrap()), Err(Error::Poisoned(_))));
        assert_eq!((log.offsets(), log.high_watermark()), (vec![0], Offset(1)));
        log.lose_power_and_open();
        assert_eq!(log.offsets(), [0]);
        log.send(by(1, 0, 1));
    }
}
