//! The simulated disk as a [`Disk`].

use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::MutexGuard;

use super::content::PAGE;
use super::fault::{FailedSync, Fault, Operation};
use super::state::{DirectoryId, Entry, Event, FileId, NameChange};
use super::{Inner, Shared, SimDisk};
use crate::fs::disk::{Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode};
use crate::fs::{Map, MapObserver, MapWriter};

impl Disk for SimDisk {
    fn io_mode(&self, directory: &Path) -> io::Result<IoMode> {
        self.lock_inner().state.find(directory).map(|_| self.shared.mode)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.call(Operation::CreateDirectory, path)?;
        inner.create_directories(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match self.lock_inner().state.find(path) {
            Ok(Entry::File(_)) => Ok(Some(EntryKind::File)),
            Ok(Entry::Directory(_)) => Ok(Some(EntryKind::Directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock_inner();
        let id =
            if access == Access::CreateNew { inner.create_file(path)? } else { inner.open_file(path)? };
        Ok(Arc::new(SimFile { shared: self.shared.clone(), id, writable: access != Access::Read }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        let either = |part: &str| has(from, part) || has(to, part);
        inner.faults.call(Operation::Rename, either).map_err(|fault| fault.error())?;
        inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.call(Operation::Remove, path)?;
        let (directory, name) = inner.state.find_parent(path)?;
        match inner.state.find(path)? {
            Entry::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
            Entry::File(_) => inner.change_name(directory, NameChange::Remove { name: name.to_owned() }),
        }
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.call(Operation::Remove, path)?;
        inner.state.find_directory(path)?;
        inner.remove_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut inner = self.lock_inner();
        inner.call(Operation::List, path)?;
        let names = inner.state.names(inner.state.find_directory(path)?);
        let describe = |(name, entry): (&std::ffi::OsString, &Entry)| {
            let kind = match entry {
                Entry::File(_) => EntryKind::File,
                Entry::Directory(_) => EntryKind::Directory,
            };
            DirectoryEntry { name: name.clone(), kind }
        };
        Ok(names.iter().map(describe).collect())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.call(Operation::SyncDirectory, path)?;
        let directory = inner.state.find_directory(path)?;
        inner.record(Event::SyncDirectory { directory });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DirectoryLock>> {
        let mut inner = self.lock_inner();
        inner.call(Operation::Lock, path)?;
        if inner.state.find(path).is_err() {
            inner.create_file(path)?;
        }
        let path = from_root(path);
        let free = inner.locked.insert(path.clone());
        Ok(free.then(|| DirectoryLock::new(Lock { shared: Arc::downgrade(&self.shared), path })))
    }
}

/// Two ways to write a path lock the same file.
fn from_root(path: &Path) -> PathBuf {
    path.components().filter(|component| matches!(component, Component::Normal(_))).collect()
}

/// Whether `part` is in a path, which begins and ends with a slash here.
fn has(path: &Path, part: &str) -> bool {
    format!("/{}/", from_root(path).display()).contains(part)
}

struct Lock {
    shared: Weak<Shared>,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.inner.lock().locked.remove(&self.path);
        }
    }
}

impl Inner {
    /// Counts a call for what is at a path.
    fn call(&mut self, operation: Operation, path: &Path) -> io::Result<()> {
        self.faults.call(operation, |part| has(path, part)).map_err(|fault| fault.error())
    }

    /// Counts a call for an open file.
    fn file_call(&mut self, operation: Operation, file: FileId) -> Result<(), Fault> {
        let state = &self.state;
        self.faults.call(operation, |part| state.path_of(file).is_some_and(|path| has(&path, part)))
    }

    fn change_name(&mut self, directory: DirectoryId, change: NameChange) -> io::Result<()> {
        self.record(Event::Name { directory, change });
        Ok(())
    }

    fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        match self.state.find(path) {
            Ok(Entry::Directory(_)) => return Ok(()),
            Ok(Entry::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => {}
        }
        if let Some(parent) = path.parent() {
            self.create_directories(parent)?;
        }
        let (parent, name) = self.state.find_parent(path)?;
        let entry = Entry::Directory(self.state.next_id());
        self.change_name(parent, NameChange::Add { name: name.to_owned(), entry })
    }

    fn create_file(&mut self, path: &Path) -> io::Result<FileId> {
        self.call(Operation::Create, path)?;
        let (directory, name) = self.state.find_parent(path)?;
        if self.state.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.state.next_id();
        self.change_name(directory, NameChange::Add { name: name.to_owned(), entry: Entry::File(id) })?;
        Ok(id)
    }

    fn open_file(&mut self, path: &Path) -> io::Result<FileId> {
        self.call(Operation::Open, path)?;
        match self.state.find(path)? {
            Entry::File(id) => Ok(id),
            Entry::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let moved = self.state.find(from)?;
        let (directory, from) = self.state.find_parent(from)?;
        let (target, name) = self.state.find_parent(to)?;
        if directory != target {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        match (moved, self.state.find(to)) {
            (_, Ok(replaced)) if replaced == moved => return Ok(()),
            (Entry::Directory(_), Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Entry::File(_), Ok(Entry::Directory(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (_, Ok(Entry::File(_)) | Err(_)) => {}
        }
        self.change_name(directory, NameChange::Rename { from: from.to_owned(), to: name.to_owned() })
    }

    fn remove_all(&mut self, path: &Path) -> io::Result<()> {
        if let Entry::Directory(directory) = self.state.find(path)? {
            let below: Vec<_> = self.state.names(directory).keys().map(|name| path.join(name)).collect();
            below.iter().try_for_each(|path| self.remove_all(path))?;
        }
        let (parent, name) = self.state.find_parent(path)?;
        self.change_name(parent, NameChange::Remove { name: name.to_owned() })
    }

    /// Refuses what does not fit on the disk.
    fn require_space(&self, file: FileId, from: u64, to: u64) -> io::Result<()> {
        let Some(capacity) = self.settings.capacity else { return Ok(()) };
        let needed = self.state.file(file).unallocated_pages(from, to);
        if (self.state.allocated_pages() + needed) * PAGE > capacity {
            return Err(io::Error::from_raw_os_error(Fault::ENOSPC));
        }
        Ok(())
    }

    /// The maps of a file that somebody holds.
    fn maps_of(&self, file: FileId) -> impl Iterator<Item = Arc<Map>> {
        self.maps.iter().filter(move |(id, _)| *id == file).filter_map(|(_, map)| map.upgrade())
    }

    /// A published byte never changes and never goes away.
    fn require_unpublished(&self, file: FileId, from: u64, what: &str) {
        let published = self.maps_of(file).map(|map| map.published() as u64).max().unwrap_or(0);
        assert!(
            from >= published,
            "{what} from {from} of a file that is mapped and published up to {published}"
        );
    }

    /// A published byte may be written once more, as it is.
    fn require_same(&self, file: FileId, position: u64, bytes: &[u8]) {
        for map in self.maps_of(file) {
            let start = position as usize;
            let end = map.published().min(start + bytes.len());
            let published = map.slice(start..end.max(start)).unwrap_or_default();
            assert!(
                published == &bytes[..published.len()],
                "written from {position} of a file that is mapped and published up to {}",
                map.published()
            );
        }
    }

    /// What the memory manager does with bytes stored into a map.
    fn store(&mut self, file: FileId, position: u64, bytes: &[u8]) {
        let (content, end) = (self.state.file(file), position + bytes.len() as u64);
        assert!(end <= content.len(), "SIGBUS: stored up to {end} in a file of {} bytes", content.len());
        let missing = content.unallocated_pages(position, end);
        assert!(missing == 0, "SIGBUS: stored {position}..{end}, where {missing} pages are not allocated");
        self.record(Event::Write { file, position, bytes: bytes.into(), mapped: true });
    }

    fn sync_range(&mut self, file: FileId, range: Range<usize>) -> io::Result<()> {
        let (from, to) = (range.start as u64, range.end as u64);
        self.sync_call(file, from, to)?;
        let length_too = self.settings.sync_range_covers_length;
        self.record(Event::SyncRange { file, from, to, length_too });
        Ok(())
    }

    fn sync_call(&mut self, file: FileId, from: u64, to: u64) -> io::Result<()> {
        let Err(fault) = self.file_call(Operation::Sync, file) else { return Ok(()) };
        if fault.pages != FailedSync::Kept {
            let revert = fault.pages == FailedSync::Reverted;
            self.record(Event::DropPages { file, from, to, revert });
        }
        Err(fault.error())
    }
}

/// An open file of the simulated disk. Like a descriptor, it outlives the file's name.
#[derive(Debug)]
struct SimFile {
    shared: Arc<Shared>,
    id: FileId,
    writable: bool,
}

impl SimFile {
    /// For calls that change the file, which must be open for writing.
    fn lock_for_writing(&self) -> io::Result<MutexGuard<'_, Inner>> {
        if !self.writable {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::BADF.raw_os_error()));
        }
        Ok(self.shared.inner.lock())
    }

    fn map_with(&self, capacity: usize, published: usize) -> io::Result<MapWriter> {
        let mut inner = self.shared.inner.lock();
        inner.file_call(Operation::Map, self.id).map_err(|fault| fault.error())?;
        if self.shared.mode == IoMode::Write {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let content = inner.state.file(self.id);
        if content.len() < published as u64 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut bytes = vec![0; published];
        content.read(0, &mut bytes);
        let observer = Arc::new(Observer { shared: self.shared.clone(), id: self.id });
        let writer = MapWriter::on_heap(&bytes, capacity, observer)?;
        inner.maps.retain(|(_, map)| map.strong_count() > 0);
        inner.maps.push((self.id, Arc::downgrade(writer.map())));
        Ok(writer)
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.inner.lock().state.file(self.id).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.lock_for_writing()?;
        inner.file_call(Operation::SetLen, self.id).map_err(|fault| fault.error())?;
        inner.require_unpublished(self.id, len, "cut");
        inner.record(Event::SetLen { file: self.id, len });
        Ok(())
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        let mut inner = self.lock_for_writing()?;
        if from >= to {
            return Ok(());
        }
        let (to, outcome) = match inner.file_call(Operation::Allocate, self.id) {
            Ok(()) => (to, Ok(())),
            Err(fault) if fault.halfway => (from + (to - from) / 2, Err(fault.error())),
            Err(fault) => return Err(fault.error()),
        };
        inner.require_space(self.id, from, to)?;
        inner.record(Event::Allocate { file: self.id, from, to });
        outcome
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut inner = self.shared.inner.lock();
        inner.file_call(Operation::Read, self.id).map_err(|fault| fault.error())?;
        Ok(inner.state.file(self.id).read(position, buffer))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut inner = self.lock_for_writing()?;
        let (bytes, outcome) = match inner.file_call(Operation::Write, self.id) {
            Ok(()) => (bytes, Ok(())),
            Err(fault) if fault.halfway => (&bytes[..bytes.len() / 2], Err(fault.error())),
            Err(fault) => return Err(fault.error()),
        };
        inner.require_same(self.id, position, bytes);
        inner.require_space(self.id, position, position + bytes.len() as u64)?;
        inner.record(Event::Write { file: self.id, position, bytes: bytes.into(), mapped: false });
        outcome
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        inner.sync_call(self.id, 0, u64::MAX)?;
        inner.record(Event::Sync { file: self.id });
        Ok(())
    }

    fn map(&self, capacity: usize, published: usize) -> io::Result<MapWriter> {
        drop(self.lock_for_writing()?);
        self.map_with(capacity, published)
    }

    fn map_read(&self, len: usize) -> io::Result<Arc<Map>> {
        Ok(self.map_with(len, len)?.map().clone())
    }

    fn is_mapped(&self) -> io::Result<bool> {
        let inner = self.shared.inner.lock();
        Ok(inner.maps_of(self.id).next().is_some())
    }
}

/// What a map tells its disk. The map keeps the disk alive, as a real one does.
#[derive(Debug)]
struct Observer {
    shared: Arc<Shared>,
    id: FileId,
}

impl MapObserver for Observer {
    fn stored(&self, position: usize, bytes: &[u8]) {
        self.shared.inner.lock().store(self.id, position as u64, bytes);
    }

    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        self.shared.inner.lock().sync_range(self.id, range)
    }

    fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let mut inner = self.shared.inner.lock();
        inner.file_call(Operation::Populate, self.id).map_err(|fault| fault.error())?;
        match inner.state.file(self.id).unallocated_pages(range.start as u64, range.end as u64) {
            0 => Ok(()),
            // What Linux answers where touching the page would raise SIGBUS.
            _ => Err(io::Error::from_raw_os_error(rustix::io::Errno::FAULT.raw_os_error())),
        }
    }
}
