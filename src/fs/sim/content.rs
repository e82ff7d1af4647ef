//! The bytes of a simulated file, as they are in memory and as they are on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use super::survivors::Survivors;

/// A disk writes a sector whole or not at all.
pub(super) const SECTOR: u64 = 512;
/// Memory is mapped, allocated and synced by pages.
pub(super) const PAGE: u64 = 4096;

pub(super) type Sector = Arc<[u8; SECTOR as usize]>;

static ZEROS: LazyLock<Sector> = LazyLock::new(|| Arc::new([0; SECTOR as usize]));

/// A file's length and bytes. A sector that is all zeros is not kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    len: u64,
    sectors: BTreeMap<u64, Sector>,
}

impl Content {
    fn sector(&self, index: u64) -> &Sector {
        self.sectors.get(&index).unwrap_or(&ZEROS)
    }

    fn put(&mut self, index: u64, sector: Sector) {
        if sector == *ZEROS {
            self.sectors.remove(&index);
        } else {
            self.sectors.insert(index, sector);
        }
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        let count = self.len.saturating_sub(position).min(buffer.len() as u64) as usize;
        for piece in pieces(position, count) {
            buffer[piece.source].copy_from_slice(&self.sector(piece.sector)[piece.within]);
        }
        count
    }

    /// The sectors that a cut to `len` changes, with their bytes after it.
    fn cut(&self, len: u64) -> Vec<(u64, Sector)> {
        let (last, within) = (len / SECTOR, (len % SECTOR) as usize);
        let cut = |(index, sector): (&u64, &Sector)| {
            if *index > last {
                return (*index, ZEROS.clone());
            }
            let mut sector = **sector;
            sector[within..].fill(0);
            (*index, Arc::new(sector))
        };
        self.sectors.range(last..).map(cut).collect()
    }

    fn set_len(&mut self, len: u64) {
        for (index, sector) in self.cut(len) {
            self.put(index, sector);
        }
        self.len = len;
    }
}

/// The part of a run of bytes that lies in one sector.
struct Piece {
    sector: u64,
    /// Where in the sector.
    within: Range<usize>,
    /// Where in the run.
    source: Range<usize>,
}

fn pieces(position: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = position + done as u64;
        let start = (at % SECTOR) as usize;
        let count = (SECTOR as usize - start).min(len - done);
        let piece = Piece { sector: at / SECTOR, within: start..start + count, source: done..done + count };
        done += count;
        (count > 0).then_some(piece)
    })
}

/// A file: what a process sees, what is on the disk, and all that lies between the two.
#[derive(Clone, Debug, Default)]
pub(super) struct SimContent {
    now: Content,
    durable: Content,
    /// The lengths since the last one that is durable.
    lengths: Vec<u64>,
    /// The bytes that each sector had since those that are durable. The disk may hold any of them.
    versions: BTreeMap<u64, Vec<Sector>>,
    /// A failed sync dropped something: what a process sees differs from the disk without being written any more.
    dropped: bool,
    /// Pages that have blocks of the disk.
    allocated: BTreeSet<u64>,
    durable_allocated: BTreeSet<u64>,
}

impl SimContent {
    pub(super) fn len(&self) -> u64 {
        self.now.len
    }

    pub(super) fn read(&self, position: u64, buffer: &mut [u8]) -> usize {
        self.now.read(position, buffer)
    }

    pub(super) fn allocated_pages(&self) -> u64 {
        self.allocated.len() as u64
    }

    /// How many pages of [`from`, `to`) have no blocks.
    pub(super) fn unallocated_pages(&self, from: u64, to: u64) -> u64 {
        let pages = pages(from, to);
        let present = self.allocated.range(pages.clone()).count() as u64;
        pages.end - pages.start - present
    }

    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) {
        for piece in pieces(position, bytes.len()) {
            self.write_piece(&piece, &bytes[piece.source.clone()]);
        }
        let end = position + bytes.len() as u64;
        self.allocated.extend(pages(position, end));
        self.extend(end);
    }

    /// The first half of what [`write`](Self::write) would do in each sector: what a page looks like that the kernel
    /// writes back while a process copies into it.
    pub(super) fn write_torn(&mut self, position: u64, bytes: &[u8]) {
        for mut piece in pieces(position, bytes.len()) {
            let half = piece.within.len() / 2;
            piece.within.end = piece.within.start + half;
            let start = piece.source.start;
            self.write_piece(&piece, &bytes[start..start + half]);
        }
    }

    fn write_piece(&mut self, piece: &Piece, bytes: &[u8]) {
        let mut sector = **self.now.sector(piece.sector);
        sector[piece.within.clone()].copy_from_slice(bytes);
        self.change(piece.sector, Arc::new(sector));
    }

    /// A sector that is stored as it was before is written all the same, which shows where an earlier sync only said so.
    fn change(&mut self, index: u64, sector: Sector) {
        let is_lost = *self.durable.sector(index) != sector && !self.versions.contains_key(&index);
        if *self.now.sector(index) != sector || is_lost {
            self.versions.entry(index).or_default().push(sector.clone());
            self.now.put(index, sector);
        }
    }

    fn extend(&mut self, end: u64) {
        if end > self.now.len {
            self.now.len = end;
            self.lengths.push(end);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        for (index, sector) in self.now.cut(len) {
            self.change(index, sector);
        }
        if len < self.now.len {
            self.allocated.split_off(&len.div_ceil(PAGE));
        }
        if len != self.now.len {
            self.lengths.push(len);
        }
        self.now.len = len;
    }

    pub(super) fn allocate(&mut self, from: u64, to: u64) {
        self.allocated.extend(pages(from, to));
        self.extend(to);
    }

    /// Makes all of it durable.
    pub(super) fn sync(&mut self) {
        self.sync_range(0, u64::MAX);
        self.sync_length();
    }

    /// Makes the bytes of the pages that [`from`, `to`) touches durable.
    pub(super) fn sync_range(&mut self, from: u64, to: u64) {
        for index in self.pending_sectors(from, to) {
            self.versions.remove(&index);
            self.durable.put(index, self.now.sector(index).clone());
        }
    }

    pub(super) fn sync_length(&mut self) {
        self.durable.set_len(self.now.len);
        self.lengths.clear();
        self.durable_allocated.clone_from(&self.allocated);
    }

    /// A sync failed, and what it was to write counts as written.
    pub(super) fn drop_pages(&mut self, from: u64, to: u64, revert: bool) {
        for index in self.pending_sectors(from, to) {
            self.versions.remove(&index);
            if revert {
                self.now.put(index, self.durable.sector(index).clone());
            } else {
                self.dropped = true;
            }
        }
    }

    fn pending_sectors(&self, from: u64, to: u64) -> Vec<u64> {
        let (pages, per_page) = (pages(from, to), PAGE / SECTOR);
        let sectors = pages.start * per_page..pages.end.saturating_mul(per_page);
        self.versions.range(sectors).map(|(index, _)| *index).collect()
    }

    /// The file as a power cut may leave it; `None` if it can only be as it is.
    ///
    /// The length is any it had since it was last synced, and each sector within it has any of the bytes it had since,
    /// independently of all others.
    pub(super) fn survive(&self, survivors: &mut dyn Survivors) -> Option<Self> {
        let settled = self.lengths.is_empty() && self.versions.is_empty() && !self.dropped;
        if settled && self.allocated == self.durable_allocated {
            return None;
        }
        let mut left = self.durable.clone();
        let len = *choose(&self.durable.len, &self.lengths, survivors);
        for (index, versions) in self.versions.range(..len.div_ceil(SECTOR)) {
            let sector = choose(self.durable.sector(*index), versions, survivors);
            left.put(*index, sector.clone());
        }
        left.set_len(len);
        let allocated: BTreeSet<u64> = self.durable_allocated.range(..len.div_ceil(PAGE)).copied().collect();
        let durable_allocated = allocated.clone();
        Some(Self { now: left.clone(), durable: left, allocated, durable_allocated, ..Self::default() })
    }

    pub(super) fn hash_into(&self, hasher: &mut impl Hasher) {
        self.now.len.hash(hasher);
        for (index, sector) in &self.now.sectors {
            (index, sector).hash(hasher);
        }
    }
}

/// The old value or one of the newer ones, each once.
fn choose<'a, T: PartialEq>(old: &'a T, newer: &'a [T], survivors: &mut dyn Survivors) -> &'a T {
    let mut distinct: Vec<&T> = Vec::new();
    for value in newer {
        // The last value stays the last option, so that the newest of everything is what a process saw.
        distinct.retain(|known| *known != value);
        distinct.push(value);
    }
    if distinct == [old] {
        return old;
    }
    match survivors.decide(distinct.len() + 1) {
        0 => old,
        newer => distinct[newer - 1],
    }
}

/// The pages that [`from`, `to`) touches.
fn pages(from: u64, to: u64) -> Range<u64> {
    if from < to { from / PAGE..to.div_ceil(PAGE) } else { 0..0 }
}
