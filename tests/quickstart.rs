//! The program that a newcomer runs first must keep its word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};

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
