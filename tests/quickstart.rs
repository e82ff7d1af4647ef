//! The program that a newcomer runs first must keep its word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use idemlog::{BatchBuilder, LogDir, LogDirOptions};

use check::Findings;
use identity::Identity;
use lane::Lane;
use ledger::Ledger;

// The judge is put on trial itself, so the program's own is taken in.
#[path = "../examples/quickstart/check.rs"]
mod check;
#[path = "../examples/quickstart/identity.rs"]
mod identity;
#[allow(dead_code, reason = "the trial sends nothing")]
#[path = "../examples/quickstart/lane.rs"]
mod lane;
#[path = "../examples/quickstart/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "the trial sends nothing")]
#[path = "../examples/quickstart/wire.rs"]
mod wire;

const TOPIC: &str = "readings";
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Cargo builds the examples for `cargo test`, beside the directory of the tests.
fn quickstart(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().unwrap();
    let program: PathBuf = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples/quickstart");
    assert!(program.exists(), "{} is not built: cargo build --example quickstart", program.display());
    Command::new(program).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The number in the summary's row of that name.
fn row(output: &Output, name: &str) -> u64 {
    let text = text(&output.stdout);
    let rest = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name))
        .unwrap_or_else(|| panic!("{text}"));
    rest.split_whitespace().next().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn faults_and_a_kill_lose_nothing_and_double_nothing() {
    for seed in ["1", "2", "3"] {
        let output =
            quickstart(&["--records", "3000", "--producers", "3", "--partitions", "2", "--seed", seed]);
        let told = format!("seed {seed}: {}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{told}");
        assert!(told.contains("SIGKILL"), "{told}");
        assert!(row(&output, "answered as duplicates") > 0, "{told}");
        assert_eq!(row(&output, "stored "), 3000, "{told}");
        for name in ["lost", "stored twice", "out of order", "broken promises"] {
            assert_eq!(row(&output, name), 0, "{name} in {told}");
        }
    }
}

#[test]
fn without_idempotence_the_same_faults_store_records_twice_and_that_is_seen() {
    let output = quickstart(&["--records", "3000", "--no-idempotence"]);
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert_eq!(row(&output, "answered as duplicates"), 0, "{told}");
    assert!(row(&output, "stored twice") > 0, "{told}");
    assert_eq!(row(&output, "lost"), 0, "{told}");
    assert_eq!(row(&output, "broken promises"), 0, "{told}");
}

#[test]
fn the_files_stay_where_they_were_asked_for_and_are_not_mixed_with_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new");
    let arguments = ["--records", "10", "--directory", path.to_str().unwrap()];
    assert!(quickstart(&arguments).status.success());
    assert!(path.join("readings-0").is_dir());
    let again = quickstart(&arguments);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("not empty"), "{}", text(&again.stderr));
}

#[test]
fn nothing_to_send_is_fine() {
    let output = quickstart(&["--records", "0"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(row(&output, "stored "), 0);
}

#[test]
fn arguments_that_cannot_work_are_explained() {
    let cases = [
        (vec!["--producers", "0"], "1 to 1000"),
        (vec!["--records", "many"], "--records must be"),
        (vec!["--seed"], "--seed needs a value"),
        (vec!["--partition", "3"], "unknown argument --partition"),
    ];
    for (arguments, expected) in cases {
        let output = quickstart(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = text(&output.stderr);
        assert!(told.contains(expected) && told.contains("usage:"), "{arguments:?}: {told}");
    }
}

/// Stores the records of these numbers, one a batch, and has the judge look for 0 to 3; every batch was acknowledged.
fn judged(numbers: &[u64], tamper: impl FnOnce(&Path, &mut Ledger)) -> Findings {
    let directory = tempfile::tempdir().unwrap();
    let dir = LogDir::open(directory.path(), LogDirOptions::default()).unwrap();
    let log = dir.partition(TOPIC, 0).unwrap();
    let mut ledger = Ledger::default();
    for &number in numbers {
        let value = Identity { producer: 0, partition: 0, number }.value();
        let batch = BatchBuilder::new().record(b"key", value).build().unwrap();
        let stored = log.append(&batch).unwrap();
        ledger.write(0, stored.base_offset().0, batch.header().crc);
    }
    dir.close().unwrap();
    tamper(&log.directory().join("00000000000000000000.log"), &mut ledger);
    check::check(directory.path(), &[Lane::new(0, 0, None, 4)], &ledger).unwrap()
}

/// Lost, stored twice, out of order, broken promises, damaged.
fn counts(found: &Findings) -> [u64; 5] {
    [found.lost, found.stored_twice, found.out_of_order, found.broken_promises, found.damaged]
}

#[test]
fn the_judge_sees_what_is_missing_doubled_and_misplaced() {
    let cases: [(&[u64], [u64; 5]); 6] = [
        (&[0, 1, 2, 3], [0, 0, 0, 0, 0]),
        (&[0, 1, 3], [1, 0, 0, 0, 0]),
        (&[0, 1, 1, 2, 3], [0, 1, 0, 0, 0]),
        (&[0, 2, 1, 3], [0, 0, 1, 0, 0]),
        (&[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]),
        (&[], [4, 0, 0, 0, 0]),
    ];
    for (numbers, expected) in cases {
        assert_eq!(counts(&judged(numbers, |_, _| ())), expected, "{numbers:?}");
    }
}

#[test]
fn the_judge_sees_a_changed_byte_a_missing_end_and_a_promise_not_kept() {
    let change = |change: fn(&mut Vec<u8>)| {
        judged(&[0, 1, 2, 3], move |path, _| {
            let mut bytes = std::fs::read(path).unwrap();
            change(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        })
    };
    let flipped = change(|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(counts(&flipped), [1, 0, 0, 1, 1]);
    assert!(flipped.told[0].contains("CRC"), "{:?}", flipped.told);
    assert_eq!(counts(&change(|bytes| bytes.truncate(bytes.len() - 1))), [1, 0, 0, 1, 1]);
    assert_eq!(counts(&change(|bytes| bytes.push(0))), [0, 0, 0, 0, 1], "bytes behind the last batch");
    assert_eq!(counts(&change(Vec::clear)), [4, 0, 0, 4, 0]);

    let other_crc = judged(&[0, 1, 2, 3], |_, ledger| ledger.write(0, 9, 7));
    assert_eq!(counts(&other_crc), [0, 0, 0, 1, 0]);
    let same_offset_twice = judged(&[0, 1, 2, 3], |_, ledger| ledger.write(0, 2, 7));
    assert_eq!(counts(&same_offset_twice), [0, 0, 0, 2, 0]);
}
