//! What both indexes share: a list that one writer appends to while any number of readers search it.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The entries of the first chunk; each following chunk has twice as many, up to the largest.
const FIRST_CHUNK: usize = 16;
/// The doublings until a chunk has the largest size, 512 entries: a few pages, because where nobody made them before they
/// are made under the append lock.
const DOUBLINGS: usize = 5;
const LARGEST_CHUNK: usize = FIRST_CHUNK << DOUBLINGS;
/// The entries in all chunks before the first of the largest size.
const DOUBLING_ENTRIES: usize = LARGEST_CHUNK - FIRST_CHUNK;
/// The chunks of a shelf: two steps of tables, so that neither is long when there are few entries.
const SHELF: usize = 32;

/// Slots that are filled one after the other.
type Table<T> = Box<[OnceLock<T>]>;

/// Entries side by side. Never moved once they are there.
type Chunk<const WORDS: usize> = Box<[[AtomicU64; WORDS]]>;

/// Chunks side by side.
#[derive(Debug)]
struct Shelf<const WORDS: usize> {
    /// The first entry of each: a search looks for the chunk in few cache lines.
    firsts: [[AtomicU64; WORDS]; SHELF],
    chunks: Table<Chunk<WORDS>>,
}

impl<const WORDS: usize> Shelf<WORDS> {
    fn new() -> Self {
        Self { firsts: [const { [const { AtomicU64::new(0) }; WORDS] }; SHELF], chunks: table(SHELF) }
    }
}

/// An append-only list of entries of `WORDS` words.
///
/// One writer, which its owner must see to; readers need nothing. An entry is stored before the length that covers it
/// is released, and a reader looks only below the length that it acquired. Growing adds a chunk and copies nothing.
#[derive(Debug)]
pub(crate) struct Entries<const WORDS: usize> {
    /// Made with the first entry, or before it for a list that will have one: an empty one costs nothing.
    shelves: OnceLock<Table<Box<Shelf<WORDS>>>>,
    len: AtomicUsize,
    capacity: usize,
}

impl<const WORDS: usize> Entries<WORDS> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { shelves: OnceLock::new(), len: AtomicUsize::new(0), capacity }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Adds an entry at the end; `false` if the list is at its capacity.
    pub(crate) fn push(&self, entry: [u64; WORDS]) -> bool {
        let index = self.len.load(Ordering::Relaxed);
        if index >= self.capacity {
            return false;
        }
        let (chunk, slot) = place_of(index);
        let (shelf, entries) = self.made(chunk);
        store(&entries[slot], entry);
        if slot == 0 {
            store(&shelf.firsts[chunk % SHELF], entry);
        }
        self.len.store(index + 1, Ordering::Release);
        true
    }

    /// Makes the chunks of the first `len` entries: whoever pushes those needs no memory any more. Anybody may call it at
    /// any time.
    pub(crate) fn prepare(&self, len: usize) {
        if let Some(last) = len.min(self.capacity).checked_sub(1) {
            for chunk in place_of(self.len()).0..=place_of(last).0 {
                self.made(chunk);
            }
        }
    }

    /// How many entries there is memory for.
    pub(crate) fn room(&self) -> usize {
        // All chunks in front of the one that the next entry goes to are there.
        let next = place_of(self.len()).0;
        let ahead = (next..).map(|chunk| self.chunk(chunk).len()).take_while(|&len| len > 0);
        first_of_chunk(next) + ahead.sum::<usize>()
    }

    /// The bytes of memory that the list takes, but for tables of a few hundred.
    pub(crate) fn memory(&self) -> usize {
        self.room() * size_of::<[u64; WORDS]>()
    }

    /// A chunk, which is made if it is not there, and the shelf that it is on.
    fn made(&self, chunk: usize) -> (&Shelf<WORDS>, &Chunk<WORDS>) {
        let last_chunk = place_of(self.capacity - 1).0;
        let shelves = self.shelves.get_or_init(|| table(last_chunk / SHELF + 1));
        let shelf = shelves[chunk / SHELF].get_or_init(|| Box::new(Shelf::new()));
        (shelf, shelf.chunks[chunk % SHELF].get_or_init(|| new_chunk(chunk)))
    }

    pub(crate) fn last(&self) -> Option<[u64; WORDS]> {
        let (chunk, slot) = place_of(self.len().checked_sub(1)?);
        Some(load(self.chunk(chunk).get(slot)?))
    }

    /// The entries in the list when this is called, from the `from`th on.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = [u64; WORDS]> {
        let len = self.len();
        let (chunk, slot) = place_of(from);
        let chunks = (chunk..).map(|chunk| self.chunk(chunk)).take_while(|entries| !entries.is_empty());
        chunks.flatten().skip(slot).take(len.saturating_sub(from)).map(load)
    }

    /// The `index`th entry.
    pub(crate) fn get(&self, index: usize) -> Option<[u64; WORDS]> {
        let (chunk, slot) = place_of(index);
        if index < self.len() { self.chunk(chunk).get(slot).map(load) } else { None }
    }

    /// How many entries have a key of at most `target`; no key is below that of an entry before. Before the last wait for
    /// memory, `expect` is told what value goes with `target` if values rise with the keys, both evenly, and are known.
    pub(crate) fn count_up_to(
        &self,
        target: u64,
        key: impl Fn([u64; WORDS]) -> u64,
        value: impl Fn([u64; WORDS]) -> Option<u32>,
        expect: impl FnOnce(u32),
    ) -> usize {
        let Some(Stretch { chunk, len, start, end }) = self.stretch_of(target, &key) else { return 0 };
        let keys = key(start)..key(end);
        if let (Some(first), Some(last)) = (value(start), value(end)) {
            let steps = interpolate(target, keys.clone(), u64::from(last.saturating_sub(first)));
            expect(first + steps as u32);
        }
        let likely = interpolate(target, keys, len as u64) as usize;
        let entries = self.chunk(chunk);
        let holds = |slot: usize| entries.get(slot).is_some_and(|entry| key(load(entry)) <= target);
        first_of_chunk(chunk) + run_length(len, likely, holds)
    }

    /// Where the last entry is whose key is `target` at most. `None` if the first one's is larger.
    ///
    /// Keys are numbers that rise about evenly, offsets or times. Each step of a search waits for memory, so it begins where
    /// the entry should be by the keys at both ends: of the list for the chunk, of the chunk for the entry.
    fn stretch_of(&self, target: u64, key: impl Fn([u64; WORDS]) -> u64) -> Option<Stretch<WORDS>> {
        let last = self.len().checked_sub(1)?;
        let (last_chunk, last_slot) = place_of(last);
        let last_entry = load(self.chunk(last_chunk).get(last_slot)?);
        let keys = self.first_of(0).map(&key)?..key(last_entry);
        let likely = place_of(interpolate(target, keys, last as u64) as usize).0;
        let holds = |chunk| self.first_of(chunk).is_some_and(|first| key(first) <= target);
        let chunk = run_length(last_chunk + 1, likely, holds).checked_sub(1)?;
        let (len, end) = if chunk == last_chunk {
            (last_slot + 1, last_entry)
        } else {
            (first_of_chunk(chunk + 1) - first_of_chunk(chunk), self.first_of(chunk + 1)?)
        };
        Some(Stretch { chunk, len, start: self.first_of(chunk)?, end })
    }

    /// The entries of a chunk, of which only those below an acquired length mean something; none if it is not there.
    fn chunk(&self, chunk: usize) -> &[[AtomicU64; WORDS]] {
        let entries = || self.shelf_of(chunk)?.chunks.get(chunk % SHELF)?.get();
        entries().map_or(&[], |entries| &**entries)
    }

    /// The first entry of a chunk that begins below an acquired length.
    fn first_of(&self, chunk: usize) -> Option<[u64; WORDS]> {
        self.shelf_of(chunk)?.firsts.get(chunk % SHELF).map(load)
    }

    fn shelf_of(&self, chunk: usize) -> Option<&Shelf<WORDS>> {
        self.shelves.get()?.get(chunk / SHELF)?.get().map(|shelf| &**shelf)
    }
}

/// The entries of one chunk, as far as there are any.
struct Stretch<const WORDS: usize> {
    chunk: usize,
    len: usize,
    start: [u64; WORDS],
    /// The entry behind it, or the last one of the list.
    end: [u64; WORDS],
}

fn table<T>(slots: usize) -> Table<T> {
    (0..slots).map(|_| OnceLock::new()).collect()
}

/// Of `steps` from the one end of `keys` to the other, how many lie below `target` if all are alike.
fn interpolate(target: u64, keys: Range<u64>, steps: u64) -> u64 {
    let (part, all) = (target.saturating_sub(keys.start), keys.end.saturating_sub(keys.start));
    (part as f64 / all.max(1) as f64 * steps as f64).min(steps as f64) as u64
}

/// Of the numbers below `len`, how many at the beginning `holds` is true for; it is for none behind them. Looks at `likely`
/// first, then ever farther from it until the end lies in between.
fn run_length(len: usize, likely: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    let (mut at, mut step) = (likely, 1);
    while low < high {
        let looked_at = at.clamp(low, high - 1);
        if holds(looked_at) {
            low = looked_at + 1;
            at = looked_at + step;
        } else {
            high = looked_at;
            at = looked_at.saturating_sub(step);
        }
        if low > 0 && high < len {
            at = low + (high - low) / 2;
        } else {
            step *= 2;
        }
    }
    low
}

fn store<const WORDS: usize>(place: &[AtomicU64; WORDS], entry: [u64; WORDS]) {
    for (stored, word) in place.iter().zip(entry) {
        stored.store(word, Ordering::Relaxed);
    }
}

fn load<const WORDS: usize>(entry: &[AtomicU64; WORDS]) -> [u64; WORDS] {
    std::array::from_fn(|word| entry[word].load(Ordering::Relaxed))
}

/// The number of a chunk's first entry.
fn first_of_chunk(chunk: usize) -> usize {
    (FIRST_CHUNK << chunk.min(DOUBLINGS)) - FIRST_CHUNK + chunk.saturating_sub(DOUBLINGS) * LARGEST_CHUNK
}

/// In which chunk an entry is, and where in it.
fn place_of(index: usize) -> (usize, usize) {
    if index >= DOUBLING_ENTRIES {
        let behind = index - DOUBLING_ENTRIES;
        return (DOUBLINGS + behind / LARGEST_CHUNK, behind % LARGEST_CHUNK);
    }
    // Chunk k begins at entry FIRST_CHUNK * (2^k - 1).
    let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, index + FIRST_CHUNK - (FIRST_CHUNK << chunk))
}

/// A chunk of which no entry means anything. It is not filled with zeros: of those the kernel has so many that it gives a
/// page only to whoever writes something else, which should not be the appender.
fn new_chunk<const WORDS: usize>(chunk: usize) -> Chunk<WORDS> {
    let size = FIRST_CHUNK << chunk.min(DOUBLINGS);
    (0..size).map(|_| [const { AtomicU64::new(u64::MAX) }; WORDS]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_each_other_without_gap_or_overlap() {
        let mut expected = (0, 0);
        for index in 0..DOUBLING_ENTRIES + 3 * LARGEST_CHUNK {
            assert_eq!(place_of(index), expected, "entry {index}");
            assert_eq!(first_of_chunk(expected.0) + expected.1, index);
            let size = new_chunk::<1>(expected.0).len();
            expected = if expected.1 + 1 < size { (expected.0, expected.1 + 1) } else { (expected.0 + 1, 0) };
        }
    }

    #[test]
    fn a_list_gives_back_what_was_pushed_and_stops_at_its_capacity() {
        for capacity in [0, 1, 16, 17, 495, 496, 497, 1008, 1009, 33_000] {
            let entries = Entries::<2>::new(capacity);
            for number in 0..capacity as u64 {
                assert!(entries.push([number, !number]));
            }
            assert!(!entries.push([0, 0]), "full at {capacity}");
            assert_eq!(entries.len(), capacity);
            assert!(entries.iter_from(0).eq((0..capacity as u64).map(|number| [number, !number])));
            assert!(
                entries.iter_from(capacity / 2).eq((capacity as u64 / 2..capacity as u64).map(|n| [n, !n]))
            );
            assert_eq!(entries.iter_from(capacity + 1).next(), None);
            assert_eq!(entries.last(), capacity.checked_sub(1).map(|last| [last as u64, !(last as u64)]));
        }
    }

    #[test]
    fn an_empty_list_has_no_memory_behind_it() {
        let entries = Entries::<1>::new(1 << 20);
        assert!(entries.shelves.get().is_none());
        assert_eq!(entries.last(), None);
        let found =
            entries.count_up_to(u64::MAX, |[key]| key, |_| None, |_| panic!("there is nothing to expect"));
        assert_eq!((entries.get(0), found), (None, 0));
        assert!(size_of::<Entries<1>>() <= 48);
    }

    #[test]
    fn what_was_prepared_is_not_made_again_and_nothing_behind_the_capacity_is() {
        for (capacity, len) in [(0, 9), (1, 0), (1, 1), (40, 17), (40, 1000), (33_000, 5000)] {
            let entries = Entries::<1>::new(capacity);
            entries.prepare(len);
            let made = |entries: &Entries<1>| {
                let chunks =
                    (0..).map(|chunk| entries.chunk(chunk)).take_while(|entries| !entries.is_empty());
                chunks.map(<[_]>::as_ptr).collect::<Vec<_>>()
            };
            let prepared = made(&entries);
            let expected = len.min(capacity).checked_sub(1).map_or(0, |last| place_of(last).0 + 1);
            assert_eq!(prepared.len(), expected, "{len} of {capacity}");
            assert_eq!((entries.len(), entries.last(), entries.iter_from(0).next()), (0, None, None));
            (0..capacity as u64).for_each(|number| assert!(entries.push([number])));
            assert_eq!(made(&entries)[..expected], prepared);
            assert!(entries.iter_from(0).eq((0..capacity as u64).map(|number| [number])));
        }
    }

    #[test]
    fn a_search_finds_how_many_are_not_above_however_unevenly_the_keys_rise() {
        let rises: [fn(u64) -> u64; 6] = [
            |number| number * 2,
            |number| number / 40 * 1000,
            |number| number * number * number,
            |number| if number < 700 { number } else { u64::MAX - 2000 + number },
            |number| u64::MAX - 3000 + number,
            |_| 7,
        ];
        for (rise, key) in rises.into_iter().enumerate() {
            for len in [0, 1, 2, 15, 16, 17, 496, 497, 1500] {
                let entries = Entries::<2>::new(len as usize);
                (0..len).for_each(|number| assert!(entries.push([!number, key(number)])));
                let targets = (0..len).flat_map(|number| {
                    [key(number).saturating_sub(1), key(number), key(number).saturating_add(1)]
                });
                for target in targets.chain([0, u64::MAX]) {
                    let expected = (0..len).filter(|&number| key(number) <= target).count();
                    let found = entries.count_up_to(target, |[_, key]| key, |_| None, |_| {});
                    assert_eq!(found, expected, "up to {target} in {len} of rise {rise}");
                }
            }
        }
    }

    #[test]
    fn evenly_rising_keys_are_found_at_few_looks() {
        let entries = Entries::<1>::new(100_000);
        (0..100_000).for_each(|number| assert!(entries.push([number * 10 + number % 7])));
        for target in (0..1_000_000).step_by(9973) {
            let looks = std::cell::Cell::new(0);
            let key = |[key]: [u64; 1]| {
                looks.set(looks.get() + 1);
                key
            };
            let found = entries.count_up_to(target, key, |_| None, |_| {});
            assert_eq!(found, (0..100_000).filter(|number| number * 10 + number % 7 <= target).count());
            assert!(looks.get() <= 12, "{} looks for {target}: a search by halves takes 17", looks.get());
        }
    }

    #[test]
    fn the_value_to_expect_lies_evenly_between_those_at_both_ends_of_a_chunk() {
        let entries = Entries::<2>::new(10_000);
        (0..3_000).for_each(|number| assert!(entries.push([1000 + number * 10, 500 + number * 40])));
        // The last chunk begins at entry 2544.
        let cases =
            [(1000, 500), (1005, 520), (1010, 540), (11_234, 41_436), (30_990, 120_460), (40_000, 120_460)];
        for (target, value) in cases {
            let mut expected = None;
            let found = entries.count_up_to(
                target,
                |[key, _]| key,
                |[_, value]| Some(value as u32),
                |value| expected = Some(value),
            );
            assert_eq!(
                (found, expected),
                (((target - 990) / 10).min(3_000) as usize, Some(value)),
                "{target}"
            );
        }
    }

    #[test]
    fn readers_see_whole_entries_in_order_while_the_writer_appends() {
        const COUNT: usize = 200_000;
        let entries = Entries::<2>::new(COUNT);
        let entries = &entries;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(move || {
                    while entries.len() < COUNT {
                        let seen = entries.len();
                        if seen == 0 {
                            continue;
                        }
                        let [last, inverse] = entries.last().unwrap();
                        assert!(last == !inverse && last + 1 >= seen as u64, "last is {last} of {seen}");
                        let target = (seen as u64 - 1) / 2;
                        let run = entries.count_up_to(target, |[number, _]| number, |_| None, |_| {});
                        assert_eq!(entries.get(run - 1), Some([target, !target]), "of {seen}");
                    }
                });
            }
            scope.spawn(move || (0..=COUNT).step_by(1000).for_each(|len| entries.prepare(len)));
            scope.spawn(move || (0..COUNT as u64).all(|number| entries.push([number, !number])));
        });
        assert!(entries.iter_from(0).eq((0..COUNT as u64).map(|number| [number, !number])));
    }
}
