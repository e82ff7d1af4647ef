//! The lock on a directory: one owner at a time, among threads, processes, and running Kafkas.
//!
//! On Linux it is an *open file description* lock over the whole file:
//!
//! * It conflicts with the classic POSIX record lock, which is what Java's `FileChannel.lock` takes, and so what Kafka
//!   takes on the same `.lock`, in both directions.
//! * It belongs to this opening of the file. A second owner within the process is refused like any other (a POSIX lock
//!   never conflicts within its process), and it is not lost when somebody in the process opens and closes the file
//!   again (a POSIX lock is).
//! * It ends with the process, however that ends.
//!
//! Elsewhere it is `flock`, which the BSDs and macOS keep in the same list as POSIX record locks.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::real::open_file;

/// `None`: somebody else holds it. The lock is released when the file is closed.
pub(super) fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = open_file(OpenOptions::new().read(true).write(true).create(true), path)?;
    Ok(exclusive(&file)?.then_some(file))
}

#[cfg(target_os = "linux")]
fn exclusive(file: &File) -> io::Result<bool> {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};

    let whole_file = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn exclusive(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_even_within_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".lock");
        let first = lock(&path).unwrap();
        assert!(first.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(first);
        assert!(lock(&path).unwrap().is_some());
    }

    #[test]
    fn closing_another_descriptor_of_the_file_does_not_release_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".lock");
        let _held = lock(&path).unwrap().unwrap();
        drop(File::open(&path).unwrap());
        assert!(lock(&path).unwrap().is_none());
    }
}
