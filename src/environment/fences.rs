//! Which named producers are refused, in all partitions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::producer::ProducerTable;
use crate::types::{ProducerEpoch, ProducerId};

/// The epochs below which named producers are refused, also in partitions that never heard of them.
#[derive(Debug, Default)]
pub(crate) struct Fences {
    epochs: RwLock<HashMap<ProducerId, ProducerEpoch>>,
    count: AtomicUsize,
}

impl Fences {
    /// The lowest epoch accepted from `id`, if it is fenced at all.
    #[inline]
    pub(crate) fn get(&self, id: ProducerId) -> Option<ProducerEpoch> {
        if self.count.load(Ordering::Acquire) == 0 { None } else { self.search(id) }
    }

    #[cold]
    fn search(&self, id: ProducerId) -> Option<ProducerEpoch> {
        self.epochs.read().get(&id).copied()
    }

    pub(crate) fn raise(&self, id: ProducerId, epoch: ProducerEpoch) {
        let mut epochs = self.epochs.write();
        let fence = epochs.entry(id).or_insert(epoch);
        *fence = epoch.max(*fence);
        self.count.store(epochs.len(), Ordering::Release);
    }

    /// Has a table that is taken into use refuse them, too. Goes through the fewer: names or producers.
    pub(crate) fn raise_in(&self, producers: &mut ProducerTable) {
        let epochs = self.epochs.read();
        if epochs.len() < producers.len() {
            epochs.iter().for_each(|(&id, &epoch)| producers.raise_epoch(id, epoch));
        } else {
            producers.raise_epochs(|id| epochs.get(&id).copied());
        }
    }
}
