//! What is read back, by offset and by timestamp.

use idemlog::{
    BatchBuilder, BatchBytes, BatchHeader, ControlRecord, Error, Log, Offset, ProducerEpoch, ProducerId,
    RecordBuilder, Sequence, Timestamp, UncheckedBatch,
};

use crate::common::{MODES, batch, open, stored};

/// What a reader's answer tells, whoever holds the batch.
fn seen<B: BatchBytes>(
    answer: Option<idemlog::Result<UncheckedBatch<B>>>,
) -> Option<Result<BatchHeader, String>> {
    answer.map(|batch| batch.map(|batch| *batch.header()).map_err(|error| error.to_string()))
}

#[test]
fn what_was_appended_is_read_back_over_many_segments() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let mut expected = Vec::new();
        for at in 0..100 {
            let batch = batch(1, 0, at * 2, 2);
            let outcome = log.append(&batch).unwrap();
            expected.push((outcome.base_offset().0, batch.header().crc));
        }
        assert!(log.metrics().segments > 3);
        assert_eq!(stored(&log), expected);
        for from in 0..200 {
            let first = log.reader(Offset(from)).unwrap().next().unwrap().unwrap();
            assert!(first.header().offsets().contains(Offset(from)), "{mode:?} from {from}");
            let fetched = log.read(Offset(from), 1).unwrap();
            assert_eq!(fetched.batches().count(), 1, "the first batch comes whole");
        }
        assert!(log.reader(Offset(201)).is_err());
        assert_eq!(log.reader(Offset(200)).unwrap().count(), 0);
    }
}

#[test]
fn what_a_reader_lends_is_what_it_hands_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let mut reader = log.reader(Offset(0)).unwrap();
        assert!(reader.lend_next().is_none(), "{mode:?}, of an empty log");
        for at in 0..60 {
            log.append(&batch(1_000, 0, at * 2, 2)).unwrap();
            if at % 3 == 0 {
                let id = dir.new_producer_id().unwrap();
                let transaction =
                    BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).transactional();
                log.append(&transaction.record("k", "v").build().unwrap()).unwrap();
                let [abort, commit] = [
                    ControlRecord::Abort { coordinator_epoch: 0 },
                    ControlRecord::Commit { coordinator_epoch: 0 },
                ];
                log.end_transaction(id, ProducerEpoch(0), if at % 2 == 0 { abort } else { commit }).unwrap();
            }
        }
        assert!(log.metrics().segments > 3);
        for (mut lending, handing_out) in [
            (reader, log.reader(Offset(0)).unwrap()),
            (log.reader(Offset(7)).unwrap().committed(), log.reader(Offset(7)).unwrap().committed()),
        ] {
            for handed_out in handing_out {
                let handed_out = handed_out.unwrap();
                let lent = lending.lend_next().unwrap().unwrap();
                assert_eq!(
                    (lent.header(), *lent.bytes()),
                    (handed_out.header(), &handed_out.bytes()[..]),
                    "{mode:?}"
                );
                let next = lent.header().next_offset();
                assert_eq!(lending.position(), next, "{mode:?}");
            }
            assert!(lending.lend_next().is_none(), "{mode:?}");
        }
        let fetched = log.read(Offset(0), 2000).unwrap();
        let lent = fetched.lent_batches().map(|batch| batch.unwrap().into_owned().into_bytes());
        assert!(lent.eq(fetched.batches().map(|batch| batch.unwrap().into_bytes())), "{mode:?}");
    }
}

/// Both look for the rest where the segment that they were in is cut or deleted.
#[test]
fn a_reader_that_lends_sees_what_left_the_log_as_one_that_hands_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..200 {
            log.append(&batch(1, 0, at * 2, 2)).unwrap();
        }
        let (mut lending, mut handing_out) = (log.reader(Offset(0)).unwrap(), log.reader(Offset(0)).unwrap());
        let mut step = |what: &str| {
            let lent = seen(lending.lend_next());
            assert_eq!(lent, seen(handing_out.next()), "{mode:?}, {what}");
            lent
        };
        (0..5).for_each(|_| assert!(matches!(step("whole"), Some(Ok(_)))));
        log.truncate_to(Offset(301)).unwrap();
        (0..100).for_each(|_| assert!(matches!(step("cut"), Some(Ok(_)))));
        log.delete_records(Offset(250)).unwrap();
        log.apply_retention().unwrap();
        assert!(matches!(step("deleted"), Some(Err(_))), "{mode:?}, it stands below the log start offset");
        assert!(matches!(step("deleted"), Some(Err(_))), "{mode:?}");
    }
}

#[test]
fn a_reader_that_lends_goes_on_behind_a_truncation_and_ends_with_the_log() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..60 {
            log.append(&batch(1, 0, at * 2, 2)).unwrap();
        }
        let mut reader = log.reader(Offset(0)).unwrap();
        assert_eq!(reader.lend_next().unwrap().unwrap().header().base_offset, Offset(0));
        log.truncate_to(Offset(2)).unwrap();
        assert!(reader.lend_next().is_none(), "{mode:?}");
        log.append(&batch(2, 0, 0, 1)).unwrap();
        assert_eq!(reader.lend_next().unwrap().unwrap().header().producer_id, ProducerId(2), "{mode:?}");
        drop(log);
        dir.close().unwrap();
        assert!(matches!(reader.lend_next(), Some(Err(Error::Closed))), "{mode:?}");
    }
}

#[test]
fn an_offset_is_found_by_timestamp() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        (0..100).for_each(|at| {
            log.append(&batch(7, 0, at * 2, 2)).unwrap();
        });
        for at in 0..100 {
            let found = log.offset_for_timestamp(Timestamp(999 + at * 2)).unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (Offset(at * 2), Timestamp(1000 + at * 2)), "{at}");
        }
        assert_eq!(log.offset_for_timestamp(Timestamp(5000)).unwrap(), None);
    }
}

/// Timestamps that repeat, rise and fall, in an index that was filled, read from its file, and cut.
#[test]
fn a_timestamp_is_found_where_it_comes_first_in_whatever_order_they_come() {
    let check = |log: &Log, what: &str| {
        let records = log.reader(Offset(0)).unwrap().flat_map(|batch| batch.unwrap().into_records());
        let all: Vec<_> =
            records.map(|record| record.unwrap()).map(|r| (r.offset(), r.timestamp())).collect();
        for wanted in (990..1_040).map(Timestamp) {
            let expected = all.iter().copied().find(|&(_, timestamp)| timestamp >= wanted);
            let found = log.offset_for_timestamp(wanted).unwrap();
            assert_eq!(found.map(|found| (found.offset, found.timestamp)), expected, "{what}, {wanted:?}");
        }
        let first_of_largest = |a: (_, _), b: (_, _)| if b.1 > a.1 { b } else { a };
        let latest = log.offset_of_max_timestamp().unwrap();
        let expected = all.into_iter().reduce(first_of_largest);
        assert_eq!(latest.map(|latest| (latest.offset, latest.timestamp)), expected, "{what}");
    };
    let append = |log: &Log, at: i64| {
        let record = |at| RecordBuilder::new().timestamp(Timestamp(1_000 + at / 8 - at % 4 * 2)).value("v");
        let batch = BatchBuilder::new().push(record(at)).push(record(at + 1));
        log.append(&batch.build().unwrap()).unwrap();
    };
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log_dir = open(data.path(), mode);
        let log = log_dir.partition("t", 0).unwrap();
        check(&log, "empty");
        (0..300).for_each(|at| append(&log, at));
        assert!(log.metrics().segments > 3);
        check(&log, "filled");
        log_dir.close().unwrap();

        let log_dir = open(data.path(), mode);
        let log = log_dir.partition("t", 0).unwrap();
        check(&log, "read");
        for end in [501, 350] {
            log.truncate_to(Offset(end)).unwrap();
            check(&log, "cut");
            (0..60).for_each(|at| append(&log, at + end / 2 - 8));
            check(&log, "cut and filled");
        }
    }
}
