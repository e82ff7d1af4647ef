//! The whole simulated disk as a value: what processes see and what is durable. It changes by events only, so that
//! applying the same events again gives the same disk.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::content::SimContent;
use super::survivors::Survivors;

pub(super) type FileId = u64;
pub(super) type DirectoryId = u64;

const ROOT: DirectoryId = 0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    File(FileId),
    Directory(DirectoryId),
}

/// A change of one directory that is not durable before the directory is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameChange {
    Add { name: OsString, entry: Entry },
    Rename { from: OsString, to: OsString },
    Remove { name: OsString },
}

/// A directory: its names as processes see them, as they are on the disk, and what lies between.
#[derive(Clone, Debug, Default)]
struct Directory {
    now: Names,
    durable: Names,
    changes: Vec<NameChange>,
}

type Names = BTreeMap<OsString, Entry>;

/// Something that changed the disk, or a mark.
#[derive(Clone)]
pub(super) enum Event {
    Write { file: FileId, position: u64, bytes: Arc<[u8]>, mapped: bool },
    SetLen { file: FileId, len: u64 },
    Allocate { file: FileId, from: u64, to: u64 },
    Sync { file: FileId },
    SyncRange { file: FileId, from: u64, to: u64, length_too: bool },
    DropPages { file: FileId, from: u64, to: u64, revert: bool },
    Name { directory: DirectoryId, change: NameChange },
    SyncDirectory { directory: DirectoryId },
    Mark(u64),
}

impl fmt::Debug for Event {
    /// Bytes are shown by their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, position, bytes, mapped } => {
                let verb = if *mapped { "store" } else { "write" };
                write!(f, "{verb} {} bytes at {position} of file {file}", bytes.len())
            }
            Self::SetLen { file, len } => write!(f, "set the length of file {file} to {len}"),
            Self::Allocate { file, from, to } => write!(f, "allocate {from}..{to} of file {file}"),
            Self::Sync { file } => write!(f, "sync file {file}"),
            Self::SyncRange { file, from, to, .. } => write!(f, "sync {from}..{to} of file {file}"),
            Self::DropPages { file, from, to, .. } => {
                write!(f, "a failed sync drops {from}..{to} of file {file}")
            }
            Self::Name { directory, change } => write!(f, "in directory {directory}: {change:?}"),
            Self::SyncDirectory { directory } => write!(f, "sync directory {directory}"),
            Self::Mark(mark) => write!(f, "mark {mark}"),
        }
    }
}

/// Every file and directory. A clone shares with the original what neither changes.
#[derive(Clone, Debug)]
pub(super) struct State {
    files: BTreeMap<FileId, Arc<SimContent>>,
    directories: BTreeMap<DirectoryId, Arc<Directory>>,
    next_id: u64,
}

impl State {
    pub(super) fn empty() -> Self {
        let root = (ROOT, Arc::default());
        Self { files: BTreeMap::new(), directories: BTreeMap::from([root]), next_id: ROOT + 1 }
    }

    /// The id of the next file or directory that is created.
    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn file(&self, file: FileId) -> &SimContent {
        &self.files[&file]
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Write { file, position, bytes, .. } => self.change(*file).write(*position, bytes),
            Event::SetLen { file, len } => self.change(*file).set_len(*len),
            Event::Allocate { file, from, to } => self.change(*file).allocate(*from, *to),
            Event::Sync { file } => self.change(*file).sync(),
            Event::SyncRange { file, from, to, length_too } => {
                let file = self.change(*file);
                file.sync_range(*from, *to);
                if *length_too {
                    file.sync_length();
                }
            }
            Event::DropPages { file, from, to, revert } => self.change(*file).drop_pages(*from, *to, *revert),
            Event::Name { directory, change } => self.change_name(*directory, change),
            Event::SyncDirectory { directory } => self.directory_mut(*directory).sync(),
            Event::Mark(_) => {}
        }
    }

    /// The event as it may have gone halfway when the power was cut: only storing into a map can.
    pub(super) fn apply_torn(&mut self, event: &Event) {
        if let Event::Write { file, position, bytes, mapped: true } = event {
            self.change(*file).write_torn(*position, bytes);
        }
    }

    /// The first `count` bytes of a store or write, when the process was killed in the middle of it.
    pub(super) fn apply_prefix(&mut self, event: &Event, count: usize) {
        if let Event::Write { file, position, bytes, .. } = event {
            self.change(*file).write(*position, &bytes[..count.min(bytes.len())]);
        }
    }

    fn change(&mut self, file: FileId) -> &mut SimContent {
        Arc::make_mut(self.files.entry(file).or_default())
    }

    fn directory(&self, directory: DirectoryId) -> &Directory {
        &self.directories[&directory]
    }

    fn directory_mut(&mut self, directory: DirectoryId) -> &mut Directory {
        Arc::make_mut(self.directories.entry(directory).or_default())
    }

    fn change_name(&mut self, directory: DirectoryId, change: &NameChange) {
        if let NameChange::Add { entry: Entry::File(id) | Entry::Directory(id), .. } = change {
            self.next_id = id + 1;
        }
        match change {
            NameChange::Add { entry: Entry::File(file), .. } => drop(self.change(*file)),
            NameChange::Add { entry: Entry::Directory(new), .. } => drop(self.directory_mut(*new)),
            _ => {}
        }
        let directory = self.directory_mut(directory);
        change.apply(&mut directory.now);
        directory.changes.push(change.clone());
    }

    pub(super) fn names(&self, directory: DirectoryId) -> &BTreeMap<OsString, Entry> {
        &self.directory(directory).now
    }

    /// What `path` names. Every path begins at the root, also a relative one.
    pub(super) fn find(&self, path: &Path) -> io::Result<Entry> {
        let mut found = Entry::Directory(ROOT);
        for name in components(path)? {
            let Entry::Directory(directory) = found else { return Err(io::ErrorKind::NotADirectory.into()) };
            found = *self.names(directory).get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(found)
    }

    pub(super) fn find_directory(&self, path: &Path) -> io::Result<DirectoryId> {
        match self.find(path)? {
            Entry::Directory(directory) => Ok(directory),
            Entry::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory that `path` is in, and its name there.
    pub(super) fn find_parent<'a>(&self, path: &'a Path) -> io::Result<(DirectoryId, &'a OsStr)> {
        let name = components(path)?.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find_directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// What a file is called now, if it has a name.
    pub(super) fn path_of(&self, file: FileId) -> Option<PathBuf> {
        self.path_below(ROOT, Path::new("/"), file)
    }

    fn path_below(&self, directory: DirectoryId, path: &Path, file: FileId) -> Option<PathBuf> {
        self.names(directory).iter().find_map(|(name, entry)| match entry {
            Entry::File(found) => (*found == file).then(|| path.join(name)),
            Entry::Directory(below) => self.path_below(*below, &path.join(name), file),
        })
    }

    /// The files that have a name.
    fn named_files(&self) -> impl Iterator<Item = &SimContent> {
        let names = self.directories.values().flat_map(|directory| directory.now.values());
        names.filter_map(|entry| match entry {
            Entry::File(file) => Some(self.file(*file)),
            Entry::Directory(_) => None,
        })
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        self.named_files().map(SimContent::allocated_pages).sum()
    }

    /// The disk as a power cut may leave it: nothing of it is undecided any more.
    pub(super) fn survive(&self, survivors: &mut dyn Survivors) -> Self {
        let mut left = Self { next_id: self.next_id, ..Self::empty() };
        self.survive_below(ROOT, survivors, &mut left);
        left
    }

    fn survive_below(&self, directory: DirectoryId, survivors: &mut dyn Survivors, left: &mut Self) {
        let names = self.directory(directory).survive(survivors);
        for entry in names.values() {
            match entry {
                Entry::Directory(below) => self.survive_below(*below, survivors, left),
                Entry::File(file) => {
                    let content = &self.files[file];
                    let survivor = content.survive(survivors).map_or_else(|| content.clone(), Arc::new);
                    left.files.insert(*file, survivor);
                }
            }
        }
        let survivor = Directory { now: names.clone(), durable: names, changes: Vec::new() };
        left.directories.insert(directory, Arc::new(survivor));
    }

    /// A number that is the same for disks that look the same: names, lengths, bytes.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_below(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_below(&self, directory: DirectoryId, hasher: &mut DefaultHasher) {
        let names = self.names(directory);
        names.len().hash(hasher);
        for (name, entry) in names {
            name.hash(hasher);
            match entry {
                Entry::File(file) => self.file(*file).hash_into(hasher),
                Entry::Directory(below) => self.hash_below(*below, hasher),
            }
        }
    }
}

impl Directory {
    fn sync(&mut self) {
        self.durable.clone_from(&self.now);
        self.changes.clear();
    }

    /// The names that a power cut may leave: each change survives or not, but a change of a name does not survive
    /// one before it of the same name. So a rename happens whole or not at all, and nothing is renamed that was not
    /// created.
    fn survive(&self, survivors: &mut dyn Survivors) -> Names {
        let mut names = self.durable.clone();
        let mut undone = HashSet::new();
        for change in &self.changes {
            let possible = change.names().all(|name| !undone.contains(name));
            if possible && survivors.decide(2) == 1 {
                change.apply(&mut names);
            } else {
                undone.extend(change.names());
            }
        }
        names
    }
}

impl NameChange {
    fn names(&self) -> impl Iterator<Item = &OsStr> {
        let (one, other) = match self {
            Self::Add { name, .. } | Self::Remove { name } => (name, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(OsString::as_os_str)
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add { name, entry } => {
                names.insert(name.clone(), *entry);
            }
            Self::Rename { from, to } => {
                if let Some(entry) = names.remove(from) {
                    names.insert(to.clone(), entry);
                }
            }
            Self::Remove { name } => {
                names.remove(name);
            }
        }
    }
}

fn components(path: &Path) -> io::Result<Vec<&OsStr>> {
    let name = |component| match component {
        Component::Normal(name) => Some(Ok(name)),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => Some(Err(io::ErrorKind::InvalidInput.into())),
    };
    path.components().filter_map(name).collect()
}
