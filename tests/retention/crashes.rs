//! Crashes and failures of the disk at every call of a deletion.

use idemlog::sim::{Fault, Operation};
use idemlog::{Log, Offset};

use crate::common::{MODES, stored};
use crate::{BATCHES, Fixture, check_windows, fill};

/// Deletes from a full log and looks at every disk that a crash on the way leaves.
fn crash_everywhere(delete: impl Fn(&Fixture, &Log)) {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.retention_ms(Some(999_500)));
        let (_dir, log) = fixture.open().unwrap();
        let all = fill(&log);
        fixture.disk.restart_journal();
        delete(&fixture, &log);
        fixture.disk.mark(1);
        let (disk, start) = (&fixture.disk, log.log_start_offset().0);
        for point in 0..disk.crash_points() {
            for image in disk.images(point, 8, point as u64).chain([disk.kill(point)]) {
                let what = format!("{mode:?} behind event {point}, {}", disk.describe(point));
                let image = fixture.image(image);
                let (_dir, log) = image.open().unwrap_or_else(|error| panic!("{what}: {error}"));
                let from = log.log_start_offset().0;
                assert!(from == start || from == 0 && disk.marks(point).is_empty(), "{what}: {from}");
                assert_eq!(stored(&log), all[from as usize..], "{what}");
                check_windows(&log, BATCHES);
                log.apply_retention().unwrap();
                assert!(image.files().get(1).is_none_or(|&second| second > from), "{what}");
            }
        }
    }
}

#[test]
fn a_crash_leaves_records_deleted_or_not() {
    crash_everywhere(|_, log| assert_eq!(log.delete_records(Offset(77)).unwrap(), Offset(77)));
}

#[test]
fn a_crash_during_retention_leaves_the_rest_of_the_log_and_all_producers() {
    crash_everywhere(|fixture, log| {
        fixture.clock.advance(580);
        assert!(log.apply_retention().unwrap() > 1);
    });
}

#[test]
fn a_call_of_the_disk_that_fails_loses_no_record_that_should_stay() {
    for mode in MODES {
        for operation in Operation::ALL {
            for call in 1.. {
                let fixture = Fixture::new(mode);
                let (dir, log) = fixture.open().unwrap();
                let all = fill(&log);
                let calls = fixture.disk.calls(operation);
                fixture.disk.inject(Fault::nth(operation, call).halfway());
                let deleted = log.delete_records(Offset(77)).and_then(|_| log.apply_retention());
                fixture.disk.clear_faults();
                if fixture.disk.calls(operation) - calls < call {
                    break;
                }
                let what = format!("{mode:?} {operation:?} {call} {deleted:?}");
                let from = log.log_start_offset().0;
                assert!(from == 0 || from == 77, "{what}");
                assert_eq!(stored(&log), all[from as usize..], "{what}");
                drop((dir, log));
                let (_dir, log) = fixture.open().unwrap();
                let from = log.log_start_offset().0;
                assert!(deleted.is_err() && from == 0 || from == 77, "{what}");
                assert_eq!(stored(&log), all[from as usize..], "{what}");
                check_windows(&log, BATCHES);
            }
        }
    }
}
