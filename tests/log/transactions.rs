//! Transactions, and reads of what is committed.

use idemlog::{BatchBuilder, ControlRecord, Error, Log, LogDir, Offset, ProducerEpoch, ProducerId, Sequence};

use crate::common::{MODES, open, plain};

/// A new producer begins a transaction with a batch of so many records.
fn begin_transaction(dir: &LogDir, log: &Log, records: u8) -> (ProducerId, ProducerEpoch) {
    let (id, epoch) = (dir.new_producer_id().unwrap(), ProducerEpoch(0));
    let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional();
    let batch = (0..records).fold(batch, |batch, at| batch.record([at], "value"));
    log.append(&batch.build().unwrap()).unwrap();
    (id, epoch)
}

/// A reader that began inside of an aborted batch showed it: what was aborted was asked for only from its own beginning on.
/// Then one whose batch began below the log start offset got an error.
#[test]
fn a_reader_of_committed_records_that_begins_inside_an_aborted_batch_leaves_it_out() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 3);
        log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 }).unwrap();
        for from in 0..4 {
            assert_eq!(log.reader(Offset(from)).unwrap().committed().count(), 0, "{mode:?}, from {from}");
        }
        log.delete_records(Offset(1)).unwrap();
        assert_eq!(
            log.reader(Offset(1)).unwrap().committed().count(),
            0,
            "{mode:?}, which begins below the log"
        );
    }
}

/// What was read was looked at again until all below it was decided. From behind the last stable offset that never came.
#[test]
fn a_committed_read_behind_the_last_stable_offset_finds_nothing() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 1);
        log.append(&plain("decided")).unwrap();
        for from in 0..=2 {
            assert!(log.read_committed(Offset(from), 1 << 20).unwrap().bytes.is_empty(), "from {from}");
        }
        log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 }).unwrap();
        assert_eq!(log.read_committed(Offset(0), 1 << 20).unwrap().batches().count(), 3);
    }
}

/// A record that ends nothing was stored in place of a marker, with a good answer, and the transaction stayed open.
#[test]
fn a_transaction_is_ended_by_nothing_but_a_marker() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let (id, epoch) = begin_transaction(&dir, &log, 1);
        for kind in [-1, 0, 1, 2, 6] {
            let refused = log.end_transaction(id, epoch, ControlRecord::Other { kind });
            assert!(matches!(refused, Err(Error::InvalidBatch(_))), "{mode:?}, {kind}: {refused:?}");
        }
        assert_eq!((log.log_end_offset(), log.first_undecided_offset()), (Offset(1), Some(Offset(0))));
        log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 }).unwrap();
        assert_eq!((log.log_end_offset(), log.first_undecided_offset()), (Offset(2), None));
    }
}
