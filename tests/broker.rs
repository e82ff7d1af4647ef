//! What a broker needs besides appending and reading: transactions, replication, append times, topic ids, options that
//! change.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use common::{MODES, TestClock, batch, open, options, plain, small, stored};
use idemlog::TransactionVersion::V1;
use idemlog::{
    AppendOptions, Batch, BatchBuilder, ControlRecord, DuplicateCheck, Durability, Error, ErrorCode, IoMode,
    LeaderEpoch, Log, LogDir, LogOptions, Offset, Origin, ProducerEpoch, ProducerId, ProducerPolicy,
    RecordCheck, RejectionReason, Sequence, Timestamp, TimestampType, TopicId, UncheckedBatch,
};

const COMMIT: ControlRecord = ControlRecord::Commit { coordinator_epoch: 0 };
const ABORT: ControlRecord = ControlRecord::Abort { coordinator_epoch: 0 };

fn transactional(id: i64, sequence: i32) -> Batch {
    BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence))
        .transactional()
        .record("k", format!("{id} {sequence}"))
        .build()
        .unwrap()
}

fn end(log: &Log, id: i64, marker: ControlRecord) -> i64 {
    log.end_transaction(ProducerId(id), ProducerEpoch(0), marker).unwrap().base_offset().0
}

/// The base offsets that a reader of committed records sees.
fn committed(log: &Log) -> Vec<i64> {
    let reader = log.reader(log.log_start_offset()).unwrap().committed();
    reader.map(|batch| batch.unwrap().header().base_offset.0).collect()
}

fn reason(error: Error) -> RejectionReason {
    match error {
        Error::Rejected(rejection) => rejection.reason,
        other => panic!("{other}"),
    }
}

#[test]
fn committed_records_are_seen_once_all_before_them_is_decided_also_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&transactional(1, 0)).unwrap(); // 0
        log.append(&transactional(2, 0)).unwrap(); // 1
        log.append(&plain("outside")).unwrap(); // 2
        assert_eq!((log.last_stable_offset(), committed(&log)), (Offset(0), vec![]));
        assert_eq!(end(&log, 2, COMMIT), 3);
        assert_eq!(
            (log.last_stable_offset(), committed(&log)),
            (Offset(0), vec![]),
            "producer 1 is undecided"
        );
        assert_eq!(end(&log, 1, ABORT), 4);
        assert_eq!((log.last_stable_offset(), committed(&log)), (Offset(5), vec![1, 2]));
        log.append(&transactional(2, 1)).unwrap(); // 5
        log.roll().unwrap();
        assert_eq!(end(&log, 2, ABORT), 6);
        log.append(&transactional(1, 1)).unwrap(); // 7
        let check = |log: &Log| {
            assert_eq!(
                (log.last_stable_offset(), log.first_undecided_offset()),
                (Offset(7), Some(Offset(7)))
            );
            assert_eq!(committed(log), [1, 2]);
            let aborted = log.aborted_transactions(Offset(0), Offset(100)).unwrap();
            let shown: Vec<_> = aborted.iter().map(|it| (it.first_offset.0, it.last_offset.0)).collect();
            assert_eq!(shown, [(0, 4), (5, 6)]);
            assert_eq!(log.read_committed(Offset(5), 1 << 20).unwrap().aborted.len(), 1);
        };
        check(&log);
        drop((log, dir)); // killed
        let dir = open(data.path(), mode);
        check(&dir.partition("t", 0).unwrap());
        dir.close().unwrap();
        let dir = open(data.path(), mode);
        check(&dir.partition("t", 0).unwrap());
        assert_eq!(end(&dir.partition("t", 0).unwrap(), 1, COMMIT), 8);
        assert_eq!(committed(&dir.partition("t", 0).unwrap()), [1, 2, 7]);
    }
}

#[test]
fn a_transaction_index_that_is_gone_or_of_another_log_is_built_from_the_batches() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&transactional(1, 0)).unwrap();
        log.roll().unwrap();
        end(&log, 1, ABORT);
        log.append(&transactional(1, 1)).unwrap();
        end(&log, 1, ABORT);
        let truth = log.aborted_transactions(Offset(0), Offset(100)).unwrap();
        assert_eq!(truth.len(), 2);
        log.roll().unwrap();
        log.append(&plain("behind")).unwrap();
        let file = log.directory().join("00000000000000000001.txnindex");
        let whole = std::fs::read(&file).unwrap();
        dir.close().unwrap();
        let mut elsewhere = whole.clone();
        elsewhere[34 + 25] = 77; // the last marker's offset
        let damaged: [Option<&[u8]>; 4] = [None, Some(&whole[..30]), Some(&elsewhere), Some(&[9; 34])];
        for bytes in damaged {
            match bytes {
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            assert_eq!(log.aborted_transactions(Offset(0), Offset(100)).unwrap(), truth, "{bytes:?}");
            dir.close().unwrap();
            drop((log, dir));
            std::fs::write(&file, &whole).unwrap();
        }
    }
}

#[test]
fn a_transaction_of_an_unverified_batch_does_not_begin() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log_options = small(mode).verify_transactions(true);
        let dir = LogDir::open(data.path(), options(mode).log(log_options)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.append(&plain("first")).unwrap();
        let submit = |batch: &Batch, options| log.submit(std::slice::from_ref(batch), options)?.wait();
        let plain = AppendOptions::default();
        assert_eq!(reason(submit(&transactional(1, 0), plain).unwrap_err()), RejectionReason::NotVerified);
        let (id, epoch) = (ProducerId(1), ProducerEpoch(0));
        let guard = log.begin_verification(id, epoch, Sequence(0), V1).unwrap().unwrap();
        assert_eq!(
            reason(submit(&transactional(1, 1), plain.verification(guard)).unwrap_err()),
            RejectionReason::Gap
        );
        submit(&transactional(1, 0), plain.verification(guard)).unwrap();
        assert_eq!(
            log.begin_verification(id, epoch, Sequence(1), V1).unwrap(),
            None,
            "the transaction is open"
        );
        submit(&transactional(1, 1), plain).unwrap();
        end(&log, 1, COMMIT);
        let late = submit(&transactional(1, 2), plain.verification(guard)).unwrap_err();
        assert_eq!(reason(late), RejectionReason::NotVerified, "the guard is used up");
    }
}

/// The first batch of a call ended the verification, but the second one was still measured by it: a gap.
#[test]
fn a_transaction_begins_with_several_batches_of_one_call() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log_options = small(mode).verify_transactions(true);
        let dir = LogDir::open(data.path(), options(mode).log(log_options)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let guard =
            log.begin_verification(ProducerId(1), ProducerEpoch(0), Sequence(0), V1).unwrap().unwrap();
        let verified = AppendOptions::default().verification(guard);
        let both = [transactional(1, 0), transactional(1, 1)];
        assert_eq!(log.submit(&both, verified).unwrap().wait().unwrap().len(), 2);
    }
}

/// A truncation behind a marker that was not replicated yet forgot it: its transaction counted as decided.
#[test]
fn a_marker_above_the_high_watermark_decides_nothing_also_behind_a_truncation() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&transactional(1, 0)).unwrap();
        log.set_high_watermark(Offset(1));
        end(&log, 1, COMMIT);
        (0..2).for_each(|_| assert!(log.append(&plain("behind")).is_ok()));
        assert!(log.truncate_to(Offset(3)).unwrap());
        assert_eq!((log.high_watermark(), log.last_stable_offset()), (Offset(1), Offset(0)), "{mode:?}");
        log.set_high_watermark(Offset(2));
        assert_eq!(log.last_stable_offset(), Offset(2), "{mode:?}");
    }
}

#[test]
fn an_open_transaction_that_nobody_ends_is_found_late() {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::at(1_000_000);
    let dir = LogDir::open(data.path(), options(MODES[0]).clock(clock.clone())).unwrap();
    let log = dir.partition("t", 0).unwrap();
    assert!(!log.has_late_transaction(1_000));
    let begin = BatchBuilder::new()
        .producer(ProducerId(1), ProducerEpoch(0), Sequence(0))
        .transactional()
        .timestamp(Timestamp(1_000_000))
        .record("k", "v")
        .build()
        .unwrap();
    log.append(&begin).unwrap();
    clock.advance(301_000);
    assert!(!log.has_late_transaction(1_000));
    clock.advance(1);
    assert!(log.has_late_transaction(1_000));
    end(&log, 1, ABORT);
    assert!(!log.has_late_transaction(1_000));
}

/// Copies what `to` lacks, as many batches in a call as a fetch gives.
fn follow(from: &Log, to: &Log) {
    while to.log_end_offset() < from.log_end_offset() {
        let fetched = from.read(to.log_end_offset(), 600).unwrap();
        let check = |batch: UncheckedBatch<_>| batch.check(RecordCheck::Header, 0).unwrap();
        let batches: Vec<_> = fetched.lent_batches().map(|batch| check(batch.unwrap())).collect();
        to.submit(&batches, AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
    }
}

#[test]
fn a_follower_knows_what_its_leader_knows_and_takes_over() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leading, following) = (open(one.path(), mode), open(other.path(), mode));
        let (leader, follower) = (leading.partition("t", 0).unwrap(), following.partition("t", 0).unwrap());
        for epoch in [2, 5] {
            leader.set_leader_epoch(LeaderEpoch(epoch));
            for at in 0..10 {
                leader.append(&batch(1, epoch as i16, at, 1)).unwrap();
            }
            leader.append(&transactional(i64::from(epoch), 0)).unwrap();
        }
        end(&leader, 2, ABORT);
        follow(&leader, &follower);
        let seen = |log: &Log| {
            let producers = log.producers().into_iter().map(|mut producer| {
                producer.last_seen = Timestamp(0);
                producer
            });
            (
                stored(log),
                producers.collect::<Vec<_>>(),
                log.leader_epochs(),
                log.last_stable_offset(),
                log.aborted_transactions(Offset(0), Offset(1000)).unwrap(),
            )
        };
        assert_eq!(seen(&follower), seen(&leader));
        assert!(follower.append(&batch(1, 5, 9, 1)).unwrap().is_duplicate(), "it leads now");
    }
}

#[test]
fn replicated_batches_may_leave_gaps_but_not_go_back() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let at = |offset: i64, epoch| {
            let batch = BatchBuilder::new().record("k", "v").base_offset(Offset(offset));
            batch.leader_epoch(LeaderEpoch(epoch)).build().unwrap()
        };
        let options = AppendOptions::default().origin(Origin::Replication).durability(Durability::Buffered);
        let replicate = |batches: &[Batch]| log.submit(batches, options)?.wait().map(drop);
        replicate(&[at(10, 1), at(20, 1)]).unwrap();
        replicate(&[at(1 << 33, 2)]).unwrap();
        let behind = Offset((1 << 33) + 1);
        assert_eq!(log.log_end_offset(), behind);
        let back = replicate(&[at(behind.0 + 5, 2), at(behind.0 + 3, 2)]);
        assert!(matches!(back, Err(Error::UnexpectedOffset { got, .. }) if got == behind + 3), "{back:?}");
        let stale = replicate(&[at(behind.0, 1)]);
        assert!(matches!(stale, Err(Error::StaleLeaderEpoch { got: LeaderEpoch(1), .. })), "{stale:?}");
        let expected = stored(&log);
        assert_eq!(expected.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [10, 20, 1 << 33]);
        drop((log, dir)); // killed, with what was only buffered
        let dir = open(data.path(), mode);
        assert_eq!(stored(&dir.partition("t", 0).unwrap()), expected);
    }
}

/// A follower's batch beyond what one segment can count began another one, found no blocks for all of it, and was tried
/// again: by then nobody knew that a segment was begun above the log end, so it got no name, and a kill lost the batch.
#[test]
fn a_large_batch_that_begins_a_segment_above_the_log_end_outlives_a_kill() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options =
            || idemlog::LogDirOptions::default().log(idemlog::LogOptions::default().io_mode(Some(mode)));
        let dir = LogDir::open(data.path(), options()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let large = vec![7; 200 << 10];
        let at = |offset: i64, value: &[u8]| {
            BatchBuilder::new().record("k", value).base_offset(Offset(offset)).build().unwrap()
        };
        let follower = AppendOptions::default().origin(Origin::Replication).durability(Durability::Buffered);
        for batch in [at(10, b"v"), at(1 << 33, &large)] {
            log.submit(&[batch], follower).unwrap().wait().unwrap();
        }
        let expected = stored(&log);
        assert_eq!(expected.len(), 2);
        drop((log, dir)); // killed, with what was only buffered
        let dir = LogDir::open(data.path(), options()).unwrap();
        assert_eq!(stored(&dir.partition("t", 0).unwrap()), expected);
    }
}

#[test]
fn the_logs_time_replaces_the_producers_and_duplicates_are_still_known() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(5_000);
        let log_options = small(mode)
            .timestamp_type(TimestampType::LogAppendTime)
            .producers(ProducerPolicy::default().duplicate_check(DuplicateCheck::SameBytes));
        let options = options(mode).log(log_options).clock(clock.clone());
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let first = log.append(&batch(1, 0, 0, 3)).unwrap();
        assert_eq!(first.timestamp(), Timestamp(5_000));
        clock.advance(1_000);
        let again = |log: &Log| {
            let again = log.append(&batch(1, 0, 0, 3)).unwrap();
            assert!(again.is_duplicate());
            assert_eq!(
                (again.timestamp(), again.same_bytes()),
                (Timestamp(5_000), None),
                "not known any more"
            );
        };
        again(&log);
        let stored = log.reader(Offset(0)).unwrap().next().unwrap().unwrap();
        let bytes = stored.clone().into_bytes();
        assert!(Batch::decode(bytes).is_ok(), "its CRC is right");
        assert!(stored.records().all(|record| record.unwrap().timestamp() == Timestamp(5_000)));
        let found = log.offset_for_timestamp(Timestamp(4_000)).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (Offset(0), Timestamp(5_000)));
        drop((log, dir));
        again(&LogDir::open(data.path(), options).unwrap().partition("t", 0).unwrap());
    }
}

/// Behind a change of the option the bytes that the log had stamped were held against those that a client had sent: a batch sent again
/// had other bytes, it was said, and was refused for ever.
#[test]
fn a_batch_sent_again_after_the_log_came_to_stamp_its_time_is_known() {
    for mode in MODES {
        for check in [DuplicateCheck::Sequences, DuplicateCheck::SameBytes] {
            let data = tempfile::tempdir().unwrap();
            let policy = ProducerPolicy::default().duplicate_check(check);
            let dir = LogDir::open(data.path(), options(mode).log(small(mode).producers(policy))).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let sent = batch(1, 0, 0, 1);
            log.append(&sent).unwrap();
            for (kind, same_bytes) in
                [(TimestampType::LogAppendTime, None), (TimestampType::CreateTime, Some(true))]
            {
                log.set_options((*log.options()).clone().timestamp_type(kind)).unwrap();
                let again = log.append(&sent).unwrap();
                assert!(again.is_duplicate(), "{kind:?}, {check:?}");
                assert_eq!(again.same_bytes(), same_bytes, "{kind:?}, {check:?}");
            }
        }
    }
}

#[test]
fn a_partition_of_a_deleted_topic_is_not_taken_for_that_of_a_new_one() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let (old, new) = (TopicId([1; 16]), TopicId([2; 16]));
        assert_eq!(dir.partition("t", 0).unwrap().topic_id(), None);
        assert_eq!(dir.partition_of(old, "t", 0).unwrap().topic_id(), Some(old));
        let metadata = std::fs::read_to_string(data.path().join("t-0/partition.metadata")).unwrap();
        assert_eq!(metadata, format!("version: 0\ntopic_id: {old}"));
        drop(dir);
        let dir = open(data.path(), mode);
        let refused = dir.partition_of(new, "t", 0);
        assert!(matches!(refused, Err(Error::TopicId { got, .. }) if got == old), "{refused:?}");
        assert_eq!(dir.partition("t", 0).unwrap().topic_id(), Some(old));
        dir.delete_partition("t", 0).unwrap();
        assert_eq!(dir.partition_of(new, "t", 0).unwrap().topic_id(), Some(new));
    }
}

#[test]
fn options_change_on_a_live_log_but_for_those_that_cannot() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        let options = || (*log.options()).clone();
        log.set_options(options().max_batch_bytes(100)).unwrap();
        assert!(log.append(&batch(1, 0, 1, 1)).is_err());
        log.set_options(options().max_batch_bytes(2000).durability(Durability::Buffered)).unwrap();
        log.append(&batch(1, 0, 1, 1)).unwrap();
        assert_eq!((log.high_watermark(), log.durable_offset()), (Offset(2), Offset(1)));
        log.set_options(options().durability(Durability::Synced)).unwrap();
        log.append(&batch(1, 0, 2, 1)).unwrap();
        assert_eq!((log.high_watermark(), log.durable_offset()), (Offset(3), Offset(3)));
        log.set_options(
            options().producers(ProducerPolicy::default().budget(1).eviction_min_idle_ms(i64::MAX)),
        )
        .unwrap();
        assert_eq!(reason(log.append(&batch(2, 0, 0, 1)).unwrap_err()), RejectionReason::ProducerBudget);
        for (name, fixed) in [
            ("window", options().producers(ProducerPolicy::default().window(7))),
            ("io_mode", options().io_mode(None)),
            ("segment_bytes", options().segment_bytes(1)),
        ] {
            let refused = log.set_options(fixed);
            assert!(
                matches!(&refused, Err(Error::InvalidOption { option, .. }) if *option == name),
                "{refused:?}"
            );
        }
        assert_eq!(log.options().segment_bytes, 4096);
    }
}

/// The options of two topics, and of one whose options cannot work.
fn of_topic(topic: &str, mode: IoMode) -> LogOptions {
    match topic {
        "large" => small(mode).segment_bytes(1 << 20).producers(ProducerPolicy::default().window(20)),
        "wrong" => small(mode).segment_bytes(1),
        _ => small(mode),
    }
}

#[test]
fn each_partition_has_the_options_that_the_host_says_for_it_also_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options = options(mode).log_for(move |partition| of_topic(partition.topic(), mode));
        for opening in 0..3 {
            let dir = LogDir::open(data.path(), options.clone()).unwrap();
            for (topic, remembered, has_rolled) in [("large", 20, false), ("small", 5, true)] {
                let log = dir.partition(topic, 0).unwrap();
                assert_eq!(*log.options(), of_topic(topic, mode));
                for sequence in (0..40).filter(|_| opening == 0) {
                    log.append(&batch(1, 0, sequence, 1)).unwrap();
                }
                assert!(log.append(&batch(1, 0, 40 - remembered, 1)).unwrap().is_duplicate(), "{topic}");
                let older = log.append(&batch(1, 0, 39 - remembered, 1)).unwrap_err();
                assert_eq!(reason(older), RejectionReason::OlderThanWindow);
                assert_eq!(log.metrics().segments > 1, has_rolled, "{topic}");
            }
            // The first opening ends well, the second in a kill.
            if opening == 0 {
                dir.close().unwrap();
            }
        }
    }
}

#[test]
fn options_that_cannot_work_keep_their_partition_alone_from_opening() {
    let is_refused = |opened: idemlog::Result<Log>| {
        let refused = opened.unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { option: "segment_bytes", .. }), "{refused}");
    };
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        for topic in ["right", "wrong"] {
            dir.partition(topic, 0).unwrap().append(&plain("stored")).unwrap();
        }
        dir.close().unwrap();
        let by_topic = options(mode).log_for(move |partition| of_topic(partition.topic(), mode));
        let dir = LogDir::open(data.path(), by_topic).unwrap();
        assert_eq!(stored(&dir.partition("right", 0).unwrap()).len(), 1);
        is_refused(dir.partition("wrong", 0));
        let failed: Vec<String> = dir.failed().iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(failed, ["wrong-0"]);
        is_refused(dir.partition("wrong", 1));
        assert!(!data.path().join("wrong-1").exists(), "nothing is left of what was not created");
        dir.close().unwrap();
        let dir = open(data.path(), mode);
        assert_eq!(stored(&dir.partition("wrong", 0).unwrap()).len(), 1);
    }
}

#[test]
fn a_partition_below_zero_is_nowhere_and_one_that_is_there_is_not_created() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    for number in [-1, i32::MIN] {
        assert!(dir.find("t", number).unwrap().is_none());
        assert!(!dir.delete_partition("t", number).unwrap());
        for refused in [dir.partition("t", number), dir.create_partition("t", number)] {
            assert_eq!(refused.unwrap_err().code(), ErrorCode::UnknownTopicOrPartition);
        }
    }
    assert!(matches!(dir.find("a/b", -1), Err(Error::InvalidTopic { .. })));
    let log = dir.create_partition("t", 0).unwrap();
    log.append(&plain("stored")).unwrap();
    let again = dir.create_partition("t", 0).unwrap_err();
    assert!(matches!(&again, Error::Exists { path } if path == log.directory()), "{again}");
    assert_eq!(again.code().number(), 36);
    assert_eq!(stored(&dir.partition("t", 0).unwrap()).len(), 1);
    dir.close().unwrap();
    assert!(matches!(dir.find("t", -1), Err(Error::Closed)));
    assert!(matches!(open(data.path(), MODES[0]).create_partition("t", 0), Err(Error::Exists { .. })));
}
