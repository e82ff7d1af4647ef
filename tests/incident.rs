//! What the tool answers somebody whose broker has just died: what is there, what an opening would come to, and how long it takes.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{batch, change, open};
use idemlog::IoMode;
use tempfile::TempDir;

fn idemlog(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_idemlog")).args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it said beside its output.
fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn segment(directory: &Path, base: i64) -> PathBuf {
    directory.join(format!("{base:020}.log"))
}

/// A closed log of five segments, of four batches of ten records each, and its directory.
fn closed() -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..20 {
        log.append(&batch(7, 0, at * 10, 10)).unwrap();
    }
    dir.close().unwrap();
    let partition = log.directory().to_owned();
    (data, partition)
}

fn repair(partition: &Path) {
    let done = idemlog(&["repair", "--yes", partition.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// What a repair had cut out could be looked at with a hex editor only: `dump` read `.log` and the names of indexes alone.
#[test]
fn what_was_kept_aside_is_dumped_as_what_it_was() {
    let (_data, partition) = closed();
    change(&segment(&partition, 40), |bytes| bytes[1500] ^= 1);
    change(&partition.join(format!("{:020}.index", 0)), |bytes| bytes[3] ^= 1);
    let index = std::fs::read(partition.join(format!("{:020}.index", 0))).unwrap();
    repair(&partition);

    let kept = |name: &str| idemlog(&["dump", partition.join(name).to_str().unwrap()]);
    // Moved aside as a whole.
    let whole = kept("00000000000000000080.0.corrupt");
    assert_eq!((whole.status.code(), text(&whole).lines().count()), (Some(0), 1 + 4), "{whole:?}");
    assert!(text(&whole).contains("offsets 80-89 leader epoch"), "{whole:?}");
    // From the damaged batch on.
    let rest = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().file_name());
    let rest = rest.map(|name| name.into_string().unwrap());
    let rest = rest.filter(|name| name.starts_with("00000000000000000040.") && name.ends_with(".corrupt"));
    let rest = kept(&rest.last().unwrap());
    assert_eq!(rest.status.code(), Some(2), "{rest:?}");
    let lines = text(&rest);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines.len() == 1 + 3 && lines[1].contains("DAMAGED: the header's CRC-32C"), "{rest:?}");
    assert!(lines[3].contains("offsets 70-79 ") && !lines[3].contains("DAMAGED"), "{rest:?}");
    assert!(told(&rest).contains(".corrupt at byte 0: ") && !told(&rest).contains("verify"), "{rest:?}");

    let set_aside = kept("00000000000000000000.index.1.corrupt");
    assert_eq!(set_aside.status.code(), Some(0), "{set_aside:?}");
    assert_eq!(text(&set_aside).lines().count(), 1 + index.len() / 8, "{set_aside:?}");
}

#[test]
fn a_prepared_segment_is_dumped_as_a_segment() {
    let (_data, partition) = closed();
    let prepared = partition.join("segment.prepared");
    std::fs::copy(segment(&partition, 160), &prepared).unwrap();
    let output = idemlog(&["dump", prepared.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output).lines().count()), (Some(0), 1 + 4), "{output:?}");
}

/// A dump ended at the first damage, and took a batch whose CRC did not match for sound.
#[test]
fn a_dump_goes_on_behind_damage_and_says_what_is_damaged() {
    let (_data, partition) = closed();
    let log = segment(&partition, 0);
    let dump = || idemlog(&["dump", log.to_str().unwrap()]);
    let size_at = |at: usize| {
        let bytes = std::fs::read(&log).unwrap();
        12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize
    };
    let second = size_at(0);
    let third = second + size_at(second);
    change(&log, |bytes| bytes[second + 16] = 9);
    let output = dump();
    let expected = format!("{second:>10} {} bytes that are no batch: ", third - second);
    assert!(text(&output).lines().nth(2).unwrap().starts_with(&expected), "{output:?}");
    assert_eq!((output.status.code(), text(&output).lines().count()), (Some(2), 1 + 4), "{output:?}");
    assert!(told(&output).contains(&format!("{} at byte {second}: ", log.display())), "{output:?}");

    // A length that ends in the middle of the batch.
    change(&log, |bytes| bytes[second + 16] = 2);
    change(&log, |bytes| bytes[third + 10] = 1);
    let output = dump();
    let lines = text(&output);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[3].starts_with(&format!("{third:>10} offsets 20-29 ")), "{output:?}");
    assert!(lines[3].contains(" DAMAGED: ") && lines.len() == 1 + 4, "{output:?}");
    assert!(lines[4].contains("offsets 30-39 ") && !lines[4].contains("DAMAGED"), "{output:?}");
}
