//! `verify`: the verdict, what it prints, and the hints.

use std::path::Path;
use std::process::{Command, Output};

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Error, IoMode, LogDir, Offset, ProducerId};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{batch, change, open, options};
use crate::{closed, contents, damaged, idemlog, text, told, with_gap};

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
