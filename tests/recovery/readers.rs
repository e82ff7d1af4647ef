//! What readers are told of damage, and that they are told of nothing else.

use idemlog::{AppendOptions, BatchBuilder, Error, LeaderEpoch, Offset, Origin};

use crate::common::{MODES, batch, change, open};
use crate::{file, fill};

/// One byte of a base offset, which no checksum covers, was changed on the disk: readers took the batch for one above the
/// high watermark and ended in front of it, without an error and for good.
#[test]
fn a_batch_that_says_it_lies_elsewhere_is_told_to_readers() {
    for (mode, byte) in MODES.into_iter().flat_map(|mode| [(mode, 0), (mode, 6), (mode, 7)]) {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[5]);
        let path = file(data.path(), 0, "log");
        let size = std::fs::metadata(&path).unwrap().len() as usize / 5;
        change(&path, |bytes| bytes[2 * size + byte] += 1);

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        let is_told = |error: Error| {
            let Error::Corrupt(corruption) = error else { panic!("{error}") };
            let first = if byte == 7 { 3 } else { 2 };
            corruption.path == path && corruption.position == (first * size) as u64
        };
        assert!(is_told(log.read(Offset(2), 1 << 20).unwrap_err()), "{mode:?}, {byte}");
        let read = log.reader(Offset(0)).unwrap().find_map(Result::err);
        assert!(read.is_some_and(is_told), "{mode:?}, {byte}");
    }
}

/// A batch that said it had fifty more records than it has reached over the high watermark: readers took that for a limit
/// inside of a batch, and ended in front of it for good.
#[test]
fn a_batch_that_says_it_is_longer_than_the_log_is_told_to_readers() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        fill(data.path(), mode, 9, &[5]);
        let path = file(data.path(), 0, "log");
        let size = std::fs::metadata(&path).unwrap().len() as usize / 5;
        change(&path, |bytes| bytes[2 * size + 26] = 55); // the last byte of the last offset delta

        let log = open(data.path(), mode).partition("t", 0).unwrap();
        let is_told = |error: Error| matches!(error, Error::Corrupt(found) if found.path == path);
        assert!(log.reader(Offset(0)).unwrap().any(|batch| batch.is_err_and(is_told)), "{mode:?}");
        assert!(log.read(Offset(2), 100).is_err_and(is_told), "{mode:?}");
    }
}

/// Readers that look for misplaced batches must not take for one what a truncation, a follower's gap or a high watermark
/// inside of a batch leaves.
#[test]
fn a_reader_ends_at_a_hole_without_an_error() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let ends = |from: i64, batches: usize| {
            let read = log.reader(Offset(from)).unwrap().map(Result::unwrap).count();
            let fetched = log.read(Offset(from), 1 << 20).unwrap().batches().count();
            assert_eq!((read, fetched), (batches, batches), "{mode:?}, from {from}");
        };
        log.append(&batch(1, 0, 0, 5)).unwrap();
        log.append(&batch(1, 0, 5, 5)).unwrap();
        log.set_high_watermark(Offset(8));
        ends(0, 1);
        ends(5, 0);
        log.truncate_to(Offset(7)).unwrap();
        ends(0, 1);
        ends(5, 0);
        log.roll().unwrap();
        let copied =
            BatchBuilder::new().base_offset(Offset(50)).leader_epoch(LeaderEpoch(0)).record("k", "v");
        let copied = copied.build().unwrap();
        let replicated = AppendOptions::default().origin(Origin::Replication);
        log.submit(&[copied], replicated).unwrap().wait().unwrap();
        for (high_watermark, batches) in [(7, 0), (20, 0), (50, 0), (51, 1)] {
            log.set_high_watermark(Offset(high_watermark));
            ends(6, batches);
        }
    }
}
