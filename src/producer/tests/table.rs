//! What stored batches do to the table, and who is forgotten when.

use super::*;
use crate::producer::{Copying, ExpiryClock, Staging, TableCursor};
use crate::transaction::TransactionEffect;

fn of(id: i64, header: BatchHeader) -> BatchHeader {
    BatchHeader { producer_id: ProducerId(id), ..header }
}

fn sequences(table: &ProducerTable) -> Vec<(i32, i32)> {
    table
        .get(ID)
        .unwrap()
        .batches
        .iter()
        .map(|batch| (batch.first_sequence.0, batch.last_sequence.0))
        .collect()
}

/// A whole round of expiry, in steps of 2.
fn expire(table: &mut ProducerTable, now: i64) -> usize {
    let before = table.len();
    let mut cursor = Some(TableCursor::START);
    while let Some(at) = cursor {
        cursor = table.expire_step(at, 2, Timestamp(now));
    }
    before - table.len()
}

#[test]
fn the_window_holds_the_last_batches() {
    for window in [1, 2, 5, 64] {
        let batches: Vec<_> = (0..70).map(|sequence| (sequence, 1)).collect();
        let log = Log::with(ProducerPolicy::default().window(window), &batches);
        let expected: Vec<_> = (70 - i32::from(window)..70).map(|sequence| (sequence, sequence)).collect();
        assert_eq!(sequences(&log.table), expected, "window {window}");
    }
}

/// Both stayed in one window, and a batch with the sequences of an old one was answered as that one, and not stored.
#[test]
fn a_batch_in_the_log_that_does_not_go_on_begins_a_new_window() {
    const QUARTER: i32 = 1 << 29;
    type Case = (&'static str, &'static [(i32, i32)], &'static [(i32, i32)]);
    let cases: [Case; 8] = [
        ("anew", &[(0, 1), (1, 1), (2, 1), (0, 1), (1, 1)], &[(0, 0), (1, 1)]),
        ("the same again", &[(7, 2), (7, 2)], &[(7, 8)]),
        ("in the middle", &[(0, 9), (4, 5), (9, 1)], &[(4, 8), (9, 9)]),
        ("the last once more", &[(0, 1), (1, 1), (1, 2)], &[(1, 2)]),
        ("the next, as ever", &[(0, 1), (1, 1), (2, 1)], &[(0, 0), (1, 1), (2, 2)]),
        ("behind a gap", &[(50, 1), (51, 1), (100, 1)], &[(50, 50), (51, 51), (100, 100)]),
        ("round the circle", &[(i32::MAX, 1), (0, 1)], &[(i32::MAX, i32::MAX), (0, 0)]),
        (
            "round the circle by gaps",
            &[(0, 1), (QUARTER, 1), (2 * QUARTER, 1), (3 * QUARTER, 1), (0, 1)],
            &[(0, 0)],
        ),
    ];
    for (name, stored, expected) in cases {
        assert_eq!(sequences(&Log::with(ProducerPolicy::default(), stored).table), expected, "{name}");
    }
}

#[test]
fn where_sequences_only_increase_gaps_go_on_in_every_epoch_and_only_lower_ones_begin_anew() {
    let policy = ProducerPolicy::default().sequence_rule(SequenceRule::Increasing);
    let mut log = Log::with(policy, &[(50, 1), (70, 1)]);
    log.store(data(1, 90, 1), None);
    assert_eq!(sequences(&log.table), [(50, 50), (70, 70), (90, 90)]);
    log.store(data(2, 90, 2), None);
    assert_eq!(sequences(&log.table), [(90, 91)]);
}

/// A coordinator's data has no sequences and is no run that could end.
#[test]
fn data_without_sequences_leaves_the_window_and_the_next_begins_at_zero() {
    let mut log = Log::with(ProducerPolicy::default(), &[(0, 1), (1, 1)]);
    log.store(data(0, -1, 1), None);
    log.store(data(0, 0, 1), None);
    assert_eq!(sequences(&log.table), [(0, 0), (1, 1), (-1, -1), (0, 0)]);
}

#[test]
fn sequences_that_begin_anew_leave_a_transaction_open_and_its_coordinator_known() {
    let mut log = Log::new(ProducerPolicy::default());
    log.store(transactional(0, 0, 1), None);
    log.store(marker(0), Some(commit(3)));
    log.store(transactional(0, 1, 1), None);
    log.store(transactional(0, 0, 1), None);
    let known = log.table.get(ID).unwrap();
    assert_eq!(sequences(&log.table), [(0, 0)]);
    assert_eq!((known.transaction_first_offset, known.coordinator_epoch), (Some(Offset(2)), Some(3)));
}

#[test]
fn an_older_epoch_in_the_log_leaves_the_entry_alone() {
    let mut log = Log::new(ProducerPolicy::default());
    log.store(data(5, 0, 1), None);
    let before = log.table.get(ID);
    log.store(data(4, 0, 1), None);
    log.store(marker(4), Some(commit(9)));
    assert_eq!(log.table.get(ID), before);

    let header = BatchHeader { base_offset: Offset(9), ..transactional(4, 1, 1) };
    let began = log.table.apply(&header, None, log.now);
    assert_eq!(began, Some(TransactionEffect::Began { producer_id: ID, first_offset: Offset(9) }));
    assert_eq!(log.table.get(ID).unwrap().batches, before.unwrap().batches);
}

#[test]
fn a_transaction_is_known_from_its_first_batch_to_its_marker() {
    let mut table = ProducerTable::new(ProducerPolicy::default());
    let mut store = |offset, header, control| {
        table.apply(&BatchHeader { base_offset: Offset(offset), ..header }, control, Timestamp(0))
    };
    let (producer_id, first_offset) = (ID, Offset(3));
    let abort = ControlRecord::Abort { coordinator_epoch: 2 };
    assert_eq!(store(0, marker(0), Some(commit(1))), None, "nothing was open");
    assert_eq!(
        store(3, transactional(0, 0, 1), None),
        Some(TransactionEffect::Began { producer_id, first_offset })
    );
    assert_eq!(store(4, transactional(0, 1, 1), None), None);
    let ended = TransactionEffect::Ended { producer_id, first_offset, marker: Offset(5), aborted: true };
    assert_eq!(store(5, marker(0), Some(abort)), Some(ended));
    assert_eq!(table.open_transactions().count(), 0);
    assert_eq!(table.get(ID).unwrap().coordinator_epoch, Some(2));
}

#[test]
fn an_empty_control_batch_changes_nothing() {
    let mut log = Log::with(ProducerPolicy::default(), &[(0, 1)]);
    let before: Vec<_> = log.table.iter().collect();
    log.store(BatchHeader { record_count: 0, ..marker(9) }, None);
    log.store(of(2, BatchHeader { record_count: 0, ..marker(9) }), Some(commit(1)));
    log.store(of(3, marker(9)), Some(ControlRecord::Other { kind: 2 }));
    assert_eq!(log.table.iter().collect::<Vec<_>>(), before);
}

#[test]
fn a_batch_that_compaction_emptied_still_counts() {
    let mut log = Log::new(ProducerPolicy::default());
    log.store(BatchHeader { record_count: 0, ..data(0, 5, 3) }, None);
    assert_eq!(sequences(&log.table), [(5, 7)]);
}

#[test]
fn a_producer_expires_by_the_host_s_time() {
    let mut table = ProducerTable::new(ProducerPolicy::default().expiry_ms(1_000_000));
    for id in 0..10 {
        table.apply(&of(id, data(0, 0, 1)), None, Timestamp(id * 1000));
    }
    table.apply(&of(3, transactional(0, 1, 1)), None, Timestamp(9000));
    assert_eq!(expire(&mut table, 1_001_999), 2, "0 and 1");
    assert_eq!(expire(&mut table, 1_009_000), 7, "all but the one with an open transaction");
    assert_eq!((table.len(), table.expiries()), (1, 9));
    assert!(table.get(ProducerId(3)).is_some());
}

/// Whoever goes leaves a hole that another one is moved to.
#[test]
fn a_round_of_copying_leaves_nobody_out_who_stays_whoever_comes_and_goes_meanwhile() {
    for count in [1, 3, 7, 100] {
        let policy = ProducerPolicy::default().eviction_min_idle_ms(0);
        let mut table = ProducerTable::new(policy.clone());
        let staying = 40..60;
        for id in 0..60 {
            table.apply(&of(id, data(0, 0, 1)), None, Timestamp(0));
        }
        for id in staying.clone() {
            // An open transaction keeps a producer from being evicted.
            table.apply(&of(id, transactional(0, 1, 1)), None, Timestamp(0));
        }
        table.set_policy(policy.budget(1));
        let (mut copying, mut steps) = (Copying::default(), 0);
        while copying.step(&table, count) {
            table.evict_excess(2, Timestamp(steps));
            if steps % 3 == 2 {
                table.apply(&of(1000 + steps, data(0, 0, 1)), None, Timestamp(steps));
            }
            steps += 1;
        }
        assert!(steps as usize + 1 >= 40 / (count + 2), "{steps} steps of {count}");
        let told: Vec<_> = copying.into_producers().iter().map(|producer| producer.producer_id.0).collect();
        assert!(told.is_sorted_by(|one, other| one < other), "{count}: {told:?}");
        assert!(staying.clone().all(|id| told.contains(&id)), "{count}: {told:?}");
    }
}

/// A truncation puts another table in the place of the one that is being copied.
#[test]
fn what_was_copied_of_a_table_is_forgotten_when_another_comes_in_its_place() {
    let table_of = |ids: std::ops::Range<i64>| {
        let mut table = ProducerTable::new(ProducerPolicy::default());
        for id in ids.rev() {
            table.apply(&of(id, data(0, 0, 1)), None, Timestamp(0));
        }
        table
    };
    let (before, mut after) = (table_of(0..20), table_of(5..15));
    after.succeed(&before);
    let mut copying = Copying::default();
    assert!(copying.step(&before, 7));
    while copying.step(&after, 7) {}
    assert_eq!(copying.into_producers(), sorted(&after));
}

#[test]
fn a_clock_that_jumps_expires_nobody() {
    let mut table = ProducerTable::new(ProducerPolicy::default());
    table.apply(&data(0, 0, 1), None, Timestamp(100_000_000_000));
    for jump in [0, 200_000_000_000, 50_000_000_000, 900_000_000_000] {
        assert_eq!(expire(&mut table, jump), 0, "to {jump}");
    }
    // Each of the two ahead was an hour.
    let hours = (1..=24).map(|hour| expire(&mut table, 900_000_000_000 + hour * 3_600_000));
    assert_eq!(hours.collect::<Vec<_>>().iter().rposition(|expired| *expired == 1), Some(21));
}

#[test]
fn a_producer_expires_by_its_records_as_in_kafka() {
    let policy = ProducerPolicy::default().expiry_clock(ExpiryClock::RecordTimestamp).expiry_ms(1000);
    let mut table = ProducerTable::new(policy);
    for (id, timestamp) in [(1, 500), (2, 501), (3, i64::MAX), (4, i64::MIN)] {
        let header = BatchHeader { max_timestamp: Timestamp(timestamp), ..data(0, 0, 1) };
        table.apply(&of(id, header), None, Timestamp(0));
    }
    let late = BatchHeader { max_timestamp: Timestamp(600), ..marker(0) };
    table.apply(&of(1, late), Some(commit(0)), Timestamp(0));
    assert_eq!(expire(&mut table, 1500), 1);
    assert_eq!(expire(&mut table, 1501), 1);
    assert!(table.get(ID).is_some() && table.get(ProducerId(3)).is_some());
}

#[test]
fn the_least_recent_producer_makes_room() {
    let mut table = ProducerTable::new(ProducerPolicy::default().budget(3));
    let late = Timestamp(1_000_000);
    for (id, header) in
        [(1, data(0, 0, 1)), (2, transactional(0, 0, 1)), (3, data(0, 0, 1)), (1, data(0, 1, 1))]
    {
        table.apply(&of(id, header), None, Timestamp(0));
    }
    for id in [4, 5] {
        table.apply(&of(id, data(0, 0, 1)), None, late);
    }
    let mut ids: Vec<_> = table.iter().map(|producer| producer.producer_id.0).collect();
    ids.sort_unstable();
    assert_eq!(ids, [2, 4, 5], "3 was least recent, then 1; 2 has a transaction open");
}

#[test]
fn replay_and_a_follower_spare_the_recent() {
    let mut table = ProducerTable::new(ProducerPolicy::default().budget(2));
    for id in 0..2 {
        table.replay(&of(id, data(0, 0, 1)), None, Timestamp(0));
    }
    for id in 10..13 {
        table.apply(&of(id, data(0, 0, 1)), None, Timestamp(0));
    }
    assert_eq!((table.len(), table.evictions()), (5, 0));
    assert_eq!(table.evict_excess(10, Timestamp(899_999)), 0);
    assert_eq!(table.evict_excess(2, Timestamp(900_000)), 2);
    assert_eq!(table.evict_excess(2, Timestamp(900_000)), 1);
}

/// It forgot those above the budget, and must not take as much memory as there are producers in the log either.
#[test]
fn replay_keeps_many_above_the_budget_but_not_any_number() {
    const MOST: usize = 3 + (1 << 20);
    let mut table = ProducerTable::new(ProducerPolicy::default().budget(3));
    for id in 0..MOST as i64 + 2 {
        table.replay(&of(id, data(0, 0, 1)), None, Timestamp(0));
    }
    assert_eq!((table.len(), table.evictions()), (MOST, 2));
    assert!(!table.knows(ProducerId(1)) && table.knows(ProducerId(2)));
}

#[test]
fn a_forgotten_producer_gives_its_memory_back() {
    let mut table = ProducerTable::new(ProducerPolicy::default());
    let empty = table.allocated();
    for sequence in 0..6 {
        for id in 0..5000 {
            table.apply(&of(id, transactional(0, sequence, 1)), None, Timestamp(0));
        }
    }
    let full = table.allocated();
    for id in 0..5000 {
        table.apply(&of(id, marker(0)), Some(commit(0)), Timestamp(0));
    }
    for hour in 1..=24 {
        expire(&mut table, hour * 3_600_000);
    }
    assert_eq!((table.len(), empty), (0, 0));
    assert!(table.allocated() < full / 25, "{} of {full}", table.allocated());
}

#[test]
fn a_producer_takes_72_bytes_with_one_batch_and_200_with_five() {
    for (sequences, limit) in [(1, 72), (9, 200)] {
        let mut table = ProducerTable::new(ProducerPolicy::default());
        for sequence in 0..sequences {
            for id in 0..100_000 {
                table.apply(&of(id, data(0, sequence, 1)), None, Timestamp(0));
            }
        }
        let bytes = table.allocated() / 100_000;
        assert!(bytes <= limit, "{bytes} bytes after {sequences} batches");
    }
}

/// Each new producer of a call looked for whom to forget through all that would be forgotten before: a call with some
/// thousands held the append lock for minutes.
#[test]
fn a_call_with_very_many_new_producers_at_the_budget_is_judged_at_once() {
    const MANY: i64 = 20_000;
    let mut table = ProducerTable::new(ProducerPolicy::default().budget(MANY as usize));
    for id in 0..MANY {
        table.apply(&of(id, data(0, 0, 1)), None, Timestamp(0));
    }
    let late = Timestamp(900_000);
    let context = Context { now: late, ..CLIENT };
    let mut staging = Staging::new(&table);
    for id in MANY..2 * MANY {
        let header = of(id, data(0, 0, 1));
        assert_eq!(staging.decide(&header, &context), Ok(Decision::Append));
        staging.stage(&header, None, late);
    }
    let back = staging.decide(&of(0, data(0, 0, 1)), &context);
    assert_eq!(back.unwrap_err().reason, RejectionReason::ProducerBudget, "all that could go are gone");
}
