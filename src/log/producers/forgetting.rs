//! Producers that are forgotten: because they are idle, because there are too many, and from what is written of them.

use std::collections::HashSet;

use smallvec::SmallVec;

use crate::log::{Appender, Log, Shared};
use crate::producer::TableCursor;
use crate::types::{ProducerId, Timestamp};

/// How many producers are looked at while appends wait.
const LOOK_UPS: usize = 32;

impl Log {
    /// Forgets the producers that were idle for too long, and of those above the budget whom it may; a few at a time, with the
    /// append lock free in between. Also happens on its own, every
    /// [`LogOptions::expiry_interval_ms`](crate::LogOptions::expiry_interval_ms) at the most while there are appends. The disk has
    /// it with the next snapshot: after a crash before that they are known again.
    pub fn expire_producers(&self) {
        self.shared.expire_producers();
    }
}

impl Shared {
    /// Forgets idle producers and those above the budget, and verifications, with the append lock free between the steps.
    pub(in crate::log) fn expire_producers(&self) {
        let expiry_ms = self.options().producers.expiry_ms;
        while self.step(|appender, now| appender.verifications.expire(LOOK_UPS, now, expiry_ms)) > 0 {}
        while self.step(|appender, now| appender.producers.evict_excess(LOOK_UPS, now)) > 0 {}
        let mut cursor = Some(TableCursor::START);
        while let Some(from) = cursor {
            cursor = self.step(|appender, now| appender.producers.expire_step(from, LOOK_UPS, now));
        }
    }

    /// A step under the append lock, at the time that it is there. By an earlier one the producers, who have seen the appends
    /// in between, would take the clock for one that was put back, and count the time since then twice.
    fn step<T>(&self, step: impl FnOnce(&mut Appender, Timestamp) -> T) -> T {
        let mut appender = self.appender.lock();
        let now = self.now();
        step(&mut appender, now)
    }

    /// Which of these have expired or were evicted: they do not come back, but for one whose transaction was open then. Looks
    /// for a few at a time under the append lock, and at nothing else.
    pub(super) fn forgotten(&self, mut ids: impl Iterator<Item = ProducerId>) -> HashSet<ProducerId> {
        let mut forgotten = HashSet::new();
        if !self.appender.lock().producers.has_forgotten() {
            return forgotten;
        }
        loop {
            let few: SmallVec<[ProducerId; LOOK_UPS]> = ids.by_ref().take(LOOK_UPS).collect();
            if few.is_empty() {
                return forgotten;
            }
            let appender = self.appender.lock();
            forgotten.extend(few.into_iter().filter(|&id| !appender.producers.knows(id)));
        }
    }
}
