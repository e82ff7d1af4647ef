//! Whatever is wrong with a log is found, and nothing is found wrong with a sound one.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{MODES, batch, change, open, plain};
use idemlog::repair::plan;
use idemlog::verify::{
    Problem, ProblemKind, Severity, VerifyOptions, VerifyReport, verify, verify_with_progress,
};
use idemlog::{
    AppendOptions, BatchBuilder, Compression, ControlRecord, Error, IoMode, LogDir, LogDirOptions,
    LogOptions, Offset, Origin, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};
use tempfile::TempDir;

/// A log of several segments with two producers.
fn filled(mode: IoMode) -> (TempDir, LogDir) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), mode);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..40 {
        log.append(&batch(7, 0, at * 3, 3)).unwrap();
        log.append(&batch(8, 0, at * 2, 2)).unwrap();
        log.append(&plain("no producer")).unwrap();
    }
    (data, dir)
}

fn closed(mode: IoMode) -> TempDir {
    let (data, dir) = filled(mode);
    dir.close().unwrap();
    data
}

/// A closed log of several segments in which producers 1 and 2 abort and commit transactions that overlap.
fn transactional(mode: IoMode) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), mode);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..40 {
        let id = ProducerId(1 + at % 2);
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(at as i32 / 2));
        let batch = builder.transactional().record("k", "x".repeat(200)).timestamp(Timestamp(7)).build();
        log.append(&batch.unwrap()).unwrap();
        if at % 5 == 4 {
            let coordinator_epoch = 0;
            let marker = match at % 2 {
                0 => ControlRecord::Abort { coordinator_epoch },
                _ => ControlRecord::Commit { coordinator_epoch },
            };
            log.end_transaction(id, ProducerEpoch(0), marker).unwrap();
            let other = ProducerId(3 - id.0);
            log.end_transaction(other, ProducerEpoch(0), ControlRecord::Abort { coordinator_epoch }).unwrap();
        }
    }
    dir.close().unwrap();
    data
}

/// The transaction indexes that have entries.
fn filled_transaction_indexes(data: &TempDir) -> Vec<PathBuf> {
    let mut indexes = files(data, ".txnindex");
    indexes.retain(|path| path.metadata().unwrap().len() > 0);
    assert!(indexes.len() > 1);
    indexes
}

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

fn look(path: &Path) -> VerifyReport {
    verify(path, &VerifyOptions::default()).unwrap()
}

fn errors(report: &VerifyReport) -> Vec<&Problem> {
    report.problems.iter().filter(|problem| problem.severity == Severity::Error).collect()
}

/// The files of the partition that end with `suffix`, by name.
fn files(data: &TempDir, suffix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data.path().join("orders-0")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(suffix));
    paths.sort();
    paths
}

/// An index entry with its bytes as two numbers.
fn entry(bytes: &[u8], at: usize) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(at), number(at + 4))
}

#[test]
fn a_closed_log_is_sound() {
    for mode in MODES {
        let data = closed(mode);
        let report = look(data.path());
        assert_eq!(report.problems, [], "{mode:?}");
        assert_eq!(report.batches, 120);
        let bytes: u64 = files(&data, ".log").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(report.bytes, bytes);
        assert_eq!(look(&data.path().join("orders-0")).problems, []);
        assert!(files(&data, ".log").len() > 2 && files(&data, ".snapshot").len() > 2);
        assert!(files(&data, ".index").iter().any(|path| path.metadata().unwrap().len() > 0));
    }
}

#[test]
fn a_log_that_was_not_closed_has_notes_and_no_error() {
    for mode in MODES {
        let (data, dir) = filled(mode);
        drop(dir);
        let report = look(data.path());
        assert_eq!(errors(&report), Vec::<&Problem>::new(), "{mode:?}");
        assert_eq!(report.batches, 120);
    }
}

/// Says on the disk that what lies below `point` is durable, and that nobody closed the log.
fn crashed_at(data: &TempDir, point: i64) {
    std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
    let points = format!("0\n1\norders 0 {point}\n");
    std::fs::write(data.path().join("recovery-point-offset-checkpoint"), points).unwrap();
}

/// Tears the last batch of a log, as who is killed in the middle of a copy.
fn tear_last(data: &TempDir) {
    change(&files(data, ".log").pop().unwrap(), |bytes| {
        let torn = bytes.len() - 10;
        bytes[torn..].fill(0);
    });
}

/// `verify` called what a kill or a power cut had left damaged, and exited with 1, where the next opening cut it off as a matter of
/// course.
#[test]
fn a_torn_end_is_a_note_where_an_opening_cuts_it_and_else_an_error() {
    for mode in MODES {
        let torn = |point: Option<i64>| {
            let data = closed(mode);
            if let Some(point) = point {
                crashed_at(&data, point);
            }
            tear_last(&data);
            data
        };
        let data = torn(Some(100));
        let report = look(data.path());
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
        let is_told = |problem: &Problem| matches!(problem.kind, ProblemKind::UnfinishedEnd { .. });
        assert_eq!(report.problems.iter().filter(|problem| is_told(problem)).count(), 1);
        let partition = data.path().join("orders-0");
        assert_eq!(look(&partition).problems, report.problems);
        assert!(plan(&partition).unwrap().is_needless());
        assert_eq!(open(data.path(), mode).partition("orders", 0).unwrap().recovery().log_end, Offset(239));

        for (data, what) in [(torn(None), "closed well"), (torn(Some(240)), "below the recovery point")] {
            assert!(look(data.path()).has_errors(), "{mode:?}: {what}");
            assert!(!plan(data.path().join("orders-0")).unwrap().is_needless(), "{mode:?}: {what}");
        }
        let copy = tempfile::tempdir().unwrap();
        std::fs::rename(&partition, copy.path().join("orders-0")).unwrap();
        tear_last(&copy);
        for path in [copy.path().to_owned(), copy.path().join("orders-0")] {
            assert!(look(&path).has_errors(), "{mode:?}: a copy");
        }
        assert!(!plan(copy.path().join("orders-0")).unwrap().is_needless());
    }
}

#[test]
fn without_a_checkpoint_nothing_but_the_last_batch_may_be_torn() {
    for mode in MODES {
        let (data, dir) = filled(mode);
        drop(dir);
        let points = data.path().join("recovery-point-offset-checkpoint");
        let _ = std::fs::remove_file(points);
        let last = files(&data, ".log").pop().unwrap();
        let mut log = std::fs::read(&last).unwrap();
        let end = log.iter().rposition(|&byte| byte != 0).unwrap();
        log[end - 5] ^= 1;
        std::fs::write(&last, &log).unwrap();
        let report = look(data.path());
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
        assert!(
            report.problems.iter().any(|problem| matches!(problem.kind, ProblemKind::UnfinishedEnd { .. }))
        );

        log[end - 5] ^= 1;
        log[30] ^= 1;
        std::fs::write(&last, &log).unwrap();
        assert!(look(data.path()).has_errors(), "{mode:?}: valid batches lie behind");
    }
}

/// A checkpoint wrote entries of batches that were not synced, and a power cut took the batches: `verify` called the index wrong,
/// and `repair` set a sound one aside.
#[test]
fn what_indexes_and_snapshots_say_of_batches_that_a_power_cut_took_is_a_note() {
    for mode in MODES {
        let data = closed(mode);
        let (last, snapshot) =
            (files(&data, ".log").pop().unwrap(), files(&data, ".snapshot").pop().unwrap());
        let base: i64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        change(&last, |bytes| bytes.truncate(bytes.len() / 2 - 3));
        crashed_at(&data, base + 1);
        let report = look(data.path());
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
        let noted = |path: &Path| report.problems.iter().any(|problem| problem.path == path);
        let indexes = ["index", "timeindex"].map(|extension| last.with_extension(extension));
        assert!(indexes.iter().all(|path| noted(path)) && noted(&snapshot), "{:?}", report.problems);
        let partition = data.path().join("orders-0");
        assert!(plan(&partition).unwrap().is_needless(), "{mode:?}: {}", plan(&partition).unwrap());

        std::fs::write(data.path().join(".kafka_cleanshutdown"), "").unwrap();
        let report = look(data.path());
        let wrong = |path: &Path| errors(&report).iter().any(|problem| problem.path == path);
        assert!(indexes.iter().all(|path| wrong(path)) && wrong(&snapshot), "{mode:?}: closed well");
        std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();

        let dir = open(data.path(), mode);
        let recovery = dir.partition("orders", 0).unwrap().recovery().clone();
        assert_eq!(recovery.removed, [snapshot], "{mode:?}: {recovery}");
        dir.close().unwrap();
        assert_eq!(look(data.path()).problems, []);
    }
}

#[test]
fn looking_changes_nothing() {
    let (data, dir) = filled(IoMode::Mapped);
    drop(dir);
    let state = || files(&data, "").iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = state();
    look(data.path());
    assert_eq!(state(), before);
}

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

#[test]
fn a_flipped_bit_in_any_byte_of_an_index_is_found() {
    let data = closed(IoMode::Mapped);
    // The highest: a lower one of an offset may make it that of a later batch, as Kafka has it.
    for suffix in [".index", ".timeindex"] {
        let index = &files(&data, suffix)[0];
        let len = std::fs::read(index).unwrap().len();
        assert!(len > 0);
        for at in 0..len {
            change(index, |bytes| bytes[at] ^= 0x80);
            let report = look(data.path());
            assert!(errors(&report).iter().any(|problem| problem.path == *index), "{suffix} byte {at}");
            change(index, |bytes| bytes[at] ^= 0x80);
        }
    }
}

/// A look-up of just that timestamp begins at the batch of the entry.
#[test]
fn a_time_index_entry_that_names_a_later_batch_with_the_same_timestamp_is_found() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for _ in 0..20 {
        log.append(&plain(&"x".repeat(100))).unwrap();
    }
    dir.close().unwrap();
    let index = &files(&data, ".timeindex")[0];
    assert!(errors(&look(data.path())).is_empty());
    for later in [1, 5] {
        change(index, |bytes| bytes[11] = later);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *index), "{later}");
    }
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_found() {
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    for at in 0..std::fs::read(snapshot).unwrap().len() {
        change(snapshot, |bytes| bytes[at] ^= 1);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *snapshot), "byte {at}");
        change(snapshot, |bytes| bytes[at] ^= 1);
    }
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
fn an_index_entry_into_the_middle_of_a_batch_is_found() {
    let data = closed(IoMode::Mapped);
    let index = &files(&data, ".index")[0];
    let (_, position) = entry(&std::fs::read(index).unwrap(), 0);
    change(index, |bytes| bytes[4..8].copy_from_slice(&(position + 1).to_be_bytes()));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path, found[0].position), (1, index, 0));
    assert!(matches!(found[0].kind, ProblemKind::IndexPosition { .. }), "{}", found[0]);
}

#[test]
fn a_snapshot_that_disagrees_with_the_log_is_found() {
    const CRC: usize = 2;
    const LAST_SEQUENCE: usize = 10 + 10;
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    change(snapshot, |bytes| {
        bytes[LAST_SEQUENCE + 3] ^= 1;
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    });
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, snapshot));
    assert!(found[0].kind.to_string().contains("by the log sequences"), "{}", found[0]);
}

#[test]
fn a_snapshot_beyond_the_log_is_found() {
    let data = closed(IoMode::Mapped);
    let beyond = data.path().join("orders-0/00000000000000099999.snapshot");
    std::fs::copy(files(&data, ".snapshot").last().unwrap(), &beyond).unwrap();
    let report = look(data.path());
    assert_eq!(errors(&report).iter().map(|problem| &problem.path).collect::<Vec<_>>(), [&beyond]);
}

#[test]
fn leader_epochs_that_disagree_with_the_batches_are_found() {
    let data = closed(IoMode::Mapped);
    std::fs::write(data.path().join("orders-0/leader-epoch-checkpoint"), "0\n2\n0 0\n3 5\n").unwrap();
    assert!(errors(&look(data.path()))[0].kind.to_string().contains("is of leader epoch 0, by"));
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
fn a_log_with_transactions_is_sound() {
    for mode in MODES {
        let data = transactional(mode);
        assert_eq!(look(data.path()).problems, [], "{mode:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_transaction_index_is_found() {
    let data = transactional(IoMode::Mapped);
    let index = &filled_transaction_indexes(&data)[1];
    for at in 0..std::fs::read(index).unwrap().len() {
        change(index, |bytes| bytes[at] ^= 1);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *index), "byte {at}");
        change(index, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn a_missing_transaction_index_is_fine_and_one_that_lacks_an_entry_is_not() {
    const ENTRY: usize = 34;
    let data = transactional(IoMode::Mapped);
    let index = &filled_transaction_indexes(&data)[0];
    change(index, |bytes| bytes.truncate(bytes.len() - ENTRY));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, index));
    assert_eq!(found[0].kind, ProblemKind::MissingTransactions { count: 1 });

    std::fs::remove_file(index).unwrap();
    assert_eq!(look(data.path()).problems, []);
}

#[test]
fn an_aborted_transaction_of_another_segment_is_found() {
    let data = transactional(IoMode::Mapped);
    let [first, second, ..] = &filled_transaction_indexes(&data)[..] else { panic!() };
    let foreign = std::fs::read(second).unwrap();
    change(first, |bytes| bytes.extend_from_slice(&foreign[..34]));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, first));
    assert!(matches!(found[0].kind, ProblemKind::NoAbortedTransaction { .. }), "{}", found[0]);
}

/// Without the beginning of the log it is not known who aborted what, but where the markers are.
#[test]
fn transaction_indexes_are_checked_also_behind_a_deleted_beginning() {
    let data = transactional(IoMode::Mapped);
    for suffix in [".log", ".snapshot"] {
        std::fs::remove_file(&files(&data, suffix)[0]).unwrap();
    }
    let first = files(&data, ".log")[0].file_stem().unwrap().to_string_lossy().parse::<i64>().unwrap();
    std::fs::write(data.path().join("log-start-offset-checkpoint"), format!("0\n1\norders 0 {first}\n"))
        .unwrap();
    assert_eq!(errors(&look(data.path())), Vec::<&Problem>::new());
    let last = filled_transaction_indexes(&data).pop().unwrap();
    change(&last, |bytes| bytes[9] ^= 3);
    assert!(errors(&look(data.path())).iter().any(|problem| problem.path == last));
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

#[test]
fn a_batch_with_fewer_records_than_offsets_is_fine() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    let compacted = BatchBuilder::new().base_offset(Offset(0)).record("k", "v").compacted(9).build().unwrap();
    log.submit(&[compacted], AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
    log.append(&plain("next")).unwrap();
    assert_eq!(log.log_end_offset(), Offset(11));
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
}

#[test]
fn leader_epochs_that_cannot_be_read_are_found() {
    let data = closed(IoMode::Mapped);
    let path = data.path().join("orders-0/leader-epoch-checkpoint");
    for text in ["0\n1\n5\n", "1\n0\n", "0\n2\n3 5\n2 9\n", "\u{feff}"] {
        std::fs::write(&path, text).unwrap();
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == path), "{text:?}: {report:?}");
    }
}

#[test]
fn a_topic_id_that_is_none_is_found() {
    let (data, dir) = filled(IoMode::Mapped);
    dir.partition_of(TopicId([7; 16]), "orders", 0).unwrap();
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
    let path = data.path().join("orders-0/partition.metadata");
    for text in ["", "version: 0", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "version: 0\ntopic_id: ?"]
    {
        std::fs::write(&path, text).unwrap();
        let report = look(data.path());
        assert_eq!(errors(&report).len(), 1, "{text:?}");
        assert_eq!(report.problems[0].path, path);
    }
}

#[test]
fn progress_is_told_behind_every_batch() {
    let data = closed(IoMode::Mapped);
    let mut told = Vec::new();
    let report =
        verify_with_progress(data.path(), &VerifyOptions::default(), |bytes| told.push(bytes)).unwrap();
    assert_eq!(told.len() as u64, report.batches);
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&report.bytes));
}

/// A replica that had taken over its leader's producers, and no batch yet, was said to have a snapshot of producers that
/// never wrote to it.
#[test]
fn producers_that_were_imported_are_no_finding() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (leader, follower) = (open(from.path(), IoMode::Mapped), open(to.path(), IoMode::Mapped));
    let log = leader.partition("orders", 0).unwrap();
    log.append(&batch(7, 0, 0, 2)).unwrap();
    let states = log.export_producers();
    let replica = follower.partition("orders", 0).unwrap();
    replica.truncate_fully(states.offset).unwrap();
    replica.import_producers(&states).unwrap();
    follower.close().unwrap();
    let report = verify(to.path(), &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors(), "{report:?}");
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

#[test]
fn a_log_whose_head_was_deleted_is_sound() {
    let (data, dir) = filled(IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.delete_records(Offset(150)).unwrap();
    assert!(dir.apply_retention().unwrap() > 0);
    assert!(files(&data, ".log")[0] != log.directory().join("00000000000000000000.log"));
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
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

/// Damage in one of the directory's files hid that in the others, and nobody looked at the high watermarks.
#[test]
fn each_file_of_the_directory_is_looked_at() {
    let data = closed(IoMode::Mapped);
    let names = [
        "idemlog-named-producers",
        "idemlog-producer-ids",
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
    ];
    names.iter().for_each(|name| std::fs::write(data.path().join(name), b"what is this").unwrap());
    let report = look(data.path());
    let wrong: Vec<_> = errors(&report).iter().map(|problem| problem.path.clone()).collect();
    assert_eq!(wrong, names.map(|name| data.path().join(name)));
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

/// Kafka up to 4.0 has an index entry for each call that appended: of the last offset of its batches, at the first. Those that
/// a follower had fetched together were an error.
#[test]
fn index_entries_of_several_batches_as_kafka_makes_them_are_right() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for _ in 0..8 {
        log.append(&plain(&"x".repeat(100))).unwrap();
    }
    dir.close().unwrap();
    let index = &files(&data, ".index")[0];
    let size = files(&data, ".log")[0].metadata().unwrap().len() as u32 / 8;
    let with_entry = |entries: &[(u32, u32)]| {
        let number = |&(offset, batch): &(u32, u32)| [offset, batch * size].map(u32::to_be_bytes).concat();
        std::fs::write(index, entries.iter().flat_map(number).collect::<Vec<u8>>()).unwrap();
        errors(&look(data.path())).len()
    };
    assert_eq!(with_entry(&[(3, 2), (7, 4)]), 0);
    assert_eq!(with_entry(&[(4, 2), (7, 4)]), 1, "behind the next entry");
    assert_eq!(with_entry(&[(1, 2), (7, 4)]), 1, "before its batch");
    assert_eq!(with_entry(&[(3, 2), (8, 4)]), 1, "behind the last batch");
}

/// Producers were imported also behind records that were deleted and still lie in a segment: the batches there told of other
/// producers than the snapshot, which `verify` then called wrong.
#[test]
fn producers_are_imported_only_where_there_is_no_segment() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (leader, follower) = (open(from.path(), IoMode::Mapped), open(to.path(), IoMode::Mapped));
    let log = leader.partition("orders", 0).unwrap();
    let replica = follower.partition("orders", 0).unwrap();
    for at in 0..5 {
        log.append(&batch(7, 0, at, 1)).unwrap();
        replica.append(&plain("x")).unwrap();
    }
    replica.delete_records(Offset(5)).unwrap();
    let states = log.export_producers();
    let refused = replica.import_producers(&states).unwrap_err();
    assert!(matches!(&refused, Error::NotEmpty { path } if path == replica.directory()), "{refused}");
    assert_eq!(replica.producers(), []);
    replica.truncate_fully(Offset(5)).unwrap();
    replica.import_producers(&states).unwrap();
    follower.close().unwrap();
    assert!(!look(to.path()).has_errors());
}
