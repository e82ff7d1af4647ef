//! What happens beside the append path: files made, synced, named, trimmed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use super::admission::Admission;
use super::commit::{End, is_failed_sync};
use super::metrics::{Counters, FailedChore, LogMetrics};
use super::options::Durability;
use super::pace::POPULATE_MAX;
use super::{Appender, Backlog, Prepared, Shared};
use crate::environment::{Chore, Reserve, Urgency};
use crate::error::{Error, Result};
use crate::fs::missing::remove_if_present;
use crate::fs::name::{SegmentFile, partition_file};
use crate::segment::{
    ALLOCATION_STEP_MIN, Indexes, LogFile, Segment, SegmentWriter, Sink, Summary, first_behind, segment_at,
};
use crate::types::Offset;

/// How long a worker waits before it tries again what a full disk, or a lack of descriptors, kept it from.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// The blocks that the next segment of a busy partition begins with.
const PREPARED_BLOCKS: u64 = 16 << 20;

/// Asks for a sync again when the one that is under way is through.
struct SyncLater(Weak<Shared>);

impl Wake for SyncLater {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.0.upgrade() else { return };
        if !shared.request_sync() {
            // The last worker has left meanwhile, and futures count on one.
            shared.commit.wake_all();
        }
    }
}

impl Backlog {
    /// The bound that is exceeded, if one is.
    #[inline]
    pub(super) fn exceeds(&self, counters: &Counters, admission: &Admission) -> Option<&'static str> {
        if admission.durability() == Durability::Buffered { None } else { self.exceeded(counters, admission) }
    }

    fn exceeded(&self, counters: &Counters, admission: &Admission) -> Option<&'static str> {
        let behind =
            |appended: u64, durable: &AtomicU64| appended.saturating_sub(durable.load(Ordering::Relaxed));
        if behind(counters.appended_bytes.get(), &self.durable_bytes) >= admission.max_unsynced_bytes() {
            return Some("max_unsynced_bytes");
        }
        let batches = behind(counters.appended_batches.get(), &self.durable_batches);
        (batches >= admission.max_pending()).then_some("max_pending")
    }

    /// So much of what was appended is durable.
    pub(super) fn raise(&self, bytes: u64, batches: u64) {
        self.durable_bytes.fetch_max(bytes, Ordering::Relaxed);
        self.durable_batches.fetch_max(batches, Ordering::Relaxed);
    }
}

impl Shared {
    /// Asks the workers for a chore. Without any, the request waits for [`do_chores`](Self::do_chores).
    pub(super) fn request(&self, chore: Chore) {
        self.environment.queue.request(&self.itself, &self.chores, chore);
    }

    /// Asks the workers for a sync. `false` if there are none; not to be called under a lock.
    pub(super) fn request_sync(&self) -> bool {
        let queue = &self.environment.queue;
        queue.request_awaited(&self.itself, &self.chores, Chore::Sync, || self.commit.wake_all())
    }

    /// Hands what was asked for before there were workers to those who have just come.
    pub(super) fn hand_over_chores(&self) {
        for urgency in [Urgency::Quick, Urgency::Slow] {
            if self.chores.stand(urgency) {
                self.environment.queue.push(self.itself.clone(), urgency);
            }
        }
    }

    /// Does what was asked for.
    pub(super) fn do_chores(&self) {
        self.do_quick();
        self.do_slow();
    }

    /// Errors come up again where they matter: a full disk in the append that needs the blocks, a failed sync as poison.
    pub(super) fn do_quick(&self) {
        let requested = self.chores.take(Urgency::Quick);
        // First what somebody waits for.
        if requested.includes(Chore::Sync) {
            self.sync_for_others();
        }
        if requested.includes(Chore::Room) {
            self.report("make room", self.provide_needed());
        }
        if requested.includes(Chore::Populate) {
            self.report("populate", self.populate());
        }
        if requested.includes(Chore::Prepare) {
            self.report("prepare", self.prepare());
        }
    }

    /// A worker that waited for the sync of one partition would be missed by all others.
    fn sync_for_others(&self) {
        if self.commit.wake_behind_sync(|| Waker::from(Arc::new(SyncLater(self.itself.clone())))) {
            return;
        }
        if let Err(error) = self.sync()
            && !self.commit.is_over()
        {
            self.count_failed("sync", &error);
            // Not a failed sync, but no way to it, and somebody may await it.
            std::thread::sleep(RETRY_PAUSE);
            self.request(Chore::Sync);
        }
    }

    pub(super) fn do_slow(&self) {
        let requested = self.chores.take(Urgency::Slow);
        if requested.includes(Chore::LeaderEpochs) {
            self.report("write leader epochs", self.write_leader_epochs_now());
        }
        if requested.includes(Chore::Seal) {
            self.report("seal", self.seal_rolled());
        }
        if requested.includes(Chore::Snapshot) {
            self.report("snapshot", self.take_snapshot());
        }
        if requested.includes(Chore::Expire) {
            self.expire_producers();
        }
        if requested.includes(Chore::Retain) {
            self.report("retention", self.apply_retention().map(drop));
        }
        self.report("write checkpoints", self.environment.checkpoints.write_if_stale());
    }

    /// A chore that failed changes nothing that was promised; it is tried again when it is asked for again.
    fn report(&self, chore: &'static str, result: Result<()>) {
        if let Err(error) = result {
            self.tell();
            event!(warn, partition = %self.name, chore, error = %error, "a background task failed");
            self.count_failed(chore, &error);
        }
    }

    fn count_failed(&self, chore: &'static str, error: &Error) {
        // Of a log that was closed meanwhile nothing is due any more.
        if !matches!(error, Error::Closed | Error::Gone) {
            let (partition, at) = (self.name.clone(), self.environment.clock.now());
            self.counters.failed(FailedChore { partition, chore, error: error.to_string(), at });
        }
    }

    /// Gives the active segment blocks up to `end` at least.
    pub(super) fn allocate(&self, end: u64) -> Result<()> {
        let Some(segment) = self.segments.load().last().cloned() else { return Ok(()) };
        self.allocate_in(segment.file(), end)
    }

    /// Gives a file blocks up to `end` at least, and counts them.
    pub(super) fn allocate_in(&self, file: &LogFile, end: u64) -> Result<()> {
        self.environment.keep_reserve()?;
        let (space, capacity) = (&self.environment.space, u64::from(self.options().segment_bytes));
        space.take(file.allocate(end, capacity, space.room())?);
        Ok(())
    }

    /// Opens the last segment for appending, up to `end` at least, once. A roll that comes first makes another one the last.
    pub(super) fn open_writer(&self, end: u64) -> Result<()> {
        let _rolling = self.rolling.lock();
        self.commit.check()?;
        self.touch();
        if self.appender.lock().writer.is_some() {
            return Ok(());
        }
        let Some(segment) = self.segments.load().last().cloned() else { return Ok(()) };
        let summary = segment.summary()?;
        let indexes = segment.indexes()?;
        // Loaded before a marker comes to it.
        drop(self.transaction_index(&segment)?);
        let first_timestamp = first_timestamp(&segment)?;
        self.environment.space.give_back(segment.file().cut_unpublished()?);
        let sink = segment.file().open_sink(u64::from(self.options().segment_bytes).max(end))?;
        let writer = SegmentWriter::new(segment, indexes, sink, &summary, first_timestamp, self.now());
        let mut appender = self.appender.lock();
        if self.segments.load().last().is_some_and(|last| Arc::ptr_eq(last, writer.segment())) {
            appender.writer = Some(writer);
        }
        Ok(())
    }

    /// Makes the next segment, unless it is there.
    pub(super) fn prepare(&self) -> Result<()> {
        let _rolling = self.rolling.lock();
        self.commit.check()?;
        self.touch();
        let appender = self.appender.lock();
        if appender.prepared.is_some() {
            return Ok(());
        }
        let (is_fast, pages) = (appender.pace.is_fast(), appender.pace.pages(self.admission.durability()));
        drop(appender);
        // The name of a prepared file is free only when the one before has got its own.
        self.name_rolled()?;
        let path = self.path(partition_file::PREPARED);
        remove_if_present(&*self.environment.disk, &path)?;
        let blocks = self.blocks_of_next(is_fast);
        let made = match self.make_prepared(&path, blocks) {
            Err(error) if error.is_full_disk() && blocks > ALLOCATION_STEP_MIN => {
                self.make_prepared(&path, ALLOCATION_STEP_MIN)
            }
            made => made,
        };
        let (file, sink) = made?;
        let blocks = file.allocated();
        self.environment.space.take(blocks);
        file.populate(0, blocks.min(POPULATE_MAX), pages);
        self.appender.lock().prepared = Some(Prepared { file, sink });
        Ok(())
    }

    fn make_prepared(&self, path: &Path, blocks: u64) -> Result<(LogFile, Sink)> {
        self.environment.keep_reserve()?;
        let (disk, capacity) = (&self.environment.disk, u64::from(self.options().segment_bytes));
        let made = LogFile::create(Arc::clone(disk), self.mode, path.to_path_buf(), capacity, blocks);
        if made.is_err() {
            // Of a file without blocks nothing remains, not even its name.
            let _ = remove_if_present(&**disk, path);
        }
        made
    }

    /// Gives the next segment blocks for `bytes`, before it becomes the active one: if there are none, no empty segment is
    /// left that may begin above the log end.
    pub(super) fn extend_prepared(&self, bytes: u64) -> Result<()> {
        let _rolling = self.rolling.lock();
        // Under its name there may be another owner's.
        self.commit.check()?;
        // Nobody makes another one meanwhile: that takes `rolling`.
        let Some(prepared) = self.appender.lock().prepared.take() else { return Ok(()) };
        let extended = self.allocate_in(&prepared.file, bytes);
        self.appender.lock().prepared = Some(prepared);
        extended
    }

    /// As much as the active segment's next step, within the budget; little for a partition's first segment, and all that
    /// a fast appender will need: it would come to the end of each step while the disk is busy with what is synced.
    fn blocks_of_next(&self, is_fast: bool) -> u64 {
        if self.environment.reserve.as_ref().is_some_and(Reserve::is_lent) {
            return ALLOCATION_STEP_MIN;
        }
        let (capacity, room) = (u64::from(self.options().segment_bytes), self.environment.space.room());
        let active = self.segments.load().last().map_or(0, |segment| segment.file().allocated());
        let step = active.clamp(ALLOCATION_STEP_MIN, PREPARED_BLOCKS).min(room);
        let blocks = if is_fast { step.max(capacity.min(room / 2)) } else { step };
        blocks.max(ALLOCATION_STEP_MIN).min(capacity)
    }

    /// Makes the prepared segment the active one, for offsets from `base` on. Under the append lock; no file is touched.
    pub(super) fn activate(&self, appender: &mut Appender, prepared: Prepared, base: Offset) {
        let (options, summary) = (self.options().indexes(), Summary::empty(base));
        let segment = Arc::new(Segment::empty(base, prepared.file, options, false));
        let indexes = Arc::new(Indexes::new(base, options));
        let (added, sink) = (Arc::clone(&segment), prepared.sink);
        let writer = SegmentWriter::new(added, indexes, sink, &summary, None, self.now());
        let mut segments = self.segments.load().to_vec();
        if let Some(active) = appender.writer.take() {
            self.environment.held.count(&active.seal());
        }
        let is_first = segments.is_empty();
        segments.push(segment);
        self.segments.store(Arc::new(segments));
        // Behind that: a worker that is at once at it would find nothing to seal.
        if !is_first {
            self.request(Chore::Seal);
            self.request_retention();
        }
        appender.writer = Some(writer);
        self.restart_pace(appender);
        appender.since_snapshot = 0;
    }

    pub(super) fn roll(&self) -> Result<()> {
        self.check_writable()?;
        let is_empty = || self.segments.load().last().is_none_or(|last| last.file().end() == 0);
        if is_empty() {
            return Ok(());
        }
        self.prepare()?;
        let mut appender = self.appender.lock();
        if appender.closing {
            return Err(Error::Closed);
        }
        let base = self.watermarks.log_end();
        let prepared = appender.prepared.take_if(|_| !is_empty());
        let rolled = prepared.map(|prepared| self.activate(&mut appender, prepared, base));
        drop(appender);
        if rolled.is_some() {
            self.report_roll(base);
        }
        self.seal_rolled()
    }

    /// Not under the append lock: a subscriber is the host's, and may be slow.
    pub(super) fn report_roll(&self, _base: Offset) {
        event!(info, partition = %self.name, base_offset = _base.0, "rolled");
    }

    pub(super) fn sync(&self) -> Result<()> {
        let synced = self.commit.sync(&self.watermarks, || self.sync_appended());
        self.notify_behind_sync();
        synced
    }

    /// Makes everything appended so far durable, names included, and returns how far that is. Called by the one leader
    /// of the commit.
    pub(super) fn sync_appended(&self) -> Result<Offset> {
        self.check_not_read_only()?;
        self.whole(|| self.try_sync_appended())
    }

    fn try_sync_appended(&self) -> Result<Offset> {
        let started = Instant::now();
        let end = self.watermarks.log_end();
        // Behind the end: an append between the two is given back early, where it would else be given back never, if it
        // is the last one.
        let (bytes, batches) = (self.counters.appended_bytes.get(), self.counters.appended_batches.get());
        // Loaded after the end, so the last of these, whatever is rolled meanwhile, is where the end lies.
        let segments = self.segments.load_full();
        if let Some(active) = segments.last() {
            if !active.is_named() {
                let _rolling = self.rolling.lock();
                // Behind a deletion the names may be those of another partition.
                self.commit.check()?;
                self.name_rolled()?;
            }
            active.file().sync()?;
        }
        self.backlog.raise(bytes, batches);
        self.counters.synced(started.elapsed());
        Ok(end)
    }

    /// Gives every segment its name, in order, each only when all before it is durable: a crash then never leaves a
    /// hole in front of a segment with a name. The caller holds `rolling`.
    pub(super) fn name_rolled(&self) -> Result<()> {
        self.poison_unless(self.try_name_rolled())
    }

    /// A sync that failed outside of the commit must not be taken back by one that succeeds later. Nobody is told yet: locks
    /// are held.
    pub(super) fn poison_unless(&self, synced: Result<()>) -> Result<()> {
        if let Err(error @ Error::Io(cause)) = &synced
            && is_failed_sync(error)
        {
            self.end_quietly(End::Poisoned(cause.clone()));
        }
        synced
    }

    fn try_name_rolled(&self) -> Result<()> {
        let segments = self.segments.load_full();
        let first = segments.iter().position(|segment| !segment.is_named()).unwrap_or(segments.len());
        for at in first..segments.len() {
            if let Some(before) = at.checked_sub(1).map(|before| &segments[before]) {
                before.file().sync()?;
                before.file().trim(|ahead| self.environment.space.give_back(ahead))?;
            }
            segments[at].give_name()?;
        }
        Ok(())
    }

    /// What a roll leaves to do: names, the index files and the snapshot of what was sealed, and the recovery point.
    pub(super) fn seal_rolled(&self) -> Result<()> {
        self.sync()?;
        let _sealing = self.sealing.lock();
        {
            let _rolling = self.rolling.lock();
            self.commit.check()?;
            // With nothing to sync, nobody has named the new segment yet.
            self.name_rolled()?;
        }
        // Before the segments: what was rolled since is not durable as a whole.
        let durable = self.watermarks.durable();
        let Some(last) = self.write_final_indexes(durable)? else { return Ok(()) };
        self.advance_recovery_point(last.base_offset())
    }

    /// Writes the index files of the segments that are full in front of the one that holds `durable`, which is returned. The
    /// caller holds `sealing`.
    fn write_final_indexes(&self, durable: Offset) -> Result<Option<Arc<Segment>>> {
        let segments = self.segments.load_full();
        let begun = &segments[..first_behind(&segments, durable)];
        let Some((last, sealed)) = begun.split_last() else { return Ok(None) };
        let floor = self.recovery_floor();
        for segment in sealed.iter().rev().take_while(|segment| segment.base_offset() >= floor) {
            segment.write_indexes()?;
            self.environment.held.count(segment);
        }
        Ok(Some(Arc::clone(last)))
    }

    /// The base offset of the segment that holds the recovery point: those from here on have no final index files.
    fn recovery_floor(&self) -> Offset {
        let point = self.recovery_point();
        segment_at(&self.segments.load(), point).map_or(Offset::ZERO, |segment| segment.base_offset())
    }

    /// A snapshot and a recovery point in the middle of a segment, so that opening never has much to read.
    pub(super) fn take_snapshot(&self) -> Result<()> {
        self.seal_rolled()?;
        let _sealing = self.sealing.lock();
        self.commit.check()?;
        let durable = self.watermarks.durable();
        // Also those of what was rolled since: the point moves beyond it, and nobody would write them afterwards.
        if let Some(last) = self.write_final_indexes(durable)? {
            last.write_indexes()?;
        }
        self.advance_recovery_point(durable)
    }

    /// Everything below `point` is durable, with its indexes: writes what else must be there, and moves the point.
    fn advance_recovery_point(&self, point: Offset) -> Result<()> {
        let point = self.watermarks.batch_end_at(point);
        if point < self.recovery_point() || self.log_is_empty() {
            return Ok(());
        }
        if point == self.recovery_point() {
            // That of an earlier opening may have been damaged, and removed.
            return self.write_snapshot(point);
        }
        self.write_leader_epochs()?;
        self.write_snapshot(point)?;
        self.recovery_point.store(point.0, Ordering::Release);
        self.environment.checkpoints.set_stale();
        Ok(())
    }

    fn write_leader_epochs_now(&self) -> Result<()> {
        let _sealing = self.sealing.lock();
        self.commit.check()?;
        self.write_leader_epochs()
    }

    fn write_leader_epochs(&self) -> Result<()> {
        let epochs = self.appender.lock().leader_epochs.clone();
        self.replace_leader_epochs(&epochs)
    }

    pub(super) fn metrics(&self) -> LogMetrics {
        let mut metrics = self.counters.read(self.watermarks.log_end(), self.watermarks.durable());
        let segments = self.segments.load();
        metrics.segments = segments.len() as u64;
        metrics.allocated_bytes = segments.iter().map(|segment| segment.file().allocated()).sum();
        metrics.used_bytes = segments.iter().map(|segment| segment.file().end()).sum();
        metrics.maps = segments.iter().filter(|segment| segment.file().is_mapped()).count() as u64;
        metrics.index_bytes = segments.iter().map(|segment| segment.index_memory() as u64).sum();
        if let Some(End::Poisoned(cause)) = self.commit.end() {
            (metrics.poisoned, metrics.poison) = (1, Some(cause.to_string()));
        }
        let appender = self.appender.lock();
        metrics.producers = appender.producers.len() as u64;
        metrics.producer_evictions = appender.producers.evictions();
        metrics.producer_expiries = appender.producers.expiries();
        metrics
    }

    /// The name of a segment's file in this partition.
    pub(super) fn segment_path(&self, file: SegmentFile, base: Offset) -> std::path::PathBuf {
        self.directory.join(file.name(base))
    }
}

/// The timestamp that a segment's age counts from.
fn first_timestamp(segment: &Arc<Segment>) -> Result<Option<crate::types::Timestamp>> {
    let mut cursor = crate::segment::BatchCursor::new(Arc::clone(segment), 0);
    Ok(cursor.peek()?.map(|batch| batch.header.max_timestamp))
}
