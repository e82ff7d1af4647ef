//! Batches that lie, expand without end, or stand at the ends of their types.

use std::path::Path;

use bytes::Bytes;
use idemlog::verify::{ProblemKind, VerifyOptions, verify};
use idemlog::{
    AppendOptions, Batch, BatchBuilder, BatchError, Compression, ControlRecord, Error, IoMode, LeaderEpoch,
    Log, LogDir, LogDirOptions, LogOptions, Offset, Origin, ProducerEpoch, ProducerId, RecordBuilder,
    RecordCheck, Sequence, Timestamp, UncheckedBatch,
};

use crate::common::{MODES, TestClock, batch, plain, small, stored};

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// A batch that is small and expands to `bytes`. Of its records nothing was looked at yet.
fn bomb(codec: Compression, bytes: usize) -> Batch {
    let built = BatchBuilder::new().compression(codec).record("k", vec![0; bytes]).build().unwrap();
    unchecked(built.bytes()).unwrap()
}

fn unchecked(bytes: &Bytes) -> Result<Batch, BatchError> {
    UncheckedBatch::decode(bytes)?.check(RecordCheck::Header, 0)
}

fn open(data: &Path, options: LogOptions) -> (LogDir, Log) {
    let dir = LogDir::open(data, LogDirOptions::default().log(options)).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    (dir, log)
}

fn replicate(log: &Log, batch: &Batch) -> Result<(), Error> {
    let replicated = AppendOptions::default().origin(Origin::Replication);
    log.submit(std::slice::from_ref(batch), replicated)?.wait().map(drop)
}

#[test]
fn a_bomb_from_a_client_is_refused_at_the_bound() {
    const LIMIT: usize = 1 << 20;
    for (mode, codec) in MODES.into_iter().flat_map(|mode| CODECS.map(|codec| (mode, codec))) {
        let data = tempfile::tempdir().unwrap();
        let options = LogOptions::default().io_mode(Some(mode)).max_decompressed_bytes(LIMIT);
        let (_dir, log) = open(data.path(), options);
        let bomb = bomb(codec, 8 * LIMIT);
        assert!(bomb.bytes().len() < LIMIT, "{codec} is no bomb");
        let refused = log.append(&bomb).unwrap_err();
        let expected = Error::from(BatchError::DecompressedTooLarge { limit: LIMIT });
        assert_eq!(refused.to_string(), expected.to_string(), "{codec}");
        assert_eq!(log.log_end_offset(), Offset(0));
    }
}

/// A batch that had been through its check already was stored whatever it decompresses to: a log's bound was only looked at
/// where nobody had.
#[test]
fn a_bomb_that_was_checked_within_a_larger_bound_is_refused_at_that_of_the_log() {
    const SIZE: usize = 2 << 20;
    for codec in CODECS {
        let built = BatchBuilder::new().compression(codec).record("k", vec![0; SIZE]).build().unwrap();
        let decoded = Batch::decode(built.bytes().clone()).unwrap();
        let lent = Batch::decode_lent(built.bytes()).unwrap();
        for (limit, is_taken) in [(1 << 20, false), (SIZE, false), (SIZE + 100, true)] {
            let data = tempfile::tempdir().unwrap();
            let options = LogOptions::default().io_mode(Some(IoMode::Write)).max_decompressed_bytes(limit);
            let (_dir, log) = open(data.path(), options);
            for outcome in [log.append(&built), log.append(&decoded), log.append(&lent)] {
                match outcome {
                    Ok(_) => assert!(is_taken, "{codec} within {limit}"),
                    Err(Error::InvalidBatch(BatchError::DecompressedTooLarge { limit: got })) => {
                        assert!(!is_taken && got == limit, "{codec} within {limit}");
                    }
                    Err(error) => panic!("{codec} within {limit}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_bomb_from_a_leader_is_stored_and_goes_off_in_nobodys_hands() {
    let data = tempfile::tempdir().unwrap();
    let (dir, log) = open(data.path(), small(IoMode::Write).segment_bytes(1 << 20));
    // More than anything in the engine decompresses without being told to.
    let bomb = bomb(Compression::Zstd, 80 << 20);
    replicate(&log, &bomb).unwrap();
    log.append(&plain("behind it")).unwrap();
    let read = log.reader(Offset(0)).unwrap().next().unwrap().unwrap();
    assert!(matches!(read.records().next(), Some(Err(BatchError::DecompressedTooLarge { .. }))));
    assert!(matches!(log.offset_for_timestamp(bomb.header().max_timestamp), Err(Error::Corrupt(_))));
    dir.close().unwrap();
    drop((dir, log));
    let report = verify(data.path(), &VerifyOptions::default()).unwrap();
    assert!(
        !report.has_errors() && matches!(report.problems[0].kind, ProblemKind::NotLookedAt(_)),
        "{report:?}"
    );
    let (_dir, log) = open(data.path(), small(IoMode::Write));
    assert_eq!(stored(&log).len(), 2);
}

/// Where a field lies in a batch, and how many bytes it has.
const FIELDS: [(&str, usize, usize); 10] = [
    ("base offset", 0, 8),
    ("length", 8, 4),
    ("leader epoch", 12, 4),
    ("attributes", 21, 2),
    ("last offset delta", 23, 4),
    ("base timestamp", 27, 8),
    ("max timestamp", 35, 8),
    ("producer id", 43, 8),
    ("base sequence", 53, 4),
    ("record count", 57, 4),
];

/// A batch of three records with other bytes in one field, under a right checksum.
fn lie(at: usize, size: usize, value: i64) -> Vec<u8> {
    let mut bytes = batch(7, 0, 0, 3).bytes().to_vec();
    bytes[at..at + size].copy_from_slice(&value.to_be_bytes()[8 - size..]);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn lies() -> impl Iterator<Item = (String, Vec<u8>)> {
    let values = [i64::MIN, i64::MAX, -2, -1, 0, 1, 2, 3, 4, 48, 49, 1 << 16, 1 << 30, i64::from(i32::MAX)];
    FIELDS.into_iter().flat_map(move |(name, at, size)| {
        values.map(|value| (format!("{name} {value} in {size} bytes"), lie(at, size, value)))
    })
}

#[test]
fn a_batch_that_lies_about_itself_is_refused_or_taken_and_harms_nobody() {
    let data = tempfile::tempdir().unwrap();
    let (dir, log) = open(data.path(), small(IoMode::Write));
    for (name, bytes) in lies() {
        let end = log.log_end_offset();
        let taken = Batch::decode(bytes.into()).map_err(Error::from).and_then(|batch| log.append(&batch));
        match taken {
            Ok(outcome) if outcome.is_duplicate() => assert_eq!(log.log_end_offset(), end, "{name}"),
            Ok(_) => assert_eq!(log.log_end_offset(), end + 3, "{name}"),
            Err(_) => assert_eq!(log.log_end_offset(), end, "{name}"),
        }
    }
    dir.close().unwrap();
    assert!(!verify(data.path(), &VerifyOptions::default()).unwrap().has_errors());
}

#[test]
fn a_batch_that_lies_to_a_follower_or_lies_in_a_file_harms_nobody() {
    for (name, bytes) in lies() {
        let data = tempfile::tempdir().unwrap();
        let (dir, log) = open(data.path(), small(IoMode::Write));
        replicate(&log, &plain("first")).unwrap();
        let end = log.log_end_offset();
        if let Ok(batch) = unchecked(&bytes.clone().into()) {
            let taken = replicate(&log, &batch).is_ok();
            assert!(taken || log.log_end_offset() == end, "{name}");
        }
        let file = log.directory().join("00000000000000000000.log");
        drop((dir, log));
        let mut contents = plain("first").bytes().to_vec();
        contents.extend_from_slice(&bytes);
        std::fs::write(&file, contents).unwrap();
        // Whether it is taken, cut or refused: it comes back, and the first batch is there.
        let _ = verify(data.path(), &VerifyOptions::default());
        let dir = LogDir::open(data.path(), LogDirOptions::default().log(small(IoMode::Write))).unwrap();
        match dir.partition("orders", 0) {
            Ok(log) => {
                let read = log.reader(Offset(0)).unwrap().next().unwrap().unwrap();
                assert_eq!(read.header().crc, plain("first").header().crc, "{name}");
                let _ = log.offset_for_timestamp(Timestamp(i64::MAX));
                let _ = log.append(&plain("behind it"));
            }
            Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{name}: {error:?}"),
        }
    }
}

const ENDS: [i64; 7] = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];

#[test]
fn timestamps_at_the_ends_of_their_type_are_stored_found_and_kept() {
    for (at, first) in ENDS.into_iter().enumerate() {
        for (to, second) in ENDS.into_iter().enumerate() {
            let mode = MODES[(at + to) % 2];
            let data = tempfile::tempdir().unwrap();
            let options = small(mode).segment_ms(1).retention_ms(Some(i64::MAX));
            let (dir, log) = open(data.path(), options.max_timestamp_ahead_ms(i64::MAX));
            let records = [first, second].map(|at| RecordBuilder::new().value("v").timestamp(Timestamp(at)));
            let built = records.into_iter().fold(BatchBuilder::new(), BatchBuilder::push).build();
            // Between two records there is no more time than a number can say.
            let Ok(batch) = built else { continue };
            for batch in [&batch, &plain("between"), &batch] {
                log.append(batch).unwrap();
            }
            for at in ENDS {
                log.offset_for_timestamp(Timestamp(at)).unwrap();
            }
            log.roll().unwrap();
            log.apply_retention().unwrap();
            let left = stored(&log);
            dir.close().unwrap();
            drop((dir, log));
            let report = verify(data.path(), &VerifyOptions::default()).unwrap();
            assert!(!report.has_errors(), "{first} {second}: {report:?}");
            assert_eq!(stored(&open(data.path(), small(mode)).1), left, "{first} {second}");
        }
    }
}

#[test]
fn a_host_whose_clock_stands_at_an_end_of_time_loses_nothing_and_forgets_nobody_at_once() {
    for now in ENDS {
        let data = tempfile::tempdir().unwrap();
        let log =
            small(IoMode::Write).expiry_interval_ms(1).retention_interval_ms(1).retention_ms(Some(i64::MAX));
        let clock = TestClock::at(now);
        let options = LogDirOptions::default().log(log).clock(clock);
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        log.append(&batch(7, 0, 0, 3)).unwrap();
        log.expire_producers();
        assert!(log.append(&batch(7, 0, 0, 3)).unwrap().is_duplicate(), "{now}");
        dir.close().unwrap();
        drop((dir, log));
        let log = LogDir::open(data.path(), options).unwrap().partition("orders", 0).unwrap();
        assert!(log.append(&batch(7, 0, 0, 3)).unwrap().is_duplicate(), "{now}");
    }
}

#[test]
fn offsets_and_leader_epochs_at_the_ends_of_their_types_are_followed_or_refused() {
    let epochs = [i32::MIN, -1, 0, i32::MAX - 1, i32::MAX];
    for (offset, epoch) in ENDS.into_iter().flat_map(|offset| epochs.map(|epoch| (offset, epoch))) {
        let data = tempfile::tempdir().unwrap();
        let (dir, log) = open(data.path(), small(IoMode::Write));
        let first = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), Sequence(0))
            .record("k", "v")
            .base_offset(Offset(offset))
            .leader_epoch(LeaderEpoch(epoch))
            .build();
        let Ok(first) = first else { continue };
        let taken = replicate(&log, &first).is_ok();
        let _ = log.append(&plain("behind it"));
        let (left, end) = (stored(&log), log.log_end_offset());
        assert_eq!(taken, left.contains(&(offset, first.header().crc)), "{offset} {epoch}");
        log.roll().unwrap();
        let _ = log.delete_records(end);
        let _ = log.truncate_to(Offset(offset));
        dir.close().unwrap();
        drop((dir, log));
        let (_dir, log) = open(data.path(), small(IoMode::Write));
        assert!(log.log_end_offset() <= end, "{offset} {epoch}");
    }
}

/// Of a control batch that was replicated only the first record was looked at. Whatever was behind it had an opening cut the log
/// in front of the batch, which was acknowledged, and all that came later.
#[test]
fn a_control_batch_that_a_recovery_would_not_take_is_refused_whoever_sends_it() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let options = small(mode).record_check(RecordCheck::Header);
        let (dir, log) = open(data.path(), options.clone());
        let marker = BatchBuilder::new()
            .producer(ProducerId(7), ProducerEpoch(0), Sequence::NONE)
            .control(ControlRecord::Commit { coordinator_epoch: 0 })
            .build()
            .unwrap();
        let mut bytes = [marker.bytes().as_ref(), &[0]].concat();
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let odd = unchecked(&Bytes::from(bytes)).unwrap();
        for origin in [Origin::Replication, Origin::Coordinator] {
            let sent = log.submit(std::slice::from_ref(&odd), AppendOptions::default().origin(origin));
            assert!(matches!(sent, Err(Error::InvalidBatch(_))), "{mode:?} {origin:?}");
        }
        log.append(&plain("behind")).unwrap();
        drop((dir, log)); // killed
        let (_dir, log) = open(data.path(), options);
        assert_eq!((log.log_end_offset(), &log.recovery().cut), (Offset(1), &None), "{mode:?}");
    }
}
