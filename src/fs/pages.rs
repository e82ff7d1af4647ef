//! The pages of a map of a file: of what size they are, and made ready before somebody stores there.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Advice, MmapRaw};

/// How much of a file the kernel takes into memory, and later writes back, as one. What
/// [`Map::populate`](crate::Map::populate) costs is the lower the more that is; what a sync writes beyond the bytes that were
/// stored is the more.
///
/// ```
/// use idemlog::{Access, Disk, Pages, RealDisk};
///
/// # let directory = tempfile::tempdir()?;
/// let file = RealDisk.open(&directory.path().join("file"), Access::CreateNew)?;
/// file.allocate(0, 1 << 20)?;
/// let mut writer = file.map(1 << 20, 0)?;
/// // Only ever a matter of speed: where it cannot be done, storing waits for the kernel.
/// let _ = writer.map().populate(0..64 << 10, Pages::Small);
///
/// writer.store(0, b"a few bytes")?;
/// writer.publish(11);
/// writer.map().sync(0..11)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// One page of the processor: for bytes that are synced soon, a few at a time.
    Small,
    /// As for somebody who reads the file: up to what the device reads ahead.
    AsRead,
    /// 2 MiB, where the kernel has such pages: for megabytes that are written before any of them need be on the disk.
    Large,
}

/// Has the pages of one mapping ready, and knows of what size it asked for them.
#[derive(Debug, Default)]
pub(super) struct Populator {
    /// Whether the kernel was asked for large pages last.
    has_large_pages: AtomicBool,
}

impl Populator {
    /// See [`Map::populate`](crate::Map::populate).
    pub(super) fn populate(
        &self,
        mapping: &MmapRaw,
        start: usize,
        len: usize,
        pages: Pages,
    ) -> io::Result<()> {
        self.use_large_pages(mapping, pages == Pages::Large);
        match pages {
            Pages::Small => populate_one_by_one(mapping, start, len),
            Pages::AsRead | Pages::Large => populate_as_advised(mapping, start, len),
        }
    }

    /// Only ever a matter of speed, as all advice is: where the kernel does not know it, pages are as it likes.
    fn use_large_pages(&self, mapping: &MmapRaw, is_wanted: bool) {
        let was_wanted = self.has_large_pages.swap(is_wanted, Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        if was_wanted != is_wanted {
            let _ = mapping.advise(if is_wanted { Advice::HugePage } else { Advice::NoHugePage });
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (mapping, was_wanted);
    }
}

/// A reader that jumps about has no use for what is beside the page that it comes to, so the kernel takes each by itself. The
/// advice is taken back: of whoever reads here later nothing is known.
fn populate_one_by_one(mapping: &MmapRaw, start: usize, len: usize) -> io::Result<()> {
    let _ = mapping.advise_range(Advice::Random, start, len);
    let populated = populate_as_advised(mapping, start, len);
    let _ = mapping.advise_range(Advice::Normal, start, len);
    populated
}

#[cfg(target_os = "linux")]
fn populate_as_advised(mapping: &MmapRaw, start: usize, len: usize) -> io::Result<()> {
    mapping.advise_range(Advice::PopulateWrite, start, len).map_err(|error| match error.kind() {
        // What a kernel says that does not know the advice. The range itself is valid.
        io::ErrorKind::InvalidInput => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

#[cfg(not(target_os = "linux"))]
fn populate_as_advised(_mapping: &MmapRaw, _start: usize, _len: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
