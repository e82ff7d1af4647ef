//! Segments and partitions that are missing, and gaps.

use idemlog::verify::{ProblemKind, Severity, VerifyOptions, VerifyReport, verify};
use idemlog::{AppendOptions, BatchBuilder, IoMode, Offset, Origin, Timestamp};
use tempfile::TempDir;

use crate::common::open;
use crate::{closed, errors, files, filled, look};

/// A log that was copied from a leader's, with offsets 5 to 8 and 12 missing.
fn with_gaps() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for (base, count) in [(0, 5), (9, 3), (13, 2)] {
        let builder = BatchBuilder::new().base_offset(Offset(base)).timestamp(Timestamp(1));
        let batch = (0..count).fold(builder, |builder, _| builder.record("k", "v")).build().unwrap();
        log.submit(&[batch], AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
    }
    dir.close().unwrap();
    data
}

/// Where gaps are allowed, a segment whose file was gone passed for one, although its indexes lay there.
#[test]
fn a_segment_of_which_an_index_is_left_is_no_gap() {
    let data = closed(IoMode::Mapped);
    let lost = &files(&data, ".log")[1];
    std::fs::remove_file(lost).unwrap();
    let base = Offset(lost.file_stem().unwrap().to_str().unwrap().parse().unwrap());
    for allow_gaps in [true, false] {
        let report = verify(data.path(), &VerifyOptions::default().allow_gaps(allow_gaps)).unwrap();
        let found = errors(&report)[0];
        assert!(found.loses_data && found.path == *lost, "{found}");
        assert!(
            matches!(found.kind, ProblemKind::LostSegment { expected, .. } if expected == base),
            "{found}"
        );
    }
}

#[test]
fn a_missing_segment_is_found_unless_gaps_are_allowed() {
    let data = closed(IoMode::Mapped);
    let lost = files(&data, ".log")[1].clone();
    for extension in ["log", "index", "timeindex", "txnindex"] {
        std::fs::remove_file(lost.with_extension(extension)).unwrap();
    }
    let report = look(data.path());
    let missing = errors(&report)[0];
    assert_eq!(missing.path, files(&data, ".log")[1]);
    assert!(matches!(missing.kind, ProblemKind::MissingSegment { .. }), "{missing}");
    let with_gaps = verify(data.path(), &VerifyOptions::default().allow_gaps(true)).unwrap();
    assert!(!with_gaps.problems.iter().any(|problem| problem.kind == missing.kind));
}

#[test]
fn a_log_that_ends_below_its_recovery_point_is_found() {
    let data = closed(IoMode::Mapped);
    let last = files(&data, ".log").pop().unwrap();
    std::fs::remove_file(last).unwrap();
    let report = look(data.path());
    assert!(errors(&report).iter().any(|problem| matches!(problem.kind, ProblemKind::MissingEnd { .. })));
}

#[test]
fn gaps_are_errors_and_where_they_are_allowed_a_note() {
    let data = with_gaps();
    let log = &files(&data, ".log")[0];
    let report = look(data.path());
    let found: Vec<String> = errors(&report).iter().map(|problem| problem.kind.to_string()).collect();
    assert_eq!(found, ["a batch at offset 9 where 5 must stand", "a batch at offset 13 where 12 must stand"]);

    let allowed = verify(data.path(), &VerifyOptions::default().allow_gaps(true)).unwrap();
    let [gaps] = &allowed.problems[..] else { panic!("{:?}", allowed.problems) };
    assert_eq!((gaps.severity, &gaps.path), (Severity::Note, log));
    assert_eq!(gaps.kind.to_string(), "gaps: 2, 5 offsets in all, the first from 5 up to 9");
}

fn lost(report: &VerifyReport) -> Vec<String> {
    let lost = report.problems.iter().filter(|problem| problem.loses_data);
    lost.map(|problem| problem.kind.to_string()).collect()
}

/// A directory was sound without a partition that its checkpoint knew.
#[test]
fn a_partition_that_is_missing_is_found() {
    let (data, dir) = filled(IoMode::Mapped);
    dir.partition("orders", 1).unwrap();
    dir.close().unwrap();
    std::fs::remove_dir_all(data.path().join("orders-0")).unwrap();
    let report = look(data.path());
    assert_eq!(lost(&report), ["the partition is missing; its recovery point is 240"]);
    assert!(errors(&report)[0].path.ends_with("orders-0"));
    // Kafka is moving it here.
    let future = format!("orders-0.{}-future", "0".repeat(32));
    std::fs::create_dir(data.path().join(&future)).unwrap();
    assert_eq!(look(data.path()).problems, []);
    std::fs::remove_dir(data.path().join(future)).unwrap();
    // Behind a crash it may have been deleted.
    std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
    let report = look(data.path());
    assert!(!report.has_errors() && report.problems.len() == 1, "{report:?}");
}

/// A log was sound without its first segments.
#[test]
fn segments_that_are_missing_at_the_head_are_found() {
    let data = closed(IoMode::Mapped);
    let first =
        files(&data, "").into_iter().filter(|path| path.to_string_lossy().contains("/0000000000000000000"));
    first.for_each(|path| std::fs::remove_file(path).unwrap());
    for path in [data.path(), &data.path().join("orders-0")] {
        let report = look(path);
        let [text] = &lost(&report)[..] else { panic!("{report:?}") };
        assert!(text.starts_with("segments are missing: the first begins at offset "), "{text}");
    }
    // An opening refuses it, and leaves nothing that marks the directory as clean: nor is that an excuse.
    let dir = open(data.path(), IoMode::Mapped);
    assert!(dir.partition("orders", 0).is_err());
    drop(dir);
    assert_eq!(lost(&look(data.path())).len(), 1);
}

/// All of a log was gone, and its directory sound.
#[test]
fn a_partition_that_has_lost_every_segment_is_found() {
    let data = closed(IoMode::Mapped);
    files(&data, "").iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let report = look(data.path());
    let [text] = &lost(&report)[..] else { panic!("{report:?}") };
    assert!(text.starts_with("the log ends at offset 0, below the recovery point 240"), "{text}");
}
