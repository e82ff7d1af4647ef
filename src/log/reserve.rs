//! Blocks of the disk that are kept for those who make room: before anything is deleted, what is about to go is written down.

use std::path::PathBuf;

use crate::error::{IoContext, Result};
use crate::fs::missing::remove_if_present;
use crate::fs::{Access, Disk};
use crate::sync::Mutex;

/// Enough for the checkpoint files of some ten thousand partitions.
const SIZE: u64 = 1 << 20;

/// A file that takes up room until somebody needs it.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    is_kept: Mutex<bool>,
}

impl Reserve {
    /// One that has nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, is_kept: Mutex::new(false) }
    }

    /// Takes up the room, unless it has. Where there is none it is tried again by the next call.
    pub(crate) fn keep(&self, disk: &dyn Disk) {
        let mut is_kept = self.is_kept.lock();
        if !*is_kept {
            *is_kept = self.is_there(disk) || self.make(disk).is_ok();
        }
    }

    /// What an earlier process kept, or a crash left of it.
    fn is_there(&self, disk: &dyn Disk) -> bool {
        disk.exists(&self.path).is_ok_and(|is_there| is_there)
            && disk.len(&self.path).is_ok_and(|len| len == SIZE)
    }

    fn make(&self, disk: &dyn Disk) -> Result<()> {
        remove_if_present(disk, &self.path)?;
        let file = disk.open(&self.path, Access::CreateNew).at("create", &self.path)?;
        let allocated = file.allocate(0, SIZE).at("allocate", &self.path);
        allocated.inspect_err(|_| drop(disk.remove_file(&self.path)))
    }

    /// Gives the room back. `false` if it had none.
    pub(crate) fn give_up(&self, disk: &dyn Disk) -> bool {
        let mut is_kept = self.is_kept.lock();
        std::mem::take(&mut *is_kept) && disk.remove_file(&self.path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;

    #[test]
    fn room_is_kept_where_there_is_some_and_given_up_once() {
        let disk = SimDisk::new(IoMode::Write);
        disk.create_directory(Path::new("/data")).unwrap();
        let before = disk.used();
        let reserve = Reserve::new(PathBuf::from("/data/reserve"));
        assert!(!reserve.give_up(&disk));
        disk.set_capacity(Some(before + SIZE / 2));
        reserve.keep(&disk);
        assert!(!reserve.give_up(&disk));
        assert_eq!(disk.used(), before, "half of it is not kept");

        disk.set_capacity(None);
        reserve.keep(&disk);
        assert!(disk.used() >= before + SIZE);
        Reserve::new(PathBuf::from("/data/reserve")).keep(&disk);
        assert!(reserve.give_up(&disk) && !reserve.give_up(&disk));
        assert_eq!(disk.used(), before);
    }
}
