//! Replicas of a partition: elections, old leaders that are refused, and what is acknowledged for all of them.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use common::{MODES, TestClock, batch, change, open, options, plain, stored};
use idemlog::{
    AppendOptions, Batch, BatchBuilder, ControlRecord, Durability, Error, ErrorCode, IoMode, LeaderEpoch,
    Log, LogDir, Offset, Origin, ProducerEpoch, ProducerId, ProducerInfo, ProducerStates, RecordCheck,
    Replicated, Timestamp, UncheckedBatch,
};

/// Longer than anything takes that does not hang.
const LONG: Duration = Duration::from_secs(30);

/// Copies what `to` lacks.
fn follow(from: &Log, to: &Log) {
    while to.log_end_offset() < from.log_end_offset() {
        let fetched = from.read_to_log_end(to.log_end_offset().max(from.log_start_offset()), 600).unwrap();
        let check = |batch: UncheckedBatch<_>| batch.check(RecordCheck::Header, 0).unwrap();
        let batches: Vec<_> = fetched.lent_batches().map(|batch| check(batch.unwrap())).collect();
        to.submit(&batches, AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
    }
}

/// A new leader knew only the epochs of its batches, and had no answer for a follower that had heard from the leader in
/// between: the follower kept its batches, and those of the new leader came in behind them or not at all.
#[test]
fn a_new_leader_answers_for_the_epochs_that_it_has_missed_before_it_stores_anything() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leading, following) = (open(one.path(), mode), open(other.path(), mode));
        let (leader, follower) = (leading.partition("t", 0).unwrap(), following.partition("t", 0).unwrap());
        leader.set_leader_epoch(LeaderEpoch(3));
        leader.append(&plain("of both")).unwrap();
        follow(&leader, &follower);
        follower.set_leader_epoch(LeaderEpoch(4));
        follower.append(&plain("of nobody else")).unwrap();

        leader.set_leader_epoch(LeaderEpoch(5));
        let ends =
            |epoch| leader.end_offset_for_epoch(LeaderEpoch(epoch)).map(|(epoch, end)| (epoch.0, end.0));
        assert_eq!(ends(4), Some((3, 1)), "{mode:?}");
        assert_eq!(ends(5), Some((5, 1)), "{mode:?}: what a consumer asks that knows who leads");
        assert_eq!((ends(6), ends(-1)), (None, None), "{mode:?}");
        let (epoch, end) = leader.end_offset_for_epoch(LeaderEpoch(4)).unwrap();
        let (own_epoch, own_end) = follower.end_offset_for_epoch(epoch).unwrap();
        assert_eq!(own_epoch, epoch);
        follower.truncate_to(end.min(own_end)).unwrap();

        leader.append(&plain("of the new leader")).unwrap();
        follow(&leader, &follower);
        assert_eq!(stored(&follower), stored(&leader), "{mode:?}");
        assert_eq!(follower.leader_epochs(), [(LeaderEpoch(3), Offset(0)), (LeaderEpoch(5), Offset(1))]);
        assert_eq!((ends(4), ends(5)), (Some((3, 1)), Some((5, 2))), "{mode:?}: as before it had stored any");
    }
}

/// Nothing on the disk tells of a leader epoch without a batch; nor does Kafka's file, when it is loaded.
#[test]
fn a_leader_epoch_without_a_batch_is_told_again_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!(
            log.end_offset_for_epoch(LeaderEpoch(0)),
            Some((LeaderEpoch(0), Offset(0))),
            "a new topic"
        );
        log.set_leader_epoch(LeaderEpoch(3));
        log.append(&plain("v")).unwrap();
        log.set_leader_epoch(LeaderEpoch(5));
        dir.close().unwrap();

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!(log.end_offset_for_epoch(LeaderEpoch(4)), None, "{mode:?}");
        log.set_leader_epoch(LeaderEpoch(5));
        log.set_leader_epoch(LeaderEpoch(2));
        assert_eq!(log.leader_epoch(), LeaderEpoch(5), "{mode:?}: a lower one is ignored");
        assert_eq!(log.end_offset_for_epoch(LeaderEpoch(4)), Some((LeaderEpoch(3), Offset(1))), "{mode:?}");
        log.truncate_to(Offset(0)).unwrap();
        assert_eq!(log.end_offset_for_epoch(LeaderEpoch(4)), Some((LeaderEpoch(4), Offset(0))), "{mode:?}");
    }
}

/// The log stamped what came with an epoch that was over with its latest one: two replicas then held different bytes under
/// the same epoch and offset, which no look at epochs finds.
#[test]
fn what_a_deposed_leader_still_stores_is_refused_and_no_epoch_is_raised() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leading, following) = (open(one.path(), mode), open(other.path(), mode));
        let (leader, log) = (leading.partition("t", 0).unwrap(), following.partition("t", 0).unwrap());
        let of_epoch = |epoch| AppendOptions::default().leader_epoch(LeaderEpoch(epoch));
        let first = batch(1, 0, 0, 1);
        log.submit(std::slice::from_ref(&first), of_epoch(3)).unwrap().wait().unwrap();
        follow(&log, &leader);
        leader.submit(&[plain("of epoch 4")], of_epoch(4)).unwrap().wait().unwrap();
        follow(&leader, &log);

        let refused = |options, batch, latest| {
            let before = stored(&log);
            let refusal = log.try_submit(&[batch], options).unwrap_err();
            assert!(
                matches!(refusal, Error::StaleLeaderEpoch { latest: LeaderEpoch(it), got: LeaderEpoch(3) } if it == latest),
                "{mode:?} {refusal:?}"
            );
            assert_eq!((refusal.code(), refusal.code().number()), (ErrorCode::NotLeaderOrFollower, 6));
            assert_eq!(stored(&log), before);
        };
        refused(of_epoch(3), batch(1, 0, 1, 1), 4);
        refused(of_epoch(3), first.clone(), 4); // who leads now says whether it is stored
        refused(of_epoch(3).origin(Origin::Coordinator), plain("group"), 4);
        log.submit(&[batch(1, 0, 1, 1)], of_epoch(4)).unwrap().wait().unwrap();
        log.set_leader_epoch(LeaderEpoch(6)); // no batch tells of it yet
        refused(of_epoch(3), batch(1, 0, 2, 1), 6);

        let marker = ControlRecord::Commit { coordinator_epoch: 0 };
        log.end_transaction(ProducerId(1), ProducerEpoch(0), marker).unwrap();
        log.append(&plain("without an epoch of its own")).unwrap();
        let latest = || log.leader_epochs().last().map(|(epoch, _)| epoch.0);
        assert_eq!(latest(), Some(6), "{mode:?}: without an epoch of its own an append has the log's");
        log.submit(&[plain("of epoch 8")], of_epoch(8)).unwrap().wait().unwrap();
        log.append(&plain("behind it")).unwrap();
        let last = log.read(log.log_end_offset() + -1, 1).unwrap().batches().next().unwrap().unwrap();
        assert_eq!(last.header().leader_epoch, LeaderEpoch(8), "{mode:?}");
    }
}

/// Begins an empty replica where the batches of its leader begin, and copies them.
fn follow_from_the_start(from: &Log, to: &Log) {
    let states = from.export_producers_at(from.log_start_offset()).unwrap();
    to.truncate_fully(states.offset).unwrap();
    to.import_producers(&states).unwrap();
    follow(from, to);
    to.set_high_watermark(from.high_watermark());
    to.delete_records(from.log_start_offset()).unwrap();
}

/// What `log` knows of its producers, but for when it saw them last.
fn known(log: &Log) -> Vec<ProducerInfo> {
    let unseen = |mut producer: ProducerInfo| {
        producer.last_seen = Timestamp(0);
        producer
    };
    log.producers().into_iter().map(unseen).collect()
}

/// A leader's log whose head is deleted, up to the middle of a batch. The batches of producer 1 are gone with their
/// segments, that of producer 2 is cut into by the log start, producer 3 has the rest.
fn without_a_head(dir: &LogDir) -> Log {
    let log = dir.partition("t", 0).unwrap();
    let append = |batch| log.append(&batch).map(drop).unwrap();
    (0..3).for_each(|at| append(batch(1, 0, at, 1)));
    log.roll().unwrap();
    append(batch(3, 0, 0, 1));
    append(batch(2, 0, 0, 4));
    (1..60).for_each(|at| append(batch(3, 0, at, 1)));
    log.delete_records(Offset(6)).unwrap();
    assert_eq!(log.apply_retention().unwrap(), 1);
    log
}

/// What a replica knew of producers could only be had as of the leader's end: one that copied the batches that the leader
/// still has knew nothing of who had sent those before, and stored a second time what its leader had answered as a duplicate.
#[test]
fn a_replica_that_begins_late_answers_every_duplicate_that_its_leader_answers() {
    for mode in MODES {
        let data = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let dirs = data.each_ref().map(|data| open(data.path(), mode));
        let leader = without_a_head(&dirs[0]);
        let follower = dirs[1].partition("t", 0).unwrap();
        follow_from_the_start(&leader, &follower);
        let again = || [batch(1, 0, 2, 1), batch(2, 0, 0, 4), batch(3, 0, 59, 1)];
        let same = |one: &Log, other: &Log, what: &str| {
            assert_eq!(known(one), known(other), "{mode:?} {what}");
            assert_eq!(stored(one), stored(other), "{mode:?} {what}");
            assert_eq!(one.log_start_offset(), other.log_start_offset(), "{mode:?} {what}");
            for batch in again() {
                let outcomes = [one, other].map(|log| log.append(&batch).unwrap());
                assert!(outcomes[0].is_duplicate(), "{mode:?} {what} {outcomes:?}");
                assert_eq!(outcomes[0].offsets(), outcomes[1].offsets(), "{mode:?} {what}");
            }
        };
        same(&follower, &leader, "copied");

        let [_leading, following, another] = dirs;
        following.close().unwrap();
        let dir = open(data[1].path(), mode);
        let follower = dir.partition("t", 0).unwrap();
        same(&follower, &leader, "after a restart");
        let third = another.partition("t", 0).unwrap();
        follow_from_the_start(&follower, &third);
        same(&third, &leader, "a replica of the replica");
        drop((third, another)); // killed
        let dir = open(data[2].path(), mode);
        same(&dir.partition("t", 0).unwrap(), &leader, "after a kill");
    }
}

/// The batch that the log start lies in begins below: a follower that begins at the log start cannot take it.
#[test]
fn producers_are_exported_as_of_the_batch_that_holds_the_offset() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // Both exports say when each producer was seen.
        let at_a_time = |path| LogDir::open(path, options(mode).clock(TestClock::at(1_000_000))).unwrap();
        let (leading, following) = (at_a_time(one.path()), at_a_time(other.path()));
        let (leader, follower) = (without_a_head(&leading), following.partition("t", 0).unwrap());
        let at = |offset: i64| leader.export_producers_at(Offset(offset));
        let begins = [6, 7, 8, 9].map(|offset| at(offset).unwrap().offset.0);
        assert_eq!(begins, [4, 4, 8, 9], "{mode:?}");
        let end = leader.log_end_offset();
        let ids = |states: &ProducerStates| {
            follower.truncate_fully(states.offset).unwrap();
            follower.import_producers(states).unwrap();
            known(&follower).iter().map(|producer| producer.producer_id.0).collect::<Vec<_>>()
        };
        assert_eq!((ids(&at(6).unwrap()), ids(&at(8).unwrap())), (vec![1, 3], vec![1, 2, 3]), "{mode:?}");
        assert_eq!(at(end.0).unwrap(), leader.export_producers(), "{mode:?}");
        for outside in [5, end.0 + 1] {
            let refused = at(outside);
            assert!(
                matches!(refused, Err(Error::OffsetOutOfRange { got, start: Offset(6), end: it }) if got.0 == outside && it == end),
                "{mode:?} {refused:?}"
            );
        }

        follower.truncate_fully(Offset(6)).unwrap();
        let fetched = leader.read(Offset(6), 1).unwrap();
        let first = fetched.batches().next().unwrap().unwrap().check(RecordCheck::Header, 0).unwrap();
        let replicated = AppendOptions::default().origin(Origin::Replication);
        let refused = follower.submit(&[first], replicated).unwrap_err();
        assert!(
            matches!(refused, Error::UnexpectedOffset { expected: Offset(6), got: Offset(4) }),
            "{refused}"
        );
    }
}

/// A snapshot that covers deleted batches is all that tells of their producers.
#[test]
fn producers_are_not_exported_without_those_that_a_damaged_snapshot_knows() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = without_a_head(&dir);
        log.export_producers_at(log.log_start_offset()).unwrap();
        let path = log.directory().join("00000000000000000003.snapshot");
        change(&path, |bytes| bytes[20] ^= 1);
        let refused = log.export_producers_at(log.log_start_offset());
        assert!(matches!(&refused, Err(Error::Corrupt(found)) if found.path == path), "{mode:?} {refused:?}");
        dir.close().unwrap();
        let refused = log.export_producers_at(log.log_start_offset());
        assert!(matches!(refused, Err(Error::Closed)), "{mode:?} {refused:?}");
    }
}

/// Stores a batch for all replicas.
fn for_all(log: &Log, batch: Batch, options: AppendOptions) -> Replicated {
    log.submit(&[batch], options).unwrap().replicated()
}

fn is_replicated(replicated: &Replicated) -> bool {
    replicated.wait(Duration::ZERO).unwrap()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Arc::new(Unpark(thread::current())).into()))
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        match poll(future.as_mut()) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(LONG),
        }
    }
}

#[test]
fn what_all_replicas_have_is_acknowledged_and_a_duplicate_with_its_original() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        for durability in [Durability::Synced, Durability::Buffered] {
            let (options, end) = (AppendOptions::default().durability(durability), log.log_end_offset());
            log.set_high_watermark(end);
            let sequence = end.0 as i32;
            let first = for_all(&log, batch(1, 0, sequence, 1), options);
            let other = for_all(&log, batch(1, 0, sequence + 1, 1), options);
            let again = for_all(&log, batch(1, 0, sequence, 1), options);
            assert!(again.outcomes()[0].is_duplicate());
            log.sync().unwrap();
            assert!(!is_replicated(&first) && !is_replicated(&again), "{mode:?}: durable here alone");
            log.set_high_watermark(end + 1);
            assert!(is_replicated(&first) && is_replicated(&again) && !is_replicated(&other), "{mode:?}");
            log.set_high_watermark(end + 2);
            assert_eq!(block_on(other).unwrap()[0].base_offset(), end + 1, "{mode:?}");
        }
    }
}

/// The high watermark follows the disk where no host sets it, and nobody synced: the wait was for nothing.
#[test]
fn without_other_replicas_a_buffered_batch_waits_for_the_disk() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Write);
    let log = dir.partition("t", 0).unwrap();
    let buffered = || AppendOptions::default().durability(Durability::Buffered);
    let awaited = for_all(&log, plain("v"), buffered());
    assert!(matches!(poll(pin!(awaited)), Poll::Ready(Err(Error::NoSyncer))));
    assert!(for_all(&log, plain("v"), buffered()).wait(Duration::ZERO).unwrap());
    assert_eq!(log.durable_offset(), Offset(2));
}

#[test]
fn a_batch_for_all_replicas_is_as_durable_as_asked_too() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Write);
    let log = dir.partition("t", 0).unwrap();
    let buffered = for_all(&log, plain("v"), AppendOptions::default().durability(Durability::Buffered));
    let synced = for_all(&log, plain("v"), AppendOptions::default());
    log.set_high_watermark(Offset(2));
    assert!(is_replicated(&buffered));
    assert_eq!(log.durable_offset(), Offset(0), "nobody has synced");
    assert!(matches!(poll(pin!(synced)), Poll::Ready(Err(Error::NoSyncer))));
    let waited = for_all(&log, plain("v"), AppendOptions::default());
    log.set_high_watermark(Offset(3));
    assert!(is_replicated(&waited));
    assert_eq!(log.durable_offset(), Offset(3), "who waits syncs");
}

/// The high watermark passed another batch that had the offset by then, and who waited for that offset acknowledged a batch
/// that was lost.
#[test]
fn a_batch_that_was_truncated_is_never_acknowledged_for_another_at_its_offset() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.set_high_watermark(Offset(0));
        let stays = for_all(&log, plain("stays"), AppendOptions::default());
        let lost = || for_all(&log, plain("lost"), AppendOptions::default());
        let (blocking, mut future) = (lost(), pin!(lost()));
        log.sync().unwrap();
        assert!(poll(future.as_mut()).is_pending());
        thread::scope(|scope| {
            let waiting = scope.spawn(|| blocking.wait(LONG));
            thread::sleep(Duration::from_millis(20));
            log.truncate_to(Offset(1)).unwrap();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Truncated)), "{mode:?}: told at once");
        });
        let others = [1, 2].map(|_| for_all(&log, plain("others"), AppendOptions::default()));
        log.set_high_watermark(Offset(3));
        assert!(others.iter().all(|other| other.wait(LONG).unwrap()) && is_replicated(&stays), "{mode:?}");
        assert!(matches!(blocking.wait(LONG), Err(Error::Truncated)), "{mode:?}");
        assert!(matches!(block_on(future), Err(Error::Truncated)), "{mode:?}");
    }
}

#[test]
fn who_waits_for_replicas_is_woken_by_the_high_watermark_and_by_the_end() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.set_high_watermark(Offset(0));
        let [first, second, third, fourth] =
            [1, 2, 3, 4].map(|_| for_all(&log, plain("v"), AppendOptions::default()));
        thread::scope(|scope| {
            let waiting = (scope.spawn(|| first.wait(LONG)), scope.spawn(|| block_on(second)));
            thread::sleep(Duration::from_millis(20));
            log.set_high_watermark(Offset(2));
            assert!(waiting.0.join().unwrap().unwrap() && waiting.1.join().unwrap().is_ok(), "{mode:?}");

            let waiting = (scope.spawn(|| third.wait(LONG)), scope.spawn(|| block_on(fourth)));
            thread::sleep(Duration::from_millis(20));
            dir.close().unwrap();
            assert!(matches!(waiting.0.join().unwrap(), Err(Error::InDoubt)), "{mode:?}");
            assert!(matches!(waiting.1.join().unwrap(), Err(Error::InDoubt)), "{mode:?}");
        });
        assert!(is_replicated(&first), "{mode:?}: what was is");
    }
}

/// Two directories gave out the same ids. When the one came to lead a partition of the other, a new client's first batch was
/// answered as a duplicate of an older client's, and not stored.
#[test]
fn a_new_client_of_the_next_leader_is_never_taken_for_one_of_the_last() {
    for mode in MODES {
        let data = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let of = |broker: usize| {
            let range = ProducerId(1000 * broker as i64)..ProducerId(1000 * (broker as i64 + 1));
            LogDir::open(data[broker].path(), options(mode).producer_ids(range)).unwrap()
        };
        let mut dirs = [of(0), of(1)];
        let first_of_a_client = |dir: &LogDir| {
            let id = dir.new_producer_id().unwrap();
            (id, dir.partition("t", 0).unwrap().append(&batch(id.0, 0, 0, 1)).unwrap())
        };
        let mut given = Vec::new();
        for (leads, follows) in [(0, 1), (1, 0), (0, 1), (1, 0)] {
            let (id, outcome) = first_of_a_client(&dirs[leads]);
            assert!(!outcome.is_duplicate(), "{mode:?} {id}");
            given.push(id.0);
            follow(&dirs[leads].partition("t", 0).unwrap(), &dirs[follows].partition("t", 0).unwrap());
            if leads == 1 {
                // Also where nothing but the partitions tells which ids were given out, each goes on in its range.
                dirs.iter().for_each(|dir| dir.close().unwrap());
                drop(dirs);
                let file = |data: &tempfile::TempDir| data.path().join("idemlog-producer-ids");
                data.iter().for_each(|data| std::fs::remove_file(file(data)).unwrap());
                dirs = [of(0), of(1)];
            }
        }
        assert_eq!(given, [0, 1000, 1, 1001], "{mode:?}");
    }
}

#[test]
fn a_range_of_producer_ids_that_cannot_be_given_out_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let open = |range| LogDir::open(data.path(), options(IoMode::Write).producer_ids(range));
    open(ProducerId(5)..ProducerId(7)).unwrap().new_producer_id().unwrap();
    let first = open(ProducerId(10)..ProducerId(11)).unwrap();
    assert_eq!(first.new_producer_id().unwrap(), ProducerId(10));
    assert!(matches!(first.new_producer_id(), Err(Error::ProducerIdsExhausted)));
    drop(first);
    for (start, end) in [(-1, 5), (5, 5), (6, 5), (0, 10)] {
        let refused = open(ProducerId(start)..ProducerId(end));
        assert!(
            matches!(refused, Err(Error::InvalidOption { option: "producer_ids", .. })),
            "{start}..{end}"
        );
    }
}

/// The first segment of a log begins with its first batch where that is too far from the log start. The snapshot that was
/// taken over lay in front of it, went with the next one, and whoever truncated knew nothing of the producers any more.
#[test]
fn producers_that_were_taken_over_in_front_of_a_wide_gap_are_known_after_a_truncation() {
    for mode in MODES {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (leading, following) = (open(one.path(), mode), open(other.path(), mode));
        let (leader, follower) = (leading.partition("t", 0).unwrap(), following.partition("t", 0).unwrap());
        leader.append(&batch(1, 0, 0, 1)).unwrap();
        let states = leader.export_producers();
        follower.truncate_fully(states.offset).unwrap();
        follower.import_producers(&states).unwrap();
        let replicated = AppendOptions::default().origin(Origin::Replication);
        for offset in [1 << 33, (1 << 33) + 1] {
            let far = BatchBuilder::new().record("k", "v").base_offset(Offset(offset)).build().unwrap();
            follower.submit(&[far], replicated).unwrap().wait().unwrap();
        }
        follower.roll().unwrap();
        following.close().unwrap();

        let dir = open(other.path(), mode);
        let follower = dir.partition("t", 0).unwrap();
        follower.truncate_to(Offset((1 << 33) + 1)).unwrap();
        assert!(follower.append(&batch(1, 0, 0, 1)).unwrap().is_duplicate(), "{mode:?}");
    }
}
