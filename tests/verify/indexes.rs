//! Damage in indexes by offset and by time.

use idemlog::IoMode;
use idemlog::verify::ProblemKind;

use crate::common::{change, open, plain};
use crate::{closed, errors, files, look};

/// An index entry with its bytes as two numbers.
fn entry(bytes: &[u8], at: usize) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(at), number(at + 4))
}

#[test]
fn a_flipped_bit_in_any_byte_of_an_index_is_found() {
    let data = closed(IoMode::Mapped);
    // The highest: a lower one of an offset may make it that of a later batch, as Kafka has it.
    for suffix in [".index", ".timeindex"] {
        let index = &files(&data, suffix)[0];
        let len = std::fs::read(index).unwrap().len();
        assert!(len > 0);
        for at in 0..len {
            change(index, |bytes| bytes[at] ^= 0x80);
            let report = look(data.path());
            assert!(errors(&report).iter().any(|problem| problem.path == *index), "{suffix} byte {at}");
            change(index, |bytes| bytes[at] ^= 0x80);
        }
    }
}

/// A look-up of just that timestamp begins at the batch of the entry.
#[test]
fn a_time_index_entry_that_names_a_later_batch_with_the_same_timestamp_is_found() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for _ in 0..20 {
        log.append(&plain(&"x".repeat(100))).unwrap();
    }
    dir.close().unwrap();
    let index = &files(&data, ".timeindex")[0];
    assert!(errors(&look(data.path())).is_empty());
    for later in [1, 5] {
        change(index, |bytes| bytes[11] = later);
        let report = look(data.path());
        assert!(errors(&report).iter().any(|problem| problem.path == *index), "{later}");
    }
}

#[test]
fn an_index_entry_into_the_middle_of_a_batch_is_found() {
    let data = closed(IoMode::Mapped);
    let index = &files(&data, ".index")[0];
    let (_, position) = entry(&std::fs::read(index).unwrap(), 0);
    change(index, |bytes| bytes[4..8].copy_from_slice(&(position + 1).to_be_bytes()));
    let report = look(data.path());
    let found = errors(&report);
    assert_eq!((found.len(), &found[0].path, found[0].position), (1, index, 0));
    assert!(matches!(found[0].kind, ProblemKind::IndexPosition { .. }), "{}", found[0]);
}

/// Kafka up to 4.0 has an index entry for each call that appended: of the last offset of its batches, at the first. Those that
/// a follower had fetched together were an error.
#[test]
fn index_entries_of_several_batches_as_kafka_makes_them_are_right() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for _ in 0..8 {
        log.append(&plain(&"x".repeat(100))).unwrap();
    }
    dir.close().unwrap();
    let index = &files(&data, ".index")[0];
    let size = files(&data, ".log")[0].metadata().unwrap().len() as u32 / 8;
    let with_entry = |entries: &[(u32, u32)]| {
        let number = |&(offset, batch): &(u32, u32)| [offset, batch * size].map(u32::to_be_bytes).concat();
        std::fs::write(index, entries.iter().flat_map(number).collect::<Vec<u8>>()).unwrap();
        errors(&look(data.path())).len()
    };
    assert_eq!(with_entry(&[(3, 2), (7, 4)]), 0);
    assert_eq!(with_entry(&[(4, 2), (7, 4)]), 1, "behind the next entry");
    assert_eq!(with_entry(&[(1, 2), (7, 4)]), 1, "before its batch");
    assert_eq!(with_entry(&[(3, 2), (8, 4)]), 1, "behind the last batch");
}
