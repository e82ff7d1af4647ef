//! Logs whose first segments are missing, and logs that begin anew.

use idemlog::inspect::{InspectOptions, inspect};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{CutReason, Error, IoMode, LogDir, Offset, repair};

use crate::common::{MODES, batch, open};
use crate::{cut_and_keep, file, fill};

/// A prepared segment was taken in, then the log was found to end below its start. All segments were removed, and opening
/// failed over naming the prepared one.
#[test]
fn a_log_that_starts_over_also_drops_the_prepared_segment() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        log.roll().unwrap();
        log.append(&batch(1, 0, 1, 1)).unwrap();
        let directory = log.directory().to_owned();
        drop((dir, log));
        std::fs::rename(directory.join(format!("{:020}.log", 1)), directory.join("segment.prepared"))
            .unwrap();
        std::fs::write(data.path().join("log-start-offset-checkpoint"), "0\n1\nt 0 50\n").unwrap();

        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(50), Offset(50)), "{mode:?}");
        assert!(!log.recovery().adopted_prepared && !directory.join("segment.prepared").exists());
        assert_eq!(log.append(&batch(1, 0, 2, 1)).unwrap().base_offset(), Offset(50));
    }
}

/// The log of which every segment was gone opened as an empty one, took appends from offset 0 on, and the snapshots that told of
/// its producers were removed. That of which the first one was gone opened behind it, and nobody was told.
#[test]
fn a_log_that_lacks_its_first_segments_or_all_is_refused_and_left_as_it_is() {
    let all = [0, 10, 20];
    for (gone, end) in [(&all[..1], 30), (&all[..2], 30), (&all[..], 0)] {
        for (mode, is_clean) in MODES.into_iter().flat_map(|mode| [(mode, true), (mode, false)]) {
            let data = tempfile::tempdir().unwrap();
            fill(data.path(), mode, 30, &all);
            gone.iter()
                .for_each(|&base| std::fs::remove_file(file(data.path(), base.into(), "log")).unwrap());
            if !is_clean {
                std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
            }
            let names = || {
                let entries = std::fs::read_dir(data.path().join("t-0")).unwrap();
                entries.map(|entry| entry.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
            };
            let before = names();
            let what = format!("{mode:?} {gone:?}, clean: {is_clean}");

            let refused = open(data.path(), mode).partition("t", 0);
            assert!(matches!(refused, Err(Error::Corrupt(_))), "{what}: {refused:?}");
            assert_eq!(names(), before, "{what}");

            let dir = LogDir::open(data.path(), cut_and_keep(mode)).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let (report, start) = (log.recovery(), i64::from(gone.len() as i32 * 10));
            assert_eq!(log.log_end_offset(), Offset(end), "{what}");
            match &report.cut {
                Some(cut) => assert!(end == 0 && cut.reason == CutReason::Corruption, "{what}: {report}"),
                None => assert_eq!(report.missing_head.unwrap().last, Offset(start - 1), "{what}: {report}"),
            }
            log.append(&batch(7, 0, 0, 1)).unwrap();
            dir.close().unwrap();
            drop((log, dir));
            let log = open(data.path(), mode).partition("t", 0).unwrap();
            assert_eq!(log.log_end_offset(), Offset(end + 1), "{what}");
        }
    }
}

/// Nobody but an opening knew of a log that lacked its first segments: `repair` found nothing to do, where the error had sent whoever
/// could not open it.
#[test]
fn a_log_that_lacks_its_first_segments_opens_behind_a_repair() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 30, &[10, 20]);
        std::fs::remove_file(file(data.path(), 0, "log")).unwrap();
        let partition = data.path().join("t-0");
        assert!(open(data.path(), mode).partition("t", 0).is_err());
        let planned = repair::plan(&partition).unwrap();
        assert!(!planned.is_needless() && planned.to_string().contains("offsets 0 to 9"), "{planned}");
        let options = InspectOptions::of_partition(&partition).unwrap();
        assert!(inspect(&partition, &options).unwrap().recovery.lacks_durable());
        repair::repair(&partition).unwrap();
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (Offset(10), Offset(30)));
    }
}

/// Kafka says where a log begins behind the deletion of what lay in front, or never.
#[test]
fn a_log_of_kafka_may_begin_above_what_its_checkpoint_says() {
    let data = tempfile::tempdir().unwrap();
    fill(data.path(), IoMode::Mapped, 30, &[10, 20]);
    std::fs::remove_file(file(data.path(), 0, "log")).unwrap();
    let points = data.path().join("recovery-point-offset-checkpoint");
    std::fs::write(points, "0\n2\nt 0 30\nanother 0 0\n").unwrap();
    std::fs::create_dir(data.path().join("another-0")).unwrap();
    let report = verify(data.path(), &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors(), "{report:?}");
    let log = open(data.path(), IoMode::Mapped).partition("t", 0).unwrap();
    assert_eq!(log.log_start_offset(), Offset(10));
}
