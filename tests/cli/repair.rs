//! `repair`.

use idemlog::IoMode;

use crate::common::{batch, open};
use crate::{closed, contents, damaged, idemlog, text, with_gap};

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
