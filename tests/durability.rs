//! What is acknowledged and what readers see, as the host asks for another durability or never waits.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/gate.rs"]
mod gate;
#[path = "common/watched.rs"]
mod watched;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use common::{MODES, TestClock, batch, open, options, small, stored};
use gate::GatedDisk;
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{
    AppendOptions, Disk, Durability, Error, IoMode, Log, LogDir, Offset, Pending, ProducerPolicy,
    RejectionReason,
};
use watched::WatchedDisk;

fn become_as_durable_as(log: &Log, durability: Durability) {
    log.set_options((*log.options()).clone().durability(durability)).unwrap();
}

/// The high watermark fell to the durable offset, and a consumer that had read above it was told that its offset is out of
/// range: Kafka's then begin anew where they are configured to, and a log that nobody appends to was never synced.
#[test]
fn a_log_that_becomes_synced_takes_nothing_back_from_its_readers() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        become_as_durable_as(&log, Durability::Buffered);
        log.append(&batch(1, 0, 0, 3)).unwrap();
        become_as_durable_as(&log, Durability::Synced);
        assert_eq!((log.high_watermark(), log.durable_offset()), (Offset(3), Offset(0)));
        assert!(log.read(Offset(3), 100).unwrap().bytes.is_empty());

        let pending = log.submit(&[batch(1, 0, 3, 1)], AppendOptions::default()).unwrap();
        assert_eq!(log.high_watermark(), Offset(3), "what comes now waits for the disk");
        pending.wait().unwrap();
        assert_eq!(log.high_watermark(), Offset(4));

        log.truncate_to(Offset(0)).unwrap();
        drop(log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap());
        assert_eq!(log.high_watermark(), Offset(0), "what was seen is gone");
    }
}

/// Only a batch that had to become durable asked for a sync. A backlog of others was never synced, and a host that never waits was
/// refused for ever, its workers idle.
#[test]
fn a_refusal_for_a_full_backlog_has_the_workers_empty_it() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let logs = options(mode).log(small(mode).max_pending(2)).background_threads(2);
        let dir = LogDir::open(data.path(), logs).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let buffered = AppendOptions::default().durability(Durability::Buffered);
        let submit = |at| common::try_submit(&log, &batch(1, 0, at, 1), buffered);
        drop((submit(0).unwrap(), submit(1).unwrap()));
        assert!(matches!(submit(2), Err(Error::WouldBlock { bound: "max_pending" })));
        assert!(log.wait_for(Offset(0), Duration::from_secs(30)), "nobody synced");
        drop(submit(2).unwrap());
    }
}

/// A host that maps `acks=1` to a buffered append had nothing to wait for, and nobody synced: consumers saw nothing until 64 MiB
/// were there.
#[test]
fn what_is_buffered_in_a_synced_log_is_seen_without_anybody_waiting_for_it() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let buffered = AppendOptions::default().durability(Durability::Buffered);
        drop(log.submit(&[batch(1, 0, 0, 1)], buffered).unwrap());
        assert!(log.wait_for(Offset(0), Duration::from_secs(30)), "nobody synced");
    }
}

/// A worker that was asked to sync a partition while another one did waited for that one: a partition that is synced all the time
/// kept two of them, and no other partition was synced.
#[test]
fn a_partition_that_is_being_synced_keeps_one_worker_and_no_more() {
    for mode in MODES {
        let gated = GatedDisk::new(&SimDisk::new(mode));
        let options = options(mode).disk(gated.clone()).background_threads(2);
        let dir = LogDir::open(Path::new("/data"), options).unwrap();
        let (slow, other) = (dir.partition("slow", 0).unwrap(), dir.partition("other", 0).unwrap());
        let submit = |log: &Log, at| log.submit(&[batch(1, 0, at, 1)], AppendOptions::default()).unwrap();
        let gate = gated.close_before_for("00000000000000000000.log", Duration::from_secs(60));
        let first = submit(&slow, 0);
        gate.wait();
        // Another worker comes to it, and must not stay.
        let second = submit(&slow, 1);
        std::thread::sleep(Duration::from_millis(50));
        let pending = submit(&other, 0);
        assert!(other.wait_for(Offset(0), Duration::from_secs(30)), "{mode:?}: no worker is left");
        assert!(pending.is_durable() && !first.is_durable());
        gate.open();
        assert!(
            slow.wait_for(Offset(1), Duration::from_secs(30)),
            "{mode:?}: what came meanwhile is forgotten"
        );
        assert!(first.is_durable() && second.is_durable());
        dir.close().unwrap();
    }
}

/// The writer had gone with the write that failed, and the close cut nothing behind the log's end: the next opening of a directory
/// that was closed well took batches that had been refused.
#[test]
fn nothing_of_a_write_that_failed_halfway_comes_back_behind_a_close() {
    let disk = SimDisk::new(IoMode::Write);
    let open = || {
        let dir = LogDir::open("/data", options(IoMode::Write).disk(Arc::new(disk.clone()))).unwrap();
        (dir.partition("t", 0).unwrap(), dir)
    };
    let (log, dir) = open();
    log.append(&batch(9, 0, 0, 1)).unwrap();
    let refused: Vec<_> = (0..4).map(|at| batch(1, 0, at, 1)).collect();
    disk.inject(Fault::nth(Operation::Write, 1).errno(Fault::ENOSPC).halfway());
    log.append_all(&refused).unwrap_err();
    let before = stored(&log);
    dir.close().unwrap();
    let (log, _dir) = open();
    assert_eq!(stored(&log), before);
    assert_eq!(log.recovery().cut, None);
}

/// A file system may take the first batches of a write before it says that there is no room. They stayed behind the log's end,
/// and when another batch, as long as the first, had been written over it, an opening found the others behind: batches that
/// were refused, without the one that they went on from.
#[test]
fn nothing_of_a_write_that_failed_halfway_comes_back_behind_what_is_written_in_its_place() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let open = || {
            let dir = LogDir::open("/data", options(mode).disk(Arc::new(disk.clone()))).unwrap();
            (dir.partition("t", 0).unwrap(), dir)
        };
        let (log, dir) = open();
        log.append(&batch(9, 0, 0, 1)).unwrap();
        let refused: Vec<_> = (0..4).map(|at| batch(1, 0, at, 1)).collect();
        disk.inject(Fault::nth(Operation::Write, 1).errno(Fault::ENOSPC).halfway());
        let answer = log.append_all(&refused);
        disk.clear_faults();
        assert_eq!(answer.is_err(), mode == IoMode::Write, "{answer:?}");
        let in_its_place = batch(2, 0, 0, 1);
        assert_eq!(in_its_place.bytes().len(), refused[0].bytes().len());
        log.append(&in_its_place).unwrap();
        let before = stored(&log);

        drop((dir, log));
        let (log, _dir) = open();
        assert_eq!(stored(&log), before, "{mode:?}");
        log.append_all(&refused).unwrap();
        assert_eq!(log.log_end_offset(), Offset(6));
    }
}

#[test]
fn readers_see_only_what_is_durable_unless_the_log_is_buffered() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let pending = log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap();
        assert_eq!((log.high_watermark(), log.log_end_offset()), (Offset(0), Offset(3)));
        assert_eq!(log.reader(Offset(0)).unwrap().count(), 0);
        assert_eq!(log.reader(Offset(0)).unwrap().to_log_end().count(), 1);
        assert!(!pending.is_durable());
        assert!(!log.wait_for(Offset(0), Duration::from_millis(1)));
        pending.wait().unwrap();
        assert!(log.wait_for(Offset(0), Duration::from_secs(10)));
        assert_eq!(log.reader(Offset(0)).unwrap().count(), 1);

        let buffered = LogDir::open(
            data.path().join("buffered"),
            options(mode).log(small(mode).durability(Durability::Buffered)),
        )
        .unwrap();
        let log = buffered.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 3)).unwrap();
        assert_eq!((log.high_watermark(), log.durable_offset()), (Offset(3), Offset(0)));
    }
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The next append that woke them could have been hours away, and a duplicate wakes nobody.
#[test]
fn readers_are_woken_when_the_log_becomes_buffered() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        drop(log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut readable = std::pin::pin!(log.readable(Offset(0)));
        assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        log.set_options((*log.options()).clone().durability(Durability::Buffered)).unwrap();
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
    }
}

#[test]
fn a_duplicate_is_acknowledged_only_when_its_original_is_durable() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let original = log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap();
        let again = log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap();
        assert!(again.outcomes()[0].is_duplicate() && !again.is_durable());
        again.wait().unwrap();
        assert!(original.is_durable());
    }
}

#[test]
fn a_full_backlog_makes_submit_wait_and_try_submit_say_so() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).log(small(mode).max_pending(2))).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let submit = |at| common::try_submit(&log, &batch(1, 0, at, 1), AppendOptions::default());
        drop((submit(0).unwrap(), submit(1).unwrap()));
        assert!(matches!(submit(2), Err(Error::WouldBlock { bound: "max_pending" })));
        drop(log.submit(&[batch(1, 0, 2, 1)], AppendOptions::default()).unwrap());
        assert_eq!(log.durable_offset(), Offset(2), "it synced to get room");
    }
}

/// It made files, allocated and did chores like `submit`: an async host had to call it from a thread of its own, each time.
#[test]
fn try_submit_leaves_the_disk_to_others() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let logs = small(mode).snapshot_interval_bytes(10_000).durability(Durability::Buffered);
        let dir = LogDir::open("/data", options(mode).log(logs).disk(Arc::new(disk.clone()))).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let calls = || Operation::ALL.map(|operation| (operation, disk.calls(operation)));
        let mut refusals = 0;
        for at in 0..200 {
            let (batch, before) = ([batch(1, 0, at, 1)], calls());
            let tried = log.try_submit(&batch, AppendOptions::default());
            let mut expected = before;
            if tried.is_ok() && mode == IoMode::Write {
                expected[Operation::Write as usize].1 += 1;
            }
            assert_eq!(calls(), expected, "{mode:?} {at}");
            if let Err(error) = tried {
                assert!(matches!(error, Error::WouldBlock { bound: "room" }), "{error}");
                drop(log.submit(&batch, AppendOptions::default()).unwrap());
                refusals += 1;
            }
        }
        assert_eq!(log.log_end_offset(), Offset(200));
        assert!((2..100).contains(&refusals), "{refusals}");
    }
}

/// At a partition's budget of producers it forgot idle ones in the middle of the call, and wrote what else was due: snapshots,
/// indexes, with their syncs.
#[test]
fn try_submit_leaves_the_disk_to_others_also_where_it_is_refused() {
    for mode in MODES {
        let (disk, clock) = (SimDisk::new(mode), TestClock::at(1_000_000_000));
        let producers = ProducerPolicy::default().budget(2).eviction_min_idle_ms(i64::MAX).expiry_ms(1_000);
        let logs = small(mode).snapshot_interval_bytes(300).producers(producers);
        let options = options(mode).log(logs).disk(Arc::new(disk.clone())).clock(clock.clone());
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        log.append(&batch(1, 0, 0, 1)).unwrap();
        // Asks for a snapshot.
        drop(log.try_submit(&[batch(2, 0, 0, 3)], AppendOptions::default()).unwrap());
        let is_refused = |outcome: Result<Pending, Error>| matches!(outcome, Err(Error::Rejected(refused)) if refused.reason == RejectionReason::ProducerBudget);
        clock.advance(3_600_000);
        let calls = || Operation::ALL.map(|operation| disk.calls(operation));
        let before = calls();
        for _ in 0..3 {
            assert!(is_refused(log.try_submit(&[batch(9, 0, 0, 1)], AppendOptions::default())), "{mode:?}");
        }
        assert_eq!(calls(), before, "{mode:?}");
        assert!(is_refused(log.submit(&[batch(9, 0, 0, 1)], AppendOptions::default())), "{mode:?}");
        assert_ne!(calls(), before, "who may wait does what was asked for");
        drop(log.try_submit(&[batch(9, 0, 0, 1)], AppendOptions::default()).unwrap());
    }
}

#[test]
fn workers_make_the_room_that_try_submit_lacks() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).background_threads(1)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        for at in 0..200 {
            while let Err(error) = log.try_submit(&[batch(1, 0, at, 1)], AppendOptions::default()) {
                assert!(matches!(error, Error::WouldBlock { .. }), "{error}");
                assert!(Instant::now() < deadline, "{mode:?}: nobody makes room at {at}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(log.log_end_offset(), Offset(200));
    }
}

#[test]
fn a_future_without_a_syncer_says_so_and_with_one_resolves() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        let pending = log.submit(&[batch(1, 0, 0, 1)], AppendOptions::default()).unwrap();
        assert!(matches!(block_on(pending), Err(Error::NoSyncer)));
        dir.close().unwrap();

        let data = tempfile::tempdir().unwrap();
        let dir = LogDir::open(data.path(), options(mode).background_threads(2)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        for at in 0..100 {
            let pending = log.submit(&[batch(1, 0, at, 1)], AppendOptions::default()).unwrap();
            assert_eq!(block_on(pending).unwrap()[0].base_offset(), Offset(i64::from(at)));
            assert!(log.durable_offset() > Offset(i64::from(at)));
        }
        block_on(log.readable(Offset(50)));
        dir.close().unwrap();
    }
}

/// The smallest executor: parks the thread until woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park_timeout(Duration::from_secs(20)),
        }
    }
}

/// Whoever leads a sync cannot leave it: on a disk that hung no wait had an end, and no client got an answer in its time.
#[test]
fn a_wait_ends_at_its_deadline_also_while_the_disk_hangs() {
    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let options = options(IoMode::Write).disk(Arc::clone(&disk) as Arc<dyn Disk>).background_threads(1);
    let dir = LogDir::open("/data", options).unwrap();
    let log = dir.partition("t", 0).unwrap();
    log.append(&batch(1, 0, 0, 1)).unwrap();
    disk.hang(true);
    let submit = |sequence| log.submit(&[batch(1, 0, sequence, 1)], AppendOptions::default()).unwrap();
    let (pending, duplicate, replicated) = (submit(1), submit(1), submit(2).replicated());
    let began = Instant::now();
    assert!(!pending.wait_for(Duration::ZERO).unwrap() && !pending.wait_for(SHORT).unwrap());
    assert!(!duplicate.wait_for(SHORT).unwrap() && !replicated.wait(SHORT).unwrap());
    assert!(began.elapsed() >= 3 * SHORT && began.elapsed() < LONG);
    assert_eq!((disk.hung(), log.durable_offset()), (1, Offset(1)));
    disk.hang(false);
    assert!(pending.wait_for(LONG).unwrap() && duplicate.wait_for(LONG).unwrap());
    assert!(replicated.wait(LONG).unwrap());
    assert!(duplicate.wait().unwrap()[0].is_duplicate());
    assert_eq!(log.durable_offset(), Offset(3));
}

#[test]
fn a_wait_with_a_deadline_is_told_of_a_truncation_and_of_the_end() {
    let disk = WatchedDisk::new(&SimDisk::new(IoMode::Write));
    let options = options(IoMode::Write).disk(Arc::clone(&disk) as Arc<dyn Disk>).background_threads(1);
    let dir = LogDir::open("/data", options).unwrap();
    let log = dir.partition("t", 0).unwrap();
    let lost = log.submit(&[batch(1, 0, 0, 1)], AppendOptions::default()).unwrap();
    log.truncate_to(Offset(0)).unwrap();
    assert!(matches!(lost.wait_for(Duration::ZERO), Err(Error::Truncated)));
    disk.hang(true);
    let pending = log.submit(&[batch(1, 0, 0, 1)], AppendOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| pending.wait_for(Duration::from_secs(30)));
        let deletes = scope.spawn(|| dir.delete_partition("t", 0));
        std::thread::sleep(Duration::from_millis(20));
        disk.hang(false);
        assert!(deletes.join().unwrap().unwrap());
        // The sync may come first.
        assert!(matches!(waits.join().unwrap(), Err(Error::InDoubt) | Ok(true)));
    });
}

#[test]
fn a_wait_with_a_deadline_needs_somebody_who_syncs() {
    let dir =
        LogDir::open("/data", options(IoMode::Write).disk(Arc::new(SimDisk::new(IoMode::Write)))).unwrap();
    let log = dir.partition("t", 0).unwrap();
    let pending = log.submit(&[batch(1, 0, 0, 1)], AppendOptions::default()).unwrap();
    assert!(matches!(pending.wait_for(Duration::from_secs(30)), Err(Error::NoSyncer)));
    assert!(
        log.submit(&[batch(1, 0, 1, 1)], AppendOptions::default())
            .unwrap()
            .replicated()
            .wait(Duration::ZERO)
            .unwrap()
    );
    assert!(pending.wait_for(Duration::ZERO).unwrap(), "the other one's sync was its own, too");
}
