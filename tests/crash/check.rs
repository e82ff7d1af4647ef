//! What must hold for every disk that a crash leaves.

use std::collections::HashMap;

use idemlog::sim::SimDisk;
use idemlog::{Log, LogDir, ProducerId};

use crate::workload::{NAME, Placed, Promise, Run, open};

type Check = Result<(), String>;

fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Opens the disk, twice, looks at what is there, and goes on with it.
pub fn image(run: &Run, disk: &SimDisk, marks: &[u64]) -> Check {
    let promise = marks.last().map_or(Promise::default(), |&mark| run.promises[mark as usize]);
    let (dir, log) = open(disk).map_err(|error| format!("does not open: {error}"))?;
    let first = read(&log)?;
    ensure(log.recovery().log_end == log.log_end_offset().0, || "the report's log end is wrong".to_owned())?;
    let placed = run.placed(promise);
    prefix(placed, &first, promise.durable)?;
    drop((dir, log));
    let (dir, log) = open(disk).map_err(|error| format!("does not open again: {error}"))?;
    let second = read(&log)?;
    ensure(first == second, || format!("opened again it holds {second:?} instead of {first:?}"))?;
    ensure(log.recovery().cut.is_none(), || format!("cut again: {}", log.recovery()))?;
    ids(&dir, promise)?;
    go_on(placed, &log, first.len())?;
    let before = read(&log)?;
    dir.close().map_err(|error| format!("does not close: {error}"))?;
    drop((dir, log));
    let (dir, log) = open(disk).map_err(|error| format!("does not open after a close: {error}"))?;
    let after = read(&log)?;
    drop(dir);
    ensure(before == after, || format!("after a close it holds {after:?} instead of {before:?}"))
}

/// Base offset and CRC of every batch.
fn read(log: &Log) -> Result<Vec<(i64, u32)>, String> {
    log.reader(log.log_start_offset())
        .map_err(|error| error.to_string())?
        .map(|batch| {
            let batch = batch.map_err(|error| format!("cannot be read: {error}"))?;
            let header = *batch.header();
            batch
                .check(idemlog::RecordCheck::Full, 1 << 20)
                .map_err(|error| format!("the batch at {} is broken: {error}", header.base_offset))?;
            Ok((header.base_offset.0, header.crc))
        })
        .collect()
}

/// The log is a prefix of what was placed, and no shorter than promised.
fn prefix(placed: &[Placed], found: &[(i64, u32)], durable: usize) -> Check {
    ensure(found.len() >= durable, || format!("{} batches are left of {durable} promised", found.len()))?;
    ensure(found.len() <= placed.len(), || format!("{} batches of {} placed", found.len(), placed.len()))?;
    let expected: Vec<_> =
        placed.iter().map(|placed| (placed.base_offset, placed.batch.header().crc)).collect();
    ensure(found == &expected[..found.len()], || format!("holds {found:?}, of {expected:?}"))
}

/// No producer id comes twice, no epoch of a named producer either.
fn ids(dir: &LogDir, promise: Promise) -> Check {
    let id = dir.new_producer_id().map_err(|error| error.to_string())?;
    ensure(promise.highest_id == 0 || id.0 > promise.highest_id, || {
        format!("id {id} was handed out before")
    })?;
    let named = dir.producer(NAME).map_err(|error| error.to_string())?;
    ensure(promise.named_epoch == 0 || named.epoch().0 > promise.named_epoch, || {
        format!("epoch {} of the named producer was handed out before", named.epoch())
    })
}

/// Every producer's last batches are answered as duplicates; what did not survive is taken, once, as the next.
fn go_on(placed: &[Placed], log: &Log, survived: usize) -> Check {
    let (here, lost) = placed.split_at(survived);
    let mut windows: HashMap<ProducerId, Vec<&Placed>> = HashMap::new();
    for placed in here.iter().filter(|placed| placed.batch.header().is_idempotent()) {
        windows.entry(placed.batch.header().producer_id).or_default().push(placed);
    }
    for placed in windows.values().flat_map(|window| window.iter().rev().take(5)) {
        let outcome = log.append(&placed.batch).map_err(|error| format!("sent again: {error}"))?;
        ensure(outcome.is_duplicate() && outcome.base_offset().0 == placed.base_offset, || {
            format!("sent again, the batch at {} is answered with {outcome:?}", placed.base_offset)
        })?;
    }
    for placed in lost.iter().filter(|placed| placed.batch.header().is_idempotent()) {
        let end = log.log_end_offset();
        let outcome = log.append(&placed.batch).map_err(|error| format!("lost, and sent again: {error}"))?;
        ensure(!outcome.is_duplicate() && outcome.base_offset() == end, || {
            format!("lost and sent again, a batch is answered with {outcome:?} at log end {end}")
        })?;
        let again = log.append(&placed.batch).map_err(|error| error.to_string())?;
        ensure(again.is_duplicate() && again.offsets() == outcome.offsets(), || {
            format!("doubled: {again:?}")
        })?;
    }
    Ok(())
}
