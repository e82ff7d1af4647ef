//! Checks CRCs ahead of the scans of an opening, by threads that have no partition left to open.
//!
//! A scan takes batches in order, one thread to a partition. Whether the CRC of a batch matches depends on nothing else, and
//! costs more than all the rest: others find it out for pieces of the files that the scan will come to. What they find sound,
//! the scan need not check again; of whatever else they find, they say nothing, and the scan comes to its own end there.
//!
//! A helper that begins in the middle of a file cannot know where a batch begins there. It takes the first place that looks
//! like it, and says which: only a scan that comes to the same place, batch by batch, goes on with what the helper found from
//! there. A place in the middle of a batch (a record may hold what looks like a batch) helps nobody, and harms nobody.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::segment::{BatchCursor, PlacedBatch, Segment};

/// How much of a file one helper checks at a time: what it has read is still in the processor's cache when the scan comes to
/// it, and a helper that comes late finds something left to do.
const PIECE_BYTES: u64 = 2 << 20;

/// How many pieces are checked ahead of a scan, at most.
const PIECES_AHEAD: usize = 4;

/// With so many helpers a scan never waits for a CRC.
pub(crate) const HELPERS_MAX: usize = 3;

/// The scans under way in a directory that opens.
#[derive(Debug)]
pub(crate) struct CheckAhead {
    state: Mutex<State>,
    changed: Condvar,
    piece_bytes: u64,
}

impl Default for CheckAhead {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), piece_bytes: PIECE_BYTES }
    }
}

#[derive(Debug, Default)]
struct State {
    /// How many threads may still begin a scan.
    openers: usize,
    scans: Vec<Scanned>,
    /// For telling the scans apart.
    begun: u64,
}

/// The pieces of one scan.
#[derive(Debug)]
struct Scanned {
    number: u64,
    pieces: Arc<[Piece]>,
    /// The piece that the scan is at.
    reading: usize,
    /// The first that nobody is at, or was.
    unclaimed: usize,
    /// How many helpers are at it.
    helpers: usize,
}

/// What is known of the batches that begin in a piece of a segment.
#[derive(Debug)]
struct Piece {
    segment: Arc<Segment>,
    start: u64,
    end: u64,
    /// Where the first of them was found.
    sound_from: AtomicU64,
    /// From there up to here they are sound, one behind the other. Released batch by batch.
    sound_below: AtomicU64,
    /// Whether the scan has come as far, so that its helper only does the same again.
    is_overtaken: AtomicBool,
}

impl CheckAhead {
    /// Counts a thread that will begin scans, until what is returned is dropped. All are counted before the first one
    /// begins, or it might find nobody to help.
    pub(crate) fn opener(&self) -> Opener<'_> {
        self.state.lock().openers += 1;
        Opener { ahead: self }
    }

    /// Begins a scan of these segments, of which every batch will be checked.
    pub(crate) fn scan<'a>(&self, segments: impl Iterator<Item = &'a Arc<Segment>>) -> ScanAhead<'_> {
        let pieces: Arc<[Piece]> =
            segments.flat_map(|segment| Piece::all_of(segment, self.piece_bytes)).collect();
        if pieces.len() < 2 {
            // Nothing lies ahead.
            return ScanAhead { ahead: self, number: 0, pieces: Arc::default() };
        }
        let mut state = self.state.lock();
        state.begun += 1;
        let number = state.begun;
        let scanned = Scanned { number, pieces, reading: 0, unclaimed: 0, helpers: 0 };
        let pieces = Arc::clone(&scanned.pieces);
        state.scans.push(scanned);
        self.changed.notify_all();
        ScanAhead { ahead: self, number, pieces }
    }

    /// Checks pieces ahead of the scans of others, until no scan is under way and none can begin any more.
    pub(crate) fn help(&self) {
        while let Some((number, pieces, at)) = self.claim() {
            let _claimed = Claimed { ahead: self, number };
            pieces[at].check();
        }
    }

    fn claim(&self) -> Option<(u64, Arc<[Piece]>, usize)> {
        let mut state = self.state.lock();
        loop {
            if let Some(scan) = state.scans.iter_mut().find(|scan| scan.has_work()) {
                let at = scan.unclaimed;
                scan.unclaimed += 1;
                scan.helpers += 1;
                return Some((scan.number, Arc::clone(&scan.pieces), at));
            }
            if state.openers == 0 {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn with_scan(&self, number: u64, change: impl FnOnce(&mut Scanned)) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if let Some(scan) = state.scans.iter_mut().find(|scan| scan.number == number) {
            change(scan);
        }
        self.changed.notify_all();
        state
    }
}

impl Scanned {
    fn has_work(&self) -> bool {
        self.unclaimed < self.pieces.len() && self.unclaimed <= self.reading + PIECES_AHEAD
    }
}

impl Piece {
    fn all_of(segment: &Arc<Segment>, piece_bytes: u64) -> impl Iterator<Item = Self> {
        let count = segment.file().end().div_ceil(piece_bytes).max(1);
        (0..count).map(move |at| Self {
            segment: Arc::clone(segment),
            start: at * piece_bytes,
            end: (at + 1) * piece_bytes,
            sound_from: AtomicU64::new(0),
            sound_below: AtomicU64::new(0),
            is_overtaken: AtomicBool::new(false),
        })
    }

    /// Walks the batches as the scan will, and ends without a word where it would.
    fn check(&self) {
        let mut cursor = BatchCursor::new(Arc::clone(&self.segment), self.start);
        let begins = self.start == 0 || cursor.find(self.end - self.start).unwrap_or(false);
        if !begins {
            return;
        }
        // Nobody looks at it before what is below is released.
        self.sound_from.store(cursor.position(), Ordering::Relaxed);
        let mut scratch = Vec::new();
        while cursor.position() < self.end
            && !self.is_overtaken.load(Ordering::Relaxed)
            && let Ok(Some(batch)) = cursor.peek()
            && cursor.check(&batch, &mut scratch).is_ok()
        {
            cursor.pass(&batch);
            self.sound_below.store(cursor.position(), Ordering::Release);
        }
    }
}

/// A thread that may still begin a scan, for as long as this is there.
#[derive(Debug)]
pub(crate) struct Opener<'a> {
    ahead: &'a CheckAhead,
}

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.ahead.state.lock().openers -= 1;
        self.ahead.changed.notify_all();
    }
}

/// A helper that is at a piece.
struct Claimed<'a> {
    ahead: &'a CheckAhead,
    number: u64,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        drop(self.ahead.with_scan(self.number, |scan| scan.helpers -= 1));
    }
}

/// One scan, from its own side. Once it is dropped no helper is at any of its pieces.
#[derive(Debug)]
pub(crate) struct ScanAhead<'a> {
    ahead: &'a CheckAhead,
    number: u64,
    pieces: Arc<[Piece]>,
}

impl ScanAhead<'_> {
    /// The scan comes to this segment: what is known of it, from now on.
    pub(crate) fn enter(&self, segment: &Arc<Segment>) -> Sound<'_> {
        let base = segment.base_offset();
        let first = self.pieces.partition_point(|piece| piece.segment.base_offset() < base);
        let count = self.pieces[first..].partition_point(|piece| piece.segment.base_offset() == base);
        if count == 0 {
            return Sound::NOTHING;
        }
        Sound { scan: Some(self), pieces: first..first + count, piece_end: 0, ..Sound::NOTHING }
    }

    /// The scan comes to this piece: no helper begins there, or before it, any more.
    fn reach(&self, at: usize) -> &Piece {
        drop(self.ahead.with_scan(self.number, |scan| {
            scan.reading = at;
            scan.unclaimed = scan.unclaimed.max(at + 1);
        }));
        &self.pieces[at]
    }
}

impl Drop for ScanAhead<'_> {
    fn drop(&mut self) {
        if self.pieces.is_empty() {
            return;
        }
        self.pieces.iter().for_each(|piece| piece.is_overtaken.store(true, Ordering::Relaxed));
        let number = self.number;
        let mut state = self.ahead.with_scan(number, |scan| scan.unclaimed = scan.pieces.len());
        while state.scans.iter().any(|scan| scan.number == number && scan.helpers > 0) {
            self.ahead.changed.wait(&mut state);
        }
        state.scans.retain(|scan| scan.number != number);
        // Those that the scan did not come to, and those that a helper opened again behind it.
        let firsts = self.pieces.iter().filter(|piece| piece.start == 0);
        firsts.for_each(|piece| piece.segment.file().release());
    }
}

/// How far a segment is known to be sound, for the one scan of it.
#[derive(Debug)]
pub(crate) struct Sound<'a> {
    /// `None` where nobody is ahead.
    scan: Option<&'a ScanAhead<'a>>,
    /// Which of the scan's pieces are those of the segment.
    pieces: Range<usize>,
    /// The piece that the scan is at. `None` where nothing is known of it, or will be.
    piece: Option<&'a Piece>,
    /// Where the next one begins,
    piece_end: u64,
    /// and where the scan came to this one.
    entered_at: u64,
    below: u64,
}

impl Sound<'_> {
    /// Nothing is known.
    pub(crate) const NOTHING: Sound<'static> =
        Sound { scan: None, pieces: 0..0, piece: None, piece_end: u64::MAX, entered_at: 0, below: 0 };

    /// Whether the batch that the scan has come to is known to be sound. After the first one of a piece that is not, the
    /// scan goes on by itself up to the next piece.
    #[inline]
    pub(crate) fn covers(&mut self, batch: &PlacedBatch) -> bool {
        if batch.position >= self.piece_end {
            self.enter(batch.position);
        }
        batch.end() <= self.below || self.look(batch.end())
    }

    #[cold]
    fn enter(&mut self, position: u64) {
        let Some(scan) = self.scan else { return };
        let number = position / scan.ahead.piece_bytes;
        (self.entered_at, self.below) = (position, 0);
        self.piece_end = (number + 1) * scan.ahead.piece_bytes;
        let at = self.pieces.start + number as usize;
        self.piece = self.pieces.contains(&at).then(|| scan.reach(at));
    }

    fn look(&mut self, end: u64) -> bool {
        let Some(piece) = self.piece else { return false };
        let below = piece.sound_below.load(Ordering::Acquire);
        let is_sound = end <= below && piece.sound_from.load(Ordering::Relaxed) == self.entered_at;
        if is_sound {
            self.below = below;
        } else {
            piece.is_overtaken.store(true, Ordering::Relaxed);
            self.piece = None;
        }
        is_sound
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::batch::{BatchBuilder, BatchHeader, layout};
    use crate::crc::crc32c;
    use crate::fs::{IoMode, RealDisk};
    use crate::segment::{IndexOptions, LogFile};
    use crate::types::Offset;

    /// A segment of batches of many sizes. Every seventh holds what looks like the ones behind it.
    fn batches() -> Vec<Vec<u8>> {
        let mut behind: Vec<Vec<u8>> = Vec::new();
        for number in (0..120_i64).rev() {
            let size = (number * 37 % 300) as usize;
            let inner = behind.iter().rev().take(3).flatten().copied().collect();
            let value = if number % 7 == 3 { inner } else { vec![number as u8; size] };
            let batch = BatchBuilder::new().base_offset(Offset(number)).record(b"", &value).build().unwrap();
            behind.push(batch.bytes().to_vec());
        }
        behind.reverse();
        behind
    }

    fn segment(directory: &Path, bytes: &[u8]) -> Arc<Segment> {
        let path = directory.join("00000000000000000000.log");
        std::fs::write(&path, bytes).unwrap();
        let len = bytes.len() as u64;
        let file = LogFile::new(Arc::new(RealDisk), IoMode::Mapped, path, len, len);
        let indexes = IndexOptions { interval_bytes: 4096, max_bytes: 10 << 20 };
        Arc::new(Segment::sealed(Offset(0), file, indexes))
    }

    /// Has helpers check all pieces, then walks the batches up to the first whose CRC is wrong. How many they covered.
    fn covered(segment: &Arc<Segment>, piece_bytes: u64) -> Result<usize, u64> {
        let ahead = CheckAhead { piece_bytes, ..CheckAhead::default() };
        let scan = ahead.scan([segment].into_iter());
        scan.pieces.iter().for_each(Piece::check);
        let mut sound = scan.enter(segment);
        let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
        let mut count = 0;
        while let Ok(Some(batch)) = cursor.peek() {
            let is_covered = sound.covers(&batch);
            if cursor.check(&batch, &mut Vec::new()).is_err() {
                return if is_covered { Err(batch.position) } else { Ok(count) };
            }
            count += usize::from(is_covered);
            cursor.pass(&batch);
        }
        Ok(count)
    }

    const PIECES: [u64; 6] = [90, 250, 700, 2000, 9000, 30_000];

    #[test]
    fn helpers_that_begin_anywhere_cover_most_of_a_segment() {
        let directory = tempfile::tempdir().unwrap();
        let batches = batches();
        let segment = segment(directory.path(), &batches.concat());
        for piece_bytes in PIECES {
            let covered = covered(&segment, piece_bytes).unwrap();
            // Where a piece begins among what only looks like batches, its helper covers none of it.
            assert!(covered > batches.len() / 3, "{covered} of {} in {piece_bytes}", batches.len());
            assert!(piece_bytes < 20_000 || covered == batches.len(), "{covered}");
        }
    }

    #[test]
    fn helpers_never_cover_a_batch_whose_crc_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = batches().concat();
        for position in (17..bytes.len()).step_by(53) {
            bytes[position] ^= 0x20;
            let segment = segment(directory.path(), &bytes);
            for piece_bytes in PIECES {
                let covered = covered(&segment, piece_bytes);
                assert!(covered.is_ok(), "{covered:?}, changed at {position}, pieces of {piece_bytes}");
            }
            bytes[position] ^= 0x20;
        }
    }

    /// A record can hold a header that makes all that follows, up to the end of another batch, look like one batch.
    #[test]
    fn a_helper_that_began_in_the_middle_of_a_batch_covers_none() {
        let directory = tempfile::tempdir().unwrap();
        let build = |offset, value: &[u8]| {
            BatchBuilder::new()
                .base_offset(Offset(offset))
                .record(b"", value)
                .build()
                .unwrap()
                .bytes()
                .to_vec()
        };
        let (first, mut third) = (build(0, &[0; 500]), build(2, &[2; 300]));
        *third.last_mut().unwrap() ^= 1;
        let mut inner = build(1, b"")[..BatchHeader::SIZE].to_vec();
        // What is behind it: the record's last byte, which says that there are no headers, and the third batch.
        let len = inner.len() + 1 + third.len();
        inner[layout::LENGTH..][..4].copy_from_slice(&((len - layout::LENGTH_OVERHEAD) as u32).to_be_bytes());
        let covered_bytes = [&inner[layout::ATTRIBUTES..], &[0], &third].concat();
        inner[layout::CRC..][..4].copy_from_slice(&crc32c(&covered_bytes).to_be_bytes());
        let bytes = [first.clone(), build(1, &inner), third, build(3, b"")].concat();
        let segment = segment(directory.path(), &bytes);

        let piece = Piece::all_of(&segment, first.len() as u64 + 1).nth(1).unwrap();
        piece.check();
        assert_eq!(piece.sound_below.into_inner(), bytes.len() as u64, "it was led astray");
        assert_eq!(covered(&segment, first.len() as u64 + 1), Ok(2));
    }
}
