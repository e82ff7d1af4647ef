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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) operation: Operation,
    pub(super) call: u64,
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
        Self { operation, call, lasting: false, errno, halfway: false, pages, panics: false }
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

    pub(super) fn error(self) -> io::Error {
        assert!(!self.panics, "{}", Self::PANIC);
        io::Error::from_raw_os_error(self.errno)
    }
}

/// How often each operation was called, and which calls are to fail.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: [u64; Operation::ALL.len()],
    planned: Vec<Fault>,
}

impl Faults {
    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls[operation as usize]
    }

    /// Plans a fault, counted from now.
    pub(super) fn plan(&mut self, fault: Fault) {
        let call = self.calls(fault.operation) + fault.call.max(1);
        self.planned.push(Fault { call, ..fault });
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// Counts a call, and says whether it fails.
    pub(super) fn call(&mut self, operation: Operation) -> Result<(), Fault> {
        self.calls[operation as usize] += 1;
        let call = self.calls(operation);
        let hit = |fault: &&Fault| {
            fault.operation == operation && (fault.call == call || fault.lasting && fault.call < call)
        };
        self.planned.iter().find(hit).map_or(Ok(()), |fault| Err(*fault))
    }
}
