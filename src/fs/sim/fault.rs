//! Calls that fail on purpose.

use std::io;

/// The kinds of calls that are counted and can be made to fail.
///
/// ```
/// use idemlog::sim::{Operation, SimDisk};
/// use idemlog::{Disk, IoMode};
///
/// let disk = SimDisk::new(IoMode::Mapped);
/// disk.create_directory("/data".as_ref())?;
/// assert_eq!(disk.calls(Operation::CreateDirectory), 1);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Opening a file that exists.
    Open,
    /// Creating a file.
    Create,
    /// Creating a directory.
    CreateDirectory,
    /// Reading from a file.
    Read,
    /// Writing to a file (not storing into a map).
    Write,
    /// Changing a file's length.
    SetLen,
    /// Allocating blocks.
    Allocate,
    /// Syncing a file, or a range of a map.
    Sync,
    /// Mapping a file.
    Map,
    /// Populating pages of a map.
    Populate,
    /// Renaming a file or directory.
    Rename,
    /// Removing a file or directory.
    Remove,
    /// Listing a directory.
    List,
    /// Syncing a directory.
    SyncDirectory,
    /// Taking a lock.
    Lock,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Open,
        Self::Create,
        Self::CreateDirectory,
        Self::Read,
        Self::Write,
        Self::SetLen,
        Self::Allocate,
        Self::Sync,
        Self::Map,
        Self::Populate,
        Self::Rename,
        Self::Remove,
        Self::List,
        Self::SyncDirectory,
        Self::Lock,
    ];
}

/// What becomes of the bytes that a failed sync was to make durable. File systems differ in it.
///
/// ```
/// use idemlog::sim::{Fault, FailedSync, Operation};
///
/// // As ext4 and xfs: the next sync succeeds although the bytes never reached the disk.
/// let fault = Fault::nth(Operation::Sync, 1).pages(FailedSync::Dropped);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailedSync {
    /// They stay to be written: a later sync that succeeds makes them durable.
    Kept,
    /// They can still be read but count as written: a later sync succeeds without writing them.
    Dropped,
    /// As `Dropped`, and memory pressure evicts them: reading the file gives the old bytes again. (A map that exists
    /// keeps what it shows.)
    Reverted,
}

/// A call that fails: which, how often, and with what.
///
/// ```
/// use idemlog::sim::{Fault, Operation, SimDisk};
/// use idemlog::{Disk, IoMode};
///
/// let disk = SimDisk::new(IoMode::Mapped);
/// disk.inject(Fault::nth(Operation::List, 2).errno(Fault::EIO));
/// assert!(disk.list("/".as_ref()).is_ok());
/// assert!(disk.list("/".as_ref()).is_err());
/// assert!(disk.list("/".as_ref()).is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    operation: Operation,
    call: u64,
    /// What the path must have in it.
    part: String,
    lasting: bool,
    errno: i32,
    pub(super) halfway: bool,
    pub(super) pages: FailedSync,
    panics: bool,
}

impl Fault {
    /// What a planned panic says.
    pub const PANIC: &'static str = "a call of the simulated disk panics, as it was told to";

    /// The device failed.
    pub const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    /// No space is left.
    pub const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
    /// A signal came in between.
    pub const EINTR: i32 = rustix::io::Errno::INTR.raw_os_error();
    /// The process has too many open files.
    pub const EMFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();

    /// The `call`-th call of this kind fails, the next one being the first: once, with `EIO`, without effect.
    pub fn nth(operation: Operation, call: u64) -> Self {
        let (errno, pages) = (Self::EIO, FailedSync::Kept);
        let part = String::new();
        Self { operation, call, part, lasting: false, errno, halfway: false, pages, panics: false }
    }

    /// Only calls for a file or directory with `part` in its path count, and fail: of many partitions one, or of its files
    /// one kind. The path begins with `/` and ends with `/`, that of a file, too: `orders-1/` is that partition and all in it
    /// and not `orders-10`, `.snapshot/` its snapshots but for those that have a name to come. A file is known by the
    /// name that it has at the moment of the call, and by both in a rename.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use idemlog::sim::{Fault, Operation, SimDisk};
    /// use idemlog::{BatchBuilder, Error, IoMode, LogDir, LogDirOptions};
    ///
    /// let disk = SimDisk::new(IoMode::Write);
    /// let dir = LogDir::open("/data", LogDirOptions::default().disk(Arc::new(disk.clone())))?;
    /// let (one, ten) = (dir.partition("orders", 1)?, dir.partition("orders", 10)?);
    /// let batch = BatchBuilder::new().record(b"key", b"value").build()?;
    /// one.append(&batch)?;
    ///
    /// disk.inject(Fault::nth(Operation::Sync, 1).on("orders-1/"));
    /// ten.append(&batch)?;
    /// assert!(matches!(one.append(&batch), Err(Error::InDoubt)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn on(self, part: impl Into<String>) -> Self {
        Self { part: part.into(), ..self }
    }

    /// All later calls fail as well.
    #[must_use]
    pub fn forever(self) -> Self {
        Self { lasting: true, ..self }
    }

    /// The operating system's number of the error.
    #[must_use]
    pub fn errno(self, errno: i32) -> Self {
        Self { errno, ..self }
    }

    /// A write or an allocation does the first half of its work before it fails.
    #[must_use]
    pub fn halfway(self) -> Self {
        Self { halfway: true, ..self }
    }

    /// What a failed sync does to the bytes it was called for.
    #[must_use]
    pub fn pages(self, pages: FailedSync) -> Self {
        Self { pages, ..self }
    }

    /// It panics with [`Fault::PANIC`] in place of an error, as a disk of a host's may that unwraps one.
    ///
    /// ```
    /// use idemlog::sim::{Fault, Operation, SimDisk};
    /// use idemlog::{Disk, IoMode};
    ///
    /// let disk = SimDisk::new(IoMode::Write);
    /// disk.inject(Fault::nth(Operation::List, 1).panics());
    /// assert!(std::thread::spawn(move || disk.list("/".as_ref()).map(drop)).join().is_err());
    /// ```
    #[must_use]
    pub fn panics(self) -> Self {
        Self { panics: true, ..self }
    }

    pub(super) fn error(&self) -> io::Error {
        assert!(!self.panics, "{}", Self::PANIC);
        io::Error::from_raw_os_error(self.errno)
    }
}

/// How often each operation was called, and which calls are to fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: [u64; Operation::ALL.len()],
    planned: Vec<Planned>,
}

/// A fault, and how many of the calls that it counts there were since.
#[derive(Debug)]
struct Planned {
    fault: Fault,
    calls: u64,
}

impl Planned {
    /// Counts a call that it may be meant for, and says whether it is.
    fn is_hit(&mut self) -> bool {
        self.calls += 1;
        let call = self.fault.call.max(1);
        self.calls == call || self.fault.lasting && self.calls > call
    }
}

impl Faults {
    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls[operation as usize]
    }

    /// Plans a fault, counted from now.
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(Planned { fault, calls: 0 });
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// Counts a call, and says whether it fails. `has`: whether there is something in the path of what it is for.
    pub(super) fn call(&mut self, operation: Operation, has: impl Fn(&str) -> bool) -> Result<(), Fault> {
        self.calls[operation as usize] += 1;
        let mut hit = None;
        for planned in self.planned.iter_mut().filter(|planned| planned.fault.operation == operation) {
            let part = &planned.fault.part;
            if (part.is_empty() || has(part)) && planned.is_hit() && hit.is_none() {
                hit = Some(planned.fault.clone());
            }
        }
        hit.map_or(Ok(()), Err)
    }
}
