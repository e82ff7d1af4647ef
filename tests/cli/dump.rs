//! `dump`.

use std::process::Command;

use crate::common::change;
use crate::{closed, damaged, idemlog, text, told};

#[test]
fn producers_and_dump_print_a_line_each() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let producers = text(&idemlog(&["producers", partition.to_str().unwrap()]));
    assert!(producers.starts_with("producer 7 epoch 0 last sequence 9 offset 9 "), "{producers}");
    let records = text(&idemlog(&["dump", partition.to_str().unwrap(), "--records"]));
    assert_eq!(records.lines().filter(|line| !line.ends_with(".log")).count(), 5 + 10, "{records}");
    let snapshot = partition.join("00000000000000000010.snapshot");
    let snapshot = text(&idemlog(&["dump", snapshot.to_str().unwrap()]));
    assert!(snapshot.contains("producer 7 epoch 0 last sequence 9 last offset 9"), "{snapshot}");
}

#[test]
fn a_dump_ends_at_damage_and_says_where() {
    let (data, log) = closed();
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let output = idemlog(&["dump", data.path().join("orders-0").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output).lines().count(), 1 + 4, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(".log at byte "), "{output:?}");
}

/// `dump` printed what was there of a file that was cut off, as if it were all, and exited with 0.
#[test]
fn a_dump_of_a_file_that_was_cut_off_or_changed_says_so() {
    let cases = [
        ("00000000000000000000.index", "7 bytes where an entry has 8", 1),
        ("00000000000000000000.timeindex", "11 bytes where an entry has 12", 1),
        ("00000000000000000040.snapshot", "the checksum is ", 0),
    ];
    for (name, expected, fewer) in cases {
        let (data, file) = damaged(name, |_| {});
        let whole = idemlog(&["dump", file.to_str().unwrap()]);
        assert_eq!((whole.status.code(), told(&whole)), (Some(0), String::new()));
        change(&file, |bytes| bytes.truncate(bytes.len() - 1));
        let cut = idemlog(&["dump", file.to_str().unwrap()]);
        assert_eq!(cut.status.code(), Some(2), "{cut:?}");
        assert!(told(&cut).contains(expected), "{cut:?}");
        assert_eq!(text(&cut).lines().count(), text(&whole).lines().count() - fewer, "{cut:?}");
        drop(data);
    }
    let (_data, file) = damaged("00000000000000000040.snapshot", |bytes| bytes.truncate(40));
    let cut = idemlog(&["dump", file.to_str().unwrap()]);
    assert!(told(&cut).contains("40 bytes where a snapshot of 1 producers has 56 or more"), "{cut:?}");
    let (_data, file) = damaged("00000000000000000040.txnindex", |_| {});
    std::fs::write(&file, [0; 35]).unwrap();
    let cut = idemlog(&["dump", file.to_str().unwrap()]);
    assert!(told(&cut).contains("at byte 34: 1 bytes where an entry has 34"), "{cut:?}");
    assert_eq!(text(&cut).lines().count(), 2);
}

/// `dump` waited for ever for somebody to write into a pipe, and read a device, or a file that was nothing but long, until there was
/// no memory left.
#[test]
#[cfg(unix)]
fn a_dump_of_what_is_no_file_of_a_log_ends_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let path = |name: &str| data.path().join(name);
    assert!(Command::new("mkfifo").arg(path("pipe.log")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/zero", path("device.index")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("device.snapshot")).unwrap();
    std::fs::create_dir(path("directory.log")).unwrap();
    std::fs::File::create(path("long.log")).unwrap().set_len(1 << 40).unwrap();
    let cases = [
        ("pipe.log", "pipe.log is no regular file"),
        ("device.index", "device.index is no regular file"),
        ("device.snapshot", "device.snapshot is no regular file"),
        ("directory.log", "directory.log"),
        ("long.log", "long.log has 1099511627776 bytes; a file of its kind has 2147483647 at the most"),
    ];
    for (name, said) in cases {
        // Who waits for a pipe is ended by nobody else.
        let output = Command::new("timeout")
            .args(["20", env!("CARGO_BIN_EXE_idemlog"), "dump", path(name).to_str().unwrap()])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(told(&output).contains(said), "{name}: {}", told(&output));
    }
}
