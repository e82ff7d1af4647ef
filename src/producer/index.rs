//! Which slot a producer is in: a hash index that grows by one bucket at a time (linear hashing, Litwin 1980).
//!
//! There are as many buckets as entries. A bucket is the slot of the first entry of a chain, and each entry holds the
//! slot of the next. When an entry comes, one bucket is split in two, so no append ever pays for a rehash. Finding an
//! entry reads its bucket and, on average, one and a half entries.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use super::entry::Entry;
use super::slab::{NONE, Slab};
use crate::types::ProducerId;

#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Random, so that nobody can choose producer ids that share a bucket.
    seed: u64,
    buckets: Slab<u32>,
    /// The slot found last: an append looks for its producer twice, to be judged and to be applied.
    found: Cell<u32>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0_u8), buckets: Slab::new(1), found: Cell::new(NONE) }
    }

    /// The index of `entries`. Much faster than one insertion after the other: nothing waits for memory. `None` if a
    /// producer is there twice.
    pub(super) fn of(entries: &mut Slab<Entry>) -> Option<Self> {
        let mut index = Self::new();
        for _ in 0..entries.len() {
            index.buckets.push(NONE);
        }
        let mut seen = Seen::of(entries.len());
        for slot in 0..entries.len() as u32 {
            let id = entries[slot].producer_id;
            if seen.insert(index.hash(id)) && index.find(entries, id).is_some() {
                return None;
            }
            index.push(entries, slot);
        }
        Some(index)
    }

    #[inline]
    pub(super) fn find(&self, entries: &Slab<Entry>, id: ProducerId) -> Option<u32> {
        let found = self.found.get();
        if (found as usize) < entries.len() && entries[found].producer_id == id {
            return Some(found);
        }
        self.search(entries, id).inspect(|&slot| self.found.set(slot))
    }

    #[inline]
    fn search(&self, entries: &Slab<Entry>, id: ProducerId) -> Option<u32> {
        if self.buckets.len() == 0 {
            return None;
        }
        let mut slot = self.buckets[self.bucket(id)];
        while slot != NONE {
            let entry = &entries[slot];
            if entry.producer_id == id {
                return Some(slot);
            }
            slot = entry.chain;
        }
        None
    }

    /// Adds the entry in `slot`, which no chain holds yet.
    pub(super) fn insert(&mut self, entries: &mut Slab<Entry>, slot: u32) {
        if self.buckets.len() < entries.len() {
            self.split(entries);
        }
        self.push(entries, slot);
    }

    /// Takes the entry in `slot` out of its chain.
    pub(super) fn remove(&mut self, entries: &mut Slab<Entry>, slot: u32) {
        let Entry { producer_id, chain, .. } = entries[slot];
        self.found.set(NONE);
        self.replace(entries, producer_id, slot, chain);
    }

    /// Makes the link that leads to `from`, in the chain of `id`, lead to `to`.
    pub(super) fn replace(&mut self, entries: &mut Slab<Entry>, id: ProducerId, from: u32, to: u32) {
        let bucket = self.bucket(id);
        if self.buckets[bucket] == from {
            self.buckets[bucket] = to;
            return;
        }
        let mut slot = self.buckets[bucket];
        while entries[slot].chain != from {
            slot = entries[slot].chain;
        }
        entries[slot].chain = to;
    }

    fn push(&mut self, entries: &mut Slab<Entry>, slot: u32) {
        let bucket = self.bucket(entries[slot].producer_id);
        entries[slot].chain = self.buckets[bucket];
        self.buckets[bucket] = slot;
    }

    /// Adds a bucket and spreads the entries of the one that it shares its hashes with over both.
    fn split(&mut self, entries: &mut Slab<Entry>) {
        let added = self.buckets.push(NONE);
        if added == 0 {
            return;
        }
        let shared = added - (1 << added.ilog2());
        let mut slot = std::mem::replace(&mut self.buckets[shared], NONE);
        while slot != NONE {
            let next = entries[slot].chain;
            self.push(entries, slot);
            slot = next;
        }
    }

    #[inline]
    fn hash(&self, id: ProducerId) -> u64 {
        mix(id.0 as u64 ^ self.seed)
    }

    /// As many low bits of the hash as name an existing bucket.
    #[inline]
    fn bucket(&self, id: ProducerId) -> u32 {
        let hash = self.hash(id);
        let buckets = self.buckets.len() as u64;
        let mask = buckets.next_power_of_two() - 1;
        let bucket = hash & mask;
        (if bucket < buckets { bucket } else { bucket & (mask >> 1) }) as u32
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.buckets.allocated()
    }
}

/// A set of hashes that takes few for one another: bits, by the high bits of the hash. It fits into a cache where the
/// entries do not, so of a million of them hardly any chain is walked.
struct Seen {
    bits: Vec<u64>,
    shift: u32,
}

impl Seen {
    /// For so many hashes, 16 bits for each or more.
    fn of(count: usize) -> Self {
        let words = (count / 4 + 1).next_power_of_two();
        Self { bits: vec![0; words], shift: u64::BITS - (words as u64 * 64).ilog2() }
    }

    /// Whether it, or one like it, was there already.
    fn insert(&mut self, hash: u64) -> bool {
        let bit = hash >> self.shift;
        let (word, mask) = (&mut self.bits[(bit / 64) as usize], 1 << (bit % 64));
        let was_there = *word & mask != 0;
        *word |= mask;
        was_there
    }
}

/// Spreads every bit of the id over the low bits (the finalizer of splitmix64).
#[inline]
fn mix(id: u64) -> u64 {
    let id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    id ^ (id >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ProducerEpoch;

    #[test]
    fn an_entry_that_is_there_twice_is_found_out() {
        let entries = |ids: &[i64]| {
            let mut entries = Slab::new(1);
            for &id in ids {
                entries.push(Entry::new(ProducerId(id), ProducerEpoch(0), 0));
            }
            entries
        };
        let many: Vec<i64> = (0..5000).collect();
        for ids in [&[][..], &[7], &[7, 8], &many] {
            assert!(Index::of(&mut entries(ids)).is_some());
        }
        for ids in [&[7, 7][..], &[7, 8, 7], &[&many[..], &[2500]].concat()] {
            assert!(Index::of(&mut entries(ids)).is_none());
        }
    }

    #[test]
    fn every_entry_is_found_while_the_index_grows_and_shrinks() {
        let mut entries = Slab::new(1);
        let mut index = Index::new();
        for id in 0..2000_i64 {
            let slot = entries.push(Entry::new(ProducerId(id), ProducerEpoch(0), 0));
            index.insert(&mut entries, slot);
            assert!((0..=id).all(|id| index.find(&entries, ProducerId(id)) == Some(id as u32)));
            assert_eq!(index.find(&entries, ProducerId(id + 1)), None);
        }
        for slot in (0..2000).rev().step_by(2) {
            index.remove(&mut entries, slot);
        }
        assert!((0..2000).all(|id| index.find(&entries, ProducerId(id)).is_some() == (id % 2 == 0)));
    }
}
