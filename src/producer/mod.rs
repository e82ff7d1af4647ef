//! Idempotence: what is remembered of each producer, and what that makes of its next batch. Pure: no clock, no lock, no
//! file.
//!
//! - `decision`: the rules, as one function and one table.
//! - `table`: all producers of a partition, over `entry`, `window`, `slab`, `index`, `recency` and `clock`.
//! - `copying`: all of them, as a host is told, in steps.
//! - `staging`: several batches in one call.
//! - `verification`: the transactions that a coordinator was asked about.
//! - `snapshot`: the table as bytes, and back; newer bytes from older ones.
//! - `policy`: what a host can choose.

mod clock;
mod copying;
mod decision;
mod entry;
mod index;
mod policy;
mod recency;
mod slab;
pub(crate) mod snapshot;
mod staging;
mod table;
mod verification;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use copying::Copying;
pub(crate) use decision::{Context, Decision, Duplicate, Origin};
pub use entry::{ProducerBatch, ProducerInfo};
pub use policy::{DuplicateCheck, ExpiryClock, FirstAppend, ProducerPolicy, SequenceRule};
pub(crate) use snapshot::{Fate, Fold, SnapshotIdentity};
pub(crate) use staging::Staging;
pub(crate) use table::{PlainProducer, ProducerTable, TableCursor};
pub use verification::VerificationGuard;
pub(crate) use verification::{Verification, Verifications};
