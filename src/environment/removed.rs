//! What is left of files that are removed.

use std::sync::{Arc, Weak};

use crate::fs::Map;
use crate::sync::Mutex;

/// The maps of segments whose files are removed, as long as somebody holds slices of them.
#[derive(Debug, Default)]
pub(crate) struct Removed(Mutex<Vec<Weak<Map>>>);

impl Removed {
    pub(crate) fn note(&self, maps: impl Iterator<Item = Arc<Map>>) {
        self.0.lock().extend(maps.map(|map| Arc::downgrade(&map)));
    }

    /// The bytes that are still held.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        let mut maps = self.0.lock();
        maps.retain(|map| map.strong_count() > 0);
        maps.iter().filter_map(Weak::upgrade).map(|map| map.published() as u64).sum()
    }
}
