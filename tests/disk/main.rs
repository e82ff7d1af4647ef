//! Real disks that are full, read-only, or lose files; a process without descriptors or address space.
//!
//! Every test works in a process of its own: a signal is a failure, and what is mounted or limited is the process's
//! alone. What the machine does not permit is skipped, with a line that says so.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[path = "../common/alone.rs"]
mod alone;
#[path = "../common/mod.rs"]
mod common;
mod dying;
mod full;
mod history;
mod limits;
mod read_only;
mod volume;
