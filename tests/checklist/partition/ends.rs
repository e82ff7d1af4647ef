//! Truncation, the high watermark and the log start.

use idemlog::ErrorCode::OffsetOutOfRange;
use idemlog::{LeaderEpoch, Offset, Timestamp};

use crate::fixture::{NOW, Partition, at, by, many, partitions, partitions_with, plain, txn};

fn axis(log: &Partition) -> (i64, i64, i64, i64) {
    (log.start_offset(), log.last_stable(), log.high_watermark().0, log.end_offset())
}

/// C testTruncateBelowFirstUnstableOffset
#[test]
fn a_truncation_below_an_open_transaction_leaves_all_stable() {
    for log in partitions() {
        log.send_all([plain(), txn(1, 0, 0), plain()]);
        assert_eq!((log.undecided(), log.last_stable()), (Some(1), 1));
        log.truncate_to(Offset(2)).unwrap();
        assert_eq!((log.undecided(), log.last_stable()), (Some(1), 1), "it holds the transaction");
        log.truncate_to(Offset(1)).unwrap();
        assert_eq!((log.undecided(), axis(&log)), (None, (0, 1, 1, 1)));
    }
}

/// C testTruncateFullyAndStart
#[test]
fn a_log_that_starts_over_is_empty_at_its_new_start() {
    for new_start in [0, 2, 3, 100] {
        for log in partitions() {
            log.send_all([plain(), txn(1, 0, 0), plain()]);
            log.truncate_fully(Offset(new_start)).unwrap();
            assert_eq!((log.undecided(), axis(&log)), (None, (new_start, new_start, new_start, new_start)));
            assert_eq!(log.send(txn(1, 0, 0)), new_start);
        }
    }
}

/// C testTruncateFullyAndStartBelowFirstUnstableOffset and its neighbours
#[test]
fn a_log_that_starts_over_below_an_open_transaction_has_none() {
    for log in partitions() {
        log.send_all([plain(), plain(), txn(1, 0, 0)]);
        log.set_high_watermark(Offset(3));
        log.truncate_fully(Offset(1)).unwrap();
        assert_eq!((log.undecided(), axis(&log)), (None, (1, 1, 1, 1)));
    }
}

/// C testTruncateFullyAndStart, of a follower whose leader's first batch lies above the start, as in a compacted log
#[test]
fn the_log_start_stays_when_the_first_batch_lies_above_it() {
    for start in [0, 29] {
        for mut log in partitions() {
            log.truncate_fully(Offset(start)).unwrap();
            log.replicate([at(start + 5, plain())]);
            for again in [|_: &mut Partition| {}, Partition::close_and_open, Partition::die_and_open] {
                again(&mut log);
                assert_eq!((log.start_offset(), log.offsets()), (start, vec![start + 5]));
                assert_eq!(log.read(Offset(start), 1).unwrap().batches().count(), 1);
            }
        }
    }
}

/// C testHighWatermarkMaintenance
#[test]
fn the_high_watermark_stays_between_start_and_end() {
    for log in partitions() {
        log.send_all((0..10).map(|_| plain()));
        for (set, got) in [(3, 3), (0, 0), (7, 7), (10, 10), (5, 5)] {
            log.set_high_watermark(Offset(set));
            assert_eq!(log.high_watermark(), Offset(got));
        }
        log.set_high_watermark(Offset(9));
        log.delete_records(Offset(4)).unwrap();
        assert_eq!(axis(&log), (4, 9, 9, 10));
        log.set_high_watermark(Offset(2));
        assert_eq!(log.high_watermark(), Offset(4), "not below the start");
        log.set_high_watermark(Offset(9));
        log.truncate_to(Offset(6)).unwrap();
        assert_eq!(axis(&log), (4, 6, 6, 6));
        log.truncate_to(Offset(2)).unwrap();
        assert_eq!(axis(&log), (2, 2, 2, 2));
    }
}

/// C testMaybeUpdateHighWatermarkAsFollower
#[test]
fn a_high_watermark_beyond_the_end_is_the_end() {
    for log in partitions() {
        log.send_all((0..10).map(|_| plain()));
        log.set_high_watermark(Offset(25));
        assert_eq!(log.high_watermark(), Offset(10));
    }
}

/// C testHighWatermarkMetadataUpdatedAfterSegmentRoll
#[test]
fn a_read_at_the_high_watermark_is_empty_also_behind_a_roll() {
    for log in partitions() {
        log.send_all((0..3).map(|_| plain()));
        log.roll().unwrap();
        let fetched = log.read(Offset(3), 1 << 20).unwrap();
        assert!(fetched.bytes.is_empty() && fetched.high_watermark == Offset(3));
        log.send(plain());
        assert_eq!(log.read(Offset(3), 1 << 20).unwrap().batches().count(), 1);
    }
}

/// C testTruncateTo
#[test]
fn a_truncated_log_takes_as_much_again() {
    for log in partitions_with(|options| options.segment_bytes(1024)) {
        let fill = |log: &Partition| log.send_all((log.end_offset()..40).map(|_| plain()));
        fill(&log);
        assert!(log.segments().len() > 2);
        assert!(!log.truncate_to(Offset(40)).unwrap() && !log.truncate_to(Offset(41)).unwrap());
        assert_eq!(log.end_offset(), 40);
        for target in [39, 20, 11, 1, 0] {
            log.truncate_to(Offset(target)).unwrap();
            assert_eq!((log.end_offset(), log.offsets()), (target, (0..target).collect()));
            assert!(log.segments().iter().all(|&base| base <= target), "{:?}", log.segments());
            fill(&log);
            assert_eq!(log.offsets(), (0..40).collect::<Vec<_>>());
        }
    }
}

/// C testIndexResizingAtTruncation
#[test]
fn indexes_are_cut_with_their_segment_and_fill_again() {
    for log in partitions() {
        let batch = |number: i32| by(1, 0, number).timestamp(Timestamp(NOW + i64::from(number)));
        log.send_all((0..200).map(batch));
        for target in [150, 60, 3] {
            log.truncate_to(Offset(target)).unwrap();
            assert_eq!(log.offset_for_timestamp(Timestamp(NOW + target)).unwrap(), None);
            log.send_all((target as i32..200).map(batch));
            for number in (0..200).step_by(7) {
                let found = log.offset_for_timestamp(Timestamp(NOW + number)).unwrap().unwrap();
                assert_eq!(found.offset, Offset(number));
                let fetched = log.read(Offset(number), 1).unwrap();
                assert_eq!(fetched.batches().next().unwrap().unwrap().header().base_offset, Offset(number));
            }
        }
    }
}

/// LogSegmentTest.testTruncateFull and its neighbours: Kafka takes the last entry of a time index for the largest timestamp.
#[test]
fn a_time_index_ends_with_the_largest_timestamp_also_of_a_truncated_segment() {
    for target in [1, 2, 7, 33, 99] {
        for mut log in partitions() {
            let batch = |number: i32| by(1, 0, number).timestamp(Timestamp(NOW + i64::from(number)));
            log.send_all((0..100).map(batch));
            log.truncate_to(Offset(target)).unwrap();
            log.close();
            let last = *log.segments().last().unwrap();
            assert_eq!(log.last_time(last), Some((NOW + target - 1, target - 1)), "truncated to {target}");
        }
    }
}

/// C testTruncateToEndOffsetClearsEpochCache
#[test]
fn a_truncation_to_the_end_leaves_no_leader_epoch_behind_it() {
    for log in partitions() {
        log.send(plain());
        log.set_leader_epoch(LeaderEpoch(3));
        log.send(plain());
        log.truncate_to(Offset(1)).unwrap();
        log.truncate_to(Offset(1)).unwrap();
        assert_eq!(log.state().leader_epochs, [(0, 0)]);
    }
}

/// C testCannotIncrementLogStartOffsetPastHighWatermark
#[test]
fn records_above_the_high_watermark_are_not_deleted() {
    for log in partitions() {
        log.send_all((0..10).map(|_| plain()));
        log.set_high_watermark(Offset(5));
        assert_eq!(log.refuses(|log| log.delete_records(Offset(6))), OffsetOutOfRange);
        assert_eq!(log.delete_records(Offset(5)).unwrap(), Offset(5));
    }
}

/// C testFetchUpToHighWatermark, testFetchUpToLogEndOffset
#[test]
fn a_reader_sees_what_lies_below_the_high_watermark_or_the_end() {
    for log in partitions() {
        log.send_all((0..10).map(|_| plain()));
        for high_watermark in 0..=10 {
            log.set_high_watermark(Offset(high_watermark));
            for from in 0..=high_watermark {
                let seen = log.reader(Offset(from)).unwrap();
                assert_eq!(seen.count() as i64, high_watermark - from);
            }
            for from in high_watermark..=10 {
                assert!(
                    log.read(Offset(from), 1 << 20).unwrap().bytes.is_empty(),
                    "{from} of {high_watermark}"
                );
            }
            let to_end = log.reader(Offset(0)).unwrap().to_log_end();
            assert_eq!(to_end.count(), 10);
        }
    }
}

/// C testReadOutOfRange
#[test]
fn a_read_below_the_start_or_above_the_end_is_refused() {
    for log in partitions() {
        log.send_all((0..10).map(|_| plain()));
        log.delete_records(Offset(4)).unwrap();
        for from in [0, 3, 11] {
            assert_eq!(log.refuses(|log| log.read(Offset(from), 1)), OffsetOutOfRange);
        }
        assert!(log.read(Offset(10), 1).unwrap().bytes.is_empty());
    }
}

/// C testReadWithMinMessage, testReadWithTooSmallMaxLength
#[test]
fn a_read_gives_one_batch_at_least_and_else_what_fits() {
    for log in partitions() {
        log.send_all((0..10).map(|number| many(1, 0, 100 + 2 * number, 2)));
        let size = log.read(Offset(0), 1).unwrap().bytes.len();
        for (max_bytes, count) in [(0, 0), (1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2), (3 * size, 3)]
        {
            for from in [0, 1, 6] {
                let fetched = log.read(Offset(from), max_bytes).unwrap();
                assert_eq!(fetched.batches().count(), count, "{max_bytes} bytes from {from}");
                let first = fetched.batches().next().map(|first| first.unwrap().header().offsets());
                assert!(first.is_none_or(|offsets| offsets.contains(Offset(from))));
            }
        }
    }
}

/// C testOffsetSnapshot
#[test]
fn a_read_says_where_the_log_began_and_how_far_it_could_be_read() {
    for log in partitions() {
        log.send_all([plain(), plain(), txn(1, 0, 0), plain()]);
        log.set_high_watermark(Offset(3));
        log.delete_records(Offset(1)).unwrap();
        let fetched = log.read(Offset(1), 1 << 20).unwrap();
        assert_eq!(
            (fetched.log_start, fetched.last_stable, fetched.high_watermark),
            (Offset(1), Offset(2), Offset(3))
        );
    }
}
