//! What must hold of batches as a whole: bytes that Kafka wrote, damage of every kind, and arbitrary records there and
//! back.

use bytes::Bytes;
use proptest::prelude::*;

use super::layout as at;
use super::*;
use crate::error::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The codecs that are compiled in.
pub(super) fn enabled_codecs() -> Vec<Compression> {
    let mut codecs = vec![Compression::None];
    codecs.extend(cfg!(feature = "gzip").then_some(Compression::Gzip));
    codecs.extend(cfg!(feature = "snappy").then_some(Compression::Snappy));
    codecs.extend(cfg!(feature = "lz4").then_some(Compression::Lz4));
    codecs.extend(cfg!(feature = "zstd").then_some(Compression::Zstd));
    codecs
}

/// A data batch of a transaction: one record with a null key and 47 times 'a'.
const KAFKA_DATA: &str = "0000000000000037000000670000000002c91eb7d50010000000000000018bcfe568a80000018bcfe568a8000000\
    00000007d3000000000005000000016a000000015e616161616161616161616161616161616161616161616161616161616161616161616161\
    616161616161616161616100";
/// The marker that commits it.
const KAFKA_MARKER: &str = "000000000000003d00000042000000000268a984a70030000000000000018bcfe568bd0000018bcfe568bd000000\
    00000007d30000ffffffff000000012000000008000000010c00000000000500";
/// Two records, 80 times 'a' and 80 times 'b', by each codec.
const KAFKA_COMPRESSED: [(Compression, &str); 4] = [
    (
        Compression::Gzip,
        "00000000000000900000005b0000000002ee7e111e0001000000010000018bcfe568380000018bcfe5683800000000000003ea000000\
         00001f000000021f8b08000000000000ff5bc7c8c0c0c0b8803191ca80611dd06026a0c14954060c00afff3628b2000000",
    ),
    (
        Compression::Snappy,
        "0000000000000090000000690000000002fff51b4b0002000000010000018bcfe568380000018bcfe5683800000000000003ea000000\
         00001f0000000282534e4150505900000000010000000100000024b20120ae0100000001a00161fe01003a010000000159100201a001\
         62fe01003a01000000",
    ),
    (
        Compression::Lz4,
        "0000000000000090000000600000000002bf53595d0003000000010000018bcfe568380000018bcfe5683800000000000003ea000000\
         00001f0000000204224d18604082200000009fae0100000001a0016101003c100059005f0201a0016201003850626262620000000000",
    ),
    (
        Compression::Zstd,
        "00000000000000900000005a0000000002bb7c69e90004000000010000018bcfe568380000018bcfe5683800000000000003ea000000\
         00001f0000000228b52ffd0058ec0000a0ae0100000001a0016100ae0100000201a001620002000c50c4283802010000",
    ),
];

fn from_hex(hex: &str) -> Bytes {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn small_batch() -> Batch {
    BatchBuilder::new()
        .producer(ProducerId(7), ProducerEpoch(1), Sequence(5))
        .timestamp(Timestamp(1_000))
        .record(b"k0", b"v0")
        .push(RecordBuilder::new().key(b"k1").header("h", b"x").null_header("n").timestamp(Timestamp(900)))
        .record(b"k2", b"v2")
        .build()
        .unwrap()
}

/// A batch around `records` as they are, with the right length and CRC.
fn sealed(record_count: i32, last_offset_delta: i32, records: &[u8]) -> Bytes {
    let mut header = BatchHeader { record_count, last_offset_delta, ..*small_batch().header() };
    let mut bytes = [&[0; at::HEADER_SIZE], records].concat();
    header.seal(&mut bytes);
    bytes.into()
}

#[test]
fn a_batch_of_kafka_is_built_again_byte_for_byte() {
    let data = BatchBuilder::new()
        .base_offset(Offset(55))
        .leader_epoch(LeaderEpoch(0))
        .producer(ProducerId(2003), ProducerEpoch(0), Sequence(5))
        .transactional()
        .push(RecordBuilder::new().value([b'a'; 47]).timestamp(Timestamp(1_700_000_000_168)))
        .build()
        .unwrap();
    assert_eq!(data.bytes(), &from_hex(KAFKA_DATA));
    let marker = BatchBuilder::new()
        .base_offset(Offset(61))
        .leader_epoch(LeaderEpoch(0))
        .producer(ProducerId(2003), ProducerEpoch(0), Sequence::NONE)
        .timestamp(Timestamp(1_700_000_000_189))
        .control(ControlRecord::Commit { coordinator_epoch: 5 })
        .build()
        .unwrap();
    assert_eq!(marker.bytes(), &from_hex(KAFKA_MARKER));
}

#[test]
fn a_marker_of_kafka_is_read() {
    let marker = Batch::decode(from_hex(KAFKA_MARKER)).unwrap();
    assert_eq!(marker.control().unwrap(), Some(ControlRecord::Commit { coordinator_epoch: 5 }));
    assert_eq!(Batch::decode(from_hex(KAFKA_DATA)).unwrap().control().unwrap(), None);
}

#[test]
fn the_records_of_kafka_are_read_by_every_codec() {
    for (codec, hex) in KAFKA_COMPRESSED {
        if !enabled_codecs().contains(&codec) {
            assert!(matches!(Batch::decode(from_hex(hex)), Err(BatchError::CodecDisabled { .. })));
            continue;
        }
        let batch = Batch::decode(from_hex(hex)).unwrap();
        assert_eq!(batch.header().compression(), Ok(codec));
        let records: Vec<_> = batch.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 2);
        for (index, record) in records.iter().enumerate() {
            assert_eq!(record.offset(), Offset(144 + index as i64), "{codec}");
            assert_eq!(record.sequence(), Some(Sequence(31 + index as i32)), "{codec}");
            assert_eq!(record.timestamp(), Timestamp(1_700_000_000_056), "{codec}");
            assert_eq!(record.key(), None, "{codec}");
            assert_eq!(record.value().unwrap(), [b'a' + index as u8; 80][..], "{codec}");
            assert_eq!(record.headers().count(), 0, "{codec}");
        }
    }
}

#[test]
fn a_batch_cut_anywhere_is_too_short() {
    let bytes = small_batch().into_bytes();
    for length in 0..bytes.len() {
        let cut = bytes.slice(..length);
        assert!(matches!(Batch::decode(cut.clone()), Err(BatchError::TooShort { .. })), "cut to {length}");
        assert!(UncheckedBatch::decode(&cut).is_err(), "cut to {length}");
    }
}

#[test]
fn bytes_behind_the_batch_are_refused() {
    let bytes = [small_batch().bytes().as_ref(), b"x"].concat();
    let expected = bytes.len() - 1;
    let error = Batch::decode(bytes.into()).unwrap_err();
    assert_eq!(error, BatchError::TrailingBytes { expected, got: expected + 1 });
}

#[test]
fn each_field_under_the_crc_is_protected_by_it() {
    let bytes = small_batch().into_bytes();
    let fields = [
        ("crc", at::CRC + 3),
        ("attributes", at::ATTRIBUTES + 1),
        ("last offset delta", at::LAST_OFFSET_DELTA + 3),
        ("base timestamp", at::BASE_TIMESTAMP),
        ("maximum timestamp", at::MAX_TIMESTAMP + 7),
        ("producer id", at::PRODUCER_ID + 7),
        ("producer epoch", at::PRODUCER_EPOCH),
        ("base sequence", at::BASE_SEQUENCE + 3),
        ("record count", at::RECORD_COUNT + 3),
        ("the first record", at::HEADER_SIZE),
        ("the last byte", bytes.len() - 1),
    ];
    for (name, at) in fields {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1;
        let error = Batch::decode_with(&*damaged, RecordCheck::Header, 0).unwrap_err();
        assert!(matches!(error, BatchError::Crc { .. }), "{name}: {error}");
    }
}

#[test]
fn base_offset_and_leader_epoch_can_be_stamped_without_a_new_crc() {
    let mut bytes = small_batch().bytes().to_vec();
    bytes[at::BASE_OFFSET..][..8].copy_from_slice(&1234_i64.to_be_bytes());
    bytes[at::LEADER_EPOCH..][..4].copy_from_slice(&5_i32.to_be_bytes());
    let batch = Batch::decode(bytes.into()).unwrap();
    assert_eq!(batch.records().last().unwrap().unwrap().offset(), Offset(1236));
    assert_eq!(batch.header().leader_epoch, LeaderEpoch(5));
}

/// A record with offset delta 0, key "k", value "v" and the header "h" = "x".
const RECORD: [u8; 13] = [24, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 2, b'x'];

#[test]
fn a_malformed_record_is_refused_under_a_right_crc() {
    let changed = |at: usize, byte: u8| {
        let mut record = RECORD.to_vec();
        record[at] = byte;
        record
    };
    let second = |offset_delta: u8| [&RECORD[..], &[12, 0, 0, offset_delta, 1, 1, 0]].concat();
    let cases: [(&str, i32, i32, Vec<u8>); 21] = [
        ("fewer records than counted", 2, 1, RECORD.to_vec()),
        ("more records than counted", 1, 1, second(2)),
        ("a byte behind the last record", 1, 0, [&RECORD[..], &[0]].concat()),
        ("no record but bytes", 0, 0, RECORD.to_vec()),
        ("a count that cannot be", i32::MAX, 0, RECORD.to_vec()),
        ("a length beyond the batch", 1, 0, changed(0, 26)),
        ("a length that is too small", 1, 0, changed(0, 22)),
        ("a length of 0", 1, 0, changed(0, 0)),
        ("a negative length", 1, 0, changed(0, 1)),
        ("a timestamp that does not end", 1, 0, vec![4, 0, 0xff]),
        ("an offset above the last", 1, 0, changed(3, 2)),
        ("a negative offset", 1, 0, changed(3, 1)),
        ("an offset that repeats", 2, 1, second(0)),
        ("a key beyond the record", 1, 0, changed(4, 100)),
        ("a key length of -2", 1, 0, changed(4, 3)),
        ("a value beyond the record", 1, 0, changed(6, 126)),
        ("a negative number of headers", 1, 0, changed(8, 1)),
        ("too many headers", 1, 0, changed(8, 4)),
        ("too few headers", 1, 0, changed(8, 0)),
        ("a header with a null name", 1, 0, changed(9, 1)),
        ("a header value beyond the record", 1, 0, changed(11, 4)),
    ];
    assert!(Batch::decode(sealed(1, 0, &RECORD)).is_ok());
    assert!(Batch::decode(sealed(2, 1, &second(2))).is_ok());
    for (name, count, last_offset_delta, records) in cases {
        let bytes = sealed(count, last_offset_delta, &records);
        assert!(matches!(Batch::decode(bytes.clone()), Err(BatchError::Record { .. })), "{name}");
        let error = UncheckedBatch::decode(&bytes).unwrap().records().find_map(Result::err);
        assert!(matches!(error, Some(BatchError::Record { .. })), "{name}, iterated");
        assert!(Batch::decode_with(bytes, RecordCheck::Header, 0).is_ok(), "{name}, records not looked at");
    }
}

#[test]
fn an_error_names_the_record_and_its_place() {
    let records = [&RECORD[..], &[12, 0, 0, 0, 1, 1, 0]].concat();
    let error = Batch::decode(sealed(2, 1, &records)).unwrap_err();
    assert!(matches!(error, BatchError::Record { index: 1, position: 13, .. }), "{error}");
}

#[test]
fn records_end_behind_the_first_error() {
    let bytes = sealed(3, 2, &RECORD);
    let mut records = UncheckedBatch::decode(&bytes).unwrap().records();
    assert!(records.next().unwrap().is_ok());
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
    assert!(records.next().is_none());
}

#[test]
fn an_unknown_codec_is_refused_wherever_records_are_read() {
    for codec in 5..=7 {
        let mut header = BatchHeader { attributes: codec, ..*small_batch().header() };
        let mut bytes = small_batch().bytes().to_vec();
        header.seal(&mut bytes);
        let unknown = BatchError::UnknownCodec { got: codec as u8 };
        assert_eq!(Batch::decode(bytes.clone().into()).unwrap_err(), unknown);
        let batch = Batch::decode_with(Bytes::from(bytes), RecordCheck::Header, 0).unwrap();
        assert_eq!(batch.records().next().unwrap().unwrap_err(), unknown);
        assert_eq!(batch.check_client_rules(), Err(unknown));
    }
}

#[test]
fn a_batch_that_compaction_emptied_is_sound_whatever_its_codec() {
    for codec in 0..=4 {
        let mut header = BatchHeader { attributes: codec, record_count: 0, ..*small_batch().header() };
        let mut bytes = vec![0; at::HEADER_SIZE];
        header.seal(&mut bytes);
        let batch = Batch::decode(bytes.into()).unwrap();
        assert_eq!(batch.records().count(), 0);
        assert_eq!(batch.header().last_offset(), Offset(2));
    }
    let control = BatchBuilder::new().control(ControlRecord::Other { kind: 2 }).build().unwrap();
    let mut header = BatchHeader { record_count: 0, ..*control.header() };
    let mut bytes = vec![0; at::HEADER_SIZE];
    header.seal(&mut bytes);
    assert_eq!(Batch::decode(bytes.into()).unwrap().control(), Ok(None));
}

#[test]
fn compressed_records_beyond_the_bound_are_refused() {
    for codec in enabled_codecs().into_iter().skip(1) {
        let bytes =
            BatchBuilder::new().compression(codec).record(b"", [0; 5000]).build().unwrap().into_bytes();
        let refused = BatchError::DecompressedTooLarge { limit: 5000 };
        assert_eq!(
            Batch::decode_with(bytes.clone(), RecordCheck::Full, 5000).unwrap_err(),
            refused,
            "{codec}"
        );
        let unchecked = UncheckedBatch::decode(&bytes).unwrap();
        assert_eq!(unchecked.records_within(5000).next().unwrap().unwrap_err(), refused, "{codec}");
        assert!(Batch::decode_with(bytes, RecordCheck::Full, 5100).is_ok(), "{codec}");
    }
}

/// Records of arbitrary content: keys, values and headers may be null, empty or missing.
fn any_record() -> impl Strategy<Value = RecordBuilder> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    let headers = prop::collection::vec((bytes(), prop::option::of(bytes())), 0..3);
    let optional = || prop::option::of(bytes());
    (optional(), optional(), headers, any::<i64>()).prop_map(|(key, value, headers, timestamp)| {
        let record = RecordBuilder::new().timestamp(Timestamp(timestamp));
        let record = key.into_iter().fold(record, RecordBuilder::key);
        let record = value.into_iter().fold(record, RecordBuilder::value);
        headers.into_iter().fold(record, |record, (name, value)| match value {
            Some(value) => record.header(name, value),
            None => record.null_header(name),
        })
    })
}

fn any_batch() -> impl Strategy<Value = (Vec<RecordBuilder>, Batch)> {
    let codec = prop::sample::select(enabled_codecs());
    let sequence = prop_oneof![any::<i32>().prop_map(|number| number & i32::MAX), Just(i32::MAX - 1)];
    (prop::collection::vec(any_record(), 1..6), codec, sequence).prop_map(|(records, codec, sequence)| {
        let batch = BatchBuilder::new().producer(ProducerId(3), ProducerEpoch(0), Sequence(sequence));
        let batch = records.iter().cloned().fold(batch.compression(codec), BatchBuilder::push);
        (records, batch.build().unwrap())
    })
}

type Part = Option<Vec<u8>>;

/// Everything that a record says: its numbers, key, value and headers.
type Said = ((Offset, Timestamp, Option<Sequence>), Part, Part, Vec<(Vec<u8>, Part)>);

/// What records say, whatever holds them.
fn said<B: BatchBytes>(records: Records<B>) -> Vec<Result<Said, BatchError>> {
    let copy = |part: Option<B>| part.map(|part| part.to_vec());
    let all = |record: Record<B>| {
        let headers = record.headers().map(|(name, value)| (name.to_vec(), copy(value))).collect();
        let numbers = (record.offset(), record.timestamp(), record.sequence());
        (numbers, copy(record.key()), copy(record.value()), headers)
    };
    records.map(|record| record.map(all)).collect()
}

/// The records of a batch that is handed out, and of the same batch lent.
fn handed_out_and_lent(bytes: &Bytes, scratch: &mut Vec<u8>) -> [Vec<Result<Said, BatchError>>; 2] {
    let lent = Batches::lent(bytes).next().unwrap().unwrap();
    [said(UncheckedBatch::decode(bytes).unwrap().records()), said(lent.records_in(scratch))]
}

proptest! {
    #[test]
    fn what_was_built_is_read_back((written, batch) in any_batch()) {
        let [handed_out, lent] = handed_out_and_lent(batch.bytes(), &mut vec![7; 100]);
        prop_assert_eq!(handed_out, lent);
        let batch = Batch::decode(batch.into_bytes()).unwrap();
        let read: Vec<_> = batch.records().map(Result::unwrap).collect();
        prop_assert_eq!(read.len(), written.len());
        for (index, (record, written)) in read.iter().zip(&written).enumerate() {
            prop_assert_eq!(&RecordBuilder::from(record), written);
            prop_assert_eq!(record.offset(), Offset(index as i64));
            prop_assert_eq!(record.sequence(), Some(batch.header().base_sequence.plus(index as i32)));
        }
        prop_assert_eq!(batch.header().max_timestamp, read.iter().map(Record::timestamp).max().unwrap());
        prop_assert_eq!(batch.header().last_sequence(), read.last().unwrap().sequence().unwrap());
    }

    #[test]
    fn a_flipped_bit_is_found((_, batch) in any_batch(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = batch.bytes().to_vec();
        let at = at::MAGIC + at.index(bytes.len() - at::MAGIC);
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(Batch::decode_with(&*bytes, RecordCheck::Header, 0).is_err(), "bit {} of byte {}", bit, at);
    }

    #[test]
    fn no_records_panic_the_walk(
        count in 0..4,
        codec in 0..8_i16,
        records in prop::collection::vec(prop_oneof![0..24_u8, any::<u8>()], 0..60),
    ) {
        let mut bytes = sealed(count, 3, &records).to_vec();
        let attributes = codec | at::CONTROL;
        BatchHeader { attributes, ..BatchHeader::decode(&bytes).unwrap() }.seal(&mut bytes);
        let bytes = bytes.into();
        let [handed_out, lent] = handed_out_and_lent(&bytes, &mut Vec::new());
        prop_assert_eq!(handed_out, lent);
        let batch = UncheckedBatch::decode(&bytes).unwrap();
        let all_read = batch.records().all(|record| record.map(|record| record.headers().count()).is_ok());
        let _ = batch.control();
        prop_assert_eq!(all_read, batch.check(RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED).is_ok());
    }

    #[test]
    fn no_bytes_panic_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        for plausible in [false, true] {
            if plausible && bytes.len() > at::MAGIC {
                let length = bytes.len() as i32 - at::LENGTH_OVERHEAD as i32;
                bytes[at::LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
                bytes[at::MAGIC] = 2;
            }
            prop_assert_eq!(Batches::lent(&bytes).count(), Batches::new(bytes.clone().into()).count());
            for batch in Batches::new(bytes.clone().into()).flatten() {
                let _ = batch.control();
                prop_assert!(batch.records().count() <= 200);
            }
        }
    }
}
