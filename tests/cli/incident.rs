//! What the tool answers somebody whose broker has just died: what is there, what an opening would come to, and how long it takes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use idemlog::verify::{VerifyOptions, verify};
use idemlog::{BatchBuilder, ControlRecord, IoMode, Offset, ProducerEpoch, ProducerId, Sequence};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{MODES, batch, change, open, plain};
use crate::{closed_in_segments, idemlog, text, told};

fn segment(directory: &Path, base: i64) -> PathBuf {
    directory.join(format!("{base:020}.log"))
}

fn repair(partition: &Path) {
    let done = idemlog(&["repair", "--yes", partition.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// What a repair had cut out could be looked at with a hex editor only: `dump` read `.log` and the names of indexes alone.
#[test]
fn what_was_kept_aside_is_dumped_as_what_it_was() {
    let (_data, partition) = closed_in_segments();
    change(&segment(&partition, 40), |bytes| bytes[1500] ^= 1);
    change(&partition.join(format!("{:020}.index", 0)), |bytes| bytes[3] ^= 1);
    let index = std::fs::read(partition.join(format!("{:020}.index", 0))).unwrap();
    repair(&partition);

    let kept = |name: &str| idemlog(&["dump", partition.join(name).to_str().unwrap()]);
    // Moved aside as a whole.
    let whole = kept("00000000000000000080.0.corrupt");
    assert_eq!((whole.status.code(), text(&whole).lines().count()), (Some(0), 1 + 4), "{whole:?}");
    assert!(text(&whole).contains("offsets 80-89 leader epoch"), "{whole:?}");
    // From the damaged batch on.
    let rest = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().file_name());
    let rest = rest.map(|name| name.into_string().unwrap());
    let rest = rest.filter(|name| name.starts_with("00000000000000000040.") && name.ends_with(".corrupt"));
    let rest = kept(&rest.last().unwrap());
    assert_eq!(rest.status.code(), Some(2), "{rest:?}");
    let lines = text(&rest);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines.len() == 1 + 3 && lines[1].contains("DAMAGED: the header's CRC-32C"), "{rest:?}");
    assert!(lines[3].contains("offsets 70-79 ") && !lines[3].contains("DAMAGED"), "{rest:?}");
    assert!(told(&rest).contains(".corrupt at byte 0: ") && !told(&rest).contains("verify"), "{rest:?}");

    let set_aside = kept("00000000000000000000.index.1.corrupt");
    assert_eq!(set_aside.status.code(), Some(0), "{set_aside:?}");
    assert_eq!(text(&set_aside).lines().count(), 1 + index.len() / 8, "{set_aside:?}");
}

/// `dump *.corrupt` took one file, and a damaged segment kept those behind it from a dump of the partition.
#[test]
fn a_damaged_file_does_not_keep_the_others_from_a_dump() {
    let (_data, partition) = closed_in_segments();
    change(&segment(&partition, 0), |bytes| bytes[100] ^= 1);
    let (first, second) = (segment(&partition, 0), segment(&partition, 40));
    let both = idemlog(&["dump", first.to_str().unwrap(), second.to_str().unwrap()]);
    assert_eq!((both.status.code(), text(&both).lines().count()), (Some(2), 2 * (1 + 4)), "{both:?}");
    let all = idemlog(&["dump", partition.to_str().unwrap()]);
    assert_eq!((all.status.code(), text(&all).lines().count()), (Some(2), 5 * (1 + 4)), "{all:?}");
    assert_eq!(told(&all).lines().count(), 1, "{all:?}");
}

#[test]
fn a_prepared_segment_is_dumped_as_a_segment() {
    let (_data, partition) = closed_in_segments();
    let prepared = partition.join("segment.prepared");
    std::fs::copy(segment(&partition, 160), &prepared).unwrap();
    let output = idemlog(&["dump", prepared.to_str().unwrap()]);
    assert_eq!((output.status.code(), text(&output).lines().count()), (Some(0), 1 + 4), "{output:?}");
}

/// A dump ended at the first damage, and took a batch whose CRC did not match for sound.
#[test]
fn a_dump_goes_on_behind_damage_and_says_what_is_damaged() {
    let (_data, partition) = closed_in_segments();
    let log = segment(&partition, 0);
    let dump = || idemlog(&["dump", log.to_str().unwrap()]);
    let size_at = |at: usize| {
        let bytes = std::fs::read(&log).unwrap();
        12 + u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize
    };
    let second = size_at(0);
    let third = second + size_at(second);
    change(&log, |bytes| bytes[second + 16] = 9);
    let output = dump();
    let expected = format!("{second:>10} {} bytes that are no batch: ", third - second);
    assert!(text(&output).lines().nth(2).unwrap().starts_with(&expected), "{output:?}");
    assert_eq!((output.status.code(), text(&output).lines().count()), (Some(2), 1 + 4), "{output:?}");
    assert!(told(&output).contains(&format!("{} at byte {second}: ", log.display())), "{output:?}");

    // A length that ends in the middle of the batch.
    change(&log, |bytes| bytes[second + 16] = 2);
    change(&log, |bytes| bytes[third + 10] = 1);
    let output = dump();
    let lines = text(&output);
    let lines: Vec<_> = lines.lines().collect();
    assert!(lines[3].starts_with(&format!("{third:>10} offsets 20-29 ")), "{output:?}");
    assert!(lines[3].contains(" DAMAGED: ") && lines.len() == 1 + 4, "{output:?}");
    assert!(lines[4].contains("offsets 30-39 ") && !lines[4].contains("DAMAGED"), "{output:?}");
}

/// A directory of four partitions as a crash leaves it: one that opens, one with an unfinished end, one that lacks its first
/// segment, and one whose directory is gone.
fn crashed() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Write);
    for partition in 0..4 {
        let log = dir.partition("orders", partition).unwrap();
        for at in 0..20 {
            log.append(&batch(7, 0, at * 10, 10)).unwrap();
        }
    }
    dir.close().unwrap();
    drop(dir);
    std::fs::remove_file(data.path().join(".kafka_cleanshutdown")).unwrap();
    change(&segment(&data.path().join("orders-1"), 160), |bytes| bytes.extend_from_slice(&[7; 30]));
    std::fs::remove_file(segment(&data.path().join("orders-2"), 0)).unwrap();
    std::fs::remove_dir_all(data.path().join("orders-3")).unwrap();
    data
}

/// Who had to know whether a directory opens, and how long that takes, had to ask of each of its partitions, or to wait for hours
/// of `verify`.
#[test]
fn inspect_of_a_directory_answers_whether_it_opens_and_what_that_reads() {
    let data = crashed();
    let path = data.path().to_str().unwrap();
    let output = idemlog(&["inspect", path]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines = text(&output);
    let [sound, cut, refused, missing, total] = &lines.lines().collect::<Vec<_>>()[..] else {
        panic!("{lines}")
    };
    assert_eq!(*sound, "orders-0: opens, offsets 0 to 200, reads 981 B");
    assert_eq!(
        *cut,
        "orders-1: opens, offsets 0 to 200, reads 981 B, cuts 30 bytes of an unfinished end at offset 200"
    );
    assert!(refused.starts_with("orders-2: REFUSED: segments are missing in front of the first; 40 offsets"));
    assert!(refused.ends_with(&format!("`idemlog repair {path}/orders-2`")), "{refused}");
    assert!(
        missing.starts_with("orders-3: REFUSED: ")
            && missing.contains("the partition is missing, up to offset 200 it was durable"),
        "{missing}"
    );
    let expected = "2 of 4 partitions open, 2 would be refused; not closed well, the next opening reads ";
    assert!(total.starts_with(expected), "{total}");

    // It is what happens.
    let dir = open(data.path(), IoMode::Write);
    let failed: Vec<_> = dir.failed().into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(failed, ["orders-2", "orders-3"]);
    assert_eq!(dir.partition("orders", 1).unwrap().log_end_offset(), Offset(200));
}

#[test]
fn inspect_of_a_directory_tells_the_bytes_that_an_opening_then_reads() {
    let data = crashed();
    std::fs::remove_dir_all(data.path().join("orders-2")).unwrap();
    std::fs::remove_file(data.path().join("recovery-point-offset-checkpoint")).unwrap();
    let output = idemlog(&["inspect", "--json", data.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let found: Value = serde_json::from_str(&text(&output)).unwrap();
    let told = [&found["refused"], &found["inUse"], &found["markedClean"], &found["notOpening"]];
    assert_eq!(told, [&Value::from(false), &false.into(), &false.into(), &0.into()]);
    let of = |partition: usize| &found["partitions"][partition];
    assert_eq!(of(1)["path"], data.path().join("orders-1").to_str().unwrap());
    assert_eq!((&of(1)["opens"], &of(1)["logEndOffset"]), (&true.into(), &200.into()));
    assert_eq!(of(1)["recovery"]["cut"]["bytes"], 30);

    let dir = open(data.path(), IoMode::Write);
    let logs =
        dir.partitions().into_iter().map(|name| dir.partition(name.topic(), name.partition()).unwrap());
    let read: u64 = logs.map(|log| log.recovery().bytes_read).sum();
    assert!(read > 20_000 && found["bytesToRead"] == read, "{read} {}", found["bytesToRead"]);
}

#[test]
fn inspect_of_a_directory_that_somebody_has_open_changes_nothing_and_says_so() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.append(&batch(7, 0, 0, 10)).unwrap();
    let output = idemlog(&["inspect", data.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(told(&output).contains("is open in another process"), "{output:?}");
    assert!(text(&output).starts_with("orders-0: opens, offsets 0 to 10, reads "), "{output:?}");
    assert!(log.append(&batch(7, 0, 10, 10)).is_ok());
}

/// It said that the directory could not be looked at, as if the disk had failed.
#[test]
fn inspect_tells_of_a_file_with_which_nothing_opens_and_what_to_do_about_it() {
    let (data, partition) = closed_in_segments();
    std::fs::write(data.path().join("recovery-point-offset-checkpoint"), b"what is this").unwrap();
    for path in [data.path(), &partition] {
        let output = idemlog(&["inspect", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output).starts_with("an opening refuses this: "), "{output:?}");
        assert!(told(&output).contains("recovery-point-offset-checkpoint away: without it"), "{output:?}");
        let json = idemlog(&["inspect", "--json", path.to_str().unwrap()]);
        let json: Value = serde_json::from_str(&text(&json)).unwrap();
        assert_eq!(json["refused"], true);
    }
}

/// A line for each, of which there may be as many as batches, buried what an opening would come to.
#[test]
fn inspect_counts_aborted_transactions_and_says_where_to_see_them() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    let (id, epoch) = (ProducerId(7), ProducerEpoch(0));
    for sequence in 0..1000 {
        let batch = BatchBuilder::new().producer(id, epoch, Sequence(sequence)).transactional();
        log.append(&batch.record("k", "v").build().unwrap()).unwrap();
        log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 }).unwrap();
    }
    dir.close().unwrap();
    let partition = log.directory().to_owned();
    let path = partition.to_str().unwrap().to_owned();
    drop((dir, log));
    let lines = text(&idemlog(&["inspect", &path]));
    let expected = format!("aborted transactions: 1,000; `idemlog dump {path}/*.txnindex` lists them\n");
    assert!(lines.contains(&expected) && lines.lines().count() < 50, "{lines}");
    let indexes = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path());
    let indexes = indexes.filter(|path| path.extension().is_some_and(|extension| extension == "txnindex"));
    let listed = indexes.map(|index| text(&idemlog(&["dump", index.to_str().unwrap()])));
    assert_eq!(listed.map(|lines| lines.matches("aborted: producer 7 ").count()).sum::<usize>(), 1000);

    // After a crash the index of the last segment may lack them.
    drop(open(data.path(), IoMode::Mapped));
    let lines = text(&idemlog(&["inspect", &path]));
    assert!(lines.contains(&format!("1,000; `idemlog inspect --json {path}` lists them\n")), "{lines}");
}

/// A line for each producer, of which there may be a million, buried what an opening would come to.
#[test]
fn inspect_counts_producers_and_leaves_the_list_to_producers() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    for id in 0..1000 {
        let batch = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(0));
        let batch = if id < 3 { batch.transactional() } else { batch };
        log.append(&batch.record("k", "v").build().unwrap()).unwrap();
    }
    dir.close().unwrap();
    let partition = log.directory().to_str().unwrap();
    let lines = text(&idemlog(&["inspect", partition]));
    let expected = format!(
        "producers: 1,000, with an open transaction: 3; `idemlog producers {partition}` lists them\n"
    );
    assert!(lines.ends_with(&expected) && !lines.contains("producer 7 "), "{lines}");
    assert_eq!(text(&idemlog(&["producers", partition])).lines().count(), 1000);
    let json: Value = serde_json::from_str(&text(&idemlog(&["inspect", "--json", partition]))).unwrap();
    assert_eq!((&json["producerCount"], &json["openTransactions"]), (&1000.into(), &3.into()));
    assert_eq!(json["producers"].as_array().unwrap().len(), 1000);
}

/// Whoever wanted to find a bad sector before it was needed had to stop the broker for the hours that `verify` takes.
#[test]
fn what_is_durable_is_verified_while_the_directory_is_open() {
    let (data, partition) = closed_in_segments();
    let dir = open(data.path(), IoMode::Mapped);
    let log = dir.partition("orders", 0).unwrap();
    log.append(&batch(7, 0, 200, 10)).unwrap();
    let paths = [data.path().to_str().unwrap(), partition.to_str().unwrap()];
    for path in paths {
        assert_eq!(idemlog(&["verify", path]).status.code(), Some(2));
        let sound = idemlog(&["verify", "--sealed", path]);
        assert_eq!((sound.status.code(), told(&sound)), (Some(0), String::new()), "{sound:?}");
        let expected = format!("{}: looked at below offset 200\nsound: 20 batches", partition.display());
        assert!(text(&sound).starts_with(&expected), "{sound:?}");
    }
    change(&segment(&partition, 40), |bytes| bytes[1500] ^= 1);
    let damaged = idemlog(&["verify", "--sealed", "--json", paths[1], paths[1]]);
    assert_eq!(damaged.status.code(), Some(1), "{damaged:?}");
    let found: Value = serde_json::from_str(&text(&damaged)).unwrap();
    assert_eq!((&found["partitions"][0]["lookedBelow"], &found["batches"]), (&200.into(), &40.into()));
    assert_eq!(found["partitions"][0]["findings"][0]["kind"], "crc");
    assert!(log.append(&batch(7, 0, 210, 10)).is_ok());
}

/// The end of what is durable is missing, in the segment that is appended to.
#[test]
fn a_hole_below_the_recovery_point_is_found_while_the_directory_is_open() {
    let (data, partition) = closed_in_segments();
    let _dir = open(data.path(), IoMode::Write);
    change(&segment(&partition, 160), |bytes| {
        let end = bytes.len();
        bytes[end - 900..].fill(0);
    });
    let output = idemlog(&["verify", "--sealed", partition.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// A scrubbing that cries wolf is turned off.
#[test]
fn rolls_truncations_and_deletions_beside_a_scrubbing_are_no_findings() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("orders", 0).unwrap();
        let is_over = AtomicBool::new(false);
        let looks = thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0.. {
                    if is_over.load(Relaxed) {
                        break;
                    }
                    for _ in 0..30 {
                        log.append(&plain(&format!("{round} {}", "x".repeat(300)))).unwrap();
                    }
                    let end = log.log_end_offset().0;
                    log.truncate_to(Offset(end - round % 25)).unwrap();
                    log.delete_records(Offset(log.log_end_offset().0 - 20)).unwrap();
                    thread::sleep(Duration::from_millis(2));
                    if round % 10 == 9 {
                        dir.delete_partition("orders", 1).ok();
                        dir.partition("orders", 1).unwrap().append(&plain("x")).unwrap();
                    }
                }
            });
            let begun = Instant::now();
            let mut looks = 0;
            while begun.elapsed() < Duration::from_secs(2) {
                let report = verify(data.path(), &VerifyOptions::default().sealed(true).allow_gaps(true));
                let report = report.unwrap();
                if report.has_errors() {
                    is_over.store(true, Relaxed);
                    panic!("{mode:?}: {:?}", report.problems);
                }
                looks += 1;
            }
            is_over.store(true, Relaxed);
            looks
        });
        assert!(looks > 10, "{looks}");
    }
}

/// `inspect` told somebody who watched how large the log is, of which an opening reads a part, and not how far it was.
#[test]
fn who_watches_sees_how_far_it_is_and_a_file_does_not() {
    let (data, partition) = closed_in_segments();
    let (directory, partition) = (data.path().to_str().unwrap(), partition.to_str().unwrap());
    let cases = [
        (["inspect", directory], "looking at partitions ["),
        (["inspect", partition], " at the most, "),
        (["verify", directory], "verifying ["),
    ];
    for (arguments, expected) in cases {
        let piped = idemlog(&arguments);
        assert_eq!(told(&piped), "", "{arguments:?}");
        let line = format!("{} {}", env!("CARGO_BIN_EXE_idemlog"), arguments.join(" "));
        // Without this program there is no terminal.
        let Ok(output) = Command::new("script").args(["-qec", &line, "/dev/null"]).output() else { return };
        assert!(text(&output).contains(expected), "{arguments:?}: {output:?}");
        assert!(!text(&output).contains(" of 0"), "{arguments:?}: {output:?}");
    }
}

/// Who went back to an older program was told that files were damaged, and to move them away.
#[test]
fn a_file_of_a_newer_program_is_called_that_and_not_damaged() {
    let newer_text = |path: &Path| {
        change(path, |bytes| {
            let rest = bytes.iter().position(|&byte| byte == b'\n').unwrap();
            bytes.splice(..rest, *b"1");
        });
    };
    // Behind the magic of a file of ours, at the beginning of Kafka's.
    let newer_own = |path: &Path| change(path, |bytes| bytes[8..10].copy_from_slice(&2_i16.to_be_bytes()));
    let newer_snapshot = |path: &Path| change(path, |bytes| bytes[..2].copy_from_slice(&2_i16.to_be_bytes()));
    let files = [
        ("recovery-point-offset-checkpoint", &newer_text as &dyn Fn(&Path)),
        ("log-start-offset-checkpoint", &newer_text),
        ("idemlog-producer-ids", &newer_own),
        ("orders-0/leader-epoch-checkpoint", &newer_text),
        ("orders-0/00000000000000000200.snapshot", &newer_snapshot),
    ];
    for (name, make_newer) in files {
        let (data, _) = closed_in_segments();
        let dir = open(data.path(), IoMode::Mapped);
        dir.new_producer_id().unwrap();
        dir.partition("orders", 0).unwrap().set_leader_epoch(idemlog::LeaderEpoch(1));
        dir.close().unwrap();
        drop(dir);
        let file = data.path().join(name);
        make_newer(&file);
        let found = idemlog(&["verify", data.path().to_str().unwrap()]);
        assert_eq!(found.status.code(), Some(1), "{name}: {found:?}");
        assert!(text(&found).contains("a newer idemlog wrote it"), "{name}: {found:?}");
        let expected = format!("{} is as the newer program left it: go on with that one", file.display());
        assert!(told(&found).contains(&expected), "{name}: {found:?}");
    }
}
