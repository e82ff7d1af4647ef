//! Who is known to a partition, for how long, and what a producer with a name makes of it.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use common::{MODES, TestClock, batch, open, options, plain, small};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{
    AppendOptions, Batch, BatchBuilder, Clock, ControlRecord, DEFAULT_MAX_DECOMPRESSED, Durability, Error,
    ExpiryClock, IoMode, LeaderEpoch, Log, LogDir, LogDirOptions, LogOptions, Offset, Origin, Producer,
    ProducerEpoch, ProducerId, ProducerPolicy, RecordCheck, RejectionReason, Sequence, SequenceRule,
    Timestamp,
};

const MINUTE: i64 = 60_000;
const NOW: i64 = 1_700_000_000_000;

fn with_policy(policy: ProducerPolicy) -> LogDirOptions {
    options(IoMode::Mapped).log(small(IoMode::Mapped).producers(policy))
}

fn refusal(log: &Log, batch: &Batch) -> RejectionReason {
    reason(log.append(batch))
}

fn reason<T: std::fmt::Debug>(refused: Result<T, Error>) -> RejectionReason {
    match refused {
        Err(Error::Rejected(rejection)) => rejection.reason,
        other => panic!("{other:?}"),
    }
}

fn known(log: &Log) -> Vec<i64> {
    let mut ids: Vec<i64> = log.producers().iter().map(|known| known.producer_id.0).collect();
    ids.sort_unstable();
    ids
}

/// A snapshot that was written late left out who had been forgotten since, and with it the transaction that was open there: a
/// log that was truncated to it took what was neither committed nor aborted for decided.
#[test]
fn a_snapshot_that_is_written_late_tells_of_the_transactions_that_are_open_there() {
    // From the whole table, from the one before, and from that with a batch of the transaction in between.
    for (others, goes_on) in [(0, false), (5, false), (5, true)] {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOW);
        let options = with_policy(ProducerPolicy::default().expiry_ms(MINUTE)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = (ProducerId(1), ProducerEpoch(0));
        let append = |batch: Batch| log.append(&batch).unwrap().base_offset();
        let of_transaction = |sequence| {
            let batch = record().producer(id, epoch, Sequence(sequence)).transactional();
            batch.timestamp(Timestamp(NOW)).build().unwrap()
        };
        for other in 0..others {
            append(batch(10 + other, 0, 0, 1));
        }
        let first = append(of_transaction(0));
        log.roll().unwrap();
        append(if goes_on { of_transaction(1) } else { plain("between") });
        log.roll().unwrap();
        let point = log.log_end_offset();
        log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 }).unwrap();
        append(plain("behind"));
        clock.advance(2 * MINUTE);
        log.expire_producers();
        assert_eq!(known(&log), []);

        let exported = log.export_producers_at(point).unwrap();
        let snapshot = log.directory().join(format!("{:020}.snapshot", point.0));
        std::fs::remove_file(&snapshot).unwrap();
        log.delete_records(point).unwrap();
        log.apply_retention().unwrap();
        assert!(snapshot.exists(), "it is written before what it tells of is deleted");
        log.truncate_to(point).unwrap();
        append(plain("other"));
        assert_eq!((known(&log), log.first_undecided_offset()), (vec![1], Some(first)));
        assert_eq!(log.last_stable_offset(), point, "{others} others");

        let follower = dir.partition("follower", 0).unwrap();
        follower.truncate_fully(exported.offset).unwrap();
        follower.import_producers(&exported).unwrap();
        assert_eq!((known(&follower), follower.first_undecided_offset()), (vec![1], Some(first)));
    }
}

fn record() -> BatchBuilder {
    BatchBuilder::new().record("k", "v")
}

fn first_of(id: i64) -> BatchBuilder {
    record().producer(ProducerId(id), ProducerEpoch(0), Sequence(0))
}

/// budget refused every new producer for ever.
#[test]
fn a_partition_at_its_budget_takes_new_producers_again_after_a_long_silence() {
    for threads in [0, 2] {
        for (idle_for, refused) in [(15 * MINUTE, 0), (150 * MINUTE, 3)] {
            let data = tempfile::tempdir().unwrap();
            let clock = TestClock::at(NOW);
            let policy = ProducerPolicy::default().budget(10).eviction_min_idle_ms(idle_for);
            let options = with_policy(policy).background_threads(threads).clock(clock.clone());
            let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
            for id in 0..10 {
                log.append(&batch(id, 0, 0, 1)).unwrap();
            }
            clock.advance(120 * MINUTE);
            for _ in 0..refused {
                assert_eq!(refusal(&log, &batch(10, 0, 0, 1)), RejectionReason::ProducerBudget);
                clock.advance(31 * MINUTE);
            }
            log.append(&batch(10, 0, 0, 1)).unwrap();
        }
    }
}

/// The same silence kept producers in a partition with little to do: with an append every 61 minutes a day never ended.
#[test]
fn a_silent_producer_is_forgotten_where_appends_are_rare() {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOW);
    let options = with_policy(ProducerPolicy::default()).clock(clock.clone());
    let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
    log.append(&batch(1, 0, 0, 1)).unwrap();
    for hour in 0..24 {
        assert_eq!(log.producers().len(), if hour == 0 { 1 } else { 2 });
        clock.advance(61 * MINUTE);
        log.append(&batch(2, 0, hour, 1)).unwrap();
    }
    assert_eq!(known(&log), [2]);
}

/// refused new ones for as long.
#[test]
fn producers_expire_also_after_the_clock_was_put_back() {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOW);
    let policy = ProducerPolicy::default().budget(1).eviction_min_idle_ms(i64::MAX).expiry_ms(30 * MINUTE);
    let options = with_policy(policy).clock(clock.clone());
    let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
    log.append(&batch(1, 0, 0, 1)).unwrap();
    clock.advance(-1_000_000 * MINUTE);
    for _ in 0..3 {
        assert_eq!(refusal(&log, &batch(2, 0, 0, 1)), RejectionReason::ProducerBudget);
        clock.advance(15 * MINUTE);
    }
    log.append(&batch(2, 0, 0, 1)).unwrap();
}

/// Goes on by a millisecond whenever somebody looks.
#[derive(Debug)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A round of expiry went by the time at which it had begun. The appends between its steps saw a later one, so that each step
/// looked like a clock that was put back, and the time since the beginning of the round was counted again at each append:
/// producers were forgotten that had just appended, and what they sent again was stored twice.
#[test]
fn nobody_ages_faster_by_being_looked_at_while_others_append() {
    const PRODUCERS: i64 = 20_000;
    const LASTS: i64 = 100_000;
    let clock = Arc::new(Ticking(AtomicI64::new(NOW)));
    let policy = ProducerPolicy::default().expiry_ms(3 * LASTS);
    let log = LogOptions::default().producers(policy).durability(Durability::Buffered);
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), LogDirOptions::default().log(log).clock(clock.clone())).unwrap();
    let log = dir.partition("t", 0).unwrap();
    for id in 0..PRODUCERS {
        log.append(&first_of(id).timestamp(Timestamp(NOW)).build().unwrap()).unwrap();
    }
    assert!(clock.now() < Timestamp(NOW + LASTS));
    let end = clock.now().0 + LASTS;
    let is_over = || clock.0.load(Ordering::Relaxed) > end;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over() {
                log.append(&plain("between the steps")).unwrap();
            }
        });
        while !is_over() {
            log.expire_producers();
        }
    });
    assert_eq!(log.metrics().producer_expiries, 0);
}

/// known still, and a batch was stored twice after a clean close.
#[test]
fn a_replay_forgets_nobody_who_is_known_to_keep_one_who_has_expired() {
    const OLD: i64 = NOW - 2 * 86_400_000;
    for is_clean in [true, false] {
        let data = tempfile::tempdir().unwrap();
        let policy = ProducerPolicy::default().budget(10).expiry_clock(ExpiryClock::RecordTimestamp);
        let options = with_policy(policy).clock(TestClock::at(NOW));
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        let send =
            |log: &Log, id, at| log.append(&first_of(id).timestamp(Timestamp(at)).build().unwrap()).unwrap();
        for id in 0..5 {
            send(&log, id, NOW);
        }
        for id in 5..10 {
            send(&log, id, OLD);
        }
        log.expire_producers();
        for id in 10..15 {
            send(&log, id, NOW);
        }
        let before = known(&log);
        if is_clean {
            dir.close().unwrap();
        }
        drop((dir, log));
        let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
        assert!(send(&log, 0, NOW).is_duplicate());
        log.expire_producers();
        assert_eq!(known(&log), before);
    }
}

/// that had just appended.
#[test]
fn a_follower_above_its_budget_knows_after_an_opening_who_appended_a_short_while_ago() {
    for is_clean in [true, false] {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOW);
        let options = with_policy(ProducerPolicy::default().budget(10)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        for id in 0..15 {
            let replicated =
                first_of(id).base_offset(Offset(id)).leader_epoch(LeaderEpoch(0)).build().unwrap();
            let replication = AppendOptions::default().origin(Origin::Replication);
            log.submit(&[replicated], replication).unwrap().wait().unwrap();
        }
        if is_clean {
            dir.close().unwrap();
        }
        drop((dir, log));
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        assert_eq!(known(&dir.partition("orders", 0).unwrap()), (0..15).collect::<Vec<_>>());
        dir.close().unwrap();
        clock.advance(15 * MINUTE);
        let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
        assert_eq!(
            known(&log),
            (5..15).collect::<Vec<_>>(),
            "the least recent are idle, and above the budget"
        );
    }
}

/// Who was forgotten to make room and comes back begins anew. An opening must not take its new batches for more of the old ones.
#[test]
fn a_producer_that_was_evicted_and_came_back_is_the_same_after_an_opening() {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOW);
    let options = with_policy(ProducerPolicy::default().budget(2)).clock(clock.clone());
    let log = LogDir::open(data.path(), options.clone()).unwrap().partition("orders", 0).unwrap();
    for sequence in 0..3 {
        log.append(&batch(1, 0, sequence, 1)).unwrap();
    }
    clock.advance(15 * MINUTE);
    for id in 2..4 {
        log.append(&batch(id, 0, 0, 1)).unwrap();
    }
    clock.advance(15 * MINUTE);
    (0..2).for_each(|sequence| assert!(!log.append(&batch(1, 0, sequence, 1)).unwrap().is_duplicate()));
    let window = log.producer(ProducerId(1)).unwrap().batches;
    assert_eq!(window.len(), 2);
    drop(log);
    let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
    assert_eq!(log.producer(ProducerId(1)).unwrap().batches, window);
    assert!(!log.append(&batch(1, 0, 2, 1)).unwrap().is_duplicate());
}

/// Whoever had expired and came back began anew where the log was written, but every replay took its new batches for more of the
/// old ones: the next batch had the sequences of an old one, was answered as a duplicate, and was not stored.
#[test]
fn a_producer_that_expired_and_came_back_is_the_same_after_a_replay() {
    type Replay = fn(&LogDir, &Log);
    let replays: [(&str, Replay); 4] = [
        ("a kill", |_, _| {}),
        ("a clean close", |dir, _| dir.close().unwrap()),
        ("a snapshot that knows the old batches", |_, log| log.roll().unwrap()),
        ("a truncation", |_, log| {
            let end = log.log_end_offset();
            log.append(&batch(2, 0, 0, 1)).unwrap();
            log.truncate_to(end).unwrap();
            assert_eq!(sequences_of(log, 1), [0, 1]);
        }),
    ];
    for (name, replay) in replays {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(NOW);
        let options = with_policy(ProducerPolicy::default().expiry_ms(1000)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        append_and_come_back(&log, &clock);
        replay(&dir, &log);
        drop((dir, log));
        let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
        assert_eq!(sequences_of(&log, 1), [0, 1], "behind {name}");
        let next = log.append(&batch(1, 0, 2, 1)).unwrap();
        assert!(!next.is_duplicate(), "behind {name}: {next:?}");
    }
}

/// A follower whose own clock had expired nobody would have answered so as soon as it led.
#[test]
fn a_follower_forgets_with_its_leader_whom_it_did_not_forget_itself() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clock = TestClock::at(NOW);
    let options = with_policy(ProducerPolicy::default().expiry_ms(1000)).clock(clock.clone());
    let leader = LogDir::open(one.path(), options).unwrap().partition("orders", 0).unwrap();
    append_and_come_back(&leader, &clock);
    let options = with_policy(ProducerPolicy::default()).clock(clock);
    let follower = LogDir::open(other.path(), options).unwrap().partition("orders", 0).unwrap();
    for copied in leader.reader(Offset(0)).unwrap() {
        let copied = copied.unwrap().check(RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED).unwrap();
        let replication = AppendOptions::default().origin(Origin::Replication);
        follower.submit(&[copied], replication).unwrap().wait().unwrap();
    }
    let known = |log: &Log| log.producer(ProducerId(1)).unwrap().batches;
    assert_eq!(known(&follower), known(&leader));
    assert!(!follower.append(&batch(1, 0, 2, 1)).unwrap().is_duplicate());
}

/// Where sequences only increase the highest came down again, but the batches above it stayed, and answered for others.
#[test]
fn a_producer_that_came_back_below_its_highest_sequence_goes_on_from_there_after_an_opening() {
    let data = tempfile::tempdir().unwrap();
    let clock = TestClock::at(NOW);
    let policy = ProducerPolicy::default().sequence_rule(SequenceRule::Increasing).expiry_ms(1000);
    let options = with_policy(policy).clock(clock.clone());
    let log = LogDir::open(data.path(), options.clone()).unwrap().partition("orders", 0).unwrap();
    for sequence in 5..8 {
        log.append(&batch(1, 0, sequence, 1)).unwrap();
    }
    clock.advance(3000);
    log.expire_producers();
    log.append(&batch(1, 0, 1, 1)).unwrap();
    drop(log);
    let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
    assert_eq!(sequences_of(&log, 1), [1]);
    assert!(!log.append(&batch(1, 0, 6, 1)).unwrap().is_duplicate());
    assert!(log.append(&batch(1, 0, 1, 1)).unwrap().is_duplicate());
}

/// Sequences 0 to 2 of producer 1, and, when it has expired, 0 and 1 once more: fewer batches than producers, so that a snapshot
/// is folded.
fn append_and_come_back(log: &Log, clock: &TestClock) {
    for sequence in 0..3 {
        log.append(&batch(1, 0, sequence, 1)).unwrap();
    }
    for id in 10..15 {
        log.append(&batch(id, 0, 0, 1)).unwrap();
    }
    log.roll().unwrap();
    clock.advance(3000);
    log.expire_producers();
    assert_eq!(known(log), []);
    (0..2).for_each(|sequence| assert!(!log.append(&batch(1, 0, sequence, 1)).unwrap().is_duplicate()));
    assert_eq!(sequences_of(log, 1), [0, 1]);
}

/// The last sequences in a producer's window.
fn sequences_of(log: &Log, id: i64) -> Vec<i32> {
    let known = log.producer(ProducerId(id)).unwrap();
    known.batches.iter().map(|batch| batch.last_sequence.0).collect()
}

/// One batch of a client with the highest id there is, and no id was left to give out behind the next opening.
#[test]
fn an_id_that_a_client_made_up_does_not_use_up_the_ids() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    for id in [70, i64::MAX, 1 << 62] {
        log.append(&batch(id, 0, 0, 1)).unwrap();
    }
    dir.close().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    assert_eq!(dir.new_producer_id().unwrap(), ProducerId(71));
    assert_eq!(dir.producer("sensor").unwrap().id(), ProducerId(72));
}

/// place, and old sequences were stored again.
#[test]
fn data_without_a_sequence_leaves_the_highest_sequence_alone() {
    let data = tempfile::tempdir().unwrap();
    let options = with_policy(ProducerPolicy::default().sequence_rule(SequenceRule::Increasing));
    let dir = LogDir::open(data.path(), options.clone()).unwrap();
    let mut log = dir.partition("orders", 0).unwrap();
    for sequence in 0..10 {
        log.append(&batch(7, 0, sequence, 1)).unwrap();
    }
    let unnumbered =
        record().producer(ProducerId(7), ProducerEpoch(0), Sequence::NONE).timestamp(Timestamp(NOW));
    let coordinator = AppendOptions::default().origin(Origin::Coordinator);
    log.submit(&[unnumbered.build().unwrap()], coordinator).unwrap().wait().unwrap();
    for reopened in [false, true] {
        if reopened {
            dir.close().unwrap();
            let report = verify(data.path(), &VerifyOptions::default()).unwrap();
            assert!(report.problems.is_empty(), "{report:?}");
            log = LogDir::open(data.path(), options.clone()).unwrap().partition("orders", 0).unwrap();
        }
        assert!(log.append(&batch(7, 0, 2, 1)).unwrap().is_duplicate());
        let known = log.producer(ProducerId(7)).unwrap();
        assert_eq!(known.batches.last().unwrap().last_sequence, Sequence(9));
        assert_eq!(known.last_timestamp, Timestamp(NOW), "it counts as an append");
    }
    log.append(&batch(7, 0, 10, 1)).unwrap();
}

/// A producer went on counting where it was before the partition was deleted, and the new one refused all it sent, for ever.
#[test]
fn a_producer_begins_again_in_a_partition_that_was_deleted_and_created_again() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    let producer = dir.producer("sensor").unwrap();
    for _ in 0..2 {
        let log = dir.partition("orders", 0).unwrap();
        for offset in 0..3 {
            assert_eq!(producer.append(&log, record()).unwrap().offsets().unwrap().first, Offset(offset));
        }
        dir.delete_partition("orders", 0).unwrap();
        assert!(matches!(producer.append(&log, record()), Err(Error::Gone)));
        // Only the partition itself can say that this one is for nothing.
        let log = dir.partition("orders", 0).unwrap();
        assert!(matches!(producer.append(&log, record()), Err(Error::Unsettled)));
        assert_eq!(reason(producer.retry(&log)), RejectionReason::NewLogNotAtZero);
    }
}

/// Behind a truncation, too, everything was refused for ever.
#[test]
fn a_producer_goes_on_behind_what_a_truncation_left_of_it() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let producer = dir.producer("sensor").unwrap();
    for target in [1, 0] {
        for _ in 0..3 {
            producer.append(&log, record()).unwrap();
        }
        log.truncate_to(Offset(target)).unwrap();
        reason(producer.append(&log, record()));
        assert_eq!(producer.append(&log, record()).unwrap().offsets().unwrap().first, Offset(target));
    }
}

/// What is in doubt belongs to the partition, not to the handle: it is stored once, also through one of the next opening.
#[test]
fn a_batch_in_doubt_is_stored_once_also_when_the_directory_is_opened_again() {
    let data = tempfile::tempdir().unwrap();
    let dir = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap();
    let producer = dir.producer("sensor").unwrap();
    let log = dir.partition("orders", 0).unwrap();
    producer.append(&log, record()).unwrap();
    dir.close().unwrap();
    assert!(matches!(producer.append(&log, record()), Err(Error::Closed)));
    drop((dir, log));
    let log = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap().partition("orders", 0).unwrap();
    assert!(matches!(producer.append(&log, record()), Err(Error::Unsettled)));
    assert_eq!(producer.retry(&log).unwrap().unwrap().offsets().unwrap().first, Offset(1));
    assert!(producer.retry(&log).unwrap().is_none());
    assert_eq!(producer.append(&log, record()).unwrap().offsets().unwrap().first, Offset(2));
}

/// A batch was in doubt when the options came to forbid it: it counted as not stored, and the records that were sent next, under its
/// sequence, as the same again. They were acknowledged and not stored.
#[test]
fn records_behind_a_batch_that_the_options_came_to_forbid_are_stored() {
    let disk = SimDisk::new(IoMode::Write);
    let in_memory = LogDirOptions::default().disk(Arc::new(disk.clone())).log(small(IoMode::Write));
    let dir = LogDir::open(Path::new("/data"), in_memory).unwrap();
    let log = dir.partition("t", 0).unwrap();
    let producer = dir.producer("name").unwrap();
    // Its segment gets no name.
    disk.inject(Fault::nth(Operation::Rename, 1));
    let doubtful = producer.append(&log, record().record("k", vec![7; 2000]));
    disk.clear_faults();
    assert!(matches!(doubtful, Err(Error::Io(_))), "{doubtful:?}");
    let end = log.log_end_offset();
    assert!(end > Offset(0));
    log.set_options((*log.options()).clone().max_batch_bytes(1024)).unwrap();
    assert!(matches!(producer.retry(&log), Err(Error::InvalidBatch(_))));
    let next = producer.append(&log, record().record("k", "other")).unwrap();
    assert!(!next.is_duplicate());
    assert_eq!(next.base_offset(), end);
}

/// Each name was looked for in each partition at an opening, which took the product of the two. Now the fewer are gone through:
/// the names, or the producers that a partition knows.
#[test]
fn an_opening_fences_names_in_partitions_that_know_few_producers_and_many() {
    let disk = SimDisk::new(IoMode::Mapped);
    let open = || LogDir::open(Path::new("/data"), options(IoMode::Mapped).disk(Arc::new(disk.clone())));
    let dir = open().unwrap();
    let (few, many) = (dir.partition("few", 0).unwrap(), dir.partition("many", 0).unwrap());
    let named = ["a", "b", "c"].map(|name| dir.producer(name).unwrap());
    named[0].append(&few, record()).unwrap();
    for producer in &named {
        producer.append(&many, record()).unwrap();
    }
    for id in 100..105 {
        many.append(&first_of(id).build().unwrap()).unwrap();
    }
    let _next = ["a", "b", "c"].map(|name| dir.producer(name).unwrap());
    dir.close().unwrap();

    let dir = open().unwrap();
    let epoch = |topic, producer: &Producer| {
        dir.partition(topic, 0).unwrap().producer(producer.id()).map(|known| known.epoch.0)
    };
    assert_eq!(named.each_ref().map(|producer| epoch("few", producer)), [Some(1), None, None]);
    assert_eq!(named.each_ref().map(|producer| epoch("many", producer)), [Some(1); 3]);
}

/// The names were read behind the partitions, when the marker of the clean shutdown was gone already.
#[test]
fn a_directory_whose_names_cannot_be_read_stays_as_it_was_closed() {
    let data = tempfile::tempdir().unwrap();
    let dir = common::open(data.path(), IoMode::Mapped);
    dir.producer("a").unwrap();
    dir.close().unwrap();
    common::change(&data.path().join("idemlog-named-producers"), |bytes| bytes[20] ^= 1);
    let refused = LogDir::open(data.path(), options(IoMode::Mapped)).unwrap_err();
    assert!(matches!(refused, Error::Corrupt(_)), "{refused}");
    assert!(data.path().join(".kafka_cleanshutdown").exists());
}

/// All were copied under the append lock: with a million of them appends stood still for a third of a second. Now they are told in
/// steps, with appends, evictions and truncations in between.
#[test]
fn who_is_known_all_the_time_is_told_once_whatever_happens_meanwhile() {
    const STAYING: std::ops::Range<i64> = 300..800;
    let data = tempfile::tempdir().unwrap();
    let policy = ProducerPolicy::default().budget(900).eviction_min_idle_ms(1);
    let log = small(IoMode::Mapped).durability(Durability::Buffered).producers(policy).segment_bytes(1 << 20);
    let clock = TestClock::at(NOW);
    let dir = LogDir::open(data.path(), LogDirOptions::default().log(log).clock(clock.clone())).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    for id in 0..STAYING.end {
        // Who has an open transaction is not forgotten.
        let first = first_of(id).timestamp(Timestamp(NOW));
        let first = if STAYING.contains(&id) { first.transactional() } else { first };
        log.append(&first.build().unwrap()).unwrap();
    }
    let end = log.log_end_offset();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in STAYING.end.. {
                clock.advance(1000);
                log.append(&first_of(id).timestamp(Timestamp(NOW)).build().unwrap()).unwrap();
                if id % 300 == 0 {
                    // The table is another one afterwards, in another order.
                    log.truncate_to(end).unwrap();
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..1000 {
            let ids: Vec<_> = log.producers().iter().map(|producer| producer.producer_id.0).collect();
            assert!(ids.is_sorted_by(|one, other| one < other));
            assert_eq!(ids.iter().filter(|id| STAYING.contains(id)).count(), 500);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A partition that came from elsewhere under an open directory knew ids which that directory then gave out once more: the first
/// batch of a new client was answered as a duplicate, and not stored. And so it was where peers knew what an empty disk did not.
#[test]
fn an_id_that_a_partition_brings_along_or_peers_know_is_not_given_out() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = open(other.path(), mode);
        dir.partition("t", 0).unwrap().append(&batch(5, 0, 0, 1)).unwrap();
        dir.close().unwrap();
        let dir = open(one.path(), mode);
        std::fs::rename(other.path().join("t-0"), one.path().join("t-0")).unwrap();
        dir.partition("t", 0).unwrap();
        assert_eq!(dir.new_producer_id().unwrap(), ProducerId(6), "{mode:?}");

        dir.pass_producer_id(ProducerId(5_000)).unwrap();
        drop(dir); // killed
        let options = options(mode).producer_ids(ProducerId(0)..ProducerId(10_000));
        let dir = LogDir::open(one.path(), options).unwrap();
        assert_eq!(dir.new_producer_id().unwrap(), ProducerId(5_001), "{mode:?}");
        for id in [4, 10_000, i64::MAX] {
            dir.pass_producer_id(ProducerId(id)).unwrap();
        }
        assert_eq!(dir.new_producer_id().unwrap(), ProducerId(5_002), "{mode:?}");
    }
}
