//! The coordinator over real logs, started again and again.

use idemlog::TransactionVersion::V1;
use idemlog::{AppendOptions, Batch, BatchBuilder, Log, ProducerId, Sequence};

use super::*;

const NAME: &str = "payments";
const TIMEOUT_MS: i32 = 60_000;

fn open(data: &tempfile::TempDir) -> (LogDir, Coordinator) {
    let dir = LogDir::open(data.path(), crate::server::options()).unwrap();
    let coordinator = Coordinator::open(dir.clone()).unwrap();
    (dir, coordinator)
}

fn state(coordinator: &Coordinator) -> Transaction {
    coordinator.with(NAME, |state| Ok(state.clone())).unwrap()
}

/// Changes a state in memory.
fn change(coordinator: &Coordinator, change: impl FnOnce(&mut Transaction)) {
    let changed = coordinator.with(NAME, |state| {
        change(state);
        Ok(())
    });
    changed.unwrap();
}

fn batch(owner: Owner, sequence: i32) -> Batch {
    let builder = BatchBuilder::new().producer(owner.id, owner.epoch, Sequence(sequence));
    builder.transactional().record(b"k", b"v").build().unwrap()
}

/// Begins a transaction in a partition, and tells the coordinator first.
fn write(coordinator: &Coordinator, owner: Owner, log: &Log) {
    coordinator.add(NAME, owner, &BTreeSet::from([log.name().clone()])).unwrap();
    let guard = log.begin_verification(owner.id, owner.epoch, Sequence(0), V1).unwrap().unwrap();
    let options = AppendOptions::default().verification(guard);
    log.submit(&[batch(owner, 0)], options).unwrap().wait().unwrap();
    assert!(log.first_undecided_offset().is_some());
}

#[test]
fn a_start_finds_what_the_one_before_has_written_and_has_a_higher_epoch() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let mut owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    write(&coordinator, owner, &log);
    coordinator.end(NAME, owner, Outcome::Commit).unwrap();
    let (mut before, mut epoch) = (state(&coordinator), coordinator.journal.coordinator_epoch());
    dir.close().unwrap();
    for _ in 0..3 {
        let (dir, coordinator) = open(&data);
        assert_eq!(state(&coordinator), before);
        assert!(coordinator.journal.coordinator_epoch() > epoch);
        let next = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
        assert_eq!((next.id, next.epoch.0), (owner.id, owner.epoch.0 + 1));
        (owner, before, epoch) = (next, state(&coordinator), coordinator.journal.coordinator_epoch());
        dir.close().unwrap();
    }
}

#[test]
fn a_transaction_that_was_decided_before_a_crash_is_ended_by_the_next_start() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let data = tempfile::tempdir().unwrap();
        let (dir, coordinator) = open(&data);
        let logs = [0, 1].map(|partition| dir.partition("orders", partition).unwrap());
        let owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
        logs.iter().for_each(|log| write(&coordinator, owner, log));
        let decided = state(&coordinator).ending(owner, outcome).unwrap().unwrap();
        coordinator.write(NAME, &decided).unwrap();
        // As a crash in between leaves it: the first partition has its marker.
        let marker = coordinator.submit_marker(logs[0].name(), owner, outcome).unwrap();
        wait_for_marker(marker).unwrap();
        dir.close().unwrap();

        let (dir, coordinator) = open(&data);
        assert_eq!(state(&coordinator).phase, Phase::Ended(outcome));
        for partition in [0, 1] {
            let log = dir.partition("orders", partition).unwrap();
            assert_eq!(log.last_stable_offset(), log.log_end_offset());
            let read = log.reader(log.log_start_offset()).unwrap().committed().count();
            assert_eq!(read, usize::from(outcome == Outcome::Commit));
        }
        coordinator.end(NAME, owner, outcome).unwrap();
        dir.close().unwrap();
    }
}

#[test]
fn the_next_owner_aborts_what_the_last_one_left_open() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let first = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    write(&coordinator, first, &log);
    let second = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    assert_eq!(
        (second.id, second.epoch.0),
        (first.id, first.epoch.0 + 2),
        "the markers took the one between"
    );
    assert_eq!(log.last_stable_offset(), log.log_end_offset());
    assert_eq!(coordinator.end(NAME, first, Outcome::Commit), Err(ResponseError::ProducerFenced));
}

#[test]
fn an_owner_that_comes_back_in_a_transaction_of_its_own_aborts_it_and_may_ask_again() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let before = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    write(&coordinator, before, &log);
    for _ in 0..2 {
        let owner = coordinator.next_owner(NAME, Some(before), TIMEOUT_MS).unwrap();
        assert_eq!((owner.id, owner.epoch.0), (before.id, before.epoch.0 + 2));
        assert_eq!(log.first_undecided_offset(), None);
    }
}

#[test]
fn a_batch_that_was_confirmed_before_its_transaction_ended_does_not_begin_it_again() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    coordinator.add(NAME, owner, &BTreeSet::from([log.name().clone()])).unwrap();
    let guard = log.begin_verification(owner.id, owner.epoch, Sequence(0), V1).unwrap().unwrap();
    coordinator.confirm(NAME, owner, log.name()).unwrap();
    coordinator.end(NAME, owner, Outcome::Commit).unwrap();
    let late = log.submit(&[batch(owner, 0)], AppendOptions::default().verification(guard));
    assert_eq!(late.unwrap_err().code(), idemlog::ErrorCode::InvalidTxnState);
    assert_eq!(log.first_undecided_offset(), None);
}

#[test]
fn only_what_is_overdue_is_aborted_and_its_producer_fenced() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let owner = coordinator.next_owner(NAME, None, 100).unwrap();
    write(&coordinator, owner, &log);
    change(&coordinator, |state| state.timeout_ms = TIMEOUT_MS);
    coordinator.tick();
    assert_eq!(state(&coordinator).phase, Phase::Ongoing);
    change(&coordinator, |state| state.timeout_ms = 0);
    coordinator.tick();
    assert_eq!(state(&coordinator).phase, Phase::Ended(Outcome::Abort));
    assert_eq!(log.last_stable_offset(), log.log_end_offset());
    assert_eq!(coordinator.end(NAME, owner, Outcome::Abort), Err(ResponseError::ProducerFenced));
    assert_eq!(coordinator.next_owner(NAME, Some(owner), 100), Err(ResponseError::ProducerFenced));
}

#[test]
fn a_partition_that_was_deleted_does_not_keep_a_transaction_from_its_end() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let log = dir.partition("orders", 0).unwrap();
    let owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    write(&coordinator, owner, &log);
    dir.delete_partition("orders", 0).unwrap();
    coordinator.end(NAME, owner, Outcome::Commit).unwrap();
    assert_eq!(state(&coordinator).phase, Phase::Ended(Outcome::Commit));
}

/// The markers were written one after the other, and those behind one that failed were not.
#[test]
fn a_marker_that_cannot_be_written_does_not_keep_other_partitions_waiting() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let logs = [0, 1].map(|partition| dir.partition("orders", partition).unwrap());
    let owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    logs.iter().for_each(|log| write(&coordinator, owner, log));
    let later = Outcome::Commit.marker(i32::MAX);
    logs[0].end_transaction(owner.id, owner.epoch, later).unwrap();
    let ended = coordinator.end(NAME, owner, Outcome::Commit);
    assert_eq!(ended, Err(ResponseError::ConcurrentTransactions));
    assert_eq!(logs[1].first_undecided_offset(), None);
    assert_eq!(state(&coordinator).phase, Phase::Ending(Outcome::Commit));
}

#[test]
fn an_id_without_epochs_left_is_replaced() {
    let data = tempfile::tempdir().unwrap();
    let (_dir, coordinator) = open(&data);
    let owner = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    change(&coordinator, |state| state.owner.epoch = ProducerEpoch(32_766));
    let next = coordinator.next_owner(NAME, None, TIMEOUT_MS).unwrap();
    assert_eq!(next.epoch, ProducerEpoch(0));
    assert!(next.id > owner.id);
}

#[test]
fn a_transactional_id_and_its_timeout_are_checked() {
    let data = tempfile::tempdir().unwrap();
    let (_dir, coordinator) = open(&data);
    for timeout in [i32::MIN, -1, 0, MAX_TIMEOUT_MS + 1] {
        let refused = coordinator.next_owner(NAME, None, timeout);
        assert_eq!(refused, Err(ResponseError::InvalidTransactionTimeout), "{timeout}");
    }
    for name in ["", &"n".repeat(32_768)] {
        assert_eq!(coordinator.next_owner(name, None, 1), Err(ResponseError::InvalidRequest));
    }
    let stranger = Owner { id: ProducerId(0), epoch: ProducerEpoch(0) };
    let refused = coordinator.end(NAME, stranger, Outcome::Commit);
    assert_eq!(refused, Err(ResponseError::InvalidProducerIdMapping));
}

#[test]
fn the_states_outlive_the_records_that_are_forgotten() {
    let data = tempfile::tempdir().unwrap();
    let (dir, coordinator) = open(&data);
    let names = ["a", "b", "c"];
    for name in names {
        coordinator.next_owner(name, None, TIMEOUT_MS).unwrap();
    }
    coordinator.rewrite().unwrap();
    let log = dir.partition(crate::topics::TRANSACTION_STATE, 0).unwrap();
    assert_eq!(log.log_end_offset() - log.log_start_offset(), 3);
    dir.close().unwrap();
    let (_dir, coordinator) = open(&data);
    for name in names {
        assert_eq!(coordinator.next_owner(name, None, TIMEOUT_MS).unwrap().epoch, ProducerEpoch(1));
    }
}
