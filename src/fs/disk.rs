//! The disk as the engine sees it: a handful of calls, each with the durability it promises.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::map::{Map, MapWriter};

/// How a segment's bytes reach its file. Unless [`LogOptions::io_mode`](crate::LogOptions::io_mode) says it, on Linux
/// `Mapped` on ext4, xfs and tmpfs; `Write` everywhere else.
///
/// ```
/// use idemlog::IoMode;
///
/// assert_ne!(IoMode::Mapped, IoMode::Write);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoMode {
    /// Copied into a shared mapping whose blocks were allocated before: the speed of memory. A full disk is an error;
    /// a device that dies under the mapping kills the process (SIGBUS).
    Mapped,
    /// Written with `pwrite`, read with `pread`: no disk error can raise a signal.
    Write,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an existing one is an error (`AlreadyExists`).
    CreateNew,
}

/// What a directory entry is, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a socket, a device.
    Other,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the directory.
    pub name: OsString,
    /// What it names.
    pub kind: EntryKind,
}

/// A file system. Every call is synchronous and may be made from any thread.
///
/// Nothing is durable before the call that says so returns: bytes and length of a file with [`DiskFile::sync`] or
/// [`Map::sync`], names (created, renamed, removed) with [`Disk::sync_directory`] of the directory they are in.
///
/// A call that panics during a change leaves a log of which nobody knows what it has: it takes nothing more
/// ([`Error::Poisoned`](crate::Error::Poisoned)), and opening it again recovers.
pub trait Disk: Debug + Send + Sync {
    /// The mode that is safe for files below `directory`, from the kind of its file system.
    fn io_mode(&self, directory: &Path) -> io::Result<IoMode>;

    /// Creates a directory and those above it; existing ones are fine.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// What has this name, links not followed; `None` if nothing has.
    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>>;

    /// Whether anything has this name, links not followed.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.kind(path)?.is_some())
    }

    /// The length in bytes of a file. What it is for anything else is not said.
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.open(path, Access::Read)?.len()
    }

    /// Opens a file. Anything else under its name is an error: a symbolic link is not followed, a pipe not waited for.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Replaces `to` by `from` in one step: a crash leaves the old or the new file under the name `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file's name. Its bytes stay for those who have it open or mapped.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all below it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Takes the lock on a file, which is created if missing. `Ok(None)`: somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Option<DirectoryLock>>;

    /// The whole contents of a small file. An error (`InvalidData`) if it is longer than `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        read_whole(&*file, file.len()?, limit)
    }
}

/// All `len` bytes of a file, if they are not more than `limit`.
pub(crate) fn read_whole(file: &dyn DiskFile, len: u64, limit: u64) -> io::Result<Vec<u8>> {
    if len > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{len} bytes, more than {limit}")));
    }
    let mut bytes = vec![0; len as usize];
    if len > 0 {
        let read = file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
    }
    Ok(bytes)
}

/// An open file of a [`Disk`].
///
/// # Maps
///
/// A [`Map`] lends the published bytes of a file as `&[u8]`. If such bytes change or go away while the map or anything taken from
/// it exists, the behaviour is undefined, or the process is killed (SIGBUS). No type can keep that from happening, as the file is
/// everybody's, and the calls are not `unsafe`, so that a disk of your own can pass them on. So it is for the caller to see
/// that, for as long as there is a map of the file, nobody
///
/// * maps it by [`map`](Self::map) once more,
/// * writes other bytes below the published end, by [`write_at`](Self::write_at) or in any other way,
/// * or cuts it there, by [`set_len`](Self::set_len) or in any other way,
///
/// be it through this handle, another one or none of this crate's, in this process or another. The engine sees to it for the
/// files of a directory that it has locked. Whoever only reads through a [`LogDir`](crate::LogDir) makes none of these calls.
pub trait DiskFile: Debug + Send + Sync {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeros that have no blocks yet. Nobody may have bytes [mapped](Self#maps) that are cut.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Gives [`from`, `to`) blocks of the disk, reading as zeros where nothing was written, and extends the file to
    /// `to`. After it returned, writing there cannot fail for want of space. Nobody else writes in the range
    /// meanwhile.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;

    /// Reads until `buffer` is full or the file ends; the number of bytes read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all of `bytes`. They may not change what is published in a [map](Self#maps).
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes the file's bytes and length durable (not its name).
    fn sync(&self) -> io::Result<()>;

    /// Maps [0, `capacity`) for reading and appending, of which the first `published` bytes are fixed already. The
    /// file may be shorter than `capacity`: allocate before storing. The mapping outlives this handle. There may be no other
    /// writer's [map](Self#maps) of the file, and none that has more than that published.
    fn map(&self, capacity: usize, published: usize) -> io::Result<MapWriter>;

    /// Maps [0, `len`), all of it inside of the file and fixed, for reading: nobody may change or cut it while the
    /// [map](Self#maps) exists.
    fn map_read(&self, len: usize) -> io::Result<Arc<Map>>;

    /// Whether this process has a map of the file, whoever made it and through whichever descriptor: then it is not cut, as
    /// what is published in a map stays. `false` for a disk whose maps are not the file itself.
    fn is_mapped(&self) -> io::Result<bool>;
}

/// Holds a directory's lock until it is dropped.
pub struct DirectoryLock {
    _guard: Box<dyn Send + Sync>,
}

impl DirectoryLock {
    /// Wraps what releases the lock when dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        Self { _guard: Box::new(guard) }
    }
}

impl Debug for DirectoryLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirectoryLock")
    }
}
