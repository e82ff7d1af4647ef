//! Replicas of a partition: elections, old leaders that are refused, and what is acknowledged for all of them.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use common::{MODES, batch, open, plain, stored};
use idemlog::{
    AppendOptions, ControlRecord, Error, ErrorCode, LeaderEpoch, Log, Offset, Origin, ProducerEpoch,
    ProducerId, RecordCheck, UncheckedBatch,
};

/// Copies what `to` lacks.
fn follow(from: &Log, to: &Log) {
    while to.log_end_offset() < from.log_end_offset() {
        let fetched = from.read(to.log_end_offset().max(from.log_start_offset()), 600).unwrap();
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
            assert_eq!((refusal.code(), refusal.code().number()), (ErrorCode::FencedLeaderEpoch, 74));
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
