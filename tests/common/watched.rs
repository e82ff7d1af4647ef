//! A disk whose syncs of files hang while a test wants them to, that takes its time for removals, and that counts what is read,
//! replaced and removed.
#![allow(dead_code, reason = "each test file uses its part")]

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use idemlog::sim::SimDisk;
use idemlog::{Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode, Map, MapWriter};
use parking_lot::{Condvar, Mutex};

/// Everything goes through files: where there are maps, neither a sync nor a read comes by here.
#[derive(Debug)]
pub struct WatchedDisk {
    disk: Arc<dyn Disk>,
    watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Watch {
    state: Mutex<State>,
    let_go: Condvar,
}

#[derive(Debug, Default)]
struct State {
    hangs: bool,
    hung: usize,
    /// The extension of each file that was read from, and how many bytes.
    read: Vec<(String, u64)>,
    /// The names that files were given.
    renamed: Vec<String>,
    /// The extensions of files that were removed.
    removed: Vec<String>,
    removal_takes: Duration,
}

impl WatchedDisk {
    pub fn new(disk: &SimDisk) -> Arc<Self> {
        Self::over(Arc::new(disk.clone()))
    }

    pub fn over(disk: Arc<dyn Disk>) -> Arc<Self> {
        assert_eq!(disk.io_mode("/".as_ref()).unwrap(), IoMode::Write);
        Arc::new(Self { disk, watch: Arc::default() })
    }

    /// How often a file was given this name.
    pub fn renamed(&self, name: &str) -> usize {
        self.watch.state.lock().renamed.iter().filter(|renamed| *renamed == name).count()
    }

    /// How many files with this extension were removed.
    pub fn removed(&self, extension: &str) -> usize {
        self.watch.state.lock().removed.iter().filter(|removed| *removed == extension).count()
    }

    /// How long each removal takes from now on.
    pub fn removal_takes(&self, time: Duration) {
        self.watch.state.lock().removal_takes = time;
    }

    /// Has every sync of a file hang from now on, until it is told otherwise.
    pub fn hang(&self, hangs: bool) {
        self.watch.state.lock().hangs = hangs;
        self.watch.let_go.notify_all();
    }

    /// How many syncs hang.
    pub fn hung(&self) -> usize {
        self.watch.state.lock().hung
    }

    /// How many bytes were read since the last question, from files with this extension.
    pub fn take_read(&self, extension: &str) -> u64 {
        let mut state = self.watch.state.lock();
        let of_it = state.read.extract_if(.., |(of, _)| of == extension);
        of_it.map(|(_, bytes)| bytes).sum()
    }
}

fn extension(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_owned()
}

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn DiskFile>,
    extension: String,
    watch: Arc<Watch>,
}

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.allocate(from, to)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = self.file.read_at(buffer, position)?;
        self.watch.state.lock().read.push((self.extension.clone(), read as u64));
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.watch.state.lock();
        state.hung += 1;
        while state.hangs {
            self.watch.let_go.wait(&mut state);
        }
        state.hung -= 1;
        drop(state);
        self.file.sync()
    }

    fn map(&self, capacity: usize, published: usize) -> io::Result<MapWriter> {
        self.file.map(capacity, published)
    }

    fn map_read(&self, len: usize) -> io::Result<Arc<Map>> {
        self.file.map_read(len)
    }

    fn is_mapped(&self) -> io::Result<bool> {
        self.file.is_mapped()
    }
}

impl Disk for WatchedDisk {
    fn io_mode(&self, directory: &Path) -> io::Result<IoMode> {
        self.disk.io_mode(directory)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.disk.kind(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, access)?;
        Ok(Arc::new(WatchedFile { file, extension: extension(path), watch: Arc::clone(&self.watch) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let name = to.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        self.watch.state.lock().renamed.push(name);
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let takes = self.watch.state.lock().removal_takes;
        std::thread::sleep(takes);
        self.disk.remove_file(path)?;
        self.watch.state.lock().removed.push(extension(path));
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.disk.list(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DirectoryLock>> {
        self.disk.lock(path)
    }
}
