//! Records that a client deletes.

use idemlog::{Error, ErrorCode, LeaderEpoch, Log, Offset};

use crate::common::{MODES, stored};
use crate::{BATCHES, Fixture, fill, numbered};

#[test]
fn deleted_records_cannot_be_read_and_stay_deleted() {
    for mode in MODES {
        for before in [1, 30, 119, 120] {
            for close in [None, Some(false), Some(true)] {
                let fixture = Fixture::new(mode);
                let (dir, log) = fixture.open().unwrap();
                let all = fill(&log);
                let files = fixture.files();
                assert_eq!(log.delete_records(Offset(before)).unwrap(), Offset(before));
                let (dir, log) = fixture.restart((dir, log), close);
                assert_eq!(log.log_start_offset(), Offset(before), "{mode:?} {close:?}");
                assert_eq!(log.log_end_offset(), Offset(i64::from(BATCHES)));
                assert_eq!(stored(&log), all[before as usize..]);
                assert!(matches!(log.read(Offset(before - 1), 1), Err(Error::OffsetOutOfRange { .. })));
                assert_eq!(log.delete_records(Offset(0)).unwrap(), Offset(before), "never goes back");
                let Err(Error::OffsetOutOfRange { got, .. }) = log.delete_records(Offset(121)) else {
                    panic!()
                };
                assert_eq!(got, Offset(121));
                assert_eq!(fixture.files(), files, "no file goes");
                assert!(log.append(&numbered(0)).unwrap().is_duplicate(), "what is known of producers stays");
                drop(dir);
            }
        }
    }
}

#[test]
fn nothing_above_the_high_watermark_goes() {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.retention_bytes(Some(0)));
        let (_dir, log) = fixture.open().unwrap();
        log.set_high_watermark(Offset(0));
        fill(&log);
        let bases = fixture.files();
        log.set_high_watermark(Offset(bases[2] - 1));
        assert_eq!(log.apply_retention().unwrap(), 1);
        assert!(matches!(log.delete_records(Offset(bases[2])), Err(Error::OffsetOutOfRange { .. })));
        log.set_high_watermark(Offset(bases[2]));
        assert_eq!(log.apply_retention().unwrap(), 1);
        assert_eq!(fixture.files(), bases[2..]);
    }
}

/// -1 was answered with the log start offset, and deleted nothing. In Kafka's protocol it asks for everything below the high
/// watermark: a broker that passed it on told its client that this was done.
#[test]
fn records_below_a_negative_offset_are_no_records() {
    for mode in MODES {
        let (dir, log) = Fixture::new(mode).open().unwrap();
        for number in 0..5 {
            log.append(&numbered(number)).unwrap();
        }
        log.set_high_watermark(Offset(3));
        for got in [-1, -2, i64::MIN].map(Offset) {
            let refused = log.delete_records(got).unwrap_err();
            let Error::OffsetOutOfRange { got: told, start, end } = refused else { panic!("{refused:?}") };
            assert_eq!((told, start, end), (got, Offset(0), Offset(3)));
            assert_eq!(refused.code(), ErrorCode::OffsetOutOfRange);
        }
        assert_eq!(log.log_start_offset(), Offset(0));
        assert_eq!(log.delete_records(log.high_watermark()).unwrap(), Offset(3));
        assert_eq!(log.delete_records(Offset(0)).unwrap(), Offset(3), "those are gone already");
        dir.close().unwrap();
    }
}

#[test]
fn leader_epochs_begin_where_the_log_does() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (dir, log) = fixture.open().unwrap();
        for number in 0..90 {
            log.set_leader_epoch(LeaderEpoch(number / 30));
            log.append(&numbered(number)).unwrap();
        }
        let epochs = |log: &Log| -> Vec<(i32, i64)> {
            log.leader_epochs().iter().map(|(epoch, start)| (epoch.0, start.0)).collect()
        };
        log.delete_records(Offset(40)).unwrap();
        assert_eq!(epochs(&log), [(1, 40), (2, 60)]);
        drop((dir, log));
        let (_dir, log) = fixture.open().unwrap();
        assert_eq!(epochs(&log), [(1, 40), (2, 60)]);
    }
}
