//! How many maps this process has of which file.
//!
//! A file that is cut takes its bytes from under whoever has it mapped: slices that were handed out before a directory was
//! closed and opened again, for instance, or those of a second, read-only look at it. Nothing but the process has them all,
//! as nothing but the process has one address space, so this count is the engine's only global thing. A mapped file keeps
//! its number on the device until the map is gone.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use parking_lot::{Mutex, const_mutex};

/// The device, and the number of the file there.
type FileId = (u64, u64);

static MAPS: Mutex<BTreeMap<FileId, usize>> = const_mutex(BTreeMap::new());

/// Counts a map for as long as it exists.
#[derive(Debug)]
pub(super) struct CountedMap(FileId);

impl CountedMap {
    pub(super) fn of(file: &Metadata) -> Self {
        let id = (file.dev(), file.ino());
        *MAPS.lock().entry(id).or_default() += 1;
        Self(id)
    }
}

impl Drop for CountedMap {
    fn drop(&mut self) {
        let mut maps = MAPS.lock();
        if let Some(count) = maps.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                maps.remove(&self.0);
            }
        }
    }
}

/// How many files this process has mapped.
pub(crate) fn mapped_files() -> usize {
    MAPS.lock().len()
}

/// Whether this process has the file mapped.
pub(super) fn is_mapped(file: &Metadata) -> bool {
    MAPS.lock().contains_key(&(file.dev(), file.ino()))
}
