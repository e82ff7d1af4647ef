//! Record batches of any bytes.

use bytes::Bytes;
use idemlog::{
    Batch, BatchBuilder, BatchHeader, Batches, Compression, ControlRecord, Record, RecordBuilder,
    RecordCheck, UncheckedBatch,
};

use crate::files::fix_batches;

/// What a compressed batch may grow to here.
const MAX_DECOMPRESSED: usize = 64 << 10;

/// Walks `bytes` as batches, as they are and with their checksums put right.
pub fn decode(bytes: &[u8]) {
    let mut fixed = bytes.to_vec();
    fix_batches(&mut fixed);
    for bytes in [Bytes::copy_from_slice(bytes), fixed.into()] {
        let complete = Batches::new(bytes.clone()).ignore_incomplete().filter(Result::is_ok).count();
        assert_eq!(Batches::new(bytes.clone()).filter(Result::is_ok).count(), complete);
        Batches::new(bytes.clone()).flatten().for_each(|batch| walk(&batch));
        let lent = Batches::lent(&bytes).map(|batch| batch.map(|batch| batch.into_owned().into_bytes()));
        assert!(lent.eq(Batches::new(bytes.clone()).map(|batch| batch.map(UncheckedBatch::into_bytes))));
        let _ = Batch::decode_with(bytes, RecordCheck::Full, MAX_DECOMPRESSED);
    }
}

fn walk(unchecked: &UncheckedBatch) {
    let header = unchecked.header();
    let control = unchecked.control();
    let walked = unchecked.records_within(MAX_DECOMPRESSED).map(|record| record.map(touch));
    let sound = walked.filter(Result::is_ok).count();
    let decode = |check| Batch::decode_with(unchecked.bytes().clone(), check, MAX_DECOMPRESSED);
    let by_header = decode(RecordCheck::Header);
    let Ok(batch) = decode(RecordCheck::Full) else { return };
    assert!(by_header.is_ok_and(|batch| batch.header() == header));
    assert_eq!(sound, header.record_count as usize, "a checked batch holds what it says");
    match control {
        Ok(None) if !header.is_control() => rebuild(&batch),
        Ok(control) => rebuild_control(&batch, control.as_ref()),
        // The records of a control batch may be sound, and not the one that it must hold.
        Err(_) => {}
    }
}

/// Reads everything that a record says.
fn touch(record: Record) {
    let parts = [record.key(), record.value()].into_iter().flatten().map(|part| part.len()).sum::<usize>();
    let headers = record.headers().map(|(name, value)| name.len() + value.map_or(0, |value| value.len()));
    assert!(parts + headers.sum::<usize>() <= MAX_DECOMPRESSED);
    assert!(record.offset().0 >= 0);
}

fn builder(header: &BatchHeader) -> BatchBuilder {
    let builder = BatchBuilder::new()
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .base_offset(header.base_offset)
        .leader_epoch(header.leader_epoch)
        .timestamp(header.max_timestamp)
        .timestamp_type(header.timestamp_type());
    if header.is_transactional() { builder.transactional() } else { builder }
}

/// A batch built of the records of another reads like it, in its codec and in none.
fn rebuild(batch: &Batch) {
    let header = batch.header();
    let records: Vec<Record> = batch.records().map(Result::unwrap).collect();
    for codec in [Compression::None, header.compression().unwrap()] {
        let begun = builder(header).compression(codec).compacted(header.last_offset_delta);
        let push = |builder: BatchBuilder, record: &Record| {
            let delta = record.offset() - header.base_offset;
            builder.push(RecordBuilder::from(record).offset_delta(i32::try_from(delta).unwrap()))
        };
        let built = records.iter().fold(begun, push).build().expect("what was read can be built");
        let read = Batch::decode(built.bytes().clone()).expect("what was built can be read");
        assert_eq!(read.header(), built.header());
        assert_eq!(read.header().offsets(), header.offsets());
        assert_eq!(read.header().last_sequence(), header.last_sequence());
        let read: Vec<Record> = read.records().map(Result::unwrap).collect();
        assert_eq!(read.len(), records.len());
        read.iter().zip(&records).for_each(|(read, record)| assert_same(read, record));
    }
}

fn assert_same(read: &Record, record: &Record) {
    assert_eq!((read.offset(), read.timestamp()), (record.offset(), record.timestamp()));
    assert_eq!(read.sequence(), record.sequence());
    assert_eq!((read.key_slice(), read.value_slice()), (record.key_slice(), record.value_slice()));
    assert!(read.headers().eq(record.headers()));
}

fn rebuild_control(batch: &Batch, control: Option<&ControlRecord>) {
    let Some(&control) = control else { return };
    let built = builder(batch.header()).control(control).build().expect("a control record can be built");
    assert_eq!(built.control(), Ok(Some(control)));
}
