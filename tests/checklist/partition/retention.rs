//! Segments that go from the head of the log.

use idemlog::sim::{Fault, Operation};
use idemlog::{Offset, Timestamp};

use crate::fixture::{NOW, by, partitions, partitions_with, plain, sized};

/// C testCannotDeleteSegmentsAtOrAboveHighWatermark
#[test]
fn segments_at_or_above_the_high_watermark_stay() {
    for log in partitions_with(|options| options.retention_bytes(Some(0))) {
        log.send_and_roll((0..9).map(|_| plain()));
        for (high_watermark, deleted) in [(0, 0), (1, 1), (5, 4), (8, 3), (9, 1)] {
            log.set_high_watermark(Offset(high_watermark));
            assert_eq!(log.apply_retention().unwrap(), deleted, "high watermark {high_watermark}");
            assert_eq!((log.start_offset(), log.segments()[0]), (high_watermark, high_watermark));
        }
    }
}

/// C testSegmentDeletionWithHighWatermarkInitialization
#[test]
fn a_high_watermark_is_known_again_before_segments_go() {
    for mut log in partitions_with(|options| options.retention_bytes(Some(0))) {
        log.send_and_roll((0..5).map(|_| plain()));
        log.set_high_watermark(Offset(2));
        log.close_and_open();
        let kept = log.checkpointed_high_watermark().unwrap();
        assert_eq!(kept, Offset(2));
        log.set_high_watermark(kept);
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(log.segments()[0], 2);
    }
}

/// C testLogDeletionAfterDeleteRecords
#[test]
fn segments_go_whose_records_were_all_deleted() {
    for log in partitions() {
        log.send_and_roll((0..3).map(|_| plain()));
        for (before, deleted, left) in [(0, 0, 4), (1, 1, 3), (2, 1, 2), (3, 1, 1)] {
            log.delete_records(Offset(before)).unwrap();
            assert_eq!(log.apply_retention().unwrap(), deleted, "before {before}");
            assert_eq!((log.segments().len(), log.start_offset()), (left, before));
        }
        assert_eq!(log.send(plain()), 3);
    }
}

/// C testThatGarbageCollectingSegmentsDoesntChangeOffset
#[test]
fn the_end_stays_when_all_segments_go() {
    for count in [0, 1, 5, 20] {
        for mut log in partitions_with(|options| options.segment_bytes(1024).retention_ms(Some(0))) {
            log.send_all((0..count).map(|_| sized(300)));
            log.clock.advance(1);
            log.apply_retention().unwrap();
            assert_eq!((log.end_offset(), log.start_offset(), log.offsets()), (count, count, vec![]));
            log.die_and_open();
            assert_eq!((log.end_offset(), log.start_offset()), (count, count));
            assert_eq!(log.send(plain()), count);
        }
    }
}

/// C testAsyncDelete. (Files go at once here, and what was read from them stays.)
#[test]
fn what_was_read_from_a_segment_stays_when_it_goes() {
    for log in partitions_with(|options| options.retention_bytes(Some(0))) {
        log.send_and_roll((0..3).map(|_| plain()));
        let held = log.read(Offset(0), 1 << 20).unwrap();
        let copy = held.bytes.to_vec();
        assert_eq!(log.apply_retention().unwrap(), 3);
        assert_eq!((log.named(".log").len(), log.named(".deleted").len()), (1, 0));
        assert_eq!(held.bytes, copy);
    }
}

/// C testDeletableSegmentsFilter
#[test]
fn segments_go_that_are_older_than_the_limit() {
    for (limit, left) in [(9, 0), (8, 1), (5, 4), (0, 9)] {
        for log in partitions_with(|options| options.retention_ms(Some(limit))) {
            log.send_and_roll((0..10).map(|number| plain().timestamp(Timestamp(NOW - 9 + number))));
            log.apply_retention().unwrap();
            assert_eq!(log.start_offset(), left, "limit {limit}");
        }
    }
}

/// C testDeletableSegmentsIteration
#[test]
fn segments_go_from_the_oldest_on_and_none_behind_one_that_stays() {
    for log in partitions_with(|options| options.retention_ms(Some(1000))) {
        let aged = |age: i64| plain().timestamp(Timestamp(NOW - age));
        log.send_and_roll([aged(5000), aged(1001), aged(1000), aged(5000), aged(0)]);
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(log.segments()[0], 2, "and the older one behind it stays");
        log.clock.advance(1);
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(log.segments()[0], 4);
    }
}

/// C testBackgroundDeletionWithIOException
#[test]
fn segments_that_could_not_be_removed_go_later() {
    for mut log in partitions() {
        log.send_and_roll((0..3).map(|sequence| by(1, 0, sequence)));
        log.delete_records(Offset(3)).unwrap();
        log.disk.inject(Fault::nth(Operation::Remove, 2).forever());
        assert!(log.apply_retention().is_err());
        log.disk.clear_faults();
        assert_eq!((log.start_offset(), log.end_offset(), log.offsets()), (3, 3, vec![]));
        assert_eq!(log.send(by(1, 0, 3)), 3);
        log.die_and_open();
        log.apply_retention().unwrap();
        assert_eq!((log.segments(), log.offsets()), (vec![3], vec![3]));
        assert_eq!(log.window(1), [(0, 0), (1, 1), (2, 2), (3, 3)]);
    }
}

/// C testFlushingEmptyActiveSegments
#[test]
fn an_empty_active_segment_can_be_synced_closed_and_rolled() {
    for mut log in partitions() {
        log.send(plain());
        log.roll().unwrap();
        log.sync().unwrap();
        log.roll().unwrap();
        assert_eq!(log.segments(), [0, 1]);
        log.close_and_open();
        assert_eq!((log.offsets(), log.send(plain())), (vec![0], 1));
    }
}

/// C testLoadPartitionDirWithNoSegmentsShouldNotThrow
#[test]
fn a_partition_without_a_segment_opens() {
    for mut log in partitions() {
        log.close_and_open();
        assert_eq!((log.segments(), log.offsets(), log.end_offset()), (vec![], vec![], 0));
        log.send_and_roll((0..2).map(|sequence| by(1, 0, sequence)));
        log.die();
        log.remove_all(".log");
        log.checkpoint(0, 0);
        log.open();
        assert_eq!((log.offsets(), log.start_offset()), (vec![], log.end_offset()));
        let end = log.end_offset();
        assert_eq!(log.send(plain()), end);
    }
}

/// C testRollSegmentThatAlreadyExists
#[test]
fn a_roll_of_an_empty_segment_leaves_it() {
    for mut log in partitions() {
        log.roll().unwrap();
        assert_eq!(log.segments().len(), 0, "there is none yet");
        log.send(plain());
        for _ in 0..3 {
            log.roll().unwrap();
            assert_eq!(log.segments(), [0, 1]);
        }
        log.die_and_open();
        log.roll().unwrap();
        log.send(plain());
        assert_eq!((log.segments(), log.offsets()), (vec![0, 1], vec![0, 1]));
    }
}

/// C testTimeBasedLogRollDuringAppend
#[test]
fn a_segment_is_rolled_when_the_timestamps_of_its_batches_are_too_far_apart() {
    for log in partitions_with(|options| options.segment_ms(1000)) {
        let later = |ms: i64| plain().timestamp(Timestamp(NOW + ms));
        log.send_all([later(0), later(1000), later(-5000)]);
        assert_eq!(log.segments(), [0]);
        log.send(later(1001));
        assert_eq!(log.segments(), [0, 3]);
        log.send_all([later(2001), later(2002)]);
        assert_eq!(log.segments(), [0, 3, 5]);
    }
}

/// C testSizeBasedLogRoll, testLogRolls
#[test]
fn a_segment_is_rolled_when_the_next_batch_does_not_fit() {
    for log in partitions_with(|options| options.segment_bytes(1024)) {
        let size = sized(100).build().unwrap().bytes().len();
        let fits = (1024 / size) as i64;
        log.send_all((0..3 * fits).map(|_| sized(100)));
        assert_eq!(log.segments(), [0, fits, 2 * fits]);
        assert!(log.named(".log")[..2].iter().all(|name| log.get(name).len() <= 1024));
    }
}
