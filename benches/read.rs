//! Reading a log of 4 GiB whose pages are in memory: batches that are lent, and others that are handed out to be kept. Beside
//! the engine stands the limit: the same over mappings of the files, with nothing in between: hops from header to header that
//! look ahead, a bare walk over the records, or a binary search in an index as sparse as the engine's and a scan from there.

mod support;

use std::cell::LazyCell;
use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use idemlog::{Offset, Timestamp};
use support::batches::{FIRST_TIMESTAMP, ONE_KIB, first_offset, largest_timestamp, size, walk};
use support::in_turn::{group, in_turn, target, time_of};
use support::stored::{Stored, mapped_segments};
use support::{Random, amount, directory, is_trial};

const LOG_BYTES: usize = 4 << 30;
/// The bytes of batches between two entries of an index.
const INDEX_INTERVAL: usize = 4096;

/// Makes the compiler believe that somebody looks at what was found.
fn keep<T>(found: T) {
    black_box(found);
}

/// Calls `each` with all batches in `bytes`, which end with the last one or with zeros, and with what is behind each.
fn hop<'a>(mut bytes: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8])) {
    while bytes.len() >= 61 && size(bytes) >= 61 {
        let (batch, rest) = bytes.split_at(size(bytes));
        each(batch, rest);
        bytes = rest;
    }
}

/// Where a batch begins is known only once the header of the one before it is there. Most are about as large as that one: a
/// look at where others will then begin has them fetched. (A walk over the records is the slower for it: it has enough to
/// wait for.)
fn keep_and_look_ahead(batch: &[u8], rest: &[u8]) {
    const AHEAD: usize = 24;
    keep(rest.get(AHEAD * batch.len()).copied());
    keep(batch);
}

/// The log's files, mapped.
struct Files(Vec<Bytes>);

impl Files {
    fn of(stored: &Stored) -> Self {
        let maps = mapped_segments(stored.directory());
        Self(maps.iter().map(|map| map.bytes(0..map.capacity()).expect("all bytes")).collect())
    }

    fn each(&self, mut each: impl FnMut(&[u8], &[u8])) {
        self.0.iter().for_each(|file| hop(file, &mut each));
    }
}

/// Every batch, or every value of every record.
fn sequential(criterion: &mut Criterion, stored: &Stored) {
    let files = Files::of(stored);
    let reader = || stored.log.reader(Offset(0)).expect("a reader");
    let lend = || {
        let (mut reader, mut bytes) = (reader(), 0);
        while let Some(batch) = reader.lend_next() {
            bytes += black_box(*batch.expect("a batch").bytes()).len();
        }
        keep(bytes);
    };
    let hand_out =
        || keep(reader().map(|batch| black_box(batch.expect("a batch").bytes()).len()).sum::<usize>());
    let lend_records = || {
        let (mut reader, mut scratch, mut bytes) = (reader(), Vec::new(), 0);
        while let Some(batch) = reader.lend_next() {
            let records = batch.expect("a batch").records_in(&mut scratch);
            bytes +=
                records.map(|record| record.expect("a record").value().map_or(0, <[u8]>::len)).sum::<usize>();
        }
        keep(bytes);
    };
    let hand_out_records = || {
        let records = reader().flat_map(|batch| batch.expect("a batch").into_records());
        let size = |record: idemlog::Record| record.value_slice().map_or(0, <[u8]>::len);
        keep(records.map(|record| size(record.expect("a record"))).sum::<usize>());
    };
    let bytes = Throughput::Bytes(stored.bytes as u64);
    let mut all = group(criterion, "read/sequential", 15);
    all.throughput(bytes.clone());
    let limit = || time_of(|| files.each(keep_and_look_ahead));
    let (ours, owned) = (target("idemlog", || time_of(lend)), target("handed out", || time_of(hand_out)));
    in_turn(all, vec![ours, owned, target("limit", limit)]);
    let mut all = group(criterion, "read/records", 15);
    all.throughput(bytes);
    let limit = || time_of(|| files.each(|batch, _| keep(walk(batch))));
    let ours = target("idemlog", || time_of(lend_records));
    in_turn(all, vec![ours, target("handed out", || time_of(hand_out_records)), target("limit", limit)]);
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
            hop(bytes, |batch, _| {
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

/// The time of one of many look-ups of random numbers, behind as many that fetch again what the other one's have pushed out
/// of the caches.
fn look_ups(numbers: &mut impl Iterator<Item = u64>, mut look_up: impl FnMut(u64)) -> f64 {
    let count = if is_trial() { 100 } else { 200_000 };
    numbers.take(count).for_each(&mut look_up);
    time_of(|| numbers.take(count).for_each(look_up)) / count as f64
}

/// One batch by its offset, or one offset by its timestamp, anywhere in the log.
fn random(criterion: &mut Criterion, stored: &Stored) {
    let count = stored.count() as u64;
    let numbers = || Random(3).map(move |number| number % count);
    let files = Files::of(stored);
    let read = |offset| {
        let fetched = stored.log.read(Offset(offset as i64), 1).expect("a batch");
        assert_eq!(fetched.bytes.len(), stored.batch_size);
        keep(fetched);
    };
    let find = |number| {
        let found = stored.log.offset_for_timestamp(Timestamp(FIRST_TIMESTAMP + number as i64));
        assert_eq!(found.expect("an offset").expect("a record").offset, Offset(number as i64));
    };
    let by_offset = SparseIndex::new(&files, first_offset);
    let (mut offsets, mut same_offsets) = (numbers(), numbers());
    let ours = target("idemlog", || look_ups(&mut offsets, read));
    let limit = target("limit", || look_ups(&mut same_offsets, |offset| keep(by_offset.find(offset))));
    in_turn(group(criterion, "read/random offset", 15), vec![ours, limit]);
    let by_time = SparseIndex::new(&files, largest_timestamp);
    let (mut times, mut same_times) = (numbers(), numbers());
    let ours = target("idemlog", || look_ups(&mut times, find));
    let find = |number| keep(by_time.find(FIRST_TIMESTAMP as u64 + number).len());
    let limit = target("limit", || look_ups(&mut same_times, find));
    in_turn(group(criterion, "read/random timestamp", 15), vec![ours, limit]);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let directory = directory();
    let stored = LazyCell::new(|| Stored::new(directory.path(), 0, ONE_KIB, amount(LOG_BYTES)));
    sequential(&mut criterion, &stored);
    random(&mut criterion, &stored);
    criterion.final_summary();
}
