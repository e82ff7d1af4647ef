//! What batches are appended to: the engine, and the least that stores the same bytes.

use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use idemlog::{
    Access, Batch, BatchBytes, DEFAULT_MAX_DECOMPRESSED, Disk, DiskFile, Durability, IoMode, Log, LogDir,
    LogDirOptions, LogOptions, Map, MapWriter, Pages, RealDisk, RecordCheck,
};

use super::batches::{Pool, crc_matches, walk};
use super::in_turn::each_of;
use super::{Reserve, directory};

/// As far ahead of a fast writer as the engine populates pages.
const POPULATE_AHEAD: usize = 8 << 20;
/// More than is ever appended.
pub(crate) const NEVER: u64 = u64::MAX;

/// What batches are appended to.
pub(crate) trait Target {
    /// A fresh one in an empty directory, for up to `bytes`.
    fn create(directory: &Path, bytes: usize) -> Self;

    /// Appends a batch of the pool.
    fn append(&mut self, pool: &Pool, index: usize);
}

/// The engine, with a log in a directory of its own.
pub(crate) struct Engine {
    pub(crate) log: Log,
    pub(crate) dir: LogDir,
}

/// A log that acknowledges without a sync, and takes no checkpoint.
pub(crate) fn buffered() -> LogOptions {
    LogOptions::default().durability(Durability::Buffered).snapshot_interval_bytes(NEVER)
}

impl Engine {
    pub(crate) fn open(directory: &Path, options: LogOptions) -> Self {
        let dir = LogDir::open(directory, LogDirOptions::default().background_threads(2).log(options));
        let dir = dir.expect("a directory of logs");
        Self { log: dir.partition("bench", 0).expect("a partition"), dir }
    }

    /// The answer to a batch as it comes over the network.
    #[inline]
    pub(crate) fn send(&self, batch: impl BatchBytes) -> bool {
        let batch = Batch::decode_with(batch, RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED);
        let batch = batch.expect("a sound batch");
        black_box(self.log.append(&batch).expect("an append")).is_duplicate()
    }
}

impl Target for Engine {
    fn create(directory: &Path, _bytes: usize) -> Self {
        Self::open(directory, buffered())
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let is_duplicate = self.send(pool.slice(index));
        debug_assert!(!is_duplicate);
    }
}

/// The engine for a host that counts who holds what came over the network.
pub(crate) struct OfCounted(Engine);

impl Target for OfCounted {
    fn create(directory: &Path, bytes: usize) -> Self {
        Self(Engine::create(directory, bytes))
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let is_duplicate = self.0.send(pool.batch(index));
        debug_assert!(!is_duplicate);
    }
}

/// The engine as it is by default: every 256 MiB it makes everything durable in the background, so that opening has
/// little to recover. The disk may be slower than the appender.
pub(crate) struct WithCheckpoints(Engine);

impl Target for WithCheckpoints {
    fn create(directory: &Path, _bytes: usize) -> Self {
        Self(Engine::open(directory, LogOptions::default().durability(Durability::Buffered)))
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        self.0.append(pool, index);
    }
}

/// The engine in the mode in which no disk error can raise a signal.
pub(crate) struct InWriteMode(Engine);

impl Target for InWriteMode {
    fn create(directory: &Path, _bytes: usize) -> Self {
        Self(Engine::open(directory, buffered().io_mode(Some(IoMode::Write))))
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        self.0.append(pool, index);
    }
}

/// A file with blocks for `bytes`.
pub(crate) fn allocated_file(directory: &Path, bytes: usize) -> Arc<dyn DiskFile> {
    let file = RealDisk.open(&directory.join("file"), Access::CreateNew).expect("a new file");
    file.allocate(0, bytes as u64).expect("room on the disk");
    file
}

/// Bytes copied one behind the other into a mapping that another thread populates.
pub(crate) struct Copier {
    writer: MapWriter,
    pub(crate) position: usize,
    populated: usize,
    /// To the thread that populates pages.
    requests: Sender<Range<usize>>,
}

impl Copier {
    pub(crate) fn new(directory: &Path, bytes: usize, pages: Pages) -> Self {
        let (requests, requested) = channel::<Range<usize>>();
        let copier = Self { requests, populated: 0, ..Self::new_unpopulated(directory, bytes) };
        let map = copier.map();
        let populate = move || requested.iter().for_each(|range| map.populate(range, pages).expect("pages"));
        std::thread::spawn(populate);
        copier
    }

    /// One that nobody populates pages for.
    pub(crate) fn new_unpopulated(directory: &Path, bytes: usize) -> Self {
        let writer = allocated_file(directory, bytes).map(bytes, 0).expect("a mapping");
        Self { writer, position: 0, populated: usize::MAX, requests: channel().0 }
    }

    pub(crate) fn map(&self) -> Arc<Map> {
        Arc::clone(self.writer.map())
    }

    #[inline]
    pub(crate) fn copy(&mut self, batch: &[u8]) {
        self.writer.store(self.position, batch).expect("a place for the batch");
        self.position += batch.len();
        if self.populated < self.position + POPULATE_AHEAD / 2 {
            let to = (self.position + POPULATE_AHEAD).min(self.writer.map().capacity()).max(self.populated);
            let _ = self.requests.send(self.populated..to);
            self.populated = to;
        }
    }
}

/// What no engine in this format can leave out: the CRC, a bare walk over the records, and a copy into mapped pages that
/// another thread has populated.
pub(crate) struct Limit(Copier);

impl Target for Limit {
    fn create(directory: &Path, bytes: usize) -> Self {
        Self(Copier::new(directory, bytes, Pages::AsRead))
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        let batch = pool.slice(index);
        assert!(crc_matches(batch));
        black_box(walk(batch));
        self.0.copy(batch);
    }
}

/// The same for compressed records, which are decompressed into a buffer for the walk.
pub(crate) struct DecompressingLimit {
    copier: Copier,
    codec: zstd::bulk::Decompressor<'static>,
    plain: Vec<u8>,
}

impl Target for DecompressingLimit {
    fn create(directory: &Path, bytes: usize) -> Self {
        let codec = zstd::bulk::Decompressor::new().expect("a decompressor");
        Self { copier: Copier::new(directory, bytes, Pages::AsRead), codec, plain: vec![0; 64 << 10] }
    }

    #[inline]
    fn append(&mut self, pool: &Pool, index: usize) {
        const HEADER: usize = 61;
        let batch = pool.slice(index);
        assert!(crc_matches(batch));
        let len = self.codec.decompress_to_buffer(&batch[HEADER..], &mut self.plain[HEADER..]);
        black_box(walk(&self.plain[..HEADER + len.expect("records")]));
        self.copier.copy(batch);
    }
}

/// One `pwrite` a batch, into a file that has its blocks.
pub(crate) struct Pwrite {
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

/// The nanoseconds of one append, by those of a whole pool: it takes some thousands until an appender and those who work
/// ahead of it are in step.
pub(crate) fn sample<T: Target>(pool: &Pool) -> f64 {
    /// A pool's part (one in so many) that is appended before the clock starts.
    const LEAD_IN: usize = 8;
    let lead_in = pool.len() / LEAD_IN;
    let count = pool.len() - lead_in;
    let directory = directory();
    let bytes = pool.len() * pool.batch_size();
    let mut target = T::create(directory.path(), bytes);
    let mut reserve = Reserve::new(bytes);
    append_range(&mut target, pool, 0..lead_in, &mut reserve);
    each_of(append_range(&mut target, pool, lead_in..lead_in + count, &mut reserve), count)
}

/// The time of the appends alone: the reserve goes while the clock stands.
pub(crate) fn append_range<T: Target>(
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
