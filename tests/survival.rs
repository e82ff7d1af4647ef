//! What survives what: each public operation, and after it, or in the middle of it, the process dies, the machine dies, a
//! sync fails, or the disk is full. The chapter of the manual with this name tells the same to a reader.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;
#[path = "common/gate.rs"]
mod gate;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use common::{MODES, batch, small, stored};
use gate::GatedDisk;
use idemlog::sim::{FailedSync, Fault, Oldest, Operation, SimDisk};
use idemlog::{
    AppendOptions, BatchBuilder, ControlRecord, Durability, Error, ExpiryClock, IoMode, LeaderEpoch, Log,
    LogDir, LogDirOptions, LogOptions, Offset, Origin, Pending, ProducerEpoch, ProducerId, ProducerPolicy,
    Result, Sequence, TopicId, TransactionVersion, VerificationGuard,
};

/// What the effect of an operation that returned `Ok` survives. Where it survives nothing, what shows is that it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Survives {
    Machine,
    Process,
    Nothing,
}
use Survives::{Machine, Nothing, Process};

/// An operation, and how its effect shows after an opening.
struct Case {
    name: &'static str,
    survives: Survives,
    /// Whether it takes batches out of the log.
    removes: bool,
    act: fn(&LogDir, &Log) -> Result<()>,
    shows: fn(&LogDir, &Log) -> bool,
}

const fn case(
    name: &'static str,
    survives: Survives,
    act: fn(&LogDir, &Log) -> Result<()>,
    shows: fn(&LogDir, &Log) -> bool,
) -> Case {
    Case { name, survives, removes: false, act, shows }
}

const fn removing(
    name: &'static str,
    act: fn(&LogDir, &Log) -> Result<()>,
    shows: fn(&LogDir, &Log) -> bool,
) -> Case {
    Case { removes: true, ..case(name, Machine, act, shows) }
}

/// The offset behind the batches that are there before.
const END: i64 = 40;

const CASES: [Case; 26] = [
    case("append", Machine, |_, log| append(log, Durability::Synced), |_, log| log.log_end_offset().0 > END),
    case(
        "append, buffered",
        Process,
        |_, log| append(log, Durability::Buffered),
        |_, log| log.log_end_offset().0 > END,
    ),
    case("submit", Process, |_, log| submit(log), |_, log| log.log_end_offset().0 > END),
    case(
        "submit, resolved",
        Machine,
        |_, log| log.submit(&[next()], AppendOptions::default())?.wait().map(drop),
        |_, log| log.log_end_offset().0 > END,
    ),
    case(
        "sync",
        Machine,
        |_, log| submit(log).and_then(|()| log.sync()),
        |_, log| log.log_end_offset().0 > END,
    ),
    case("roll", Machine, |_, log| log.roll(), |_, log| log.recovery().snapshot == Some(Offset(END))),
    case(
        "end_transaction",
        Machine,
        |_, log| end_transaction(log),
        |_, log| log.last_stable_offset().0 == END + 2,
    ),
    case(
        "submit_end_transaction",
        Process,
        |_, log| submit_end_transaction(log).map(drop),
        |_, log| log.last_stable_offset().0 == END + 2,
    ),
    case(
        "submit_end_transaction, resolved",
        Machine,
        |_, log| submit_end_transaction(log)?.wait().map(drop),
        |_, log| log.last_stable_offset().0 == END + 2,
    ),
    removing(
        "truncate_to",
        |_, log| log.truncate_to(Offset(20)).map(drop),
        |_, log| log.log_end_offset().0 == 20,
    ),
    removing(
        "truncate_fully",
        |_, log| log.truncate_fully(Offset(500)),
        |_, log| (log.log_start_offset().0, log.log_end_offset().0) == (500, 500),
    ),
    removing(
        "delete_records",
        |_, log| log.delete_records(Offset(30)).map(drop),
        |_, log| log.log_start_offset().0 == 30,
    ),
    removing("apply_retention", |_, log| retain(log), |_, log| log.log_start_offset().0 > 0),
    case(
        "set_options",
        Nothing,
        |_, log| log.set_options(small(IoMode::Write).io_mode(log.options().io_mode).max_batch_bytes(99)),
        |_, log| log.options().max_batch_bytes == 4096,
    ),
    case(
        "begin_verification",
        Nothing,
        |_, log| begin_verification(log, VERIFIED).map(drop),
        |_, log| is_taken_verified(log, VERIFIED + 1),
    ),
    removing(
        "set_high_watermark, and a checkpoint",
        |_, log| set_high_watermark(log, 20),
        |_, log| log.checkpointed_high_watermark() == Some(Offset(20)),
    ),
    case(
        "set_leader_epoch",
        Machine,
        |_, log| {
            log.set_leader_epoch(LeaderEpoch(5));
            append(log, Durability::Synced)
        },
        |_, log| log.leader_epoch() == LeaderEpoch(5),
    ),
    case(
        "partition, creating",
        Machine,
        |dir, _| dir.partition("new", 0).map(drop),
        |dir, _| dir.find("new", 0).unwrap().is_some(),
    ),
    case(
        "partition_of",
        Machine,
        |dir, _| dir.partition_of(TopicId([1; 16]), "t", 0).map(drop),
        |_, log| log.topic_id() == Some(TopicId([1; 16])),
    ),
    case(
        "delete_partition",
        Machine,
        |dir, _| dir.delete_partition("other", 0).map(drop),
        |dir, _| dir.find("other", 0).unwrap().is_none(),
    ),
    case(
        "new_producer_id",
        Machine,
        |dir, _| dir.new_producer_id().map(drop),
        |dir, _| dir.new_producer_id().unwrap() > ProducerId(0),
    ),
    case(
        "producer",
        Machine,
        |dir, _| dir.producer("name").map(drop),
        |dir, _| dir.producer("name").unwrap().epoch() == ProducerEpoch(1),
    ),
    case("import_producers", Machine, import, |dir, _| {
        dir.find("other", 0).unwrap().unwrap().producer(ProducerId(7)).is_some()
    }),
    case(
        "expire_producers, and a snapshot",
        Machine,
        |_, log| expire(log),
        |_, log| log.producer(ProducerId(7)).is_none(),
    ),
    case("reopen_partition", Machine, reopen, |_, log| log.log_end_offset().0 > END),
    case("close", Machine, |dir, _| dir.close(), |_, log| log.recovery().marked_clean),
];

fn next() -> idemlog::Batch {
    batch(7, 0, END as i32, 2)
}

fn append(log: &Log, durability: Durability) -> Result<()> {
    log.submit(&[next()], AppendOptions::default().durability(durability))?.wait().map(drop)
}

fn submit(log: &Log) -> Result<()> {
    log.submit(&[next()], AppendOptions::default()).map(drop)
}

/// Who has transactions.
const TRANSACTIONAL: (ProducerId, ProducerEpoch) = (ProducerId(3), ProducerEpoch(0));
const COMMIT: ControlRecord = ControlRecord::Commit { coordinator_epoch: 0 };

fn transactional(sequence: i32) -> Result<idemlog::Batch> {
    let (id, epoch) = TRANSACTIONAL;
    let batch = BatchBuilder::new().producer(id, epoch, Sequence(sequence)).transactional().record("k", "v");
    Ok(batch.build()?)
}

/// A batch and its marker; the batch may be there from an earlier try.
fn end_transaction(log: &Log) -> Result<()> {
    let (id, epoch) = TRANSACTIONAL;
    log.append(&transactional(0)?)?;
    log.end_transaction(id, epoch, COMMIT).map(drop)
}

fn submit_end_transaction(log: &Log) -> Result<Pending> {
    let (id, epoch) = TRANSACTIONAL;
    log.append(&transactional(0)?)?;
    log.submit_end_transaction(id, epoch, COMMIT, AppendOptions::default())
}

/// The sequence for which a verification is begun. As long as it is under way, none above it is taken.
const VERIFIED: i32 = 5;

fn begin_verification(log: &Log, sequence: i32) -> Result<Option<VerificationGuard>> {
    let (id, epoch) = TRANSACTIONAL;
    log.begin_verification(id, epoch, Sequence(sequence), TransactionVersion::V1)
}

/// Whether a transaction may begin with this sequence, once it is verified.
fn is_taken_verified(log: &Log, sequence: i32) -> bool {
    let guard = begin_verification(log, sequence).unwrap().unwrap();
    let verified = AppendOptions::default().verification(guard);
    log.submit(&[transactional(sequence).unwrap()], verified).is_ok()
}

/// And has a checkpoint written, as whoever deletes records does.
fn set_high_watermark(log: &Log, offset: i64) -> Result<()> {
    log.set_high_watermark(Offset(offset));
    log.delete_records(Offset(offset / 2)).map(drop)
}

/// By the clock of the records, which are of 1970, the producer of all batches has been idle for long.
fn expire(log: &Log) -> Result<()> {
    let producers = ProducerPolicy::default().expiry_clock(ExpiryClock::RecordTimestamp);
    log.set_options((*log.options()).clone().producers(producers))?;
    log.expire_producers();
    log.roll()
}

/// Closes the partition behind one more batch, unless an earlier try did, and opens it again.
fn reopen(dir: &LogDir, log: &Log) -> Result<()> {
    match submit(log) {
        Err(Error::Closed) => {}
        submitted => submitted.and_then(|()| log.close())?,
    }
    dir.reopen_partition("t", 0).map(drop)
}

fn retain(log: &Log) -> Result<()> {
    log.set_options(small(IoMode::Write).io_mode(log.options().io_mode).retention_bytes(Some(500)))?;
    log.apply_retention().map(drop)
}

fn import(dir: &LogDir, log: &Log) -> Result<()> {
    let (states, other) = (log.export_producers(), dir.partition("other", 0)?);
    other.truncate_fully(states.offset)?;
    other.import_producers(&states)
}

fn open(disk: &SimDisk, mode: IoMode) -> Result<(LogDir, Log)> {
    let options = LogDirOptions::default().log(small(mode)).disk(Arc::new(disk.clone())).recovery_threads(1);
    let dir = LogDir::open(Path::new("/data"), options)?;
    let log = dir.partition("t", 0)?;
    Ok((dir, log))
}

/// A log of several segments, and another partition, as they stand before the operation.
struct Before {
    disk: SimDisk,
    dir: LogDir,
    log: Log,
    acknowledged: Vec<(i64, u32)>,
}

fn before(mode: IoMode) -> Before {
    let disk = SimDisk::new(mode);
    disk.set_sync_range_covers_length(true);
    let (dir, log) = open(&disk, mode).unwrap();
    (0..END / 2).for_each(|at| assert!(!log.append(&batch(7, 0, at as i32 * 2, 2)).unwrap().is_duplicate()));
    dir.partition("other", 0).unwrap().append(&common::plain("other")).unwrap();
    let acknowledged = stored(&log);
    Before { disk, dir, log, acknowledged }
}

impl Case {
    /// Opens what is left: what was acknowledged before is there, or the part that the operation leaves; and if it is `done`,
    /// its effect shows.
    fn check(&self, disk: &SimDisk, mode: IoMode, acknowledged: &[(i64, u32)], done: bool, what: &str) {
        let what = format!("{} {mode:?} {what}", self.name);
        let (dir, log) = open(disk, mode).unwrap_or_else(|error| panic!("{what}: {error}"));
        let left = stored(&log);
        let kept: Vec<_> = left.iter().filter(|batch| acknowledged.contains(batch)).copied().collect();
        let is_part = acknowledged.windows(kept.len().max(1)).any(|part| part == kept) || kept.is_empty();
        assert!(if self.removes { is_part } else { kept == acknowledged }, "{what}: {left:?} is left");
        assert!(!done || (self.shows)(&dir, &log), "{what}: the effect is lost; {}", log.recovery());
    }

    /// Whether it can be told from what is left, where what survives as it is asked for does.
    fn shows_behind(&self, survives: &[Survives]) -> bool {
        self.survives == Nothing || survives.contains(&self.survives)
    }

    /// Does it, and dies at any moment: `images` gives the disks that are left behind an event.
    fn die(&self, survives: &[Survives], images: impl Fn(&SimDisk, usize) -> Vec<SimDisk>) {
        for mode in MODES {
            let before = before(mode);
            before.disk.restart_journal();
            (self.act)(&before.dir, &before.log).unwrap_or_else(|error| panic!("{}: {error}", self.name));
            before.disk.mark(1);
            for point in 0..before.disk.crash_points() {
                let done = !before.disk.marks(point).is_empty() && self.shows_behind(survives);
                for image in images(&before.disk, point) {
                    self.check(&image, mode, &before.acknowledged, done, &before.disk.describe(point));
                }
            }
        }
    }

    /// Does it while one sync fails, for each in turn.
    fn fail_syncs(&self, operation: Operation) {
        for mode in MODES {
            for call in 1.. {
                let Before { disk, dir, log, acknowledged } = before(mode);
                let calls = disk.calls(operation);
                disk.inject(Fault::nth(operation, call).pages(FailedSync::Reverted));
                let answer = (self.act)(&dir, &log);
                disk.clear_faults();
                if disk.calls(operation) - calls < call {
                    break;
                }
                drop((dir, log));
                let done = answer.is_ok() && self.shows_behind(&[Machine]);
                self.check(&disk, mode, &acknowledged, done, &format!("{operation:?} {call}: {answer:?}"));
            }
        }
    }

    /// Does it on a full disk, and again when there is room.
    fn fill(&self) {
        for mode in MODES {
            let Before { disk, dir, log, acknowledged } = before(mode);
            disk.set_capacity(Some(disk.used()));
            let answer = (self.act)(&dir, &log);
            let is_full =
                matches!(&answer, Err(Error::Io(io)) if io.source.kind() == std::io::ErrorKind::StorageFull);
            assert!(answer.is_ok() || is_full, "{} {mode:?}: {answer:?}", self.name);
            disk.set_capacity(None);
            if answer.is_err() && self.name != "close" {
                (self.act)(&dir, &log)
                    .unwrap_or_else(|error| panic!("{} {mode:?} with room: {error}", self.name));
            }
            let done = answer.is_ok() || self.name != "close";
            drop((dir, log));
            self.check(&disk, mode, &acknowledged, done, &format!("full: {answer:?}"));
        }
    }
}

#[test]
fn what_is_done_survives_the_process_whenever_it_dies() {
    CASES.iter().for_each(|case| case.die(&[Machine, Process], |disk, point| vec![disk.kill(point)]));
}

#[test]
fn what_is_durable_survives_the_machine_whenever_it_dies() {
    CASES
        .iter()
        .for_each(|case| case.die(&[Machine], |disk, point| disk.images(point, 4, point as u64).collect()));
}

#[test]
fn what_is_durable_survives_a_sync_that_fails() {
    CASES.iter().for_each(|case| {
        [Operation::Sync, Operation::SyncDirectory]
            .into_iter()
            .for_each(|operation| case.fail_syncs(operation));
    });
}

#[test]
fn what_is_durable_survives_a_full_disk_and_what_failed_works_when_there_is_room() {
    CASES.iter().for_each(Case::fill);
}

/// A replicated batch that left a gap failed to be written. The next batch of a client was stored behind the gap, and
/// answered with the offset in front of it.
#[test]
fn an_append_behind_one_that_failed_to_leave_a_gap_is_stored_where_its_answer_says() {
    let follower = AppendOptions::default().origin(Origin::Replication);
    for (mode, gap) in MODES.into_iter().flat_map(|mode| [(mode, 20), (mode, 1 << 33)]) {
        for (operation, call) in [(Operation::Write, 1), (Operation::Allocate, 1), (Operation::Allocate, 2)] {
            let Before { disk, dir, log, .. } = before(mode);
            log.set_options((*log.options()).clone().durability(Durability::Buffered)).unwrap();
            let end = log.log_end_offset();
            let value = vec![7; 3 << 10];
            let apart = BatchBuilder::new().record("k", value).base_offset(end + gap);
            let apart = apart.leader_epoch(LeaderEpoch(0)).build().unwrap();
            disk.inject(Fault::nth(operation, call));
            let failed = log.submit(&[apart], follower);
            disk.clear_faults();
            if failed.is_ok() {
                continue;
            }
            assert_eq!(log.log_end_offset(), end);
            let next = log.append(&batch(8, 0, 0, 1)).unwrap();
            let (last, _) = *stored(&log).last().unwrap();
            assert_eq!(next.base_offset().0, last, "{mode:?} {operation:?} {call}, a gap of {gap}");
            let again = log.append(&batch(8, 0, 0, 1)).unwrap();
            assert!(again.is_duplicate() && again.base_offset() == next.base_offset());
            let expected = stored(&log);
            drop((log, dir)); // killed
            let (_dir, log) = open(&disk, mode).unwrap();
            assert_eq!(stored(&log), expected, "{mode:?} {operation:?} {call}, a gap of {gap}");
        }
    }
}

/// A replicated batch that left a gap was stored, but its segment got no name: the call failed. The next batch, and the same
/// one again, were acknowledged all the same, and an opening does not look for a segment without a name behind a gap.
#[test]
fn what_comes_behind_a_gap_is_acknowledged_when_its_segment_has_a_name() {
    let follower = AppendOptions::default().origin(Origin::Replication);
    for (mode, operation) in
        MODES.into_iter().flat_map(|mode| [(mode, Operation::Open), (mode, Operation::Rename)])
    {
        for (call, same) in (1..4).flat_map(|call| [(call, false), (call, true)]) {
            let Before { disk, dir, log, .. } = before(mode);
            log.set_options((*log.options()).clone().durability(Durability::Buffered)).unwrap();
            log.roll().unwrap();
            let from_9 = || {
                BatchBuilder::new().producer(ProducerId(9), ProducerEpoch(0), Sequence(0)).record("k", "v")
            };
            let apart = from_9().base_offset(log.log_end_offset() + (1 << 33)).leader_epoch(LeaderEpoch(0));
            disk.inject(Fault::nth(operation, call));
            let first = log.submit(&[apart.build().unwrap()], follower).map(drop);
            disk.clear_faults();
            let next = if same { from_9().build().unwrap() } else { batch(8, 0, 0, 1) };
            let answer = log.append(&next).unwrap();
            assert_eq!(answer.is_duplicate(), same && answer.base_offset() > Offset(1 << 33), "{first:?}");
            let expected = stored(&log);
            drop((log, dir)); // killed
            let (_dir, log) = open(&disk, mode).unwrap();
            assert_eq!(stored(&log), expected, "{mode:?} {operation:?} {call} {first:?}");
        }
    }
}

/// What a write that failed had left was sealed with its segment by a roll, as long as nobody had opened it for appending again.
/// A process that was killed before that was trimmed lost what came behind it: the next opening found the batch that had failed
/// where the next segment began.
#[test]
fn what_a_failed_write_left_is_cut_before_a_roll() {
    for mode in MODES {
        let Before { disk, dir, log, .. } = before(mode);
        log.set_options((*log.options()).clone().durability(Durability::Buffered)).unwrap();
        log.roll().unwrap();
        log.append(&next()).unwrap();
        disk.inject(Fault::nth(Operation::Write, 1).halfway());
        let two = [batch(8, 0, 0, 1), batch(8, 0, 1, 1)];
        let failed = log.submit(&two, AppendOptions::default()).map(drop);
        assert_eq!(failed.is_err(), mode == IoMode::Write);
        disk.clear_faults();
        // Nothing is cut.
        disk.inject(Fault::nth(Operation::SetLen, 1).forever());
        let _ = log.roll();
        disk.clear_faults();
        log.append(&batch(9, 0, 0, 1)).unwrap();
        let expected = stored(&log);
        drop((log, dir)); // killed
        let (_dir, log) = open(&disk, mode).unwrap();
        assert_eq!(stored(&log), expected, "{mode:?}");
    }
}

/// The next blocks were asked for by the 4 MiB, or by the 16 for a segment, and where there was no room for so many, no batch was
/// taken: a third of the disk was free.
#[test]
fn a_disk_that_has_no_room_for_a_whole_step_is_filled_all_the_same() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        // With what the directory keeps for deletions.
        disk.set_capacity(Some(10 << 20));
        let log_options = LogOptions::default().io_mode(Some(mode)).segment_bytes(5 << 20);
        let options = LogDirOptions::default().disk(Arc::new(disk.clone())).log(log_options);
        let dir = LogDir::open(Path::new("/data"), options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let large = BatchBuilder::new().record("k", vec![7; 30 << 10]).build().unwrap();
        let refused = (0..1000).find_map(|_| log.append(&large).err());
        assert!(matches!(refused, Some(Error::Io(_))), "{mode:?}: {refused:?}");
        let used = log.metrics().used_bytes;
        assert!(used > (9 << 20) - (300 << 10), "{mode:?}: full with {used} bytes");
    }
}

/// The directory in which a segment's name was to be made durable could not be opened for want of a descriptor. That counted
/// as a failed sync, and poisoned the partition.
#[test]
fn a_directory_that_there_is_no_descriptor_for_is_no_failed_sync() {
    for mode in MODES {
        for call in 1.. {
            let Before { disk, log, dir: _dir, .. } = before(mode);
            let calls = disk.calls(Operation::SyncDirectory);
            disk.inject(Fault::nth(Operation::SyncDirectory, call).errno(Fault::EMFILE));
            let rolled = log.roll();
            disk.clear_faults();
            if disk.calls(Operation::SyncDirectory) - calls < call {
                break;
            }
            assert!(matches!(rolled, Err(Error::Io(_))), "{mode:?} {call}: {rolled:?}");
            append(&log, Durability::Synced).unwrap();
            log.roll().unwrap();
        }
    }
}

/// The host's disk panicked in the middle, and the log went on without knowing what the disk had.
#[test]
fn a_disk_that_panics_while_producers_or_a_topic_id_are_written_poisons_the_log() {
    let changes: [fn(&LogDir, &Log); 2] = [
        |_, log| drop(log.import_producers(&log.export_producers())),
        |dir, _| drop(dir.partition_of(TopicId([7; 16]), "t", 0)),
    ];
    for (mode, change) in MODES.into_iter().flat_map(|mode| changes.map(|change| (mode, change))) {
        let disk = SimDisk::new(mode);
        let (dir, log) = open(&disk, mode).unwrap();
        disk.inject(Fault::nth(Operation::Rename, 1).panics());
        assert!(catch_unwind(AssertUnwindSafe(|| change(&dir, &log))).is_err(), "{mode:?}");
        assert!(matches!(log.append(&next()), Err(Error::Poisoned(_))), "{mode:?}");
    }
}

/// The log start could not be written down. Asked again, `delete_records` found it moved
/// already, returned `Ok` without writing anything, and a kill brought the records back.
#[test]
fn a_deletion_that_failed_is_durable_once_it_was_tried_again() {
    for mode in MODES {
        let Before { disk, dir, log, .. } = before(mode);
        disk.inject(Fault::nth(Operation::Create, 1));
        assert!(log.delete_records(Offset(30)).is_err());
        assert_eq!(log.delete_records(Offset(30)).unwrap(), Offset(30));
        let killed = disk.kill(disk.crash_points() - 1);
        drop((dir, log));
        assert_eq!(open(&killed, mode).unwrap().1.log_start_offset(), Offset(30));
    }
}

/// A deletion that was tried again counted as durable while a worker was only about to write down what the first try had not.
#[test]
fn a_deletion_that_is_tried_again_waits_for_whoever_writes_it_down() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let gated = GatedDisk::new(&disk);
        let dir = LogDir::open("/data", common::options(mode).disk(gated.clone())).unwrap();
        let log = dir.partition("t", 0).unwrap();
        (0..20).for_each(|at| assert!(!log.append(&batch(7, 0, at * 2, 2)).unwrap().is_duplicate()));
        // Leaves something to a worker.
        log.roll().unwrap();
        disk.inject(Fault::nth(Operation::Rename, 1));
        assert!(log.delete_records(Offset(30)).is_err());
        let gate = gated.close_before("recovery-point-offset-checkpoint.tmp");
        std::thread::scope(|scope| {
            scope.spawn(|| dir.run_background());
            gate.wait();
            let answer = log.delete_records(Offset(30));
            let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
            gate.open();
            dir.close().unwrap();
            assert_eq!(answer.unwrap(), Offset(30));
            assert_eq!(open(&after_power_cut, mode).unwrap().1.log_start_offset(), Offset(30), "{mode:?}");
        });
    }
}

#[test]
fn a_high_watermark_that_cannot_be_written_down_leaves_the_one_before() {
    let file = |operation| Fault::nth(operation, 1).on("replication-offset-checkpoint.tmp/").forever();
    let faults = [file(Operation::Write).errno(Fault::ENOSPC), file(Operation::Sync)];
    for (mode, fault) in MODES.into_iter().flat_map(|mode| faults.clone().map(|fault| (mode, fault))) {
        let Before { disk, dir, log, .. } = before(mode);
        set_high_watermark(&log, 10).unwrap();
        disk.inject(fault.clone());
        assert!(set_high_watermark(&log, 20).is_err(), "{mode:?} {fault:?}");
        disk.clear_faults();
        let killed = disk.kill(disk.crash_points() - 1);
        drop((dir, log));
        let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
        for left in [killed, after_power_cut] {
            let (_dir, log) = open(&left, mode).unwrap();
            assert_eq!(log.checkpointed_high_watermark(), Some(Offset(10)), "{mode:?} {fault:?}");
        }
    }
}

/// An opening can be interrupted anywhere: what was synced is there, and all that it found once it has returned.
#[test]
fn what_an_opening_found_survives_whenever_it_is_interrupted() {
    let opening = case("open", Machine, |_, _| Ok(()), |_, log| log.log_end_offset().0 > END);
    for mode in MODES {
        let Before { disk, dir, log, acknowledged } = before(mode);
        submit(&log).unwrap();
        drop((dir, log));
        let disk = disk.kill(disk.crash_points() - 1);
        let _opened = open(&disk, mode).unwrap();
        disk.mark(1);
        for point in 0..disk.crash_points() {
            let (done, what) = (!disk.marks(point).is_empty(), disk.describe(point));
            opening.check(&disk.kill(point), mode, &acknowledged, true, &what);
            for image in disk.images(point, 4, point as u64) {
                opening.check(&image, mode, &acknowledged, done, &what);
            }
        }
    }
}

#[test]
fn a_verification_is_forgotten_by_an_opening() {
    let Before { disk, dir, log, .. } = before(IoMode::Write);
    begin_verification(&log, VERIFIED).unwrap().unwrap();
    assert!(!is_taken_verified(&log, VERIFIED + 1), "none above the lowest");
    dir.close().unwrap();
    drop((dir, log));
    assert!(is_taken_verified(&open(&disk, IoMode::Write).unwrap().1, VERIFIED + 1));
}

#[test]
fn options_are_the_hosts_to_say_again() {
    let Before { disk, dir, log, .. } = before(IoMode::Write);
    log.set_options(small(IoMode::Write).max_batch_bytes(99)).unwrap();
    dir.close().unwrap();
    drop((dir, log));
    assert_eq!(open(&disk, IoMode::Write).unwrap().1.options().max_batch_bytes, 4096);
}

/// The names of tests in backticks in the last column of the chapter's tables; `ci/model` is how those of a line are run.
fn named_in(chapter: &str) -> Vec<BTreeSet<&str>> {
    let rows = chapter.lines().filter(|line| line.starts_with("| ") && line.contains("`"));
    let last = rows.map(|row| row.trim_end_matches('|').rsplit('|').next().unwrap());
    last.map(|cell| cell.split('`').skip(1).step_by(2).filter(|name| !name.contains('/')).collect()).collect()
}

/// All Rust files below a directory, as one text.
fn sources(directory: &Path) -> String {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| match path.extension() {
        _ if path.is_dir() => sources(&path),
        Some(extension) if extension == "rs" => std::fs::read_to_string(path).unwrap(),
        _ => String::new(),
    };
    entries.map(text).collect()
}

#[test]
fn every_line_of_the_chapter_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = std::fs::read_to_string(root.join("src/manual/survival.md")).unwrap();
    let sources = sources(&root.join("src")) + &sources(&root.join("tests"));
    let lines = named_in(&chapter);
    assert!(lines.len() > 30, "{lines:?}");
    for names in lines {
        assert!(!names.is_empty(), "a line names no test");
        for name in names {
            assert!(sources.contains(&format!("fn {name}()")), "there is no test {name}");
        }
    }
    for case in &CASES {
        let operation = case.name.split(',').next().unwrap();
        assert!(chapter.contains(&format!("`{operation}`")), "the chapter says nothing of {operation}");
    }
}

/// An opening syncs what a killed process had not, and fails if that fails. The next opening's sync had nothing to write, as the
/// kernel counts as written what it could not write, and a batch that was sent again was acknowledged out of memory only. The
/// process dies at any moment, also when a segment is full and the next one has no name yet.
#[test]
fn what_an_opening_failed_to_sync_is_not_taken_for_durable_by_the_next() {
    for mode in MODES {
        let Before { disk, dir, log, .. } = before(mode);
        disk.restart_journal();
        let large = BatchBuilder::new().record("k", vec![7; 1500]).build().unwrap();
        for _ in 0..4 {
            drop(log.submit(std::slice::from_ref(&large), AppendOptions::default()).unwrap());
        }
        drop((dir, log));
        let moments = 0..disk.crash_points();
        let refused: u32 = moments.map(|point| fail_the_syncs_of_an_opening(&disk.kill(point), mode)).sum();
        assert!(refused > 0, "{mode:?}: no opening was refused");
    }
}

/// Fails each sync of an opening in turn. What the next opening finds survives the machine. The number of openings that failed.
fn fail_the_syncs_of_an_opening(killed: &SimDisk, mode: IoMode) -> u32 {
    let mut failed = 0;
    for call in 1.. {
        let disk = killed.kill(killed.crash_points() - 1);
        disk.inject(Fault::nth(Operation::Sync, call).pages(FailedSync::Dropped));
        failed += u32::from(open(&disk, mode).is_err());
        disk.clear_faults();
        if disk.calls(Operation::Sync) < call {
            break;
        }
        let (dir, log) = open(&disk, mode).unwrap();
        let found = stored(&log);
        assert_eq!(log.durable_offset(), log.log_end_offset());
        drop((dir, log));
        let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
        let (_dir, log) = open(&after_power_cut, mode).unwrap();
        assert_eq!(stored(&log), found, "{mode:?}, sync {call} of an opening failed");
    }
    failed
}
