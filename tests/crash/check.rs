//! What must hold for every disk that a crash leaves.

use std::collections::BTreeMap;
use std::path::Path;

use idemlog::sim::SimDisk;
use idemlog::verify::{VerifyOptions, verify};
use idemlog::{Batch, CutReason, Disk, Log, LogDir, ProducerId, RecordCheck, RecoveryReport, Timestamp};

use crate::model::{Expected, Moment, Placed, compare_producers};
use crate::op::Op;
use crate::transactions;
use crate::violation::{Checked, ensure, failed};
use crate::world::{DIRECTORY, Geometry, PARTITION, World, open, options};

/// The bytes of the files of the partition, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Opens a disk that a crash left. What is found is a beginning of what was placed, and no less than what was promised.
pub fn recovered(image: SimDisk, geometry: Geometry, expected: &Expected) -> Checked<World> {
    let left = files(&image)?;
    let promised = Moment { log: Vec::new(), ..expected.before.clone() };
    let mut world = World::on(image, geometry, promised)?;
    let found = prefix(expected, world.log())?;
    compare_producers(world.log(), &found)?;
    transactions::compare(world.log(), &found)?;
    let lost = expected.lost(&found);
    report_is_true(world.log().recovery(), &left, &files(&world.disk)?, &lost)?;
    let given_up = lost.first().is_some_and(|lost| lies_in_logs(lost, &left));
    ensure(!expected.powered || !given_up, || {
        format!("only the process died, and a whole batch was given up: {}", world.log().recovery())
    })?;
    let (log_end, report) = (world.log().log_end_offset().0, world.log().recovery());
    ensure(report.log_end.0 == log_end, || format!("the log ends at {log_end}, not as in {report}"))?;
    let durable = world.log().durable_offset().0;
    ensure(durable == log_end, || format!("opened, the log is durable up to {durable} of {log_end}"))?;
    world.found(found, &lost, expected);
    Ok(world)
}

/// What must hold besides, for a log that was opened. Everything is tried on copies.
pub fn thorough(left: &SimDisk, world: &World) -> Checked<()> {
    reads_only(&copy(left), world.geometry)?;
    is_no_damage(left)?;
    let disk = copy(&world.disk);
    opens_the_same(&disk, world)?;
    opens_on_a_full_disk(&copy(&disk), world)?;
    verifies(&disk)?;
    reads_by_index(world)
}

/// Goes on with a log that was opened: sends again what survived and what did not, and closes it.
pub fn goes_on(world: &mut World) -> Checked<()> {
    world.new_id()?;
    world.named()?;
    fenced(world)?;
    for (_, batches) in world.now.clone().producers().values() {
        batches.iter().try_for_each(|placed| world.send_again(placed))?;
    }
    world.step(Op::Retry)?;
    compare_producers(world.log(), &world.now)?;
    transactions::compare(world.log(), &world.now)?;
    world.step(Op::Close)?;
    let found = read(world.log())?;
    ensure(same(&found, &world.now.log), || {
        format!("closed and opened, it holds {} instead of {}", listed(&found), listed_placed(&world.now.log))
    })?;
    let report = world.log().recovery();
    ensure(report.marked_clean && changed_nothing(report), || format!("closed well, it was {report}"))?;
    verifies(&world.disk)
}

/// A disk with the same contents and no past.
fn copy(disk: &SimDisk) -> SimDisk {
    disk.kill(disk.crash_points() - 1)
}

/// A number for the disk without what recovery kept aside, which it never looks at again.
pub fn settled_hash(disk: &SimDisk) -> Checked<u64> {
    let disk = copy(disk);
    for name in files(&disk)?.keys().filter(|name| name.ends_with(".corrupt")) {
        disk.remove_file(&Path::new(PARTITION).join(name)).map_err(failed("remove"))?;
    }
    Ok(disk.state_hash())
}

/// Everything that a reader sees.
fn read(log: &Log) -> Checked<Vec<Batch>> {
    log.reader(log.log_start_offset())
        .map_err(failed("read"))?
        .map(|batch| {
            let batch = batch.map_err(failed("read"))?;
            batch.check(RecordCheck::Full, 1 << 20).map_err(failed("a stored batch is broken"))
        })
        .collect()
}

fn listed(found: &[Batch]) -> String {
    let one = |batch: &Batch| format!("{}:{:x}", batch.header().base_offset, batch.header().crc);
    format!("[{}]", found.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn listed_placed(placed: &[Placed]) -> String {
    let one = |placed: &Placed| format!("{}:{:x}", placed.base_offset, placed.batch.header().crc);
    format!("[{}]", placed.iter().map(one).collect::<Vec<_>>().join(" "))
}

fn same(found: &[Batch], placed: &[Placed]) -> bool {
    found.len() == placed.len() && found.iter().zip(placed).all(|(found, placed)| placed.is(found))
}

/// The log is a beginning of one of those it may be, byte for byte, and no shorter than promised.
fn prefix(expected: &Expected, log: &Log) -> Checked<Moment> {
    let found = read(log)?;
    let log_start = log.log_start_offset().0;
    let fits = |moment: &&Moment| {
        moment.log_start == log_start
            && found.len() <= moment.log.len()
            && same(&found, &moment.log[..found.len()])
    };
    let moment = expected.moments().find(fits).ok_or_else(|| {
        format!("holds {} from {log_start} on, of {}", listed(&found), listed_placed(&expected.after.log))
    })?;
    let log_end = log.log_end_offset().0;
    ensure(log_end >= expected.at_least, || {
        format!("ends at {log_end}, although {} was promised", expected.at_least)
    })?;
    Ok(moment.cut_to(found.len()))
}

fn files(disk: &SimDisk) -> Checked<Files> {
    let directory = Path::new(PARTITION);
    if !disk.exists(directory).map_err(failed("look up"))? {
        return Ok(Files::new());
    }
    let entries = disk.list(directory).map_err(failed("list"))?;
    entries
        .into_iter()
        .map(|entry| {
            let bytes = disk.read(&directory.join(&entry.name), u64::MAX).map_err(failed("read"))?;
            Ok((entry.name.to_string_lossy().into_owned(), bytes))
        })
        .collect()
}

fn is_log(name: &str) -> bool {
    name.ends_with(".log") || name.ends_with(".prepared")
}

fn lies_in_logs(placed: &Placed, files: &Files) -> bool {
    files.iter().any(|(name, bytes)| is_log(name) && placed.lies_in(bytes))
}

/// The end of the bytes that are not zero.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// The report names every byte and every batch that opening took away, and where they are kept.
fn report_is_true(report: &RecoveryReport, left: &Files, after: &Files, lost: &[Placed]) -> Checked<()> {
    let logs = || left.iter().filter(|(name, _)| is_log(name));
    // A file without a batch is removed as a whole, and named.
    let is_named = |name: &str| report.removed.iter().any(|path| path.ends_with(name));
    let removed: usize = logs()
        .filter(|(name, _)| !is_named(name))
        .map(|(name, bytes)| removed_bytes(name, bytes, left, after))
        .sum();
    let whole: Vec<_> = lost.iter().filter(|lost| logs().any(|(_, bytes)| lost.lies_in(bytes))).collect();
    let Some(cut) = &report.cut else {
        return ensure(removed == 0 && whole.is_empty(), || {
            format!("{removed} bytes with {} batches were cut without a word: {report}", whole.len())
        });
    };
    ensure(cut.reason == CutReason::Tail, || format!("a crash is reported as damage: {cut}"))?;
    ensure(cut.offset == report.log_end, || format!("cut elsewhere than at the end: {report}"))?;
    ensure(cut.bytes >= removed as u64, || format!("{removed} bytes were cut, not as in {cut}"))?;
    ensure(cut.batches >= whole.len() as u64, || {
        format!("{} batches were cut, not as in {cut}", whole.len())
    })?;
    let kept = |lost: &&&Placed| after.iter().any(|(name, bytes)| !is_log(name) && lost.lies_in(bytes));
    let dropped = whole.iter().find(|lost| !kept(lost));
    ensure(dropped.is_none(), || format!("a whole batch was cut and not kept: {cut}"))
}

/// How many bytes that are not empty opening took from the end of a file of batches.
fn removed_bytes(name: &str, bytes: &[u8], left: &Files, after: &Files) -> usize {
    // A prepared file that was taken in has a name that was not there before.
    let adopted = || after.iter().find(|(new, _)| is_log(new) && !left.contains_key(*new));
    let remaining = after.get(name).or_else(|| adopted().map(|(_, bytes)| bytes));
    used(bytes).saturating_sub(remaining.map_or(0, Vec::len))
}

/// Whether an opening found nothing to do.
fn changed_nothing(report: &RecoveryReport) -> bool {
    report.cut.is_none()
        && !report.adopted_prepared
        && report.trimmed_bytes == 0
        && report.snapshots_skipped.is_empty()
        && report.removed.is_empty()
        && report.not_written.is_empty()
}

fn opens_the_same(disk: &SimDisk, world: &World) -> Checked<()> {
    let (before, contents) = (disk.state_hash(), files(disk)?);
    let (dir, log) = open(disk, world.geometry).map_err(|error| format!("the second time it {error}"))?;
    let report = log.recovery().clone();
    ensure(changed_nothing(&report), || format!("the second time it was {report}"))?;
    let found = read(&log)?;
    ensure(same(&found, &world.now.log), || format!("the second time it holds {}", listed(&found)))?;
    compare_producers(&log, &world.now)?;
    transactions::compare(&log, &world.now)?;
    drop((dir, log));
    let after = files(disk)?;
    let changed: Vec<_> = after.iter().filter(|(name, bytes)| contents.get(*name) != Some(bytes)).collect();
    ensure(disk.state_hash() == before, || format!("the second opening changed {changed:?}, it was {report}"))
}

/// Opening needs no room, and says so where it would like to have some.
fn opens_on_a_full_disk(disk: &SimDisk, world: &World) -> Checked<()> {
    disk.set_capacity(Some(disk.used()));
    let (_dir, log) = open(disk, world.geometry).map_err(|error| format!("on a full disk it {error}"))?;
    let found = read(&log)?;
    ensure(same(&found, &world.now.log), || format!("on a full disk it holds {}", listed(&found)))
}

/// What a crash leaves is worth a note at most, once a checkpoint tells of the partition.
fn is_no_damage(left: &SimDisk) -> Checked<()> {
    let points = left.read(&Path::new(DIRECTORY).join("recovery-point-offset-checkpoint"), u64::MAX);
    let is_told = points.is_ok_and(|points| String::from_utf8_lossy(&points).contains("\nt 0 "));
    if is_told { verifies(left) } else { Ok(()) }
}

/// The offline check finds nothing. It reads real files only.
fn verifies(disk: &SimDisk) -> Checked<()> {
    let memory = Path::new("/dev/shm");
    let place = if memory.exists() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.map_err(failed("a temporary directory"))?;
    export(disk, Path::new(DIRECTORY), place.path())?;
    let report = verify(place.path(), &VerifyOptions::default()).map_err(failed("verify"))?;
    ensure(!report.has_errors(), || format!("verify finds {:?}", report.problems))
}

fn export(disk: &SimDisk, from: &Path, to: &Path) -> Checked<()> {
    for entry in disk.list(from).map_err(failed("list"))? {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.kind == idemlog::EntryKind::Directory {
            std::fs::create_dir(&to).map_err(failed("create"))?;
            export(disk, &from, &to)?;
        } else {
            let bytes = disk.read(&from, u64::MAX).map_err(failed("read"))?;
            std::fs::write(&to, bytes).map_err(failed("write"))?;
        }
    }
    Ok(())
}

/// Every batch is found by each end of its offsets and by its timestamp, as a walk through the log would find it.
fn reads_by_index(world: &World) -> Checked<()> {
    let log = &world.now.log;
    for placed in log {
        let (offsets, timestamp) = (placed.offsets(), placed.batch.header().max_timestamp);
        for offset in [offsets.first, offsets.last] {
            let first = world.log().reader(offset).map_err(failed("read"))?.next();
            let base = first.and_then(Result::ok).map(|batch| batch.header().base_offset);
            ensure(base == Some(offsets.first), || format!("offset {offset} is looked up at {base:?}"))?;
        }
        let found = world.log().offset_for_timestamp(timestamp).map_err(failed("look up"))?;
        let found = found.map(|found| found.offset.0);
        let expected = first_at(log, timestamp);
        ensure(found == expected, || {
            format!("timestamp {timestamp} is looked up at {found:?} instead of {expected:?}")
        })?;
    }
    Ok(())
}

/// The records of a batch have the same timestamp.
fn first_at(log: &[Placed], timestamp: Timestamp) -> Option<i64> {
    log.iter()
        .find(|placed| placed.batch.header().max_timestamp >= timestamp)
        .map(|placed| placed.base_offset)
}

/// No batch of an epoch older than the producer's last one is taken, and none that leaves a gap.
fn fenced(world: &World) -> Checked<()> {
    let (log, end) = (world.log(), world.log().log_end_offset());
    for (id, (epoch, batches)) in world.now.producers() {
        let older = |placed: &&Placed| {
            let header = placed.batch.header();
            header.producer_id == id && header.producer_epoch < epoch && !header.is_control()
        };
        let last = batches.last().map_or(0, |placed| placed.batch.header().last_sequence().0);
        let older = world.now.log.iter().find(older).map(|placed| placed.batch.clone());
        for batch in older.into_iter().chain([gap(id, epoch.0, last)]) {
            let answer = log.append(&batch);
            ensure(matches!(answer, Err(idemlog::Error::Rejected(_))), || {
                format!(
                    "{:?} behind epoch {epoch}, sequence {last} is answered with {answer:?}",
                    batch.header()
                )
            })?;
        }
    }
    ensure(log.log_end_offset() == end, || "a refused batch moved the log end".to_owned())
}

fn gap(id: ProducerId, epoch: i16, last_sequence: i32) -> Batch {
    idemlog::BatchBuilder::new()
        .producer(id, epoch.into(), (last_sequence + 2).into())
        .record("k", "behind a gap")
        .build()
        .unwrap()
}

/// Opening for reading only changes nothing, whatever a crash left.
fn reads_only(disk: &SimDisk, geometry: Geometry) -> Checked<()> {
    if !disk.exists(Path::new(DIRECTORY)).map_err(failed("look up"))? {
        return Ok(());
    }
    let before = disk.state_hash();
    let dir = LogDir::open(DIRECTORY, options(disk, geometry).read_only(true));
    drop(dir.map_err(failed("does not open for reading"))?);
    ensure(disk.state_hash() == before, || "opened for reading only, the disk changed".to_owned())
}
