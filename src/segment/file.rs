//! The bytes of one `.log` file: found again by readers, allocated in steps, synced in ranges.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::{Access, Disk, DiskFile, IoMode, Map, MapWriter, Pages, name};

/// The smallest step in which a file gets blocks.
pub(crate) const ALLOCATION_STEP_MIN: u64 = 64 << 10;
/// The largest step in which a file gets blocks.
const ALLOCATION_STEP_MAX: u64 = 64 << 20;
/// Pages are taken out of the mapping before they are synced if there are as many bytes of them.
const UNMAP_MIN: u64 = 128 << 10;
/// So many blocks are written ahead at once: a sync of a batch may come to wait for them.
const WRITE_STEP: u64 = 256 << 10;
/// How much of a file is copied at once.
const COPY_STEP: u64 = 1 << 20;

/// A `.log` file. Bytes below [`end`](Self::end) are published: they never change, and stay for those who hold them.
#[derive(Debug)]
pub(crate) struct LogFile {
    disk: Arc<dyn Disk>,
    mode: IoMode,
    /// The lock is held over a rename and over every open, so that nobody looks for the old name behind the rename's
    /// back, or opens a file that is being cut.
    place: Mutex<Place>,
    /// Whether the file is out of the log. Set under the lock of `place`.
    retired: AtomicBool,
    /// What readers read from, opened when the first one comes and given back when maps run short.
    opened: ArcSwapOption<Opened>,
    /// Whether the budget of open segments counts what is opened.
    counted: AtomicBool,
    /// Where the published bytes end.
    end: AtomicU64,
    /// Below this, everything is on the disk.
    synced: AtomicU64,
    /// Held by whoever syncs. A sync that failed is told to all who come afterwards: of those who wait for the same pages the
    /// kernel tells one, and who was not told would take them for durable.
    syncing: Mutex<Option<Box<Error>>>,
    /// Up to here the file has blocks. Written only by the holder of `allocating`.
    allocated: AtomicU64,
    /// Holds whether there is a [`Sink`]: without one nothing is allocated.
    allocating: Mutex<bool>,
}

/// Where a file is, and through what it can be seen.
#[derive(Debug)]
struct Place {
    /// A prepared file is named once; apart from that it stays the same.
    path: PathBuf,
    /// Every map and descriptor that was made, as long as somebody holds it.
    views: Vec<View>,
}

#[derive(Debug)]
enum View {
    Map(Weak<Map>),
    File(Weak<dyn DiskFile>),
}

impl View {
    fn is_held(&self) -> bool {
        match self {
            Self::Map(map) => map.strong_count() > 0,
            Self::File(file) => file.strong_count() > 0,
        }
    }
}

impl Place {
    fn note(&mut self, opened: &Opened) {
        self.views.retain(View::is_held);
        self.views.push(match opened {
            Opened::Map { map, .. } => View::Map(Arc::downgrade(map)),
            Opened::File(file) => View::File(Arc::downgrade(file)),
        });
    }
}

/// An open file as its mode reads it.
#[derive(Debug)]
enum Opened {
    Map {
        map: Arc<Map>,
        /// All of them, where no more will be published: a part of these bytes is had for less than one of the map.
        whole: Option<Bytes>,
    },
    File(Arc<dyn DiskFile>),
}

impl Opened {
    /// A map in which `end` bytes are published, and never more.
    fn whole(map: Arc<Map>, end: u64) -> Self {
        Self::Map { whole: map.bytes(0..end as usize), map }
    }

    fn reaches(&self, to: u64) -> bool {
        match self {
            Self::Map { whole: Some(whole), .. } => whole.len() as u64 >= to,
            Self::Map { map, whole: None } => map.published() as u64 >= to,
            Self::File(_) => true,
        }
    }
}

/// The unique right to append to a [`LogFile`].
#[derive(Debug)]
pub(crate) enum Sink {
    Map(MapWriter),
    /// Batches are put together in the buffer, so that each call is one `pwrite`.
    File(Arc<dyn DiskFile>, Vec<u8>),
}

impl LogFile {
    /// A file whose first `end` bytes are published, of which `synced` are known to be on the disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, mode: IoMode, path: PathBuf, end: u64, synced: u64) -> Self {
        Self {
            disk,
            mode,
            place: Mutex::new(Place { path, views: Vec::new() }),
            retired: AtomicBool::new(false),
            opened: ArcSwapOption::empty(),
            counted: AtomicBool::new(false),
            end: AtomicU64::new(end),
            synced: AtomicU64::new(synced),
            syncing: Mutex::new(None),
            allocated: AtomicU64::new(end),
            allocating: Mutex::new(false),
        }
    }

    /// Creates an empty file with its first blocks, open for appending up to `capacity` bytes.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        mode: IoMode,
        path: PathBuf,
        capacity: u64,
        blocks: u64,
    ) -> Result<(Self, Sink)> {
        let file = disk.open(&path, Access::CreateNew).at("create", &path)?;
        let log_file = Self::new(disk, mode, path, 0, 0);
        log_file.allocate_in(&*file, blocks)?;
        let sink = log_file.sink(&file, capacity)?;
        Ok((log_file, sink))
    }

    /// Opens the file for appending behind its published end, up to `capacity` bytes.
    pub(crate) fn open_sink(&self, capacity: u64) -> Result<Sink> {
        let file = self.open(Access::Write)?;
        self.sink(&file, capacity.max(self.end()))
    }

    fn sink(&self, file: &Arc<dyn DiskFile>, capacity: u64) -> Result<Sink> {
        let (sink, opened) = match self.mode {
            IoMode::Mapped => {
                let writer = file.map(capacity as usize, self.end() as usize).at("map", &self.path())?;
                let map = Arc::clone(writer.map());
                (Sink::Map(writer), Opened::Map { map, whole: None })
            }
            IoMode::Write => (Sink::File(Arc::clone(file), Vec::new()), Opened::File(Arc::clone(file))),
        };
        self.place.lock().note(&opened);
        self.opened.store(Some(Arc::new(opened)));
        *self.allocating.lock() = true;
        Ok(sink)
    }

    pub(crate) fn mode(&self) -> IoMode {
        self.mode
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether fetching bytes costs nothing, because they are mapped.
    pub(crate) fn is_memory(&self) -> bool {
        self.mode == IoMode::Mapped
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.lock().path.clone()
    }

    /// Where the published bytes end.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Acquire)
    }

    /// Whether published bytes are not known to be on the disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.synced.load(Ordering::Acquire) < self.end()
    }

    /// Whether the bytes are mapped right now.
    pub(crate) fn is_mapped(&self) -> bool {
        self.map().is_some()
    }

    fn open(&self, access: Access) -> Result<Arc<dyn DiskFile>> {
        let place = self.place.lock();
        self.open_at(&place, access)
    }

    fn open_at(&self, place: &Place, access: Access) -> Result<Arc<dyn DiskFile>> {
        if self.is_retired() {
            // Under its name there may be another file by now.
            return Err(io::Error::from(io::ErrorKind::NotFound)).at("open", &place.path);
        }
        self.disk.open(&place.path, access).at("open", &place.path)
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

    fn allocate_in(&self, file: &dyn DiskFile, end: u64) -> Result<()> {
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

    /// Makes everything published so far durable (not the name). `true` if there was anything to do.
    pub(crate) fn sync(&self) -> Result<bool> {
        let mut failed = self.syncing.lock();
        if let Some(error) = &*failed {
            return Err((**error).clone());
        }
        let (from, to) = (self.synced.load(Ordering::Acquire), self.end());
        if from >= to {
            return Ok(false);
        }
        let synced = match self.opened.load_full().as_deref() {
            // The kernel syncs nothing through a map that was made for reading, which shows all that there is.
            Some(Opened::Map { map, whole: None }) if map.capacity() as u64 >= to => {
                if to - from >= UNMAP_MIN {
                    map.unmap_pages(from as usize..to as usize);
                }
                map.sync(from as usize..to as usize)
            }
            Some(Opened::File(file)) => file.sync(),
            _ => self.open(Access::Write)?.sync(),
        };
        let synced = synced.at("sync", &self.path());
        if let Err(error) = synced {
            *failed = Some(Box::new(error.clone()));
            // What can still be done is for the next opening, and changes nothing if it fails, too.
            let _ = self.write_again(from, to);
            return Err(error);
        }
        self.synced.fetch_max(to, Ordering::AcqRel);
        Ok(true)
    }

    /// Makes a file that an opening found durable as it is, its length included. Everything below `from` is so already.
    pub(crate) fn sync_found(&self, from: u64) -> Result<()> {
        let synced = self.open(Access::Write)?.sync().at("sync", &self.path());
        // The next opening must not take for durable what only memory has.
        synced.inspect_err(|_| drop(self.write_again(from, self.end())))
    }

    /// Writes published bytes once more, as they are. The kernel counts what it could not write as written: whoever opened the
    /// file next would sync nothing, and take for durable what is in memory only.
    fn write_again(&self, from: u64, to: u64) -> Result<()> {
        let file = self.open(Access::Write)?;
        let mut position = from;
        while position < to {
            let end = to.min(position + COPY_STEP);
            file.write_at(&self.bytes(position, end)?, position).at("write again", &self.path())?;
            position = end;
        }
        Ok(())
    }

    /// Notes that somebody else made everything published durable.
    pub(crate) fn mark_synced(&self) {
        self.synced.fetch_max(self.end(), Ordering::AcqRel);
    }

    /// Cuts what lies behind the published end, which nobody can have seen, and makes the length durable. How much was cut is
    /// given to `give_back`, before that. There must be no [`Sink`] any more.
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

    /// Notes that what is open will not see more bytes than `end`.
    fn keep_whole(&self, end: u64) {
        let opened = self.opened.load_full();
        if let Some(Opened::Map { map, whole: None }) = opened.as_deref() {
            let whole = Arc::new(Opened::whole(Arc::clone(map), end));
            self.opened.compare_and_swap(&opened, Some(whole));
        }
    }

    /// Gives a prepared file its name. The directory is not synced.
    pub(crate) fn rename(&self, to: &Path) -> Result<()> {
        let mut place = self.place.lock();
        if place.path != to {
            self.disk.rename(&place.path, to).at("rename", &place.path)?;
            to.clone_into(&mut place.path);
        }
        Ok(())
    }

    /// Removes the name. Bytes that are mapped or open stay for those who hold them.
    pub(crate) fn remove(&self) -> Result<()> {
        let place = self.place.lock();
        self.disk.remove_file(&place.path).at("remove", &place.path)
    }

    /// Takes the file out of the log: from here on nobody opens, maps or extends it. `true` if nobody sees any of it
    /// any more, so that it may be cut. There must be no [`Sink`].
    pub(crate) fn retire(&self) -> bool {
        let place = self.close();
        place.views.is_empty() && !self.is_mapped_at(&place)
    }

    /// The same where the file stays as it is: nobody looks who sees it.
    pub(crate) fn let_go(&self) {
        drop(self.close());
    }

    fn close(&self) -> MutexGuard<'_, Place> {
        // Who is allocating finishes first; it would extend what is cut.
        let mut has_sink = self.allocating.lock();
        *has_sink = false;
        let mut place = self.place.lock();
        self.retired.store(true, Ordering::Release);
        // A swap counts those who are just looking at what is swapped out among its owners.
        drop(self.opened.swap(None));
        place.views.retain(View::is_held);
        place
    }

    /// Whether anybody in the process has the file mapped: who read from it before the log was closed and opened again is not
    /// among the views.
    fn is_mapped_at(&self, place: &Place) -> bool {
        self.disk.open(&place.path, Access::Read).and_then(|file| file.is_mapped()).unwrap_or(true)
    }

    /// Takes the file back in: it was not cut after all.
    pub(crate) fn revive(&self) {
        let _place = self.place.lock();
        self.retired.store(false, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// The maps that somebody holds.
    pub(crate) fn held_maps(&self) -> Vec<Arc<Map>> {
        let held = |view: &View| if let View::Map(map) = view { map.upgrade() } else { None };
        self.place.lock().views.iter().filter_map(held).collect()
    }

    /// Cuts a retired file that nobody sees, durably.
    pub(crate) fn cut(&self, end: u64) -> Result<()> {
        let path = self.path();
        let file = self.disk.open(&path, Access::Write).at("open", &path)?;
        file.set_len(end).at("cut", &path)?;
        file.sync().at("sync", &path)
    }

    /// Cuts a file that no log has open yet, in place or by a copy; neither is durable as to the name.
    pub(crate) fn shorten(&self, end: u64) -> Result<()> {
        // What was mapped to be looked at goes away with the cut.
        self.release();
        let place = self.place.lock();
        if self.is_mapped_at(&place) {
            drop(place);
            self.copy_prefix(end)?;
            self.replace_by_copy()?;
        } else {
            self.open_at(&place, Access::Write)?.set_len(end).at("cut", &place.path)?;
        }
        self.end.store(end, Ordering::Release);
        Ok(())
    }

    /// Copies the first `end` bytes to a file beside this one, durably but for its name. On an error nothing is left.
    pub(crate) fn copy_prefix(&self, end: u64) -> Result<()> {
        let path = self.path();
        let copied = self.copy_to(&name::temporary(&path), end);
        copied.inspect_err(|_| self.discard_copy())
    }

    fn copy_to(&self, copy: &Path, end: u64) -> Result<()> {
        let path = self.path();
        self.discard_copy();
        let from = self.disk.open(&path, Access::Read).at("open", &path)?;
        let to = self.disk.open(copy, Access::CreateNew).at("create", copy)?;
        let mut buffer = vec![0; COPY_STEP.min(end) as usize];
        let mut position = 0;
        while position < end {
            let step = &mut buffer[..COPY_STEP.min(end - position) as usize];
            let got = from.read_at(step, position).at("read", &path)? as u64;
            if got < step.len() as u64 {
                return Err(Error::corrupt(
                    &path,
                    position + got,
                    CorruptionKind::Length { expected: end, got },
                ));
            }
            to.write_at(step, position).at("write", copy)?;
            position += got;
        }
        to.sync().at("sync", copy)
    }

    /// Removes what [`copy_prefix`](Self::copy_prefix) made, where that works; the next one or the next opening does.
    pub(crate) fn discard_copy(&self) {
        let _ = self.disk.remove_file(&name::temporary(&self.path()));
    }

    /// Puts the copy in place of the file, durably. Who sees the old one goes on seeing it.
    pub(crate) fn replace_by_copy(&self) -> Result<()> {
        let path = self.path();
        let copy = name::temporary(&path);
        self.disk.rename(&copy, &path).at("rename", &copy)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        self.disk.sync_directory(directory).at("sync directory", directory)
    }

    /// The map, if there is one now.
    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        match self.opened.load().as_deref() {
            Some(Opened::Map { map, .. }) => Some(Arc::clone(map)),
            _ => None,
        }
    }

    /// Gives back the map or descriptor. Slices that are out keep it alive.
    pub(crate) fn release(&self) {
        // In this order: what is opened in between is not taken for counted.
        self.counted.store(false, Ordering::Release);
        self.opened.store(None);
        // Of a map that is gone a view still holds the memory, and many segments lie closed.
        let mut place = self.place.lock();
        place.views.retain(View::is_held);
        place.views.shrink_to_fit();
    }

    /// Whether the budget counts what is open.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    /// Whether there is a map or descriptor that was not counted yet; from now on it is.
    pub(crate) fn count(&self) -> bool {
        self.opened.load().is_some() && !self.counted.swap(true, Ordering::AcqRel)
    }

    /// The published bytes in [`from`, `to`), by reference to the map, or read into memory.
    pub(crate) fn bytes(&self, from: u64, to: u64) -> Result<Bytes> {
        let to = to.min(self.end());
        if from >= to {
            return Ok(Bytes::new());
        }
        if let Some(opened) = self.opened.load().as_deref()
            && let Some(bytes) = self.bytes_of(opened, from, to)?
        {
            return Ok(bytes);
        }
        let opened = self.open_for_reading(to)?;
        self.bytes_of(&opened, from, to)?.ok_or_else(|| self.too_short(to))
    }

    fn bytes_of(&self, opened: &Opened, from: u64, to: u64) -> Result<Option<Bytes>> {
        match opened {
            Opened::Map { whole: Some(whole), .. } => {
                Ok((to <= whole.len() as u64).then(|| whole.slice(from as usize..to as usize)))
            }
            Opened::Map { map, whole: None } => Ok(map.bytes(from as usize..to as usize)),
            Opened::File(file) => {
                let mut buffer = vec![0; (to - from) as usize];
                let read = file.read_at(&mut buffer, from).at("read", &self.place.lock().path)?;
                if read < buffer.len() {
                    return Err(self.too_short(to));
                }
                Ok(Some(Bytes::from(buffer)))
            }
        }
    }

    #[cold]
    fn too_short(&self, expected: u64) -> Error {
        let got = self.open(Access::Read).ok().and_then(|file| file.len().ok()).unwrap_or(0);
        Error::corrupt(&self.place.lock().path, got, CorruptionKind::Length { expected, got })
    }

    /// Opens the file for readers, unless somebody just did, so that its bytes up to `to` can be had.
    #[cold]
    fn open_for_reading(&self, to: u64) -> Result<Arc<Opened>> {
        let mut place = self.place.lock();
        let before = self.opened.load_full();
        if let Some(opened) = before.as_ref().filter(|opened| opened.reaches(to)) {
            return Ok(Arc::clone(opened));
        }
        let file = self.open_at(&place, Access::Read)?;
        let opened = match self.mode {
            IoMode::Mapped => {
                let (end, len) = (self.end(), file.len().at("size", &place.path)?);
                // A map beyond the end of the file would turn a read into a signal.
                if len < end {
                    let kind = CorruptionKind::Length { expected: end, got: len };
                    return Err(Error::corrupt(&place.path, len, kind));
                }
                Opened::whole(file.map_read(end as usize).at("map", &place.path)?, end)
            }
            IoMode::Write => Opened::File(file),
        };
        place.note(&opened);
        let opened = Arc::new(opened);
        // The appender may have opened the file meanwhile: what it syncs through must stay.
        let before = self.opened.compare_and_swap(&before, Some(Arc::clone(&opened)));
        drop(before);
        Ok(opened)
    }
}

impl Sink {
    /// Where the bytes that it can take end: a map's size stays what it was made with.
    pub(crate) fn capacity(&self) -> u64 {
        match self {
            Self::Map(writer) => writer.map().capacity() as u64,
            Self::File(..) => u64::MAX,
        }
    }

    /// Copies one batch to `position`, behind the published end, with the log's stamps in place of the sender's bytes.
    ///
    /// # Errors
    ///
    /// The disk's, in [`IoMode::Write`]; nothing is published.
    #[inline(always)]
    pub(crate) fn write(&mut self, position: u64, stamps: &Stamps, batch: &[u8]) -> std::io::Result<()> {
        let head = stamps.over(batch);
        match self {
            Self::Map(writer) => writer.store_headed(position as usize, head, batch),
            Self::File(_, buffer) => {
                put_together(buffer, head, batch);
                Ok(())
            }
        }
    }

    /// Hands the batches written since `from` to the operating system; there they survive the process.
    #[inline]
    pub(crate) fn flush(&mut self, from: u64) -> std::io::Result<()> {
        match self {
            Self::Map(_) => Ok(()),
            Self::File(file, buffer) => flush(&**file, buffer, from),
        }
    }

    /// Forgets batches that were written but not flushed.
    pub(crate) fn discard(&mut self) {
        if let Self::File(_, buffer) = self {
            buffer.clear();
        }
    }

    /// Publishes everything below `end`: from here on it never changes.
    #[inline]
    pub(crate) fn publish(&mut self, file: &LogFile, end: u64) {
        if let Self::Map(writer) = self {
            writer.publish(end as usize);
        }
        file.end.store(end, Ordering::Release);
    }
}

#[inline(never)]
fn put_together(buffer: &mut Vec<u8>, head: u128, batch: &[u8]) {
    buffer.extend_from_slice(&head.to_be_bytes());
    buffer.extend_from_slice(batch.get(size_of_val(&head)..).unwrap_or_default());
}

#[inline(never)]
fn flush(file: &dyn DiskFile, buffer: &mut Vec<u8>, from: u64) -> io::Result<()> {
    let written = file.write_at(buffer, from);
    buffer.clear();
    written
}

/// What the log writes into a batch: its base offset and leader epoch. The CRC covers neither.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    pub(crate) base_offset: crate::types::Offset,
    pub(crate) leader_epoch: crate::types::LeaderEpoch,
}

impl Stamps {
    /// Those that a batch has already.
    pub(crate) fn of(header: &crate::batch::BatchHeader) -> Self {
        Self { base_offset: header.base_offset, leader_epoch: header.leader_epoch }
    }

    /// What a stored batch begins with: base offset, the length as sent, leader epoch.
    #[inline(always)]
    fn over(&self, batch: &[u8]) -> u128 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *batch else { return 0 };
        let length = u128::from(u32::from_be_bytes([a, b, c, d]));
        let base_offset = u128::from(self.base_offset.0 as u64);
        let leader_epoch = u128::from(self.leader_epoch.0 as u32);
        base_offset << 64 | length << 32 | leader_epoch
    }
}
