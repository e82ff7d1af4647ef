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
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_kept: bool,
    /// How many make room with what was given up.
    users: usize,
}

impl Reserve {
    /// One that has nothing yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, state: Mutex::default() }
    }

    /// Takes up the room, unless it has, or somebody is using it. Where there is none it is tried again by the next call.
    pub(crate) fn keep(&self, disk: &dyn Disk) {
        let mut state = self.state.lock();
        if !state.is_kept && state.users == 0 {
            state.is_kept = self.is_there(disk) || self.make(disk).is_ok();
        }
    }

    /// Does something with the room given back, if there was any or somebody else is using it.
    pub(crate) fn give_up<T>(&self, disk: &dyn Disk, use_it: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.state.lock();
        let has_room = std::mem::take(&mut state.is_kept) && disk.remove_file(&self.path).is_ok();
        if !has_room && state.users == 0 {
            return None;
        }
        state.users += 1;
        drop(state);
        let _user = User(self);
        Some(use_it())
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
}

/// One who makes room, also if that panics.
struct User<'a>(&'a Reserve);

impl Drop for User<'_> {
    fn drop(&mut self) {
        self.0.state.lock().users -= 1;
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
        let give_up = || reserve.give_up(&disk, || disk.used());
        assert_eq!(give_up(), None);
        disk.set_capacity(Some(before + SIZE / 2));
        reserve.keep(&disk);
        assert_eq!(give_up(), None);
        assert_eq!(disk.used(), before, "half of it is not kept");

        disk.set_capacity(None);
        reserve.keep(&disk);
        assert!(disk.used() >= before + SIZE);
        Reserve::new(PathBuf::from("/data/reserve")).keep(&disk);
        assert_eq!(give_up(), Some(before));
        assert_eq!(give_up(), None);
    }

    /// Whoever wrote checkpoints meanwhile took the room again, before it was used.
    #[test]
    fn nobody_takes_the_room_while_it_is_used() {
        let disk = SimDisk::new(IoMode::Write);
        disk.create_directory(Path::new("/data")).unwrap();
        let reserve = Reserve::new(PathBuf::from("/data/reserve"));
        reserve.keep(&disk);
        let used = reserve.give_up(&disk, || {
            reserve.keep(&disk);
            let of_another = reserve.give_up(&disk, || disk.used());
            assert_eq!(of_another, Some(disk.used()));
            disk.used()
        });
        reserve.keep(&disk);
        assert_eq!(disk.used(), used.unwrap() + SIZE);
    }
}
