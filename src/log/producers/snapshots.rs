//! The producer table on disk. A snapshot at an offset is a cache of the log below it, and of what the log no longer
//! shows: it is folded from the one before and the headers in between, not copied from the table under the append lock.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Corruption, CorruptionKind, Error, IoContext, Result};
use crate::fs::missing::or_too_long;
use crate::fs::name::{PartitionFile, SegmentFile, Stage};
use crate::fs::{Access, Disk, DiskFile, IoMode, atomic, read_whole};
use crate::log::Shared;
use crate::producer::snapshot::{self, MAX_BYTES};
use crate::producer::{Fate, Fold, ProducerPolicy, ProducerTable, SnapshotIdentity};
use crate::segment::{BatchCursor, PlacedBatch, Segment, first_behind, segment_at, segments_from};
use crate::transaction::TransactionEffect;
use crate::types::{Offset, ProducerId, Timestamp};

/// A snapshot as large as this is mapped, where maps are: to read it takes as much memory again.
const MAPPED_FROM: u64 = 1 << 20;

/// A snapshot at the base of a segment that is as large as this, some ten thousand producers, stays only
const LARGE: u64 = 1 << 20;
/// while it is one of so many newest. A truncation below those reads the batches from the first segment on.
const LARGE_KEPT: usize = 8;

/// A snapshot as large as this is read twice, where it is not mapped: whoever writes a length writes no bytes for it.
const LARGE_FROM: u64 = 64 << 20;
/// How much of it at a time, the first time.
const PIECE: usize = 1 << 20;

/// Producers as they were below an offset.
#[derive(Debug)]
pub(in crate::log) struct Snapshot {
    pub(in crate::log) offset: Offset,
    pub(in crate::log) producers: ProducerTable,
    /// The last batch that it covers, where it knows.
    pub(in crate::log) identity: Option<SnapshotIdentity>,
}

impl Snapshot {
    /// `found`, or what is known at the beginning of a log. (Also batches below the log start offset tell of producers, as
    /// long as they are there.)
    pub(in crate::log) fn or_empty(found: Option<Self>, policy: &ProducerPolicy) -> Self {
        let empty = || ProducerTable::new(policy.clone());
        found.unwrap_or_else(|| Self { offset: Offset::ZERO, producers: empty(), identity: None })
    }

    /// Goes on to `end`, by the batches of the log that begin below.
    pub(in crate::log) fn replay(
        mut self,
        segments: &[Arc<Segment>],
        end: Offset,
        now: Timestamp,
    ) -> Result<Self> {
        each_batch(segments, self.offset, end, |cursor, batch| {
            self.identity = Some(identity(batch));
            apply(&mut self.producers, cursor, batch, now).map(|_| ())
        })?;
        Ok(Self { offset: end, ..self })
    }
}

/// Where the files of a partition are, and how they are read.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Place<'a> {
    pub(in crate::log) disk: &'a dyn Disk,
    pub(in crate::log) directory: &'a Path,
    pub(in crate::log) mode: IoMode,
}

impl Place<'_> {
    fn read(&self, path: &Path) -> Result<Bytes> {
        let file = self.disk.open(path, Access::Read).at("open", path)?;
        let len = file.len().at("read", path)?;
        if self.mode == IoMode::Write || !(MAPPED_FROM..=MAX_BYTES).contains(&len) {
            return read_file(&*file, len, path).map(Bytes::from);
        }
        let map = file.map_read(len as usize).at("map", path)?;
        Ok(map.bytes(0..len as usize).unwrap_or_default())
    }
}

/// All of a snapshot's file of `len` bytes. A large one gets memory only if its bytes are what its checksum says.
///
/// # Errors
///
/// [`Error::Corrupt`] if they are not, or there are more than any snapshot has; the disk's.
pub(crate) fn read_file(file: &dyn DiskFile, len: u64, path: &Path) -> Result<Vec<u8>> {
    if (LARGE_FROM..=MAX_BYTES).contains(&len) {
        check_large(file, path)?;
    }
    or_too_long(read_whole(file, len, MAX_BYTES), path)
}

fn check_large(file: &dyn DiskFile, path: &Path) -> Result<()> {
    let wrong = |kind| Error::corrupt(path, 0, kind);
    let read = |piece: &mut [u8], position| file.read_at(piece, position).at("read", path);
    let mut piece = vec![0; PIECE];
    let first = read(&mut piece, 0)?;
    let mut check = snapshot::Check::begin(&piece[..first]).map_err(wrong)?;
    let mut position = first as u64;
    loop {
        match read(&mut piece, position)? {
            0 => return check.end().map_err(wrong),
            more => {
                check.add(&piece[..more]);
                position += more as u64;
            }
        }
    }
}

/// The offsets of the snapshot files in a partition, newest first.
pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<Offset>> {
    let mut offsets: Vec<Offset> = disk
        .list(directory)
        .at("list", directory)?
        .iter()
        .filter_map(|entry| match PartitionFile::parse(&entry.name) {
            PartitionFile::Segment { file: SegmentFile::Snapshot, base, stage: Stage::Live } => Some(base),
            _ => None,
        })
        .collect();
    offsets.sort_unstable_by(|a, b| b.cmp(a));
    Ok(offsets)
}

/// Reads one snapshot.
///
/// # Errors
///
/// [`Error::Corrupt`] if its bytes are not a snapshot; the disk's.
fn load(place: Place<'_>, offset: Offset, policy: &ProducerPolicy, now: Timestamp) -> Result<Snapshot> {
    let path = place.directory.join(SegmentFile::Snapshot.name(offset));
    let bytes = place.read(&path)?;
    let (producers, identity) = snapshot::decode(&bytes, offset, policy.clone(), now)
        .map_err(|kind| Error::corrupt(&path, 0, kind))?;
    Ok(Snapshot { offset, producers, identity })
}

/// Whether the log holds, under the same offset, the batch that a snapshot ends with. A snapshot that says nothing is
/// believed; so is one whose batch the log no longer has, because its beginning was deleted.
fn identity_fits(
    identity: Option<&SnapshotIdentity>,
    segments: &[Arc<Segment>],
    log_start: Offset,
) -> Result<bool> {
    let Some(identity) = identity else { return Ok(true) };
    let Some(segment) = segment_at(segments, identity.base_offset) else { return Ok(true) };
    let next = segments.get(first_behind(segments, identity.base_offset));
    // What lies wholly below the log start may be left alone of the records that were deleted.
    if next.is_some_and(|next| next.base_offset() <= log_start) {
        return Ok(true);
    }
    let mut cursor = BatchCursor::new(Arc::clone(segment), identity.position);
    Ok(match cursor.peek() {
        Ok(Some(batch)) => {
            batch.header.base_offset == identity.base_offset
                && batch.header.crc == identity.crc
                && batch.header.leader_epoch == identity.leader_epoch
        }
        Ok(None) | Err(Error::Corrupt(_)) => false,
        Err(error) => return Err(error),
    })
}

/// The newest usable snapshot at or below `limit` of those at `offsets`, newest first; and what is wrong with those that
/// were passed over.
pub(in crate::log) fn newest(
    place: Place<'_>,
    offsets: &[Offset],
    segments: &[Arc<Segment>],
    log_start: Offset,
    limit: Offset,
    policy: &ProducerPolicy,
    now: Timestamp,
) -> Result<(Option<Snapshot>, Vec<Corruption>)> {
    let mut unusable = Vec::new();
    for &offset in offsets.iter().filter(|&&offset| offset <= limit) {
        let found = match load(place, offset, policy, now) {
            Ok(snapshot) if identity_fits(snapshot.identity.as_ref(), segments, log_start)? => {
                return Ok((Some(snapshot), unusable));
            }
            Ok(_) => {
                let path = place.directory.join(SegmentFile::Snapshot.name(offset));
                Corruption::new(path, 0, CorruptionKind::Format("its last batch is not in the log"))
            }
            Err(error) if is_newer_version(&error) => return Err(error),
            Err(Error::Corrupt(corruption)) => corruption,
            Err(error) => return Err(error),
        };
        unusable.push(found);
    }
    Ok((None, unusable))
}

/// To skip a trailer of a later version would forget what it holds.
fn is_newer_version(error: &Error) -> bool {
    let Error::Corrupt(corruption) = error else { return false };
    matches!(corruption.kind, CorruptionKind::Version { expected, got } if got > expected)
}

/// Applies one batch of the log to the producers, as recovery does: nothing is refused.
#[inline]
pub(in crate::log) fn apply(
    producers: &mut ProducerTable,
    cursor: &BatchCursor,
    batch: &PlacedBatch,
    now: Timestamp,
) -> Result<Option<TransactionEffect>> {
    let header = &batch.header;
    if !header.is_idempotent() {
        return Ok(None);
    }
    // Not left to the cursor: what a call returns through memory is waited for until all before it is done, which here is
    // the CRC.
    let control = if header.is_control() { cursor.control(batch)? } else { None };
    Ok(producers.replay(header, control, now))
}

/// Calls `each` with the batches that begin in [`from`, `to`).
fn each_batch(
    segments: &[Arc<Segment>],
    from: Offset,
    to: Offset,
    mut each: impl FnMut(&BatchCursor, &PlacedBatch) -> Result<()>,
) -> Result<()> {
    for segment in segments_from(segments, from).iter().take_while(|segment| segment.base_offset() < to) {
        let mut cursor = if from <= segment.base_offset() {
            BatchCursor::new(Arc::clone(segment), 0)
        } else {
            segment.cursor_at(from)?
        };
        while let Some(batch) = cursor.next()?.filter(|batch| batch.header.base_offset < to) {
            each(&cursor, &batch)?;
        }
    }
    Ok(())
}

/// The producers of those batches.
fn producers_in(segments: &[Arc<Segment>], from: Offset, to: Offset) -> Result<HashSet<ProducerId>> {
    let mut ids = HashSet::new();
    each_batch(segments, from, to, |_, batch| {
        if batch.header.is_idempotent() {
            ids.insert(batch.header.producer_id);
        }
        Ok(())
    })?;
    Ok(ids)
}

fn identity(batch: &PlacedBatch) -> SnapshotIdentity {
    SnapshotIdentity {
        leader_epoch: batch.header.leader_epoch,
        base_offset: batch.header.base_offset,
        position: batch.position,
        crc: batch.header.crc,
    }
}

/// Puts a file's bytes behind one another, and then those in place that come to light last.
fn write_into<const N: usize>(
    file: &dyn DiskFile,
    write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<[u8; N]>,
) -> io::Result<()> {
    let mut end = 0;
    let head = write(&mut |piece| {
        file.write_at(piece, end)?;
        end += piece.len() as u64;
        if end > MAX_BYTES {
            // A follower's may be: it knows producers above its budget. Nobody would read it again.
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too many producers for a snapshot"));
        }
        Ok(())
    })?;
    file.write_at(&head, 0)
}

impl Shared {
    fn snapshot_place(&self) -> Place<'_> {
        Place { disk: &*self.environment.disk, directory: &self.directory, mode: self.mode }
    }

    /// The newest usable snapshot at or below `limit`, which is empty where there is none.
    pub(in crate::log) fn newest_snapshot(
        &self,
        segments: &[Arc<Segment>],
        limit: Offset,
        now: Timestamp,
    ) -> Result<Snapshot> {
        self.find_snapshot(segments, limit, now).map(|(found, _)| found)
    }

    /// The same for who must not miss what the log has no batches of any more.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if a snapshot that tells of it cannot be used.
    pub(super) fn complete_snapshot(
        &self,
        segments: &[Arc<Segment>],
        limit: Offset,
        now: Timestamp,
    ) -> Result<Snapshot> {
        let (found, unusable) = self.find_snapshot(segments, limit, now)?;
        let begin = segments.first().map_or(limit, |first| first.base_offset());
        match unusable.into_iter().next() {
            Some(unusable) if found.offset < begin => Err(Error::Corrupt(unusable)),
            _ => Ok(found),
        }
    }

    fn find_snapshot(
        &self,
        segments: &[Arc<Segment>],
        limit: Offset,
        now: Timestamp,
    ) -> Result<(Snapshot, Vec<Corruption>)> {
        let (policy, place) = (&self.options().producers, self.snapshot_place());
        let offsets = list(place.disk, place.directory)?;
        let log_start = self.watermarks.log_start();
        let (found, unusable) = newest(place, &offsets, segments, log_start, limit, policy, now)?;
        Ok((Snapshot::or_empty(found, policy), unusable))
    }

    /// Goes on to `end` from the snapshot `before`, without those who were forgotten since.
    pub(super) fn replay_known(
        &self,
        before: Snapshot,
        segments: &[Arc<Segment>],
        end: Offset,
        now: Timestamp,
    ) -> Result<Snapshot> {
        let mut snapshot = before.replay(segments, end, now)?;
        self.count_all_open();
        let forgotten = self.forgotten(snapshot.producers.ids_at_rest());
        snapshot.producers.retain(|id| !forgotten.contains(&id));
        Ok(snapshot)
    }

    /// Writes the producers as they were at `point`, below which everything is durable.
    pub(in crate::log) fn write_snapshot(&self, point: Offset) -> Result<()> {
        let path = self.segment_path(SegmentFile::Snapshot, point);
        let disk = &*self.environment.disk;
        if disk.exists(&path).at("look up", &path)? {
            return Ok(());
        }
        let segments = self.segments.load_full();
        if !self.write_folded(&path, point, &segments)? {
            self.write_whole(&path, point, &segments)?;
        }
        event!(debug, partition = %self.name, offset = point.0, "snapshot");
        self.remove_superseded(point, &segments)
    }

    /// Writes the snapshot at `point` from the whole table of the one before.
    fn write_whole(&self, path: &Path, point: Offset, segments: &[Arc<Segment>]) -> Result<()> {
        let now = self.now();
        let before = self.newest_snapshot(segments, point, now)?;
        let Snapshot { producers, identity, .. } = self.replay_known(before, segments, point, now)?;
        atomic::replace_file_by(&*self.environment.disk, path, |file| {
            write_into(file, |sink| snapshot::write(&producers, identity.as_ref(), sink))
        })
    }

    /// Writes the snapshot at `point` from the bytes of the one before. `false`: that would not come to the same as from the
    /// whole table, or would not be faster.
    fn write_folded(&self, path: &Path, point: Offset, segments: &[Arc<Segment>]) -> Result<bool> {
        let place = self.snapshot_place();
        let before = list(place.disk, place.directory)?.into_iter().find(|&offset| offset < point);
        let Some(before) = before else { return Ok(false) };
        let bytes = place.read(&self.segment_path(SegmentFile::Snapshot, before))?;
        // About as many batches as producers: most of them change.
        if point - before >= Fold::count(&bytes) as i64 {
            return Ok(false);
        }
        let Some((fold, identity)) = self.fold(&bytes, before, point, segments)? else { return Ok(false) };
        self.count_all_open();
        let write = |file: &dyn DiskFile| write_into(file, |sink| fold.write(identity.as_ref(), sink));
        atomic::replace_file_by(place.disk, path, write).map(|()| true)
    }

    /// What the snapshot at `before` comes to at `point`, if it can be said so.
    fn fold<'a>(
        &self,
        bytes: &'a [u8],
        before: Offset,
        point: Offset,
        segments: &[Arc<Segment>],
    ) -> Result<Option<(Fold<'a>, Option<SnapshotIdentity>)>> {
        let (now, policy) = (self.now(), &self.options().producers);
        let changed = producers_in(segments, before, point)?;
        let forgotten = self.forgotten(Fold::ids_at_rest(bytes));
        let fate = |id| match id {
            id if changed.contains(&id) => Fate::Changed,
            id if forgotten.contains(&id) => Fate::Forgotten,
            _ => Fate::Kept,
        };
        // Whatever is wrong with it is said by who reads the whole.
        let Ok(Some(mut fold)) = Fold::new(bytes, before, policy, now, fate) else { return Ok(None) };
        if !identity_fits(fold.identity.as_ref(), segments, self.watermarks.log_start())? {
            return Ok(None);
        }
        let mut identity = fold.identity;
        each_batch(segments, before, point, |cursor, batch| {
            identity = Some(self::identity(batch));
            apply(&mut fold.producers, cursor, batch, now).map(|_| ())
        })?;
        let forgotten = self.forgotten(fold.producers.ids_at_rest());
        fold.retain(|id| !forgotten.contains(&id));
        Ok(Some((fold, identity)))
    }

    /// Removes the snapshots in the middle of a segment that the one at `newest` makes needless; those at the bases of
    /// segments stay, for truncations, but of large ones only the newest. One where the log starts, or in front of that, tells of what
    /// has no batch here, and stays.
    fn remove_superseded(&self, newest: Offset, segments: &[Arc<Segment>]) -> Result<()> {
        let disk = &*self.environment.disk;
        let is_base =
            |offset: Offset| segments.binary_search_by_key(&offset, |segment| segment.base_offset()).is_ok();
        let first = segment_at(segments, self.watermarks.log_start()).or(segments.first());
        let first = first.map_or(newest, |first| first.base_offset());
        let offsets = list(disk, &self.directory)?;
        let mut at_bases = 0;
        for &offset in offsets.iter().filter(|&&offset| first < offset && offset < newest) {
            let path = self.segment_path(SegmentFile::Snapshot, offset);
            at_bases += usize::from(is_base(offset));
            let is_needless = at_bases > LARGE_KEPT && disk.len(&path).at("look at", &path)? >= LARGE;
            if is_needless || !is_base(offset) {
                disk.remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }
}
