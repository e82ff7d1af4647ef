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

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a child process that was forked a moment ago, and has not come to its program yet,
    /// has it open as well.
    fn drop(&mut self) {
        let _ = release(&self.0);
    }
}

/// `None`: somebody else holds it.
pub(super) fn lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = open_file(OpenOptions::new().read(true).write(true).create(true), path)?;
    Ok(exclusive(&file)?.then_some(Lock(file)))
}

/// Whether somebody holds the lock. Makes no file, and needs none that can be written: a missing one is held by nobody.
pub(crate) fn is_held(path: &Path) -> io::Result<bool> {
    match open_file(OpenOptions::new().read(true), path) {
        Ok(file) => is_held_by_another(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
fn exclusive(file: &File) -> io::Result<bool> {
    use nix::errno::Errno;

    match set(file, nix::libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn release(file: &File) -> io::Result<()> {
    Ok(set(file, nix::libc::F_UNLCK)?)
}

/// Locks or unlocks the whole file for this opening of it.
#[cfg(target_os = "linux")]
fn set(file: &File, kind: nix::libc::c_int) -> nix::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};

    fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))).map(drop)
}

/// Asks without taking: an owner that comes at this moment is not refused.
#[cfg(target_os = "linux")]
fn is_held_by_another(file: &File) -> io::Result<bool> {
    use nix::fcntl::{FcntlArg, fcntl};

    let mut asked = whole_file(nix::libc::F_WRLCK);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != nix::libc::F_UNLCK as nix::libc::c_short)
}

#[cfg(target_os = "linux")]
fn whole_file(kind: nix::libc::c_int) -> nix::libc::flock {
    nix::libc::flock {
        l_type: kind as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(not(target_os = "linux"))]
fn release(file: &File) -> io::Result<()> {
    file.unlock()
}

#[cfg(not(target_os = "linux"))]
fn exclusive(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// There is no asking without taking, so it is taken for a moment, together with others who ask.
#[cfg(not(target_os = "linux"))]
fn is_held_by_another(file: &File) -> io::Result<bool> {
    match file.try_lock_shared() {
        Ok(()) => release(file).map(|()| false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
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

    /// An opening right behind a close was refused now and then, as if the directory were in use: while another thread
    /// started a program, its child had the file open between the fork and the exec.
    #[test]
    fn a_lock_is_released_while_a_forked_child_still_has_the_file_open() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".lock");
        let held = lock(&path).unwrap().unwrap();
        // As a fork does it: another descriptor of the same opening.
        let _of_the_child = held.0.try_clone().unwrap();
        assert!(lock(&path).unwrap().is_none());
        drop(held);
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

    #[test]
    fn asking_who_holds_the_lock_takes_nothing_and_makes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".lock");
        assert!(!is_held(&path).unwrap() && !path.exists());
        let held = lock(&path).unwrap();
        assert!(is_held(&path).unwrap());
        assert!(lock(&path).unwrap().is_none(), "asking does not release it");
        drop(held);
        assert!(!is_held(&path).unwrap());
        assert!(lock(&path).unwrap().is_some());
    }
}
