//! A process that may open no more files, or map no more memory: an error, and on as soon as it may again.

use std::fs::File;
use std::path::Path;

use idemlog::{Error, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset, Timestamp};
use memmap2::{Mmap, MmapMut};
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::alone::{alone, skip};
use crate::common::{MODES, plain, small};
use crate::history::History;

/// Lets the process have so many descriptors.
fn allow_descriptors(count: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, count, hard).unwrap();
}

/// Takes every descriptor that the process may still have.
fn descriptors() -> Vec<File> {
    allow_descriptors(64);
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Takes every area of memory that the kernel still gives to the process. Every second one is read-only: two of a kind
/// would become one.
fn map_areas() -> (Vec<MmapMut>, Vec<Mmap>) {
    let pair = || Some((MmapMut::map_anon(4096).ok()?, MmapMut::map_anon(4096).ok()?.make_read_only().ok()?));
    std::iter::from_fn(pair).unzip()
}

/// Whether an error is the operating system's `errno`, with the file or directory that it is about.
fn is(error: &Error, errno: Errno, dir: &LogDir) -> bool {
    let is_about = |path: &Path| path.starts_with(dir.path()) || dir.path().starts_with(path);
    matches!(error, Error::Io(io) if io.source.raw_os_error() == Some(errno as i32) && is_about(&io.path))
}

fn open(data: &tempfile::TempDir, log: LogOptions) -> (LogDir, Log, History) {
    open_with(data, LogDirOptions::default().log(log).max_open_segments(1))
}

fn open_with(data: &tempfile::TempDir, options: LogDirOptions) -> (LogDir, Log, History) {
    let dir = LogDir::open(data.path(), options).unwrap();
    let log = dir.partition("orders", 0).unwrap();
    let mut history = History::default();
    history.write(&log, 20);
    (dir, log, history)
}

/// Each roll looked into the segment before the last one, and what it opened there stayed open beside the budget: in write
/// mode a log with more segments than descriptors came to its end. An opening after a crash did the same.
#[test]
fn a_log_has_more_segments_than_the_process_may_open_files() {
    alone("limits::a_log_has_more_segments_than_the_process_may_open_files", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            allow_descriptors(40);
            let (dir, log, mut history) = open(&data, small(mode));
            history.write(&log, 300);
            let metrics = log.metrics();
            assert!(metrics.segments > 60 && metrics.maps <= 3, "{mode:?}: {metrics:?}");
            history.check(&log);
            log.offset_for_timestamp(Timestamp(i64::MAX)).unwrap();
            let path = dir.path().to_owned();
            drop((dir, log));
            // As if none of it had been known to be durable.
            std::fs::remove_file(path.join("recovery-point-offset-checkpoint")).unwrap();
            let options = LogDirOptions::default().log(small(mode)).max_open_segments(1);
            history.check_reopened(&LogDir::open(&path, options).unwrap());
        }
    });
}

/// Who only reads a directory has a descriptor for each segment, and the last one of every partition stayed open beside the
/// budget.
#[test]
fn a_directory_that_is_only_read_has_more_partitions_than_the_process_may_open_files() {
    alone(
        "limits::a_directory_that_is_only_read_has_more_partitions_than_the_process_may_open_files",
        || {
            const PARTITIONS: i32 = 500;
            for is_clean in [true, false] {
                let data = tempfile::tempdir().unwrap();
                let dir = LogDir::open(data.path(), LogDirOptions::default()).unwrap();
                let logs: Vec<Log> =
                    (0..PARTITIONS).map(|number| dir.partition("t", number).unwrap()).collect();
                logs.iter().for_each(|log| assert!(!log.append(&plain("a batch")).unwrap().is_duplicate()));
                if is_clean {
                    dir.close().unwrap();
                }
                drop((dir, logs));
                allow_descriptors(400);
                let dir = LogDir::open(data.path(), LogDirOptions::default().read_only(true)).unwrap();
                for number in 0..PARTITIONS {
                    let log = dir.partition("t", number).unwrap();
                    assert_eq!(log.reader(Offset(0)).unwrap().map(Result::unwrap).count(), 1);
                }
                allow_descriptors(4_000);
            }
        },
    );
}

/// Everything is there, the log goes on, and after a restart, too.
fn assert_goes_on(data: &tempfile::TempDir, dir: &LogDir, log: &Log, mut history: History, mode: IoMode) {
    history.check(log);
    history.write(log, 20);
    log.roll().unwrap();
    dir.close().unwrap();
    let options = LogDirOptions::default().log(small(mode)).max_open_segments(1);
    history.check_reopened(&LogDir::open(data.path(), options).unwrap());
}

#[test]
fn a_process_without_descriptors_gets_an_error_and_goes_on_when_it_has_some() {
    alone("limits::a_process_without_descriptors_gets_an_error_and_goes_on_when_it_has_some", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let (dir, log, mut history) = open(&data, small(mode));
            let taken = descriptors();
            let is_expected = |error: &Error| is(error, Errno::EMFILE, &dir);
            let error = history.append_until_error(&log, 100);
            assert!(is_expected(&error), "{mode:?}: {error:?}");
            let others: [(&str, Option<Error>); 6] = [
                ("roll", log.roll().err()),
                ("partition", dir.partition("another", 0).err()),
                ("producer id", dir.new_producer_id().err()),
                ("named producer", dir.producer("a name").err()),
                ("read", log.reader(Offset(0)).unwrap().find_map(Result::err)),
                ("delete records", log.delete_records(Offset(100)).err()),
            ];
            history.deleted_below(log.log_start_offset());
            for (name, error) in &others {
                assert!(error.as_ref().is_some_and(is_expected), "{mode:?} {name}: {error:?}");
            }
            drop(taken);
            assert_goes_on(&data, &dir, &log, history, mode);
        }
    });
}

#[test]
fn the_last_descriptors_are_used_up_anywhere_without_poisoning_the_log() {
    alone("limits::the_last_descriptors_are_used_up_anywhere_without_poisoning_the_log", || {
        for (mode, spare) in MODES.into_iter().flat_map(|mode| [1, 2, 3].map(|spare| (mode, spare))) {
            let data = tempfile::tempdir().unwrap();
            // No segment gives its descriptor back.
            let (dir, log, mut history) = open_with(&data, LogDirOptions::default().log(small(mode)));
            let mut taken = descriptors();
            taken.truncate(taken.len() - spare);
            for _ in 0..5 {
                let appended = history.append(&log);
                let rolled = log.roll();
                for error in [appended.err(), rolled.err()].into_iter().flatten() {
                    assert!(is(&error, Errno::EMFILE, &dir), "{mode:?} {spare}: {error:?}");
                }
            }
            drop(taken);
            assert_goes_on(&data, &dir, &log, history, mode);
        }
    });
}

#[test]
fn a_process_without_descriptors_cannot_open_a_directory_and_says_why() {
    alone("limits::a_process_without_descriptors_cannot_open_a_directory_and_says_why", || {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let (dir, _, history) = open(&data, small(mode));
            dir.close().unwrap();
            let mut taken = descriptors();
            // With each descriptor more it gets a little further.
            loop {
                let options = LogDirOptions::default().log(small(mode)).recovery_threads(1);
                match LogDir::open(data.path(), options) {
                    Err(error) => assert!(is(&error, Errno::EMFILE, &dir), "{mode:?}: {error:?}"),
                    Ok(opened) => match opened.failed().first() {
                        Some((_, error)) => assert!(is(error, Errno::EMFILE, &dir), "{mode:?}: {error:?}"),
                        None => break,
                    },
                }
                taken.pop().expect("it opens when there are enough");
            }
            drop(taken);
            let options = LogDirOptions::default().log(small(mode)).max_open_segments(1);
            history.check_reopened(&LogDir::open(data.path(), options).unwrap());
        }
    });
}

#[test]
fn a_process_without_address_space_gets_an_error_and_goes_on_when_it_has_some() {
    alone("limits::a_process_without_address_space_gets_an_error_and_goes_on_when_it_has_some", || {
        let data = tempfile::tempdir().unwrap();
        let options = LogOptions::default().io_mode(Some(IoMode::Mapped)).segment_bytes(1 << 30);
        let (dir, log, mut history) = open(&data, options);
        let before = getrlimit(Resource::RLIMIT_AS).unwrap();
        // Enough for everything but the map of a segment.
        setrlimit(Resource::RLIMIT_AS, address_space() + (512 << 20), before.1).unwrap();
        let rolled = log.roll().and_then(|()| history.append(&log));
        let other = dir.partition("another", 0).unwrap();
        let appended = other.append(&plain("first"));
        for error in [rolled.unwrap_err(), appended.unwrap_err()] {
            assert!(is(&error, Errno::ENOMEM, &dir), "{error:?}");
        }
        history.check(&log);
        setrlimit(Resource::RLIMIT_AS, before.0, before.1).unwrap();
        other.append(&plain("first")).unwrap();
        assert_goes_on(&data, &dir, &log, history, IoMode::Mapped);
    });
}

/// The bytes of address space that this process takes up.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
fn a_process_without_map_areas_gets_an_error_and_goes_on_when_it_has_some() {
    let test = "limits::a_process_without_map_areas_gets_an_error_and_goes_on_when_it_has_some";
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    if most.trim().parse().is_ok_and(|most: u64| most > 1 << 18) {
        return skip(test, "a process may have too many map areas to use them up");
    }
    alone(test, || {
        let data = tempfile::tempdir().unwrap();
        let (dir, log, mut history) = open(&data, small(IoMode::Mapped));
        // What is given back for each new map would do for the next one.
        let held: Vec<_> = log.reader(Offset(0)).unwrap().map(Result::unwrap).collect();
        let taken = map_areas();
        let error = history.append_until_error(&log, 1000);
        drop((taken, held));
        assert!(is(&error, Errno::ENOMEM, &dir), "{error:?}");
        assert_goes_on(&data, &dir, &log, history, IoMode::Mapped);
    });
}
