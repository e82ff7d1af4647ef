//! A file's bytes in memory. This is the only module that may say `unsafe`. No call of a [`Map`] or a [`MapWriter`] makes a data
//! race or a reference to bytes that may still change, as long as the file is changed through its one writer alone.
//!
//! A mapping is cut in two by its *published end*:
//!
//! ```text
//! 0            published               written          capacity
//! | never changes | the writer's own | zeros, maybe not allocated |
//! |  any reader   | no reference exists, only a raw pointer       |
//! ```
//!
//! * Below the published end the bytes are fixed, so any number of threads may hold references to them.
//! * Above it only [`MapWriter`], which exists once per mapping and cannot be cloned, touches the memory, through
//!   `&mut self` and a raw pointer.
//! * The published end rises by a release store and is read by an acquire load: who sees it sees the bytes below it.
//! * It never falls.
//!
//! What no type can hold is the file itself: a second writer's map, another descriptor, `std::fs`. A map of a file on the disk is
//! as sound as whoever asked a [`DiskFile`](super::DiskFile) for it is careful; its text says what must not be done. (`memmap2` has
//! an `unsafe` function for that. Here the calls are safe ones, so that a host's own disk may pass them on without `unsafe`.)
//! The engine never changes a byte below a published end; it cuts a file there only when this process has no map of it
//! ([`DiskFile::is_mapped`](super::DiskFile)), and else puts a copy in its place. The lock on the directory keeps other
//! processes from either, and those who read without it do not map.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt::{self, Debug};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};

use super::map_count::CountedMap;
use super::observer::MapObserver;
use super::pages::{Pages, Populator};

/// A shared mapping of a file: bytes that are published, and room behind them that only its [`MapWriter`] reaches.
///
/// It stays mapped until the last [`Bytes`] taken from it is dropped, also when the file was closed or removed. Until then nobody
/// may change or cut what is published of the file: see [`DiskFile`](crate::DiskFile#maps).
///
/// ```
/// use idemlog::{Access, Disk, RealDisk};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("file");
/// std::fs::write(&path, b"three words here")?;
/// let map = RealDisk.open(&path, Access::Read)?.map_read(16)?;
///
/// let words = map.bytes(6..11).unwrap();
/// drop(map);
/// assert_eq!(words, "words");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Map {
    base: NonNull<u8>,
    capacity: usize,
    memory: Memory,
    populator: Populator,
    published: CacheLine,
}

/// A number on a cache line of its own: readers who count themselves as owners do not slow down the writer who publishes.
#[repr(align(64))]
struct CacheLine(AtomicUsize);

enum Memory {
    File(MmapRaw, #[expect(dead_code, reason = "it counts for as long as it is there")] CountedMap),
    Heap { layout: Layout, observer: Arc<dyn MapObserver> },
}

// SAFETY: `base` points to memory that the map owns and that no thread-local thing refers to; the rest is Send.
unsafe impl Send for Map {}
// SAFETY: through `&Map` the memory is only read, and only below the published end, where nothing writes (see the
// module's text); the system calls on it may come from any thread; the rest is Sync.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the first `len` bytes of `file`, all of them published.
    pub(super) fn of_file(file: &File, len: usize) -> io::Result<Arc<Self>> {
        let counted = count_map(file, len)?;
        let mapping = MmapOptions::new().len(len).map_raw_read_only(file)?;
        Self::new(mapping.as_mut_ptr(), len, len, Memory::File(mapping, counted))
    }

    fn new(base: *mut u8, capacity: usize, published: usize, memory: Memory) -> io::Result<Arc<Self>> {
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        let published = CacheLine(AtomicUsize::new(published));
        Ok(Arc::new(Self { base, capacity, memory, populator: Populator::default(), published }))
    }

    /// The end of the bytes that may be read.
    #[inline]
    pub fn published(&self) -> usize {
        self.published.0.load(Ordering::Acquire)
    }

    /// The end of the mapping.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The bytes in `range`; `None` if they are not all published.
    #[inline]
    pub fn slice(&self, range: Range<usize>) -> Option<&[u8]> {
        // SAFETY: the range is published, which it stays.
        self.has_published(&range).then(|| unsafe { self.reference(range) })
    }

    /// The bytes in `range` without copying, kept mapped for as long as they are held; `None` if they are not all
    /// published.
    #[inline]
    pub fn bytes(self: &Arc<Self>, range: Range<usize>) -> Option<Bytes> {
        self.has_published(&range).then(|| Bytes::from_owner(Published { map: Arc::clone(self), range }))
    }

    #[inline]
    fn has_published(&self, range: &Range<usize>) -> bool {
        range.start <= range.end && range.end <= self.published()
    }

    /// Makes the bytes in `range` durable: they and all else in their pages are on the disk when this returns.
    ///
    /// It reports every write-back error since the file was opened, and works after it was closed.
    pub fn sync(&self, range: Range<usize>) -> io::Result<()> {
        let len = self.length_within_capacity(&range)?;
        match &self.memory {
            _ if len == 0 => Ok(()),
            Memory::File(mapping, _) => mapping.flush_range(range.start, len),
            Memory::Heap { observer, .. } => observer.sync(range),
        }
    }

    /// Has the pages of `range` ready, so that storing there does not wait for the kernel. An error where storing
    /// would raise SIGBUS; [`io::ErrorKind::Unsupported`] where the kernel cannot do it (Linux before 5.14, others).
    pub fn populate(&self, range: Range<usize>, pages: Pages) -> io::Result<()> {
        let len = self.length_within_capacity(&range)?;
        match &self.memory {
            _ if len == 0 => Ok(()),
            Memory::File(mapping, _) => self.populator.populate(mapping, range.start, len, pages),
            Memory::Heap { observer, .. } => observer.populate(range),
        }
    }

    /// Takes the whole pages in `range` out of the mapping, until somebody touches them again; their bytes stay in the page
    /// cache. Only ever a matter of speed: the kernel protects each mapped page from the writer before it writes it back,
    /// and interrupts every processor for that.
    pub(crate) fn unmap_pages(&self, range: Range<usize>) {
        const PAGE: usize = 4096;
        let (start, end) = (range.start.next_multiple_of(PAGE), range.end.min(self.capacity) / PAGE * PAGE);
        if let Memory::File(mapping, _) = &self.memory
            && start < end
        {
            // SAFETY: the mapping is a shared one of a file: what was stored is in the page cache, from where it is mapped
            // again. The range lies within the mapping.
            let _ = unsafe {
                mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
            };
        }
    }

    /// Has the processor fetch `len` bytes from `start` on, a kilobyte at most, for storing: whoever stores there next,
    /// and then releases a lock, would wait for memory.
    #[inline]
    fn fetch_lines(&self, start: usize, len: usize) {
        const MOST: usize = 1024;
        let end = (start + len.min(MOST)).min(self.capacity);
        let mut position = start;
        while position < end {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: the address lies within the mapping; fetching is a hint, which never faults or changes a byte.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_ET0>(self.base.as_ptr().add(position).cast());
            }
            position += LINE;
        }
    }

    fn length_within_capacity(&self, range: &Range<usize>) -> io::Result<usize> {
        match range.end.checked_sub(range.start) {
            Some(len) if range.end <= self.capacity => Ok(len),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// # Safety
    /// `range` must be published.
    #[inline]
    unsafe fn reference(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: the range is published, so it lies within the mapping, whose memory is initialised (zeros, or the
        // file's bytes), and nothing writes to it for as long as the mapping exists.
        unsafe { slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }
}

/// What a processor fetches at once.
const LINE: usize = 64;

/// Has the processor fetch the `len` bytes at `start` in `bytes`, a line of them at most, if they are there, for reading soon.
///
/// Not into the first cache: of what that waits for at a time there are few places, and a walk over headers keeps them all
/// taken (an eighth slower on an Intel Xeon of the fourth generation).
#[inline]
pub(crate) fn prefetch(bytes: &[u8], start: usize, len: usize) {
    debug_assert!((1..=LINE).contains(&len));
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if start < bytes.len() && len <= bytes.len() - start {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let fetch = |at: usize| {
            // SAFETY: the address is that of a byte of the slice; fetching is a hint, which never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(bytes.as_ptr().add(at).cast()) };
        };
        fetch(start);
        // It may be in a line of its own, as the first need not be at the beginning of its line.
        fetch(start + len - 1);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (bytes, start, len);
}

/// Counts a map of a file that is to be made. Bytes behind the end of the file can be mapped but not read (SIGBUS): it must have
/// `len` bytes.
fn count_map(file: &File, len: usize) -> io::Result<CountedMap> {
    let metadata = file.metadata()?;
    let got = metadata.len();
    if got < len as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{got} bytes where {len} are to be mapped"),
        ));
    }
    Ok(CountedMap::of(&metadata))
}

impl Drop for Map {
    fn drop(&mut self) {
        if let Memory::Heap { layout, .. } = &self.memory {
            // SAFETY: `base` came from `alloc_zeroed` with this layout, and is freed nowhere else.
            unsafe { dealloc(self.base.as_ptr(), *layout) };
        }
    }
}

impl Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("published", &self.published()).field("capacity", &self.capacity).finish()
    }
}

/// Published bytes of a map, which they keep mapped.
struct Published {
    map: Arc<Map>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Published {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Map::bytes`, the only one to make this, saw the range published.
        unsafe { self.map.reference(self.range.clone()) }
    }
}

/// The right to write above a map's published end. There is one per mapping.
///
/// ```
/// use idemlog::{MapObserver, MapWriter};
///
/// # #[derive(Debug)] struct Nobody;
/// # impl MapObserver for Nobody {}
/// let mut writer = MapWriter::on_heap(b"", 100, std::sync::Arc::new(Nobody))?;
/// let map = writer.map().clone();
///
/// writer.store(0, b"first")?;
/// assert!(map.slice(0..5).is_none(), "nobody sees it yet");
/// writer.publish(5);
/// assert_eq!(map.slice(0..5).unwrap(), b"first");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MapWriter {
    map: Arc<Map>,
    /// The end of what was stored; never below the published end.
    written: usize,
}

impl MapWriter {
    /// Maps [0, `capacity`) of `file`, of which the first `published` bytes are fixed. Only address space is taken
    /// for what lies behind the end of the file.
    pub(super) fn of_file(file: &File, capacity: usize, published: usize) -> io::Result<Self> {
        let capacity = capacity.max(published);
        let counted = count_map(file, published)?;
        let mapping = MmapOptions::new().len(capacity).map_raw(file)?;
        let map = Map::new(mapping.as_mut_ptr(), capacity, published, Memory::File(mapping, counted))?;
        Ok(Self { map, written: published })
    }

    /// A map of zeros on the heap that begins with a copy of `published`: what a [`Disk`](crate::Disk) without a
    /// kernel behind it answers when it is asked for a map.
    pub fn on_heap(published: &[u8], capacity: usize, observer: Arc<dyn MapObserver>) -> io::Result<Self> {
        let capacity = capacity.max(published.len());
        let layout = Layout::array::<u8>(capacity.max(1)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let map = Map::new(base, capacity, published.len(), Memory::Heap { layout, observer })?;
        // SAFETY: the memory is fresh and as long as `published` at least, and nobody else has it yet.
        unsafe { ptr::copy_nonoverlapping(published.as_ptr(), map.base.as_ptr(), published.len()) };
        Ok(Self { map, written: published.len() })
    }

    /// The map, for readers.
    #[inline]
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Copies `bytes` to `position`, unpublished. The place must begin at or above the published end, leave no gap
    /// behind what was stored before, and end within the capacity; otherwise [`io::ErrorKind::InvalidInput`].
    ///
    /// The place must have been allocated: on a real file storing behind its end raises SIGBUS.
    #[inline]
    pub fn store(&mut self, position: usize, bytes: &[u8]) -> io::Result<()> {
        let end = self.check_place(position, bytes.len())?;
        // SAFETY: the place was just checked; where no reference exists, `bytes` are elsewhere.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.base.as_ptr().add(position), bytes.len());
        }
        self.written = self.written.max(end);
        self.tell(position, bytes);
        Ok(())
    }

    /// The same with a big-endian number in place of the first sixteen bytes, which must be there and are never stored. (A
    /// number stays in registers; bytes would be written to the stack and read again at once, in other pieces.)
    #[inline(always)]
    pub(crate) fn store_headed(&mut self, position: usize, head: u128, bytes: &[u8]) -> io::Result<()> {
        let Some(tail) = bytes.get(size_of::<u128>()..) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let end = self.check_place(position, bytes.len())?;
        // SAFETY: the place was just checked, and head and tail together are as long as it; where no reference exists,
        // `tail` is elsewhere.
        unsafe {
            let place = self.map.base.as_ptr().add(position);
            place.cast::<u128>().write_unaligned(head.to_be());
            ptr::copy_nonoverlapping(tail.as_ptr(), place.add(size_of::<u128>()), tail.len());
        }
        self.written = self.written.max(end);
        if matches!(self.map.memory, Memory::Heap { .. }) {
            self.tell_parts(position, head, tail);
        }
        Ok(())
    }

    #[cold]
    fn tell_parts(&self, position: usize, head: u128, tail: &[u8]) {
        let head = head.to_be_bytes();
        self.tell(position, &head);
        self.tell(position + head.len(), tail);
    }

    fn tell(&self, position: usize, bytes: &[u8]) {
        if let Memory::Heap { observer, .. } = &self.map.memory {
            observer.stored(position, bytes);
        }
    }

    /// Where `len` bytes from `position` on end, if they lie within the mapping, above the published end and behind no gap:
    /// where no reference exists, and nobody but this writer, held by `&mut self`, reads or writes.
    #[inline(always)]
    fn check_place(&self, position: usize, len: usize) -> io::Result<usize> {
        match position.checked_add(len) {
            Some(end) if end <= self.map.capacity && self.own().contains(&position) => Ok(end),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Where a store may begin, and the ends that may be published.
    #[inline]
    fn own(&self) -> std::ops::RangeInclusive<usize> {
        // This writer is the only one who changes it.
        self.map.published.0.load(Ordering::Relaxed)..=self.written
    }

    /// Shows everything below `end` to readers, for good.
    ///
    /// # Panics
    /// If `end` is below what is published, or above what was stored.
    #[inline]
    pub fn publish(&mut self, end: usize) {
        assert!(self.own().contains(&end), "published {end}, which is not within {:?}", self.own());
        let before = *self.own().start();
        self.map.published.0.store(end, Ordering::Release);
        self.map.fetch_lines(end, end - before);
    }
}

#[cfg(test)]
#[deny(unsafe_code)]
mod tests;
