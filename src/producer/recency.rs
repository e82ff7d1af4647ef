//! Which producer was silent longest: a list through the entries, from the least to the most recent append.

use super::entry::Entry;
use super::slab::{NONE, Slab};

#[derive(Clone, Copy, Debug)]
pub(super) struct Recency {
    pub(super) least_recent: u32,
    most_recent: u32,
}

impl Recency {
    pub(super) fn new() -> Self {
        Self { least_recent: NONE, most_recent: NONE }
    }

    #[inline]
    pub(super) fn is_most_recent(&self, slot: u32) -> bool {
        self.most_recent == slot
    }

    /// Adds an entry that is not in the list.
    #[inline]
    pub(super) fn push(&mut self, entries: &mut Slab<Entry>, slot: u32) {
        let previous = std::mem::replace(&mut self.most_recent, slot);
        entries[slot].less_recent = previous;
        entries[slot].more_recent = NONE;
        *self.link_behind(entries, previous) = slot;
    }

    /// Takes out an entry that is in the list.
    pub(super) fn remove(&mut self, entries: &mut Slab<Entry>, slot: u32) {
        let Entry { less_recent, more_recent, .. } = entries[slot];
        *self.link_behind(entries, less_recent) = more_recent;
        *self.link_before(entries, more_recent) = less_recent;
    }

    /// An entry of the list, which its neighbours know by its old slot, has moved to `to`.
    pub(super) fn relocate(&mut self, entries: &mut Slab<Entry>, to: u32) {
        let Entry { less_recent, more_recent, .. } = entries[to];
        *self.link_behind(entries, less_recent) = to;
        *self.link_before(entries, more_recent) = to;
    }

    /// The link from `slot` to the more recent neighbour; from the list's beginning where there is no `slot`.
    fn link_behind<'a>(&'a mut self, entries: &'a mut Slab<Entry>, slot: u32) -> &'a mut u32 {
        if slot == NONE { &mut self.least_recent } else { &mut entries[slot].more_recent }
    }

    fn link_before<'a>(&'a mut self, entries: &'a mut Slab<Entry>, slot: u32) -> &'a mut u32 {
        if slot == NONE { &mut self.most_recent } else { &mut entries[slot].less_recent }
    }
}
