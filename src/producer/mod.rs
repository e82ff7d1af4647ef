//! Idempotence: what is remembered of each producer, and what that makes of its next batch. Pure: no clock, no lock, no
//! file.
//!
//! - `decision`: the rules, as one function and one table.
//! - `table`: all producers of a partition, over `entry`, `slab`, `index`, `recency` and `clock`.
//! - `staging`: several batches in one call.
//! - `snapshot`: the table as bytes.
//! - `policy`: what a host can choose.

mod clock;
mod decision;
mod entry;
mod index;
mod policy;
mod recency;
mod slab;
pub(crate) mod snapshot;
mod staging;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use decision::{Context, Decision, Duplicate, Origin};
pub use entry::{ProducerBatch, ProducerInfo};
pub use policy::{DuplicateCheck, ExpiryClock, FirstAppend, ProducerPolicy, SequenceRule};
pub(crate) use snapshot::SnapshotIdentity;
pub(crate) use staging::Staging;
#[cfg(test)]
pub(crate) use table::TransactionEffect;
pub(crate) use table::{ExpiryCursor, ProducerTable};
