//! Indexes of transactions.

use std::path::PathBuf;

use idemlog::verify::{Problem, ProblemKind};
use idemlog::{BatchBuilder, ControlRecord, IoMode, ProducerEpoch, ProducerId, Sequence, Timestamp};
use tempfile::TempDir;

use crate::common::{MODES, change, open};
use crate::{errors, files, look};

/// A closed log of several segments in which producers 1 and 2 abort and commit transactions that overlap.
fn transactional(mode: IoMode) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), mode);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..40 {
        let id = ProducerId(1 + at % 2);
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(at as i32 / 2));
        let batch = builder.transactional().record("k", "x".repeat(200)).timestamp(Timestamp(7)).build();
        log.append(&batch.unwrap()).unwrap();
        if at % 5 == 4 {
            let coordinator_epoch = 0;
            let marker = match at % 2 {
                0 => ControlRecord::Abort { coordinator_epoch },
                _ => ControlRecord::Commit { coordinator_epoch },
            };
            log.end_transaction(id, ProducerEpoch(0), marker).unwrap();
            let other = ProducerId(3 - id.0);
            log.end_transaction(other, ProducerEpoch(0), ControlRecord::Abort { coordinator_epoch }).unwrap();
        }
    }
    dir.close().unwrap();
    data
}

/// The transaction indexes that have entries.
fn filled_transaction_indexes(data: &TempDir) -> Vec<PathBuf> {
    let mut indexes = files(data, ".txnindex");
    indexes.retain(|path| path.metadata().unwrap().len() > 0);
    assert!(indexes.len() > 1);
    indexes
}

#[test]
fn a_log_with_transactions_is_sound() {
    for mode in MODES {
        let data = transactional(mode);
        assert_eq!(look(data.path()).problems, [], "{mode:?}");
    }
}

#[test]
fn every_flipped_bit_of_a_transaction_index_is_found() {
    let data = transactional(IoMode::Mapped);
    let index = &filled_transaction_indexes(&data)[1];
    for at in 0..std::fs::read(index).unwrap().len() {
        change(index, |bytes| bytes[at] ^= 1);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *index), "byte {at}");
        change(index, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn a_missing_transaction_index_is_fine_and_one_that_lacks_an_entry_is_not() {
    const ENTRY: usize = 34;
    let data = transactional(IoMode::Mapped);
    let index = &filled_transaction_indexes(&data)[0];
    change(index, |bytes| bytes.truncate(bytes.len() - ENTRY));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, index));
    assert_eq!(found[0].kind, ProblemKind::MissingTransactions { count: 1 });

    std::fs::remove_file(index).unwrap();
    assert_eq!(look(data.path()).problems, []);
}

#[test]
fn an_aborted_transaction_of_another_segment_is_found() {
    let data = transactional(IoMode::Mapped);
    let [first, second, ..] = &filled_transaction_indexes(&data)[..] else { panic!() };
    let foreign = std::fs::read(second).unwrap();
    change(first, |bytes| bytes.extend_from_slice(&foreign[..34]));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, first));
    assert!(matches!(found[0].kind, ProblemKind::NoAbortedTransaction { .. }), "{}", found[0]);
}

/// Without the beginning of the log it is not known who aborted what, but where the markers are.
#[test]
fn transaction_indexes_are_checked_also_behind_a_deleted_beginning() {
    let data = transactional(IoMode::Mapped);
    for suffix in [".log", ".snapshot"] {
        std::fs::remove_file(&files(&data, suffix)[0]).unwrap();
    }
    let first = files(&data, ".log")[0].file_stem().unwrap().to_string_lossy().parse::<i64>().unwrap();
    std::fs::write(data.path().join("log-start-offset-checkpoint"), format!("0\n1\norders 0 {first}\n"))
        .unwrap();
    assert_eq!(errors(&look(data.path())), Vec::<&Problem>::new());
    let last = filled_transaction_indexes(&data).pop().unwrap();
    change(&last, |bytes| bytes[9] ^= 3);
    assert!(errors(&look(data.path())).iter().any(|problem| problem.path == last));
}
