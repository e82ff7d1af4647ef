//! Truncation: the end of the log is taken back, as a follower does whose log has parted from its leader's.
//!
//! The order of the steps is what a crash relies on:
//!
//! 1. The checkpoints are lowered. A recovery point above the end of the log would be taken for corruption.
//! 2. Everything that can fail without harm: what is left of the last segment is copied, if the file itself cannot be
//!    cut. Snapshots from above the target go, then indexes and leader epochs are written. So far the log is whole.
//! 3. Segments go from the highest down, the directory synced after each: unsynced removals survive a crash
//!    independently of each other, and a hole must never appear.
//! 4. The last segment is cut, durably.
//!
//! A published byte never changes while somebody sees it: a file is cut in place if nobody does, else its prefix takes
//! the file's place and those who see the old one keep it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit::{End, Paused, cause};
use super::producers::snapshots::Snapshot;
use super::{Appender, Log, Shared};
use crate::epoch::LeaderEpochs;
use crate::error::{Error, Result};
use crate::producer::ProducerTable;
use crate::segment::{Prefix, Segment, first_behind};
use crate::types::Offset;

impl Log {
    /// Takes back everything from `target` on. `false` if there is nothing: `target` is the log end offset or higher.
    ///
    /// Whole batches go: a batch that holds `target` goes, too, and the next one appended begins at `target`. (An opening
    /// before that finds the log end where the last batch ends.) The log start offset, the high watermark and the durable
    /// offset are `target` at most afterwards; producers and leader epochs are as they were there. A target below the first
    /// segment empties the log, as [`truncate_fully`](Self::truncate_fully). Appends wait meanwhile, readers only for the
    /// segment that is cut; what they hold stays as it is. A [`Pending`](crate::Pending) of a batch that went resolves to
    /// [`Error::Truncated`].
    ///
    /// A crash leaves the log cut, or whole up to some batch above `target`.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] for a negative target. The disk's: where nothing was cut yet, the log is as before, but
    /// opening it may have to read more, and a high watermark that the host set is lowered. Where something was, the log
    /// ends at `target` and is poisoned: opening it again recovers, and finds the log end there or above. Where the
    /// disk may say already that an emptied log begins at `target`, and does not let that be taken back, it is poisoned, too.
    /// [`Error::Closed`] also when the [`LogDir`](crate::LogDir) has no handle any more; [`Error::Poisoned`], [`Error::Gone`],
    /// [`Error::ReadOnly`].
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// for _ in 0..3 {
    ///     log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// }
    /// assert!(log.truncate_to(Offset(1))?);
    /// assert_eq!(log.log_end_offset(), Offset(1));
    /// assert!(!log.truncate_to(Offset(7))?);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn truncate_to(&self, target: Offset) -> Result<bool> {
        self.shared.change(|| self.shared.truncate_to(target))
    }

    /// Empties the log and begins it at `new_start`, from 0 up, which may also lie above the log end offset. Producers and
    /// leader epochs are forgotten.
    ///
    /// A crash leaves the log empty at `new_start`, or some of what it held, up to some batch.
    ///
    /// # Errors
    ///
    /// As [`truncate_to`](Self::truncate_to).
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// log.truncate_fully(Offset(1000))?;
    ///
    /// let stored = log.append(&BatchBuilder::new().record(b"key", b"value").build()?)?;
    /// assert_eq!(stored.base_offset(), Offset(1000));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn truncate_fully(&self, new_start: Offset) -> Result<()> {
        self.shared.change(|| self.shared.truncate_fully(new_start))
    }
}

/// How the last segment that stays gets its new end.
#[derive(Debug)]
enum Cut {
    /// It has it already.
    Nothing,
    InPlace(u64),
    /// A copy of what stays takes the file's place.
    ByCopy,
}

/// What a truncation to a target leaves, worked out without the append lock.
#[derive(Debug)]
struct Remainder {
    /// What is left of the last segment that stays.
    prefix: Prefix,
    producers: ProducerTable,
}

impl Shared {
    fn check_target(&self, got: Offset) -> Result<()> {
        self.check_writable()?;
        let end = self.watermarks.log_end();
        if got < Offset::ZERO {
            Err(Error::OffsetOutOfRange { got, start: Offset::ZERO, end })
        } else {
            Ok(())
        }
    }

    fn truncate_to(&self, target: Offset) -> Result<bool> {
        self.check_target(target)?;
        if target < self.watermarks.log_end() {
            // What stays must be durable: little of it is left to be synced when appends wait.
            self.sync()?;
        }
        self.paused(|paused| {
            if target >= self.watermarks.log_end() {
                self.forget_epochs_behind_the_end()?;
                return Ok(false);
            }
            let first = self.segments.load().first().map(|first| first.base_offset());
            match first {
                Some(first) if first <= target => self.truncate_segments(paused, target)?,
                _ => self.start_over(paused, target)?,
            }
            Ok(true)
        })
    }

    fn truncate_fully(&self, new_start: Offset) -> Result<()> {
        self.check_target(new_start)?;
        self.paused(|paused| self.start_over(paused, new_start))
    }

    /// Truncates while nobody syncs and nobody else changes files. Those who wait are told when all that is let go of.
    fn paused<T>(&self, truncate: impl FnOnce(&Paused<'_>) -> Result<T>) -> Result<T> {
        let truncated = {
            let paused = self.commit.pause();
            let _files = self.hold_files();
            self.check_not_closing().and_then(|()| truncate(&paused))
        };
        self.tail.notify_all();
        truncated
    }

    /// The caller holds the files, and the log reaches beyond `target`.
    fn truncate_segments(&self, paused: &Paused<'_>, target: Offset) -> Result<()> {
        let remainder = self.remainder(target)?;
        self.watermarks.lower_high_watermark(target);
        // To readers only when the segments are out of their sight: they would find what was deleted.
        self.watermarks.announce_start(Some(self.watermarks.log_start().min(target)));
        let truncated = self
            .lower_checkpoints(remainder.prefix.next_offset)
            .and_then(|()| self.truncate_locked(&mut self.appender.lock(), paused, target, remainder));
        self.watermarks.announce_start(None);
        if truncated.is_err() && self.watermarks.log_end() > target {
            self.keep_start();
            // What was deleted must not come back with the next opening. Where that fails it is tried again with the next
            // checkpoints, and a crash before them loses nothing.
            let _ = self.environment.checkpoints.write();
        }
        truncated
    }

    /// Nothing may have been cut: a high watermark that was lowered does not stay below the log start.
    fn keep_start(&self) {
        let _appender = self.appender.lock();
        self.watermarks.raise_log_start(self.watermarks.log_start());
    }

    /// Reads what stays, so that no read can fail when something is gone already.
    fn remainder(&self, target: Offset) -> Result<Remainder> {
        let segments = self.segments.load_full();
        let last = first_behind(&segments, target).saturating_sub(1);
        // Its file may name markers above the target: what is in memory is cut, and written.
        drop(self.transaction_index(&segments[last])?);
        let prefix = segments[last].prefix(target)?;
        let now = self.now();
        let before = self.newest_snapshot(&segments, target, now)?;
        // Up to the last batch that stays: one that begins below the target and ends above it goes.
        let Snapshot { producers, .. } = before.replay(&segments, prefix.next_offset, now)?;
        Ok(Remainder { prefix, producers })
    }

    /// Says on the disk that the log may end at `end`, and begin where it was announced to.
    fn lower_checkpoints(&self, end: Offset) -> Result<()> {
        self.recovery_point.fetch_min(end.0, Ordering::AcqRel);
        self.environment.checkpoints.write()
    }

    fn truncate_locked(
        &self,
        appender: &mut Appender,
        paused: &Paused<'_>,
        target: Offset,
        remainder: Remainder,
    ) -> Result<()> {
        // What was rolled meanwhile: a file without its name could not be told from the one that is prepared.
        self.name_rolled()?;
        appender.writer = None;
        let segments = self.segments.load_full();
        let (kept, dropped) = segments.split_at(first_behind(&segments, target));
        let Some((last, before)) = kept.split_last() else { return Ok(()) };
        // What came in since the truncation has synced, and stays: memory will call it durable, whatever fails from here on.
        self.poison_unless(last.file().sync().map(drop))?;
        let Remainder { prefix, producers } = remainder;
        let (last_batch_end, summary) = (prefix.next_offset, prefix.summary_until(target));
        let shortened = if prefix.end < last.file().end() { last.cut(prefix) } else { Arc::clone(last) };
        let mut leader_epochs = appender.leader_epochs.clone();
        leader_epochs.truncate_from_end(target);

        let cut = self.make_ready(last, &shortened, &leader_epochs, target)?;
        let removed = self.remove_segments(dropped).and_then(|()| self.carry_out(&cut, last));
        // Also after an error: memory ends at the target, and what the disk has too much is for an opening to see.
        shortened.set_summary(&summary);
        appender.leader_epochs = leader_epochs;
        self.watermarks.truncate(last_batch_end, target);
        self.install(appender, [before, &[shortened]].concat(), producers);
        self.conclude(paused, target, removed)
    }

    /// Everything that can fail before anything of the log is gone. On an error the log is as it was.
    fn make_ready(
        &self,
        last: &Arc<Segment>,
        shortened: &Arc<Segment>,
        leader_epochs: &LeaderEpochs,
        target: Offset,
    ) -> Result<Cut> {
        let cut = if Arc::ptr_eq(last, shortened) {
            Cut::Nothing
        } else {
            // If it goes on as it was after all, its index files are too short.
            last.hold_indexes()?;
            self.retire(last, shortened.file().end())?
        };
        // Snapshots first: an opening that found the later one would ask the shortened index for markers in between.
        let ready = self
            .remove_snapshots(|offset| offset > target)
            .and_then(|()| shortened.write_indexes())
            .and_then(|()| self.replace_leader_epochs(leader_epochs));
        if ready.is_err() {
            last.file().revive();
            last.file().discard_copy();
        }
        ready.map(|()| cut)
    }

    /// Takes a segment that is to be cut out of the readers' sight.
    fn retire(&self, segment: &Segment, end: u64) -> Result<Cut> {
        let file = segment.file();
        if file.retire() {
            return Ok(Cut::InPlace(end));
        }
        file.copy_prefix(end).inspect_err(|_| file.revive())?;
        Ok(Cut::ByCopy)
    }

    fn carry_out(&self, cut: &Cut, segment: &Segment) -> Result<()> {
        let made = match cut {
            Cut::Nothing => return Ok(()),
            Cut::InPlace(end) => segment.file().cut(*end),
            Cut::ByCopy => segment.file().replace_by_copy(),
        };
        self.note_removed(segment);
        made
    }

    /// Empties the log. The caller holds the files.
    fn start_over(&self, paused: &Paused<'_>, new_start: Offset) -> Result<()> {
        self.watermarks.lower_high_watermark(new_start);
        // By itself: a disk that is full refuses this already, when nothing is said yet of the new start.
        self.lower_checkpoints(Offset::ZERO).inspect_err(|_| self.keep_start())?;
        self.watermarks.announce_start(Some(new_start));
        let emptied = self
            .environment
            .checkpoints
            .write()
            .and_then(|()| self.start_over_locked(&mut self.appender.lock(), paused, new_start));
        self.watermarks.announce_start(None);
        emptied.inspect_err(|_| self.take_start_back())
    }

    /// The log may still be what it was: an opening must not begin it at the new start.
    fn take_start_back(&self) {
        self.keep_start();
        if let Err(error) = self.environment.checkpoints.write() {
            // What came below the new start would be gone with the next opening.
            self.end_quietly(End::Poisoned(cause(error)));
        }
    }

    fn start_over_locked(
        &self,
        appender: &mut Appender,
        paused: &Paused<'_>,
        new_start: Offset,
    ) -> Result<()> {
        self.name_rolled()?;
        appender.writer = None;
        // The epochs come last: those of no batch are forgotten by an opening, too.
        let removed = self
            .remove_all(&self.segments.load_full())
            .and_then(|()| self.replace_leader_epochs(&LeaderEpochs::default()));
        appender.leader_epochs = LeaderEpochs::default();
        let producers = ProducerTable::new(self.options().producers.clone());
        let durable = self.watermarks.durable().min(new_start);
        self.watermarks.truncate(durable, durable);
        let emptied = self.conclude(paused, Offset::ZERO, removed);
        // Before the segments go: who reads batches and then no longer finds what was aborted of them sees that the log has moved.
        self.watermarks.start_over(new_start);
        self.install(appender, Vec::new(), producers);
        emptied
    }

    /// Removes all segments and snapshots, in an order in which a crash leaves a whole beginning of the log.
    fn remove_all(&self, segments: &[Arc<Segment>]) -> Result<()> {
        if let Some((first, later)) = segments.split_first() {
            self.remove_snapshots(|offset| offset > first.base_offset())?;
            self.remove_segments(later)?;
        }
        self.remove_snapshots(|_| true)?;
        self.remove_segments(&segments[..segments.len().min(1)])
    }

    /// Removes segments from the end of the log, with their indexes.
    fn remove_segments(&self, segments: &[Arc<Segment>]) -> Result<()> {
        if segments.is_empty() {
            return Ok(());
        }
        segments.iter().for_each(|segment| self.let_go_of(segment));
        // Before the segments: what is left of one would be taken for that of a later segment with the same base.
        segments.iter().try_for_each(|segment| segment.remove_indexes())?;
        self.sync_names()?;
        segments.iter().rev().try_for_each(|segment| segment.file().remove().and_then(|()| self.sync_names()))
    }

    /// Goes on with what is left. Under the append lock.
    fn install(&self, appender: &mut Appender, segments: Vec<Arc<Segment>>, producers: ProducerTable) {
        // Before the segments: whoever no longer finds a marker that was cut finds its transaction open.
        self.replace_producers(appender, producers);
        self.segments.store(Arc::new(segments));
        self.restart_pace(appender);
        self.backlog.raise(self.counters.appended_bytes.get(), self.counters.appended_batches.get());
    }

    /// Condemns what was cut, which memory has let go of in any case. Ends the log if the disk may still have it.
    fn conclude(&self, paused: &Paused<'_>, target: Offset, removed: Result<()>) -> Result<()> {
        if let Err(error) = &removed {
            // First: a sync that finds its ticket truncated has nothing left to do, unless the log has ended.
            self.end_quietly(End::Poisoned(cause(error.clone())));
        }
        paused.truncated(target);
        event!(info, partition = %self.name, target = target.0, ok = removed.is_ok(), "truncated");
        removed
    }
}
