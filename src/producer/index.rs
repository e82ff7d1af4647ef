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
    /// The slot found last: many appends in a row come from one producer, and the long way looks for it twice.
    found: Cell<u32>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().hash_one(0_u8), buckets: Slab::new(1), found: Cell::new(NONE) }
    }

    /// The index of `count` entries in the order of their slots, and each entry's link in its chain. `None` if a producer
    /// is there twice.
    pub(super) fn of(count: usize, id: impl Fn(usize) -> ProducerId) -> Option<(Self, Vec<u32>)> {
        let (seed, mask) = (Self::new().seed, Mask::of(count));
        let (mut buckets, mut chains) = (vec![NONE; count], vec![NONE; count]);
        let mut seen = Seen::of(count);
        for slot in 0..count {
            let this = id(slot);
            let first = &mut buckets[mask.bucket(hash(this, seed))];
            if seen.insert(this) && is_in_chain(*first, &chains, |slot| id(slot) == this) {
                return None;
            }
            chains[slot] = std::mem::replace(first, slot as u32);
        }
        let buckets = Slab::of(&buckets);
        Some((Self { seed, buckets, found: Cell::new(NONE) }, chains))
    }

    #[inline]
    pub(super) fn find<'a>(&self, entries: &'a Slab<Entry>, id: ProducerId) -> Option<(u32, &'a Entry)> {
        let found = self.found.get();
        match entries.get(found) {
            Some(entry) if entry.producer_id == id => Some((found, entry)),
            _ => self.search(entries, id).inspect(|&(slot, _)| self.found.set(slot)),
        }
    }

    #[inline(never)]
    fn search<'a>(&self, entries: &'a Slab<Entry>, id: ProducerId) -> Option<(u32, &'a Entry)> {
        if self.buckets.len() == 0 {
            return None;
        }
        let mut slot = self.buckets[self.bucket(id)];
        while slot != NONE {
            let entry = &entries[slot];
            if entry.producer_id == id {
                return Some((slot, entry));
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
    fn bucket(&self, id: ProducerId) -> u32 {
        Mask::of(self.buckets.len()).bucket(hash(id, self.seed)) as u32
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.buckets.allocated()
    }
}

/// As many low bits of a hash as name an existing bucket.
struct Mask {
    buckets: u64,
    mask: u64,
}

impl Mask {
    #[inline]
    fn of(buckets: usize) -> Self {
        Self { buckets: buckets as u64, mask: (buckets as u64).next_power_of_two() - 1 }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> usize {
        let bucket = hash & self.mask;
        (if bucket < self.buckets { bucket } else { bucket & (self.mask >> 1) }) as usize
    }
}

#[cold]
fn is_in_chain(first: u32, chains: &[u32], is_it: impl Fn(usize) -> bool) -> bool {
    let link = |slot: u32| (slot != NONE).then_some(slot);
    let mut chain = std::iter::successors(link(first), |&slot| link(chains[slot as usize]));
    chain.any(|slot| is_it(slot as usize))
}

/// A set of producer ids that takes few for one another: bits, by the low bits of the id. Ids are given out in turn, so
/// it mostly looks where it has just looked, and none is taken for another.
struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    /// For so many ids, 16 bits for each or more.
    fn of(count: usize) -> Self {
        Self { bits: vec![0; (count / 4 + 1).next_power_of_two()] }
    }

    /// Whether it, or one like it, was there already.
    #[inline]
    fn insert(&mut self, id: ProducerId) -> bool {
        let bit = id.0 as usize & (self.bits.len() * 64 - 1);
        let (word, mask) = (&mut self.bits[bit / 64], 1 << (bit % 64));
        let was_there = *word & mask != 0;
        *word |= mask;
        was_there
    }
}

/// Sixteen ids in a row have neighbouring buckets, a cache line or two, in their order but for where it begins: ids are
/// given out in turn, and who was given them about the same time appends about the same time. Which buckets, and where it
/// begins, is random, so that no other ids share a bucket more often than by chance.
#[inline]
fn hash(id: ProducerId, seed: u64) -> u64 {
    const ROW: u64 = 16;
    let id = id.0 as u64;
    let mixed = mix((id / ROW) ^ seed);
    (mixed & !(ROW - 1)) | (id.wrapping_add(mixed >> 60) & (ROW - 1))
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
    use std::collections::HashSet;

    use super::*;
    use crate::types::ProducerEpoch;

    #[test]
    fn ids_in_a_row_have_a_bucket_each_and_no_choice_of_ids_shares_few() {
        const COUNT: u64 = 1 << 14;
        for seed in [0, 1, u64::MAX / 3] {
            for row in (0..COUNT).step_by(16) {
                let line = |id: u64| hash(ProducerId(id as i64), seed) / 16;
                let buckets: HashSet<u64> =
                    (row..row + 16).map(|id| hash(ProducerId(id as i64), seed)).collect();
                assert!(buckets.len() == 16 && (row..row + 16).all(|id| line(id) == line(row)));
            }
            for step in [1, 7, 16, 1 << 12, 1 << 32, 1 << 40] {
                let mut buckets = vec![0; COUNT as usize];
                let id = |number: u64| ProducerId((number * step) as i64);
                (0..COUNT).for_each(|number| buckets[(hash(id(number), seed) % COUNT) as usize] += 1);
                let most = buckets.into_iter().max().unwrap();
                assert!(most < 12, "{most} of the ids {step} apart share a bucket");
            }
        }
    }

    #[test]
    fn every_entry_is_found_while_the_index_grows_and_shrinks() {
        let mut entries = Slab::new(1);
        let mut index = Index::new();
        for id in 0..2000_i64 {
            let slot = entries.push(Entry::new(ProducerId(id), ProducerEpoch(0), 0));
            index.insert(&mut entries, slot);
            let find = |id| index.find(&entries, ProducerId(id)).map(|(slot, _)| slot);
            assert!((0..=id).all(|id| find(id) == Some(id as u32)));
            assert_eq!(find(id + 1), None);
        }
        for slot in (0..2000).rev().step_by(2) {
            index.remove(&mut entries, slot);
        }
        assert!((0..2000).all(|id| index.find(&entries, ProducerId(id)).is_some() == (id % 2 == 0)));
    }
}
