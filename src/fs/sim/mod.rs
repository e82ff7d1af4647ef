//! A simulated disk that remembers what was synced, so that a test can cut the power at any point.
//!
//! [`SimDisk`] stands in for [`RealDisk`](crate::RealDisk). It keeps everything in memory, writes down every change in
//! a journal, and makes from it, for any point of the journal, the disks that a power cut there may leave
//! ([`SimDisk::crash`], [`SimDisk::images`]), or the one that the death of the process leaves ([`SimDisk::kill`]).
//! Everything follows from the calls and the seeds: a failure can be replayed.
//!
//! # What a power cut leaves
//!
//! * **Bytes**: each sector of 512 bytes that changed since it was last synced has any of the contents it had since,
//!   independently of the others. Of the last store into a map a sector may have half.
//! * **Length**: any length that the file had since it was last synced, whichever bytes survive. Bytes behind it are
//!   gone.
//! * **Names**: each creation, rename and removal since the directory was last synced happened or not, independently,
//!   except that changes of the same name keep their order. A file without a surviving name is gone.
//! * A sync makes durable what it promises and no more: that of a file its bytes, length and blocks, not its name;
//!   that of a range of a map the bytes of its pages, and the length only if the disk is told so
//!   ([`SimDisk::set_sync_range_covers_length`]); that of a directory its names, not what they name.
//!
//! This is more than any one file system does, and what a program that relies only on POSIX must live with.
//!
//! # What it checks
//!
//! It panics where the real thing would raise SIGBUS or break the rule that published bytes never change: storing
//! behind the end of a file or where no block is allocated, cutting or overwriting a file below the published end of
//! a map that still exists.
//!
//! # What it leaves out
//!
//! Links, permissions, renames from one directory to another, and bytes that a disk changes by itself. Blocks of a
//! removed file are free at once.
//!
//! ```
//! use idemlog::sim::{Newest, Oldest, SimDisk};
//! use idemlog::{Access, Disk, IoMode};
//!
//! let disk = SimDisk::new(IoMode::Write);
//! let path = "/file".as_ref();
//! disk.open(path, Access::CreateNew)?.write_at(b"bytes", 0)?;
//!
//! let now = disk.crash_points() - 1;
//! assert!(!disk.crash(now, &mut Oldest).exists(path)?, "the name was not synced");
//! assert_eq!(disk.crash(now, &mut Newest).read(path, 100)?, b"bytes");
//!
//! disk.sync_directory("/".as_ref())?;
//! let now = disk.crash_points() - 1;
//! assert_eq!(disk.crash(now, &mut Oldest).read(path, 100)?, b"", "the bytes were not synced");
//! # Ok::<(), std::io::Error>(())
//! ```

mod content;
mod crash;
mod disk;
mod fault;
mod rng;
mod state;
mod survivors;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use self::content::PAGE;
pub use self::crash::Images;
use self::fault::Faults;
pub use self::fault::{FailedSync, Fault, Operation};
pub use self::rng::Rng;
use self::state::{Event, FileId, State};
pub use self::survivors::{Exhaustive, Newest, Oldest, Survivors};
use super::disk::IoMode;
use super::map::Map;

/// A simulated disk; see the [module](self). A clone is another handle to the same disk.
///
/// ```
/// use idemlog::sim::SimDisk;
/// use idemlog::{Access, Disk, IoMode};
///
/// let disk = SimDisk::new(IoMode::Mapped);
/// disk.create_directory("/data".as_ref())?;
/// let file = disk.open("/data/file".as_ref(), Access::CreateNew)?;
/// file.allocate(0, 4096)?;
/// let mut writer = file.map(4096, 0)?;
/// writer.store(0, b"bytes")?;
/// writer.map().sync(0..5)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: IoMode,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The disk before the first event of the journal.
    base: State,
    state: State,
    journal: Vec<Event>,
    /// The state after that many events, from the last look into the past.
    replayed: (usize, State),
    settings: Settings,
    faults: Faults,
    locked: HashSet<PathBuf>,
    maps: Vec<(FileId, Weak<Map>)>,
}

/// What a disk left by a crash inherits.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    capacity: Option<u64>,
    sync_range_covers_length: bool,
}

impl SimDisk {
    /// An empty disk with nothing but the directory `/`, which answers `mode` to
    /// [`io_mode`](crate::Disk::io_mode) for all of it. In [`IoMode::Write`] it refuses to map.
    pub fn new(mode: IoMode) -> Self {
        Self::from_state(mode, State::empty(), Settings::default())
    }

    fn from_state(mode: IoMode, state: State, settings: Settings) -> Self {
        let inner = Inner {
            base: state.clone(),
            replayed: (0, state.clone()),
            state,
            journal: Vec::new(),
            settings,
            faults: Faults::default(),
            locked: HashSet::new(),
            maps: Vec::new(),
        };
        Self { shared: Arc::new(Shared { mode, inner: Mutex::new(inner) }) }
    }

    /// How many bytes of blocks there are; by default as many as anybody wants. Files have whole pages of 4096 bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_inner().settings.capacity = bytes;
    }

    /// How many bytes of blocks the files that have a name take.
    pub fn used(&self) -> u64 {
        self.lock_inner().state.allocated_pages() * PAGE
    }

    /// Whether syncing a range of a map also makes the length of the file durable. On Linux it does: `msync` ends in
    /// the file system's `fsync` for that range, which writes whatever is needed to read the range back. POSIX does
    /// not say so, and by default neither does this disk.
    pub fn set_sync_range_covers_length(&self, covers: bool) {
        self.lock_inner().settings.sync_range_covers_length = covers;
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock_inner().faults.calls(operation)
    }

    /// Makes a call to come fail.
    pub fn inject(&self, fault: Fault) {
        self.lock_inner().faults.plan(fault);
    }

    /// Forgets the faults that were injected.
    pub fn clear_faults(&self) {
        self.lock_inner().faults.clear();
    }

    /// Writes a mark of yours into the journal: "from here on, so much was promised".
    pub fn mark(&self, mark: u64) {
        self.lock_inner().record(Event::Mark(mark));
    }

    /// A number that is the same for disks on which a process sees the same names, lengths and bytes: for visiting
    /// each image once.
    pub fn state_hash(&self) -> u64 {
        self.lock_inner().state.hash()
    }

    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock()
    }
}

impl Inner {
    fn record(&mut self, event: Event) {
        self.state.apply(&event);
        self.journal.push(event);
    }
}
