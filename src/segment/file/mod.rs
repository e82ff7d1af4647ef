//! The bytes of one `.log` file: found again by readers, allocated in steps, synced in ranges.

mod blocks;
mod leaving;
mod opened;
mod sink;
mod syncing;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

pub(crate) use blocks::ALLOCATION_STEP_MIN;
use opened::{Opened, View};
pub(crate) use sink::{Sink, Stamps};

use crate::error::{Error, IoContext, Result};
use crate::fs::{Access, Disk, DiskFile, IoMode};

/// How much of a file is copied at once.
const COPY_STEP: u64 = 1 << 20;

/// A `.log` file. Bytes below [`end`](Self::end) are published: they never change, and stay for those who hold them.
#[derive(Debug)]
pub(crate) struct LogFile {
    disk: Arc<dyn Disk>,
    mode: IoMode,
    /// The lock is held over a rename and over every open, so that nobody looks for the old name behind the rename's
    /// back, or opens a file that is being cut.
    place: Mutex<Place>,
    /// Whether the file is out of the log. Set under the lock of `place`.
    retired: AtomicBool,
    /// What readers read from, opened when the first one comes and given back when maps run short.
    opened: ArcSwapOption<Opened>,
    /// Whether the budget of open segments counts what is opened.
    counted: AtomicBool,
    /// Where the published bytes end.
    end: AtomicU64,
    /// Below this, everything is on the disk.
    synced: AtomicU64,
    /// Held by whoever syncs. A sync that failed is told to all who come afterwards: of those who wait for the same pages the
    /// kernel tells one, and who was not told would take them for durable.
    syncing: Mutex<Option<Box<Error>>>,
    /// Up to here the file has blocks. Written only by the holder of `allocating`.
    allocated: AtomicU64,
    /// Holds whether there is a [`Sink`]: without one nothing is allocated.
    allocating: Mutex<bool>,
}

/// Where a file is, and through what it can be seen.
#[derive(Debug)]
struct Place {
    /// A prepared file is named once; apart from that it stays the same.
    path: PathBuf,
    /// Every map and descriptor that was made, as long as somebody holds it.
    views: Vec<View>,
}

impl LogFile {
    /// A file whose first `end` bytes are published, of which `synced` are known to be on the disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, mode: IoMode, path: PathBuf, end: u64, synced: u64) -> Self {
        Self {
            disk,
            mode,
            place: Mutex::new(Place { path, views: Vec::new() }),
            retired: AtomicBool::new(false),
            opened: ArcSwapOption::empty(),
            counted: AtomicBool::new(false),
            end: AtomicU64::new(end),
            synced: AtomicU64::new(synced),
            syncing: Mutex::new(None),
            allocated: AtomicU64::new(end),
            allocating: Mutex::new(false),
        }
    }

    /// Creates an empty file with its first blocks, open for appending up to `capacity` bytes.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        mode: IoMode,
        path: PathBuf,
        capacity: u64,
        blocks: u64,
    ) -> Result<(Self, Sink)> {
        let file = disk.open(&path, Access::CreateNew).at("create", &path)?;
        let log_file = Self::new(disk, mode, path, 0, 0);
        log_file.allocate_in(&*file, blocks)?;
        let sink = log_file.sink(&file, capacity)?;
        Ok((log_file, sink))
    }

    /// Opens the file for appending behind its published end, up to `capacity` bytes.
    pub(crate) fn open_sink(&self, capacity: u64) -> Result<Sink> {
        let file = self.open(Access::Write)?;
        self.sink(&file, capacity.max(self.end()))
    }

    fn sink(&self, file: &Arc<dyn DiskFile>, capacity: u64) -> Result<Sink> {
        let (sink, opened) = match self.mode {
            IoMode::Mapped => {
                let writer = file.map(capacity as usize, self.end() as usize).at("map", &self.path())?;
                let map = Arc::clone(writer.map());
                (Sink::Map(writer), Opened::Map { map, whole: None })
            }
            IoMode::Write => (Sink::File(Arc::clone(file), Vec::new()), Opened::File(Arc::clone(file))),
        };
        self.place.lock().note(&opened);
        self.opened.store(Some(Arc::new(opened)));
        *self.allocating.lock() = true;
        Ok(sink)
    }

    pub(crate) fn mode(&self) -> IoMode {
        self.mode
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether fetching bytes costs nothing, because they are mapped.
    pub(crate) fn is_memory(&self) -> bool {
        self.mode == IoMode::Mapped
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.lock().path.clone()
    }

    /// Where the published bytes end.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    fn open(&self, access: Access) -> Result<Arc<dyn DiskFile>> {
        let place = self.place.lock();
        self.open_at(&place, access)
    }

    fn open_at(&self, place: &Place, access: Access) -> Result<Arc<dyn DiskFile>> {
        if self.is_retired() {
            // Under its name there may be another file by now.
            return Err(io::Error::from(io::ErrorKind::NotFound)).at("open", &place.path);
        }
        self.disk.open(&place.path, access).at("open", &place.path)
    }

    /// Gives a prepared file its name. The directory is not synced.
    pub(crate) fn rename(&self, to: &Path) -> Result<()> {
        let mut place = self.place.lock();
        if place.path != to {
            self.disk.rename(&place.path, to).at("rename", &place.path)?;
            to.clone_into(&mut place.path);
        }
        Ok(())
    }

    /// Makes the names in the file's directory durable.
    pub(crate) fn sync_directory(&self) -> Result<()> {
        let path = self.path();
        let directory = path.parent().unwrap_or(Path::new("."));
        self.disk.sync_directory(directory).at("sync directory", directory)
    }

    /// Removes the name. Bytes that are mapped or open stay for those who hold them.
    pub(crate) fn remove(&self) -> Result<()> {
        let place = self.place.lock();
        self.disk.remove_file(&place.path).at("remove", &place.path)
    }
}
