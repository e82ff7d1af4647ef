//! Damage in snapshots, in the other files of a partition, and in those of the directory.

use idemlog::{IoMode, TopicId};

use crate::common::change;
use crate::{closed, errors, files, filled, look};

#[test]
fn every_flipped_bit_of_a_snapshot_is_found() {
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    for at in 0..std::fs::read(snapshot).unwrap().len() {
        change(snapshot, |bytes| bytes[at] ^= 1);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *snapshot), "byte {at}");
        change(snapshot, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn a_snapshot_that_disagrees_with_the_log_is_found() {
    const CRC: usize = 2;
    const LAST_SEQUENCE: usize = 10 + 10;
    let data = closed(IoMode::Mapped);
    let snapshot = &files(&data, ".snapshot")[1];
    change(snapshot, |bytes| {
        bytes[LAST_SEQUENCE + 3] ^= 1;
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    });
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path), (1, snapshot));
    assert!(found[0].kind.to_string().contains("by the log sequences"), "{}", found[0]);
}

#[test]
fn a_snapshot_beyond_the_log_is_found() {
    let data = closed(IoMode::Mapped);
    let beyond = data.path().join("orders-0/00000000000000099999.snapshot");
    std::fs::copy(files(&data, ".snapshot").last().unwrap(), &beyond).unwrap();
    let report = look(data.path());
    assert_eq!(errors(&report).iter().map(|problem| &problem.path).collect::<Vec<_>>(), [&beyond]);
}

#[test]
fn leader_epochs_that_disagree_with_the_batches_are_found() {
    let data = closed(IoMode::Mapped);
    std::fs::write(data.path().join("orders-0/leader-epoch-checkpoint"), "0\n2\n0 0\n3 5\n").unwrap();
    assert!(errors(&look(data.path()))[0].kind.to_string().contains("is of leader epoch 0, by"));
}

#[test]
fn leader_epochs_that_cannot_be_read_are_found() {
    let data = closed(IoMode::Mapped);
    let path = data.path().join("orders-0/leader-epoch-checkpoint");
    for text in ["0\n1\n5\n", "1\n0\n", "0\n2\n3 5\n2 9\n", "\u{feff}"] {
        std::fs::write(&path, text).unwrap();
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == path), "{text:?}: {report:?}");
    }
}

#[test]
fn a_topic_id_that_is_none_is_found() {
    let (data, dir) = filled(IoMode::Mapped);
    dir.partition_of(TopicId([7; 16]), "orders", 0).unwrap();
    dir.close().unwrap();
    assert_eq!(look(data.path()).problems, []);
    let path = data.path().join("orders-0/partition.metadata");
    for text in ["", "version: 0", "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA", "version: 0\ntopic_id: ?"]
    {
        std::fs::write(&path, text).unwrap();
        let report = look(data.path());
        assert_eq!(errors(&report).len(), 1, "{text:?}");
        assert_eq!(report.problems[0].path, path);
    }
}

/// Damage in one of the directory's files hid that in the others, and nobody looked at the high watermarks.
#[test]
fn each_file_of_the_directory_is_looked_at() {
    let data = closed(IoMode::Mapped);
    let names = [
        "idemlog-named-producers",
        "idemlog-producer-ids",
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
    ];
    names.iter().for_each(|name| std::fs::write(data.path().join(name), b"what is this").unwrap());
    let report = look(data.path());
    let wrong: Vec<_> = errors(&report).iter().map(|problem| problem.path.clone()).collect();
    assert_eq!(wrong, names.map(|name| data.path().join(name)));
}
