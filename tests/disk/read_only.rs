//! A file system that can only be read: opening is a clear error; `verify`, `inspect` and opening for reading work.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use idemlog::inspect::{InspectOptions, inspect};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Error, LogDir, LogDirOptions, Offset};

use crate::alone::with_mounts;
use crate::common::plain;
use crate::history::History;
use crate::volume::{Kind, Volume};

/// A directory that was not closed well was opened there, all its partitions failed, and only asking for one of them told.
#[test]
fn a_read_only_disk_is_an_error_and_can_be_read() {
    with_mounts("read_only::a_read_only_disk_is_an_error_and_can_be_read", || {
        for volume in Kind::ALL.into_iter().filter_map(Volume::mount) {
            for close in [true, false] {
                read(&volume, &volume.path().join(format!("closed-{close}")), close);
            }
        }
    });
}

fn read(volume: &Volume, data: &Path, close: bool) {
    let mut history = History::default();
    {
        let dir = LogDir::open(data, LogDirOptions::default()).unwrap();
        history.write(&dir.partition("orders", 0).unwrap(), 20);
        if close {
            dir.close().unwrap();
        }
    }
    volume.remount("ro");
    for path in [data, &volume.path().join("new")] {
        let error = LogDir::open(path, LogDirOptions::default()).unwrap_err();
        let is_refused = matches!(&error, Error::Io(io)
            if io.source.kind() == ErrorKind::ReadOnlyFilesystem && io.path.starts_with(path));
        assert!(is_refused, "{:?} {close}: {error:?}", volume.kind);
    }

    let dir = LogDir::open(data, LogDirOptions::default().read_only(true)).unwrap();
    assert!(dir.failed().is_empty(), "{:?}", dir.failed());
    let log = dir.partition("orders", 0).unwrap();
    history.check_without_appending(&log);
    assert!(matches!(log.append(&plain("no")), Err(Error::ReadOnly { .. })));
    assert!(matches!(dir.new_producer_id(), Err(Error::ReadOnly { .. })));

    let report = verify(data, &VerifyOptions::default()).unwrap();
    assert!(!report.has_errors() && report.batches == 20, "{report:?}");
    let state = inspect(data.join("orders-0"), &InspectOptions::default().clean(close)).unwrap();
    assert_eq!(state.log_end, Offset(200));
    run_tools(data);
    volume.remount("rw");
    history.check_reopened(&LogDir::open(data, LogDirOptions::default()).unwrap());
}

/// The command-line tool reads there, too, where it was built.
fn run_tools(data: &Path) {
    let Some(tool) = option_env!("CARGO_BIN_EXE_idemlog") else { return };
    let partition = data.join("orders-0");
    let commands =
        [("verify", data), ("inspect", &partition), ("producers", &partition), ("dump", &partition)];
    for (command, path) in commands {
        let output = Command::new(tool).arg(command).arg(path).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}
