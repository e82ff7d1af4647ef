//! Checklist C, `UnifiedLogTest`: appends, transactions, truncation, retention and identity of a partition.

mod appends;
mod ends;
mod identity;
mod producers;
mod retention;
mod snapshots;
mod transactions;
