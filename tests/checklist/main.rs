//! The cases of Kafka's own tests of its log that concern what this crate promises, one test each.
//!
//! Each test names the case by its number in the checklist (A: `ProducerStateManagerTest`, B: `LogLoaderTest`,
//! C: `UnifiedLogTest`) and by Kafka's name for it. Where this engine is meant to differ, the test says so and asserts
//! what this engine does. Every test runs over both ways to the disk.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod partition;
mod producers;
mod recovery;
