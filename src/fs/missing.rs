//! Files that may not be there.

use std::io::ErrorKind;
use std::path::Path;

use super::disk::Disk;
use crate::error::{IoContext, Result};

/// The bytes of a file of `limit` bytes at most; `None` if there is no such file.
pub(crate) fn read_if_present(disk: &dyn Disk, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match disk.read(path, limit) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some).at("read", path),
    }
}

/// Removes a file, if there is one. The directory is not synced.
pub(crate) fn remove_if_present(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.at("remove", path),
    }
}
