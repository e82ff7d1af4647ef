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
    DecompressingLimit, Engine, InWriteMode, Limit, Pwrite, Target, WithCheckpoints, buffered, sample,
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

/// One target against its limit.
fn compare<Measured: Target, Least: Target>(criterion: &mut Criterion, name: &str, shape: Shape) {
    let pool = LazyCell::new(|| Pool::new(shape, amount(POOL_BYTES)));
    let mut group = group(criterion, name, shape);
    group.bench_function("idemlog", |bench| bench.iter_custom(|count| sample::<Measured>(&pool, count)));
    group.bench_function("limit", |bench| bench.iter_custom(|count| sample::<Least>(&pool, count)));
    group.finish();
}

/// What a log would do that knows nothing of batches: the CRC and a `pwrite`, beside the others of its group.
fn beside_pwrite(criterion: &mut Criterion, shape: Shape) {
    let pool = LazyCell::new(|| Pool::new(shape, amount(POOL_BYTES)));
    let mut group = group(criterion, "append", shape);
    group.bench_function("pwrite", |bench| bench.iter_custom(|count| sample::<Pwrite>(&pool, count)));
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
    for shape in [SMALL, ONE_KIB, SIXTEEN_KIB, TEN_OF_ONE_KIB] {
        compare::<Engine, Limit>(&mut criterion, "append", shape);
        beside_pwrite(&mut criterion, shape);
    }
    compare::<Engine, DecompressingLimit>(&mut criterion, "append", COMPRESSED);
    for shape in [ONE_KIB, SIXTEEN_KIB] {
        compare::<InWriteMode, Pwrite>(&mut criterion, "write-mode", shape);
    }
    checkpoints(&mut criterion);
    duplicate(&mut criterion);
    criterion.final_summary();
}
