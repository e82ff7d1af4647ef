//! How much of what was appended is not durable yet, held against the bounds of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::append::admission::Admission;
use super::metrics::Counters;
use super::options::Durability;

/// How much of what the counters say was appended is durable.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    durable_bytes: AtomicU64,
    durable_batches: AtomicU64,
}

impl Backlog {
    /// The bound that is exceeded, if one is.
    #[inline]
    pub(super) fn exceeds(&self, counters: &Counters, admission: &Admission) -> Option<&'static str> {
        if admission.durability() == Durability::Buffered { None } else { self.exceeded(counters, admission) }
    }

    fn exceeded(&self, counters: &Counters, admission: &Admission) -> Option<&'static str> {
        let behind =
            |appended: u64, durable: &AtomicU64| appended.saturating_sub(durable.load(Ordering::Relaxed));
        if behind(counters.appended_bytes.get(), &self.durable_bytes) >= admission.max_unsynced_bytes() {
            return Some("max_unsynced_bytes");
        }
        let batches = behind(counters.appended_batches.get(), &self.durable_batches);
        (batches >= admission.max_pending()).then_some("max_pending")
    }

    /// So much of what was appended is durable.
    pub(super) fn raise(&self, bytes: u64, batches: u64) {
        self.durable_bytes.fetch_max(bytes, Ordering::Relaxed);
        self.durable_batches.fetch_max(batches, Ordering::Relaxed);
    }
}
