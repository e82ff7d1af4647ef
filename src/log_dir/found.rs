//! What lies in a log directory, and how its partitions are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::checkpoints::Checkpoints;
use super::options::LogDirOptions;
use crate::environment::{Environment, HELPERS_MAX};
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::missing::if_present;
use crate::fs::name::{PartitionDirectory, TopicPartition, directory_file};
use crate::fs::{Disk, EntryKind, IoMode};
use crate::log::{CheckpointedState, Log, LogOptions, OpenRequest};
use crate::types::Offset;

pub(super) fn open_request(
    name: &TopicPartition,
    directory: PathBuf,
    options: LogOptions,
    environment: &Arc<Environment>,
    checkpointed: CheckpointedState,
) -> Result<OpenRequest> {
    let mode = match options.io_mode {
        // Whoever holds the lock may cut what is mapped without it.
        _ if environment.read_only => IoMode::Write,
        Some(mode) => mode,
        None => environment.disk.io_mode(&directory).at("look up the file system of", &directory)?,
    };
    Ok(OpenRequest {
        name: name.clone(),
        directory,
        environment: Arc::clone(environment),
        options,
        mode,
        checkpointed,
        for_repair: false,
    })
}

/// What lies in the directory.
pub(super) struct Found {
    partitions: Vec<TopicPartition>,
    pub(super) deleted: Vec<PathBuf>,
    /// What else lies there, by name.
    others: Vec<OsString>,
    clean: bool,
    checkpoints: Checkpoints,
}

/// What opening the partitions came to.
pub(super) type Opened = (BTreeMap<TopicPartition, Log>, BTreeMap<TopicPartition, Failed>);

/// A partition that did not open, or whose deletion failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) state: CheckpointedState,
    /// The name that its directory was to get, and may have, where its deletion failed.
    pub(super) doomed: Option<PathBuf>,
    /// Whether it is being deleted just now.
    pub(super) is_going: bool,
}

impl Failed {
    pub(super) fn new(error: Error, state: CheckpointedState) -> Self {
        Self { error, state, doomed: None, is_going: false }
    }

    /// Whether there is no directory of that name. Nothing of the partition is left to be closed badly.
    pub(super) fn is_missing(&self) -> bool {
        let Error::Corrupt(corruption) = &self.error else { return false };
        matches!(corruption.kind, CorruptionKind::MissingPartition { .. })
    }
}

impl Found {
    pub(super) fn in_directory(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let checkpoints = Checkpoints::read(disk, path)?;
        let (partitions, deleted, others) = (Vec::new(), Vec::new(), Vec::new());
        let mut found = Self { partitions, deleted, others, clean: false, checkpoints };
        for entry in disk.list(path).at("list", path)? {
            if entry.kind == EntryKind::File {
                found.clean |= entry.name == directory_file::CLEAN_SHUTDOWN;
            }
            if entry.kind == EntryKind::Directory {
                match PartitionDirectory::parse(&entry.name) {
                    PartitionDirectory::Live(partition) => {
                        found.partitions.push(partition);
                        continue;
                    }
                    PartitionDirectory::Deleted => found.deleted.push(path.join(&entry.name)),
                    PartitionDirectory::Future | PartitionDirectory::Stray | PartitionDirectory::Other => {}
                }
            }
            found.others.push(entry.name);
        }
        Ok(found)
    }

    /// Takes the clean marker away before anything is opened, so that a crash from here on is seen as one; makes durable which
    /// partitions there are, and gives the room of deleted ones back, as far as it can.
    pub(super) fn begin(&self, disk: &dyn Disk, path: &Path) -> Result<()> {
        if self.clean {
            let marker = path.join(directory_file::CLEAN_SHUTDOWN);
            disk.remove_file(&marker).at("remove", &marker)?;
        }
        // Also of what was created or deleted by a process that died before it had synced the name.
        disk.sync_directory(path).at("sync directory", path)?;
        for doomed in &self.deleted {
            report_unremoved(doomed, empty_deleted(disk, doomed));
        }
        Ok(())
    }

    /// Opens all partitions, several at a time. Who finds none left checks ahead of the others.
    pub(super) fn open_partitions(
        self,
        path: &Path,
        options: &LogDirOptions,
        environment: &Arc<Environment>,
    ) -> Result<Opened> {
        let next = AtomicUsize::new(0);
        let opened = Mutex::new(Opened::default());
        let watched = options.watched(self.partitions.len());
        let open = || {
            while let Some(name) = self.partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
                let directory = path.join(name.to_string());
                let state = self.checkpoints.state(name, self.clean);
                watched.opening(name);
                let log = options
                    .log_options(name)
                    .and_then(|options| open_request(name, directory, options, environment, state))
                    .and_then(Log::open);
                if let Err(error) = &log {
                    report_unopened(name, error);
                }
                watched.opened(name, &log);
                let mut opened = opened.lock();
                match log {
                    Ok(log) => drop(opened.0.insert(name.clone(), log)),
                    Err(error) => drop(opened.1.insert(name.clone(), Failed::new(error, state))),
                }
            }
        };
        let ahead = &environment.check_ahead;
        let work = |opener| {
            open();
            drop(opener);
            ahead.help();
        };
        thread::scope(|scope| {
            let own = ahead.opener();
            for opener in (1..self.recovery_threads(options)).map(|_| ahead.opener()).collect::<Vec<_>>() {
                // Without it the others do its work.
                let _ = thread::Builder::new().spawn_scoped(scope, move || work(opener));
            }
            work(own);
        });
        Ok(opened.into_inner())
    }

    /// As many threads as find something to do: of a clean directory nothing is checked ahead.
    fn recovery_threads(&self, options: &LogDirOptions) -> usize {
        let to_a_partition = if self.clean { 1 } else { 1 + HELPERS_MAX };
        options.recovery_thread_count().min(self.partitions.len() * to_a_partition)
    }

    /// The partitions that only the checkpoints tell of: those that are gone, and those that did not go by a deletion, of which the
    /// checkpoints do not tell, or the directory is there. Kafka, which deletes in another order, is believed where it ended well.
    pub(super) fn absent(&self, path: &Path) -> (BTreeSet<TopicPartition>, BTreeMap<TopicPartition, Failed>) {
        let here: BTreeSet<_> = self.partitions.iter().collect();
        let (mut gone, mut missing) = (BTreeSet::new(), BTreeMap::new());
        for name in self.checkpoints.names().filter(|name| !here.contains(name)) {
            let state = self.checkpoints.state(name, self.clean);
            let lost = self.durable_part(name, state);
            match lost {
                Some(recovery_point) if self.clean || state.is_ours => {
                    let kind = CorruptionKind::MissingPartition { recovery_point };
                    let error = Error::corrupt(&path.join(name.to_string()), 0, kind);
                    missing.insert(name.clone(), Failed::new(error, state));
                }
                _ => {
                    if let Some(_point) = lost {
                        event!(warn, partition = %name, recovery_point = _point.0, "not there: deleted right before a crash of Kafka's, or lost");
                    }
                    gone.insert(name.clone());
                }
            }
        }
        (gone, missing)
    }

    /// Up to where a partition without a directory was durable, if anything of it was, and it was not being deleted, and Kafka is not
    /// moving it here: both under a longer name.
    fn durable_part(&self, name: &TopicPartition, state: CheckpointedState) -> Option<Offset> {
        let is_moved = || PartitionDirectory::has_longer_name(name, &self.others);
        // A log whose records are all deleted begins where they ended.
        let has_begun = |&point: &Offset| point.max(state.log_start.unwrap_or_default()) > Offset::ZERO;
        state.recovery_point.filter(has_begun).filter(|_| !is_moved())
    }
}

/// The partitions that an opening of the directory would refuse because they have vanished, each with its error. Seen twice: an owner
/// may be deleting some, which the checkpoints tell of a little longer than their directories are there.
pub(crate) fn vanished(disk: &dyn Disk, path: &Path) -> Result<Vec<(TopicPartition, Error)>> {
    let look = || Ok::<_, Error>(Found::in_directory(disk, path)?.absent(path).1);
    let first = look()?;
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let again = look()?.into_iter().filter(|(name, _)| first.contains_key(name));
    Ok(again.map(|(name, failed)| (name, failed.error)).collect())
}

/// Tells the host's subscriber of a partition that did not open.
pub(super) fn report_unopened(_name: &TopicPartition, _error: &Error) {
    event!(error, partition = %_name, error = %_error, "did not open");
}

/// Removes the files of a deleted partition, but not its directory: that is what tells a deletion from a loss while the checkpoints tell
/// of it, and they may need the room.
pub(super) fn empty_deleted(disk: &dyn Disk, doomed: &Path) -> Result<()> {
    let entries = match disk.list(doomed) {
        // Of one that vanished there was no directory.
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed.at("list", doomed)?,
    };
    for entry in entries {
        if entry.kind != EntryKind::Directory {
            let path = doomed.join(entry.name);
            if_present(disk.remove_file(&path)).at("remove", &path)?;
        }
    }
    Ok(())
}

/// Removes what a deletion has left, when the checkpoints tell of it no more.
pub(super) fn remove_deleted(disk: &dyn Disk, doomed: &Path) {
    report_unremoved(doomed, disk.remove_directory(doomed).at("remove", doomed));
}

/// What cannot be removed is in nobody's way, and the next opening tries again.
fn report_unremoved(_doomed: &Path, removed: Result<()>) {
    if let Err(_error) = removed {
        event!(warn, directory = %_doomed.display(), error = %_error, "a deleted partition is not removed");
    }
}
