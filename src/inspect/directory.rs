//! What an opening of a whole log directory would come to.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use super::{InspectOptions, Place, request};
use crate::environment::Environment;
use crate::error::{Error, IoContext, Result};
use crate::fs::name::TopicPartition;
use crate::fs::{Disk, RealDisk};
use crate::log::{CheckpointedState, Log, RecoveryReport};
use crate::log_dir::look::{self, Around};
use crate::log_dir::{Checkpoints, LogDirOptions, vanished};

/// How often a partition that an owner may be at work in is looked at, until it is as it seems.
const LOOKS: usize = 5;

/// What an opening of a log directory would come to, found by [`inspect_directory`].
///
/// ```
/// use idemlog::inspect::inspect_directory;
/// # use idemlog::{LogDir, LogDirOptions};
/// # let data = tempfile::tempdir().unwrap();
/// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// # dir.partition("orders", 0)?;
/// # dir.close()?;
/// let found = inspect_directory(data.path(), |_, _| {})?;
/// for (name, opened) in &found.partitions {
///     println!("{name}: {}", opened.as_ref().is_ok_and(|report| !report.lacks_durable()));
/// }
/// assert!(found.marked_clean);
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct DirectoryInspection {
    /// Whether the directory is marked as closed well.
    pub marked_clean: bool,
    /// What opening each partition would come to, in order. One whose report says
    /// [`lacks_durable`](RecoveryReport::lacks_durable), or that has an error, does not open: the others do. One whose directory
    /// has vanished is [`MissingPartition`](crate::CorruptionKind::MissingPartition).
    pub partitions: Vec<(TopicPartition, Result<RecoveryReport>)>,
}

/// Opens all partitions in the log directory `path`, several at a time, as [`inspect`](super::inspect()) does one: for reading
/// only, by what the checkpoints say, with damage cut off instead of refused. Changes nothing and takes no lock. Each partition
/// is left before the next one, so that the producers of a few are in memory at a time.
///
/// `progress` is told behind each partition how many are done, and of how many.
///
/// ```
/// use idemlog::inspect::inspect_directory;
/// use idemlog::{LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?;
/// drop(dir); // not closed: as after a crash
///
/// let found = inspect_directory(data.path(), |done, of| println!("{done} of {of}"))?;
/// let reports = found.partitions.iter().filter_map(|(_, report)| report.as_ref().ok());
/// println!("{} bytes to read", reports.map(|report| report.bytes_read).sum::<u64>());
/// assert!(!found.marked_clean);
/// # Ok::<(), idemlog::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Corrupt`](crate::Error::Corrupt) for a file that concerns all partitions and is damaged, with which the directory does
/// not open at all; the disk's. What is wrong with a partition is in its place of the result.
pub fn inspect_directory(
    path: impl AsRef<Path>,
    mut progress: impl FnMut(usize, usize),
) -> Result<DirectoryInspection> {
    let directory = Directory::read(path.as_ref())?;
    let (next, (sender, done)) = (AtomicUsize::new(0), mpsc::channel());
    let mut partitions = Vec::new();
    thread::scope(|scope| {
        let ahead = &directory.environment.check_ahead;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        for (at, opener) in (0..threads).map(|_| ahead.opener()).collect::<Vec<_>>().into_iter().enumerate() {
            let (directory, next, sender) = (&directory, &next, sender.clone());
            let work = move || {
                directory.work(next, &sender);
                drop((opener, sender));
                ahead.help();
            };
            let thread = thread::Builder::new().spawn_scoped(scope, work);
            // Without one of the others the rest do its work.
            if at == 0 {
                thread.at("start a thread for", directory.path)?;
            }
        }
        drop(sender);
        for partition in done {
            partitions.push(partition);
            progress(partitions.len(), directory.partitions.len());
        }
        Ok::<_, Error>(())
    })?;
    partitions.sort_by_key(|(at, _)| *at);
    directory.with(partitions)
}

type Opened = Option<Result<RecoveryReport>>;

/// What the files of the directory say, read once.
struct Directory<'a> {
    path: &'a Path,
    environment: Arc<Environment>,
    is_copy: bool,
    clean: bool,
    partitions: Vec<TopicPartition>,
    checkpoints: Checkpoints,
}

impl<'a> Directory<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        look::check_own_files(&disk, path).into_iter().collect::<Result<()>>()?;
        let partitions = match Place::of(&*disk, path)? {
            Some(Place::LogDirectory { partitions }) => partitions,
            Some(Place::Partition) | None => Vec::new(),
        };
        Ok(Self {
            path,
            is_copy: !look::is_log_dir(&*disk, path)?,
            clean: look::is_clean(&*disk, path)?,
            partitions,
            checkpoints: Checkpoints::read(&*disk, path)?,
            environment: Arc::new(
                LogDirOptions::default().read_only(true).disk(disk).environment(None, None),
            ),
        })
    }

    /// Opens partitions until none is left.
    fn work(&self, next: &AtomicUsize, sender: &mpsc::Sender<(usize, Opened)>) {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = self.partitions.get(at) else { break };
            if sender.send((at, self.open(name))).is_err() {
                break;
            }
        }
    }

    /// `None` for a partition that was deleted meanwhile.
    fn open(&self, name: &TopicPartition) -> Opened {
        let path = self.path.join(name.to_string());
        // Of a copy nothing is known but what is in it.
        let mut opened = self.recovery(&path, self.checkpoints.state(name, self.clean || self.is_copy));
        for _ in 1..LOOKS {
            // An owner may have rolled or cut the log beside this, or have moved what the checkpoints say of it.
            let is_sound = opened.as_ref().is_ok_and(|report| !report.lacks_durable());
            if is_sound || look::in_use(self.path).is_none() {
                break;
            }
            let around = Around { directory: self.path.to_owned(), name: name.clone() };
            opened = around.state().and_then(|state| self.recovery(&path, state));
        }
        (opened.is_ok() || path.exists()).then_some(opened)
    }

    fn recovery(&self, path: &Path, state: CheckpointedState) -> Result<RecoveryReport> {
        let producer_expiry_ms = InspectOptions::default().producer_expiry_ms;
        let log = Log::open(request(path, Arc::clone(&self.environment), producer_expiry_ms, state)?)?;
        Ok(log.recovery().clone())
    }

    fn with(self, opened: Vec<(usize, Opened)>) -> Result<DirectoryInspection> {
        let missing = vanished(&*self.environment.disk, self.path)?;
        let named = self.partitions.into_iter().zip(opened);
        let mut partitions: Vec<_> = named.filter_map(|(name, (_, opened))| Some((name, opened?))).collect();
        partitions.extend(missing.into_iter().map(|(name, error)| (name, Err(error))));
        partitions.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(DirectoryInspection { marked_clean: self.clean, partitions })
    }
}
