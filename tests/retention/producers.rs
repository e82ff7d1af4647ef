//! Producers outlive their records, by snapshots.

use std::path::Path;

use idemlog::sim::{Fault, Operation};
use idemlog::{Access, Disk, Offset};

use crate::common::{MODES, stored};
use crate::{BATCHES, DIRECTORY, Fixture, assert_all_known, check_windows, fill, fill_with_strangers, only};

#[test]
fn producers_outlive_their_records() {
    for mode in MODES {
        for close in [None, Some(false), Some(true)] {
            let fixture = Fixture::new(mode).with(|options| options.retention_ms(Some(0)));
            let (dir, log) = fixture.open().unwrap();
            fill(&log);
            fixture.clock.advance(1);
            log.apply_retention().unwrap();
            assert_eq!((log.log_start_offset(), stored(&log).len()), (Offset(120), 0));
            let (dir, log) = fixture.restart((dir, log), close);
            assert_eq!(log.producers().len(), 2);
            check_windows(&log, BATCHES);
            drop(dir);
        }
    }
}

#[test]
fn a_snapshot_that_cannot_be_used_is_written_again_before_records_go() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (dir, log) = fixture.open().unwrap();
        fill(&log);
        for base in fixture.bases(".snapshot") {
            let path = Path::new(DIRECTORY).join(format!("t-0/{base:020}.snapshot"));
            fixture.disk.open(&path, Access::Write).unwrap().write_at(b"damage", 20).unwrap();
        }
        let bases = fixture.files();
        log.delete_records(Offset(bases[3])).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 3);
        drop((dir, log));
        let (_dir, log) = fixture.open().unwrap();
        check_windows(&log, BATCHES);
    }
}

/// A snapshot whose name could not be made durable was there at the next try, and relied on: a power cut took it and the segments
/// that it covers.
#[test]
fn a_snapshot_is_durable_before_what_it_covers_goes() {
    for (mode, call) in MODES.into_iter().flat_map(|mode| [1, 2, 3].map(|call| (mode, call))) {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        fill_with_strangers(&log);
        for base in fixture.bases(".snapshot") {
            let path = Path::new(DIRECTORY).join(format!("t-0/{base:020}.snapshot"));
            fixture.disk.remove_file(&path).unwrap();
        }
        log.delete_records(Offset(*fixture.files().last().unwrap())).unwrap();
        fixture.disk.inject(Fault::nth(Operation::SyncDirectory, call));
        assert!(log.apply_retention().is_err(), "{mode:?} {call}");
        fixture.disk.restart_journal();
        log.apply_retention().unwrap();
        let disk = &fixture.disk;
        for point in 0..disk.crash_points() {
            for image in disk.images(point, 8, point as u64) {
                let image = fixture.image(image);
                let (_dir, log) = image.open().unwrap();
                assert_all_known(&log);
            }
        }
    }
}

/// The last batch of a snapshot was looked for in a deleted segment that had stayed behind alone, and was not there: the
/// snapshot was thrown away, and with it all producers of what was deleted in between.
#[test]
fn a_segment_left_behind_below_the_log_start_has_no_say_about_a_snapshot() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (dir, log) = fixture.open().unwrap();
        fill_with_strangers(&log);
        let bases = fixture.files();
        let path = Path::new(DIRECTORY).join(format!("t-0/{:020}.log", bases[0]));
        let bytes = fixture.disk.read(&path, 1 << 20).unwrap();
        log.delete_records(Offset(*bases.last().unwrap())).unwrap();
        assert_eq!(log.apply_retention().unwrap(), bases.len() - 1);
        drop((dir, log));
        let left = fixture.disk.open(&path, Access::CreateNew).unwrap();
        left.write_at(&bytes, 0).unwrap();

        let (dir, log) = fixture.open().unwrap();
        assert_eq!(log.recovery().snapshots_skipped, []);
        assert_all_known(&log);
        // Also the snapshots that are made from it know them.
        log.append(&only(BATCHES)).unwrap();
        log.roll().unwrap();
        drop((dir, log));
        assert_all_known(&fixture.open().unwrap().1);
    }
}
