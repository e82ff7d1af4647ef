//! The window of a producer: the last batch is in its entry, the older ones in a block that is a ring once it is full, so
//! that remembering a batch writes one place and reads none.

use std::iter::Chain;
use std::slice;

use super::entry::StoredBatch;

/// How far a block of older batches is filled, and once it is full, where its oldest batch lies: as if it had been filled
/// once and then up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ring(u8);

impl Ring {
    /// Of a block whose first `len` places are taken, oldest first.
    pub(super) fn of(len: usize) -> Self {
        Self(len as u8)
    }

    /// Where the next batch goes in a block of `room` places: in place of the oldest where there is none left.
    #[inline]
    pub(super) fn advance(&mut self, room: usize) -> usize {
        let filled = usize::from(self.0);
        let place = if filled < room { filled } else { filled - room };
        self.0 = if filled + 1 < 2 * room { self.0 + 1 } else { room as u8 };
        place
    }

    /// What the block holds.
    #[inline]
    pub(super) fn view(self, block: &[StoredBatch]) -> Older<'_> {
        let filled = usize::from(self.0);
        let (newer, older) = block.split_at(filled.saturating_sub(block.len()));
        if filled < block.len() { Older { older: &older[..filled], newer } } else { Older { older, newer } }
    }
}

/// The older batches of a window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Older<'a> {
    older: &'a [StoredBatch],
    newer: &'a [StoredBatch],
}

impl<'a> Older<'a> {
    pub(super) fn len(self) -> usize {
        self.older.len() + self.newer.len()
    }

    pub(super) fn first(self) -> Option<&'a StoredBatch> {
        self.older.first()
    }

    /// The oldest that is as asked for.
    #[inline]
    pub(super) fn find(self, mut is_it: impl FnMut(&&'a StoredBatch) -> bool) -> Option<&'a StoredBatch> {
        self.older.iter().find(&mut is_it).or_else(|| self.newer.iter().find(is_it))
    }

    /// Oldest first.
    #[inline]
    pub(super) fn iter(self) -> Chain<slice::Iter<'a, StoredBatch>, slice::Iter<'a, StoredBatch>> {
        self.older.iter().chain(self.newer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Offset;

    #[test]
    fn a_full_block_loses_its_oldest_batch_to_the_next() {
        for room in [1, 2, 4, 63] {
            let (mut ring, mut block) = (Ring::default(), vec![StoredBatch::ABSENT; room]);
            for offset in 0..5 * room as i64 {
                block[ring.advance(room)].last_offset = Offset(offset);
                let older = ring.view(&block);
                let held: Vec<i64> = older.iter().map(|batch| batch.last_offset.0).collect();
                let expected: Vec<i64> = ((offset + 1 - room as i64).max(0)..=offset).collect();
                assert_eq!(held, expected);
                assert_eq!(older.len(), held.len());
                assert_eq!(older.first().map(|batch| batch.last_offset.0), held.first().copied());
            }
        }
    }
}
