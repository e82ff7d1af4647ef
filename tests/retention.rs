//! The head of the log: records deleted, segments deleted by size, age and log start, and what outlives them.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{MODES, TestClock, batch, small, stored};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    Access, AppendOptions, Batch, BatchBuilder, BatchError, Disk, Error, ErrorCode, IoMode, LeaderEpoch, Log,
    LogDir, LogDirOptions, LogOptions, Offset, Origin, ProducerEpoch, ProducerId, Reader, RecordBuilder,
    Result, Sequence, Timestamp, TimestampType,
};

const DIRECTORY: &str = "/data";
const BATCHES: i32 = 120;

/// A disk, and how the log on it is opened.
struct Fixture {
    disk: SimDisk,
    clock: Arc<TestClock>,
    options: LogOptions,
}

impl Fixture {
    fn new(mode: IoMode) -> Self {
        let disk = SimDisk::new(mode);
        disk.set_sync_range_covers_length(true);
        Self { disk, clock: TestClock::at(1_000_000), options: small(mode) }
    }

    fn with(self, options: impl FnOnce(LogOptions) -> LogOptions) -> Self {
        Self { options: options(self.options), ..self }
    }

    fn image(&self, disk: SimDisk) -> Self {
        Self { disk, clock: Arc::clone(&self.clock), options: self.options.clone() }
    }

    fn open(&self) -> idemlog::Result<(LogDir, Log)> {
        let options = LogDirOptions::default()
            .log(self.options.clone())
            .clock(Arc::clone(&self.clock) as Arc<dyn idemlog::Clock>)
            .disk(Arc::new(self.disk.clone()))
            .recovery_threads(1);
        let dir = LogDir::open(Path::new(DIRECTORY), options)?;
        let log = dir.partition("t", 0)?;
        Ok((dir, log))
    }

    /// Closes the log, or dies, and opens it again; `None` does neither.
    fn restart(&self, (dir, log): (LogDir, Log), close: Option<bool>) -> (LogDir, Log) {
        let Some(close) = close else { return (dir, log) };
        if close {
            dir.close().unwrap();
        }
        drop((dir, log));
        self.open().unwrap()
    }

    /// Base offsets of the `.log` files.
    fn files(&self) -> Vec<i64> {
        self.bases(".log")
    }

    fn bases(&self, suffix: &str) -> Vec<i64> {
        let names = self.disk.list(Path::new(DIRECTORY).join("t-0").as_path()).unwrap();
        let mut bases: Vec<i64> = names
            .iter()
            .filter_map(|entry| entry.name.to_str()?.strip_suffix(suffix)?.parse().ok())
            .collect();
        bases.sort_unstable();
        bases
    }
}

/// One record each. Producer 9 appends the first one and is silent from then on.
fn numbered(number: i32) -> Batch {
    if number == 0 { batch(9, 0, 0, 1) } else { batch(1, 0, number - 1, 1) }
}

fn fill(log: &Log) -> Vec<(i64, u32)> {
    for number in 0..BATCHES {
        log.append(&numbered(number)).unwrap();
    }
    stored(log)
}

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

/// The producers' windows, whatever became of their records: duplicates are answered, the next batches taken.
fn check_windows(log: &Log, end: i32) {
    for number in [0].into_iter().chain(end - 5..end) {
        let again = log.append(&numbered(number)).unwrap();
        assert!(again.is_duplicate(), "batch {number}");
        assert_eq!(again.base_offset(), Offset(i64::from(number)));
    }
    assert_eq!(log.append(&numbered(end)).unwrap().base_offset(), Offset(i64::from(end)));
    assert_eq!(log.append(&batch(9, 0, 1, 1)).unwrap().base_offset(), Offset(i64::from(end) + 1));
}

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
fn slices_outlive_their_segment_and_readers_are_told() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        let all = fill(&log);
        let mut reader = log.reader(Offset(0)).unwrap();
        let first = reader.next().unwrap().unwrap();
        let fetched = log.read(Offset(3), 1 << 20).unwrap();
        let (copy, bytes) = (first.bytes().to_vec(), fetched.bytes.to_vec());
        log.delete_records(Offset(100)).unwrap();
        assert!(log.apply_retention().unwrap() > 0);
        assert_eq!((first.bytes().to_vec(), fetched.bytes.to_vec()), (copy, bytes));
        assert!(matches!(reader.next(), Some(Err(Error::OffsetOutOfRange { got: Offset(1), .. }))));
        assert!(matches!(log.read(Offset(3), 1), Err(Error::OffsetOutOfRange { .. })));
        assert_eq!(stored(&log), all[100..]);
        assert_eq!(log.offset_for_timestamp(idemlog::Timestamp(0)).unwrap().unwrap().offset, Offset(100));
    }
}

/// Deleting records moves the log start offset and touches no segment, so a reader in the middle of one went on with what was
/// deleted until the segment ended, while everybody else was refused.
#[test]
fn a_reader_in_the_middle_of_a_segment_hands_out_nothing_that_is_deleted() {
    type Walk = fn(&mut Reader) -> Option<Result<Offset>>;
    let iterates: Walk = |reader| Some(reader.next()?.map(|batch| batch.header().base_offset));
    let borrows: Walk = |reader| Some(reader.lend_next()?.map(|batch| batch.header().base_offset));
    for mode in MODES {
        let (_dir, log) = Fixture::new(mode).with(|options| options.segment_bytes(1 << 20)).open().unwrap();
        for number in 0..10 {
            log.append(&batch(1, 0, number, 1)).unwrap();
        }
        let reader = log.reader(Offset(0)).unwrap();
        let kinds = [reader.clone(), reader.clone().committed(), reader.to_log_end()];
        let mut walks: Vec<_> =
            kinds.into_iter().flat_map(|kind| [(kind.clone(), iterates), (kind, borrows)]).collect();
        for (reader, next) in &mut walks {
            assert_eq!(next(reader).unwrap().unwrap(), Offset(0));
        }
        log.delete_records(Offset(1)).unwrap();
        for (reader, next) in &mut walks {
            assert_eq!(next(reader).unwrap().unwrap(), Offset(1), "it had come far enough");
        }
        log.delete_records(Offset(5)).unwrap();
        for (reader, next) in &mut walks {
            for _ in 0..2 {
                let refused = next(reader).unwrap().unwrap_err();
                let told =
                    matches!(refused, Error::OffsetOutOfRange { got: Offset(2), start: Offset(5), .. });
                assert!(told, "{refused}");
            }
            reader.seek(Offset(5)).unwrap();
            assert_eq!(next(reader).unwrap().unwrap(), Offset(5));
        }
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

/// A batch of a producer that appends no other.
fn only(number: i32) -> Batch {
    batch(100 + i64::from(number), 0, 0, 1)
}

/// A log of as many producers as batches.
fn fill_with_strangers(log: &Log) {
    for number in 0..BATCHES {
        log.append(&only(number)).unwrap();
    }
}

fn assert_all_known(log: &Log) {
    for number in 0..BATCHES {
        assert!(log.append(&only(number)).unwrap().is_duplicate(), "batch {number}");
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

/// The time at which a fixture's clock begins, and the latest timestamp that it takes by default.
const NOW: i64 = 1_000_000;
const LATEST: i64 = NOW + 60 * 60 * 1000;

/// A batch of two records of a producer, of which the second has the later timestamp.
fn dated(sequence: i32, timestamp: i64) -> Batch {
    let at = |timestamp| RecordBuilder::new().value("v").timestamp(Timestamp(timestamp));
    let builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), Sequence(sequence));
    builder.push(at(0)).push(at(timestamp)).build().unwrap()
}

fn assert_ahead<T>(refused: Result<T>, latest: i64, timestamp: i64) {
    let Err(error @ Error::InvalidBatch(BatchError::TimestampAhead { expected, got })) = refused else {
        panic!("not refused for its timestamp")
    };
    assert_eq!((expected, got), (Timestamp(latest), Timestamp(timestamp)));
    assert_eq!((error.code(), error.code().number()), (ErrorCode::InvalidTimestamp, 32));
}

/// The short way of an append, and the long one.
const WAYS: [fn(&Log, &Batch) -> Result<bool>; 2] = [
    |log, batch| log.append(batch).map(|outcome| outcome.is_duplicate()),
    |log, batch| log.append_all(std::slice::from_ref(batch)).map(|outcomes| outcomes[0].is_duplicate()),
];

#[test]
fn a_client_that_is_too_far_ahead_of_the_clock_is_refused_and_nothing_is_changed() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        assert_ahead(append(&log, &dated(0, LATEST + 1)), LATEST, LATEST + 1);
        assert_eq!((log.log_end_offset(), log.producers().len(), fixture.files().len()), (Offset(0), 0, 0));
        for sequence in 0..3 {
            append(&log, &dated(sequence * 2, LATEST)).unwrap();
        }
        let before = (stored(&log), log.producers());
        for timestamp in [LATEST + 1, i64::MAX] {
            assert_ahead(append(&log, &dated(6, timestamp)), LATEST, timestamp);
        }
        let call = log.append_all(&[dated(6, NOW), dated(8, LATEST + 1), dated(10, NOW)]);
        assert_ahead(call, LATEST, LATEST + 1);
        assert_eq!((stored(&log), log.producers()), before, "all of a call are refused");
        fixture.clock.advance(1);
        append(&log, &dated(6, LATEST + 1)).unwrap();
        append(&log, &dated(8, -1)).unwrap();
    }
}

#[test]
fn a_duplicate_is_answered_wherever_the_clock_stands() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        append(&log, &dated(0, LATEST)).unwrap();
        fixture.clock.advance(-1000);
        assert!(append(&log, &dated(0, LATEST)).unwrap());
        log.set_options((*log.options()).clone().max_timestamp_ahead_ms(0)).unwrap();
        assert!(append(&log, &dated(0, LATEST)).unwrap());
        assert_ahead(append(&log, &dated(2, NOW)), NOW - 1000, NOW);
        let call = log.append_all(&[dated(0, LATEST), dated(2, 0)]).unwrap();
        assert!(call[0].is_duplicate() && !call[1].is_duplicate());
    }
}

#[test]
fn how_far_ahead_a_client_may_be_changes_with_the_options() {
    for (mode, append) in MODES.into_iter().flat_map(|mode| WAYS.map(|way| (mode, way))) {
        let (_dir, log) = Fixture::new(mode).open().unwrap();
        append(&log, &dated(0, NOW)).unwrap();
        let set = |ahead| log.set_options((*log.options()).clone().max_timestamp_ahead_ms(ahead)).unwrap();
        set(10);
        append(&log, &dated(2, NOW + 10)).unwrap();
        assert_ahead(append(&log, &dated(4, NOW + 11)), NOW + 10, NOW + 11);
        set(i64::MAX);
        append(&log, &dated(4, i64::MAX)).unwrap();
        set(10);
        assert_ahead(append(&log, &dated(6, NOW + 11)), NOW + 10, NOW + 11);
    }
}

#[test]
fn only_a_clients_own_timestamps_are_held_against_the_clock() {
    for mode in MODES {
        let fixture = Fixture::new(mode).with(|options| options.max_timestamp_ahead_ms(0));
        let (_dir, log) = fixture.open().unwrap();
        let submit = |batch: Batch, origin| {
            let options = AppendOptions::default().origin(origin);
            log.submit(&[batch], options).and_then(|pending| pending.wait().map(drop))
        };
        assert_ahead(submit(dated(0, LATEST), Origin::Client), NOW, LATEST);
        submit(dated(0, LATEST), Origin::Replication).unwrap();
        let own = BatchBuilder::new().timestamp(Timestamp(LATEST)).record("k", "v").build().unwrap();
        submit(own, Origin::Coordinator).unwrap();
        log.set_options((*log.options()).clone().timestamp_type(TimestampType::LogAppendTime)).unwrap();
        let stamped = log.append(&dated(2, LATEST)).unwrap();
        assert_eq!(stamped.timestamp(), Timestamp(NOW));
    }
}
