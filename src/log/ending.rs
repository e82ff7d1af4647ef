//! The end of a log, closed, deleted, poisoned, or dropped; and who is refused because of it.

use std::sync::atomic::Ordering;

use super::commit::End;
use super::rolling::Prepared;
use super::{Appender, Shared};
use crate::error::{Error, IoContext, Result};
use crate::segment::{Segment, SegmentWriter};

impl Shared {
    /// Closes the log. There may be several at once, one of them even by a waker in the middle of another: whoever comes to the
    /// end first decides what it came to, and the others answer the same.
    pub(super) fn close(&self) -> Result<()> {
        self.appender.lock().closing = true;
        self.end_untouched();
        if !self.is_closed() {
            let written = self.whole(|| self.take_snapshot());
            self.whole(|| self.end_closed(written));
        }
        self.tell();
        self.badly_closed.get().map_or(Ok(()), |error| Err((**error).clone()))
    }

    fn is_closed(&self) -> bool {
        matches!(self.commit.end(), Some(End::Closed | End::Gone))
    }

    /// Ends a log to which nothing was done since a clean opening, or may be done, if it is one.
    fn end_untouched(&self) {
        // Held without touching them.
        let _files = (self.sealing.lock(), self.rolling.lock());
        let is_untouched = self.environment.read_only || self.untouched.load(Ordering::Acquire);
        if is_untouched && !self.commit.is_over() {
            self.let_go_and_end(&mut self.appender.lock());
        }
    }

    /// Ends a log whose last snapshot came to `written`. A failure is remembered: the directory is not to be marked clean. The
    /// files are held until the log has ended, so that nobody makes another one in between.
    fn end_closed(&self, written: Result<()>) {
        // Nor is anybody still at a sync: if it fails, it writes once more.
        let _paused = self.commit.pause();
        let _files = self.hold_files();
        if self.is_closed() {
            return;
        }
        let finished = written.and_then(|()| self.finish());
        // Whoever reads and finds a file gone waits for this lock, and finds the log closed then.
        let mut appender = self.appender.lock();
        if let Err(error) = finished {
            let _ = self.badly_closed.set(Box::new(error));
        }
        self.let_go_and_end(&mut appender);
    }

    /// Closes the log for good. The caller holds the files: an appender may be about to allocate, and where that fails to cut, or
    /// a reader to map, and they may be another owner's then.
    fn let_go_and_end(&self, appender: &mut Appender) {
        self.let_go_of_files(appender, |segment| {
            segment.file().let_go();
            self.environment.space.give_back(segment.file().give_up_ahead());
        });
        self.end_quietly(End::Closed);
    }

    /// Leaves nothing to do for the next opening. The caller holds the files, and has taken a snapshot.
    fn finish(&self) -> Result<()> {
        self.commit.check()?;
        let mut appender = self.appender.lock();
        let prepared = self.take_prepared(&mut appender);
        let writer = appender.writer.take();
        drop(appender);
        if let Some(prepared) = prepared {
            prepared.file.remove()?;
        }
        let sealed = writer.map(SegmentWriter::seal);
        // Also without a writer: the last one may have gone with a write that failed, and left something behind the end.
        if let Some(last) = self.segments.load().last() {
            self.poison_unless(last.file().sync().map(drop))?;
            last.file().trim(|ahead| self.environment.space.give_back(ahead))?;
        }
        if let Some(sealed) = sealed {
            sealed.write_indexes()?;
        }
        self.environment.disk.sync_directory(&self.directory).at("sync directory", &self.directory)
    }

    /// Takes the next segment, if it is ready, from an appender that has stored its last batch, and gives the blocks that only the
    /// two know of back to the budget.
    fn take_prepared(&self, appender: &mut Appender) -> Option<Prepared> {
        let space = &self.environment.space;
        space.give_back(std::mem::take(&mut appender.filled));
        appender.prepared.take().inspect(|prepared| space.give_back(prepared.file.allocated()))
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        self.check_not_read_only()?;
        self.commit.check()
    }

    pub(super) fn check_not_read_only(&self) -> Result<()> {
        if self.environment.read_only {
            return Err(Error::ReadOnly { path: self.directory.clone() });
        }
        Ok(())
    }

    /// Refuses when the log has ended or is about to. The caller holds the files, which a close needs as well.
    pub(super) fn check_not_closing(&self) -> Result<()> {
        self.commit.check()?;
        if self.appender.lock().closing { Err(Error::Closed) } else { Ok(()) }
    }

    /// Ends the log; whoever waits is told by [`tell`](Self::tell).
    pub(super) fn end_quietly(&self, end: End) {
        if matches!(end, End::Poisoned(_)) {
            self.watermarks.poison();
        }
        self.commit.finish(end);
    }

    /// Has everybody who waits look whether the log has ended. Not under a lock: a waker is the host's.
    pub(super) fn tell(&self) {
        self.report_poison();
        self.commit.wake_all();
        self.tail.notify_all();
    }

    /// Tells the host's subscriber of the poison, if there is any, once. Not under a lock.
    pub(super) fn report_poison(&self) {
        if let Some(End::Poisoned(_cause)) = self.commit.end()
            && !self.poison_reported.swap(true, Ordering::Relaxed)
        {
            event!(error, partition = %self.name, error = %_cause, "poisoned");
        }
    }

    /// Ends the log because its directory is about to go: no chore touches it afterwards. Whoever waits is told by
    /// [`tell`](Self::tell).
    pub(super) fn abandon(&self) {
        let _files = self.hold_files();
        if matches!(self.commit.end(), Some(End::Gone)) {
            return;
        }
        self.end_quietly(End::Gone);
        self.let_go_of_files(&mut self.appender.lock(), |segment| self.let_go_of(segment));
    }

    /// Has nobody open, extend or write the files any more: under their names there may soon be those of another partition, or
    /// of another log of this one. The caller holds the files, and the log takes nothing more.
    fn let_go_of_files(&self, appender: &mut Appender, let_go: impl Fn(&Segment)) {
        drop(self.take_prepared(appender));
        appender.writer = None;
        self.segments.load().iter().for_each(|segment| let_go(segment));
    }
}

impl Drop for Shared {
    /// Neither blocks nor marks clean: what was not finished is recovered.
    fn drop(&mut self) {
        self.commit.finish(End::Closed);
        self.commit.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use crate::error::Error;
    use crate::fs::sim::{Fault, Operation, SimDisk};
    use crate::fs::{Disk, IoMode};
    use crate::segment::Segment;
    use crate::{BatchBuilder, LogDir, LogDirOptions, Offset};

    fn open(mode: IoMode) -> (SimDisk, LogDir) {
        let disk = SimDisk::new(mode);
        let options = LogDirOptions::default().disk(Arc::new(disk.clone()));
        (disk, LogDir::open("/data", options).unwrap())
    }

    /// An appender that was about to allocate when a poisoned log was closed did so afterwards; and where that failed, it cut the
    /// file to what it knew of, with what the next owner had appended meanwhile.
    #[test]
    fn nobody_allocates_in_a_log_that_was_closed_badly() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let (disk, dir) = open(mode);
            let log = dir.partition("t", 0).unwrap();
            let batch = BatchBuilder::new().record("k", "v").build().unwrap();
            log.append(&batch).unwrap();
            log.shared.prepare().unwrap();
            disk.inject(Fault::nth(Operation::Sync, 1));
            log.append(&batch).unwrap_err();
            dir.close().unwrap_err();
            let allocated = disk.calls(Operation::Allocate);
            let active = log.shared.segments.load_full()[0].clone();
            log.shared.allocate_in(active.file(), 1 << 20).unwrap();
            // Nor in the segment that was prepared, whose name may be that of another's.
            log.shared.extend_prepared(1 << 20).unwrap_err();
            assert_eq!(disk.calls(Operation::Allocate), allocated, "{mode:?}");
        }
    }

    /// The next segment's file stayed with a poisoned log that was closed, and an appender gave blocks to what had its name: the
    /// next owner's, which was cut where that failed.
    #[test]
    fn nobody_extends_the_next_segment_of_a_log_that_was_closed_badly() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let (disk, dir) = open(mode);
            let log = dir.partition("t", 0).unwrap();
            let room = log.shared.environment.space.room();
            let batch = BatchBuilder::new().record("k", "v").build().unwrap();
            log.append(&batch).unwrap();
            log.shared.prepare().unwrap();
            disk.inject(Fault::nth(Operation::Sync, 1));
            log.append(&batch).unwrap_err();
            let allocated = disk.calls(Operation::Allocate);
            assert!(matches!(log.shared.extend_prepared(1 << 20), Err(Error::Poisoned(_))), "{mode:?}");
            log.close().unwrap_err();
            assert!(matches!(log.shared.extend_prepared(1 << 20), Err(Error::Closed)), "{mode:?}");
            assert_eq!(disk.calls(Operation::Allocate), allocated, "{mode:?}");
            assert_eq!(log.shared.environment.space.room(), room, "{mode:?}");
        }
    }

    /// A read that was under way when the log ended found its files gone, and said that the offset was out of range: a consumer
    /// goes to another one then.
    #[test]
    fn a_read_that_the_end_of_the_log_overtakes_says_that_the_log_has_ended() {
        let (_disk, dir) = open(IoMode::Mapped);
        let log = dir.partition("t", 0).unwrap();
        log.append(&BatchBuilder::new().record("k", "v").build().unwrap()).unwrap();
        log.shared.abandon();
        let segment = log.shared.segments.load()[0].clone();
        let read = log.shared.in_present_log(Offset(0), || segment.file().bytes(0, 1));
        assert!(matches!(read, Err(Error::Gone)), "{read:?}");
    }

    /// A log that nobody had touched kept its files when it was closed: a reader that was about to map one did so when another
    /// owner had cut it in place, and the process got a signal.
    #[test]
    fn nobody_maps_a_file_of_a_log_that_was_closed_untouched() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let (disk, dir) = open(mode);
            let batch = BatchBuilder::new().record("k", "v").build().unwrap();
            dir.partition("t", 0).unwrap().append(&batch).unwrap();
            dir.close().unwrap();
            let dir = LogDir::open("/data", LogDirOptions::default().disk(Arc::new(disk))).unwrap();
            let log = dir.partition("t", 0).unwrap();
            let segment = log.shared.segments.load()[0].clone();
            let sealing = log.shared.sealing.lock();
            thread::scope(|scope| {
                let closed = scope.spawn(|| dir.close());
                thread::sleep(Duration::from_millis(20));
                assert!(!closed.is_finished(), "{mode:?}: somebody is at the files");
                drop(sealing);
                closed.join().unwrap().unwrap();
            });
            let read = segment.file().bytes(0, 1);
            assert!(matches!(&read, Err(error) if Segment::is_gone(error)), "{mode:?}: {read:?}");
        }
    }

    /// A close that failed gave the blocks ahead of the appender back to the budget twice, and another partition's with them.
    #[test]
    fn a_log_that_was_closed_badly_gives_its_empty_blocks_back_once() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let (disk, dir) = open(mode);
            let batch = BatchBuilder::new().record("k", "v").build().unwrap();
            let other = dir.partition("other", 0).unwrap();
            other.append(&batch).unwrap();
            let room = || other.shared.environment.space.room();
            let before = room();
            let log = dir.partition("t", 0).unwrap();
            log.append(&batch).unwrap();
            assert!(room() < before, "{mode:?}");
            disk.inject(Fault::nth(Operation::SetLen, 1));
            log.close().unwrap_err();
            assert_eq!(room(), before, "{mode:?}");
            dir.delete_partition("t", 0).unwrap();
            assert_eq!(room(), before, "{mode:?}");
        }
    }

    /// A roll that came in behind a close's last snapshot left the directory marked clean with a segment that nobody had
    /// trimmed, and another with indexes and no name.
    #[test]
    fn nobody_rolls_a_log_that_is_closing() {
        for mode in [IoMode::Mapped, IoMode::Write] {
            let options = LogDirOptions::default().disk(std::sync::Arc::new(SimDisk::new(mode)));
            let dir = LogDir::open("/data", options).unwrap();
            let log = dir.partition("t", 0).unwrap();
            log.append(&BatchBuilder::new().record("k", "v").build().unwrap()).unwrap();
            log.shared.appender.lock().closing = true;
            assert!(matches!(log.roll(), Err(Error::Closed)), "{mode:?}");
            assert_eq!(log.metrics().segments, 1, "{mode:?}");
            dir.close().unwrap();
        }
    }

    /// A close let go of the files before it said that the log is closed. Whoever waited for them made the next segment's
    /// file in between, in a directory that somebody else may have opened by then.
    #[test]
    fn nobody_makes_a_file_in_a_log_that_is_closed() {
        for _ in 0..50 {
            let (disk, dir) = open(IoMode::Write);
            let log = dir.partition("t", 0).unwrap();
            drop(dir);
            log.append(&BatchBuilder::new().record("k", "v").build().unwrap()).unwrap();
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| while log.shared.prepare().is_ok() {});
                }
                log.close().unwrap();
            });
            assert!(!disk.exists("/data/t-0/segment.prepared".as_ref()).unwrap());
        }
    }
}
