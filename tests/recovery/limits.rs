//! Appends that no segment, or no log, has the offsets for.

use idemlog::{Batch, BatchError, Error, LogDir, Offset, RecordCheck};

use crate::common::{MODES, batch, open, options, small};

/// Three batches of 2^30 records went into one segment, which has no offsets for so many: the next opening took the last
/// of them for an unfinished end and cut it.
#[test]
fn a_call_with_more_records_than_a_segment_has_offsets_is_refused() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let headers = options(mode).log(small(mode).record_check(RecordCheck::Header));
        let dir = LogDir::open(data.path(), headers.clone()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let batches: Vec<_> = (1..4).map(|id| claiming(&batch(id, 0, 0, 1), 1 << 30)).collect();
        let refused = log.append_all(&batches);
        assert!(matches!(refused, Err(Error::InvalidBatch(BatchError::ClientRule { .. }))), "{refused:?}");
        assert_eq!(log.log_end_offset(), Offset(0));
        log.append_all(&batches[..2]).unwrap();
        log.append(&batches[2]).unwrap();
        drop((dir, log));

        let log = LogDir::open(data.path(), headers).unwrap().partition("t", 0).unwrap();
        assert_eq!((log.log_end_offset(), &log.recovery().cut), (Offset(3 << 30), &None), "{mode:?}");
    }
}

/// The batch with another record count in its header, which is all that a log with `RecordCheck::Header` looks at.
fn claiming(batch: &Batch, records: i32) -> Batch {
    const CRC: usize = 17;
    const ATTRIBUTES: usize = 21;
    const LAST_OFFSET_DELTA: usize = 23;
    const RECORD_COUNT: usize = 57;
    let mut bytes = batch.bytes().to_vec();
    bytes[LAST_OFFSET_DELTA..][..4].copy_from_slice(&(records - 1).to_be_bytes());
    bytes[RECORD_COUNT..][..4].copy_from_slice(&records.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[ATTRIBUTES..]);
    bytes[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
    Batch::decode_with(bytes.into(), RecordCheck::Header, 0).unwrap()
}

/// A log that begins at the last offset there is took a batch, stored it, and had it nowhere.
#[test]
fn a_log_without_offsets_left_takes_nothing() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        open(data.path(), mode).partition("t", 0).unwrap();
        for room in 0..2 {
            let log_start = i64::MAX - room;
            let checkpoint = format!("0\n1\nt 0 {log_start}\n");
            std::fs::write(data.path().join("log-start-offset-checkpoint"), checkpoint).unwrap();
            let log = open(data.path(), mode).partition("t", 0).unwrap();
            assert_eq!(log.log_end_offset(), Offset(log_start));
            assert!(matches!(log.append(&batch(1, 0, 0, 2)), Err(Error::OffsetsExhausted)), "{mode:?}");
            assert_eq!(log.log_end_offset(), Offset(log_start));
            assert_eq!(log.append(&batch(1, 0, 0, 1)).is_ok(), room > 0);
        }
    }
}
