//! Who is known to a partition, for how long, and what a producer with a name makes of it.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use common::{TestClock, batch, options, small};
use idemlog::{Batch, Error, IoMode, Log, LogDir, LogDirOptions, ProducerPolicy, RejectionReason};

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
