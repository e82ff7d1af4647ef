//! Changes that a crash leaves done or not done, never half.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::disk::{Access, Disk, DiskFile};
use super::missing::remove_if_present;
use super::name;
use crate::error::{IoContext, Result};

/// Replaces the file at `path` by one with these `bytes`, durably. A crash leaves the old file or the new one:
///
/// 1. The bytes go to a temporary file beside it. A crash leaves `path` as it was, and a leftover of any length, or
///    none; the next replacement removes it.
/// 2. The temporary file is synced. Without this the rename could be durable before the bytes are, and a crash would
///    leave a file that is empty or full of zeros.
/// 3. It is renamed over `path`. Whoever opens `path` sees the old or the new bytes, whole. A crash may undo the
///    rename: then `path` is the old file.
/// 4. The directory is synced. Only now may anything rely on the new bytes.
///
/// On an error before the rename nothing changed, and the temporary file is removed as far as that works (a full disk
/// gets its space back). After an error of the last step the new file is in place but may not survive a crash.
pub(crate) fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    replace_file_by(disk, path, |file| file.write_at(bytes, 0))
}

/// As [`replace_file`], with what `write` puts into the new file.
pub(crate) fn replace_file_by(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> Result<()> {
    let temporary = name::temporary(path);
    let renamed =
        write_new(disk, &temporary, write).and_then(|()| disk.rename(&temporary, path).at("rename", path));
    if renamed.is_err() {
        let _ = disk.remove_file(&temporary);
    }
    renamed?;
    sync_parent(disk, path)
}

fn write_new(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> Result<()> {
    remove_if_present(disk, path)?;
    let file = disk.open(path, Access::CreateNew).at("create", path)?;
    write(&*file).at("write", path)?;
    file.sync().at("sync", path)
}

/// Creates a directory, and those above it that are missing, so that its name survives a crash.
///
/// Level by level: none is made before the names of those above it are durable. So whoever is killed meanwhile leaves one
/// level at most that is not, which is the deepest that is there.
pub(crate) fn create_directory_durably(disk: &dyn Disk, path: &Path) -> Result<()> {
    let missing = missing_levels(disk, path)?;
    let Some(highest) = missing.first() else { return sync_found(disk, path) };
    if let Some(found) = highest.parent() {
        sync_found(disk, found)?;
    }
    missing.iter().try_for_each(|level| create_level(disk, level))
}

/// Creates a directory in one whose name is durable. It is synced there even if it was there: an earlier process may have
/// created it and been killed before it could.
pub(crate) fn create_level(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.create_directory(path).at("create directory", path)?;
    sync_parent(disk, path)
}

/// `path` and the directories above it, as far as they do not exist, the highest first.
fn missing_levels(disk: &dyn Disk, path: &Path) -> Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for level in path.ancestors().filter(|level| !level.as_os_str().is_empty()) {
        if disk.exists(level).at("look up", level)? {
            break;
        }
        missing.push(level.to_owned());
    }
    missing.reverse();
    Ok(missing)
}

/// Makes the name of a directory durable that was there, where that is possible: it may be the root of a volume, in a
/// directory that nobody may read, or on a file system that is never written.
fn sync_found(disk: &dyn Disk, path: &Path) -> Result<()> {
    let Some(parent) = parent_of(path) else { return Ok(()) };
    match disk.sync_directory(parent) {
        Err(error) if cannot_sync(error.kind()) => Ok(()),
        synced => synced.at("sync directory", parent),
    }
}

fn cannot_sync(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    matches!(kind, PermissionDenied | InvalidInput | ReadOnlyFilesystem)
}

/// Makes the name of `path` durable.
fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    let Some(parent) = parent_of(path) else { return Ok(()) };
    disk.sync_directory(parent).at("sync directory", parent)
}

/// The directory that the name of `path` is in. That of a bare name is the current one.
fn parent_of(path: &Path) -> Option<&Path> {
    let parent = path.parent()?;
    Some(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::IoMode;
    use crate::fs::sim::{Fault, Newest, Oldest, Operation, SimDisk};

    const FILE: &str = "/data/file";

    fn disk_with_old_file() -> SimDisk {
        let disk = SimDisk::new(IoMode::Write);
        create_directory_durably(&disk, Path::new("/data")).unwrap();
        replace_file(&disk, Path::new(FILE), b"old").unwrap();
        disk.restart_journal();
        disk
    }

    fn contents(disk: &SimDisk) -> Vec<u8> {
        disk.read(Path::new(FILE), 100).unwrap()
    }

    #[test]
    fn a_power_cut_leaves_the_old_file_or_the_new_one() {
        let disk = disk_with_old_file();
        replace_file(&disk, Path::new(FILE), b"new bytes").unwrap();
        for point in 0..disk.crash_points() {
            for image in disk.images(point, 1000, 0) {
                let contents = contents(&image);
                assert!(
                    contents == b"old" || contents == b"new bytes",
                    "{contents:?} {}",
                    disk.describe(point)
                );
                replace_file(&image, Path::new(FILE), b"after the crash").unwrap();
                assert_eq!(image.list(Path::new("/data")).unwrap().len(), 1, "the leftover is gone");
            }
        }
        let end = disk.crash_points() - 1;
        assert!(disk.images(end, 1000, 0).all(|image| contents(&image) == b"new bytes"));
    }

    #[test]
    fn a_call_that_fails_leaves_the_old_file_or_the_new_one() {
        for operation in Operation::ALL {
            for call in 1.. {
                let disk = disk_with_old_file();
                disk.inject(Fault::nth(operation, call).halfway());
                let replaced = replace_file(&disk, Path::new(FILE), b"new");
                disk.clear_faults();
                let expected: &[u8] = match (&replaced, operation) {
                    (Err(_), operation) if operation != Operation::SyncDirectory => b"old",
                    _ => b"new",
                };
                assert_eq!(contents(&disk), expected, "{operation:?} {call}");
                assert_eq!(disk.list(Path::new("/data")).unwrap().len(), 1, "{operation:?} {call}");
                if replaced.is_ok() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_full_disk_gets_its_space_back() {
        let disk = disk_with_old_file();
        let used = disk.used();
        disk.set_capacity(Some(used));
        assert!(replace_file(&disk, Path::new(FILE), b"new").is_err());
        assert_eq!(disk.used(), used);
        assert_eq!(contents(&disk), b"old");
    }

    #[test]
    fn a_directory_created_durably_is_there_after_a_power_cut() {
        let disk = SimDisk::new(IoMode::Write);
        let path = Path::new("/a/b/c");
        create_directory_durably(&disk, path).unwrap();
        let end = disk.crash_points() - 1;
        assert!(disk.crash(end, &mut Oldest).exists(path).unwrap());
    }

    #[test]
    fn a_directory_left_by_a_killed_process_is_made_durable_too() {
        let disk = SimDisk::new(IoMode::Write);
        let path = Path::new("/a");
        disk.create_directory(path).unwrap();
        let killed = disk.kill(disk.crash_points() - 1);
        assert!(!killed.crash(0, &mut Oldest).exists(path).unwrap());
        assert!(killed.crash(0, &mut Newest).exists(path).unwrap());
        create_directory_durably(&killed, path).unwrap();
        assert!(killed.crash(killed.crash_points() - 1, &mut Oldest).exists(path).unwrap());
    }

    /// All levels were made before the first one was synced. Whoever came after a kill in between found them there, and synced
    /// the last one only.
    #[test]
    fn a_path_left_by_a_killed_process_is_made_durable_whole() {
        let disk = SimDisk::new(IoMode::Write);
        let path = Path::new("/a/b/c");
        create_directory_durably(&disk, path).unwrap();
        for point in 0..disk.crash_points() {
            let killed = disk.kill(point);
            create_directory_durably(&killed, path).unwrap();
            let left = killed.crash(killed.crash_points() - 1, &mut Oldest);
            assert!(left.exists(path).unwrap(), "{}", disk.describe(point));
        }
    }

    /// Every opening comes by here.
    #[test]
    fn a_directory_that_is_there_costs_no_more_than_the_sync_of_its_name() {
        let (disk, path) = (SimDisk::new(IoMode::Write), Path::new("/a/b"));
        create_directory_durably(&disk, path).unwrap();
        let before = disk.calls(Operation::SyncDirectory);
        create_directory_durably(&disk, path).unwrap();
        assert_eq!(disk.calls(Operation::SyncDirectory) - before, 1);
    }

    /// It could be created in, but not be the log directory itself: the root of a volume, mounted where nobody may write.
    #[test]
    fn a_directory_whose_parent_cannot_be_synced_can_be_used_and_created_in() {
        for errno in [rustix::io::Errno::ACCESS, rustix::io::Errno::INVAL, rustix::io::Errno::ROFS] {
            let disk = SimDisk::new(IoMode::Write);
            create_directory_durably(&disk, Path::new("/a/b")).unwrap();
            disk.inject(Fault::nth(Operation::SyncDirectory, 1).errno(errno.raw_os_error()));
            create_directory_durably(&disk, Path::new("/a/b")).unwrap();
            disk.inject(Fault::nth(Operation::SyncDirectory, 1).errno(errno.raw_os_error()));
            create_directory_durably(&disk, Path::new("/a/b/c")).unwrap();
            disk.inject(Fault::nth(Operation::SyncDirectory, 1));
            assert!(create_directory_durably(&disk, Path::new("/a/b/d")).is_err());
        }
    }
}
