//! What is appended, one batch or several, and by many.

use std::slice::from_ref;

use idemlog::{
    AppendOptions, AppendOutcome, Batch, BatchHeader, Error, Log, LogDir, Offset, RejectionReason,
    TimestampType,
};

use crate::common::{self, MODES, batch, open, options, plain, stored};

#[test]
fn a_batch_sent_again_is_answered_with_the_originals_offsets() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let first: Vec<_> = (0..5).map(|at| log.append(&batch(1, 0, at * 3, 3)).unwrap()).collect();
        for (at, first) in first.iter().enumerate() {
            let again = log.append(&batch(1, 0, at as i32 * 3, 3)).unwrap();
            assert!(again.is_duplicate() && !first.is_duplicate());
            assert_eq!(again.offsets(), first.offsets());
            assert_eq!(again.same_bytes(), Some(true));
        }
        assert_eq!(log.log_end_offset(), Offset(15));
    }
}

/// A batch that is lent is stored, answered and refused like one that holds its bytes, whichever way it comes in.
#[test]
fn what_is_appended_may_be_borrowed() {
    type Append = fn(&Log, &Batch<&[u8]>) -> idemlog::Result<AppendOutcome>;
    let ways: [(&str, Append); 4] = [
        ("append", |log, batch| log.append(batch)),
        ("append_all", |log, batch| Ok(log.append_all(from_ref(batch))?[0])),
        ("submit", |log, batch| Ok(log.submit(from_ref(batch), AppendOptions::default())?.wait()?[0])),
        ("try_submit", |log, batch| Ok(common::try_submit(log, batch, AppendOptions::default())?.wait()?[0])),
    ];
    for mode in MODES {
        for ((name, append), stamps) in ways.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), mode);
            let kind = if stamps { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
            let log = dir.partition("t", 0).unwrap();
            log.set_options((*log.options()).clone().timestamp_type(kind)).unwrap();
            for at in 0..20 {
                let request = batch(1, 0, at * 3, 3).into_bytes().to_vec();
                let lent = Batch::decode_lent(&request).unwrap();
                let outcomes = [append(&log, &lent).unwrap(), append(&log, &lent).unwrap()];
                assert_eq!(outcomes.map(|outcome| outcome.is_duplicate()), [false, true], "{name}");
                assert_eq!(outcomes.map(|outcome| outcome.base_offset().0), [i64::from(at) * 3; 2], "{name}");
                assert_eq!(lent.records_in(&mut Vec::new()).count(), 3);
                let gap = batch(1, 0, 90, 1).into_bytes();
                let refused = append(&log, &Batch::decode_lent(&gap).unwrap()).unwrap_err();
                assert!(
                    matches!(&refused, Error::Rejected(rejection) if rejection.reason == RejectionReason::Gap),
                    "{name}: {refused}"
                );
                let stored = Batch::decode(log.read(Offset(i64::from(at) * 3), 1).unwrap().bytes).unwrap();
                assert_eq!(stored.header().timestamp_type(), kind, "{name}");
                // In front of it stands what the log stamps; the timestamps, and the CRC with them, only if it is told to.
                let same_from = if stamps { BatchHeader::SIZE } else { 16 };
                assert_eq!(stored.bytes()[same_from..], request[same_from..], "{name}");
                assert_eq!(lent.into_owned().into_bytes(), request);
            }
        }
    }
}

#[test]
fn a_call_with_several_batches_stores_the_new_answers_the_old_and_refuses_as_a_whole() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        let outcomes = log
            .append_all(&[
                batch(1, 0, 0, 1),
                batch(1, 0, 1, 2),
                batch(2, 0, 0, 1),
                batch(1, 0, 1, 2),
                plain("p"),
            ])
            .unwrap();
        let seen: Vec<_> = outcomes.iter().map(|o| (o.is_duplicate(), o.base_offset().0)).collect();
        assert_eq!(seen, [(true, 0), (false, 1), (false, 3), (true, 1), (false, 4)]);
        let end = log.log_end_offset();
        assert!(log.append_all(&[batch(1, 0, 3, 1), batch(2, 0, 9, 1)]).is_err());
        assert_eq!(log.log_end_offset(), end);
        assert!(
            !log.append(&batch(1, 0, 3, 1)).unwrap().is_duplicate(),
            "nothing was kept of the refused call"
        );
    }
}

#[test]
fn a_refusal_or_duplicate_creates_no_file() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let files = || std::fs::read_dir(log.directory()).unwrap().count();
        assert!(
            log.append(&batch(1, 0, 5, 1)).is_err(),
            "an unknown producer begins at 0 in an empty partition"
        );
        assert_eq!(files(), 0);
        while log.log_end_offset() < Offset(17) {
            log.append(&batch(1, 0, log.log_end_offset().0 as i32, 1)).unwrap();
        }
        let before = files();
        for _ in 0..50 {
            assert!(log.append(&batch(1, 0, 16, 1)).unwrap().is_duplicate());
            assert!(log.append(&batch(1, 0, 40, 30)).is_err());
        }
        assert_eq!(files(), before);
    }
}

/// A map is as large as the segment was to be when it was made: appends that a raised bound let into the segment failed until
/// something rolled it, and an empty segment never took a batch that was larger than its map.
#[test]
fn a_segment_takes_as_much_as_its_bound_says_by_now() {
    let bounds = |log: &Log, segment: u32, batch: u32| {
        let options = (*log.options()).clone().segment_bytes(segment).max_batch_bytes(batch);
        log.set_options(options).unwrap();
    };
    let large = plain(&"a".repeat(9000));
    for (mode, rolls) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let append = |at| log.append(&batch(1, 0, at, 1)).unwrap();
        (0..10).map(append).for_each(|outcome| assert!(!outcome.is_duplicate()));
        if rolls {
            log.roll().unwrap();
        }
        let reader_of_the_old_map = log.read(Offset(0), usize::MAX).unwrap();
        bounds(&log, 20_000, 10_000);
        for at in [10, 11] {
            assert_eq!(log.append(&large).unwrap().base_offset(), Offset(at), "{mode:?}, rolls: {rolls}");
        }
        assert_eq!(log.metrics().segments, if rolls { 2 } else { 1 }, "{mode:?}");
        bounds(&log, 4096, 4096);
        (10..80).map(append).for_each(|outcome| assert!(!outcome.is_duplicate()));
        assert!(append(79).is_duplicate());
        let before = stored(&log);
        assert_eq!(before.len(), 82);
        assert_eq!(
            reader_of_the_old_map.bytes,
            log.read(Offset(0), reader_of_the_old_map.bytes.len()).unwrap().bytes
        );
        drop((dir, log));
        assert_eq!(
            stored(&open(data.path(), mode).partition("t", 0).unwrap()),
            before,
            "{mode:?}, rolls: {rolls}"
        );
    }
}

#[test]
fn many_threads_append_at_once_and_every_record_is_there_once() {
    for mode in MODES {
        for threads in [0, 2] {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), options(mode).background_threads(threads)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            std::thread::scope(|scope| {
                for id in 0..8 {
                    let log = &log;
                    scope.spawn(move || {
                        for at in 0..50 {
                            log.append(&batch(id, 0, at, 1)).unwrap();
                            assert!(log.append(&batch(id, 0, at, 1)).unwrap().is_duplicate());
                        }
                    });
                }
            });
            assert_eq!(stored(&log).len(), 400);
            dir.close().unwrap();
            drop((dir, log));
            let dir = open(data.path(), mode);
            assert_eq!(stored(&dir.partition("t", 0).unwrap()).len(), 400);
        }
    }
}
