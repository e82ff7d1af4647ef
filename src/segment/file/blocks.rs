//! The blocks of a `.log` file behind its published end: allocated, populated and written ahead of the appender, and cut
//! when nobody appends any more.

use std::sync::atomic::Ordering;

use super::LogFile;
use super::opened::Opened;
use crate::error::{IoContext, Result};
use crate::fs::{Access, DiskFile, IoMode, Pages};

/// The smallest step in which a file gets blocks.
pub(crate) const ALLOCATION_STEP_MIN: u64 = 64 << 10;
/// The largest step in which a file gets blocks.
const ALLOCATION_STEP_MAX: u64 = 64 << 20;
/// So many blocks are written ahead at once: a sync of a batch may come to wait for them.
const WRITE_STEP: u64 = 256 << 10;

impl LogFile {
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    /// Gives the file blocks up to `end`, without the append lock: several may call, each returns when it is done.
    ///
    /// The step doubles with what is there, from 64 KiB to 64 MiB, within `capacity` and `budget`.
    pub(crate) fn allocate(&self, end: u64, capacity: u64, budget: u64) -> Result<u64> {
        let has_sink = self.allocating.lock();
        let allocated = self.allocated();
        if allocated >= end || !*has_sink {
            return Ok(0);
        }
        let step =
            allocated.clamp(ALLOCATION_STEP_MIN, ALLOCATION_STEP_MAX).min(budget.max(ALLOCATION_STEP_MIN));
        let needed = end.next_multiple_of(ALLOCATION_STEP_MIN);
        let target = needed.max(allocated + step).min(capacity.max(end));
        let file = self.open(Access::Write)?;
        let smallest = needed.min(target);
        match self.allocate_in(&*file, target) {
            // A disk on which the step has no room may have some for what is needed.
            Err(error) if error.is_full_disk() && smallest < target => self.allocate_in(&*file, smallest)?,
            done => done?,
        }
        Ok(self.allocated() - allocated)
    }

    pub(super) fn allocate_in(&self, file: &dyn DiskFile, end: u64) -> Result<()> {
        let allocated = file.allocate(self.allocated(), end).at("allocate", &self.place.lock().path);
        match &allocated {
            Ok(()) => self.allocated.store(end, Ordering::Release),
            // What it got in part, nobody knows of: it would stay behind a segment that is full up to here.
            Err(_) => drop(file.set_len(self.allocated())),
        }
        allocated
    }

    /// Populates the pages of a mapping ahead of the writer, so that it does not fault. Only ever a matter of speed.
    pub(crate) fn populate(&self, from: u64, to: u64, pages: Pages) {
        let to = to.min(self.allocated());
        if let Some(Opened::Map { map, .. }) = self.opened.load().as_deref()
            && from < to
        {
            // Without it, or where it would raise a signal, the writer faults page by page.
            let _ = map.populate(from as usize..to as usize, pages);
        }
    }

    /// Has the blocks in [`from`, `to`), ahead of the writer, written once, as they are: the first time takes a commit of the
    /// file system's journal, which the writer's sync of a batch there then need not wait for. The writer faults once more at
    /// each page. Only ever a matter of speed.
    ///
    /// Through a descriptor of its own: an error of the disk is reported once to each, and the writer's must not miss it.
    pub(crate) fn write_blocks(&self, from: u64, to: u64) -> Result<()> {
        let to = to.min(self.allocated());
        if self.mode != IoMode::Mapped || from >= to {
            return Ok(());
        }
        let sink = self.open(Access::Write)?.map(to as usize, 0).at("map", &self.path())?;
        (from..to).step_by(WRITE_STEP as usize).try_for_each(|start| {
            let end = to.min(start + WRITE_STEP);
            sink.map().sync(start as usize..end as usize).at("write blocks of", &self.path())
        })
    }

    /// Cuts what lies behind the published end, which nobody can have seen, and makes the length durable. How much was cut is
    /// given to `give_back`, before that. There must be no [`Sink`](super::Sink) any more.
    pub(crate) fn trim(&self, give_back: impl FnOnce(u64)) -> Result<()> {
        let mut has_sink = self.allocating.lock();
        *has_sink = false;
        let end = self.end();
        if self.allocated() > end && !self.is_retired() {
            let file = self.open(Access::Write)?;
            give_back(self.cut_ahead(&*file)?);
            file.sync().at("sync", &self.place.lock().path)?;
            self.synced.fetch_max(end, Ordering::AcqRel);
        }
        self.keep_whole(end);
        Ok(())
    }

    /// Cuts what a write that failed may have left behind the published end, and says how much was cut: a batch that is
    /// written over the first of several, and is as long, would let an opening find the others behind it. A map is never
    /// written in part, and must not lose its pages.
    pub(crate) fn cut_unpublished(&self) -> Result<u64> {
        let _has_sink = self.allocating.lock();
        if self.mode == IoMode::Mapped || self.allocated() <= self.end() {
            return Ok(0);
        }
        self.cut_ahead(&*self.open(Access::Write)?)
    }

    /// Gives back the blocks behind the published end. The caller holds `allocating`.
    fn cut_ahead(&self, file: &dyn DiskFile) -> Result<u64> {
        file.set_len(self.end()).at("cut", &self.place.lock().path)?;
        Ok(self.no_longer_ahead())
    }

    /// Counts no blocks behind the published end any more, and says how many bytes of them there were: they were cut, or go
    /// with the file. The caller holds `allocating`.
    fn no_longer_ahead(&self) -> u64 {
        let end = self.end();
        self.allocated.swap(end, Ordering::AcqRel).saturating_sub(end)
    }

    /// Gives up the blocks behind the published end of a retired file, and says how many bytes that is, once.
    pub(crate) fn give_up_ahead(&self) -> u64 {
        let _has_sink = self.allocating.lock();
        self.no_longer_ahead()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::BatchBuilder;
    use crate::fs::RealDisk;
    use crate::segment::Stamps;

    /// What is written ahead is what is there, also where the writer has come meanwhile; and none of it counts as synced.
    #[test]
    fn blocks_that_are_written_ahead_stay_as_they_are() {
        const BLOCKS: u64 = 1 << 20;
        let batch = BatchBuilder::new().record(b"key", b"value").build().unwrap();
        let end = batch.bytes().len() as u64;
        for mode in [IoMode::Mapped, IoMode::Write] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("segment");
            let (file, mut sink) =
                LogFile::create(Arc::new(RealDisk), mode, path.clone(), BLOCKS, BLOCKS).unwrap();
            sink.write(0, &Stamps::of(batch.header()), batch.bytes()).unwrap();
            sink.flush(0).unwrap();
            sink.publish(&file, end);
            file.write_blocks(0, 10 * BLOCKS).unwrap();
            file.write_blocks(10 * BLOCKS, 20 * BLOCKS).unwrap();

            assert_eq!((file.end(), file.allocated()), (end, BLOCKS));
            assert_eq!(file.bytes(0, end).unwrap(), batch.bytes());
            assert!(file.is_dirty(), "only the writer's own sync says what is durable");
            let behind = std::fs::read(&path).unwrap().split_off(end as usize);
            assert!(behind.iter().all(|&byte| byte == 0));
            file.remove().unwrap();
            assert_eq!(file.write_blocks(0, BLOCKS).is_err(), mode == IoMode::Mapped, "the file is gone");
            assert_eq!(file.bytes(0, end).unwrap(), batch.bytes());
        }
    }
}
