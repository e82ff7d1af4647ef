//! The only system calls. What is here moves bytes and names; it decides nothing.
//!
//! [`Disk`] is a file system, [`DiskFile`] an open file of it, [`Map`] and [`MapWriter`] a file's bytes in memory.
//! [`RealDisk`] is the operating system's, [`sim::SimDisk`] a simulated one that can lose power.

pub(crate) mod atomic;
#[cfg(test)]
mod contract;
mod disk;
pub(crate) mod lock;
mod map;
mod map_count;
pub(crate) mod missing;
pub(crate) mod name;
mod observer;
mod pages;
mod real;
pub mod sim;

pub(crate) use disk::read_whole;
pub use disk::{Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode};
pub(crate) use map::prefetch;
pub use map::{Map, MapWriter};
pub(crate) use map_count::mapped_files;
pub use observer::MapObserver;
pub use pages::Pages;
pub use real::RealDisk;
