//! A table made of many producers at once, as a snapshot has them.
//!
//! The index comes first, from the ids alone: in a loop so short the processor fetches several buckets at once. Then each
//! entry is written once, with all its links.

use crate::producer::entry::{Entry, EntryView, Side, StoredBatch};
use crate::producer::index::Index;
use crate::producer::recency::Recency;
use crate::producer::table::ProducerTable;
use crate::types::{Offset, ProducerId};

/// A table that is being filled.
pub(super) struct Restoring {
    table: ProducerTable,
    /// The links between entries of the same bucket.
    chains: Vec<u32>,
    /// When the producer before was seen, and its last offset.
    previous: (u32, Offset),
    /// Whether they came in the order of the recency list so far.
    in_order: bool,
}

impl Restoring {
    /// Fills `table`, which is empty, with the producers of these ids; `None` if one is there twice. Takes memory in
    /// proportion.
    pub(super) fn new(
        mut table: ProducerTable,
        count: usize,
        id: impl Fn(usize) -> ProducerId,
    ) -> Option<Self> {
        let (index, chains) = Index::of(count, id)?;
        table.index = index;
        Some(Self { table, chains, previous: (0, Offset(i64::MIN)), in_order: true })
    }

    /// Adds the next producer with all that is remembered of it.
    #[inline]
    pub(super) fn add(&mut self, entry: Entry, older: &[StoredBatch], side: Side) {
        let key = recency_key(&entry);
        let chain = self.chains[self.table.len()];
        self.table.restore(Entry { chain, ..entry }, older, side);
        self.in_order &= self.previous <= key;
        self.previous = key;
    }

    /// The table.
    pub(super) fn finish(mut self) -> ProducerTable {
        if !self.in_order {
            order_by_recency(&mut self.table);
        }
        self.table
    }
}

/// By when they were seen, then by their last offsets.
fn recency_key(entry: &Entry) -> (u32, Offset) {
    (entry.last_seen, entry.last.last_offset)
}

fn order_by_recency(table: &mut ProducerTable) {
    let key = |(slot, view): (u32, EntryView<'_>)| {
        let (seen, offset) = recency_key(view.entry);
        // One number, because comparing that does not branch; without its sign an offset keeps its place.
        let offset = offset.0 as u64 ^ (1 << 63);
        (u128::from(seen) << 96) | (u128::from(offset) << 32) | u128::from(slot)
    };
    let mut order = Vec::with_capacity(table.len());
    let listed = |(_, view): &(u32, EntryView<'_>)| view.side.transaction_first.is_none();
    order.extend((0..).zip(table.views()).filter(listed).map(key));
    // Stable, because that sorts what is nearly in order in one go.
    order.sort();
    table.recency = Recency::new();
    for key in order {
        table.recency.push(&mut table.entries, key as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::ProducerPolicy;
    use crate::producer::slab::NONE;
    use crate::types::ProducerEpoch;

    fn restored(ids: &[i64]) -> Option<ProducerTable> {
        let table = ProducerTable::new(ProducerPolicy::default());
        let mut restoring = Restoring::new(table, ids.len(), |slot| ProducerId(ids[slot]))?;
        for &id in ids {
            restoring.add(Entry::new(ProducerId(id), ProducerEpoch(0), 0), &[], Side::NOTHING);
        }
        Some(restoring.finish())
    }

    #[test]
    fn producers_in_no_order_are_listed_by_when_they_were_seen_and_then_by_offset() {
        let seen = [(1, i64::MAX), (0, 5), (1, -1), (0, -1)];
        let table = ProducerTable::new(ProducerPolicy::default());
        let mut restoring = Restoring::new(table, seen.len(), |slot| ProducerId(slot as i64)).unwrap();
        for (id, (seconds, offset)) in (0..).zip(seen) {
            let mut entry = Entry::new(ProducerId(id), ProducerEpoch(0), seconds);
            entry.last.last_offset = Offset(offset);
            restoring.add(entry, &[], Side::NOTHING);
        }
        let table = restoring.finish();
        let more_recent = |&slot: &u32| Some(table.entries[slot].more_recent).filter(|&slot| slot != NONE);
        let listed = std::iter::successors(Some(table.recency.least_recent), more_recent);
        assert_eq!(listed.collect::<Vec<_>>(), [3, 1, 2, 0]);
    }

    #[test]
    fn a_producer_that_is_there_twice_is_found_out() {
        let many: Vec<i64> = (0..5000).collect();
        // All take one another for the same.
        let alike: Vec<i64> = (0..5000).map(|number| number << 40).collect();
        for ids in [&[][..], &[7], &[7, 8], &many, &alike] {
            let table = restored(ids).unwrap();
            assert!(ids.iter().all(|&id| table.knows(ProducerId(id))));
            assert!(!table.knows(ProducerId(5001)));
        }
        for ids in [&[7, 7][..], &[7, 8, 7], &[&many[..], &[2500]].concat(), &[&alike[..], &[0]].concat()] {
            assert!(restored(ids).is_none());
        }
    }
}
