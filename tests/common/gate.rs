//! A simulated disk that holds up whoever makes a certain file, by creating it or giving it its name, so that a test can do something else meanwhile.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use idemlog::sim::SimDisk;
use idemlog::{Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode};
use parking_lot::Mutex;

/// Who is not let go on goes on after this, unless the test says otherwise: what it does meanwhile may be to wait for it.
const PATIENCE: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub struct GatedDisk {
    disk: SimDisk,
    closed: Mutex<Option<Closed>>,
}

/// The inner side of a gate: whoever makes this file stands before it.
#[derive(Debug)]
struct Closed {
    file: &'static str,
    patience: Duration,
    arrived: Sender<()>,
    go_on: Receiver<()>,
}

/// The outer side.
pub struct Gate {
    arrived: Receiver<()>,
    go_on: Sender<()>,
}

impl GatedDisk {
    pub fn new(disk: &SimDisk) -> Arc<Self> {
        Arc::new(Self { disk: disk.clone(), closed: Mutex::default() })
    }

    /// Holds up whoever is the next to make a file of this name, before it is made, or to give a directory of this name another.
    pub fn close_before(&self, file: &'static str) -> Gate {
        self.close_before_for(file, PATIENCE)
    }

    pub fn close_before_for(&self, file: &'static str, patience: Duration) -> Gate {
        let ((arrives, arrived), (go_on, goes_on)) = (channel(), channel());
        *self.closed.lock() = Some(Closed { file, patience, arrived: arrives, go_on: goes_on });
        Gate { arrived, go_on }
    }

    fn pass(&self, path: &Path) {
        let closed = self.closed.lock().take_if(|closed| path.ends_with(closed.file));
        if let Some(Closed { patience, arrived, go_on, .. }) = closed {
            arrived.send(()).unwrap();
            let _ = go_on.recv_timeout(patience);
        }
    }
}

impl Gate {
    /// Waits until somebody is held up.
    pub fn wait(&self) {
        self.arrived.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    pub fn open(self) {
        // Whoever was held up may have lost patience.
        let _ = self.go_on.send(());
    }
}

impl Disk for GatedDisk {
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
        if access == Access::CreateNew {
            self.pass(path);
        }
        self.disk.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pass(to);
        if self.disk.kind(from)? == Some(EntryKind::Directory) {
            self.pass(from);
        }
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
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
