//! Files that are longer than what is in them: as a crash leaves them, or somebody who writes a length and no bytes.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use idemlog::repair::plan;
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{BatchBuilder, CorruptionKind, Durability, Error, IoMode, LogDir, LogDirOptions, Offset};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::alone::alone;
use crate::common::{MODES, batch, change, open, small};

fn partition(data: &Path) -> PathBuf {
    data.join("orders-0")
}

fn lengthen(path: &Path, len: u64) {
    let file: File = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

/// Lets the process, which has no other thread, take so much more memory. It dies of one byte more.
fn allow(bytes: u64) {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, pages * 4096 + bytes, hard).unwrap();
}

/// By one thread, which reads: a map costs no memory, but address space.
fn reading() -> LogDirOptions {
    LogDirOptions::default().recovery_threads(1).log(
        small(IoMode::Write).segment_bytes(1 << 30).max_batch_bytes(2 << 20).durability(Durability::Buffered),
    )
}

/// A length of a terabyte, which costs nothing to write, was believed: a process that reads its files died for want of memory, one
/// that maps them read for hours, and positions above 4 GiB were cut to 32 bits.
#[test]
fn a_segment_longer_than_any_can_be_is_refused_unread() {
    for mode in MODES {
        for name in ["00000000000000000000.log", "segment.prepared"] {
            for len in [1 << 31, 1 << 40] {
                let data = tempfile::tempdir().unwrap();
                let dir = open(data.path(), mode);
                dir.partition("orders", 0).unwrap().append(&batch(7, 0, 0, 2)).unwrap();
                dir.close().unwrap();
                drop(dir);
                let path = partition(data.path()).join(name);
                lengthen(&path, len);
                let expected = CorruptionKind::TooLong { limit: (1 << 31) - 1, got: len };
                let is_refused = |error: Error| matches!(error, Error::Corrupt(found) if found.path == path && found.kind == expected);
                assert!(
                    is_refused(open(data.path(), mode).partition("orders", 0).unwrap_err()),
                    "{mode:?} {name}"
                );
                assert!(is_refused(plan(partition(data.path())).unwrap_err()), "{name}");
                let found = verify(data.path(), &VerifyOptions::default()).unwrap().problems;
                assert!(found.len() == 1 && found[0].path == path, "{found:?}");
                assert_eq!(found[0].kind, expected.clone().into());
            }
        }
    }
}

/// All of a file behind the last batch was read into memory, which may be as much as a segment has allocated ahead: a process with
/// little memory died at each start. So it was with what was kept aside.
#[test]
fn what_lies_behind_the_last_batch_takes_little_memory() {
    alone("lengths::what_lies_behind_the_last_batch_takes_little_memory", || {
        let data = tempfile::tempdir().unwrap();
        let value = vec![7; 1 << 20];
        let log = LogDir::open(data.path(), reading()).unwrap().partition("orders", 0).unwrap();
        for _ in 0..48 {
            log.append(&BatchBuilder::new().record("k", &value).build().unwrap()).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let path = partition(data.path()).join("00000000000000000000.log");
        let len = path.metadata().unwrap().len();
        change(&path, |bytes| bytes[100] ^= 1);
        lengthen(&path, 128 << 20);
        allow(24 << 20);

        verify(data.path(), &VerifyOptions::default()).unwrap();
        plan(partition(data.path())).unwrap();
        for _ in 0..2 {
            // The second one finds what the first had made before it came to an end.
            std::fs::write(data.path().join("recovery-point-offset-checkpoint"), "0\n0\n").unwrap();
            let log = LogDir::open(data.path(), reading()).unwrap().partition("orders", 0).unwrap();
            assert_eq!(log.log_end_offset(), Offset(0));
            if let Some(cut) = &log.recovery().cut {
                assert_eq!((cut.batches, cut.kept.len()), (47, 1));
                assert!(cut.kept[0].metadata().unwrap().len() <= len);
                std::fs::copy(&cut.kept[0], &path).unwrap();
            }
        }
    });
}

/// A snapshot was read whole, up to 8 GiB, before its first bytes were looked at.
#[test]
fn a_snapshot_gets_memory_for_the_bytes_it_has_not_for_its_length() {
    alone("lengths::a_snapshot_gets_memory_for_the_bytes_it_has_not_for_its_length", || {
        let snapshot = |data: &TempDir| partition(data.path()).join("00000000000000000002.snapshot");
        let made = [
            |path: &Path| lengthen(path, 256 << 20),
            |path: &Path| {
                std::fs::write(path, b"").unwrap();
                lengthen(path, 8 << 30);
            },
        ];
        let before = getrlimit(Resource::RLIMIT_AS).unwrap();
        for make in made {
            let data = tempfile::tempdir().unwrap();
            let dir = LogDir::open(data.path(), reading()).unwrap();
            dir.partition("orders", 0).unwrap().append(&batch(7, 0, 0, 2)).unwrap();
            dir.close().unwrap();
            drop(dir);
            make(&snapshot(&data));
            allow(64 << 20);
            let found = verify(data.path(), &VerifyOptions::default()).unwrap().problems;
            assert!(found.iter().any(|problem| problem.path == snapshot(&data)), "{found:?}");
            let log = LogDir::open(data.path(), reading()).unwrap().partition("orders", 0).unwrap();
            assert_eq!(log.recovery().snapshots_skipped.len(), 1);
            assert!(log.append(&batch(7, 0, 0, 2)).unwrap().is_duplicate());
            setrlimit(Resource::RLIMIT_AS, before.0, before.1).unwrap();
        }
    });
}
