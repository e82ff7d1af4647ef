//! An append of one batch takes a short way where nothing but the batch must be looked at; `append_all` never does. Both
//! must come to the same: every answer, every refusal, every byte of every file.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::slice;
use std::sync::Arc;

use common::{MODES, TestClock, small};
use idemlog::{
    AppendOutcome, Batch, BatchBuilder, Durability, Error, Log, LogDir, LogDirOptions, LogOptions,
    ProducerEpoch, ProducerId, Sequence, Timestamp, TimestampType,
};
use proptest::prelude::*;

const FIRST_TIMESTAMP: i64 = 1_700_000_000_000;
const AGE: i64 = 5_000;

#[derive(Clone, Debug)]
enum Step {
    /// A batch of a producer (-1: of none), so far from the sequence that is next.
    Append {
        id: i64,
        epoch: i16,
        ahead: i32,
        records: usize,
        bytes: usize,
        later: i64,
    },
    /// One of the last batches, as it was.
    Again {
        back: usize,
    },
    Wait {
        milliseconds: i64,
    },
    /// Other options from here on.
    Change(LogOptions),
    /// The coordinator of the partition's leader says so.
    LeaderEpoch(i32),
    Truncate {
        back: i64,
    },
    Roll,
}

fn variants() -> Vec<LogOptions> {
    let base = small(MODES[0]).segment_ms(AGE).durability(Durability::Buffered);
    vec![
        base.clone(),
        base.clone().segment_bytes(9_000),
        base.clone().segment_bytes(1_024),
        base.clone().snapshot_interval_bytes(1_500),
        base.clone().index_interval_bytes(1).segment_index_bytes(64),
        base.clone().durability(Durability::Synced),
        base.clone().max_timestamp_ahead_ms(AGE / 50),
        base.clone().timestamp_type(TimestampType::LogAppendTime),
        base.max_batch_bytes(300),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let ahead = prop_oneof![20 => Just(0), 2 => -8..4_i32];
    let later = prop_oneof![20 => 0..3_i64, 1 => Just(AGE + 1)];
    let epoch = prop_oneof![20 => Just(0_i16), 1 => 0..3_i16];
    let change = prop::sample::select(variants());
    prop_oneof![
        60 => (-1..4_i64, epoch, ahead, 1..4_usize, 0..500_usize, later).prop_map(
            |(id, epoch, ahead, records, bytes, later)| Step::Append { id, epoch, ahead, records, bytes, later }
        ),
        8 => (0..7_usize).prop_map(|back| Step::Again { back }),
        2 => (1..2 * AGE).prop_map(|milliseconds| Step::Wait { milliseconds }),
        2 => change.prop_map(Step::Change),
        1 => (0..5_i32).prop_map(Step::LeaderEpoch),
        1 => (0..20_i64).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::Roll),
    ]
}

/// A log, and how far its producers have come.
struct Subject {
    log: Log,
    dir: LogDir,
    clock: Arc<TestClock>,
    data: tempfile::TempDir,
    append: fn(&Log, &Batch) -> Result<AppendOutcome, Error>,
    next: BTreeMap<(i64, i16), i32>,
    sent: Vec<Batch>,
    timestamp: i64,
}

impl Subject {
    fn new(options: LogOptions, append: fn(&Log, &Batch) -> Result<AppendOutcome, Error>) -> Self {
        let (data, clock) = (tempfile::tempdir().unwrap(), TestClock::at(FIRST_TIMESTAMP));
        let options = LogDirOptions::default().log(options).clock(clock.clone());
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        Self {
            log,
            dir,
            clock,
            data,
            append,
            next: BTreeMap::new(),
            sent: Vec::new(),
            timestamp: FIRST_TIMESTAMP,
        }
    }

    /// Takes a step, and says what came of it.
    fn take(&mut self, step: &Step) -> String {
        match step {
            Step::Append { id, epoch, ahead, records, bytes, later } => {
                self.timestamp += later;
                let next = self.next.entry((*id, *epoch)).or_default();
                let sequence = (*next + ahead).max(0);
                let batch = build(*id, *epoch, sequence, *records, *bytes, self.timestamp);
                let outcome = (self.append)(&self.log, &batch);
                self.sent.push(batch);
                if outcome.as_ref().is_ok_and(|outcome| !outcome.is_duplicate()) {
                    *next = sequence + *records as i32;
                }
                format!("{outcome:?}")
            }
            Step::Again { back } => {
                let batch = self.sent.iter().rev().nth(*back);
                format!("{:?}", batch.map(|batch| (self.append)(&self.log, batch)))
            }
            Step::Wait { milliseconds } => {
                self.clock.advance(*milliseconds);
                String::new()
            }
            Step::Change(options) => {
                let options = options.clone().io_mode(self.log.options().io_mode);
                format!("{:?}", self.log.set_options(options))
            }
            Step::LeaderEpoch(epoch) => {
                self.log.set_leader_epoch(idemlog::LeaderEpoch(*epoch));
                String::new()
            }
            Step::Truncate { back } => {
                let target = (self.log.log_end_offset().0 - back).max(self.log.log_start_offset().0);
                self.next.clear();
                format!("{:?}", self.log.truncate_to(idemlog::Offset(target)))
            }
            Step::Roll => format!("{:?}", self.log.roll()),
        }
    }

    /// What stands on the disk, under its name, when all is closed.
    fn files(self) -> BTreeMap<String, Vec<u8>> {
        self.dir.close().unwrap();
        files_in(&self.data.path().join("t-0"))
    }
}

fn build(id: i64, epoch: i16, sequence: i32, records: usize, bytes: usize, timestamp: i64) -> Batch {
    let builder = BatchBuilder::new().timestamp(Timestamp(timestamp));
    let builder = if id < 0 {
        builder
    } else {
        builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence))
    };
    (0..records)
        .fold(builder, |builder, at| builder.record(format!("{at}"), "x".repeat(bytes)))
        .build()
        .unwrap()
}

fn files_in(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        // The topic's id is drawn anew for each.
        .filter(|path| path.file_name().is_some_and(|name| name != "partition.metadata"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

fn short(log: &Log, batch: &Batch) -> Result<AppendOutcome, Error> {
    log.append(batch)
}

fn long(log: &Log, batch: &Batch) -> Result<AppendOutcome, Error> {
    log.append_all(slice::from_ref(batch)).map(|outcomes| outcomes[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_short_way_comes_to_what_the_long_way_comes_to(
        options in prop::sample::select(variants()),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        for mode in MODES {
            let options = options.clone().io_mode(Some(mode));
            let (mut by_short, mut by_long) = (Subject::new(options.clone(), short), Subject::new(options, long));
            for step in &steps {
                prop_assert_eq!(by_short.take(step), by_long.take(step), "{:?} in {:?}", step, mode);
                prop_assert_eq!(by_short.log.producers(), by_long.log.producers());
                prop_assert_eq!(by_short.log.metrics().segments, by_long.log.metrics().segments);
                prop_assert_eq!(by_short.log.recovery_point(), by_long.log.recovery_point());
            }
            prop_assert_eq!(by_short.files(), by_long.files());
        }
    }
}
