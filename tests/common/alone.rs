//! Tests as processes of their own.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

/// Names the test that the process was started for.
const INSIDE: &str = "IDEMLOG_TEST_ALONE";

/// Runs `work` in a process of its own, which must end well. `test` is the full name of the test that calls this.
pub fn alone(test: &str, work: impl FnOnce()) {
    let Some(ended) = ending(test, work) else { return };
    assert!(ended.success(), "{test} ended with {ended}");
}

/// The same, however the process ends; `None` within it.
pub fn ending(test: &str, work: impl FnOnce()) -> Option<ExitStatus> {
    run(test, &[], work)
}

/// Runs `work` in a process of its own that may mount file systems, which nobody else sees and which go with it. Skips
/// it where that is not permitted.
pub fn with_mounts(test: &str, work: impl FnOnce()) {
    let Some(ended) = ending_with_mounts(test, work) else { return };
    assert!(ended.success(), "{test} ended with {ended}");
}

/// The same, however the process ends; `None` within it, and where it was skipped.
pub fn ending_with_mounts(test: &str, work: impl FnOnce()) -> Option<ExitStatus> {
    // Root has what it needs in its own user namespace; everybody else becomes root of a new one.
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    let permits = |way: &&&[&str]| {
        is_inside(test) || command(way, "true".as_ref()).status().is_ok_and(|status| status.success())
    };
    let way = ways.iter().find(permits);
    if way.is_none() {
        skip(test, "no file system can be mounted here");
    }
    run(test, way?, work)
}

/// Says what is left out, and why, to whoever runs the tests.
pub fn skip(what: &str, why: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}: {why}\n").as_bytes());
}

fn is_inside(test: &str) -> bool {
    std::env::var_os(INSIDE).is_some_and(|inside| inside == test)
}

fn run(test: &str, way: &[&str], work: impl FnOnce()) -> Option<ExitStatus> {
    if is_inside(test) {
        work();
        return None;
    }
    let (binary, place) = (std::env::current_exe().unwrap(), scratch());
    let output = command(way, binary.as_os_str())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, test)
        .env("TMPDIR", place.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "{test} is no test: {said}");
    Some(output.status)
}

/// The place of a process's temporary files, which goes with it however it ends. In memory where there is enough of it: what
/// is tested here is not how long a disk takes.
fn scratch() -> TempDir {
    const ENOUGH: u64 = 1 << 30;
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |found| found.f_bavail * found.f_frsize);
    if free >= ENOUGH { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// A command in front of which `way` stands, quiet but for what the caller takes from it.
fn command(way: &[&str], program: &OsStr) -> Command {
    let words: Vec<&OsStr> = way.iter().map(OsStr::new).chain([program]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
