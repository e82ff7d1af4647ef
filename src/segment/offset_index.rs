//! The sparse offset index of a segment: from an offset to the place in the `.log` file where the search for it begins.
//!
//! ```text
//! a file of entries, nothing before or between them
//! at size field
//!  0    4 last offset of a batch, relative to the segment's base offset, 0 to 2^31-1
//!  4    4 position of that batch in the .log file, 0 to 2^31-1
//! ```
//!
//! Source: `OffsetIndex` of Apache Kafka. All integers are big endian.

use super::entries::Entries;
use crate::error::CorruptionKind;
use crate::types::Offset;

/// The offset index of one segment, in memory. See [`Entries`] for who may call what at the same time.
#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base: Offset,
    entries: Entries<1>,
}

/// The last offset of a batch, and where the batch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexPosition {
    pub(crate) offset: Offset,
    pub(crate) position: u32,
}

/// An entry as one number, relative offset above position: big endian, it is the entry's bytes.
type Packed = u64;

/// The largest relative offset and the largest position: the format's fields are signed.
const FIELD_MAX: u32 = i32::MAX as u32;

impl OffsetIndex {
    /// The size of an entry in the file.
    pub(crate) const ENTRY_SIZE: usize = 8;

    /// An empty index that is full when its file would have more than `max_bytes`.
    pub(crate) fn new(base: Offset, max_bytes: usize) -> Self {
        Self { base, entries: Entries::new(max_bytes / Self::ENTRY_SIZE) }
    }

    /// Notes that the batch at `position` ends with `last_offset`.
    ///
    /// Returns whether there is an entry for it now. There is none if the index is full, the offset is not above that
    /// of the last entry, or a number does not fit its field. The index is right without it, only coarser.
    pub(crate) fn append(&self, last_offset: Offset, position: u32) -> bool {
        let is_above_last = self.last().is_none_or(|last| last.offset < last_offset);
        match self.pack(last_offset, position) {
            Some(entry) if is_above_last => self.entries.push([entry]),
            _ => false,
        }
    }

    /// Where to begin the search for `target`: the entry with the largest offset not above it, else the segment's
    /// beginning. Until that is known, `expect` is told where `target` is if all batches are alike.
    pub(crate) fn lookup(&self, target: Offset, expect: impl FnOnce(u32)) -> IndexPosition {
        let count = |relative| {
            let offset = |[entry]: [Packed; 1]| u64::from(relative_offset(entry));
            self.entries.count_up_to(relative, offset, |[entry]| Some(position(entry)), expect)
        };
        let entries = u64::try_from(target - self.base).map_or(0, count);
        let last = entries.checked_sub(1).and_then(|last| self.entries.get(last));
        last.map_or(IndexPosition { offset: self.base, position: 0 }, |[entry]| self.unpack(entry))
    }

    /// The entries in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = IndexPosition> {
        self.entries.iter_from(0).map(|[entry]| self.unpack(entry))
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

    pub(crate) fn last(&self) -> Option<IndexPosition> {
        self.entries.last().map(|[entry]| self.unpack(entry))
    }

    /// How many more entries fit. With none left the segment must be rolled.
    pub(crate) fn left(&self) -> usize {
        self.entries.capacity().saturating_sub(self.len())
    }

    /// The bytes of the file from the `from_entry`th entry on.
    pub(crate) fn encode(&self, from_entry: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len().saturating_sub(from_entry) * Self::ENTRY_SIZE);
        self.entries.iter_from(from_entry).for_each(|[entry]| bytes.extend_from_slice(&entry.to_be_bytes()));
        bytes
    }

    /// The index in a file's bytes, for a `.log` file of `log_size` bytes.
    ///
    /// Entries of zeros at the end are no entries: a file that is written through a map is preallocated, and its owner
    /// may have crashed before cutting it. (Only an entry of the segment's first batch could look like that, and it
    /// never has one.)
    ///
    /// # Errors
    ///
    /// [`CorruptionKind::Length`] for a file that ends inside an entry, [`CorruptionKind::Format`] if offsets or
    /// positions do not increase strictly or lie outside of the segment.
    pub(crate) fn decode(
        base: Offset,
        bytes: &[u8],
        log_size: u64,
        max_bytes: usize,
    ) -> Result<Self, CorruptionKind> {
        let entries = whole_entries::<{ Self::ENTRY_SIZE }>(bytes)?;
        let index = Self::new(base, max_bytes.max(size_of_val(entries)));
        let mut previous = None;
        for &entry in entries {
            let entry = Packed::from_be_bytes(entry);
            if previous.is_some_and(|last| !is_ordered(last, entry)) {
                return Err(CorruptionKind::Format("offset index entries do not increase"));
            }
            if relative_offset(entry) > FIELD_MAX || u64::from(position(entry)) >= log_size {
                return Err(CorruptionKind::Format("an offset index entry points outside of the segment"));
            }
            previous = Some(entry);
            index.entries.push([entry]);
        }
        Ok(index)
    }

    /// A new index without the entries at `target` or above.
    pub(crate) fn truncated(&self, target: Offset) -> Self {
        let kept = Self { base: self.base, entries: Entries::new(self.entries.capacity()) };
        for entry in self.entries.iter_from(0).take_while(|&[entry]| self.unpack(entry).offset < target) {
            kept.entries.push(entry);
        }
        kept
    }

    fn pack(&self, last_offset: Offset, position: u32) -> Option<Packed> {
        let relative = relative_to(self.base, last_offset)?;
        (position <= FIELD_MAX).then_some(u64::from(relative) << 32 | u64::from(position))
    }

    fn unpack(&self, entry: Packed) -> IndexPosition {
        IndexPosition { offset: self.base + i64::from(relative_offset(entry)), position: position(entry) }
    }
}

/// `offset` counted from `base`, if an index entry can say it.
pub(super) fn relative_to(base: Offset, offset: Offset) -> Option<u32> {
    u32::try_from(offset - base).ok().filter(|&relative| relative <= FIELD_MAX)
}

/// The file as entries of `SIZE` bytes, without those of zeros at the end.
pub(super) fn whole_entries<const SIZE: usize>(bytes: &[u8]) -> Result<&[[u8; SIZE]], CorruptionKind> {
    let (entries, rest) = bytes.as_chunks::<SIZE>();
    if !rest.is_empty() {
        let whole = (bytes.len() - rest.len()) as u64;
        return Err(CorruptionKind::Length { expected: whole, got: bytes.len() as u64 });
    }
    let used = entries.iter().rposition(|entry| *entry != [0; SIZE]).map_or(0, |last| last + 1);
    Ok(&entries[..used])
}

fn relative_offset(entry: Packed) -> u32 {
    (entry >> 32) as u32
}

fn position(entry: Packed) -> u32 {
    entry as u32
}

fn is_ordered(before: Packed, after: Packed) -> bool {
    relative_offset(before) < relative_offset(after) && position(before) < position(after)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Offset = Offset(1000);

    fn index(entries: &[(i64, u32)]) -> OffsetIndex {
        let index = OffsetIndex::new(BASE, 1 << 20);
        for &(offset, position) in entries {
            assert!(index.append(Offset(offset), position));
        }
        index
    }

    fn decode(bytes: &[u8]) -> Result<OffsetIndex, CorruptionKind> {
        OffsetIndex::decode(BASE, bytes, 10_000, 1 << 20)
    }

    #[test]
    fn a_look_up_expects_its_target_between_the_positions_of_the_entries_around_it() {
        // Ten batches of 100 bytes with ten offsets each between two entries.
        let index = index(&[(1009, 5_000), (1109, 6_000), (1209, 7_000)]);
        for (target, position) in [(1009, 5_000), (1059, 5_500), (1139, 6_300), (1209, 7_000), (9999, 7_000)]
        {
            let mut expected = None;
            index.lookup(Offset(target), |likely| expected = Some(likely));
            assert_eq!(expected, Some(position), "{target}");
        }
        index.lookup(Offset(1008), |likely| panic!("{likely} is expected before the first entry"));
    }

    #[test]
    fn a_look_up_finds_the_largest_entry_not_above_the_target() {
        let index = index(&[(1004, 100), (1010, 220), (1011, 400)]);
        let cases = [
            (0, 1000, 0),
            (1000, 1000, 0),
            (1003, 1000, 0),
            (1004, 1004, 100),
            (1009, 1004, 100),
            (1010, 1010, 220),
            (1011, 1011, 400),
            (i64::MAX, 1011, 400),
        ];
        for (target, offset, position) in cases {
            let expected = IndexPosition { offset: Offset(offset), position };
            assert_eq!(index.lookup(Offset(target), |_| {}), expected, "{target}");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_told_is_left_out() {
        let index = index(&[(1004, 100)]);
        let refused = [
            ("the same offset", 1004, 200),
            ("a lower offset", 1003, 200),
            ("an offset below the base", 999, 200),
            ("a relative offset of 2^31", BASE.0 + (1 << 31), 200),
            ("a position of 2^31", 1005, 1 << 31),
        ];
        for (what, offset, position) in refused {
            assert!(!index.append(Offset(offset), position), "{what}");
        }
        assert!(index.append(Offset(BASE.0 + i64::from(i32::MAX)), FIELD_MAX));
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn a_full_index_takes_no_more() {
        let index = OffsetIndex::new(BASE, 23);
        assert!(index.left() > 0);
        assert!(index.append(Offset(1001), 1) && index.append(Offset(1002), 2));
        assert_eq!(index.left(), 0);
        assert!(!index.append(Offset(1003), 3));
    }

    #[test]
    fn the_file_has_kafkas_bytes() {
        let index = index(&[(1004, 100), (1010, 0x1234)]);
        assert_eq!(index.encode(0), [0, 0, 0, 4, 0, 0, 0, 100, 0, 0, 0, 10, 0, 0, 0x12, 0x34]);
        assert_eq!(index.encode(1), [0, 0, 0, 10, 0, 0, 0x12, 0x34]);
        assert!(index.encode(2).is_empty());
    }

    #[test]
    fn the_zeros_of_a_preallocated_file_are_no_entries() {
        let whole = index(&[(1004, 100), (1010, 220)]);
        let mut bytes = whole.encode(0);
        bytes.resize(8192, 0);
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded.encode(0), whole.encode(0));
        assert!(decoded.append(Offset(1011), 300));
        assert_eq!(decode(&[0; 8192]).unwrap().len(), 0);
    }

    #[test]
    fn bytes_that_are_no_index_of_the_segment_are_refused() {
        let entry = |relative: u32, position: u32| [relative.to_be_bytes(), position.to_be_bytes()].concat();
        let cases = [
            ("half an entry", vec![1; 12]),
            ("the same offset twice", [entry(4, 100), entry(4, 200)].concat()),
            ("a lower offset", [entry(4, 100), entry(3, 200)].concat()),
            ("a lower position", [entry(4, 100), entry(5, 99)].concat()),
            ("zeros between entries", [entry(4, 100), entry(0, 0), entry(5, 200)].concat()),
            ("a position at the end of the log", entry(4, 10_000)),
            ("a negative relative offset", entry(1 << 31, 100)),
        ];
        assert!(decode(&entry(4, 9_999)).is_ok());
        for (what, bytes) in cases {
            assert!(decode(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn an_index_longer_than_it_may_be_today_is_full_and_whole() {
        let whole = index(&[(1004, 100), (1010, 220), (1011, 400)]);
        let decoded = OffsetIndex::decode(BASE, &whole.encode(0), 10_000, 8).unwrap();
        assert_eq!(decoded.len(), 3);
        assert_eq!(decoded.left(), 0);
    }

    proptest! {
        #[test]
        fn an_index_agrees_with_a_sorted_list(
            steps in prop::collection::vec((1_u32..50, 1_u32..500), 0..200),
            targets in prop::collection::vec(900_i64..12_000, 20),
        ) {
            let mut model: Vec<(i64, u32)> = Vec::new();
            for (offset, position) in steps {
                let last = model.last().copied().unwrap_or((BASE.0, 0));
                model.push((last.0 + i64::from(offset), last.1 + position));
            }
            let index = index(&model);
            let decoded = OffsetIndex::decode(BASE, &index.encode(0), u64::MAX, 1 << 20).unwrap();
            for target in targets {
                let found = model.iter().rfind(|entry| entry.0 <= target).copied().unwrap_or((BASE.0, 0));
                let expected = IndexPosition { offset: Offset(found.0), position: found.1 };
                prop_assert_eq!(index.lookup(Offset(target), |_| {}), expected);
                prop_assert_eq!(decoded.lookup(Offset(target), |_| {}), expected);
                let below = model.iter().take_while(|entry| entry.0 < target).count();
                let cut = index.truncated(Offset(target));
                prop_assert_eq!(cut.encode(0), &index.encode(0)[..below * OffsetIndex::ENTRY_SIZE]);
            }
        }

        #[test]
        fn garbage_is_decoded_or_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), size: u64) {
            if let Ok(index) = OffsetIndex::decode(BASE, &bytes, size, 16) {
                index.lookup(BASE, |_| {});
                prop_assert!(bytes.starts_with(&index.encode(0)));
            }
        }
    }
}
