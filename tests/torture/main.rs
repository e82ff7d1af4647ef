//! Processes that append, read, roll, truncate and delete with several threads, killed with SIGKILL at random moments,
//! again and again on the same directory. What they were told is kept outside of them, and must be there each time.
//!
//! `TORTURE_RUNS=500 cargo test --release --test torture` kills 500 times; `TORTURE_SEED=n` begins elsewhere.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod child;
mod ledger;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use idemlog::{IoMode, LogDir, verify};
use ledger::Ledger;

const DIRECTORY: &str = "TORTURE_DIRECTORY";
const DEFAULT_RUNS: u64 = 30;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A small generator, so that a run can be told by its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that depends on nothing else.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_however_often_the_process_is_killed() {
    let (runs, first) = (number("TORTURE_RUNS", DEFAULT_RUNS), number("TORTURE_SEED", 1));
    for mode in [IoMode::Mapped, IoMode::Write] {
        let data = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::default();
        let started = Instant::now();
        for seed in first..first + runs.div_ceil(2) {
            print(&format!("\r{mode:?}: killed {} times, {ledger}", seed - first));
            let before = ledger.clone();
            let lines = run_and_kill(data.path(), mode, seed);
            lines.iter().for_each(|line| ledger.note(line));
            let mut problems: Vec<String> =
                lines.iter().filter(|line| line.starts_with(child::PANIC)).cloned().collect();
            problems.extend(examine(data.path(), mode, &mut ledger));
            let replay = format!("TORTURE_SEED={seed} in {mode:?}, after {before}");
            assert!(problems.is_empty(), "{replay}:\n{}", problems.join("\n"));
        }
        let seconds = started.elapsed().as_secs();
        print(&format!(
            "\r{mode:?}: killed {} times in {seconds} s, {ledger}: all there, once\n",
            runs.div_ceil(2)
        ));
        assert!(ledger.acknowledged > runs, "the processes did something");
    }
}

/// The process that is killed: the test above starts this binary again.
#[test]
#[ignore = "run by the other test, as a process of its own"]
fn child_process() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        child::run(Path::new(&directory), mode_of_child(), number("TORTURE_SEED", 1));
    }
}

fn mode_of_child() -> IoMode {
    if std::env::var("TORTURE_MODE").unwrap() == "Mapped" { IoMode::Mapped } else { IoMode::Write }
}

fn print(text: &str) {
    let mut stderr = std::io::stderr();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}

/// Lets a child work for a moment, kills it, and returns all that it said.
fn run_and_kill(directory: &Path, mode: IoMode, seed: u64) -> Vec<String> {
    let mut child = start(directory, mode, seed);
    let said = listen(&mut child);
    let mut lines = Vec::new();
    // Killed while it opens, or while it works.
    let mut random = Random::new(seed);
    let while_opening = random.below(8) == 0;
    if !while_opening {
        wait_until_open(&said, &mut lines, &mut child);
    }
    thread::sleep(Duration::from_micros(random.below(if while_opening { 40_000 } else { 250_000 })));
    child.kill().unwrap();
    child.wait().unwrap();
    lines.extend(said);
    lines
}

fn start(directory: &Path, mode: IoMode, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child_process", "--exact", "--ignored", "--nocapture", "--quiet"])
        .env(DIRECTORY, directory)
        .env("TORTURE_MODE", format!("{mode:?}"))
        .env("TORTURE_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The lines of the child, which a thread takes from the pipe so that it never fills.
fn listen(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        // What stands behind the last line end was cut by the kill.
        let mut text = Vec::new();
        let mut stdout = stdout;
        while stdout.read_until(b'\n', &mut text).is_ok_and(|read| read > 0) {
            if text.pop() == Some(b'\n') {
                let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
            }
            text.clear();
        }
    });
    receiver
}

fn wait_until_open(said: &Receiver<String>, lines: &mut Vec<String>, child: &mut Child) {
    loop {
        match said.recv_timeout(Duration::from_secs(60)) {
            Ok(line) if line == child::OPEN => return,
            Ok(line) => lines.push(line),
            Err(_) => panic!("the child did not open its directory: {:?}", child.try_wait()),
        }
    }
}

/// Opens what is left and holds it against the ledger; then lets `verify` look at everything.
fn examine(directory: &Path, mode: IoMode, ledger: &mut Ledger) -> Vec<String> {
    let mut problems = Vec::new();
    let dir = LogDir::open(directory, child::options(mode)).unwrap();
    for (name, error) in dir.failed() {
        problems.push(format!("{name} does not open: {error}"));
    }
    for name in dir.partitions() {
        let log = dir.partition(name.topic(), name.partition()).unwrap();
        problems.extend(ledger.check(&log));
    }
    dir.close().unwrap();
    drop(dir);
    // A truncation to the middle of a batch leaves a gap.
    let report = verify::verify(directory, &verify::VerifyOptions::default().allow_gaps(true)).unwrap();
    let errors = report.problems.iter().filter(|problem| problem.severity == verify::Severity::Error);
    problems.extend(errors.map(|problem| format!("verify: {problem}")));
    problems
}
