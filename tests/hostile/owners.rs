//! Who else wants the directory, and who may not have it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Error, IoMode, LogDir, LogDirOptions};
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::{Gid, Uid, chown, setgroups, setresgid, setresuid};

use crate::alone::{alone, skip};
use crate::common::{batch, open, options, stored};

const DIRECTORY: &str = "IDEMLOG_TEST_DIRECTORY";

/// Another process that runs the test `name`, until it says that it holds the directory.
fn other_process(name: &str, directory: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        said.map(Result::unwrap).any(|line| line.ends_with("held")),
        "the child did not get the directory"
    );
    child
}

/// Holds what it got until it is killed.
fn hold() {
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn an_owner() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        let _dir = open(directory.as_ref(), IoMode::Write);
        hold();
    }
}

/// What Java's `FileChannel.lock` does, and so Kafka.
#[test]
#[ignore = "run by another test, as a process of its own"]
fn a_kafka() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let path = Path::new(&directory).join(".lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    let whole_file = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&whole_file)).unwrap();
    hold();
}

#[test]
fn a_directory_has_one_owner_among_processes_whoever_that_is_and_is_free_when_it_dies() {
    for other in ["owners::an_owner", "owners::a_kafka"] {
        let data = tempfile::tempdir().unwrap();
        let log = open(data.path(), IoMode::Write).partition("orders", 0).unwrap();
        log.append(&batch(7, 0, 0, 1)).unwrap();
        drop(log);
        let mut child = other_process(other, data.path());
        let refused = LogDir::open(data.path(), options(IoMode::Write)).unwrap_err();
        assert!(matches!(&refused, Error::Locked { path } if path == data.path()), "{other}: {refused:?}");
        // Who only looks is in nobody's way, and `verify` sees who is in its own.
        let dir = LogDir::open(data.path(), LogDirOptions::default().read_only(true)).unwrap();
        assert_eq!(stored(&dir.partition("orders", 0).unwrap()).len(), 1);
        let refused = verify(data.path(), &VerifyOptions::default()).unwrap_err();
        assert!(matches!(&refused, Error::Locked { path } if path == data.path()), "{other}: {refused:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!verify(data.path(), &VerifyOptions::default()).unwrap().has_errors());
        assert_eq!(stored(&open(data.path(), IoMode::Write).partition("orders", 0).unwrap()).len(), 1);
    }
}

/// Kafka's side of it: its lock is refused while the engine has the directory.
#[test]
fn a_kafka_is_kept_out() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Write);
    let run = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["owners::a_kafka", "--exact", "--ignored"])
            .env(DIRECTORY, data.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    assert!(!run().status.success());
    dir.close().unwrap();
    assert!(run().status.success());
}

/// Gives up all that root may do: what is refused then is refused to everybody.
fn become_nobody(own: &Path) -> bool {
    let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
    let owned = chown(own, Some(uid), Some(gid)).is_ok();
    let became =
        setgroups(&[gid]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
    owned && became.is_ok()
}

#[test]
fn what_may_not_be_opened_is_an_error_that_names_it_and_keeps_nothing_else_from_opening() {
    let test = "owners::what_may_not_be_opened_is_an_error_that_names_it_and_keeps_nothing_else_from_opening";
    alone(test, || {
        let data = tempfile::tempdir().unwrap();
        if Uid::current().is_root() && !become_nobody(data.path()) {
            return skip(test, "root that cannot become anybody else may open everything");
        }
        let dir = open(data.path(), IoMode::Write);
        for topic in ["orders", "payments"] {
            dir.partition(topic, 0).unwrap().append(&batch(7, 0, 0, 1)).unwrap();
        }
        dir.close().unwrap();
        drop(dir);
        let partition = data.path().join("orders-0");
        let log = partition.join("00000000000000000000.log");
        for (path, mode) in [(&partition, 0o700), (&log, 0o600)] {
            allow(path, 0o000);
            let dir = LogDir::open(data.path(), options(IoMode::Write)).unwrap();
            assert_denied(&dir.partition("orders", 0).unwrap_err(), path);
            assert_eq!(stored(&dir.partition("payments", 0).unwrap()).len(), 1);
            drop(dir);
            let _ = verify(data.path(), &VerifyOptions::default());
            allow(path, mode);
        }
        allow(data.path(), 0o500);
        let denied = LogDir::open(data.path().join("new"), LogDirOptions::default()).unwrap_err();
        assert_denied(&denied, &data.path().join("new"));
        allow(data.path(), 0o700);
        assert_eq!(stored(&open(data.path(), IoMode::Write).partition("orders", 0).unwrap()).len(), 1);
    });
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn assert_denied(error: &Error, path: &Path) {
    let is_denied = matches!(error, Error::Io(io)
        if io.source.kind() == ErrorKind::PermissionDenied && io.path.starts_with(path));
    assert!(is_denied, "{error:?} where {} was denied", path.display());
}
