//! How far who reads may see.

use super::Shared;
use crate::types::Offset;

/// What a read goes up to, and what who waits for more waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    HighWatermark,
    LastStableOffset,
    LogEnd,
}

impl Shared {
    /// Where the bound is now. That of a poisoned log lies nowhere above its durable offset.
    #[inline]
    pub(super) fn bound(&self, bound: Bound) -> Offset {
        match bound {
            Bound::HighWatermark => self.watermarks.high_watermark(),
            Bound::LastStableOffset => self.last_stable_offset(),
            Bound::LogEnd => self.watermarks.readable_end(),
        }
    }
}
