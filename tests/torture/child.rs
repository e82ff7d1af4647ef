//! The process that is killed: threads that append, sync, read, roll, truncate and delete, and say what they were told.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use idemlog::{
    AppendOptions, Batch, BatchBuilder, Durability, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset,
    ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use crate::Random;
use crate::ledger::{self, Told};

/// What the child says when its directory is open.
pub const OPEN: &str = "open";
/// What its last line begins with when it does not wait to be killed.
pub const PANIC: &str = "panic";
const PARTITIONS: i32 = 2;
/// As many producers in each partition, a thread for each.
const PRODUCERS: i64 = 3;

/// Small segments and few bytes between two snapshots, so that everything happens all the time.
pub fn options(mode: IoMode) -> LogDirOptions {
    let log = LogOptions::default()
        .io_mode(Some(mode))
        .segment_bytes(64 << 10)
        .snapshot_interval_bytes(100 << 10)
        .index_interval_bytes(1024)
        .max_batch_bytes(16 << 10)
        .durability(Durability::Synced);
    LogDirOptions::default().log(log)
}

/// One partition as the threads share it.
struct Shared {
    log: Log,
    /// Shared by who appends, alone for who truncates: what was acknowledged before a truncation is said before it.
    turn: RwLock<()>,
    /// How often the log was truncated: whoever appends looks up where it is.
    truncations: AtomicU64,
}

/// Works until it is killed.
pub fn run(directory: &Path, mode: IoMode, seed: u64) {
    std::panic::set_hook(Box::new(|panic| {
        say(&format!("{PANIC} {panic}").replace('\n', " "));
        std::process::abort();
    }));
    let threads = (seed % 2) as usize;
    let dir = LogDir::open(directory, options(mode).background_threads(threads)).unwrap();
    let shared: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let log = dir.partition("torture", partition).unwrap();
            Arc::new(Shared { log, turn: RwLock::new(()), truncations: AtomicU64::new(0) })
        })
        .collect();
    say(OPEN);
    thread::scope(|scope| {
        for shared in &shared {
            for id in 1..=PRODUCERS {
                scope.spawn(move || append(shared, id, Random::new(seed * 100 + id as u64)));
            }
            scope.spawn(move || disturb(shared, Random::new(seed * 100 + 50)));
            scope.spawn(move || read(shared));
        }
    });
}

fn say(line: &str) {
    use std::io::Write;
    // One write: a kill cuts the line or leaves it out, and lines of two threads do not mix.
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Appends with one producer, going on where the log says that it stopped; sends some batches twice.
fn append(shared: &Shared, id: i64, mut random: Random) {
    let mut known = u64::MAX;
    let mut next = 0;
    loop {
        let _turn = shared.turn.read().unwrap();
        let truncations = shared.truncations.load(Ordering::Acquire);
        if truncations != known {
            known = truncations;
            next = next_sequence(&shared.log, id);
        }
        let count = 1 + random.below(4) as i32;
        let batch = batch(id, next, count, random.below(3000) as usize);
        let outcome = store(&shared.log, &batch, &mut random);
        say(&ledger::acknowledged(&shared.log, &batch, outcome));
        if random.below(10) == 0 {
            let again = shared.log.append(&batch).unwrap();
            assert!(
                again.is_duplicate() && again.base_offset() == outcome,
                "{again:?} where {outcome} was told"
            );
        }
        next = next.wrapping_add(count) & i32::MAX;
    }
}

/// Appends, or submits and waits.
fn store(log: &Log, batch: &Batch, random: &mut Random) -> Offset {
    if random.below(2) == 0 {
        return log.append(batch).unwrap().base_offset();
    }
    let pending = log.submit(std::slice::from_ref(batch), AppendOptions::default()).unwrap();
    pending.wait().unwrap()[0].base_offset()
}

fn next_sequence(log: &Log, id: i64) -> i32 {
    let last = log.producer(ProducerId(id)).and_then(|producer| producer.batches.last().copied());
    last.map_or(0, |last| last.last_sequence.plus(1).0)
}

fn batch(id: i64, sequence: i32, count: i32, size: usize) -> Batch {
    let builder = BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence))
        .timestamp(Timestamp(i64::from(sequence)));
    (0..count)
        .fold(builder, |builder, at| builder.record(format!("{id}-{at}"), vec![at as u8; size]))
        .build()
        .unwrap()
}

/// Now and then does what is rarer than an append.
fn disturb(shared: &Shared, mut random: Random) {
    let log = &shared.log;
    loop {
        thread::sleep(Duration::from_micros(random.below(20_000)));
        match random.below(8) {
            0 | 1 => log.roll().unwrap(),
            2 | 3 => log.sync().unwrap(),
            4 => truncate(shared, &mut random),
            5 => delete(log, &mut random),
            6 => drop(log.apply_retention().unwrap()),
            _ => log.expire_producers(),
        }
    }
}

fn truncate(shared: &Shared, random: &mut Random) {
    let _turn = shared.turn.write().unwrap();
    let (start, end) = (shared.log.log_start_offset(), shared.log.log_end_offset());
    let target = Offset((end.0 - random.below(60) as i64).max(start.0));
    say(&ledger::said(&shared.log, Told::Truncating, target));
    shared.log.truncate_to(target).unwrap();
    shared.truncations.fetch_add(1, Ordering::Release);
    say(&ledger::said(&shared.log, Told::Truncated, target));
}

fn delete(log: &Log, random: &mut Random) {
    let (start, end) = (log.log_start_offset().0, log.high_watermark().0);
    let before = Offset(start + random.below((end - start).max(0) as u64 / 2 + 1) as i64);
    say(&ledger::said(log, Told::Deleting, before));
    // A truncation may have come first.
    if log.delete_records(before).is_ok() {
        say(&ledger::said(log, Told::Deleted, before));
    }
}

/// Reads along, and looks at each slice again a while later: what was published never changes.
fn read(shared: &Shared) {
    loop {
        let Ok(mut reader) = shared.log.reader(shared.log.log_start_offset()) else { continue };
        let mut held = Vec::new();
        for batch in reader.by_ref().take(500).map_while(Result::ok) {
            held.push(batch);
        }
        thread::sleep(Duration::from_millis(1));
        for batch in held {
            let bytes = batch.into_bytes();
            Batch::decode(bytes).expect("a batch that was read stays as it was");
        }
    }
}
