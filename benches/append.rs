//! Appending: batches as bytes, through their checks, into a log that acknowledges them without a sync: borrowed from the host,
//! or (`counted`) as parts of memory whose holders are counted.
//!
//! Beside the engine stands the limit: the CRC, a bare walk over the records, and a copy into mapped pages that another
//! thread has populated; and the CRC with a `pwrite` into a file that has its blocks, the limit of `Write` mode. All append
//! the same batches to a fresh file, which begins to be timed when some of them are in. None makes anything durable, but
//! for the engine in the group `checkpoints`.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use support::batches::{
    COMPRESSED, ONE_KIB, Pool, SIXTEEN_KIB, SMALL, Shape, TEN_OF_ONE_KIB, crc_matches, walk,
};
use support::in_turn::{group, in_turn, target, time_of};
use support::targets::{
    DecompressingLimit, Engine, InWriteMode, Limit, OfCounted, Pwrite, WithCheckpoints, buffered, sample,
};
use support::{amount, directory};

/// How much is appended to one file.
const POOL_BYTES: usize = 256 << 20;

/// How long an append of a pool takes.
type Sample = fn(&Pool) -> f64;

/// Targets side by side, over the same batches.
fn compare(criterion: &mut Criterion, name: &str, shape: Shape, targets: &[(&str, Sample)]) {
    let pool = &LazyCell::new(|| Pool::new(shape, amount(POOL_BYTES)));
    let mut group = group(criterion, &format!("{name}/{}", shape.name), 15);
    group.throughput(Throughput::Bytes((shape.records as usize * shape.value_size) as u64));
    let targets = targets.iter().map(|&(name, sample)| target(name, move || sample(pool)));
    in_turn(group, targets.collect());
}

/// The disk may be slower than the appender: there is no limit to compare with.
fn checkpoints(criterion: &mut Criterion) {
    let pool = LazyCell::new(|| Pool::new(ONE_KIB, amount(4 * POOL_BYTES)));
    let group = group(criterion, "checkpoints/1KiB", 10);
    in_turn(group, vec![target("idemlog", || sample::<WithCheckpoints>(&pool))]);
}

/// A batch that was stored before, one of the last five: the answer is where. The limit is the CRC and the walk.
fn duplicate(criterion: &mut Criterion) {
    const WINDOW: usize = 5;
    const COUNT: usize = 1 << 20;
    let pool = Pool::new(ONE_KIB, 64 << 10);
    let directory = directory();
    let engine = Engine::open(directory.path(), buffered());
    (0..WINDOW).for_each(|index| assert!(!engine.send(pool.slice(index))));
    let sent = || (0..WINDOW).cycle().take(amount(COUNT));
    let append = || time_of(|| sent().for_each(|index| assert!(engine.send(pool.slice(index)))));
    let check = || {
        time_of(|| {
            for batch in sent().map(|index| pool.slice(index)) {
                assert!(crc_matches(batch));
                black_box(walk(batch));
            }
        })
    };
    let each = |time: f64| time / amount(COUNT) as f64;
    let targets = vec![target("idemlog", || each(append())), target("limit", || each(check()))];
    in_turn(group(criterion, "duplicate/1KiB", 15), targets);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let engine: (_, Sample) = ("idemlog", sample::<Engine>);
    for shape in [SMALL, ONE_KIB, SIXTEEN_KIB, TEN_OF_ONE_KIB] {
        compare(
            &mut criterion,
            "append",
            shape,
            &[
                engine,
                ("counted", sample::<OfCounted>),
                ("limit", sample::<Limit>),
                ("pwrite", sample::<Pwrite>),
            ],
        );
    }
    compare(&mut criterion, "append", COMPRESSED, &[engine, ("limit", sample::<DecompressingLimit>)]);
    for shape in [ONE_KIB, SIXTEEN_KIB] {
        compare(
            &mut criterion,
            "write-mode",
            shape,
            &[("idemlog", sample::<InWriteMode>), ("limit", sample::<Pwrite>)],
        );
    }
    checkpoints(&mut criterion);
    duplicate(&mut criterion);
    criterion.final_summary();
}
