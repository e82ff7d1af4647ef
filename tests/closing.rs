//! The end of a directory: what it leaves to the next opening, whatever went wrong in it, and what they are answered who close it
//! once more.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/gate.rs"]
mod gate;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::{MODES, options, plain};
use gate::GatedDisk;
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    AppendOptions, Disk, Error, IoMode, LogDir, LogDirOptions, LogOptions, Offset, Progress, TopicPartition,
};
use parking_lot::Mutex;

/// Longer than anything takes that does not hang.
const SOON: Duration = Duration::from_secs(30);

fn on(disk: &SimDisk, mode: IoMode) -> LogDirOptions {
    options(mode).disk(Arc::new(disk.clone()))
}

fn is_marked_clean(disk: &SimDisk) -> bool {
    disk.exists(Path::new("/data/.kafka_cleanshutdown")).unwrap()
}

/// One poisoned partition kept the recovery points of all others out of the checkpoint files, and the next opening read
/// each of them from where the last checkpoint had been.
#[test]
fn what_was_closed_well_is_told_whatever_became_of_the_others() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        let [bad, well] = ["bad", "well"].map(|topic| dir.partition(topic, 0).unwrap());
        well.append(&plain("stored")).unwrap();
        disk.inject(Fault::nth(Operation::Sync, 1).on("bad-0/"));
        bad.append(&plain("lost")).unwrap_err();
        dir.close().unwrap_err();
        assert!(!is_marked_clean(&disk));
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        let report = dir.partition("well", 0).unwrap().recovery().clone();
        assert_eq!(report.recovery_point, Offset(1), "{mode:?}");
    }
}

/// The second of two who closed, as a signal handler beside the main thread, was told at once that all is well, and ended
/// the process in the middle of the first one's closing.
#[test]
fn who_closes_while_another_does_waits_for_what_it_comes_to() {
    let disk = SimDisk::new(IoMode::Mapped);
    let gated = GatedDisk::new(&disk);
    let dir = LogDir::open("/data", options(IoMode::Mapped).disk(gated.clone())).unwrap();
    dir.partition("t", 0).unwrap().append(&plain("stored")).unwrap();
    let gate = gated.close_before_for(".kafka_cleanshutdown.tmp", SOON);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| dir.close());
        gate.wait();
        let second = scope.spawn(|| dir.close().map(|()| is_marked_clean(&disk)));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!second.is_finished());
        gate.open();
        first.join().unwrap().unwrap();
        assert!(second.join().unwrap().unwrap(), "it is closed when the second returns");
    });
}

/// A closing that failed was Ok when it was called once more.
#[test]
fn a_closing_that_failed_is_answered_the_same_again() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode)).unwrap();
        dir.partition("t", 0).unwrap().append(&plain("stored")).unwrap();
        disk.inject(Fault::nth(Operation::Create, 1).on("recovery-point-offset-checkpoint"));
        let answers = [(); 2].map(|()| dir.close().unwrap_err().to_string());
        assert_eq!(answers[0], answers[1], "{mode:?}");
    }
}

/// Closes the directory where it is woken.
struct Closes(LogDir, Mutex<Sender<idemlog::Result<()>>>);

impl Wake for Closes {
    fn wake(self: Arc<Self>) {
        let closed = self.0.close();
        let _ = self.1.lock().send(closed);
    }
}

/// It was told that the directory is closed, which it was not; and it cannot wait for who waits for it.
#[test]
fn a_waker_in_the_middle_of_a_closing_is_told_that_it_is_one() {
    let (done, is_done) = channel();
    let (woken, is_woken) = channel();
    std::thread::spawn(move || {
        let dir = LogDir::open("/data", on(&SimDisk::new(IoMode::Mapped), IoMode::Mapped)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let waker = Waker::from(Arc::new(Closes(dir.clone(), Mutex::new(woken))));
        let mut pending = Box::pin(log.submit(&[plain("waits")], AppendOptions::default()).unwrap());
        let _ = pending.as_mut().poll(&mut Context::from_waker(&waker));
        dir.close().unwrap();
        done.send(dir.close()).unwrap();
    });
    assert!(matches!(is_woken.recv_timeout(SOON).unwrap(), Err(Error::Closing)));
    is_done.recv_timeout(SOON).unwrap().unwrap();
}

/// A disk of the host's that panicked in the middle kept the directory's lock, and its background threads, until the process ended.
#[test]
fn a_disk_that_panics_in_a_closing_keeps_neither_the_lock_nor_the_other_partitions() {
    let files = ["bad-0/", "recovery-point-offset-checkpoint", ".kafka_cleanshutdown"];
    for (mode, file) in MODES.into_iter().flat_map(|mode| files.map(|file| (mode, file))) {
        let disk = SimDisk::new(mode);
        let dir = LogDir::open("/data", on(&disk, mode).background_threads(2)).unwrap();
        let [bad, well] = ["bad", "well"].map(|topic| dir.partition(topic, 0).unwrap());
        for log in [&bad, &well] {
            log.append(&plain("stored")).unwrap();
        }
        disk.inject(Fault::nth(Operation::Create, 1).on(file).panics());
        let closed = dir.close();
        assert!(matches!(closed, Err(Error::Io(_) | Error::Poisoned(_))), "{mode:?} {file}: {closed:?}");
        assert!(!is_marked_clean(&disk), "{mode:?} {file}");
        for log in [bad, well] {
            assert!(matches!(log.append(&plain("no")), Err(Error::Closed)), "{mode:?} {file}");
        }
        LogDir::open("/data", on(&disk, mode)).unwrap().close().unwrap();
    }
}

/// An opening of many partitions said nothing for minutes, and a supervisor took the process for one that hangs.
#[test]
fn a_host_is_told_of_each_partition_while_a_directory_opens_and_closes() {
    let disk = SimDisk::new(IoMode::Mapped);
    let dir = LogDir::open("/data", on(&disk, IoMode::Mapped)).unwrap();
    for partition in 0..3 {
        dir.partition("t", partition).unwrap().append(&plain("stored")).unwrap();
    }
    drop(dir);

    let told = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&told);
    let log_for = |partition: &TopicPartition| {
        LogOptions::default().segment_bytes(if partition.partition() == 1 { 0 } else { 1 << 20 })
    };
    let options =
        on(&disk, IoMode::Mapped).recovery_threads(1).log_for(log_for).on_progress(move |progress| {
            keep.lock().push(match progress {
                Progress::Opening { partition } => format!("opening {partition}"),
                Progress::Opened { partition, bytes_read, done, of, .. } => {
                    assert!(*bytes_read > 0);
                    format!("{done} of {of}: {partition}")
                }
                Progress::Failed { partition, done, of, .. } => format!("{done} of {of}: not {partition}"),
                Progress::Closed { partition, done, of } => format!("{done} of {of} closed: {partition}"),
                other => format!("{other:?}"),
            });
            panic_if(keep.lock().last().is_some_and(|last| last.starts_with("2 of 2 closed")));
        });
    let dir = LogDir::open("/data", options).unwrap();
    assert_eq!(
        std::mem::take(&mut *told.lock()),
        ["opening t-0", "1 of 3: t-0", "opening t-1", "2 of 3: not t-1", "opening t-2", "3 of 3: t-2"]
    );
    dir.close().unwrap();
    assert_eq!(*told.lock(), ["1 of 2 closed: t-0", "2 of 2 closed: t-2"]);
}

fn panic_if(told: bool) {
    assert!(!told, "as a host's function may");
}
