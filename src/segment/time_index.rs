//! The sparse time index of a segment: from a timestamp to the offset at which the search for it begins.
//!
//! ```text
//! a file of entries, nothing before or between them
//! at size field
//!  0    8 the largest timestamp of the segment so far
//!  8    4 last offset of the batch that has it, relative to the segment's base offset, 0 to 2^31-1
//! ```
//!
//! Source: `TimeIndex` of Apache Kafka. All integers are big endian.

use super::entries::Entries;
use super::offset_index::{IndexPosition, relative_to, whole_entries};
use crate::error::CorruptionKind;
use crate::types::{Offset, Timestamp};

/// The time index of one segment, in memory. See [`Entries`] for who may call what at the same time.
#[derive(Debug)]
pub(crate) struct TimeIndex {
    base: Offset,
    entries: Entries<2>,
}

/// The timestamp in one word; in the other the relative offset and, above it and 1 higher, the position of the batch: 0 where
/// it is not known. The file does not have it. It spares look-ups one in the offset index, which is a wait for memory.
type Packed = [u64; 2];

/// Where the search for a timestamp begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimePosition {
    /// An offset in a batch, or the segment's first. Every batch before it has only earlier timestamps than the one that is
    /// looked for.
    pub(crate) offset: Offset,
    /// Where that batch begins, or one before it, if it is known.
    pub(crate) position: Option<u32>,
}

impl TimeIndex {
    /// The size of an entry in the file.
    pub(crate) const ENTRY_SIZE: usize = 12;

    /// An empty index whose file has at most `max_bytes`.
    pub(crate) fn new(base: Offset, max_bytes: usize) -> Self {
        Self { base, entries: Entries::new(max_bytes / Self::ENTRY_SIZE) }
    }

    /// Notes that `timestamp` is the largest so far, and that the batch that ends with `offset` brought it. `position`: where
    /// that begins, if it is known.
    ///
    /// Returns whether there is a new entry. There is none if the index is full, the timestamp is not above that of the
    /// last entry, or the offset is below that of the last entry or does not fit its field.
    pub(crate) fn append(&self, timestamp: Timestamp, offset: Offset, position: Option<u32>) -> bool {
        self.left() > 0 && self.append_last(timestamp, offset, position)
    }

    /// As [`append`](Self::append), for the entry that a sealed segment's index ends with: one slot is kept for it.
    pub(crate) fn append_last(&self, timestamp: Timestamp, offset: Offset, position: Option<u32>) -> bool {
        let (last_timestamp, last_offset) = self.last().unwrap_or((Timestamp::NONE, self.base));
        match relative_to(self.base, offset) {
            Some(relative) if timestamp > last_timestamp && offset >= last_offset => {
                let place = position.map_or(0, |position| u64::from(position) + 1);
                self.entries.push([timestamp.0 as u64, place << 32 | u64::from(relative)])
            }
            _ => false,
        }
    }

    /// Where the search for `target` begins: at the batch of the entry with the largest timestamp not above it, else at the
    /// segment's beginning. (The batch of an entry is the first one that has its timestamp.) Until that is known, `expect` is
    /// told where `target` is if all batches are alike.
    pub(crate) fn lookup(&self, target: Timestamp, expect: impl FnOnce(u32)) -> TimePosition {
        let time = |[timestamp, _]: Packed| ordered(timestamp);
        let entries = self.entries.count_up_to(ordered(target.0 as u64), time, position, expect);
        let last = entries.checked_sub(1).and_then(|last| self.entries.get(last));
        last.map_or(TimePosition { offset: self.base, position: None }, |entry| TimePosition {
            offset: self.unpack(entry).1,
            position: position(entry),
        })
    }

    /// Takes the memory of the first `len` entries.
    pub(crate) fn prepare(&self, len: usize) {
        self.entries.prepare(len);
    }

    /// The bytes of memory that the entries take.
    pub(crate) fn memory(&self) -> usize {
        self.entries.memory()
    }

    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.entries.room()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The last entry: of a sealed segment, its largest timestamp and the last offset of the batch that has it.
    pub(crate) fn last(&self) -> Option<(Timestamp, Offset)> {
        self.entries.last().map(|entry| self.unpack(entry))
    }

    /// The last entry with an offset below `end`, which mostly is one of the last few.
    pub(crate) fn last_before(&self, end: Offset) -> Option<(Timestamp, Offset)> {
        let entries = (0..self.len()).rev().filter_map(|at| self.entries.get(at));
        entries.map(|entry| self.unpack(entry)).find(|&(_, offset)| offset < end)
    }

    /// How many more entries fit before the last one, whose slot is kept. With none left the segment must be rolled.
    pub(crate) fn left(&self) -> usize {
        self.entries.capacity().saturating_sub(self.len() + 1)
    }

    /// The bytes of the file from the `from_entry`th entry on.
    pub(crate) fn encode(&self, from_entry: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len().saturating_sub(from_entry) * Self::ENTRY_SIZE);
        for [timestamp, place] in self.entries.iter_from(from_entry) {
            bytes.extend_from_slice(&bytes_of(timestamp, place as u32));
        }
        bytes
    }

    /// The index in a file's bytes. `places`: the entries of the offset index beside it.
    ///
    /// Entries of zeros at the end are no entries, as in the offset index. A true entry of zeros, timestamp 0 at the
    /// base offset, may be lost by that; look-ups begin at the base offset without it, too.
    ///
    /// # Errors
    ///
    /// [`CorruptionKind::Length`] for a file that ends inside an entry, [`CorruptionKind::Format`] if timestamps do
    /// not increase strictly, offsets decrease, or one does not fit its field.
    pub(crate) fn decode(
        base: Offset,
        bytes: &[u8],
        max_bytes: usize,
        places: impl Iterator<Item = IndexPosition>,
    ) -> Result<Self, CorruptionKind> {
        let entries = whole_entries::<{ Self::ENTRY_SIZE }>(bytes)?;
        let index = Self::new(base, max_bytes.max(size_of_val(entries)));
        let mut places = places.peekable();
        for entry in entries {
            let (timestamp, relative) = split(entry);
            let offset = base + i64::from(relative);
            while places.next_if(|place| place.offset < offset).is_some() {}
            let position = places.peek().filter(|place| place.offset == offset).map(|place| place.position);
            if !index.append_last(Timestamp(timestamp), offset, position) {
                return Err(CorruptionKind::Format("time index entries do not increase"));
            }
        }
        Ok(index)
    }

    /// A new index without the entries whose offset is `target` or above.
    pub(crate) fn truncated(&self, target: Offset) -> Self {
        let kept = Self { base: self.base, entries: Entries::new(self.entries.capacity()) };
        for entry in self.entries.iter_from(0).take_while(|&entry| self.unpack(entry).1 < target) {
            kept.entries.push(entry);
        }
        kept
    }

    fn unpack(&self, [timestamp, place]: Packed) -> (Timestamp, Offset) {
        (Timestamp(timestamp as i64), self.base + i64::from(place as u32))
    }
}

fn position([_, place]: Packed) -> Option<u32> {
    ((place >> 32) as u32).checked_sub(1)
}

/// A timestamp's bits as a number that rises with it.
fn ordered(timestamp: u64) -> u64 {
    timestamp ^ 1 << 63
}

fn bytes_of(timestamp: u64, relative: u32) -> [u8; TimeIndex::ENTRY_SIZE] {
    let mut bytes = [0; TimeIndex::ENTRY_SIZE];
    bytes[..8].copy_from_slice(&timestamp.to_be_bytes());
    bytes[8..].copy_from_slice(&relative.to_be_bytes());
    bytes
}

fn split(entry: &[u8; TimeIndex::ENTRY_SIZE]) -> (i64, u32) {
    let [t0, t1, t2, t3, t4, t5, t6, t7, relative @ ..] = *entry;
    (i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]), u32::from_be_bytes(relative))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Offset = Offset(1000);

    fn index(entries: &[(i64, i64)]) -> TimeIndex {
        let index = TimeIndex::new(BASE, 1 << 20);
        for &(timestamp, offset) in entries {
            assert!(index.append(Timestamp(timestamp), Offset(offset), position_of(offset)));
        }
        index
    }

    /// Where the batch that ends with `offset` begins; of every third batch nobody knows.
    fn position_of(offset: i64) -> Option<u32> {
        (offset % 3 != 0).then_some((offset - BASE.0) as u32 * 100)
    }

    fn decode(bytes: &[u8]) -> Result<TimeIndex, CorruptionKind> {
        let places = (BASE.0..BASE.0 + 20_000).filter_map(|offset| {
            Some(IndexPosition { offset: Offset(offset), position: position_of(offset)? })
        });
        TimeIndex::decode(BASE, bytes, 1 << 20, places)
    }

    fn begin(offset: i64, position: Option<u32>) -> TimePosition {
        TimePosition { offset: Offset(offset), position }
    }

    #[test]
    fn a_look_up_finds_the_largest_timestamp_not_above_the_target() {
        let index = index(&[(10, 1004), (20, 1010), (21, 1011)]);
        let cases = [
            (i64::MIN, begin(1000, None)),
            (9, begin(1000, None)),
            (10, begin(1004, Some(400))),
            (19, begin(1004, Some(400))),
            (20, begin(1010, Some(1000))),
            (21, begin(1011, None)),
            (i64::MAX, begin(1011, None)),
        ];
        for (target, found) in cases {
            assert_eq!(index.lookup(Timestamp(target), |_| {}), found, "{target}");
        }
    }

    #[test]
    fn a_timestamp_that_is_not_higher_is_skipped() {
        let index = index(&[(10, 1004)]);
        let skipped = [
            ("the same timestamp", 10, 1005),
            ("a lower timestamp", 9, 1005),
            ("a lower offset", 11, 1003),
            ("an offset below the base", 11, 999),
            ("a relative offset of 2^31", 11, BASE.0 + (1 << 31)),
        ];
        for (what, timestamp, offset) in skipped {
            assert!(!index.append(Timestamp(timestamp), Offset(offset), Some(7)), "{what}");
        }
        assert!(!TimeIndex::new(BASE, 120).append(Timestamp::NONE, BASE, None), "no timestamp");
        assert!(index.append(Timestamp(11), Offset(1004), None));
    }

    #[test]
    fn one_slot_is_kept_for_the_last_entry() {
        let index = TimeIndex::new(BASE, 3 * TimeIndex::ENTRY_SIZE);
        assert!(index.append(Timestamp(1), Offset(1001), None));
        assert!(index.left() > 0);
        assert!(index.append(Timestamp(2), Offset(1002), None));
        assert_eq!(index.left(), 0);
        assert!(!index.append(Timestamp(3), Offset(1003), None));
        assert!(index.append_last(Timestamp(3), Offset(1003), None));
        assert!(!index.append_last(Timestamp(4), Offset(1004), None));
        assert_eq!(index.last(), Some((Timestamp(3), Offset(1003))));
    }

    #[test]
    fn the_file_has_kafkas_bytes() {
        let index = index(&[(0x0102, 1004), (0x0103, 1010)]);
        let second = [0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 10];
        assert_eq!(index.encode(0), [[0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 4], second].concat());
        assert_eq!(index.encode(1), second);
    }

    #[test]
    fn the_zeros_of_a_preallocated_file_are_no_entries() {
        let whole = index(&[(10, 1004), (20, 1010)]);
        let mut bytes = whole.encode(0);
        bytes.resize(8184, 0);
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.encode(0), whole.encode(0));
        assert!(decoded.append(Timestamp(21), Offset(1011), None));
        assert_eq!(decode(&[0; 8184]).unwrap().len(), 0);
    }

    #[test]
    fn bytes_that_are_no_index_are_refused() {
        let cases = [
            ("half an entry", vec![1; 18]),
            ("the same timestamp twice", [bytes_of(4, 1), bytes_of(4, 2)].concat()),
            ("a lower timestamp", [bytes_of(4, 1), bytes_of(3, 2)].concat()),
            ("a lower offset", [bytes_of(4, 2), bytes_of(5, 1)].concat()),
            ("zeros between entries", [bytes_of(4, 1), bytes_of(0, 0), bytes_of(5, 2)].concat()),
            ("a negative timestamp", bytes_of(u64::MAX - 1, 1).to_vec()),
            ("a negative relative offset", bytes_of(4, 1 << 31).to_vec()),
        ];
        for (what, bytes) in cases {
            assert!(decode(&bytes).is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn an_index_agrees_with_a_sorted_list(
            steps in prop::collection::vec((1_i64..50, 0_i64..50), 0..200),
            targets in prop::collection::vec(-10_i64..6_000, 20),
        ) {
            let mut model: Vec<(i64, i64)> = Vec::new();
            for (timestamp, offset) in steps {
                let last = model.last().copied().unwrap_or((-1, BASE.0));
                model.push((last.0 + timestamp, last.1 + offset));
            }
            let index = index(&model);
            for target in targets {
                let not_later = model.iter().take_while(|entry| entry.0 <= target).count();
                let offset = model[..not_later].last().map_or(BASE.0, |entry| entry.1);
                let found = begin(offset, position_of(offset).filter(|_| not_later > 0));
                prop_assert_eq!(index.lookup(Timestamp(target), |_| {}), found);
                if model != [(0, BASE.0)] {
                    prop_assert_eq!(decode(&index.encode(0)).unwrap().lookup(Timestamp(target), |_| {}), found);
                }
                let below = model.iter().take_while(|entry| entry.1 < BASE.0 + target).count();
                let cut = index.truncated(BASE + target);
                prop_assert_eq!(cut.encode(0), &index.encode(0)[..below * TimeIndex::ENTRY_SIZE]);
            }
            // A list of one entry of zeros is the one that a file cannot tell from no entry.
            if model != [(0, BASE.0)] {
                prop_assert_eq!(decode(&index.encode(0)).unwrap().encode(0), index.encode(0));
            }
        }

        #[test]
        fn garbage_is_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(index) = decode(&bytes) {
                index.lookup(Timestamp(0), |_| {});
                prop_assert!(bytes.starts_with(&index.encode(0)));
            }
        }
    }
}
