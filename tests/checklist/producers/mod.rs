//! Checklist A, `ProducerStateManagerTest`: what a partition knows of its producers.

mod expiry;
mod sequences;
mod snapshots;
mod transactions;
mod verification;
