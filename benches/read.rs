//! Reading a log whose pages are in memory.
//!
//! Beside the engine stand
//! - `limit`: the same over a mapping of the file, with nothing in between: hops from header to header, a bare walk over
//!   the records, or a binary search in an index as sparse as the engine's.
//! - `pread`: the same over bytes that are read into a buffer.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use idemlog::{DiskFile, Offset};
use support::batches::{first_offset, size, walk};
use support::stored::Stored;
use support::{Random, amount};

const LOG_BYTES: usize = 256 << 20;
const READ_AHEAD: usize = 256 << 10;
/// The bytes of batches between two entries of an index.
const INDEX_INTERVAL: usize = 4096;

/// Makes the compiler believe that somebody looks at what was found.
fn keep<T>(found: T) {
    black_box(found);
}

/// Calls `each` with all batches in `bytes`; returns the size of what lies behind the last whole one.
fn hop<'a>(mut bytes: &'a [u8], mut each: impl FnMut(&'a [u8])) -> usize {
    while bytes.len() >= 61 && bytes.len() >= size(bytes) {
        let (batch, rest) = bytes.split_at(size(bytes));
        each(batch);
        bytes = rest;
    }
    bytes.len()
}

/// Calls `each` with all batches of a file of `len` bytes.
fn hop_file(file: &dyn DiskFile, len: usize, mut each: impl FnMut(&[u8])) {
    let mut buffer = vec![0; READ_AHEAD];
    let (mut position, mut kept) = (0, 0);
    while position < len {
        let room = buffer.len().min(len - position + kept);
        let read = file.read_at(&mut buffer[kept..room], position as u64).expect("bytes");
        position += read;
        let end = kept + read;
        kept = hop(&buffer[..end], &mut each);
        buffer.copy_within(end - kept..end, 0);
    }
}

/// The batches of the whole log, one by one.
fn sequential(criterion: &mut Criterion, stored: &Stored) {
    let mut group = criterion.benchmark_group("read/sequential");
    group.throughput(Throughput::Bytes(stored.bytes as u64)).sample_size(20);
    group.bench_function("idemlog", |bench| {
        bench.iter(|| {
            let batches = stored.log.reader(Offset(0)).expect("a reader");
            batches.map(|batch| black_box(batch.expect("a batch").bytes()).len()).sum::<usize>()
        });
    });
    group.bench_function("limit", |bench| {
        let map = stored.file().map_read(stored.bytes).expect("a mapping");
        let bytes = map.slice(0..stored.bytes).expect("all bytes");
        bench.iter(|| hop(&bytes, keep));
    });
    group.bench_function("pread", |bench| {
        let file = stored.file();
        bench.iter(|| hop_file(&*file, stored.bytes, |batch| keep(batch)));
    });
    group.finish();
}

/// Every value of every record.
fn records(criterion: &mut Criterion, stored: &Stored) {
    let mut group = criterion.benchmark_group("read/records");
    group.throughput(Throughput::Bytes(stored.bytes as u64)).sample_size(20);
    group.bench_function("idemlog", |bench| {
        bench.iter(|| {
            let batches = stored.log.reader(Offset(0)).expect("a reader");
            let records = batches.flat_map(|batch| batch.expect("a batch").records());
            records
                .map(|record| record.expect("a record").value().map_or(0, |value| value.len()))
                .sum::<usize>()
        });
    });
    group.bench_function("limit", |bench| {
        let map = stored.file().map_read(stored.bytes).expect("a mapping");
        let bytes = map.slice(0..stored.bytes).expect("all bytes");
        bench.iter(|| hop(&bytes, |batch| keep(walk(batch))));
    });
    group.bench_function("pread", |bench| {
        let file = stored.file();
        bench.iter(|| hop_file(&*file, stored.bytes, |batch| keep(walk(batch))));
    });
    group.finish();
}

/// The first offset and the place of one batch in every [`INDEX_INTERVAL`].
fn sparse_index(bytes: &[u8]) -> Vec<(u64, usize)> {
    let (mut index, mut position, mut since_last) = (Vec::new(), 0, INDEX_INTERVAL);
    hop(bytes, |batch| {
        if since_last >= INDEX_INTERVAL {
            index.push((first_offset(batch), position));
            since_last = 0;
        }
        position += batch.len();
        since_last += batch.len();
    });
    index
}

/// The batch with `offset`, found through the index.
fn find<'a>(bytes: &'a [u8], index: &[(u64, usize)], offset: u64) -> &'a [u8] {
    let entry = index.partition_point(|&(first, _)| first <= offset).saturating_sub(1);
    let mut rest = &bytes[index[entry].1..];
    while first_offset(rest) < offset {
        rest = &rest[size(rest)..];
    }
    &rest[..size(rest)]
}

/// One batch by its offset, anywhere in the log.
fn random(criterion: &mut Criterion, stored: &Stored) {
    let mut group = criterion.benchmark_group("read/random");
    let count = stored.count() as u64;
    let offsets = || Random(3).map(|number| number % count);
    group.bench_function("idemlog", |bench| {
        let mut offsets = offsets();
        bench.iter(|| {
            let offset = offsets.next().map_or(0, |offset| offset as i64);
            let fetched = stored.log.read(Offset(offset), 1).expect("a batch");
            assert_eq!(fetched.bytes.len(), stored.batch_size);
            fetched
        });
    });
    group.bench_function("limit", |bench| {
        let map = stored.file().map_read(stored.bytes).expect("a mapping");
        let bytes = map.slice(0..stored.bytes).expect("all bytes");
        let (index, mut offsets) = (sparse_index(&bytes), offsets());
        bench.iter(|| {
            let batch = find(&bytes, &index, offsets.next().unwrap_or(0));
            assert_eq!(batch.len(), stored.batch_size);
            black_box(batch);
        });
    });
    group.bench_function("pread", |bench| {
        let (file, mut buffer, mut offsets) = (stored.file(), vec![0; stored.batch_size], offsets());
        bench.iter(|| {
            let position = offsets.next().unwrap_or(0) * stored.batch_size as u64;
            file.read_at(&mut buffer, position).expect("a batch")
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let stored = LazyCell::new(|| Stored::new(amount(LOG_BYTES)));
    sequential(&mut criterion, &stored);
    records(&mut criterion, &stored);
    random(&mut criterion, &stored);
    criterion.final_summary();
}
