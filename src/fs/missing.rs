//! Files that may not be there, or may be longer than any of their kind, and names that none has yet.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::disk::Disk;
use crate::error::{CorruptionKind, Error, IoContext, Result};

/// The bytes of a file of `limit` bytes at most; `None` if there is no such file.
///
/// # Errors
///
/// [`Error::Corrupt`] if it is longer; the disk's.
pub(crate) fn read_if_present(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match disk.read(path, limit) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => or_too_long(read, path).map(Some),
    }
}

/// The text of a file of `limit` bytes at most; `None` if there is no such file.
///
/// # Errors
///
/// [`Error::Corrupt`] if it is longer, or not in UTF-8; the disk's.
pub(crate) fn read_text_if_present(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Option<String>> {
    let Some(bytes) = read_if_present(disk, path, limit)? else { return Ok(None) };
    let not_text = |_| Error::corrupt(path, 0, CorruptionKind::Format("not text in UTF-8"));
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

/// What came of reading a file up to a limit: one that is longer is not what it should be, and the disk is in order.
pub(crate) fn or_too_long<T>(read: io::Result<T>, path: &Path) -> Result<T> {
    match read {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(Error::corrupt(path, 0, CorruptionKind::Format("longer than any file of its kind")))
        }
        read => read.at("read", path),
    }
}

/// Removes a file, if there is one. The directory is not synced.
pub(crate) fn remove_if_present(disk: &dyn Disk, path: &Path) -> Result<()> {
    if_present(disk.remove_file(path)).at("remove", path)
}

/// What came of doing something to what may not be there, which is well then.
pub(crate) fn if_present(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The first path that nothing has, or that `will_do`, of those that `numbered` gives for 0, 1, 2 and so on.
pub(crate) fn first_free(
    disk: &dyn Disk,
    numbered: impl Fn(u64) -> PathBuf,
    will_do: impl Fn(&Path) -> bool,
) -> Result<PathBuf> {
    let mut number = 0;
    loop {
        let path = numbered(number);
        if !disk.exists(&path).at("look up", &path)? || will_do(&path) {
            return Ok(path);
        }
        number += 1;
    }
}
