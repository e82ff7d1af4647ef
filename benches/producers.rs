//! Many producers in one partition: appending in turn, memory for each, the snapshot, and opening with it.

mod support;

use std::cell::LazyCell;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use criterion::Criterion;
use idemlog::{Access, Disk, ProducerPolicy, RealDisk};
use support::batches::{Pool, SMALL, crc32c};
use support::figures::record;
use support::in_turn::{each_of, group, in_turn, target, time_of};
use support::targets::{Engine, append_range, buffered};
use support::{Reserve, amount, directory, own_bytes};

const MILLION: usize = 1_000_000;

/// An engine that knows `producers`, each by its `rounds` last batches.
fn engine_with(directory: &Path, producers: usize, rounds: i32) -> (Engine, Pool) {
    let mut engine = Engine::open(directory, buffered());
    let mut pool = Pool::of_producers(SMALL, producers);
    for round in 0..rounds {
        pool.advance(producers, round);
        append_range(&mut engine, &pool, 0..producers, &mut Reserve::new(0));
    }
    (engine, pool)
}

/// A million batches of 128 bytes, behind the first of each producer, the producers taking turns.
fn turns(criterion: &mut Criterion) {
    let take_turns = |producers: usize| {
        let pool = LazyCell::new(move || {
            let mut pool = Pool::of_producers(SMALL, amount(MILLION));
            pool.go_on(producers.min(pool.len()), 1);
            pool
        });
        target(producers.to_string(), move || {
            let directory = directory();
            let mut engine = engine_with(directory.path(), producers.min(pool.len()), 1).0;
            let mut reserve = Reserve::new(pool.len() * pool.batch_size());
            each_of(append_range(&mut engine, &pool, 0..pool.len(), &mut reserve), pool.len())
        })
    };
    in_turn(group(criterion, "producers", 10), [1, 1000, MILLION].map(take_turns).into());
}

/// What asks this program for the memory of so many producers with so many batches each, and nothing else.
const MEMORY_OF: &str = "MEMORY_OF";

/// Each figure from a process of its own: what one gave back the next would take for its own.
fn memory() {
    for producers in [MILLION, MILLION + MILLION / 10] {
        for (name, rounds) in [("one batch", 1), ("five batches", 5)] {
            let program = std::env::current_exe().expect("this program");
            let of = format!("{} {rounds}", amount(producers));
            let output = Command::new(program).env(MEMORY_OF, of).output().expect("a process");
            let bytes = String::from_utf8_lossy(&output.stdout);
            record(
                &format!("memory/{producers} producers"),
                name,
                bytes.trim().parse().expect("bytes per producer"),
            );
        }
    }
}

/// The bytes for each of so many producers with so many batches.
fn memory_of(producers: usize, rounds: i32) -> f64 {
    let directory = directory();
    // More than the default, which is a million.
    let policy = ProducerPolicy::default().budget(2 * MILLION);
    let mut engine = Engine::open(directory.path(), buffered().producers(policy));
    let mut pool = Pool::of_producers(SMALL, producers);
    append_range(&mut engine, &pool, 0..1, &mut Reserve::new(0));
    let before = own_bytes();
    for round in 0..rounds {
        pool.advance(producers, round);
        let known = usize::from(round == 0);
        append_range(&mut engine, &pool, known..producers, &mut Reserve::new(0));
    }
    (own_bytes() - before) / producers as f64
}

/// The newest snapshot in a partition.
fn snapshot_in(partition: &Path) -> PathBuf {
    let entries = fs::read_dir(partition).expect("a partition").map(|entry| entry.expect("a name").path());
    let snapshots = entries.filter(|path| path.extension().is_some_and(|it| it == "snapshot"));
    snapshots.max().expect("a snapshot")
}

/// A snapshot of all producers, as a roll writes it, with all else that a roll makes durable.
fn write_snapshot(criterion: &mut Criterion) {
    let producers = amount(MILLION);
    let directory = directory();
    let (mut engine, mut pool) = engine_with(directory.path(), producers, 1);
    engine.log.sync().expect("a sync");
    engine.log.roll().expect("a roll");
    let bytes = fs::read(snapshot_in(engine.log.directory())).expect("the snapshot");
    pool.advance(producers, 1);
    let mut sent = 0;
    let roll = || {
        append_range(&mut engine, &pool, sent..sent + 1, &mut Reserve::new(0));
        sent += 1;
        engine.log.sync().expect("a sync");
        time_of(|| engine.log.roll().expect("a roll"))
    };
    // The files stay, as snapshots at the bases of segments do: one that goes leaves its pages to the next one, which then
    // costs a fraction.
    let mut written = 0;
    let write = || {
        written += 1;
        let path = directory.path().join(format!("copy-{written}"));
        time_of(|| {
            let file = RealDisk.open(&path, Access::CreateNew).expect("a new file");
            file.write_at(&bytes, 0).expect("a write");
            file.sync().expect("a sync");
        })
    };
    let targets = vec![target("idemlog", roll), target("limit", write)];
    in_turn(group(criterion, "snapshot-written/1000000", 10), targets);
}

/// A directory that was closed, opened again; and its snapshot, read.
fn open_clean(criterion: &mut Criterion, name: &str, rounds: i32) {
    let directory = directory();
    let (engine, _) = engine_with(directory.path(), amount(MILLION), rounds);
    engine.dir.close().expect("a clean end");
    let snapshot = snapshot_in(engine.log.directory());
    drop(engine);
    let open = || {
        let started = Instant::now();
        let engine = Engine::open(directory.path(), buffered());
        let took = started.elapsed();
        assert_eq!(engine.log.metrics().producers as usize, amount(MILLION));
        engine.dir.close().expect("a clean end");
        each_of(took, 1)
    };
    let read = || {
        time_of(|| {
            black_box(crc32c(&fs::read(&snapshot).expect("the snapshot")));
        })
    };
    let group = group(criterion, &format!("open-clean/1000000 with {name}"), 10);
    in_turn(group, vec![target("idemlog", open), target("limit", read)]);
}

fn main() {
    if let Ok(of) = std::env::var(MEMORY_OF) {
        let (producers, rounds) = of.split_once(' ').expect("two numbers");
        let (producers, rounds) =
            (producers.parse().expect("producers"), rounds.parse().expect("batches of each"));
        return println!("{}", memory_of(producers, rounds));
    }
    let mut criterion = Criterion::default().configure_from_args();
    memory();
    turns(&mut criterion);
    write_snapshot(&mut criterion);
    open_clean(&mut criterion, "one batch", 1);
    open_clean(&mut criterion, "five batches", 5);
    criterion.final_summary();
}
