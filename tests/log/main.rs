//! A partition from outside: appended, read, closed, killed, opened again. Over both I/O modes.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod appends;
mod checkpoints;
#[path = "../common/mod.rs"]
mod common;
mod directory;
#[path = "../common/gate.rs"]
mod gate;
mod opening;
mod producers;
mod reading;
mod transactions;
#[path = "../common/watched.rs"]
mod watched;

use idemlog::{Batch, Error, Log, RejectionReason};

/// Why the log does not take a batch.
fn refusal(log: &Log, batch: &Batch) -> RejectionReason {
    match log.append(batch) {
        Err(Error::Rejected(rejection)) => rejection.reason,
        other => panic!("{other:?}"),
    }
}
