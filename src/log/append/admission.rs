//! What batches must be like to be let in, for a look without the append lock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::batch::{RecordCheck, TimestampType};
use crate::log::options::{Durability, LogOptions};

/// Copies of the options that an append asks for before and after it has the lock: to have them all at once would cost
/// it two atomic instructions. Each is read by itself, so an append under way sees some change before others do; none
/// of them says anything about another.
#[derive(Debug, Default)]
pub(in crate::log) struct Admission {
    is_synced: AtomicBool,
    segment_bytes: AtomicU32,
    max_batch_bytes: AtomicU32,
    checks_records: AtomicBool,
    max_decompressed_bytes: AtomicUsize,
    stamps_time: AtomicBool,
    max_unsynced_bytes: AtomicU64,
    max_pending: AtomicU64,
}

impl Admission {
    pub(in crate::log) fn by(options: &LogOptions) -> Self {
        let admission = Self::default();
        admission.set(options);
        admission
    }

    pub(in crate::log) fn set(&self, options: &LogOptions) {
        self.is_synced.store(options.durability == Durability::Synced, Relaxed);
        self.segment_bytes.store(options.segment_bytes, Relaxed);
        self.max_batch_bytes.store(options.max_batch_bytes, Relaxed);
        self.checks_records.store(options.record_check == RecordCheck::Full, Relaxed);
        self.max_decompressed_bytes.store(options.max_decompressed_bytes, Relaxed);
        self.stamps_time.store(options.timestamp_type == TimestampType::LogAppendTime, Relaxed);
        self.max_unsynced_bytes.store(options.max_unsynced_bytes, Relaxed);
        self.max_pending.store(options.max_pending, Relaxed);
    }

    #[inline]
    pub(in crate::log) fn durability(&self) -> Durability {
        if self.is_synced.load(Relaxed) { Durability::Synced } else { Durability::Buffered }
    }

    #[inline]
    pub(in crate::log) fn segment_bytes(&self) -> u32 {
        self.segment_bytes.load(Relaxed)
    }

    #[inline]
    pub(in crate::log) fn max_batch_bytes(&self) -> u32 {
        self.max_batch_bytes.load(Relaxed)
    }

    #[inline]
    pub(in crate::log) fn record_check(&self) -> RecordCheck {
        if self.checks_records.load(Relaxed) { RecordCheck::Full } else { RecordCheck::Header }
    }

    #[inline]
    pub(in crate::log) fn max_decompressed_bytes(&self) -> usize {
        self.max_decompressed_bytes.load(Relaxed)
    }

    /// Whether the log puts the time of the append into batches.
    #[inline]
    pub(in crate::log) fn stamps_time(&self) -> bool {
        self.stamps_time.load(Relaxed)
    }

    pub(in crate::log) fn max_unsynced_bytes(&self) -> u64 {
        self.max_unsynced_bytes.load(Relaxed)
    }

    pub(in crate::log) fn max_pending(&self) -> u64 {
        self.max_pending.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_is_as_the_options_say() {
        let admission = Admission::by(&LogOptions::default());
        let changed = LogOptions::default()
            .durability(Durability::Buffered)
            .segment_bytes(2001)
            .max_batch_bytes(2002)
            .record_check(RecordCheck::Header)
            .max_decompressed_bytes(2003)
            .timestamp_type(TimestampType::LogAppendTime)
            .max_unsynced_bytes(2004)
            .max_pending(2005);
        for options in [changed, LogOptions::default()] {
            admission.set(&options);
            assert_eq!(admission.durability(), options.durability);
            assert_eq!(admission.segment_bytes(), options.segment_bytes);
            assert_eq!(admission.max_batch_bytes(), options.max_batch_bytes);
            assert_eq!(admission.record_check(), options.record_check);
            assert_eq!(admission.max_decompressed_bytes(), options.max_decompressed_bytes);
            assert_eq!(admission.stamps_time(), options.timestamp_type == TimestampType::LogAppendTime);
            assert_eq!(admission.max_unsynced_bytes(), options.max_unsynced_bytes);
            assert_eq!(admission.max_pending(), options.max_pending);
        }
    }
}
