//! The offsets that divide a partition, in their order:
//!
//! ```text
//!  log start offset   <=   high watermark   <=   log end offset
//!  |                       |                     |
//!  |  readers see these    |  appended, not yet  |  the next record's offset
//!
//!  durable offset: everything below survives the loss of power; anywhere up to the log end
//! ```

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::options::Durability;
use crate::types::Offset;

/// Each stored with release and loaded with acquire: who sees an offset sees the bytes below it.
#[derive(Debug)]
pub(crate) struct Watermarks {
    log_start: AtomicI64,
    durable: AtomicI64,
    log_end: AtomicI64,
    /// Set by a replicating host; -1 until then.
    high_watermark: AtomicI64,
    /// Whether readers wait for the disk, without a host that says how far they may see.
    synced: AtomicBool,
    /// After a failed sync: what is above the durable offset may have been dropped by the kernel.
    poisoned: AtomicBool,
}

impl Watermarks {
    pub(crate) fn new(log_start: Offset, durable: Offset, log_end: Offset, durability: Durability) -> Self {
        Self {
            log_start: AtomicI64::new(log_start.0),
            durable: AtomicI64::new(durable.0),
            log_end: AtomicI64::new(log_end.0),
            high_watermark: AtomicI64::new(-1),
            synced: AtomicBool::new(durability == Durability::Synced),
            poisoned: AtomicBool::new(false),
        }
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Offset {
        Offset(self.durable.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    /// What can be read at all: everything, or what is durable after a failed sync.
    pub(crate) fn readable_end(&self) -> Offset {
        if self.poisoned.load(Ordering::Acquire) { self.durable() } else { self.log_end() }
    }

    /// What readers see: up to here, exclusive.
    pub(crate) fn high_watermark(&self) -> Offset {
        let set = self.high_watermark.load(Ordering::Acquire);
        if set >= 0 {
            Offset(set).min(self.readable_end())
        } else if self.synced.load(Ordering::Relaxed) {
            self.durable()
        } else {
            self.readable_end()
        }
    }

    pub(crate) fn set_durability(&self, durability: Durability) {
        self.synced.store(durability == Durability::Synced, Ordering::Relaxed);
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    pub(crate) fn set_log_end(&self, offset: Offset) {
        self.log_end.store(offset.0, Ordering::Release);
    }

    /// Moves the durable offset up. Called under the commit lock.
    pub(crate) fn raise_durable(&self, offset: Offset) {
        self.durable.fetch_max(offset.0, Ordering::AcqRel);
    }

    pub(crate) fn set_high_watermark(&self, offset: Offset) {
        self.high_watermark.store(offset.0, Ordering::Release);
    }
}
