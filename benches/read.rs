//! Reading a log of 4 GiB whose pages are in memory. Beside the engine stands the limit: the same over mappings of the
//! files, with nothing in between: hops from header to header, a bare walk over the records, or a binary search in an
//! index as sparse as the engine's and a scan from there.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use idemlog::{Offset, Timestamp};
use support::batches::{FIRST_TIMESTAMP, ONE_KIB, first_offset, largest_timestamp, size, walk};
use support::stored::{Stored, mapped_segments};
use support::{Random, amount, directory};

const LOG_BYTES: usize = 4 << 30;
/// The bytes of batches between two entries of an index.
const INDEX_INTERVAL: usize = 4096;

/// Makes the compiler believe that somebody looks at what was found.
fn keep<T>(found: T) {
    black_box(found);
}

/// Calls `each` with all batches in `bytes`, which end with the last one or with zeros.
fn hop<'a>(mut bytes: &'a [u8], mut each: impl FnMut(&'a [u8])) {
    while bytes.len() >= 61 && size(bytes) >= 61 {
        let (batch, rest) = bytes.split_at(size(bytes));
        each(batch);
        bytes = rest;
    }
}

/// The log's files, mapped.
struct Files(Vec<Bytes>);

impl Files {
    fn of(stored: &Stored) -> Self {
        let maps = mapped_segments(stored.directory());
        Self(maps.iter().map(|map| map.bytes(0..map.capacity()).expect("all bytes")).collect())
    }

    fn each(&self, mut each: impl FnMut(&[u8])) {
        self.0.iter().for_each(|file| hop(file, &mut each));
    }
}

/// Every batch, or every value of every record.
fn sequential(criterion: &mut Criterion, stored: &Stored) {
    let mut group = criterion.benchmark_group("read/sequential");
    group.throughput(Throughput::Bytes(stored.bytes as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(500));
    group.bench_function("idemlog", |bench| {
        bench.iter(|| {
            let batches = stored.log.reader(Offset(0)).expect("a reader");
            batches.map(|batch| black_box(batch.expect("a batch").bytes()).len()).sum::<usize>()
        });
    });
    let files = Files::of(stored);
    group.bench_function("limit", |bench| bench.iter(|| files.each(|batch| keep(batch))));
    group.finish();
    let mut group = criterion.benchmark_group("read/records");
    group.throughput(Throughput::Bytes(stored.bytes as u64)).sample_size(10);
    group.measurement_time(Duration::from_secs(5)).warm_up_time(Duration::from_millis(500));
    group.bench_function("idemlog", |bench| {
        bench.iter(|| {
            let batches = stored.log.reader(Offset(0)).expect("a reader");
            let records = batches.flat_map(|batch| batch.expect("a batch").records());
            let size = |record: idemlog::Record| record.value_slice().map_or(0, <[u8]>::len);
            records.map(|record| size(record.expect("a record"))).sum::<usize>()
        });
    });
    group.bench_function("limit", |bench| bench.iter(|| files.each(|batch| keep(walk(batch)))));
    group.finish();
}

/// By one of the numbers that rise from batch to batch: those of one batch in every [`INDEX_INTERVAL`].
struct SparseIndex<'a> {
    entries: Vec<(u64, &'a [u8])>,
    number: fn(&[u8]) -> u64,
}

impl<'a> SparseIndex<'a> {
    fn new(files: &'a Files, number: fn(&[u8]) -> u64) -> Self {
        let mut entries = Vec::new();
        for bytes in &files.0 {
            let (mut position, mut since_last) = (0, INDEX_INTERVAL);
            hop(bytes, |batch| {
                if since_last >= INDEX_INTERVAL {
                    entries.push((number(batch), &bytes[position..]));
                    since_last = 0;
                }
                position += batch.len();
                since_last += batch.len();
            });
        }
        Self { entries, number }
    }

    /// The batch with the number.
    fn find(&self, number: u64) -> &[u8] {
        let entry = self.entries.partition_point(|&(first, _)| first <= number).saturating_sub(1);
        let mut rest = self.entries[entry].1;
        while (self.number)(rest) < number {
            rest = &rest[size(rest)..];
        }
        &rest[..size(rest)]
    }
}

/// One batch by its offset, or one offset by its timestamp, anywhere in the log.
fn random(criterion: &mut Criterion, stored: &Stored) {
    let count = stored.count() as u64;
    let numbers = || Random(3).map(|number| number % count);
    let files = Files::of(stored);
    let mut group = criterion.benchmark_group("read/random offset");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.bench_function("idemlog", |bench| {
        let mut offsets = numbers();
        bench.iter(|| {
            let offset = offsets.next().map_or(0, |offset| offset as i64);
            let fetched = stored.log.read(Offset(offset), 1).expect("a batch");
            assert_eq!(fetched.bytes.len(), stored.batch_size);
            fetched
        });
    });
    group.bench_function("limit", |bench| {
        let (index, mut offsets) = (SparseIndex::new(&files, first_offset), numbers());
        bench.iter(|| black_box(index.find(offsets.next().unwrap_or(0))).len());
    });
    group.finish();
    let mut group = criterion.benchmark_group("read/random timestamp");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.bench_function("idemlog", |bench| {
        let mut times = numbers();
        bench.iter(|| {
            let number = times.next().map_or(0, |number| number as i64);
            let found = stored.log.offset_for_timestamp(Timestamp(FIRST_TIMESTAMP + number));
            let found = found.expect("an offset").expect("a record");
            assert_eq!(found.offset, Offset(number));
        });
    });
    group.bench_function("limit", |bench| {
        let (index, mut times) = (SparseIndex::new(&files, largest_timestamp), numbers());
        bench.iter(|| black_box(index.find(FIRST_TIMESTAMP as u64 + times.next().unwrap_or(0))).len());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directory = directory();
    let stored = LazyCell::new(|| Stored::new(directory.path(), 0, ONE_KIB, amount(LOG_BYTES)));
    sequential(&mut criterion, &stored);
    random(&mut criterion, &stored);
    criterion.final_summary();
}
