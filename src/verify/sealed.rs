//! Partitions that an owner may be at work in: what lies below the recovery point, which changes no more until it is taken away.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Problem, ProblemKind, Progress, Severity, VerifyOptions, VerifyReport, partition};
use crate::error::{Error, Result};
use crate::fs::{Disk, RealDisk};
use crate::log::CheckpointedState;
use crate::log_dir::look::{Around, is_log_dir};
use crate::log_dir::{Checkpoints, Place};

/// How often a partition is looked at that is truncated again and again.
const LOOKS: usize = 5;

/// Verifies the partitions at `path`, whoever has them open.
pub(super) fn verify(path: &Path, options: &VerifyOptions, progress: Progress<'_>) -> Result<VerifyReport> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut report = VerifyReport::default();
    match Place::of(&*disk, path)? {
        Some(Place::LogDirectory { partitions }) => {
            let all = checkpoints(&*disk, path)?;
            for name in partitions {
                let told = all.as_ref().map(|all| all.state(&name, true));
                add_partition(&disk, &path.join(name.to_string()), options, told, &mut report, progress);
            }
        }
        Some(Place::Partition) => add_partition(&disk, path, options, None, &mut report, progress),
        None => report.error(path, 0, ProblemKind::NotALog),
    }
    Ok(report)
}

/// What the checkpoints say of all partitions, read once: they are as long as there are partitions. `None` where there are none,
/// and for damaged ones, which is told of each partition.
fn checkpoints(disk: &dyn Disk, path: &Path) -> Result<Option<Checkpoints>> {
    Ok(if is_log_dir(disk, path)? { Checkpoints::read(disk, path).ok() } else { None })
}

/// Adds a partition to the report; at first by what was `told` of it, if anything was, then by what the checkpoint says now.
fn add_partition(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &VerifyOptions,
    mut told: Option<CheckpointedState>,
    report: &mut VerifyReport,
    progress: Progress<'_>,
) {
    let read_before = report.bytes;
    let mut pass = |progress: Progress<'_>| {
        or_unread(directory, settled(disk, directory, options, told.take(), progress))
    };
    let found = confirmed(&mut pass, &mut |bytes| progress(read_before + bytes));
    // One that is deleted meanwhile is none any more.
    if directory.exists() {
        report.absorb(directory.to_owned(), found);
    }
}

impl VerifyReport {
    fn absorb(&mut self, partition: PathBuf, found: Self) {
        self.partitions.push(partition);
        self.problems.extend(found.problems);
        self.looked_below.extend(found.looked_below);
        self.batches += found.batches;
        self.bytes += found.bytes;
    }
}

/// What a pass finds, as far as another one finds it, too: what a truncation or a deletion beside the first made look wrong is gone
/// in the second, which goes by the recovery point of now. What is damaged stays so.
fn confirmed(pass: &mut dyn FnMut(Progress<'_>) -> VerifyReport, progress: Progress<'_>) -> VerifyReport {
    let mut found = pass(progress);
    if found.has_errors() {
        let again = pass(&mut |_| {});
        let is_there = |problem: &Problem| again.problems.iter().any(|other| same(problem, other));
        found.problems.retain(|problem| problem.severity == Severity::Note || is_there(problem));
    }
    found
}

/// A pass beside which nothing was truncated, if one can be had; at first the checkpoint tells, then the files are cut. By what was
/// `told` of the partition before, it can only be found sound.
fn settled(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &VerifyOptions,
    told: Option<CheckpointedState>,
    progress: Progress<'_>,
) -> Result<VerifyReport> {
    let mut look = |before: CheckpointedState| -> Result<_> {
        let mut report = pass(disk, directory, options, before, progress)?;
        if !report.has_errors() {
            return Ok((report, true));
        }
        let after = checkpointed(directory)?;
        // What the checkpoint of now has in front of the log start was deleted, and the first segment was it that was listed.
        report.problems.retain(|problem| match problem.kind {
            ProblemKind::MissingHead { got, .. } => after.missing_head(got).is_some(),
            _ => true,
        });
        Ok((report, after.recovery_point >= before.recovery_point))
    };
    if let Some(told) = told {
        let (report, _) = look(told)?;
        if !report.has_errors() {
            return Ok(report);
        }
    }
    for _ in 1..LOOKS {
        let (report, is_settled) = look(checkpointed(directory)?)?;
        if is_settled || !report.has_errors() {
            return Ok(report);
        }
    }
    look(checkpointed(directory)?).map(|(report, _)| report)
}

/// A partition that cannot be read does not keep the others from it.
fn or_unread(directory: &Path, pass: Result<VerifyReport>) -> VerifyReport {
    pass.unwrap_or_else(|error| {
        let mut report = VerifyReport::default();
        report.add(Severity::Unread, directory, 0, ProblemKind::Unread { error: error.to_string() });
        report
    })
}

/// Whether it is the same that is wrong: up to where a log must reach moves while it is appended to. Where it ends too early does
/// not, but where it is truncated.
fn same(one: &Problem, other: &Problem) -> bool {
    let place = |problem: &Problem| {
        let end = match problem.kind {
            ProblemKind::MissingEnd { got, .. } => Some(got),
            _ => None,
        };
        (problem.position, problem.severity, problem.kind.name(), end)
    };
    one.path == other.path && place(one) == place(other)
}

fn checkpointed(directory: &Path) -> Result<CheckpointedState> {
    Around::of_partition(directory)?.map_or_else(|| Ok(CheckpointedState::default()), |around| around.state())
}

fn pass(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    options: &VerifyOptions,
    state: CheckpointedState,
    progress: Progress<'_>,
) -> Result<VerifyReport> {
    let mut report = VerifyReport::default();
    // Nothing of it is a crash's: all below the recovery point is there.
    let state = CheckpointedState { clean: true, ..state };
    partition::verify(disk, directory, options, state, &mut report, progress)?;
    report.problems.retain(|problem| !is_under_way(&problem.kind));
    Ok(report)
}

/// What an owner makes and takes away again, and what it has above the recovery point.
fn is_under_way(kind: &ProblemKind) -> bool {
    matches!(
        kind,
        ProblemKind::Leftover
            | ProblemKind::UnfinishedCompaction
            | ProblemKind::OrphanIndex
            | ProblemKind::EmptyBytes { .. }
            | ProblemKind::NewLeaderEpoch { .. }
            | ProblemKind::LeaderEpochBeyondEnd { .. }
    )
}

/// Whether a file is not there any more.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io(io) if io.source.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::name::SegmentFile;
    use crate::fs::sim::{Fault, Operation, SimDisk};
    use crate::fs::{Access, IoMode};
    use crate::log_dir::{LogDir, LogDirOptions};
    use crate::types::Offset;
    use crate::{BatchBuilder, LogOptions};

    const DIRECTORY: &str = "/data/orders-0";

    /// A log of several segments of four batches, and its recovery point.
    fn segments() -> (SimDisk, Offset) {
        let disk = SimDisk::new(IoMode::Write);
        let options = LogOptions::default().io_mode(Some(IoMode::Write)).segment_bytes(4096);
        let options = options.max_batch_bytes(4096);
        let dir = LogDir::open("/data", LogDirOptions::default().disk(Arc::new(disk.clone())).log(options));
        let (dir, batch) = (dir.unwrap(), BatchBuilder::new().record("k", "x".repeat(900)).build().unwrap());
        let log = dir.partition("orders", 0).unwrap();
        for _ in 0..20 {
            log.append(&batch).unwrap();
        }
        dir.close().unwrap();
        (disk, log.log_end_offset())
    }

    fn log(base: i64) -> PathBuf {
        Path::new(DIRECTORY).join(SegmentFile::Log.name(Offset(base)))
    }

    fn look(disk: &SimDisk, recovery_point: Option<Offset>) -> VerifyReport {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = VerifyOptions::default().sealed(true);
        let state = CheckpointedState { recovery_point, ..CheckpointedState::default() };
        pass(&disk, Path::new(DIRECTORY), &options, state, &mut |_| {}).unwrap()
    }

    fn damage(disk: &SimDisk, base: i64) {
        disk.open(&log(base), Access::Write).unwrap().write_at(&[0xff], 500).unwrap();
    }

    fn found(report: &VerifyReport) -> Vec<(PathBuf, &'static str)> {
        report.problems.iter().map(|problem| (problem.path.clone(), problem.kind.name())).collect()
    }

    #[test]
    fn what_is_above_the_recovery_point_is_not_looked_at() {
        let (disk, end) = segments();
        assert_eq!(found(&look(&disk, Some(end))), []);
        damage(&disk, 8);
        for (point, batches, expected) in [(8, 8, vec![]), (9, 9, vec![(log(8), "crc")])] {
            let report = look(&disk, Some(Offset(point)));
            assert_eq!((found(&report), report.batches), (expected, batches), "{point}");
            assert_eq!(report.looked_below, [(PathBuf::from(DIRECTORY), Offset(point))]);
        }
    }

    #[test]
    fn without_a_checkpoint_all_segments_but_the_last_are_looked_at() {
        let (disk, end) = segments();
        let last = end.0 - 4;
        damage(&disk, last);
        let report = look(&disk, None);
        assert_eq!((found(&report), report.looked_below[0].1), (vec![], Offset(last)));
        damage(&disk, last - 4);
        assert_eq!(found(&look(&disk, None)), [(log(last - 4), "crc")]);
    }

    /// One bad sector kept `verify` from everything that the partition has behind it.
    #[test]
    fn a_segment_that_cannot_be_read_does_not_hide_the_others() {
        let (disk, end) = segments();
        damage(&disk, 12);
        disk.inject(Fault::nth(Operation::Read, 1).on(SegmentFile::Log.name(Offset(4))).forever());
        assert_eq!(found(&look(&disk, Some(end))), [(log(4), "unread"), (log(12), "crc")]);
    }

    /// As retention takes it between the listing of the directory and the first read.
    #[test]
    fn a_segment_that_is_gone_when_it_is_its_turn_is_no_finding() {
        let (disk, end) = segments();
        for opened in [2, 1] {
            let gone = Fault::nth(Operation::Open, opened).on(SegmentFile::Log.name(Offset(0))).errno(2);
            disk.inject(gone.forever());
            let report = look(&disk, Some(end));
            assert_eq!((found(&report), report.batches), (vec![], 16), "{opened}");
        }
    }

    /// 10,000 partitions took two minutes, in which the checkpoints of all were read for each of them, twice.
    #[test]
    fn of_a_partition_in_which_nothing_is_wrong_the_checkpoint_is_not_read_again() {
        let (disk, end) = segments();
        let disks: Arc<dyn Disk> = Arc::new(disk.clone());
        let told = CheckpointedState { recovery_point: Some(end), ..CheckpointedState::default() };
        // The checkpoints are read from the real disk, and are not there.
        let settled = || {
            let options = VerifyOptions::default().sealed(true);
            settled(&disks, Path::new(DIRECTORY), &options, Some(told), &mut |_| {})
        };
        assert_eq!(found(&settled().unwrap()), []);
        damage(&disk, 8);
        assert!(settled().is_err());
    }

    /// A truncation cuts a file and writes it anew while it is read: half a batch of one and half of another.
    #[test]
    fn what_only_the_first_of_two_looks_finds_is_no_finding() {
        let problem = |base, expected| {
            let kind = ProblemKind::MissingEnd { expected: Offset(expected), got: Offset(7) };
            let (severity, loses_data) = (Severity::Error, true);
            Problem { path: log(base), position: 0, severity, kind, loses_data }
        };
        let looks = [vec![problem(0, 9), problem(4, 9)], vec![problem(4, 11), problem(8, 11)]];
        let mut looks = looks.into_iter();
        let mut pass =
            |_: Progress<'_>| VerifyReport { problems: looks.next().unwrap(), ..VerifyReport::default() };
        let report = confirmed(&mut pass, &mut |_| {});
        assert_eq!(report.problems, [problem(4, 9)]);
    }

    /// Segments were gone when it was their turn, twice, and each time the log was as long again when the checkpoint was asked: of a
    /// partition that is truncated all the time on a busy machine it was said that its end is missing.
    #[test]
    fn an_end_that_is_missing_elsewhere_in_the_second_look_is_no_finding() {
        for (again, expected) in [(770, 1), (810, 0)] {
            let mut looks = [770, again].into_iter();
            let mut pass = |_: Progress<'_>| {
                let kind =
                    ProblemKind::MissingEnd { expected: Offset(820), got: Offset(looks.next().unwrap()) };
                let mut report = VerifyReport::default();
                report.error(Path::new(DIRECTORY), 0, kind);
                report
            };
            assert_eq!(confirmed(&mut pass, &mut |_| {}).problems.len(), expected, "{again}");
        }
    }
}
