//! A repair puts right what is damaged, and leaves alone what is not.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{MODES, batch, change, open, plain, small, truncated_inside_a_batch};
use idemlog::inspect::{InspectOptions, inspect};
use idemlog::repair::{Repair, plan, repair};
use idemlog::verify::{Problem, Severity, VerifyOptions, verify};
use idemlog::{
    AppendOptions, BatchBuilder, ControlRecord, IoMode, LeaderEpoch, LogDir, LogDirOptions, Offset, Origin,
    ProducerEpoch, ProducerId, ProducerPolicy, SequenceRule, TopicId,
};
use tempfile::TempDir;

/// A directory whose producers have a larger window than by default.
fn remembering_much(mode: IoMode) -> LogDirOptions {
    LogDirOptions::default().log(small(mode).producers(ProducerPolicy::default().window(20)))
}

fn partition(data: &TempDir) -> PathBuf {
    data.path().join("orders-0")
}

fn errors(path: &Path) -> Vec<Problem> {
    let mut problems = verify(path, &VerifyOptions::default()).unwrap().problems;
    problems.retain(|problem| problem.severity == Severity::Error);
    problems
}

/// Makes sure that a sound partition is told to be so, and left as it is.
fn assert_left_alone(data: &TempDir) {
    let partition = partition(data);
    assert_eq!((errors(data.path()), errors(&partition)), (vec![], vec![]));
    let Repair { recovery, set_aside, .. } = plan(&partition).unwrap();
    assert_eq!((recovery.cut, set_aside), (None, vec![]));
    let before = contents(&partition);
    assert!(repair(&partition).unwrap().is_needless());
    assert_eq!(contents(&partition), before);
}

fn contents(partition: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    let mut contents: Vec<_> = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    contents.sort();
    contents
}

/// `repair` did not know where an empty log begins, so it took the producers that a replica had got from its leader for some of
/// batches that are gone, and wrote none in their place: what was sent again was stored again.
#[test]
fn producers_that_were_taken_over_survive_a_repair_with_all_of_their_window() {
    for mode in MODES {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let leader = LogDir::open(from.path(), remembering_much(mode)).unwrap();
        let follower = LogDir::open(to.path(), remembering_much(mode)).unwrap();
        let log = leader.partition("orders", 0).unwrap();
        for at in 0..20 {
            log.append(&batch(7, 0, at, 1)).unwrap();
        }
        let states = log.export_producers();
        let replica = follower.partition("orders", 0).unwrap();
        replica.truncate_fully(states.offset).unwrap();
        replica.import_producers(&states).unwrap();
        follower.close().unwrap();
        drop((follower, replica));

        assert_left_alone(&to);
        let follower = LogDir::open(to.path(), remembering_much(mode)).unwrap();
        let replica = follower.partition("orders", 0).unwrap();
        assert_eq!(replica.producer(ProducerId(7)).unwrap().batches.len(), 20, "{mode:?}");
        assert!(replica.append(&batch(7, 0, 0, 1)).unwrap().is_duplicate());
    }
}

/// Where a cut left nothing of a log, `repair` began it anew with the producers as they are remembered by default, which may
/// be less than their host wants.
#[test]
fn a_log_that_ends_below_its_start_is_begun_anew_by_the_host() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), remembering_much(mode)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        for at in 0..20 {
            log.append(&batch(7, 0, at, 1)).unwrap();
        }
        log.delete_records(Offset(20)).unwrap();
        dir.close().unwrap();
        drop((dir, log));
        let file = partition(&data).join("00000000000000000000.log");
        change(&file, |bytes| bytes.truncate(bytes.len() - 10));

        let done = repair(partition(&data)).unwrap();
        assert_eq!(done.recovery.cut.unwrap().offset, Offset(19), "{mode:?}");
        assert_left_alone(&data);
        let dir = LogDir::open(data.path(), remembering_much(mode)).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(20), Offset(20)));
        for at in 0..19 {
            assert!(log.append(&batch(7, 0, at, 1)).unwrap().is_duplicate(), "{mode:?}: {at}");
        }
    }
}

/// `verify` of a partition alone did not know where its log begins, and so complained of a lower leader epoch behind batches
/// that were deleted.
#[test]
fn a_lower_leader_epoch_behind_deleted_batches_is_no_finding() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.set_leader_epoch(LeaderEpoch(5));
    for _ in 0..10 {
        log.append(&plain("x")).unwrap();
    }
    log.delete_records(Offset(10)).unwrap();
    log.truncate_to(Offset(8)).unwrap();
    let lower = BatchBuilder::new().base_offset(Offset(8)).leader_epoch(LeaderEpoch(2)).record("k", "v");
    let replicated = AppendOptions::default().origin(Origin::Replication);
    log.submit(&[lower.build().unwrap()], replicated).unwrap().wait().unwrap();
    dir.close().unwrap();
    drop((dir, log));
    assert_left_alone(&data);
}

/// A file that had become very long, as a file system leaves it after a crash, was taken for a failure of the disk: `verify`
/// and `repair` gave up, and a partition with such a snapshot did not open.
#[test]
fn a_file_longer_than_any_of_its_kind_is_damaged_and_set_aside() {
    let files = [
        ("00000000000000000000.index", 2 << 30),
        ("00000000000000000000.timeindex", 2 << 30),
        ("00000000000000000000.txnindex", 2 << 30),
        ("00000000000000000002.snapshot", 9 << 30),
        ("leader-epoch-checkpoint", 65 << 20),
    ];
    for (name, len) in files {
        let with_long_file = || {
            let data = tempfile::tempdir().unwrap();
            let dir = open(data.path(), IoMode::Mapped);
            dir.partition("orders", 0).unwrap().append(&batch(7, 0, 0, 2)).unwrap();
            dir.close().unwrap();
            let path = partition(&data).join(name);
            let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            file.unwrap().set_len(len).unwrap();
            (data, path)
        };
        let (data, path) = with_long_file();
        let found = errors(data.path());
        assert!(found.iter().all(|problem| problem.path == path) && found.len() == 1, "{name}: {found:?}");
        assert!(found[0].kind.to_string().contains("longer than any file of its kind"), "{}", found[0]);
        let done = repair(partition(&data)).unwrap();
        assert_eq!(done.set_aside[0].from, path);
        assert_eq!(errors(data.path()), []);

        let (data, _) = with_long_file();
        let log = open(data.path(), IoMode::Mapped).partition("orders", 0).unwrap();
        assert!(log.append(&batch(7, 0, 0, 2)).unwrap().is_duplicate(), "{name}");
    }
}

/// `verify` replayed every log by the default rule, by which a new epoch begins with an empty window: a sound snapshot of a log
/// whose sequences only rise was an error, and `repair` set it aside.
#[test]
fn a_window_that_outlives_its_epoch_is_no_finding() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let policy = ProducerPolicy::default().sequence_rule(SequenceRule::Increasing);
        let dir =
            LogDir::open(data.path(), LogDirOptions::default().log(small(mode).producers(policy))).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        for at in 0..60 {
            log.append(&batch(7, 0, at, 1)).unwrap();
        }
        let abort = ControlRecord::Abort { coordinator_epoch: 0 };
        log.end_transaction(ProducerId(7), ProducerEpoch(1), abort).unwrap();
        dir.close().unwrap();
        drop((dir, log));
        assert_left_alone(&data);
    }
}

/// `verify` blamed the batches for leader epochs that do not agree with theirs, so `repair` found nothing to make again, and
/// left the log damaged.
#[test]
fn wrong_leader_epochs_are_set_aside() {
    let data = closed_log();
    let path = partition(&data).join("leader-epoch-checkpoint");
    std::fs::write(&path, "0\n1\n5 0\n").unwrap();
    let found = errors(data.path());
    assert_eq!((found.len(), &found[0].path), (1, &path), "{found:?}");
    assert_eq!(repair(partition(&data)).unwrap().set_aside[0].from, path);
    assert_left_alone(&data);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\n0 0\n");
}

/// A log that was truncated inside of a batch, whose offsets have a gap since. Where the next batch begins a new segment, the gap
/// lies between two.
fn truncated(rolls: bool) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let (dir, log) = truncated_inside_a_batch(data.path());
    let large = "x".repeat(if rolls { small(IoMode::Mapped).segment_bytes as usize - 100 } else { 1 });
    log.append(&plain(&large)).unwrap();
    log.append(&plain("last")).unwrap();
    dir.close().unwrap();
    data
}

/// `repair` found nothing to do about a log with a gap, as an opening has nothing against one, and did not call it sound either.
/// So the end that a crash left in such a log was offered to be cut, as if there were damage.
#[test]
fn a_log_with_a_gap_is_sound_and_its_torn_end_left_to_the_opening() {
    for rolls in [false, true] {
        let data = truncated(rolls);
        let is_log = |(path, _): &(PathBuf, _)| path.extension() == Some("log".as_ref());
        let (last, _) = contents(&partition(&data)).into_iter().rfind(is_log).unwrap();
        assert_eq!(!last.ends_with("00000000000000000000.log"), rolls);
        assert!(plan(partition(&data)).unwrap().is_needless());

        std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
        std::fs::write(data.path().join("recovery-point-offset-checkpoint"), "0\n1\norders 0 5\n").unwrap();
        change(&last, |bytes| bytes.truncate(bytes.len() - 1));
        assert!(
            plan(partition(&data)).unwrap().is_needless(),
            "{rolls}: {}",
            plan(partition(&data)).unwrap()
        );
    }
}

/// A damaged `partition.metadata` kept a partition from opening, and `repair` failed on it as well.
#[test]
fn a_topic_id_that_is_none_is_set_aside_and_unknown_then() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition_of(TopicId([1; 16]), "orders", 0).unwrap();
    log.append(&plain("x")).unwrap();
    dir.close().unwrap();
    drop((dir, log));
    let path = partition(&data).join("partition.metadata");
    std::fs::write(&path, "garbage").unwrap();
    assert!(open(data.path(), IoMode::Mapped).partition("orders", 0).is_err());

    let done = repair(partition(&data)).unwrap();
    assert_eq!((done.set_aside.len(), &done.set_aside[0].from), (1, &path));
    assert!(done.set_aside[0].problem.ends_with("the topic's id is unknown then"), "{done}");
    assert_eq!(std::fs::read(&done.set_aside[0].to).unwrap(), b"garbage");
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    assert_eq!((log.topic_id(), log.log_end_offset()), (None, Offset(1)));
}

#[test]
fn what_an_earlier_repair_kept_stays() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    dir.partition("orders", 0).unwrap().append(&batch(7, 0, 0, 2)).unwrap();
    dir.close().unwrap();
    drop(dir);
    let path = partition(&data).join("leader-epoch-checkpoint");
    for garbage in ["first", "second"] {
        std::fs::write(&path, garbage).unwrap();
        repair(partition(&data)).unwrap();
    }
    let kept = ["1", "2"].map(|number| path.with_extension(format!("{number}.corrupt")));
    assert_eq!(kept.map(|path| std::fs::read_to_string(path).unwrap()), ["first", "second"]);
}

/// The numbers of the segments' files of a partition, and how many files are kept aside.
fn logs_and_kept(partition: &Path) -> (usize, usize) {
    let count = |end: &str| {
        contents(partition).iter().filter(|(path, _)| path.to_string_lossy().ends_with(end)).count()
    };
    (count(".log"), count(".corrupt"))
}

/// A closed log of 40 offsets in several segments.
fn closed_log() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..40 {
        log.append(&batch(7, 0, at, 1)).unwrap();
    }
    dir.close().unwrap();
    data
}

/// The same, of which the checkpoints say something else.
fn with_checkpoints(recovery_point: i64, log_start: i64) -> (TempDir, usize) {
    let data = closed_log();
    for (file, offset) in [("recovery-point", recovery_point), ("log-start", log_start)] {
        let path = data.path().join(format!("{file}-offset-checkpoint"));
        std::fs::write(path, format!("0\n1\norders 0 {offset}\n")).unwrap();
    }
    let (logs, _) = logs_and_kept(&partition(&data));
    assert!(logs > 1);
    (data, logs)
}

/// A wrong digit in a checkpoint, or segments out of a backup beside newer checkpoints, and an opening deleted every segment, and
/// reported nothing; `verify` called the log sound.
#[test]
fn a_log_that_ends_below_its_start_is_kept_aside_and_told_of() {
    for mode in MODES {
        let (data, segments) = with_checkpoints(40, 45);
        let found = errors(data.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].kind.to_string().contains(&format!("keeps {segments} segments aside")),
            "{}",
            found[0]
        );
        let inspected = inspect(partition(&data), &InspectOptions::of_partition(partition(&data)).unwrap());
        let told = inspected.unwrap().recovery.below_start.unwrap();
        assert_eq!((told.log_end, told.kept.len()), (Offset(40), segments));
        let before = contents(&partition(&data));

        let dir = open(data.path(), mode);
        let log = dir.partition("orders", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(45), Offset(45)));
        let below = log.recovery().below_start.clone().unwrap();
        assert_eq!(below, told, "{mode:?}");
        let is_kept = |path: &PathBuf| before.iter().any(|(_, bytes)| *bytes == std::fs::read(path).unwrap());
        assert!(below.kept.iter().all(is_kept));
        assert!(log.append(&batch(7, 0, 39, 1)).unwrap().is_duplicate(), "its producers are remembered");
        log.append(&batch(7, 0, 40, 1)).unwrap();
        dir.close().unwrap();
        drop((dir, log));
        assert_left_alone(&data);
        assert_eq!(logs_and_kept(&partition(&data)), (1, segments));
    }
}

/// `repair` of segments out of a backup lowered the recovery point alone, and the next opening deleted what had been restored.
#[test]
fn a_repair_has_a_log_that_ends_below_its_start_begin_with_its_first_segment() {
    for (recovery_point, log_start) in [(40, 45), (60, 50)] {
        let (data, segments) = with_checkpoints(recovery_point, log_start);
        assert!(!errors(data.path()).is_empty());
        let planned = plan(partition(&data)).unwrap();
        assert_eq!(planned.lowered_start, Some(Offset(log_start)));
        assert!(!planned.is_needless());
        assert!(planned.to_string().contains("begin the log at offset 0"), "{planned}");

        let done = repair(partition(&data)).unwrap();
        assert_eq!((done.recovery.log_start, done.recovery.log_end), (Offset(0), Offset(40)));
        assert_left_alone(&data);
        let log = open(data.path(), IoMode::Mapped).partition("orders", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(0), Offset(40)));
        assert_eq!(logs_and_kept(&partition(&data)), (segments, 0));
    }
}

#[test]
fn a_truncation_that_a_crash_interrupted_is_carried_out_and_fills_no_disk() {
    let (data, _) = with_checkpoints(0, 45);
    assert_eq!(errors(data.path()), []);
    assert!(plan(partition(&data)).unwrap().is_needless());
    let log = open(data.path(), IoMode::Mapped).partition("orders", 0).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(45), Offset(45)));
    assert_eq!(log.recovery().below_start.clone().unwrap().kept, Vec::<PathBuf>::new());
    assert_eq!(logs_and_kept(&partition(&data)), (0, 0));
}

/// The only log of which no batch ends at its start, as all is deleted: nothing of it is missed.
#[test]
fn a_log_that_was_truncated_inside_of_a_deleted_batch_is_sound() {
    for before in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), IoMode::Mapped);
        let log = dir.partition("orders", 0).unwrap();
        log.append(&batch(7, 0, 0, 5)).unwrap();
        log.append(&batch(7, 0, 5, 5)).unwrap();
        if before {
            log.delete_records(Offset(8)).unwrap();
        }
        log.truncate_to(Offset(8)).unwrap();
        log.delete_records(Offset(8)).unwrap();
        dir.close().unwrap();
        drop((dir, log));
        assert_eq!(errors(data.path()), []);
        assert!(plan(partition(&data)).unwrap().is_needless());
        let log = open(data.path(), IoMode::Mapped).partition("orders", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(8), Offset(8)), "{before}");
        assert_eq!(logs_and_kept(&partition(&data)), (0, 0));
    }
}
