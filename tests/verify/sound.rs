//! Nothing is found wrong with what is sound, and nothing is changed.

use idemlog::verify::{VerifyOptions, verify, verify_with_progress};
use idemlog::{AppendOptions, BatchBuilder, Error, IoMode, Offset, Origin};

use crate::common::{MODES, batch, open, plain};
use crate::{closed, files, filled, look};

#[test]
fn a_closed_log_is_sound() {
    for mode in MODES {
        let data = closed(mode);
        let report = look(data.path());
        assert_eq!(report.problems, [], "{mode:?}");
        assert_eq!(report.batches, 120);
        let bytes: u64 = files(&data, ".log").iter().map(|path| path.metadata().unwrap().len()).sum();
        assert_eq!(report.bytes, bytes);
        assert_eq!(look(&data.path().join("orders-0")).problems, []);
        assert!(files(&data, ".log").len() > 2 && files(&data, ".snapshot").len() > 2);
        assert!(files(&data, ".index").iter().any(|path| path.metadata().unwrap().len() > 0));
    }
}

#[test]
fn looking_changes_nothing() {
    let (data, dir) = filled(IoMode::Mapped);
    drop(dir);
    let state = || files(&data, "").iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    let before = state();
    look(data.path());
    assert_eq!(state(), before);
}

#[test]
fn a_batch_with_fewer_records_than_offsets_is_fine() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    let compacted = BatchBuilder::new().base_offset(Offset(0)).record("k", "v").compacted(9).build().unwrap();
    log.submit(&[compacted], AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
    log.append(&plain("next")).unwrap();
    assert_eq!(log.log_end_offset(), Offset(11));
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
}

#[test]
fn progress_is_told_behind_every_batch() {
    let data = closed(IoMode::Mapped);
    let mut told = Vec::new();
    let report =
        verify_with_progress(data.path(), &VerifyOptions::default(), |bytes| told.push(bytes)).unwrap();
    assert_eq!(told.len() as u64, report.batches);
    assert!(told.is_sorted());
    assert_eq!(told.last(), Some(&report.bytes));
}

/// A replica that had taken over its leader's producers, and no batch yet, was said to have a snapshot of producers that
/// never wrote to it.
#[test]
fn producers_that_were_imported_are_no_finding() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (leader, follower) = (open(from.path(), IoMode::Mapped), open(to.path(), IoMode::Mapped));
    let log = leader.partition("orders", 0).unwrap();
    log.append(&batch(7, 0, 0, 2)).unwrap();
    let states = log.export_producers();
    let replica = follower.partition("orders", 0).unwrap();
    replica.truncate_fully(states.offset).unwrap();
    replica.import_producers(&states).unwrap();
    follower.close().unwrap();
    let report = verify(to.path(), &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors(), "{report:?}");
}

#[test]
fn a_log_whose_head_was_deleted_is_sound() {
    let (data, dir) = filled(IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.delete_records(Offset(150)).unwrap();
    assert!(dir.apply_retention().unwrap() > 0);
    assert!(files(&data, ".log")[0] != log.directory().join("00000000000000000000.log"));
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
}

/// Producers were imported also behind records that were deleted and still lie in a segment: the batches there told of other
/// producers than the snapshot, which `verify` then called wrong.
#[test]
fn producers_are_imported_only_where_there_is_no_segment() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (leader, follower) = (open(from.path(), IoMode::Mapped), open(to.path(), IoMode::Mapped));
    let log = leader.partition("orders", 0).unwrap();
    let replica = follower.partition("orders", 0).unwrap();
    for at in 0..5 {
        log.append(&batch(7, 0, at, 1)).unwrap();
        replica.append(&plain("x")).unwrap();
    }
    replica.delete_records(Offset(5)).unwrap();
    let states = log.export_producers();
    let refused = replica.import_producers(&states).unwrap_err();
    assert!(matches!(&refused, Error::NotEmpty { path } if path == replica.directory()), "{refused}");
    assert_eq!(replica.producers(), []);
    replica.truncate_fully(Offset(5)).unwrap();
    replica.import_producers(&states).unwrap();
    follower.close().unwrap();
    assert!(!look(to.path()).has_errors());
}
