//! The n-th call to the disk fails, for n = 1, 2, 3, ... until none fails: what was acknowledged stays, the error says
//! what happened, and the log can be used again.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use idemlog::sim::{FailedSync, Fault, Newest, Oldest, Operation, Rng};
use idemlog::{AppendOutcome, Batch, ControlRecord, Error, IoError, IoMode};

use crate::check;
use crate::model::{Expected, Moment, Placed};
use crate::op::{Op, Size, parse};
use crate::violation::{Checked, catching, ensure, expect_panics, failed, surviving};
use crate::world::{Geometry, World, open_raw};

/// What is being done when the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Open,
    /// Opens what a power cut left, which is drawn from a seed.
    Recover(u64),
    Append(Size),
    /// Several batches in one call.
    AppendAll,
    Sync,
    Roll,
    Truncate(usize),
    /// Deletes all but the last batches, and their segments.
    Delete(usize),
    /// Aborts the transaction of producer 1, if it has one.
    Abort,
    NewId,
    Named,
    Close,
}

const ACTIONS: [Action; 17] = [
    Action::Open,
    Action::Recover(1),
    Action::Recover(2),
    Action::Truncate(1),
    Action::Truncate(3),
    Action::Delete(0),
    Action::Delete(1),
    Action::Abort,
    Action::Append(Size::Small),
    // Rolls, and writes a snapshot and a recovery point.
    Action::Append(Size::Large),
    Action::Append(Size::Exact),
    Action::AppendAll,
    Action::Sync,
    Action::Roll,
    Action::NewId,
    Action::Named,
    Action::Close,
];

/// What is there before: an open transaction, one segment with an unsynced end, several with one that was closed well.
const BEGINNINGS: [&str; 5] = [
    "",
    "append/0/exact transact/1/middle roll append/1/small append/0/exact submit/0/small",
    "append/0/exact append/1/small submit/1/small submit/0/middle",
    "append/0/exact append/0/exact append/1/small close submit/1/small",
    "append/0/large append/1/large submit/0/exact kill",
];

/// Without optimisation only the first: the run that counts is the optimised one.
const ERRORS: &[i32] =
    if cfg!(debug_assertions) { &[Fault::EIO] } else { &[Fault::EIO, Fault::ENOSPC, Fault::EINTR] };

/// One run.
#[derive(Clone, Copy, Debug)]
struct Case {
    mode: IoMode,
    beginning: &'static str,
    action: Action,
    operation: Operation,
    call: u64,
    errno: i32,
    way: Way,
}

impl Case {
    fn fault(self) -> Fault {
        let fault = Fault::nth(self.operation, self.call).errno(self.errno);
        match self.way {
            Way::Plainly => fault,
            Way::Halfway => fault.halfway(),
            Way::Sync(pages) => fault.pages(pages),
            Way::Panic(pages) => fault.pages(pages).panics(),
        }
    }

    fn panics(self) -> bool {
        matches!(self.way, Way::Panic(_))
    }

    /// Whether a failure may end the log: after a failed sync or a panic nobody knows what the disk has, and a truncation
    /// that is carried out in part leaves on it more than in memory.
    fn may_poison(self) -> bool {
        matches!(self.operation, Operation::Sync | Operation::SyncDirectory)
            || matches!(self.action, Action::Truncate(_))
            || self.panics()
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plainly,
    Halfway,
    /// With what is to become of what was to be synced.
    Sync(FailedSync),
    Panic(FailedSync),
}

/// The ways in which calls of a kind fail.
fn ways(operation: Operation) -> &'static [Way] {
    use FailedSync::{Dropped, Kept, Reverted};
    match operation {
        Operation::Write | Operation::Allocate => &[Way::Plainly, Way::Halfway, Way::Panic(Kept)],
        Operation::Sync => &[Way::Plainly, Way::Sync(Dropped), Way::Sync(Reverted), Way::Panic(Reverted)],
        _ => &[Way::Plainly, Way::Panic(Kept)],
    }
}

/// A log under way whose disk fails once.
struct Trial {
    case: Case,
    world: World,
    /// The batches of which nothing is known, because their append failed.
    in_doubt: Vec<Batch>,
    /// What the log is once the action that failed is done.
    unfinished: Option<Moment>,
}

impl Trial {
    /// Does what is to be done with the fault in place. The error, if one came; `None` if the fault was not met.
    fn act(&mut self) -> Checked<Option<Result<(), Error>>> {
        let (case, disk) = (self.case, self.world.disk.clone());
        // The producer has its id before, and its batch is not in doubt when no id can be had.
        let batches = match case.action {
            Action::Append(size) => vec![self.world.next_batch(0, size)?],
            Action::AppendAll => {
                (0..4).map(|_| self.world.next_batch(0, Size::Small)).collect::<Checked<_>>()?
            }
            _ => Vec::new(),
        };
        let before = disk.calls(case.operation);
        disk.inject(case.fault());
        let result = match case.action {
            Action::Open => {
                self.world.forget_handles();
                surviving(|| open_raw(&disk, Geometry::Sectors).map(drop))
            }
            Action::Recover(seed) => {
                self.world.forget_handles();
                self.world.disk = disk.crash(disk.crash_points() - 1, &mut Rng::new(seed));
                let disk = &self.world.disk;
                disk.inject(case.fault());
                let opened = surviving(|| open_raw(disk, Geometry::Sectors).map(drop));
                disk.clear_faults();
                let met = disk.calls(case.operation) >= case.call;
                return Ok(met.then_some(opened));
            }
            Action::Truncate(_) | Action::Delete(_) | Action::Abort => self.change()?,
            Action::Append(_) | Action::AppendAll => self.append(&batches)?,
            Action::Sync => surviving(|| self.world.log().sync()),
            Action::Roll => surviving(|| self.world.log().roll()),
            Action::NewId => surviving(|| self.world.dir().new_producer_id().map(drop)),
            Action::Named => surviving(|| self.world.dir().producer("named").map(drop)),
            Action::Close => surviving(|| self.world.dir().close()),
        };
        disk.clear_faults();
        let met = disk.calls(case.operation) - before >= case.call;
        Ok(met.then_some(result))
    }

    /// Takes batches from an end of the log or adds a marker, and notes what came of it.
    fn change(&mut self) -> Checked<Result<(), Error>> {
        let world = &mut self.world;
        let changed = match self.case.action {
            Action::Truncate(batches) => {
                let after = world.now.cut_to(world.now.log.len().saturating_sub(batches));
                // From here on nobody is promised what goes.
                world.now.durable = world.now.durable.min(after.log_end());
                let after = Moment { durable: world.now.durable, ..after };
                (surviving(|| world.log().truncate_to(after.log_end().into()).map(drop)), after)
            }
            Action::Delete(kept) => {
                let after = world.now.without_first(world.now.log.len().saturating_sub(kept));
                let deleted = surviving(|| {
                    world.log().delete_records(after.log_start.into())?;
                    world.log().apply_retention().map(drop)
                });
                (deleted, after)
            }
            _ => {
                let abort = ControlRecord::Abort { coordinator_epoch: 0 };
                let Some(marker) = world.marker(1, abort)? else { return Ok(Ok(())) };
                let after = world.now.with(&marker);
                // A marker that is stored already waits for its sync only.
                let is_stored = world.log().log_end_offset().0 == after.log_end();
                let ended =
                    surviving(|| if is_stored { world.log().sync() } else { world.end(&marker).map(drop) });
                (ended, after)
            }
        };
        let (result, after) = changed;
        match &result {
            Ok(()) => {
                self.world.now = after;
                self.world.rewind_clients();
                self.unfinished = None;
            }
            Err(_) => self.unfinished = Some(after),
        }
        Ok(result)
    }

    /// Appends in one call, and notes what came of it.
    fn append(&mut self, batches: &[Batch]) -> Checked<Result<(), Error>> {
        let outcomes = match surviving(|| self.world.log().append_all(batches)) {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.in_doubt = batches.to_vec();
                return Ok(Err(error));
            }
        };
        for (batch, outcome) in batches.iter().zip(outcomes) {
            self.note(batch, &outcome)?;
        }
        self.world.now.durable = self.world.now.log_end();
        Ok(Ok(()))
    }

    fn note(&mut self, batch: &Batch, outcome: &AppendOutcome) -> Checked<()> {
        let base_offset = outcome.base_offset().0;
        if base_offset == self.world.now.log_end() {
            self.world.now.log.push(Placed { batch: batch.clone(), base_offset });
            return Ok(());
        }
        let known = self.world.now.log.iter().any(|known| known.base_offset == base_offset);
        ensure(outcome.is_duplicate() && known, || format!("answered with {outcome:?}"))
    }

    /// The log goes on without being opened again, unless it says that it cannot.
    fn goes_on(&mut self) -> Checked<()> {
        if matches!(self.case.action, Action::Open | Action::Recover(_) | Action::Close) {
            return Ok(());
        }
        if self.unfinished.is_some() {
            let changed = self.change()?;
            let goes_on = changed.is_ok();
            self.is_poisoned_at_most(changed)?;
            if !goes_on {
                return Ok(());
            }
        }
        if self.in_doubt.len() > 1 && !self.is_stored() {
            return self.goes_on_in_place();
        }
        let batches = match std::mem::take(&mut self.in_doubt) {
            none if none.is_empty() => vec![self.world.next_batch(1, Size::Small)?],
            in_doubt => in_doubt,
        };
        let appended = self.append(&batches)?;
        self.is_poisoned_at_most(appended)
    }

    /// Whether what is in doubt is in the log, if not on the disk.
    fn is_stored(&self) -> bool {
        self.world.log().log_end_offset().0 > self.world.now.log_end()
    }

    /// Another batch comes in the place of the first of those that were refused, which are not sent again: the others may lie
    /// behind it on the disk.
    fn goes_on_in_place(&mut self) -> Checked<()> {
        let refused = std::mem::take(&mut self.in_doubt);
        let batch = self.world.next_batch(1, Size::Small)?;
        let appended = self.append(&[batch])?;
        if appended.is_ok() {
            self.world.rewind_clients();
        } else {
            self.in_doubt = refused;
        }
        self.is_poisoned_at_most(appended)
    }

    /// What a log answers that goes on, or was poisoned by a failed sync.
    fn is_poisoned_at_most(&self, answer: Result<(), Error>) -> Checked<()> {
        match answer {
            Ok(()) => Ok(()),
            Err(Error::Poisoned(cause)) => {
                ensure(self.case.may_poison(), || format!("poisoned by what was no sync: {cause:?}"))?;
                is_the_fault(&cause, self.case)?;
                let (durable, readable) =
                    (self.world.log().durable_offset(), self.world.log().high_watermark());
                ensure(readable <= durable, || format!("poisoned, it is read up to {readable} of {durable}"))
            }
            Err(error) => Err(format!("does not go on: {error}")),
        }
    }

    /// Opened again after the process died, or the power failed, everything acknowledged is there.
    fn reopens(&mut self) -> Checked<()> {
        let before = self.world.now.clone();
        let mut after = self.unfinished.take().unwrap_or_else(|| before.clone());
        for batch in std::mem::take(&mut self.in_doubt) {
            let base_offset = after.log_end();
            after.log.push(Placed { batch, base_offset });
        }
        self.world.forget_handles();
        let (disk, end) = (&self.world.disk, self.world.disk.crash_points() - 1);
        let (at_least, origin) = (before.durable, [].as_slice());
        let expected = Expected { before: &before, after: &after, origin, at_least, powered: false };
        for image in [disk.kill(end), disk.crash(end, &mut Oldest), disk.crash(end, &mut Newest)] {
            let mut opened = check::recovered(image, Geometry::Sectors, &expected)?;
            opened.take_over_clients(&self.world);
            opened.step(Op::Append { producer: 2, size: Size::Small })?;
            survives(&opened)?;
            check::goes_on(&mut opened)?;
        }
        Ok(())
    }
}

/// What an opening found and what was acknowledged since is there after a loss of power, too: also what a sync before that
/// opening failed to write, and the kernel counts as written.
fn survives(opened: &World) -> Checked<()> {
    let (disk, now) = (&opened.disk, &opened.now);
    let expected = Expected { before: now, after: now, origin: &[], at_least: now.log_end(), powered: false };
    let image = disk.crash(disk.crash_points() - 1, &mut Oldest);
    check::recovered(image, Geometry::Sectors, &expected).map(drop)
}

fn is_the_fault(cause: &IoError, case: Case) -> Checked<()> {
    let says_so = cause.source.raw_os_error() == Some(case.errno) || case.panics();
    let is_it = says_so && !cause.operation.is_empty() && cause.path.starts_with("/");
    ensure(is_it, || format!("the error does not tell what happened: {cause:?}"))
}

/// The error is the disk's, or says that a batch is in doubt because of it.
fn is_clear(error: &Error, case: Case) -> Checked<()> {
    match error {
        Error::Io(cause) | Error::Poisoned(cause) => is_the_fault(cause, case),
        Error::InDoubt if case.may_poison() => Ok(()),
        other => Err(format!("the error is none of the disk's: {other:?}")),
    }
}

/// `false` if the fault was not met: there are no more calls of the kind.
fn try_one(case: Case) -> Checked<bool> {
    let ops = parse(case.beginning)?;
    let world = World::run(case.mode, Geometry::Sectors, &ops)?;
    let mut trial = Trial { case, world, in_doubt: Vec::new(), unfinished: None };
    let Some(result) = trial.act()? else { return Ok(false) };
    if let Err(error) = &result {
        is_clear(error, case)?;
    }
    trial.goes_on()?;
    trial.reopens()?;
    Ok(true)
}

/// Tells when the last case began, so that one that hangs is named.
static BEGAN: Mutex<Option<(Instant, Case)>> = Mutex::new(None);

fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            if let Some((began, case)) = *BEGAN.lock().unwrap()
                && began.elapsed() > Duration::from_secs(60)
            {
                eprintln!("hangs: {case:?}");
                std::process::abort();
            }
        }
    });
}

/// Every call of one kind, in one action. The number of faults that were met.
fn every_call(case: Case, violations: &mut Vec<String>) -> u64 {
    for call in 1.. {
        let case = Case { call, ..case };
        *BEGAN.lock().unwrap() = Some((Instant::now(), case));
        match catching(|| try_one(case)) {
            Ok(true) => {}
            Ok(false) => return call - 1,
            Err(violation) => violations.push(format!("{case:?}: {violation}")),
        }
    }
    unreachable!()
}

fn cases(mode: IoMode) -> impl Iterator<Item = Case> {
    BEGINNINGS.into_iter().flat_map(move |beginning| {
        ACTIONS.into_iter().flat_map(move |action| {
            Operation::ALL.into_iter().map(move |operation| Case {
                mode,
                beginning,
                action,
                operation,
                call: 1,
                errno: Fault::EIO,
                way: Way::Plainly,
            })
        })
    })
}

fn fail_every_call(mode: IoMode) {
    watch();
    expect_panics();
    let (mut met, mut violations) = (0, Vec::new());
    for case in cases(mode) {
        for &errno in ERRORS {
            for &way in ways(case.operation) {
                met += every_call(Case { errno, way, ..case }, &mut violations);
            }
        }
    }
    *BEGAN.lock().unwrap() = None;
    eprintln!("faults, {mode:?}: {met} calls failed");
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), shown(&violations));
}

fn shown(violations: &[String]) -> String {
    violations.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
}

#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged_in_mapped_mode() {
    fail_every_call(IoMode::Mapped);
}

#[test]
fn a_call_that_fails_costs_nothing_that_was_acknowledged_in_write_mode() {
    fail_every_call(IoMode::Write);
}

/// Fills the disk, makes room, and goes on, without opening again.
fn fill(mode: IoMode) -> Checked<()> {
    let mut world = World::run(mode, Geometry::Sectors, &parse("append/0/exact append/1/small")?)?;
    for room in 0..12 {
        world.disk.set_capacity(Some(world.disk.used() + room * 1024));
        let refused = (0..100).find_map(|_| {
            let batch = world.next_batch(0, Size::Exact).unwrap();
            world.append(std::slice::from_ref(&batch)).err().map(|_| batch)
        });
        let batch = refused.ok_or("a full disk takes everything")?;
        let error = world.log().append(&batch).err().ok_or("a full disk takes a batch")?;
        ensure(matches!(&error, Error::Io(_)), || format!("a full disk is answered with {error:?}"))?;
        world.dir().new_producer_id().map_err(failed("an id on a full disk"))?;
        world.disk.set_capacity(None);
        world.append(&[batch])?;
        world.step(Op::Sync)?;
    }
    world.step(Op::Close)
}

#[test]
fn a_full_disk_is_an_error_and_appends_go_on_when_there_is_room() {
    for mode in [IoMode::Mapped, IoMode::Write] {
        fill(mode).unwrap();
    }
}
