//! What a crash leaves is a note, and no error.

use std::path::Path;

use idemlog::Offset;
use idemlog::repair::plan;
use idemlog::verify::{Problem, ProblemKind};
use tempfile::TempDir;

use crate::common::{MODES, change, open};
use crate::{closed, errors, files, filled, look};

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

/// Beside a snapshot index entries were written of batches that were not synced, and a power cut took the batches: `verify` called
/// the index wrong, and `repair` set a sound one aside.
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
