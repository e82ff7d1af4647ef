//! Producers: names, the rule of increasing sequences, expiry.

use idemlog::{
    BatchBuilder, Error, FirstAppend, IoMode, Log, LogDir, LogDirOptions, Offset, ProducerEpoch, ProducerId,
    ProducerPolicy, RejectionReason, Sequence, SequenceRule,
};

use crate::common::{MODES, TestClock, batch, open, options, small};
use crate::refusal;

#[test]
fn a_named_producer_fences_the_one_before_it_everywhere_also_after_a_restart() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let (known, unknown) = (dir.partition("t", 0).unwrap(), dir.partition("t", 1).unwrap());
        let first = dir.producer("sensor-7").unwrap();
        first.append(&known, BatchBuilder::new().record("k", "v")).unwrap();
        let second = dir.producer("sensor-7").unwrap();
        assert_eq!((second.id(), second.epoch()), (first.id(), ProducerEpoch(1)));
        let refused = |dir: &LogDir| {
            for partition in [0, 1] {
                let log = dir.partition("t", partition).unwrap();
                for sequence in [1, 0] {
                    let of_the_first = batch(first.id().0, 0, sequence, 1);
                    let refusal = refusal(&log, &of_the_first);
                    assert_eq!(refusal, RejectionReason::Fenced, "{mode:?} {partition} {sequence}");
                }
            }
        };
        refused(&dir);
        assert_eq!(second.last(&known).unwrap().last_sequence, Sequence(0));
        drop((known, unknown, dir));
        let dir = open(data.path(), mode);
        refused(&dir);
        let third = dir.producer("sensor-7").unwrap();
        assert_eq!((third.id(), third.epoch()), (first.id(), ProducerEpoch(2)));
        assert_eq!(third.last(&dir.partition("t", 0).unwrap()).unwrap().offsets.last, Offset(0));
        assert_ne!(dir.new_producer_id().unwrap(), first.id());
    }
}

/// For producers that number by a position in their own source.
fn increasing(mode: IoMode) -> LogDirOptions {
    let policy = ProducerPolicy::default()
        .sequence_rule(SequenceRule::Increasing)
        .first_append(FirstAppend::AcceptAny);
    options(mode).log(small(mode).producers(policy))
}

#[test]
fn the_increasing_rule_takes_gaps_and_knows_what_is_old() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), increasing(mode)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..10).for_each(|at| {
            log.append(&batch(1, 0, at * 10, 1)).unwrap();
        });
        assert!(log.append(&batch(1, 0, 90, 1)).unwrap().is_duplicate());
        let old = log.append(&batch(1, 0, 5, 1)).unwrap();
        assert!(old.is_duplicate() && old.offsets().is_none());
        assert!(log.append(&batch(1, 0, 88, 10)).is_err(), "it covers the highest");
    }
}

#[test]
fn idle_producers_expire_by_the_hosts_clock() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_700_000_000_000);
        let policy = ProducerPolicy::default().expiry_ms(60_000).first_append(FirstAppend::RequireZero);
        let options = options(mode).log(small(mode).producers(policy)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        clock.advance(50_000);
        log.append(&batch(2, 0, 0, 1)).unwrap();
        clock.advance(20_000);
        log.expire_producers();
        assert_eq!(log.producers().iter().map(|p| p.producer_id).collect::<Vec<_>>(), [ProducerId(2)]);
        assert_eq!(refusal(&log, &batch(1, 0, 1, 1)), RejectionReason::UnknownProducer);
    }
}

/// A snapshot is folded from the one before and the log, and both tell of producers that were forgotten since.
#[test]
fn a_producer_that_expired_between_two_snapshots_does_not_come_back() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_700_000_000_000);
        let open = || {
            let policy = ProducerPolicy::default().expiry_ms(60_000);
            let options = options(mode).log(small(mode).producers(policy)).clock(clock.clone());
            LogDir::open(data.path(), options).unwrap()
        };
        let dir = open();
        let log = dir.partition("t", 0).unwrap();
        let known = |log: &Log| log.producers().iter().map(|p| p.producer_id.0).collect::<Vec<_>>();
        for (round, expected) in [&[1, 2][..], &[1, 2], &[1, 2], &[2], &[2]].into_iter().enumerate() {
            if round < 2 {
                log.append(&batch(1, 0, round as i32, 1)).unwrap();
            }
            log.append(&batch(2, 0, round as i32, 1)).unwrap();
            log.expire_producers();
            assert_eq!(known(&log), expected, "round {round}");
            log.roll().unwrap();
            clock.advance(40_000);
        }
        dir.close().unwrap();
        assert_eq!(known(&open().partition("t", 0).unwrap()), [2]);
    }
}

/// Under the increasing rule sequences do not begin again at 0: what came there was taken for a duplicate, and lost.
#[test]
fn a_producer_whose_sequences_are_used_up_says_so_instead_of_beginning_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), increasing(mode)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let producer = dir.producer("sensor-7").unwrap();
        log.append(&batch(producer.id().0, producer.epoch().0, i32::MAX, 1)).unwrap();
        let refused = producer.append(&log, BatchBuilder::new().record("k", "v"));
        assert!(matches!(refused, Err(Error::SequencesExhausted)), "{refused:?}");
        assert_eq!(log.log_end_offset(), Offset(1));
    }
}
