//! Paths: which a command can read, and what it says of the others.

use idemlog::IoMode;
use idemlog::verify::{VerifyOptions, verify};

use crate::common::open;
use crate::{closed, idemlog, text};

#[test]
fn a_path_that_a_command_cannot_read_is_told_with_the_one_that_it_can() {
    let (data, log) = closed();
    let empty = tempfile::tempdir().unwrap();
    let (data, log, empty) =
        (data.path().to_str().unwrap(), log.to_str().unwrap(), empty.path().to_str().unwrap());
    let partition = format!("such as {data}/orders-0");
    let cases = [
        ("verify", "/nowhere/at/all", "/nowhere/at/all: No such file"),
        ("verify", empty, "neither a log directory nor a partition"),
        ("verify", log, "name the directory that it lies in"),
        ("repair", data, &partition),
        ("producers", data, &partition),
        ("dump", data, &partition),
        ("dump", "/nowhere/at/all.log", "/nowhere/at/all.log: No such file"),
        ("dump", "/nowhere/at/all", "/nowhere/at/all: No such file"),
        (
            "dump",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "neither a segment, an index nor a snapshot",
        ),
    ];
    for (command, path, expected) in cases {
        let output = idemlog(&[command, path]);
        assert_eq!(output.status.code(), Some(2), "{command} {path}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(expected), "{command} {path}: {told}");
    }
}

/// The tool took `orders-01` for a partition, which no opening does, and sent whoever named a log directory there.
#[test]
fn a_log_directory_is_told_with_a_partition_that_an_opening_would_find() {
    let data = tempfile::tempdir().unwrap();
    open(data.path(), IoMode::Mapped).partition("orders", 1).unwrap();
    std::fs::create_dir(data.path().join("orders-01")).unwrap();
    let output = idemlog(&["producers", data.path().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    let expected = format!("name one of its 1 partitions, such as {}/orders-1\n", data.path().display());
    assert!(told.contains(&expected), "{told}");
}

/// `verify /etc` said that all was sound: `/etc/dbus-1` is called like a partition, and an empty one has no batches.
#[test]
fn a_directory_that_is_only_called_like_a_partition_is_none() {
    let place = tempfile::tempdir().unwrap();
    let named = place.path().join("dbus-1");
    std::fs::create_dir(&named).unwrap();
    std::fs::write(named.join("session.log"), b"not a segment").unwrap();
    for path in [place.path(), &named] {
        let output = idemlog(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("neither a log directory nor a partition"), "{told}");
        let report = verify(path, &VerifyOptions::default()).unwrap();
        assert!(report.has_errors(), "{report:?}");
    }
    // A partition without an append is one.
    let dir = open(place.path(), IoMode::Mapped);
    let empty = dir.partition("orders", 0).unwrap().directory().to_owned();
    drop(dir);
    for path in [place.path(), &empty] {
        let output = idemlog(&["verify", path.to_str().unwrap()]);
        assert!(text(&output).starts_with("sound: 0 batches"), "{output:?}");
    }
}
