//! Segments that go by size, age and log start, and those that could not go at once.

use idemlog::Offset;
use idemlog::sim::{Fault, Operation};

use crate::common::{MODES, stored};
use crate::{Fixture, assert_all_known, fill, fill_with_strangers, numbered, only};

#[test]
fn the_oldest_segments_go_while_enough_is_left() {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.retention_bytes(Some(10_000)));
        let (_dir, log) = fixture.open().unwrap();
        fill(&log);
        log.apply_retention().unwrap();
        let metrics = log.metrics();
        assert!((10_000..10_000 + 4096).contains(&metrics.used_bytes), "{metrics:?}");
        assert_eq!(fixture.files()[0], log.log_start_offset().0);
        assert_eq!(fixture.files().len() as u64, metrics.segments);
        assert_eq!(stored(&log)[0].0, log.log_start_offset().0);
        assert_eq!(log.apply_retention().unwrap(), 0);
        assert!(fixture.bases(".snapshot").iter().all(|&base| base >= log.log_start_offset().0));
        assert_eq!(fixture.bases(".index")[0], log.log_start_offset().0);
    }
}

#[test]
fn segments_go_when_their_newest_record_is_old_also_the_active_one() {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.retention_ms(Some(998_950)));
        let (_dir, log) = fixture.open().unwrap();
        fill(&log);
        // Timestamps are 1,000 and up; the rolls have applied it already.
        assert_eq!(log.apply_retention().unwrap(), 0);
        assert!(log.log_start_offset() > Offset(0) && log.log_start_offset() <= Offset(50));
        fixture.clock.advance(1_000);
        log.apply_retention().unwrap();
        assert_eq!(log.log_start_offset(), Offset(120));
        assert_eq!(fixture.files(), [120]);
        assert_eq!(log.append(&numbered(120)).unwrap().base_offset(), Offset(120));
    }
}

/// A clock that was set a week ahead, and right again a minute later, had deleted what was not due for a week.
#[test]
fn nothing_goes_by_its_age_for_an_hour_behind_a_jump_of_the_clock() {
    const HOUR: i64 = 60 * 60 * 1000;
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.retention_ms(Some(24 * HOUR)));
        let (dir, log) = fixture.open().unwrap();
        fill(&log);
        let [jump, before] = [7 * 24 * HOUR, HOUR - 1];
        fixture.clock.advance(jump);
        assert_eq!(log.apply_retention().unwrap(), 0, "{mode:?}: just set");
        assert_eq!(dir.apply_retention().unwrap(), 0, "{mode:?}: just set");
        fixture.clock.advance(-jump);
        assert_eq!(log.apply_retention().unwrap(), 0, "{mode:?}: set back, nothing is due");
        fixture.clock.advance(jump);
        assert_eq!(log.apply_retention().unwrap(), 0, "{mode:?}: set again");
        fixture.clock.advance(before);
        assert_eq!(log.apply_retention().unwrap(), 0, "{mode:?}: not an hour later");
        log.delete_records(Offset(50)).unwrap();
        assert!(log.apply_retention().unwrap() > 0, "{mode:?}: by the log start all the same");
        fixture.clock.advance(1);
        log.apply_retention().unwrap();
        assert_eq!(log.log_start_offset(), Offset(120), "{mode:?}: the clock means it");
    }
}

#[test]
fn segments_below_the_log_start_go_without_any_option() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        fill(&log);
        assert_eq!(log.apply_retention().unwrap(), 0);
        let bases = fixture.files();
        log.delete_records(Offset(bases[2] + 1)).unwrap();
        assert_eq!(log.apply_retention().unwrap(), 2);
        assert_eq!(fixture.files(), bases[2..]);
        assert_eq!(log.log_start_offset(), Offset(bases[2] + 1));
    }
}

#[test]
fn retention_comes_by_itself_with_rolls_and_time() {
    for mode in MODES {
        let fixture =
            Fixture::new(mode).with(|options| options.retention_ms(Some(0)).retention_interval_ms(50));
        let (dir, log) = fixture.open().unwrap();
        for number in 0..3 {
            log.append(&numbered(number)).unwrap();
            log.roll().unwrap();
        }
        log.append(&numbered(3)).unwrap();
        assert_eq!(log.log_start_offset(), Offset(0));
        fixture.clock.advance(50);
        log.append(&numbered(4)).unwrap();
        assert_eq!(log.log_start_offset(), Offset(5), "all were old, so the active segment went as well");
        assert_eq!(dir.apply_retention().unwrap(), 0);
    }
}

/// A segment whose file could not be removed was forgotten in memory and stayed on the disk, and the next retention left a hole
/// behind it.
#[test]
fn a_segment_that_could_not_be_removed_is_the_first_to_go_at_the_next_try() {
    for mode in MODES {
        for call in 1..=8 {
            for operation in [Operation::Remove, Operation::SyncDirectory] {
                let what = format!("{mode:?} {operation:?} {call}");
                let fixture = Fixture::new(mode);
                let (dir, log) = fixture.open().unwrap();
                fill_with_strangers(&log);
                let bases = fixture.files();
                log.delete_records(Offset(bases[2])).unwrap();
                fixture.disk.inject(Fault::nth(operation, call));
                let tried = log.apply_retention();
                fixture.disk.clear_faults();
                let left = fixture.files();
                assert_eq!(left, bases[bases.len() - left.len()..], "{what}: no hole");
                assert_eq!(log.metrics().segments, left.len() as u64, "{what} {tried:?}");
                let last = *bases.last().unwrap();
                log.delete_records(Offset(last)).unwrap();
                log.apply_retention().unwrap();
                assert_eq!(fixture.files(), [last], "{what}");
                assert_eq!(fixture.bases(".index").len(), 0, "{what}");
                drop((dir, log));
                let (_dir, log) = fixture.open().unwrap();
                assert_all_known(&log);
            }
        }
    }
}

/// A segment that could not be removed was not removed by a truncation either: on the disk, what had been deleted stood beside what
/// came in its place.
#[test]
fn a_segment_that_could_not_be_removed_goes_when_the_log_is_emptied() {
    for (mode, call) in MODES.into_iter().flat_map(|mode| (1..=8).map(move |call| (mode, call))) {
        let fixture = Fixture::new(mode);
        let (dir, log) = fixture.open().unwrap();
        fill_with_strangers(&log);
        log.delete_records(Offset(fixture.files()[1])).unwrap();
        fixture.disk.inject(Fault::nth(Operation::Remove, call));
        let _ = log.apply_retention();
        fixture.disk.clear_faults();
        log.truncate_fully(Offset(10)).unwrap();
        log.append(&only(0)).unwrap();
        assert_eq!(fixture.files(), [10], "{mode:?} {call}");
        let before = stored(&log);
        drop((dir, log));
        let (_dir, log) = fixture.open().unwrap();
        assert_eq!((stored(&log), log.log_start_offset()), (before, Offset(10)), "{mode:?} {call}");
    }
}
