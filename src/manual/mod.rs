//! The chapters behind the reference: what the items' own pages cannot tell because it concerns several of them.
//!
//! * [`format`](mod@format): the files, byte by byte where they are ours, and a batch taken apart.
//! * [`idempotence`]: when a batch is a duplicate, when it is refused, and what to answer a client.
//! * [`durability`]: what survives which crash, and what that costs.
//! * [`reading`]: fetching, waiting for more, what is checked, and how long bytes stay.
//! * [`survival`]: what survives what, operation by operation, with the test that shows it; what is assumed of the disk.
//! * [`recovery`]: what opening does, step by step, and how to read its report.
//! * [`transactions`]: what is decided, who may see it, and how to end one.
//! * [`replication`]: following another log, taking back what it does not have, and deleting what is old.
//! * [`operations`]: what to size, what to watch, and what to do when something breaks.
//!
//! These words are used in one meaning each:
//!
//! | word | means |
//! |---|---|
//! | offset / position | the logical number of a record / a place in a file, in bytes |
//! | batch / record | the unit of write, CRC and idempotence / one key and value in it |
//! | segment, active or sealed | a `.log` file with its indexes; the last one / the others |
//! | log start offset, high watermark, log end offset | the first offset there is, the end of what readers see, the offset of the next record |
//! | last stable offset | below it every transaction is decided; never above the high watermark |
//! | retention / truncation | taking away from the head / from the end |
//! | durable offset | everything below it survives the loss of power |
//! | recovery point | everything below it is durable, indexed and in a snapshot; it is written down |
//! | producer id, producer epoch, sequence | who wrote a batch, in which incarnation, as which of its records |
//! | leader epoch | which leadership of the partition wrote a batch; unrelated to producers |
//! | snapshot / checkpoint | the known producers, in a file / a small text file of offsets |
//! | roll, seal, sync | start a new segment / make one immutable / wait until the disk has it |

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("idempotence.md")]
pub mod idempotence {}

#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("reading.md")]
pub mod reading {}

#[doc = include_str!("survival.md")]
pub mod survival {}

#[doc = include_str!("recovery.md")]
pub mod recovery {}

#[doc = include_str!("transactions.md")]
pub mod transactions {}

#[doc = include_str!("replication.md")]
pub mod replication {}

#[doc = include_str!("operations.md")]
pub mod operations {}
