//! The command-line tool, run as a process.
#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{batch, change, open, options, truncated_inside_a_batch};
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{
    BatchBuilder, ControlRecord, Error, IoMode, LogDir, Offset, ProducerEpoch, ProducerId, Sequence,
};
use serde_json::Value;
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

/// A closed log with a producer's ten records, and its `.log` file.
fn closed() -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..5 {
        log.append(&batch(7, 0, at * 2, 2)).unwrap();
    }
    dir.close().unwrap();
    let path = data.path().join("orders-0/00000000000000000000.log");
    (data, path)
}

#[test]
fn verify_exits_with_0_for_a_sound_log_and_1_for_a_damaged_one() {
    let (data, log) = closed();
    let path = data.path().to_str().unwrap();
    let sound = idemlog(&["verify", path]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    assert!(text(&sound).starts_with("sound: 5 batches"), "{sound:?}");

    change(&log, |bytes| bytes[100] ^= 1);
    let damaged = idemlog(&["verify", path, "--allow-gaps"]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    assert!(text(&damaged).contains("error: ") && text(&damaged).contains("CRC-32C"), "{damaged:?}");
}

#[test]
fn inspect_prints_the_state_as_json() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let output =
        idemlog(&["inspect", "--json", partition.to_str().unwrap(), "--unclean", "--recovery-point", "2"]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(state["logEndOffset"], 10);
    assert_eq!(state["producers"][0]["batches"][4]["lastSeq"], 9);
    assert_eq!(state["recoveryPoint"], 2);
    assert_eq!(state["recovery"]["markedClean"], false);
    assert!(state["recovery"]["cut"].is_null());
}

#[test]
fn verify_prints_what_it_found_as_json() {
    let (data, log) = closed();
    let dir = open(data.path(), IoMode::Mapped);
    dir.partition("orders", 1).unwrap();
    dir.close().unwrap();
    drop(dir);
    change(&log, |bytes| bytes[100] ^= 1);
    std::fs::write(data.path().join("idemlog-producer-ids"), b"what is this").unwrap();
    let output = idemlog(&["verify", "--json", data.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!((&found["verdict"], &found["batches"]), (&"damaged".into(), &5.into()));
    assert_eq!(found["findings"][0]["file"], data.path().join("idemlog-producer-ids").to_str().unwrap());
    let [damaged, sound] = &found["partitions"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!(damaged["path"], data.path().join("orders-0").to_str().unwrap());
    let finding = &damaged["findings"][0];
    assert_eq!((&finding["kind"], &finding["severity"]), (&"crc".into(), &"error".into()));
    assert_eq!((&finding["file"], &finding["position"]), (&log.to_str().unwrap().into(), &0.into()));
    assert!(finding["text"].as_str().unwrap().contains("CRC-32C") && finding["losesData"] == false);
    assert_eq!((&sound["findings"], &sound["verdict"]), (&Value::Array(vec![]), &"sound".into()));
    assert_eq!(damaged["verdict"], "damaged");
}

#[test]
fn producers_are_printed_as_json_as_inspect_prints_them() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let json = |command| -> Value {
        let output = idemlog(&[command, "--json", partition.to_str().unwrap()]);
        serde_json::from_str(&text(&output)).unwrap()
    };
    let producers = json("producers");
    assert_eq!(producers["producers"][0]["producerId"], 7);
    assert_eq!(
        (&producers["producers"], &producers["inUse"]),
        (&json("inspect")["producers"], &false.into())
    );
}

/// `--producer-expiry` did nothing.
#[test]
fn inspect_forgets_producers_that_were_idle_for_as_long_as_it_is_told() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let count = |expiry: &str| {
        let told =
            ["inspect", "--json", partition.to_str().unwrap(), "--now", "11000", "--producer-expiry", expiry];
        let state: Value = serde_json::from_str(&text(&idemlog(&told))).unwrap();
        state["producers"].as_array().unwrap().len()
    };
    // The last batch is of 1,008.
    assert_eq!((count("9993"), count("9992")), (1, 0));
}

#[test]
fn inspect_tells_of_segments_and_aborted_transactions() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for (id, abort) in [(7, true), (8, false)] {
        let (id, epoch, coordinator_epoch) = (ProducerId(id), ProducerEpoch(0), 0);
        let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record("k", "v");
        log.append(&batch.build().unwrap()).unwrap();
        if abort {
            log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch }).unwrap();
        }
    }
    dir.close().unwrap();
    let partition = data.path().join("orders-0");
    let output = idemlog(&["inspect", "--json", partition.to_str().unwrap()]);
    let state: Value = serde_json::from_str(&text(&output)).unwrap();
    let segment = &state["segments"][0];
    let aborted = serde_json::json!([
        { "producerId": 7, "firstOffset": 0, "lastOffset": 1, "lastStableOffset": 2 },
    ]);
    assert_eq!(segment["abortedTxns"], aborted);
    assert_eq!((&segment["offsetIndexEntries"], &segment["timeIndexEntries"]), (&0.into(), &1.into()));
    assert_eq!((&state["firstUndecidedOffset"], &state["lastStableOffset"]), (&2.into(), &2.into()));
    let lines = text(&idemlog(&["inspect", partition.to_str().unwrap()]));
    assert!(lines.contains("aborted: producer 7, offsets 0 to 1"), "{lines}");
}

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
        ("inspect", data, &partition),
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

/// The tool took `orders-01` for a partition, which no opening does, and sent whoever named a log directory there.
#[test]
fn a_log_directory_is_told_with_a_partition_that_an_opening_would_find() {
    let data = tempfile::tempdir().unwrap();
    open(data.path(), IoMode::Mapped).partition("orders", 1).unwrap();
    std::fs::create_dir(data.path().join("orders-01")).unwrap();
    let output = idemlog(&["inspect", data.path().to_str().unwrap()]);
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

/// A closed log of several segments with `damage` done to one of its files.
fn damaged(file: &str, damage: impl Fn(&mut Vec<u8>)) -> (TempDir, PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for at in 0..20 {
        log.append(&batch(7, 0, at * 10, 10)).unwrap();
    }
    dir.close().unwrap();
    let file = log.directory().join(file);
    let mut bytes = std::fs::read(&file).unwrap();
    damage(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
    (data, file)
}

/// All bytes below a partition's directory, by name.
fn contents(partition: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(partition).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn repair_says_what_it_would_do_and_does_it_only_when_told_to() {
    let (data, log) = damaged("00000000000000000040.log", |bytes| bytes[1500] ^= 1);
    let partition = data.path().join("orders-0");
    let before = contents(&partition);
    let path = partition.to_str().unwrap();
    let planned = idemlog(&["repair", path]);
    assert_eq!(planned.status.code(), Some(1), "{planned:?}");
    assert!(text(&planned).starts_with("to be done, with --yes:"), "{planned:?}");
    assert!(text(&planned).contains("cut at offset 50: "), "{planned:?}");
    assert!(text(&planned).contains(" bytes with 14 valid batches"), "{planned:?}");
    assert_eq!(contents(&partition), before, "a plan changes nothing");

    let done = idemlog(&["repair", path, "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(text(&done).starts_with("done:") && text(&done).ends_with("sound\n"), "{done:?}");
    // The damaged file is there in two parts, and all segments behind it are.
    let after = contents(&partition);
    let (kept, cut): (Vec<_>, _) =
        after.iter().partition(|(path, _)| path.extension().is_some_and(|extension| extension == "corrupt"));
    let rest =
        kept.iter().find(|(path, _)| path.to_string_lossy().contains("/00000000000000000040.")).unwrap();
    let head = cut.iter().find(|(path, _)| **path == log).unwrap();
    assert_eq!([&head.1[..], rest.1].concat(), before[&log]);
    for base in [80, 120, 160] {
        let (was, is) = (format!("{base:020}.log"), format!("{base:020}.0.corrupt"));
        assert_eq!(after[&partition.join(is)], before[&partition.join(was)]);
    }
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    assert_eq!(log.log_end_offset().0, 50);
    assert!(log.append(&batch(7, 0, 40, 10)).unwrap().is_duplicate());
    assert!(!log.append(&batch(7, 0, 50, 10)).unwrap().is_duplicate());
    dir.close().unwrap();
    drop((dir, log));
    assert_eq!(text(&idemlog(&["repair", path])), "nothing to repair\nsound\n");
}

#[test]
fn repair_sets_damaged_files_aside_that_can_be_made_again() {
    let files =
        ["00000000000000000040.index", "00000000000000000080.timeindex", "00000000000000000120.snapshot"];
    for file in files {
        let (data, file) = damaged(file, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x55));
        let damaged = std::fs::read(&file).unwrap();
        let partition = data.path().join("orders-0");
        let done = idemlog(&["repair", partition.to_str().unwrap(), "--yes"]);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let aside = format!("{}.1.corrupt", file.display());
        assert_eq!(std::fs::read(aside).unwrap(), damaged, "{done:?}");
        let dir = open(data.path(), IoMode::Mapped);
        assert_eq!(dir.partition("orders", 0).unwrap().log_end_offset().0, 200);
    }
}

#[test]
fn repair_leaves_a_log_alone_that_is_in_use_or_sound() {
    let (data, _) = damaged("00000000000000000040.log", |bytes| bytes[1500] ^= 1);
    let partition = data.path().join("orders-0");
    let dir = open(data.path(), IoMode::Mapped);
    let used = idemlog(&["repair", partition.to_str().unwrap(), "--yes"]);
    assert_eq!(used.status.code(), Some(2), "{used:?}");
    drop(dir);
    let (data, _) = closed();
    let sound = idemlog(&["repair", data.path().join("orders-0").to_str().unwrap(), "--yes"]);
    assert_eq!((sound.status.code(), text(&sound)), (Some(0), "nothing to repair\nsound\n".to_owned()));
    let directory = idemlog(&["repair", data.path().to_str().unwrap()]);
    assert_eq!(directory.status.code(), Some(2), "{directory:?}");
}

#[test]
fn repair_of_a_partition_leaves_the_others_as_they_are() {
    let (data, _) = damaged("00000000000000000160.log", |bytes| bytes.truncate(100));
    let other = data.path().join("orders-1");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("00000000000000000000.log"), b"damaged, too").unwrap();
    let done = idemlog(&["repair", data.path().join("orders-0").to_str().unwrap(), "--yes"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(contents(&other).len(), 1);
    let dir = open(data.path(), IoMode::Mapped);
    assert_eq!(dir.partition("orders", 0).unwrap().log_end_offset().0, 160);
}

/// `verify` called the log of a running process damaged, and `inspect` told of a cut: they came by while a batch was copied.
#[test]
fn a_log_that_somebody_has_open_is_not_called_damaged() {
    let (data, log) = damaged("00000000000000000160.log", |_| {});
    let partition = data.path().join("orders-0");
    let dir = open(data.path(), IoMode::Mapped);
    let before = contents(&partition);
    change(&log, |bytes| bytes.extend_from_slice(&[7; 30]));
    for path in [data.path(), &partition] {
        let refused = idemlog(&["verify", path.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert_eq!(text(&refused), "");
        assert!(told(&refused).contains("is open in another process: verify it when"), "{refused:?}");
        let refused = verify(path, &VerifyOptions::default());
        assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    }
    let inspected = idemlog(&["inspect", partition.to_str().unwrap()]);
    assert_eq!(inspected.status.code(), Some(0), "{inspected:?}");
    assert!(
        told(&inspected).contains("is open in another process: its end may be under way"),
        "{inspected:?}"
    );
    assert!(text(&inspected).contains("  it would cut an unfinished end at offset 200"), "{inspected:?}");
    change(&log, |bytes| bytes.truncate(bytes.len() - 30));
    assert_eq!(contents(&partition), before);
    dir.close().unwrap();
    assert_eq!(idemlog(&["verify", data.path().to_str().unwrap()]).status.code(), Some(0));
}

/// A copy of a directory may lack the lock file, and may lie where none can be made.
#[test]
fn a_lock_that_is_not_there_is_held_by_nobody_and_not_made() {
    let (data, _) = closed();
    let lock = data.path().join(".lock");
    std::fs::remove_file(&lock).unwrap();
    let partition = data.path().join("orders-0");
    for (command, path) in [("verify", data.path()), ("inspect", &partition)] {
        let output = idemlog(&[command, path.to_str().unwrap()]);
        assert_eq!((output.status.code(), told(&output)), (Some(0), String::new()));
    }
    assert!(!lock.exists());
}

/// `inspect` took every log for closed well and began it at its first segment, whatever lay beside it.
#[test]
fn inspect_goes_by_what_lies_beside_the_partition() {
    let (data, _) = closed();
    let partition = data.path().join("orders-0");
    let path = partition.to_str().unwrap();
    assert!(
        text(&idemlog(&["inspect", path])).starts_with("closed well, an opening would begin at offset 10:")
    );
    assert!(text(&idemlog(&["inspect", path, "--unclean"])).starts_with("not closed well, "));

    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.delete_records(Offset(4)).unwrap();
    log.set_high_watermark(Offset(8));
    dir.close().unwrap();
    drop((dir, log));
    let state: Value = serde_json::from_str(&text(&idemlog(&["inspect", "--json", path]))).unwrap();
    assert_eq!((&state["logStartOffset"], &state["checkpointedHighWatermark"]), (&4.into(), &8.into()));
    let state = idemlog(&["inspect", "--json", path, "--log-start", "0", "--recovery-point", "2"]);
    let state: Value = serde_json::from_str(&text(&state)).unwrap();
    assert_eq!((&state["logStartOffset"], &state["recovery"]["recoveryPoint"]), (&0.into(), &2.into()));

    // As `kill -9` leaves it.
    drop(open(data.path(), IoMode::Mapped));
    assert!(
        text(&idemlog(&["inspect", path]))
            .starts_with("not closed well, an opening would begin at offset 10:")
    );
    assert!(text(&idemlog(&["inspect", path, "--clean"])).starts_with("closed well, "));
}

#[test]
fn inspect_tells_what_an_opening_refuses() {
    let (data, log) = closed();
    let bytes = std::fs::read(&log).unwrap();
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let partition = data.path().join("orders-0");
    let refused = idemlog(&["inspect", partition.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused).starts_with("an opening refuses this: "), "{refused:?}");
    assert!(text(&refused).contains("2 offsets below the recovery point 10 were durable"), "{refused:?}");
    assert!(text(&refused).contains("  it would cut in front of damage at offset 8"), "{refused:?}");
    let json = idemlog(&["inspect", "--json", partition.to_str().unwrap()]);
    let json: Value = serde_json::from_str(&text(&json)).unwrap();
    assert_eq!(json["refused"], true);
    let dir = open(data.path(), IoMode::Mapped);
    assert!(dir.partition("orders", 0).is_err());
}

/// `repair` told how many bytes it cut, and not that they had been acknowledged.
#[test]
fn repair_tells_how_much_of_what_was_durable_is_gone() {
    let (data, _) = damaged("00000000000000000160.log", |bytes| bytes.truncate(100));
    let partition = data.path().join("orders-0");
    let expected = "the recovery point was 200: 40 offsets that were durable are gone";
    for arguments in [&["repair"][..], &["repair", "--yes"]] {
        let output = idemlog(&[arguments, &[partition.to_str().unwrap()]].concat());
        assert!(text(&output).contains(expected), "{output:?}");
    }
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

/// `verify` sent the owner of a log with a gap to `repair`, which found nothing to repair, called the log damaged, and so sent
/// him back, for ever.
#[test]
fn repair_calls_a_log_with_a_gap_sound() {
    let data = with_gap();
    let partition = data.path().join("orders-0");
    let repaired = idemlog(&["repair", partition.to_str().unwrap()]);
    let gaps = format!("note: {}/{:020}.log at byte 511: gaps: 1, 3 offsets in all", partition.display(), 0);
    let expected = format!("nothing to repair\n{gaps}, the first from 5 up to 8\nsound\n");
    assert_eq!((repaired.status.code(), text(&repaired)), (Some(0), expected));
}

/// Gaps and segments that were lost got the same hint: to repair what no repair changes.
#[test]
fn a_hint_about_a_gap_is_to_allow_it_and_about_a_lost_segment_is_not() {
    let data = with_gap();
    let gap = idemlog(&["verify", data.path().to_str().unwrap()]);
    assert_eq!(gap.status.code(), Some(1));
    let expected = "if the log was compacted, replicated or truncated, offsets may be missing: --allow-gaps";
    assert_eq!(told(&gap), format!("idemlog: {expected}\n"));
    let allowed = idemlog(&["verify", "--allow-gaps", data.path().to_str().unwrap()]);
    assert_eq!((allowed.status.code(), told(&allowed)), (Some(0), String::new()));

    let (data, file) = damaged("00000000000000000040.log", |_| {});
    std::fs::remove_file(file).unwrap();
    let lost = idemlog(&["verify", "--allow-gaps", data.path().to_str().unwrap()]);
    assert_eq!(lost.status.code(), Some(1));
    let expected = "40.log at byte 0: the segment is gone, of which an index is left: from offset 40 to 80";
    assert!(text(&lost).contains(expected), "{lost:?}");
    assert!(
        told(&lost).contains("can only come from a copy or a replica") && !told(&lost).contains("--allow")
    );
}

/// A repair takes away the index that tells of a lost segment, and what it left would be called sound.
#[test]
fn repair_does_not_call_a_log_sound_that_has_lost_a_segment() {
    let (data, file) = damaged("00000000000000000040.log", |_| {});
    std::fs::remove_file(file).unwrap();
    let partition = data.path().join("orders-0");
    let planned = idemlog(&["repair", partition.to_str().unwrap()]);
    assert!(planned.status.code() == Some(1) && text(&planned).contains("\ngo without "), "{planned:?}");
    let done = idemlog(&["repair", "--yes", partition.to_str().unwrap()]);
    assert!(done.status.code() == Some(1) && text(&done).ends_with("damaged\n"), "{done:?}");
}

/// A log that was truncated inside of a batch, and lacks offsets 5 to 7 since.
fn with_gap() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let (dir, log) = truncated_inside_a_batch(data.path());
    log.append(&batch(7, 0, 5, 5)).unwrap();
    dir.close().unwrap();
    data
}

/// A sound log was told to have problems, which were notes.
#[test]
fn notes_are_not_counted_as_problems() {
    let (data, log) = closed();
    let path = data.path().to_str().unwrap();
    assert!(text(&idemlog(&["verify", path])).ends_with(", problems: 0\n"));
    std::fs::write(log.with_file_name("leader-epoch-checkpoint.tmp"), b"half a file").unwrap();
    let noted = text(&idemlog(&["verify", path]));
    assert!(noted.contains("\nsound: ") && noted.ends_with(", notes: 1\n"), "{noted}");
    change(&log, |bytes| bytes[100] ^= 1);
    let damaged = text(&idemlog(&["verify", path]));
    assert!(damaged.ends_with(", problems: 1, notes: 1\n"), "{damaged}");
}

/// A log that was cut off gave a line for each entry of its indexes, and the one that mattered came behind 500 of them.
#[test]
fn problems_of_a_kind_are_told_once_and_lost_data_first() {
    let (data, _) = damaged("00000000000000000160.log", |bytes| bytes.truncate(100));
    let path = data.path().to_str().unwrap();
    let told = text(&idemlog(&["verify", path]));
    let all = text(&idemlog(&["verify", path, "--all"]));
    let first = "the log ends at offset 160, below the recovery point 200";
    for told in [&told, &all] {
        assert!(told.lines().next().unwrap().contains(first), "{told}");
    }
    assert!(told.contains(" more of this kind)") && !all.contains("more of this kind"), "{told}");
    let lines = |told: &str| told.lines().filter(|line| line.contains("is not the largest")).count();
    assert!(lines(&all) > 2 && lines(&told) == 1, "{all}");
    assert_eq!(told.lines().last(), all.lines().last());
}

/// It was `idemlog repair` for every file, also for those of the directory, which that does not touch.
#[test]
fn a_hint_is_true_for_the_file_that_is_damaged() {
    let cases = [
        ("recovery-point-offset-checkpoint", "without it no partition has a recovery point"),
        ("log-start-offset-checkpoint", "without it every log begins with its first segment"),
        ("replication-offset-checkpoint", "without it no high watermark is known"),
        ("idemlog-producer-ids", "without it ids go on above the highest that a partition"),
        ("idemlog-named-producers", "without it every name begins with a new id"),
    ];
    for (name, expected) in cases {
        let (data, _) = closed();
        let file = data.path().join(name);
        std::fs::write(&file, b"what is this").unwrap();
        let output = idemlog(&["verify", data.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{name}: {output:?}");
        assert!(told(&output).contains(expected) && told(&output).contains("away"), "{name}: {output:?}");
        assert!(!told(&output).contains("repair"), "{name}: {output:?}");
        assert!(LogDir::open(data.path(), options(IoMode::Mapped)).is_err(), "{name}");
        // What the hint says.
        std::fs::remove_file(&file).unwrap();
        let dir = open(data.path(), IoMode::Mapped);
        assert_eq!(dir.partition("orders", 0).unwrap().log_end_offset().0, 10);
        assert_eq!(dir.new_producer_id().unwrap(), ProducerId(8), "{name}");
    }
    let (data, log) = closed();
    change(&log, |bytes| bytes[100] ^= 1);
    let output = idemlog(&["verify", data.path().to_str().unwrap()]);
    let expected =
        format!("`idemlog repair {}` says what can be done", data.path().join("orders-0").display());
    assert!(told(&output).contains(&expected), "{output:?}");
}

/// The hints about the checkpoints rest on it.
#[test]
fn what_a_checkpoint_said_is_lost_with_it() {
    let (data, log) = closed();
    let empty = |partition, start| {
        let dir = open(data.path(), IoMode::Mapped);
        dir.partition("orders", 0).unwrap().delete_records(Offset(4)).unwrap();
        dir.partition("orders", partition).unwrap().truncate_fully(Offset(start)).unwrap();
        dir.close().unwrap();
    };
    empty(1, 1000);
    std::fs::remove_file(data.path().join("log-start-offset-checkpoint")).unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    assert_eq!(dir.partition("orders", 0).unwrap().log_start_offset(), Offset(0));
    assert_eq!(dir.partition("orders", 1).unwrap().log_end_offset(), Offset(0));
    dir.close().unwrap();
    drop(dir);
    change(&log, |bytes| bytes.truncate(bytes.len() - 1));
    let dir = open(data.path(), IoMode::Mapped);
    assert!(dir.partition("orders", 0).is_err());
    drop(dir);
    std::fs::remove_file(data.path().join("recovery-point-offset-checkpoint")).unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    assert_eq!(dir.partition("orders", 0).unwrap().log_end_offset(), Offset(8));
}

/// One directory that could not be read kept `verify` from all that came behind it.
#[test]
fn a_partition_that_cannot_be_read_does_not_hide_the_others() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    for partition in 0..2 {
        dir.partition("orders", partition).unwrap().append(&batch(7, 0, 0, 2)).unwrap();
    }
    dir.close().unwrap();
    drop(dir);
    change(&data.path().join("orders-1/00000000000000000000.log"), |bytes| bytes[100] ^= 1);
    let output = as_nobody(&data, &data.path().join("orders-0"));
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let (unread, error) = (data.path().join("orders-0"), data.path().join("orders-1"));
    assert!(text(&output).contains(&format!("unread: {}", unread.display())), "{output:?}");
    assert!(text(&output).contains(&format!("error: {}", error.display())), "{output:?}");
    assert!(text(&output).contains("\ndamaged: "), "{output:?}");
}

/// What the tool says of a directory of which it may not read a part: who is root may read everything, so it is somebody else.
fn as_nobody(data: &TempDir, forbidden: &Path) -> Output {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65_534;
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let tool = data.path().join("tool");
    std::fs::copy(env!("CARGO_BIN_EXE_idemlog"), &tool).unwrap();
    allow(&tool, 0o755);
    allow(data.path(), 0o755);
    allow(forbidden, 0);
    let mut command = Command::new(tool);
    command.arg("verify").arg(data.path()).current_dir(data.path());
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    // Another test may be about to start a program, and has the copy open for writing until that runs.
    let is_busy = |output: &std::io::Result<Output>| matches!(output, Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy);
    let output =
        std::iter::repeat_with(|| command.output()).find(|output| !is_busy(output)).unwrap().unwrap();
    allow(forbidden, 0o755);
    output
}

/// Damage of every sort was one kind, of which only the first of a file is shown; and what no repair changes was sent to `repair`,
/// which had nothing to do, and back.
#[test]
fn records_that_were_stored_damaged_are_a_kind_of_their_own_that_nothing_repairs() {
    let (data, _) = damaged("00000000000000000000.log", |bytes| {
        let length = bytes.len();
        // In the first batch the first record has another length, and the CRC agrees; in the last one a bit is another.
        let size = 12 + u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
        bytes[61] ^= 2;
        let crc = crc32c::crc32c(&bytes[21..size]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes[length - 1] ^= 1;
    });
    let output = idemlog(&["verify", data.path().to_str().unwrap()]);
    let lines = text(&output);
    assert!(lines.contains("at byte 0: ") && lines.contains("CRC"), "{lines}");
    assert!(told(&output).contains("nothing repairs it"), "{output:?}");
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
