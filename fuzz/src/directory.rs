//! Partition directories of any files.

use std::path::Path;

use arbitrary::Arbitrary;
use idemlog::sim::SimDisk;
use idemlog::{BatchBuilder, Batches, CorruptionPolicy, Error, Log, Offset, Timestamp};

use crate::files::{self, Files};
use crate::sim::{DIRECTORY, Host, PARTITION, mode, small, stored};
use crate::template;

#[derive(Arbitrary, Debug)]
pub struct Input {
    pub mapped: bool,
    /// Cut and keep what is damaged below the recovery point.
    pub cut: bool,
    pub clean: bool,
    pub recovery_point: Option<Point>,
    pub log_start: Option<Point>,
    /// Which sound partition it begins as; none at all for some numbers.
    pub template: u8,
    pub changes: Vec<Change>,
    /// Whether the checksums are put right afterwards.
    pub fixed: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Point {
    Base(u8),
    End,
    Small(u8),
    Any(i64),
}

#[derive(Arbitrary, Debug)]
pub enum Change {
    Set {
        file: u8,
        at: u16,
        to: u8,
    },
    SetLong {
        file: u8,
        at: u16,
        to: i64,
    },
    Insert {
        file: u8,
        at: u16,
        bytes: Vec<u8>,
    },
    Cut {
        file: u8,
        at: u16,
    },
    Zeros {
        file: u8,
        count: u16,
    },
    Remove {
        file: u8,
    },
    Rename {
        file: u8,
        name: Name,
    },
    Copy {
        file: u8,
        name: Name,
    },
    /// The end of one file behind the end of another.
    Join {
        file: u8,
        other: u8,
        at: u16,
    },
    Add {
        name: Name,
        bytes: Vec<u8>,
    },
    Text {
        name: Name,
        lines: Vec<(i32, i64)>,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Name {
    pub kind: u8,
    pub base: Point,
}

const KINDS: [&str; 5] = [".log", ".index", ".timeindex", ".txnindex", ".snapshot"];
const OTHERS: [&str; 5] = [
    "leader-epoch-checkpoint",
    "segment.prepared",
    "partition.metadata",
    "leader-epoch-checkpoint.tmp",
    "unknown",
];
const STAGES: [&str; 6] = ["", "", "", ".deleted", ".cleaned", ".swap"];
/// No file grows beyond this.
const MAX_FILE: usize = 1 << 16;

impl Point {
    fn offset(self, template: &template::Template) -> i64 {
        match self {
            Self::Base(at) => template.bases[usize::from(at) % template.bases.len()],
            Self::End => template.log_end,
            Self::Small(offset) => offset.into(),
            Self::Any(offset) => offset & i64::MAX,
        }
    }
}

impl Name {
    fn text(self, template: &template::Template) -> String {
        let kind = usize::from(self.kind);
        match kind % 16 {
            other @ 0..5 => OTHERS[other].to_owned(),
            file => {
                let base = self.base.offset(template);
                format!("{base:020}{}{}", KINDS[file % KINDS.len()], STAGES[kind / 16 % STAGES.len()])
            }
        }
    }
}

/// Opens the directory, goes on with it if that works, and looks that everything stays.
pub fn open(input: &Input) {
    let template = &template::all()[usize::from(input.template) % 3];
    let mut files = if input.template < 240 { template.files.clone() } else { Files::new() };
    input.changes.iter().take(32).for_each(|change| apply(change, &mut files, template));
    if input.fixed {
        files.iter_mut().for_each(|(name, bytes)| files::fix(name, bytes));
    }
    let disk = SimDisk::new(mode(input.mapped));
    files::write(&disk, Path::new(PARTITION), &files);
    write_checkpoints(input, template, &disk);
    let policy = if input.cut { CorruptionPolicy::CutAndKeep } else { CorruptionPolicy::Refuse };
    check(&Host::new(disk, small().corruption(policy)));
}

fn at(bytes: &[u8], at: u16) -> usize {
    usize::from(at) % (bytes.len() + 1)
}

fn apply(change: &Change, files: &mut Files, template: &template::Template) {
    match change {
        Change::Add { name, bytes } => put(files, name.text(template), bytes.clone()),
        Change::Text { name, lines } => {
            let lines: Vec<String> =
                lines.iter().map(|(epoch, start)| format!("{epoch} {start}\n")).collect();
            put(files, name.text(template), format!("0\n{}\n{}", lines.len(), lines.concat()).into());
        }
        _ if files.is_empty() => {}
        Change::Remove { file } => drop(files.remove(index(files, *file))),
        Change::Rename { file, name } => {
            let (_, bytes) = files.remove(index(files, *file));
            put(files, name.text(template), bytes);
        }
        Change::Copy { file, name } => {
            let bytes = files[index(files, *file)].1.clone();
            put(files, name.text(template), bytes);
        }
        Change::Join { file, other, at: from } => {
            let other = files[index(files, *other)].1.clone();
            let index = index(files, *file);
            files[index].1.extend_from_slice(&other[at(&other, *from)..]);
            files[index].1.truncate(MAX_FILE);
        }
        Change::Set { file, .. }
        | Change::SetLong { file, .. }
        | Change::Insert { file, .. }
        | Change::Cut { file, .. }
        | Change::Zeros { file, .. } => {
            let index = index(files, *file);
            edit(change, &mut files[index].1);
        }
    }
}

fn edit(change: &Change, bytes: &mut Vec<u8>) {
    match change {
        Change::Set { at: position, to, .. } => {
            let position = at(bytes, *position);
            bytes.get_mut(position).into_iter().for_each(|byte| *byte = *to);
        }
        Change::SetLong { at: position, to, .. } => {
            let position = at(bytes, *position);
            bytes[position..].iter_mut().zip(to.to_be_bytes()).for_each(|(byte, to)| *byte = to);
        }
        Change::Insert { at: position, bytes: inserted, .. } => {
            let position = at(bytes, *position);
            bytes.splice(position..position, inserted.iter().copied());
        }
        Change::Cut { at: position, .. } => bytes.truncate(at(bytes, *position)),
        Change::Zeros { count, .. } => bytes.resize(bytes.len() + usize::from(count % 4096), 0),
        _ => {}
    }
    bytes.truncate(MAX_FILE);
}

fn index(files: &Files, file: u8) -> usize {
    usize::from(file) % files.len()
}

fn put(files: &mut Files, name: String, bytes: Vec<u8>) {
    files.retain(|(other, _)| *other != name);
    files.push((name, bytes));
    files.sort();
}

fn write_checkpoints(input: &Input, template: &template::Template, disk: &SimDisk) {
    let line = |point: Point| format!("0\n1\nt 0 {}\n", point.offset(template)).into_bytes();
    let point = |name: &str, point: Option<Point>| point.map(|point| (name.to_owned(), line(point)));
    let clean = || (".kafka_cleanshutdown".to_owned(), Vec::new());
    let files: Files = [
        point("recovery-point-offset-checkpoint", input.recovery_point),
        point("log-start-offset-checkpoint", input.log_start),
        input.clean.then(clean),
    ]
    .into_iter()
    .flatten()
    .collect();
    files::write(disk, Path::new(DIRECTORY), &files);
}

/// What must hold of every directory that opens, and of every one that does not.
pub fn check(host: &Host) {
    let before = files::read(&host.disk, Path::new(PARTITION));
    let (dir, log) = match host.open_log() {
        Ok(opened) => opened,
        Err(Error::Corrupt(_)) => {
            assert_eq!(files::read(&host.disk, Path::new(PARTITION)), before, "a refusal changes nothing");
            return;
        }
        Err(error) => panic!("not a refusal: {error}"),
    };
    let first = stored(&log);
    let files = files::read(&host.disk, Path::new(PARTITION));
    assert!(files_end(&files) <= log.log_end_offset(), "batches behind the log end: {}", log.recovery());
    look_around(&log);
    drop((dir, log));

    let (dir, log) = host.open_log().expect("what opened once opens again");
    assert_eq!(stored(&log), first, "opening twice changes nothing: {}", log.recovery());
    assert!(log.recovery().cut.is_none(), "cut again: {}", log.recovery());
    let end = log.log_end_offset();
    let batch = BatchBuilder::new().record("k", "behind").timestamp(Timestamp(7)).build().unwrap();
    let appended = log.append(&batch);
    if let Ok(outcome) = &appended {
        assert_eq!(outcome.base_offset(), end);
    }
    let second = stored(&log);
    assert!(
        second.1.is_some() || second.0.len() == first.0.len() + usize::from(appended.is_ok()),
        "{first:?}, then {second:?} after {appended:?}"
    );
    let closed = dir.close();
    drop((dir, log));

    match host.open_log() {
        Ok((_dir, log)) => {
            assert_eq!(stored(&log), second, "after a close: {}", log.recovery());
            assert!(log.recovery().cut.is_none(), "cut after a close ({closed:?}): {}", log.recovery());
        }
        // Damage in front of the end, where opening had no reason to look.
        Err(error) => assert!(second.1.is_some() || closed.is_err(), "after a close: {error}"),
    }
}

/// The offset behind the last batch in the `.log` files of a log that is open. A batch that says it lies behind the file
/// that follows its own is damage in front of the end.
fn files_end(files: &Files) -> Offset {
    let base = |(name, bytes): &(String, Vec<u8>)| {
        let base = name.strip_suffix(".log")?.parse().ok()?;
        Some((Offset(base), bytes.clone()))
    };
    let logs: Vec<(Offset, Vec<u8>)> = files.iter().filter_map(base).collect();
    let end = |(at, (_, bytes)): (usize, &(Offset, Vec<u8>))| {
        let next_base = logs.get(at + 1).map_or(Offset(i64::MAX), |(base, _)| *base);
        let batches = Batches::new(bytes.clone().into()).ignore_incomplete().map_while(Result::ok);
        batches.map(|batch| batch.header().next_offset()).filter(|end| *end <= next_base).last()
    };
    logs.iter().enumerate().filter_map(end).max().unwrap_or(Offset(0))
}

/// Reads by offset and by time; whatever the answers, they come.
fn look_around(log: &Log) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    for offset in [start, start + (end - start) / 2, end + -1, end] {
        if let Ok(fetched) = log.read(offset, 500) {
            assert!(fetched.bytes.len() <= 1 << 20);
        }
    }
    for timestamp in [i64::MIN, -1, 0, 12, 40, i64::MAX] {
        if let Ok(Some(found)) = log.offset_for_timestamp(Timestamp(timestamp)) {
            assert!(found.timestamp >= Timestamp(timestamp) && found.offset >= start && found.offset < end);
        }
    }
    assert!(log.producers().len() <= 1 << 16);
}
