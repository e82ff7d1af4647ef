//! Everything at once on one log, without any order but the log's own: who appends, who reads, who rolls, who takes back,
//! who deletes, and who closes in the middle of it.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::{MODES, batch, open, stored};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{AppendOptions, Batch, BatchBuilder, Error, Log, Offset, Pending, ProducerId, UncheckedBatch};

const WRITERS: i64 = 4;
/// As many batches are acknowledged before the log is closed.
const ACKNOWLEDGED: u64 = 400;

/// A batch that was acknowledged as durable.
struct Acknowledged {
    /// When its append began, by the clock of the scene.
    begun: u64,
    last_offset: Offset,
    id: (i64, u32),
}

/// A truncation that came to its end.
struct Truncated {
    ended: u64,
    target: Offset,
}

/// What the threads share.
struct Scene {
    log: Log,
    closed: AtomicBool,
    /// Counts events, so that what happened before what can be told.
    clock: AtomicU64,
    count: AtomicU64,
    acknowledged: Mutex<Vec<Acknowledged>>,
    truncations: Mutex<Vec<Truncated>>,
}

impl Scene {
    fn new(log: Log) -> Self {
        let (acknowledged, truncations) = (Mutex::default(), Mutex::default());
        let (clock, count, closed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        Self { log, closed, clock, count, acknowledged, truncations }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    /// Appends until the log is closed. Where batches were taken back, goes on behind what the log has.
    fn write(&self, id: i64) {
        let (mut sequence, mut refused) = (0, 0);
        loop {
            let sent = batch(id, 0, sequence, 1 + (sequence % 3) as usize);
            let begun = self.tick();
            let options = AppendOptions::default();
            match self.log.submit(std::slice::from_ref(&sent), options).and_then(Pending::wait) {
                Ok(outcomes) => {
                    let offsets = outcomes[0].offsets().unwrap();
                    let id = (offsets.first.0, sent.header().crc);
                    let acknowledged = Acknowledged { begun, last_offset: offsets.last, id };
                    self.acknowledged.lock().unwrap().push(acknowledged);
                    self.count.fetch_add(1, Ordering::AcqRel);
                    sequence += sent.header().record_count;
                    refused = 0;
                }
                Err(error @ (Error::Rejected(_) | Error::Truncated)) => {
                    sequence = self.next_sequence(id);
                    refused += 1;
                    assert!(refused < 10_000, "producer {id}, then at {sequence}: {error:?}");
                }
                Err(Error::Closed) => return,
                Err(error) => panic!("producer {id}: {error}"),
            }
        }
    }

    fn next_sequence(&self, id: i64) -> i32 {
        let last = self.log.producer(ProducerId(id)).and_then(|producer| producer.batches.last().copied());
        last.map_or(0, |last| last.last_sequence.plus(1).0)
    }

    /// Reads along, and holds what it read: every byte of it is the same a while later.
    fn read(&self) {
        let mut held: Vec<(u32, Bytes)> = Vec::new();
        while !self.closed.load(Ordering::Acquire) {
            let Ok(reader) = self.log.reader(self.log.log_start_offset()) else { continue };
            let mut next = Offset(0);
            for batch in reader.take(300) {
                match batch {
                    Ok(batch) => held.push(self.look_at(batch, &mut next)),
                    Err(Error::OffsetOutOfRange { .. } | Error::Closed) => break,
                    Err(error) => panic!("a reader at {next}: {error}"),
                }
            }
            for (crc, bytes) in &held {
                assert_eq!(crc32c::crc32c(bytes), *crc, "a byte that was read has changed");
            }
            held.drain(..held.len().saturating_sub(500));
        }
    }

    /// One reader's batches come in the order of their offsets, each of them whole. (Where a batch was taken back, one that
    /// took its place may begin before the offset that comes next.)
    fn look_at(&self, batch: UncheckedBatch, next: &mut Offset) -> (u32, Bytes) {
        assert!(batch.header().last_offset() >= *next, "{:?} behind {next}", batch.header());
        *next = batch.header().next_offset();
        let bytes = batch.into_bytes();
        Batch::decode(bytes.clone()).expect("a batch that was read is whole");
        (crc32c::crc32c(&bytes), bytes)
    }

    /// Does `step` over and over, until the log is closed.
    fn over_and_over(&self, pause: u64, step: impl Fn(&Self, u64) -> Result<(), Error>) {
        for round in (0..).take_while(|_| !self.closed.load(Ordering::Acquire)) {
            thread::sleep(Duration::from_micros(pause));
            match step(self, round) {
                Ok(()) | Err(Error::OffsetOutOfRange { .. }) => {}
                Err(Error::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn truncate(&self, round: u64) -> Result<(), Error> {
        let end = self.log.log_end_offset().0;
        let target = Offset((end - (round % 13) as i64).max(self.log.log_start_offset().0));
        let truncated = self.log.truncate_to(target);
        self.truncations.lock().unwrap().push(Truncated { ended: self.tick(), target });
        truncated.map(drop)
    }

    fn delete(&self) -> Result<(), Error> {
        let (start, end) = (self.log.log_start_offset().0, self.log.high_watermark().0);
        self.log.delete_records(Offset(start + (end - start).max(0) / 3))?;
        self.log.apply_retention().map(drop)
    }

    /// What was acknowledged, and neither taken back nor deleted since, is in `log` at its place.
    fn check_nothing_is_lost(&self, log: &Log) {
        let stored: BTreeMap<i64, u32> = stored(log).into_iter().collect();
        let truncations = self.truncations.lock().unwrap();
        for batch in &*self.acknowledged.lock().unwrap() {
            let may_be_gone = |it: &Truncated| it.ended > batch.begun && it.target <= batch.last_offset;
            if batch.last_offset >= log.log_start_offset() && !truncations.iter().any(may_be_gone) {
                assert_eq!(stored.get(&batch.id.0), Some(&batch.id.1), "acknowledged at {}", batch.id.0);
            }
        }
    }
}

/// Each producer's batches follow each other, none is there twice and none is missing in between.
fn check_order(log: &Log) {
    let mut next: BTreeMap<ProducerId, i32> = BTreeMap::new();
    for batch in log.reader(log.log_start_offset()).unwrap() {
        let header = *batch.unwrap().header();
        if let Some(expected) = next.insert(header.producer_id, header.last_sequence().plus(1).0) {
            assert_eq!(header.base_sequence.0, expected, "producer {}", header.producer_id);
        }
    }
}

#[test]
fn everything_at_once_loses_nothing_and_changes_no_byte_that_was_read() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let scene = Scene::new(dir.partition("t", 0).unwrap());
        thread::scope(|scope| {
            let scene = &scene;
            (0..WRITERS).for_each(|id| drop(scope.spawn(move || scene.write(id))));
            (0..2).for_each(|_| drop(scope.spawn(|| scene.read())));
            scope.spawn(|| scene.over_and_over(700, |scene, _| scene.log.roll()));
            scope.spawn(|| scene.over_and_over(5000, Scene::truncate));
            scope.spawn(|| scene.over_and_over(9000, |scene, _| scene.delete()));
            scope.spawn(|| scene.over_and_over(300, |scene, _| scene.log.sync()));
            while scene.count.load(Ordering::Acquire) < ACKNOWLEDGED {
                thread::sleep(Duration::from_millis(1));
            }
            dir.close().unwrap();
            scene.closed.store(true, Ordering::Release);
        });
        let truncations = scene.truncations.lock().unwrap().len();
        assert!(truncations > 1, "{mode:?}: nothing was taken back");
        drop(dir);
        // What is taken back up to the middle of a batch leaves a gap.
        let report = verify(data.path(), &VerifyOptions::default().allow_gaps(true)).unwrap();
        assert!(!report.has_errors(), "{mode:?}: {:?}", report.problems);
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        scene.check_nothing_is_lost(&log);
        check_order(&log);
    }
}

/// The handle of a program that embeds both ends goes on by itself beside other threads that use the log.
#[test]
fn producers_of_many_threads_store_everything_once_and_in_order() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                let (dir, log) = (&dir, &log);
                scope.spawn(move || {
                    let producer = dir.producer(name).unwrap();
                    for at in 0..200 {
                        producer.append(log, BatchBuilder::new().record(name, format!("{at}"))).unwrap();
                    }
                });
            }
            scope.spawn(|| (0..100).for_each(|_| log.roll().unwrap()));
        });
        check_order(&log);
        assert_eq!(log.log_end_offset(), Offset(600), "{mode:?}");
    }
}
