//! The aborted transactions whose markers lie in a segment: what a reader of committed records must leave out.
//!
//! A file of entries of 34 bytes, see [`AbortedTransaction`]; a segment without an aborted transaction has none.
//! Source: `TransactionIndex` of Apache Kafka.

use crate::error::CorruptionKind;
use crate::transaction::AbortedTransaction;
use crate::types::Offset;

/// The size of an entry in the file.
const ENTRY_SIZE: usize = AbortedTransaction::SIZE;

/// The transaction index of one segment: entries in the order of their markers, whose offsets strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionIndex {
    entries: Vec<AbortedTransaction>,
}

impl TransactionIndex {
    /// Every entry, in the order of the markers.
    pub(crate) fn entries(&self) -> &[AbortedTransaction] {
        &self.entries
    }

    /// Adds a transaction whose marker was appended. Returns whether it is in now: one whose marker is not behind that
    /// of the last entry is there already.
    pub(crate) fn append(&mut self, aborted: AbortedTransaction) -> bool {
        let is_news = self.entries.last().is_none_or(|last| last.last_offset < aborted.last_offset);
        if is_news {
            self.entries.push(aborted);
        }
        is_news
    }

    /// Adds to `found` the transactions that have records in [`fetch`, `end`), in this segment or before it.
    ///
    /// Returns whether the search is complete; if not, the following segments may have more.
    pub(crate) fn collect(&self, fetch: Offset, end: Offset, found: &mut Vec<AbortedTransaction>) -> bool {
        let first = self.entries.partition_point(|aborted| aborted.last_offset < fetch);
        for aborted in &self.entries[first..] {
            if aborted.first_offset < end {
                found.push(*aborted);
            }
            // All transactions that were open at this marker began at its last stable offset or later.
            if aborted.last_stable_offset >= end {
                return true;
            }
        }
        false
    }

    /// Drops the entries whose marker is at `target` or behind it.
    pub(crate) fn truncate(&mut self, target: Offset) {
        self.entries.truncate(self.entries.partition_point(|aborted| aborted.last_offset < target));
    }

    /// The bytes of the file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.entries.iter().flat_map(AbortedTransaction::encode).collect()
    }

    /// The index in a file's bytes, of the segment that begins at `base`.
    ///
    /// # Errors
    ///
    /// [`CorruptionKind::Length`] for a file that ends inside an entry, [`CorruptionKind::Format`] if a marker lies
    /// before the segment or not behind the one before; those of an entry.
    pub(crate) fn decode(base: Offset, bytes: &[u8]) -> Result<Self, CorruptionKind> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_SIZE>();
        if !rest.is_empty() {
            let whole = (bytes.len() - rest.len()) as u64;
            return Err(CorruptionKind::Length { expected: whole, got: bytes.len() as u64 });
        }
        let mut index = Self::default();
        for entry in entries {
            let aborted = AbortedTransaction::decode(entry)?;
            if aborted.last_offset < base {
                return Err(CorruptionKind::Format("an aborted transaction ended before the segment"));
            }
            if !index.append(aborted) {
                return Err(CorruptionKind::Format("aborted transactions do not increase"));
            }
        }
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ProducerId;

    fn aborted(producer: i64, first: i64, last: i64, last_stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(last_stable),
        }
    }

    /// Four transactions, of which the first two and the last two overlap.
    fn index() -> TransactionIndex {
        let mut index = TransactionIndex::default();
        for entry in
            [aborted(0, 0, 10, 5), aborted(1, 5, 15, 16), aborted(2, 18, 35, 32), aborted(3, 32, 50, 51)]
        {
            assert!(index.append(entry));
        }
        index
    }

    #[test]
    fn a_look_up_finds_what_overlaps_the_fetched_range() {
        let cases: [(i64, i64, &[usize], bool); 8] = [
            (0, 100, &[0, 1, 2, 3], false),
            (0, 16, &[0, 1], true),
            (0, 17, &[0, 1], true),
            (0, 32, &[0, 1, 2], true),
            (0, 33, &[0, 1, 2, 3], true),
            (10, 33, &[0, 1, 2, 3], true),
            (11, 33, &[1, 2, 3], true),
            (51, 60, &[], false),
        ];
        let index = index();
        for (fetch, end, expected, complete) in cases {
            let mut found = Vec::new();
            assert_eq!(index.collect(Offset(fetch), Offset(end), &mut found), complete, "{fetch}..{end}");
            let expected: Vec<_> = expected.iter().map(|&entry| index.entries()[entry]).collect();
            assert_eq!(found, expected, "{fetch}..{end}");
        }
    }

    /// All that a segment had ever aborted was gone through at each read of its end, while appends waited for the same lock.
    #[test]
    fn a_look_up_does_not_look_at_what_ended_before_it() {
        let mut index = TransactionIndex::default();
        // Would end the search, and never came to stand in an index of ours.
        assert!(index.append(aborted(0, 0, 10, 1_000)));
        assert!(index.append(aborted(1, 11, 20, 21)));
        let mut found = Vec::new();
        assert!(!index.collect(Offset(15), Offset(30), &mut found));
        assert_eq!(found, index.entries()[1..]);
    }

    #[test]
    fn a_marker_must_lie_behind_the_last_one() {
        let mut index = index();
        assert!(!index.append(aborted(9, 0, 50, 60)));
        assert!(index.append(aborted(9, 0, 51, 60)));
    }

    #[test]
    fn truncation_drops_markers_at_the_target_and_behind_it() {
        for (target, kept) in [(51, 4), (50, 3), (36, 3), (35, 2), (0, 0)] {
            let mut index = index();
            index.truncate(Offset(target));
            assert_eq!(index.entries().len(), kept, "{target}");
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let bytes = index().encode();
        assert_eq!(bytes.len(), 4 * ENTRY_SIZE);
        assert_eq!(TransactionIndex::decode(Offset(10), &bytes), Ok(index()));
        assert_eq!(TransactionIndex::decode(Offset(10), &[]), Ok(TransactionIndex::default()));
    }

    #[test]
    fn a_file_that_does_not_fit_its_segment_is_refused() {
        let whole = index().encode();
        let (first, second) = whole[..2 * ENTRY_SIZE].split_at(ENTRY_SIZE);
        let cases = [
            ("half an entry", 0, whole[..ENTRY_SIZE + 1].to_vec()),
            ("a marker before the segment", 11, whole.clone()),
            ("markers that go back", 0, [second, first].concat()),
            ("the same marker twice", 0, [first, first].concat()),
        ];
        for (what, base, bytes) in cases {
            assert!(TransactionIndex::decode(Offset(base), &bytes).is_err(), "{what}");
        }
    }
}
