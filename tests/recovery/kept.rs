//! What is kept of what a log loses.

use std::path::Path;
use std::sync::Arc;

use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::verify::{ProblemKind, VerifyOptions, verify};
use idemlog::{Access, CorruptionPolicy, Disk, Error, LogDir, Offset, repair};

use crate::common::{MODES, batch, change, open, options, plain, small};
use crate::{cut_and_keep, file, fill, kept};

/// Base offsets of the `.log` files of the partition `t-0`.
fn bases(disk: &SimDisk) -> Vec<i64> {
    let entries = disk.list(Path::new("/data/t-0")).unwrap().into_iter();
    let base = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".log")?.parse().ok();
    let mut bases: Vec<i64> = entries.filter_map(|entry| base(entry.name)).collect();
    bases.sort_unstable();
    bases
}

/// What a log held behind its end was moved aside, and the segment in front of it became the last one, of which every
/// opening checks the end. Only the next opening did: it found a damaged batch there, and refused the log.
#[test]
fn a_log_that_opens_without_its_last_segment_opens_again() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 3, &[]);
        std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
        change(&file(data.path(), 0, "log"), |bytes| {
            bytes[100] ^= 1;
            bytes.extend([0; 7]);
        });
        std::fs::write(file(data.path(), 50, "log"), [1; 5]).unwrap();

        let dir = open(data.path(), mode);
        let opened: Vec<_> = (0..2).map(|_| dir.partition("t", 0).map(drop)).collect();
        assert!(opened.iter().all(|opened| matches!(opened, Err(Error::Corrupt(_)))), "{opened:?}");
        drop(dir);
        for is_cut in [true, false] {
            let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
            assert_eq!((log.log_end_offset(), log.recovery().cut.is_some()), (Offset(0), is_cut), "{mode:?}");
        }
    }
}

/// A log was cut twice at the same place, and what was kept the second time took the names of what was kept the first time: the
/// only copy of those batches was gone.
#[test]
fn what_a_cut_keeps_stays_when_the_log_is_cut_there_again() {
    for (mode, repairs) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let data = tempfile::tempdir().unwrap();
        let (mut at, mut cut) = (0, Vec::new());
        for text in ["first", "other", "third"] {
            let dir = open(data.path(), mode);
            let log = dir.partition("t", 0).unwrap();
            for offset in at..5 {
                if offset == 3 {
                    log.roll().unwrap();
                }
                log.append(&plain(text)).unwrap();
            }
            dir.close().unwrap();
            drop((dir, log));
            // Else so much is not read.
            for file in [".kafka_cleanshutdown", "recovery-point-offset-checkpoint"] {
                std::fs::remove_file(data.path().join(file)).unwrap();
            }
            change(&file(data.path(), 0, "log"), |bytes| {
                let size = bytes.len() / 3;
                bytes[2 * size - 1] ^= 1;
                cut.push(bytes[size..].to_vec());
            });
            cut.push(std::fs::read(file(data.path(), 3, "log")).unwrap());

            let report = if repairs {
                repair::repair(data.path().join("t-0")).unwrap().recovery
            } else {
                let log = LogDir::open(data.path(), cut_and_keep(mode)).unwrap().partition("t", 0).unwrap();
                log.recovery().clone()
            };
            let files = report.cut.unwrap().kept;
            assert_eq!(files.len(), 2);
            assert!(files.iter().all(|path| cut.contains(&std::fs::read(path).unwrap())));
            at = report.log_end.0;
        }
        let kept = kept(data.path());
        assert_eq!((kept.len(), at), (cut.len(), 1), "{mode:?}, repairs: {repairs}");
        assert!(cut.iter().all(|bytes| kept.contains(bytes)), "{mode:?}, repairs: {repairs}");
        let notes = verify(data.path(), &VerifyOptions::default()).unwrap().problems;
        assert_eq!(notes.iter().filter(|note| note.kind == ProblemKind::KeptAside).count(), cut.len());
    }
}

/// Openings that fail behind the copy, and before the cut, would fill the disk with copies.
#[test]
fn a_cut_that_is_tried_again_keeps_one_copy() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let on_disk = |policy| {
            let options = options(mode).log(small(mode).corruption(policy)).disk(Arc::new(disk.clone()));
            LogDir::open("/data", options.recovery_threads(1)).unwrap()
        };
        let dir = on_disk(CorruptionPolicy::Refuse);
        let log = dir.partition("t", 0).unwrap();
        for text in ["first", "other"] {
            log.append(&plain(text)).unwrap();
        }
        dir.close().unwrap();
        drop((dir, log));
        let path = file(Path::new("/data"), 0, "log");
        let len = disk.len(&path).unwrap();
        disk.open(&path, Access::Write).unwrap().write_at(&[0xff], len - 1).unwrap();

        for _ in 0..3 {
            disk.inject(Fault::nth(Operation::SetLen, 1));
            assert!(on_disk(CorruptionPolicy::CutAndKeep).partition("t", 0).is_err(), "{mode:?}");
        }
        disk.clear_faults();
        let log = on_disk(CorruptionPolicy::CutAndKeep).partition("t", 0).unwrap();
        let names = disk.list(log.directory()).unwrap().into_iter().map(|entry| entry.name);
        let kept = names.filter(|name| name.to_string_lossy().ends_with(".corrupt"));
        assert_eq!((kept.count(), log.log_end_offset()), (1, Offset(1)), "{mode:?}");
    }
}

/// Segments behind damage were moved aside from the first on: a crash in between left a hole in front of those that were still
/// there.
#[test]
fn a_crash_while_segments_are_moved_aside_leaves_no_hole() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let on = |disk: &SimDisk| {
            let options = cut_and_keep(mode).disk(Arc::new(disk.clone())).recovery_threads(1);
            LogDir::open("/data", options).unwrap()
        };
        let dir = on(&disk);
        let log = dir.partition("t", 0).unwrap();
        for at in 0..4 {
            log.append(&batch(1, 0, at, 1)).unwrap();
            log.roll().unwrap();
        }
        dir.close().unwrap();
        drop((dir, log));
        disk.remove_file(Path::new("/data/recovery-point-offset-checkpoint")).unwrap();
        disk.remove_file(Path::new("/data/.kafka_cleanshutdown")).unwrap();
        disk.open(&file(Path::new("/data"), 0, "log"), Access::Write).unwrap().write_at(&[0xff], 70).unwrap();
        disk.restart_journal();
        let all = bases(&disk);
        assert_eq!(on(&disk).partition("t", 0).unwrap().log_end_offset(), Offset(0));
        assert_eq!(bases(&disk), [0]);
        for point in 0..disk.crash_points() {
            for image in disk.images(point, 8, point as u64).chain([disk.kill(point)]) {
                let left = bases(&image);
                assert!(all.starts_with(&left), "{mode:?} {left:?} behind {}", disk.describe(point));
            }
        }
    }
}
