//! Indexes that are missing, wrong or of nothing.

use idemlog::{Offset, Timestamp};

use crate::fixture::{NOW, Partition, REOPENINGS, by, partitions};

const COUNT: i32 = 200;

/// Several segments of batches, each a millisecond later than the one before.
fn timed(log: &Partition) {
    log.send_all((0..COUNT).map(|number| by(1, 0, number).timestamp(Timestamp(NOW + i64::from(number)))));
    assert!(log.segments().len() > 3);
}

/// Every batch is found by its offset and by its timestamp.
fn finds_all(log: &Partition) {
    for number in 0..i64::from(COUNT) {
        let fetched = log.read(Offset(number), 1).unwrap();
        assert_eq!(fetched.batches().next().unwrap().unwrap().header().base_offset, Offset(number));
        let found = log.offset_for_timestamp(Timestamp(NOW + number)).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (Offset(number), Timestamp(NOW + number)));
    }
    assert_eq!(log.offset_for_timestamp(Timestamp(NOW + i64::from(COUNT))).unwrap(), None);
}

/// The index files, by name.
fn index_files(log: &Partition) -> Vec<(String, Vec<u8>)> {
    log.named("index").into_iter().map(|name| (name.clone(), log.get(&name))).collect()
}

/// B11 testLogRecoversToCorrectOffset
#[test]
fn end_and_indexes_are_the_same_after_a_clean_and_an_unclean_end() {
    for mut log in partitions() {
        timed(&log);
        log.close();
        let files = index_files(&log);
        assert!(files.iter().filter(|(_, bytes)| !bytes.is_empty()).count() > 3);
        for reopen in [Partition::close_and_open, Partition::die_and_open, Partition::recover_from_segments] {
            log.open();
            reopen(&mut log);
            assert_eq!(log.end_offset(), i64::from(COUNT));
            finds_all(&log);
            log.close();
            assert_eq!(index_files(&log), files);
        }
    }
}

/// B12 testIndexRebuild
#[test]
fn indexes_that_are_gone_are_built_again() {
    for clean in [true, false] {
        for mut log in partitions() {
            timed(&log);
            if clean {
                log.close();
            } else {
                log.die();
            }
            log.remove_all("index");
            log.open();
            finds_all(&log);
            assert!(!log.recovery().indexes_rebuilt.is_empty());
        }
    }
}

/// B14 testCorruptIndexRebuild
#[test]
fn indexes_of_garbage_are_built_again() {
    for garbage in [&b"garbage"[..], &[0; 4096], &[0xff; 1200], &[]] {
        for mut log in partitions() {
            timed(&log);
            log.die();
            log.named("index").iter().for_each(|name| log.put(name, garbage));
            log.open();
            finds_all(&log);
        }
    }
}

/// LogSegmentTest.testRecoveryFixesCorruptTimeIndex: Kafka takes the last entry for the segment's largest timestamp.
#[test]
fn a_time_index_ends_with_the_largest_timestamp_whoever_built_it() {
    for reopen in REOPENINGS {
        for mut log in partitions() {
            timed(&log);
            reopen(&mut log);
            log.close();
            let segments = log.segments();
            let ends = segments[1..].iter().copied().chain([i64::from(COUNT)]);
            for (base, end) in segments.iter().zip(ends) {
                assert_eq!(log.last_time(*base), Some((NOW + end - 1, end - 1)), "{segments:?}");
            }
        }
    }
}

/// B15 testBogusIndexSegmentsAreRemoved
#[test]
fn indexes_of_no_segment_are_removed() {
    for mut log in partitions() {
        timed(&log);
        log.close();
        let names = log.names();
        for suffix in ["index", "timeindex", "txnindex"] {
            log.put(&format!("{:020}.{suffix}", 1_000_000), b"of nothing");
        }
        log.open();
        finds_all(&log);
        log.close();
        assert_eq!(log.names(), names);
    }
}

/// B29 testCleanShutdownFile, in which Kafka serves what a wrong index finds, because the marker says that all is well.
#[test]
fn a_wrong_index_is_noticed_although_the_log_was_closed_well() {
    for garbage in [&b"garbage"[..], &[0; 4096], &[0xff; 1200], &[]] {
        for mut log in partitions() {
            timed(&log);
            log.close();
            log.named("index").iter().for_each(|name| log.put(name, garbage));
            log.open();
            assert!(log.recovery().marked_clean);
            finds_all(&log);
        }
    }
}
