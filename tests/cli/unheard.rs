//! Output that nobody reads.

use std::process::{Command, Stdio};

use crate::common::change;
use crate::{closed, damaged, idemlog, told};

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let mut child = Command::new(env!("CARGO_BIN_EXE_idemlog"))
        .args(["dump", "--records", partition.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// `verify data | grep -q CRC` under `pipefail` told of success on damage: that its reader had gone was the end of each command, and
/// no failure, whatever it had found or was about to.
#[test]
fn a_verdict_does_not_depend_on_who_listens() {
    let (data, _) = damaged("00000000000000000160.log", |bytes| bytes.truncate(100));
    let partition = data.path().join("orders-0");
    let path = partition.to_str().unwrap();
    for arguments in [["verify", path], ["inspect", path], ["repair", path]] {
        let listened = idemlog(&arguments).status.code();
        let (alone, told) = unheard(&arguments);
        assert_eq!((alone, listened), (Some(1), Some(1)), "{arguments:?}");
        assert!(!told.contains("pipe"), "{arguments:?}: {told}");
    }
    assert_eq!(unheard(&["producers", path]), (Some(0), String::new()));
}

/// The status of a command whose output nobody reads, and what it said beside it.
fn unheard(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_idemlog"));
    let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), told(&output))
}

/// With both of its outputs in one pipe, `verify 2>&1 | grep -q`, the tool panicked over a hint that nobody read.
#[test]
fn a_hint_that_nobody_reads_does_not_change_the_verdict() {
    let (data, log) = closed();
    change(&log, |bytes| bytes[100] ^= 1);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_idemlog"));
    let both = command.arg("verify").arg(data.path()).stdout(writer.try_clone().unwrap()).stderr(writer);
    assert_eq!(both.status().unwrap().code(), Some(1));
}
