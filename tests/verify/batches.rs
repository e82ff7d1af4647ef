//! Damage in batches.

use idemlog::verify::{Problem, ProblemKind, Severity, VerifyOptions, verify};
use idemlog::{BatchBuilder, Compression, IoMode, LogDir, LogDirOptions, LogOptions, Offset, Timestamp};

use crate::common::change;
use crate::{closed, errors, files, look};

#[test]
fn every_flipped_bit_of_a_batch_is_found() {
    let data = closed(IoMode::Mapped);
    let log = &files(&data, ".log")[1];
    let len = std::fs::read(log).unwrap().len();
    for at in (0..len).step_by(37) {
        change(log, |bytes| bytes[at] ^= 4);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *log), "byte {at}");
        change(log, |bytes| bytes[at] ^= 4);
    }
    assert_eq!(look(data.path()).problems, []);
}

/// Offsets were added up without a bound, and none was too far from its segment's base: hostile ones overflowed the count of
/// those that are missing.
#[test]
fn offsets_beyond_what_a_segment_can_hold_are_found() {
    let data = tempfile::tempdir().unwrap();
    let partition = data.path().join("orders-0");
    std::fs::create_dir(&partition).unwrap();
    let log = partition.join("00000000000000000000.log");
    let far = [1 << 62, 0, 1 << 62, 0, 1 << 62, i64::MAX - 1];
    let batches = far.map(|offset| {
        BatchBuilder::new().base_offset(Offset(offset)).record("k", "v").build().unwrap().bytes().to_vec()
    });
    std::fs::write(&log, batches.concat()).unwrap();
    for allow_gaps in [true, false] {
        let report = verify(&partition, &VerifyOptions::default().allow_gaps(allow_gaps)).unwrap();
        let found = errors(&report);
        assert!(found.iter().all(|problem| problem.path == log));
        let is_far = |problem: &&&Problem| matches!(problem.kind, ProblemKind::BeyondSegment { .. });
        assert_eq!(found.iter().filter(is_far).count(), 4, "{found:?}");
    }
}

/// What a batch may decompress to was 64 MiB wherever a log was looked at, whatever it had taken: a look-up by time said that
/// the log was corrupt, and so did `verify`.
#[test]
fn a_batch_that_decompresses_to_more_than_is_usual_is_found_by_time_and_noted() {
    let data = tempfile::tempdir().unwrap();
    let options = LogDirOptions::default().log(LogOptions::default().max_decompressed_bytes(80 << 20));
    let dir = LogDir::open(data.path(), options).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let builder = BatchBuilder::new().compression(Compression::Zstd).timestamp(Timestamp(5));
    log.append(&builder.record("k", vec![0; 70 << 20]).build().unwrap()).unwrap();
    let found = log.offset_for_timestamp(Timestamp(5)).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (Offset(0), Timestamp(5)));
    dir.close().unwrap();
    let [note] = &look(data.path()).problems[..] else { panic!() };
    assert_eq!(note.severity, Severity::Note);
    assert_eq!(note.kind.to_string(), "not looked at: the records decompress to more than 67108864 bytes");
}
