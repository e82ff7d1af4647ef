//! Appending: batches as bytes, through their checks, into a log that acknowledges them without a sync.
//!
//! Beside the engine stand
//! - `limit`: what no engine in this format can leave out. The CRC, a bare walk over the records, and a copy into
//!   mapped pages that another thread has populated.
//! - `pwrite`: the CRC, and a `pwrite` into a file that has its blocks.
//!
//! All append the same batches to a fresh file, which begins to be timed when some of them are in. None makes anything
//! durable, but for the engine in the group `checkpoints`.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use idemlog::{
    Access, Batch, Disk, DiskFile, Durability, Log, LogDir, LogDirOptions, LogOptions, MapWriter, RealDisk,
};
use support::batches::{ONE_KIB, Pool, SIXTEEN_KIB, SMALL, Shape, TEN_OF_ONE_KIB, crc_matches, walk};
use support::{Reserve, amount, directory};

/// How much is appended to one file.
const POOL_BYTES: usize = 256 << 20;
/// A pool's part (one in so many) that is appended before the clock starts.
const LEAD_IN: usize = 8;
/// As far ahead of a fast writer as the engine populates pages.
const POPULATE_AHEAD: usize = 8 << 20;

/// What batches are appended to.
trait Target {
    /// A fresh one in an empty directory, for up to `bytes`.
    fn create(directory: &Path, bytes: usize) -> Self;

    fn append(&mut self, pool: &Pool, index: usize);
}

/// The engine, with a checkpoint every so many bytes.
struct Engine<const CHECKPOINT_BYTES: u64> {
    log: Log,
    _dir: LogDir,
}

/// More than is appended.
const NEVER: u64 = u64::MAX;
/// The default.
const OFTEN: u64 = 256 << 20;

impl<const CHECKPOINT_BYTES: u64> Target for Engine<CHECKPOINT_BYTES> {
    fn create(directory: &Path, _bytes: usize) -> Self {
        let log =
            LogOptions::default().durability(Durability::Buffered).snapshot_interval_bytes(CHECKPOINT_BYTES);
        let options = LogDirOptions::default().background_threads(2).log(log);
        let dir = LogDir::open(directory, options).expect("an empty directory");
        Self { log: dir.partition("bench", 0).expect("a new partition"), _dir: dir }
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let batch = Batch::decode(pool.batch(index)).expect("a sound batch");
        let outcome = self.log.append(&batch).expect("an append");
        debug_assert!(!outcome.is_duplicate());
        black_box(outcome);
    }
}

/// A file with blocks for `bytes`.
fn allocated_file(directory: &Path, bytes: usize) -> Arc<dyn DiskFile> {
    let file = RealDisk.open(&directory.join("file"), Access::CreateNew).expect("a new file");
    file.allocate(0, bytes as u64).expect("room on the disk");
    file
}

struct Limit {
    writer: MapWriter,
    position: usize,
    populated: usize,
    /// To the thread that populates pages.
    requests: Sender<Range<usize>>,
}

impl Limit {
    #[inline]
    fn populate_ahead(&mut self) {
        if self.populated - self.position < POPULATE_AHEAD / 2 {
            let to = (self.position + POPULATE_AHEAD).min(self.writer.map().capacity());
            let _ = self.requests.send(self.populated..to.max(self.populated));
            self.populated = to.max(self.populated);
        }
    }
}

impl Target for Limit {
    fn create(directory: &Path, bytes: usize) -> Self {
        let writer = allocated_file(directory, bytes).map(bytes, 0).expect("a mapping");
        let (requests, requested) = channel();
        let map = Arc::clone(writer.map());
        let populate = move || requested.iter().for_each(|range| map.populate(range).expect("pages"));
        std::thread::spawn(populate);
        Self { writer, position: 0, populated: 0, requests }
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let batch = pool.slice(index);
        assert!(crc_matches(batch));
        black_box(walk(batch));
        self.writer.store(self.position, batch).expect("a place for the batch");
        self.position += batch.len();
        self.populate_ahead();
    }
}

struct Pwrite {
    file: Arc<dyn DiskFile>,
    position: u64,
}

impl Target for Pwrite {
    fn create(directory: &Path, bytes: usize) -> Self {
        Self { file: allocated_file(directory, bytes), position: 0 }
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let batch = pool.slice(index);
        assert!(crc_matches(batch));
        self.file.write_at(batch, self.position).expect("a write");
        self.position += batch.len() as u64;
    }
}

/// The time of `iterations` appends, by that of a whole pool: it takes some thousands until an appender and those who
/// work ahead of it are in step.
fn sample<T: Target>(pool: &Pool, iterations: u64) -> Duration {
    let lead_in = pool.len() / LEAD_IN;
    let count = pool.len() - lead_in;
    fill::<T>(pool, lead_in, count).mul_f64(iterations as f64 / count as f64)
}

/// The time of `count` appends to one file, behind `lead_in` others.
fn fill<T: Target>(pool: &Pool, lead_in: usize, count: usize) -> Duration {
    let directory = directory();
    let bytes = (lead_in + count) * pool.batch_size();
    let mut target = T::create(directory.path(), bytes);
    let mut reserve = Reserve::new(bytes);
    append_range(&mut target, pool, 0..lead_in, &mut reserve);
    append_range(&mut target, pool, lead_in..lead_in + count, &mut reserve)
}

/// The time of the appends alone: the reserve goes while the clock stands.
fn append_range<T: Target>(
    target: &mut T,
    pool: &Pool,
    range: Range<usize>,
    reserve: &mut Reserve,
) -> Duration {
    let step = Reserve::STEP / pool.batch_size();
    let mut took = Duration::ZERO;
    for from in range.clone().step_by(step) {
        reserve.release();
        let started = Instant::now();
        (from..range.end.min(from + step)).for_each(|index| target.append(pool, index));
        took += started.elapsed();
    }
    took
}

/// A group whose samples are all of one size.
fn group<'a>(criterion: &'a mut Criterion, name: &str, shape: Shape) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(format!("{name}/{}", shape.name));
    group.sampling_mode(SamplingMode::Flat).sample_size(15);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(1));
    group.throughput(Throughput::Bytes((shape.records as usize * shape.value_size) as u64));
    group
}

fn append(criterion: &mut Criterion, shape: Shape) {
    let pool = LazyCell::new(|| Pool::new(shape, amount(POOL_BYTES)));
    let mut group = group(criterion, "append", shape);
    group.bench_function("idemlog", |bench| bench.iter_custom(|count| sample::<Engine<NEVER>>(&pool, count)));
    group.bench_function("limit", |bench| bench.iter_custom(|count| sample::<Limit>(&pool, count)));
    group.bench_function("pwrite", |bench| bench.iter_custom(|count| sample::<Pwrite>(&pool, count)));
    group.finish();
}

/// The engine as it is by default: every 256 MiB it makes everything durable in the background, so that opening has
/// little to recover. The disk may be slower than the appender.
fn checkpoints(criterion: &mut Criterion) {
    let pool = LazyCell::new(|| Pool::new(ONE_KIB, amount(4 * POOL_BYTES)));
    let mut group = group(criterion, "checkpoints", ONE_KIB);
    group.bench_function("idemlog", |bench| bench.iter_custom(|count| sample::<Engine<OFTEN>>(&pool, count)));
    group.finish();
}

/// A batch that was stored before, one of the last five: the answer is where. The limit is the CRC and the walk.
fn duplicate(criterion: &mut Criterion) {
    const WINDOW: usize = 5;
    let pool = Pool::new(ONE_KIB, 64 << 10);
    let mut group = criterion.benchmark_group("duplicate/1KiB");
    group.bench_function("idemlog", |bench| {
        let directory = directory();
        let mut engine = Engine::<NEVER>::create(directory.path(), 0);
        (0..WINDOW).for_each(|index| engine.append(&pool, index));
        let mut sent = (0..WINDOW).cycle();
        bench.iter(|| {
            let batch = Batch::decode(pool.batch(sent.next().unwrap_or(0))).expect("a sound batch");
            let outcome = engine.log.append(&batch).expect("the original's offsets");
            assert!(outcome.is_duplicate());
            outcome
        });
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
    [SMALL, ONE_KIB, SIXTEEN_KIB, TEN_OF_ONE_KIB].into_iter().for_each(|shape| append(&mut criterion, shape));
    checkpoints(&mut criterion);
    duplicate(&mut criterion);
    criterion.final_summary();
}
