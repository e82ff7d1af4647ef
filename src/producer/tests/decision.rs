//! The decision, rule by rule.

use super::*;
use crate::error::RejectionReason::{
    CoordinatorFenced, DifferentBytes, Fenced, Gap, NewEpochNotAtZero, NewLogNotAtZero, NotVerified,
    OlderThanWindow, Overlap, ProducerBudget, StaleMarker, TransactionOpen, UnknownProducer,
};
use crate::error::WindowBounds;
use crate::producer::{Duplicate, DuplicateCheck, FirstAppend, SequenceRule, snapshot};
use crate::types::OffsetRange;

const MAX: i32 = i32::MAX;

fn policy() -> ProducerPolicy {
    ProducerPolicy::default()
}

fn increasing() -> ProducerPolicy {
    policy().sequence_rule(SequenceRule::Increasing)
}

/// What is expected of a batch: stored, a duplicate at these offsets, or refused.
#[derive(Debug, PartialEq)]
enum Expect {
    Append,
    Duplicate(Option<(i64, i64)>),
    Refused(RejectionReason),
}
use Expect::{Append, Refused};

fn outcome(decision: Result<Decision, Rejection>) -> Expect {
    match decision {
        Ok(Decision::Append) => Append,
        Ok(Decision::Duplicate(duplicate)) => {
            Expect::Duplicate(duplicate.original.map(|offsets| (offsets.first.0, offsets.last.0)))
        }
        Err(rejection) => Refused(rejection.reason),
    }
}

fn at(first: i64, last: i64) -> Expect {
    Expect::Duplicate(Some((first, last)))
}

#[test]
fn a_batch_of_a_known_producer_is_judged_by_its_sequences() {
    // Seven batches of two records, of which the last five are remembered: sequences 4..=13.
    let log = Log::with(policy(), &[(0, 2), (2, 2), (4, 2), (6, 2), (8, 2), (10, 2), (12, 2)]);
    let cases = [
        ("the next", (14, 3), Append),
        ("the last again", (12, 2), at(12, 13)),
        ("the oldest of the window again", (4, 2), at(4, 5)),
        ("one older than the window", (2, 2), Refused(OlderThanWindow)),
        ("all that is older than the window", (0, 4), Refused(OlderThanWindow)),
        ("one less the last record", (12, 1), Refused(Overlap)),
        ("one less the first record", (13, 1), Refused(Overlap)),
        ("two in one", (10, 4), Refused(Overlap)),
        ("the last and the next", (12, 4), Refused(Overlap)),
        ("from before the window into it", (3, 2), Refused(Overlap)),
        ("more than the window", (0, 20), Refused(Overlap)),
        ("one too far", (15, 1), Refused(Gap)),
        ("far ahead", (14 + (1 << 30) - 1, 1), Refused(Gap)),
        ("half the circle ahead is behind", (14 + (1 << 30), 1), Refused(OlderThanWindow)),
        ("the end of the circle is behind", (MAX, 1), Refused(OlderThanWindow)),
        ("from the end of the circle into the window", (MAX, 6), Refused(Overlap)),
    ];
    for (name, (first, count), expected) in cases {
        assert_eq!(outcome(log.decide(&data(0, first, count))), expected, "{name}");
    }
}

#[test]
fn sequences_wrap() {
    type Case = (&'static [(i32, i32)], (i32, i32), Expect);
    let cases: [Case; 11] = [
        (&[(MAX, 1)], (0, 1), Append),
        (&[(MAX, 1)], (1, 1), Refused(Gap)),
        (&[(MAX, 1)], (MAX, 1), at(0, 0)),
        (&[(MAX, 1)], (MAX, 2), Refused(Overlap)),
        (&[(MAX - 10, 21)], (10, 1), Append),
        (&[(MAX - 10, 21)], (MAX - 10, 21), at(0, 20)),
        (&[(MAX - 10, 21)], (MAX - 11, 1), Refused(OlderThanWindow)),
        (&[(MAX - 10, 21)], (MAX - 11, 2), Refused(Overlap)),
        (&[(MAX - 10, 21)], (9, 2), Refused(Overlap)),
        (&[(MAX - 10, 21)], (11, 1), Refused(Gap)),
        (&[(MAX - 1, 1)], (0, 1), Refused(Gap)),
    ];
    for (stored, (first, count), expected) in cases {
        let log = Log::with(policy(), stored);
        assert_eq!(
            outcome(log.decide(&data(0, first, count))),
            expected,
            "{stored:?} then {first} x {count}"
        );
    }
}

#[test]
fn a_batch_that_straddles_the_wrap_is_remembered_by_its_true_ends() {
    let batch = Log::with(policy(), &[(MAX - 10, 21)]).table.get(ID).unwrap().batches[0];
    assert_eq!((batch.first_sequence, batch.last_sequence), (Sequence(MAX - 10), Sequence(9)));
}

#[test]
fn what_comes_next_is_in_the_window_only_where_that_goes_round_the_circle() {
    const HALF: i32 = 1 << 30;
    type Case = (&'static str, &'static [(i32, i32)], (i32, i32), Expect);
    let cases: [Case; 6] = [
        ("sequences that began anew", &[(2, 1), (0, 1), (1, 1)], (2, 1), Append),
        ("sequences left out", &[(7, 2), (5, 1), (6, 1)], (7, 2), Append),
        ("once round", &[(0, HALF), (HALF, HALF)], (0, HALF), at(0, i64::from(HALF) - 1)),
        ("once round in small batches but one", &[(0, 2), (2, MAX - 3), (MAX - 1, 2)], (0, 2), at(0, 1)),
        (
            "a jump that has left the window",
            &[(9, 1), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1)],
            (5, 1),
            Append,
        ),
        ("as the next, but with more records", &[(2, 1), (0, 1), (1, 1)], (2, 2), Append),
    ];
    for (name, stored, (first, count), expected) in cases {
        let log = Log::with(policy(), stored);
        assert_eq!(outcome(log.decide(&data(0, first, count))), expected, "{name}");
        assert_eq!(
            outcome(reopened(&log).decide(&data(0, first, count), &CLIENT)),
            expected,
            "{name}, reopened"
        );
    }
}

/// The table as it is once its snapshot was read.
fn reopened(log: &Log) -> ProducerTable {
    let bytes = snapshot::encode(&log.table, None);
    snapshot::decode(&bytes, log.end, policy(), log.now).expect("a snapshot").0
}

#[test]
fn an_epoch_is_judged_before_sequences() {
    let mut log = Log::with(policy(), &[(0, 1), (1, 1)]);
    log.store(data(3, 0, 2), None);
    let cases = [
        ("the last again", data(3, 0, 2), at(2, 3)),
        ("the same sequences of an older epoch", data(0, 0, 1), Refused(Fenced)),
        ("the same sequences of a newer epoch", data(4, 0, 2), Append),
        ("a newer epoch that does not begin at 0", data(4, 2, 1), Refused(NewEpochNotAtZero)),
        ("the next", data(3, 2, 1), Append),
        ("the next of an older epoch", data(2, 2, 1), Refused(Fenced)),
    ];
    for (name, header, expected) in cases {
        assert_eq!(outcome(log.decide(&header)), expected, "{name}");
    }
}

#[test]
fn an_unknown_producer_begins_as_the_policy_says() {
    use FirstAppend::{AcceptAny, RequireZero, RequireZeroInNewLog};
    let cases = [
        (AcceptAny, true, 5, Append),
        (AcceptAny, false, 5, Append),
        (RequireZeroInNewLog, true, 0, Append),
        (RequireZeroInNewLog, true, 5, Refused(NewLogNotAtZero)),
        (RequireZeroInNewLog, false, 5, Append),
        (RequireZero, true, 5, Refused(UnknownProducer)),
        (RequireZero, false, 5, Refused(UnknownProducer)),
        (RequireZero, false, 0, Append),
    ];
    for (first_append, log_is_new, first, expected) in cases {
        let log_end = Offset(i64::from(!log_is_new));
        let table = ProducerTable::new(policy().first_append(first_append));
        let decided = table.decide(&data(7, first, 1), &Context { log_end, ..CLIENT });
        assert_eq!(outcome(decided), expected, "{first_append:?}, new: {log_is_new}, sequence {first}");
    }
}

#[test]
fn an_unknown_producer_is_fenced_by_what_the_directory_knows() {
    let table = ProducerTable::new(policy());
    let context = Context { fenced_below: Some(ProducerEpoch(3)), ..CLIENT };
    let rejection = table.decide(&data(2, 0, 1), &context).unwrap_err();
    assert_eq!((rejection.reason, rejection.current_epoch), (Fenced, Some(ProducerEpoch(3))));
    assert_eq!(table.decide(&data(3, 0, 1), &context), Ok(Decision::Append));
}

#[test]
fn a_refusal_says_what_was_expected_and_what_is_remembered() {
    let log = Log::with(policy(), &[(0, 3), (3, 2)]);
    let rejection = log.decide(&data(0, 9, 2)).unwrap_err();
    let expected = Rejection {
        reason: Gap,
        producer_id: ID,
        producer_epoch: ProducerEpoch(0),
        first_sequence: Sequence(9),
        last_sequence: Sequence(10),
        current_epoch: Some(ProducerEpoch(0)),
        expected: Some(Sequence(5)),
        window: Some(WindowBounds {
            first_sequence: Sequence(0),
            last_sequence: Sequence(4),
            offsets: OffsetRange { first: Offset(0), last: Offset(4) },
        }),
    };
    assert_eq!(rejection, expected);
    let rejection = log.decide(&data(1, 5, 1)).unwrap_err();
    assert_eq!(
        (rejection.expected, rejection.window),
        (Some(Sequence(0)), None),
        "a new epoch has no window"
    );
}

#[test]
fn a_duplicate_tells_its_original_and_whether_the_bytes_were_the_same() {
    let mut log = Log::new(policy());
    log.store(data(0, 0, 1), None);
    log.store(BatchHeader { max_timestamp: Timestamp(77), ..data(0, 1, 3) }, None);
    log.store(data(0, 4, 1), None);
    for (crc, same_bytes) in [(1, true), (2, false)] {
        let expected = Duplicate {
            original: Some(OffsetRange { first: Offset(1), last: Offset(3) }),
            timestamp: Timestamp(77),
            same_bytes: Some(same_bytes),
            durable_at: Offset(4),
        };
        let again = BatchHeader { crc, ..data(0, 1, 3) };
        assert_eq!(log.decide(&again), Ok(Decision::Duplicate(expected)));
    }
}

#[test]
fn other_bytes_under_a_stored_sequence_are_refused_where_the_policy_says_so() {
    let log = Log::with(policy().duplicate_check(DuplicateCheck::SameBytes), &[(0, 1)]);
    assert_eq!(outcome(log.decide(&data(0, 0, 1))), at(0, 0));
    assert_eq!(log.reason(&BatchHeader { crc: 2, ..data(0, 0, 1) }), Some(DifferentBytes));
}

#[test]
fn a_batch_without_producer_and_a_replicated_one_are_never_judged() {
    let log = Log::with(policy().budget(1), &[(0, 1)]);
    let plain = BatchHeader { producer_id: ProducerId::NONE, ..data(-1, -1, 1) };
    let replicated = Context { origin: Origin::Replication, ..CLIENT };
    assert_eq!(log.decide(&plain), Ok(Decision::Append));
    for header in [
        data(0, 0, 1),
        data(-1, 0, 1),
        data(0, 9, 1),
        BatchHeader { producer_id: ProducerId(2), ..data(0, 9, 1) },
    ] {
        assert_eq!(log.table.decide(&header, &replicated), Ok(Decision::Append));
    }
}

#[test]
fn a_coordinator_is_judged_by_epochs_alone() {
    let mut log = Log::with(policy(), &[(0, 1)]);
    log.store(marker(2), Some(commit(5)));
    let cases = [
        ("an older producer epoch", marker(1), 5, Refused(Fenced)),
        ("an older coordinator", marker(2), 4, Refused(CoordinatorFenced)),
        ("the same coordinator", marker(2), 5, Append),
        ("a newer coordinator and epoch", marker(3), 6, Append),
        ("an unknown producer", BatchHeader { producer_id: ProducerId(9), ..marker(0) }, 0, Append),
        ("group metadata without sequences", transactional(2, -1, 3), 5, Append),
    ];
    for (name, header, epoch, expected) in cases {
        assert_eq!(outcome(log.table.decide(&header, &coordinator(epoch))), expected, "{name}");
    }
}

#[test]
fn a_marker_of_a_transaction_that_has_its_own_epoch_has_a_higher_one() {
    let judged = |log: &Log, epoch, coordinator_epoch| {
        let version = TransactionVersion::V2;
        let origin = Origin::Coordinator { epoch: Some(coordinator_epoch), version };
        let context = Context { origin, log_end: log.end, ..CLIENT };
        log.table.decide(&marker(epoch), &context)
    };
    let mut log = Log::new(policy());
    assert_eq!(judged(&log, 0, 5), Ok(Decision::Append), "an unknown producer");
    log.store(transactional(5, 0, 1), None);
    let cases = [(4, Refused(Fenced)), (5, Refused(StaleMarker)), (6, Append), (7, Append)];
    for (epoch, expected) in cases {
        assert_eq!(outcome(judged(&log, epoch, 5)), expected, "epoch {epoch} while 5 is open");
    }
    log.table.raise_epoch(ID, ProducerEpoch(6));
    assert_eq!(outcome(judged(&log, 5, 5)), Refused(Fenced));
    assert_eq!(outcome(judged(&log, 6, 5)), Append, "the epoch was raised without the marker");
    log.store(marker(6), Some(commit(5)));
    let cases = [
        ("again", 6, 5, Expect::Duplicate(None)),
        ("again, by a coordinator that was fenced since", 6, 4, Expect::Duplicate(None)),
        ("another, by the same", 7, 4, Refused(CoordinatorFenced)),
    ];
    for (name, epoch, coordinator_epoch, expected) in cases {
        assert_eq!(outcome(judged(&log, epoch, coordinator_epoch)), expected, "{name}");
    }
    let Ok(Decision::Duplicate(duplicate)) = judged(&log, 6, 5) else { panic!("a duplicate") };
    assert_eq!(duplicate.durable_at, log.end);
}

#[test]
fn a_marker_of_an_unknown_producer_makes_its_older_epochs_fenced() {
    let mut log = Log::new(policy());
    log.store(marker(3), Some(commit(0)));
    let cases = [
        ("an older epoch", data(2, 0, 1), Refused(Fenced)),
        ("not at 0", data(3, 17, 1), Refused(Gap)),
        ("far from 0", data(3, MAX, 1), Refused(Gap)),
        ("at 0", data(3, 0, 1), Append),
        ("a newer epoch not at 0", data(4, 17, 1), Refused(NewEpochNotAtZero)),
    ];
    for (name, header, expected) in cases {
        assert_eq!(outcome(log.decide(&header)), expected, "{name}");
    }
}

#[test]
fn a_marker_of_a_higher_epoch_begins_the_sequences_again() {
    let mut log = Log::with(policy(), &[(0, 1), (1, 1)]);
    log.store(marker(1), Some(commit(0)));
    assert_eq!(log.table.get(ID).unwrap().batches, []);
    assert_eq!(log.reason(&data(1, 2, 1)), Some(Gap));
    assert_eq!(log.append(data(1, 0, 1)), Ok(Decision::Append));
    assert_eq!(log.reason(&data(0, 2, 1)), Some(Fenced));
}

#[test]
fn a_marker_of_the_same_epoch_keeps_the_window() {
    let mut log = Log::with(policy(), &[(0, 1), (1, 1)]);
    log.store(marker(0), Some(commit(0)));
    assert_eq!(outcome(log.decide(&data(0, 0, 1))), at(0, 0));
    assert_eq!(outcome(log.decide(&data(0, 2, 1))), Append);
}

#[test]
fn data_outside_of_the_open_transaction_is_refused() {
    let mut log = Log::new(policy());
    log.store(transactional(0, 0, 1), None);
    assert_eq!(log.reason(&data(0, 1, 1)), Some(TransactionOpen));
    assert_eq!(log.reason(&data(1, 0, 1)), Some(TransactionOpen), "a newer epoch does not close it");
    assert_eq!(outcome(log.decide(&transactional(0, 1, 1))), Append);
    assert_eq!(
        outcome(log.decide(&data(0, 0, 1))),
        at(0, 0),
        "a duplicate is one, whatever it says of transactions"
    );
    log.store(marker(0), Some(commit(0)));
    assert_eq!(outcome(log.decide(&data(0, 1, 1))), Append);
}

#[test]
fn a_fenced_producer_must_begin_its_new_epoch() {
    let mut log = Log::with(policy(), &[(0, 1), (1, 2)]);
    log.table.raise_epoch(ID, ProducerEpoch(4));
    let cases = [
        ("its last again", data(0, 1, 2), Refused(Fenced)),
        ("its next", data(0, 3, 1), Refused(Fenced)),
        ("its last under the new epoch", data(4, 1, 2), Refused(Gap)),
        ("the new epoch", data(4, 0, 1), Append),
        ("one newer", data(5, 0, 1), Append),
    ];
    for (name, header, expected) in cases {
        assert_eq!(outcome(log.decide(&header)), expected, "{name}");
    }
    let producer = log.table.get(ID).unwrap();
    assert_eq!((producer.epoch, producer.batches_epoch), (ProducerEpoch(4), ProducerEpoch(0)));
    assert_eq!(producer.batches.last().unwrap().last_sequence, Sequence(2), "where it stopped");

    log.store(data(4, 0, 1), None);
    let producer = log.table.get(ID).unwrap();
    assert_eq!((producer.batches_epoch, producer.batches.len()), (ProducerEpoch(4), 1));
}

#[test]
fn an_epoch_is_never_raised_to_a_lower_one() {
    let mut log = Log::new(policy());
    log.store(data(5, 0, 1), None);
    log.table.raise_epoch(ID, ProducerEpoch(5));
    log.table.raise_epoch(ID, ProducerEpoch(4));
    log.table.raise_epoch(ProducerId(2), ProducerEpoch(4));
    assert_eq!((log.table.len(), log.table.get(ID).unwrap().epoch), (1, ProducerEpoch(5)));
    assert_eq!(outcome(log.decide(&data(5, 0, 1))), at(0, 0));
}

#[test]
fn increasing_sequences_may_leave_gaps_and_nothing_else() {
    let log = Log::with(increasing().window(2), &[(10, 5), (100, 1), (200, 10)]);
    let cases = [
        ("the last again", (200, 10), at(6, 15)),
        ("the oldest of the window again", (100, 1), at(5, 5)),
        ("one older than the window", (10, 5), Expect::Duplicate(None)),
        ("a part of the last", (200, 3), Expect::Duplicate(None)),
        ("what was skipped", (50, 2), Expect::Duplicate(None)),
        ("more than the last", (200, 11), Refused(Overlap)),
        ("from before to behind the last", (150, 100), Refused(Overlap)),
        ("the next", (210, 1), Append),
        ("far ahead", (MAX, 1), Append),
        ("beyond the last sequence", (MAX, 2), Refused(Overlap)),
    ];
    for (name, (first, count), expected) in cases {
        assert_eq!(outcome(log.decide(&data(0, first, count))), expected, "{name}");
    }
}

#[test]
fn a_duplicate_outside_of_the_window_is_durable_with_the_last_batch() {
    let log = Log::with(increasing(), &[(10, 5), (100, 1)]);
    let Ok(Decision::Duplicate(duplicate)) = log.decide(&data(0, 12, 1)) else { panic!("a duplicate") };
    assert_eq!((duplicate.original, duplicate.durable_at, duplicate.same_bytes), (None, Offset(6), None));
}

#[test]
fn the_highest_sequence_stays_over_epochs_where_sequences_increase() {
    let mut log = Log::with(increasing().duplicate_check(DuplicateCheck::SameBytes), &[(10, 5)]);
    // The CRC covers the epoch, so it differs without meaning anything.
    let again = BatchHeader { crc: 9, ..data(1, 10, 5) };
    assert_eq!(outcome(log.decide(&again)), at(0, 4));
    log.table.raise_epoch(ID, ProducerEpoch(1));
    assert_eq!(outcome(log.decide(&again)), at(0, 4));
    log.store(data(1, 15, 1), None);
    assert_eq!(outcome(log.decide(&again)), at(0, 4));
    assert_eq!(log.reason(&data(0, 16, 1)), Some(Fenced));
    assert_eq!(outcome(log.decide(&data(1, 0, 1))), Expect::Duplicate(None));
}

#[test]
fn no_sequence_is_expected_behind_the_last_one_where_sequences_increase() {
    let log = Log::with(increasing(), &[(MAX, 1)]);
    let rejection = log.decide(&data(0, MAX, 5)).unwrap_err();
    assert_eq!((rejection.reason, rejection.expected), (Overlap, None));
}

#[test]
fn a_new_producer_is_refused_when_nobody_can_be_forgotten() {
    let idle = policy().eviction_min_idle_ms;
    let mut log = Log::with(policy().budget(1), &[(0, 1)]);
    let other = BatchHeader { producer_id: ProducerId(2), ..data(0, 0, 1) };
    log.now = Timestamp(idle - 1);
    assert_eq!(log.reason(&other), Some(ProducerBudget));
    log.now = Timestamp(idle);
    assert_eq!(outcome(log.decide(&other)), Append);
    log.store(BatchHeader { producer_id: ProducerId(2), ..marker(0) }, Some(commit(0)));
    assert_eq!((log.table.len(), log.table.get(ID), log.table.evictions()), (1, None, 1));
}

#[test]
fn a_judgement_changes_nothing() {
    let log = Log::with(policy(), &[(0, 1)]);
    let before: Vec<_> = log.table.iter().collect();
    for header in [data(0, 1, 1), data(1, 0, 1), data(0, 7, 1), transactional(0, 1, 1)] {
        let _decision = log.decide(&header);
    }
    assert_eq!(log.table.iter().collect::<Vec<_>>(), before);
}

/// Kafka's clients take a missing verification for fatal, and abort and go on behind an older epoch (KAFKA-19690).
#[test]
fn a_transaction_may_begin_only_with_the_guard_where_one_is_required() {
    let missing = Context { verification: Verification { is_missing: true, ..NOT_ASKED }, ..CLIENT };
    let mut log = Log::with(policy(), &[(0, 1)]);
    let refused = |log: &Log, header: &BatchHeader| {
        log.table.decide(header, &missing).map_err(|rejection| rejection.reason)
    };
    let stranger = BatchHeader { producer_id: ProducerId(9), ..transactional(0, 0, 1) };
    assert_eq!(refused(&log, &transactional(0, 1, 1)), Err(NotVerified));
    assert_eq!(refused(&log, &stranger), Err(NotVerified), "an unknown producer");
    assert_eq!(refused(&log, &transactional(0, 5, 1)), Err(NotVerified), "before the sequence is judged");
    assert_eq!(refused(&log, &transactional(-1, 1, 1)), Err(Fenced), "the epoch is judged before");
    let fencing = Context { fenced_below: Some(ProducerEpoch(1)), ..missing };
    let fenced = log.table.decide(&stranger, &fencing).map_err(|rejection| rejection.reason);
    assert_eq!(fenced, Err(Fenced), "also of an unknown producer");
    assert!(refused(&log, &data(0, 1, 1)).is_ok(), "not transactional");
    assert!(matches!(refused(&log, &transactional(0, 0, 1)), Ok(Decision::Duplicate(_))));
    log.append(transactional(0, 1, 1)).unwrap();
    assert_eq!(refused(&log, &transactional(0, 2, 1)), Ok(Decision::Append), "its transaction is open");
    assert_eq!(refused(&log, &transactional(1, 0, 1)), Err(NotVerified), "that of an older epoch is");
    log.table.raise_epoch(ID, ProducerEpoch(1));
    assert_eq!(refused(&log, &transactional(1, 0, 1)), Err(NotVerified), "also where that was fenced");
}

#[test]
fn a_sequence_above_the_lowest_of_a_verification_is_a_gap() {
    let verified = |lowest| Context {
        verification: Verification { lowest_sequence: Some(Sequence(lowest)), ..NOT_ASKED },
        ..CLIENT
    };
    let log = Log::with(policy(), &[(0, 1)]);
    let reason = |header: &BatchHeader, lowest| {
        log.table.decide(header, &verified(lowest)).err().map(|rejection| rejection.reason)
    };
    let stranger = BatchHeader { producer_id: ProducerId(9), ..transactional(0, 3, 1) };
    assert_eq!(reason(&transactional(0, 1, 1), 0), Some(Gap));
    assert_eq!(reason(&transactional(0, 1, 1), 1), None);
    assert_eq!(reason(&stranger, 2), Some(Gap));
    assert_eq!(reason(&stranger, 3), None);
}

/// After a batch that was lost, the one behind it was taken for the first of a transaction in its own epoch.
#[test]
fn sequences_begin_at_0_where_a_transaction_has_its_own_epoch_and_no_batch_is_known() {
    let context = |begins_epoch, origin| {
        let verification =
            Verification { begins_epoch, lowest_sequence: Some(Sequence(3)), is_missing: false };
        Context { verification, origin, ..CLIENT }
    };
    let decided =
        |log: &Log, first, context: &Context| outcome(log.table.decide(&transactional(1, first, 1), context));
    let (own, shared) = (context(true, Origin::Client), context(false, Origin::Client));
    let any = policy().first_append(FirstAppend::AcceptAny);
    let mut log = Log::new(any.clone());
    assert_eq!(decided(&log, 3, &own), Refused(Gap));
    assert_eq!(decided(&log, 0, &own), Append);
    assert_eq!(decided(&log, 3, &shared), Append, "it may be any where earlier ones may be forgotten");
    assert_eq!(decided(&log, 3, &context(true, coordinator(0).origin)), Append, "only clients count");
    let increasing = Log::new(any.sequence_rule(SequenceRule::Increasing));
    assert_eq!(decided(&increasing, 3, &own), Append, "sequences begin anywhere");
    log.store(marker(1), Some(commit(0)));
    assert_eq!(decided(&log, 3, &own), Refused(Gap), "known by a marker alone");
}
