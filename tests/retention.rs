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
use idemlog::sim::SimDisk;
use idemlog::{Batch, Error, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset};

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

    /// Base offsets of the `.log` files.
    fn files(&self) -> Vec<i64> {
        self.bases(".log")
    }

    fn bases(&self, suffix: &str) -> Vec<i64> {
        use idemlog::Disk;
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
                let (mut dir, mut log) = fixture.open().unwrap();
                let all = fill(&log);
                let files = fixture.files();
                assert_eq!(log.delete_records(Offset(before)).unwrap(), Offset(before));
                if let Some(close) = close {
                    if close {
                        dir.close().unwrap();
                    }
                    drop((dir, log));
                    (dir, log) = fixture.open().unwrap();
                }
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
