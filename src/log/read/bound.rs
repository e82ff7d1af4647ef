//! How far who reads may see.

use crate::log::Shared;
use crate::types::Offset;

/// What a read goes up to, and what who waits for more waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) enum Bound {
    HighWatermark,
    LastStableOffset,
    LogEnd,
}

impl Bound {
    pub(in crate::log) const ALL: [Self; 3] = [Self::HighWatermark, Self::LastStableOffset, Self::LogEnd];
}

/// What somebody waits for: that a bound is above an offset.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) struct Wanted {
    pub(in crate::log) bound: Bound,
    pub(in crate::log) offset: Offset,
}

impl Shared {
    /// Where the bound is now. That of a poisoned log lies nowhere above its durable offset.
    #[inline]
    pub(in crate::log) fn bound(&self, bound: Bound) -> Offset {
        match bound {
            Bound::HighWatermark => self.watermarks.high_watermark(),
            Bound::LastStableOffset => self.last_stable_offset(),
            Bound::LogEnd => self.watermarks.readable_end(),
        }
    }

    /// Whether there is what somebody waits for. In the gap that a truncation inside of a batch has left in front of a bound there
    /// is nothing: who asks from before it, as a follower does by its own log end, waits for what comes behind.
    pub(in crate::log) fn has(&self, wanted: Wanted) -> bool {
        let reached = self.bound(wanted.bound);
        reached > wanted.offset && self.watermarks.batch_end_at(reached) > wanted.offset
    }

    /// Wakes those who wait for what a bound has reached by now. Called by who has moved one; not under a lock, as wakers are
    /// the host's.
    #[inline]
    pub(in crate::log) fn notify_tail(&self) {
        self.tail.notify(|bound| self.bound(bound));
    }

    /// The same behind a sync, which may have ended the log.
    pub(in crate::log) fn notify_behind_sync(&self) {
        if self.commit.is_over() {
            self.report_poison();
            self.tail.notify_all();
        } else {
            self.notify_tail();
        }
    }
}
