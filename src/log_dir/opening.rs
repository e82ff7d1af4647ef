//! The opening of a directory: what is taken, read, and begun, in which order.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::closing::Closing;
use super::found::{Found, remove_deleted, report_unopened};
use super::look::is_log_dir;
use super::producers::{open_named_producers, open_producer_ids};
use super::{Inner, LogDir, LogDirOptions};
use crate::environment::{Checkpointer, Reserve};
use crate::error::{Error, IoContext, Result};
use crate::fs::name::directory_file;
use crate::fs::{DirectoryLock, Disk, atomic};

impl LogDir {
    /// Opens the directory, which is created if missing (unless it is opened
    /// [`read_only`](LogDirOptions::read_only)), and recovers every partition in it, several at a time.
    ///
    /// A partition that cannot be opened does not keep the others from it: [`partition`](Self::partition) returns its
    /// error, and [`failed`](Self::failed) lists them.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a value that cannot work, and for [`producer_ids`](LogDirOptions::producer_ids) that end below
    /// an id that was reserved before; [`Error::NotALogDir`] if it [must exist](LogDirOptions::must_exist) and is none, and nothing is
    /// made then; [`Error::Locked`] if this or another process has it open, or a running Kafka;
    /// [`Error::Corrupt`] if a file that concerns all partitions is damaged; the disk's, also where a thread cannot be started.
    pub fn open(path: impl AsRef<Path>, options: LogDirOptions) -> Result<Self> {
        options.validate()?;
        let _started = Instant::now();
        let path = path.as_ref();
        // The host may go elsewhere; the lock is on what the path means now.
        let path = std::path::absolute(path).at("find", path)?;
        let disk = Arc::clone(&options.disk);
        if options.must_exist && !is_log_dir(&*disk, &path)? {
            return Err(Error::NotALogDir { path });
        }
        if !options.read_only {
            atomic::create_directory_durably(&*disk, &path)?;
        }
        let lock = if options.read_only { None } else { Some(take_lock(&*disk, &path)?) };
        let reserve =
            (!options.read_only).then(|| Reserve::new(Arc::clone(&disk), path.join(directory_file::RESERVE)));
        let environment = Arc::new(options.environment(lock, reserve));
        let mut found = Found::in_directory(&*disk, &path)?;
        let named_producers = open_named_producers(&path, &options, &environment.fences)?;
        if !options.read_only {
            found.begin(&*disk, &path)?;
        }
        let (gone, missing) = found.absent(&path);
        missing.iter().for_each(|(name, failed)| report_unopened(name, &failed.error));
        let deleted = std::mem::take(&mut found.deleted);
        let (partitions, mut failed) = found.open_partitions(&path, &options, &environment)?;
        failed.extend(missing);
        let named = named_producers.as_ref();
        let producer_ids =
            named.map(|named| open_producer_ids(&path, &options, &partitions, named)).transpose()?;
        let inner = Arc::new(Inner {
            path,
            environment,
            partitions: RwLock::new(partitions),
            creating: Mutex::default(),
            gone: Mutex::new(gone),
            failed: Mutex::new(failed),
            producer_ids,
            named_producers,
            closing: Closing::default(),
            deletions: AtomicUsize::new(0),
            threads: Mutex::default(),
            options,
        });
        let dir = Self { inner };
        dir.start(&deleted)?;
        event!(
            info,
            directory = %dir.path().display(),
            partitions = dir.partitions().len(),
            failed = dir.failed().len(),
            elapsed = ?_started.elapsed(),
            "log directory opened"
        );
        Ok(dir)
    }

    /// Corrects the recovery points and log starts in the checkpoint files, finishes deletions as far as it can, and starts the threads
    /// that were asked for.
    fn start(&self, deleted: &[PathBuf]) -> Result<()> {
        let inner = &self.inner;
        let checkpointer: Weak<dyn Checkpointer> = Arc::<Inner>::downgrade(inner) as Weak<dyn Checkpointer>;
        inner.environment.checkpoints.write_by(checkpointer);
        if !inner.options.read_only {
            if !deleted.is_empty() {
                inner.environment.checkpoints.set_stale();
            }
            // By the old one, what is appended behind a cut would be taken for durable, and its loss for damage.
            inner.environment.with_reserve(|| inner.environment.checkpoints.write_if_stale())?;
            // Behind that: while the checkpoints tell of a partition, its directory is what tells a deletion from a loss.
            deleted.iter().for_each(|doomed| remove_deleted(&*inner.options.disk, doomed));
            // Where there is no room, appends see to it.
            let _ = inner.environment.keep_reserve();
        }
        for number in 0..inner.options.background_threads {
            let queue = inner.enlist();
            let thread = thread::Builder::new()
                .name(format!("idemlog-{number}"))
                .spawn(move || queue.run())
                .at("start a thread for", &inner.path)?;
            inner.threads.lock().push(thread);
        }
        Ok(())
    }
}

pub(crate) fn take_lock(disk: &dyn Disk, directory: &Path) -> Result<DirectoryLock> {
    let path = directory.join(directory_file::LOCK);
    disk.lock(&path).at("lock", &path)?.ok_or_else(|| Error::Locked { path: directory.to_owned() })
}
