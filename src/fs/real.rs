//! The operating system's file system.
#[cfg(not(unix))]
compile_error!(
    "idemlog needs a Unix: it relies on what POSIX promises about rename, unlink and directory syncs"
);

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode};
use super::map::{Map, MapWriter};
use super::map_count;
use rustix::fs::OFlags;

/// The operating system's file system.
///
/// ```
/// use idemlog::{Access, Disk, RealDisk};
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path();
/// let file = RealDisk.open(&directory.join("file"), Access::CreateNew)?;
/// file.write_at(b"bytes", 0)?;
/// file.sync()?;
/// RealDisk.sync_directory(directory)?; // now the name is durable, too
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An open file of the operating system.
#[derive(Debug)]
struct RealFile(File);

/// Opens a regular file. A link that somebody planted under its name must not lead reads and writes out of the directory, and
/// nobody waits for the other end of a pipe. (The standard library adds `O_CLOEXEC` itself.)
pub(super) fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with_length(options, path).map(|(file, _)| file)
}

fn open_with_length(options: &mut OpenOptions, path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata.len()))
}

fn kind_of(file_type: fs::FileType) -> EntryKind {
    match file_type {
        kind if kind.is_file() => EntryKind::File,
        kind if kind.is_dir() => EntryKind::Directory,
        _ => EntryKind::Other,
    }
}

impl Disk for RealDisk {
    fn io_mode(&self, directory: &Path) -> io::Result<IoMode> {
        io_mode(directory)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn kind(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(kind_of(metadata.file_type()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::symlink_metadata(path)?.len())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::CreateNew);
        Ok(Arc::new(RealFile(open_file(&mut options, path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        fs::read_dir(path)?.filter_map(|entry| entry.and_then(|entry| describe(&entry)).transpose()).collect()
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let (file, len) = open_with_length(OpenOptions::new().read(true), path)?;
        super::disk::read_whole(&RealFile(file), len, limit)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<DirectoryLock>> {
        Ok(super::lock::lock(path)?.map(DirectoryLock::new))
    }
}

/// By what the directory itself says, which takes no call for each name, where it says anything. `None` for a name that was
/// removed since it was listed.
fn describe(entry: &fs::DirEntry) -> io::Result<Option<DirectoryEntry>> {
    match entry.file_type() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file_type => Ok(Some(DirectoryEntry { name: entry.file_name(), kind: kind_of(file_type?) })),
    }
}

/// Where every page of an allocated file can be written through a mapping again and again, whatever else fills the
/// disk: tried on full ext4, xfs and tmpfs. File systems that write elsewhere than they read (btrfs, overlays) or that
/// are not there all the time (network, FUSE) answer with SIGBUS when they run out.
///
/// On xfs this holds for blocks that no reflinked copy shares. [`DiskFile::allocate`] unshares; a copy made while the
/// log is open (`cp --reflink` of a live directory) shares the pages being written once more, which only matters if
/// the disk is full at that moment.
#[cfg(target_os = "linux")]
fn io_mode(directory: &Path) -> io::Result<IoMode> {
    const EXT4: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;

    // The kernel's magic numbers have 32 bits, whatever the width and sign of the field on this platform.
    match rustix::fs::statfs(directory)?.f_type as u64 & 0xFFFF_FFFF {
        EXT4 | XFS | TMPFS => Ok(IoMode::Mapped),
        _ => Ok(IoMode::Write),
    }
}

#[cfg(not(target_os = "linux"))]
fn io_mode(directory: &Path) -> io::Result<IoMode> {
    fs::metadata(directory).map(|_| IoMode::Write)
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        match allocate(&self.0, from, to) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.rewrite(from, to),
            allocated => allocated,
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read_at(&mut buffer[read..], position + read as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    /// `fdatasync`: it leaves out what is not needed to read the bytes back (times). The length is needed, and blocks
    /// that `fallocate` gave are, so both are included.
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn map(&self, capacity: usize, published: usize) -> io::Result<MapWriter> {
        MapWriter::of_file(&self.0, capacity, published)
    }

    fn map_read(&self, len: usize) -> io::Result<Arc<Map>> {
        Map::of_file(&self.0, len)
    }

    fn is_mapped(&self) -> io::Result<bool> {
        Ok(map_count::is_mapped(&self.0.metadata()?))
    }
}

impl RealFile {
    /// Writes what is there over itself, and zeros behind the end: slower than `fallocate`, to the same effect on file
    /// systems that write in place.
    fn rewrite(&self, from: u64, to: u64) -> io::Result<()> {
        let mut position = from;
        while position < to {
            let mut chunk = [0; 64 << 10];
            let chunk = &mut chunk[..(to - position).min(64 << 10) as usize];
            self.read_at(chunk, position)?;
            self.write_at(chunk, position)?;
            position += chunk.len() as u64;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, retry_on_intr};

    const BLOCK: u64 = 4096;
    let Some(len) = to.checked_sub(from).filter(|len| *len > 0) else { return Ok(()) };
    retry_on_intr(|| fallocate(file, FallocateFlags::empty(), from, len))?;
    // The first block may hold older bytes, and a reflinked copy may share it: then writing there needs a new block.
    let start = from - from % BLOCK;
    match retry_on_intr(|| fallocate(file, FallocateFlags::UNSHARE_RANGE, start, to - start)) {
        // Where there is no unsharing there is no sharing.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(_file: &File, _from: u64, _to: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_is_neither_followed_nor_taken_for_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, link) = (directory.path().join("outside"), directory.path().join("link"));
        fs::write(&outside, b"not yours").unwrap();
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        for access in [Access::Read, Access::Write, Access::CreateNew] {
            assert!(RealDisk.open(&link, access).is_err(), "{access:?}");
        }
        assert!(RealDisk.lock(&link).is_err());
        let listed = RealDisk.list(directory.path()).unwrap();
        let listed = listed.iter().find(|entry| entry.name == "link").unwrap();
        assert_eq!(listed.kind, EntryKind::Other);
        assert!(RealDisk.exists(&link).unwrap());
    }

    /// What this thread has made dirty so far, in bytes: the kernel counts all of what it will write back as one.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn dirtied() -> u64 {
        let counters = fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
        let line = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.map_or(0, |bytes| bytes.parse().unwrap())
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[test]
    fn a_byte_that_is_stored_into_small_pages_makes_one_of_them_dirty() {
        use crate::fs::Pages;

        const HALF: usize = 8 << 20;
        let directory = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&directory.path().join("file"), Access::CreateNew).unwrap();
        file.allocate(0, 2 * HALF as u64).unwrap();
        let mut writer = file.map(2 * HALF, HALF).unwrap();
        for start in (0..2 * HALF).step_by(1 << 20) {
            // Where the kernel cannot do it, the pages come one by one below.
            let _ = writer.map().populate(start..start + (1 << 20), Pages::Small);
        }
        writer.map().sync(0..2 * HALF).unwrap();
        let before = dirtied();
        writer.store(HALF, b"a byte").unwrap();
        assert!(dirtied() - before <= 4096, "{} bytes", dirtied() - before);
    }

    #[test]
    fn removing_a_directory_does_not_follow_links() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, inside) = (directory.path().join("outside"), directory.path().join("inside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        RealDisk.remove_directory(&inside).unwrap();
        assert!(outside.exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_unknown_file_system_is_not_mapped() {
        assert_eq!(RealDisk.io_mode(Path::new("/proc")).unwrap(), IoMode::Write);
        assert!(RealDisk.io_mode(Path::new("/proc/nowhere")).is_err());
    }

    #[test]
    fn where_blocks_cannot_be_reserved_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let file = RealFile(file);
        file.write_at(b"bytes", 100_000).unwrap();
        file.rewrite(10, 200_000).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 200_000);
        assert_eq!(&bytes[100_000..100_005], b"bytes");
        assert_eq!(bytes.iter().filter(|byte| **byte != 0).count(), 5);
        assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512 >= 196_000);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn allocated_bytes_have_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = RealDisk.open(&path, Access::CreateNew).unwrap();
        file.allocate(0, 1 << 20).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&path).unwrap()) * 512 >= 1 << 20);
    }
}
