//! Readers, and slices, of what is deleted.

use idemlog::{Error, Offset, Reader, Result};

use crate::common::{MODES, batch, stored};
use crate::{Fixture, fill};

#[test]
fn slices_outlive_their_segment_and_readers_are_told() {
    for mode in MODES {
        let fixture = Fixture::new(mode);
        let (_dir, log) = fixture.open().unwrap();
        let all = fill(&log);
        let mut reader = log.reader(Offset(0)).unwrap();
        let first = reader.next().unwrap().unwrap();
        let fetched = log.read(Offset(3), 1 << 20).unwrap();
        let (copy, bytes) = (first.bytes().to_vec(), fetched.bytes.to_vec());
        log.delete_records(Offset(100)).unwrap();
        assert!(log.apply_retention().unwrap() > 0);
        assert_eq!((first.bytes().to_vec(), fetched.bytes.to_vec()), (copy, bytes));
        assert!(matches!(reader.next(), Some(Err(Error::OffsetOutOfRange { got: Offset(1), .. }))));
        assert!(matches!(log.read(Offset(3), 1), Err(Error::OffsetOutOfRange { .. })));
        assert_eq!(stored(&log), all[100..]);
        assert_eq!(log.offset_for_timestamp(idemlog::Timestamp(0)).unwrap().unwrap().offset, Offset(100));
    }
}

/// Deleting records moves the log start offset and touches no segment, so a reader in the middle of one went on with what was
/// deleted until the segment ended, while everybody else was refused.
#[test]
fn a_reader_in_the_middle_of_a_segment_hands_out_nothing_that_is_deleted() {
    type Walk = fn(&mut Reader) -> Option<Result<Offset>>;
    let iterates: Walk = |reader| Some(reader.next()?.map(|batch| batch.header().base_offset));
    let borrows: Walk = |reader| Some(reader.lend_next()?.map(|batch| batch.header().base_offset));
    for mode in MODES {
        let (_dir, log) = Fixture::new(mode).with(|options| options.segment_bytes(1 << 20)).open().unwrap();
        for number in 0..10 {
            log.append(&batch(1, 0, number, 1)).unwrap();
        }
        let reader = log.reader(Offset(0)).unwrap();
        let kinds = [reader.clone(), reader.clone().committed(), reader.to_log_end()];
        let mut walks: Vec<_> =
            kinds.into_iter().flat_map(|kind| [(kind.clone(), iterates), (kind, borrows)]).collect();
        for (reader, next) in &mut walks {
            assert_eq!(next(reader).unwrap().unwrap(), Offset(0));
        }
        log.delete_records(Offset(1)).unwrap();
        for (reader, next) in &mut walks {
            assert_eq!(next(reader).unwrap().unwrap(), Offset(1), "it had come far enough");
        }
        log.delete_records(Offset(5)).unwrap();
        for (reader, next) in &mut walks {
            for _ in 0..2 {
                let refused = next(reader).unwrap().unwrap_err();
                let told =
                    matches!(refused, Error::OffsetOutOfRange { got: Offset(2), start: Offset(5), .. });
                assert!(told, "{refused}");
            }
            reader.seek(Offset(5)).unwrap();
            assert_eq!(next(reader).unwrap().unwrap(), Offset(5));
        }
    }
}
