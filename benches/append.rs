//! Appending: batches as bytes, through their checks, into a log that acknowledges them without a sync.
//!
//! Beside the engine stands the limit: the CRC, a bare walk over the records, and a copy into mapped pages that another
//! thread has populated; and the CRC with a `pwrite` into a file that has its blocks, the limit of `Write` mode. All append
//! the same batches to a fresh file, which begins to be timed when some of them are in. None makes anything durable, but
//! for the engine in the group `checkpoints`.

mod support;

use std::cell::LazyCell;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use support::batches::{
    COMPRESSED, ONE_KIB, Pool, SIXTEEN_KIB, SMALL, Shape, TEN_OF_ONE_KIB, crc_matches, walk,
};
use support::targets::{
    DecompressingLimit, Engine, InWriteMode, Limit, Pwrite, WithCheckpoints, buffered, sample,
};
use support::{amount, directory};

/// How much is appended to one file.
const POOL_BYTES: usize = 256 << 20;

/// A group whose samples are all of one size.
fn group<'a>(criterion: &'a mut Criterion, name: &str, shape: Shape) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("{name}/{}", shape.name));
    group.sampling_mode(SamplingMode::Flat).sample_size(15);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(1));
    group.throughput(Throughput::Bytes((shape.records as usize * shape.value_size) as u64));
    group
}

/// How long some appends of a pool take.
type Sample = fn(&Pool, u64) -> Duration;

/// Targets side by side, over the same batches.
fn compare(criterion: &mut Criterion, name: &str, shape: Shape, targets: &[(&str, Sample)]) {
    let pool = LazyCell::new(|| Pool::new(shape, amount(POOL_BYTES)));
    let mut group = group(criterion, name, shape);
    for (target, sample) in targets {
        group.bench_function(*target, |bench| bench.iter_custom(|count| sample(&pool, count)));
    }
    group.finish();
}

/// The disk may be slower than the appender: there is no limit to compare with.
fn checkpoints(criterion: &mut Criterion) {
    let pool = LazyCell::new(|| Pool::new(ONE_KIB, amount(4 * POOL_BYTES)));
    let mut group = group(criterion, "checkpoints", ONE_KIB);
    group.sample_size(10);
    group.bench_function("idemlog", |bench| {
        bench.iter_custom(|count| sample::<WithCheckpoints>(&pool, count));
    });
    group.finish();
}

/// A batch that was stored before, one of the last five: the answer is where. The limit is the CRC and the walk.
fn duplicate(criterion: &mut Criterion) {
    const WINDOW: usize = 5;
    let pool = Pool::new(ONE_KIB, 64 << 10);
    let mut group = criterion.benchmark_group("duplicate/1KiB");
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.bench_function("idemlog", |bench| {
        let directory = directory();
        let engine = Engine::open(directory.path(), buffered());
        (0..WINDOW).for_each(|index| assert!(!engine.send(pool.batch(index))));
        let mut sent = (0..WINDOW).cycle();
        bench.iter(|| assert!(engine.send(pool.batch(sent.next().unwrap_or(0)))));
    });
    group.bench_function("limit", |bench| {
        let mut sent = (0..WINDOW).cycle();
        bench.iter(|| {
            let batch = pool.slice(sent.next().unwrap_or(0));
            assert!(crc_matches(batch));
            walk(batch)
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let engine: (_, Sample) = ("idemlog", sample::<Engine>);
    for shape in [SMALL, ONE_KIB, SIXTEEN_KIB, TEN_OF_ONE_KIB] {
        compare(
            &mut criterion,
            "append",
            shape,
            &[engine, ("limit", sample::<Limit>), ("pwrite", sample::<Pwrite>)],
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
