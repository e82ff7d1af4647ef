//! How far a client may be ahead of the clock, by which segments go.

use idemlog::{
    AppendOptions, Batch, BatchBuilder, BatchError, Error, ErrorCode, Log, Offset, Origin, ProducerEpoch,
    ProducerId, RecordBuilder, Result, Sequence, Timestamp, TimestampType,
};

use crate::Fixture;
use crate::common::{MODES, stored};

/// The time at which a fixture's clock begins, and the latest timestamp that it takes by default.
const NOW: i64 = 1_000_000;
const LATEST: i64 = NOW + 60 * 60 * 1000;

/// A batch of two records of a producer, of which the second has the later timestamp.
fn dated(sequence: i32, timestamp: i64) -> Batch {
    let at = |timestamp| RecordBuilder::new().value("v").timestamp(Timestamp(timestamp));
    let builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), Sequence(sequence));
    builder.push(at(0)).push(at(timestamp)).build().unwrap()
}

fn assert_ahead<T>(refused: Result<T>, latest: i64, timestamp: i64) {
    let Err(error @ Error::InvalidBatch(BatchError::TimestampAhead { expected, got })) = refused else {
        panic!("not refused for its timestamp")
    };
    assert_eq!((expected, got), (Timestamp(latest), Timestamp(timestamp)));
    assert_eq!((error.code(), error.code().number()), (ErrorCode::InvalidTimestamp, 32));
}

/// The short way of an append, and the long one.
const WAYS: [fn(&Log, &Batch) -> Result<bool>; 2] = [
    |log, batch| log.append(batch).map(|outcome| outcome.is_duplicate()),
    |log, batch| log.append_all(std::slice::from_ref(batch)).map(|outcomes| outcomes[0].is_duplicate()),
];

#[test]
fn a_client_that_is_too_far_ahead_of_the_clock_is_refused_and_nothing_is_changed() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        assert_ahead(append(&log, &dated(0, LATEST + 1)), LATEST, LATEST + 1);
        assert_eq!((log.log_end_offset(), log.producers().len(), fixture.files().len()), (Offset(0), 0, 0));
        for sequence in 0..3 {
            append(&log, &dated(sequence * 2, LATEST)).unwrap();
        }
        let before = (stored(&log), log.producers());
        for timestamp in [LATEST + 1, i64::MAX] {
            assert_ahead(append(&log, &dated(6, timestamp)), LATEST, timestamp);
        }
        let call = log.append_all(&[dated(6, NOW), dated(8, LATEST + 1), dated(10, NOW)]);
        assert_ahead(call, LATEST, LATEST + 1);
        assert_eq!((stored(&log), log.producers()), before, "all of a call are refused");
        fixture.clock.advance(1);
        append(&log, &dated(6, LATEST + 1)).unwrap();
        append(&log, &dated(8, -1)).unwrap();
    }
}

#[test]
fn a_duplicate_is_answered_wherever_the_clock_stands() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        append(&log, &dated(0, LATEST)).unwrap();
        fixture.clock.advance(-1000);
        assert!(append(&log, &dated(0, LATEST)).unwrap());
        log.set_options((*log.options()).clone().max_timestamp_ahead_ms(0)).unwrap();
        assert!(append(&log, &dated(0, LATEST)).unwrap());
        assert_ahead(append(&log, &dated(2, NOW)), NOW - 1000, NOW);
        let call = log.append_all(&[dated(0, LATEST), dated(2, 0)]).unwrap();
        assert!(call[0].is_duplicate() && !call[1].is_duplicate());
    }
}

#[test]
fn how_far_ahead_a_client_may_be_changes_with_the_options() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let (_dir, log) = Fixture::new(mode).open().unwrap();
        append(&log, &dated(0, NOW)).unwrap();
        let set = |ahead| log.set_options((*log.options()).clone().max_timestamp_ahead_ms(ahead)).unwrap();
        set(10);
        append(&log, &dated(2, NOW + 10)).unwrap();
        assert_ahead(append(&log, &dated(4, NOW + 11)), NOW + 10, NOW + 11);
        set(i64::MAX);
        append(&log, &dated(4, i64::MAX)).unwrap();
        set(10);
        assert_ahead(append(&log, &dated(6, NOW + 11)), NOW + 10, NOW + 11);
    }
}

#[test]
fn only_a_clients_own_timestamps_are_held_against_the_clock() {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.max_timestamp_ahead_ms(0));
        let (_dir, log) = fixture.open().unwrap();
        let submit = |batch: Batch, origin| {
            let options = AppendOptions::default().origin(origin);
            log.submit(&[batch], options).and_then(|pending| pending.wait().map(drop))
        };
        assert_ahead(submit(dated(0, LATEST), Origin::Client), NOW, LATEST);
        submit(dated(0, LATEST), Origin::Replication).unwrap();
        let own = BatchBuilder::new().timestamp(Timestamp(LATEST)).record("k", "v").build().unwrap();
        submit(own, Origin::Coordinator).unwrap();
        log.set_options((*log.options()).clone().timestamp_type(TimestampType::LogAppendTime)).unwrap();
        let stamped = log.append(&dated(2, LATEST)).unwrap();
        assert_eq!(stamped.timestamp(), Timestamp(NOW));
    }
}
