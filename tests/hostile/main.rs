//! Input that means harm: batches that lie, directories that are not what they look like, owners that do not agree,
//! producers that flood.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[cfg(target_os = "linux")]
#[path = "../common/alone.rs"]
mod alone;
mod batches;

#[path = "../common/mod.rs"]
mod common;
mod files;
#[cfg(target_os = "linux")]
mod lengths;
#[cfg(target_os = "linux")]
mod owners;
mod producers;
