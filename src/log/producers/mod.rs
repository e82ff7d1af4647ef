//! What a partition knows of its producers: told and refused, forgotten, written to the disk, and taken from one replica to
//! another.

mod forgetting;
mod known;
pub(super) mod snapshots;
mod transfer;

pub use transfer::ProducerStates;

use super::{Appender, Shared};
use crate::producer::ProducerTable;

impl Shared {
    /// Has another table take the place of the one that was known, with what that one has counted and the directory refuses.
    pub(super) fn replace_producers(&self, appender: &mut Appender, mut producers: ProducerTable) {
        producers.succeed(&appender.producers);
        self.environment.fences.raise_in(&mut producers);
        appender.producers = producers;
        self.reset_transactions(&appender.producers);
    }
}
