//! Checks CRCs ahead of the scans of an opening, by threads that have no partition left to open.
//!
//! A scan takes batches in order, one thread to a partition. Whether the CRC of a batch matches depends on nothing else, and
//! costs more than all the rest: others find it out for the segments that the scan will come to. What they find sound, the
//! scan need not check again; of whatever else they find, they say nothing, and the scan comes to its own end there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::segment::{BatchCursor, PlacedBatch, Segment};

/// How many segments are checked ahead of a scan, at most: with so many helpers it never waits for a CRC, and what was
/// checked is still in the page cache when the scan comes to it.
pub(crate) const SEGMENTS_AHEAD: usize = 3;

/// The scans under way in a directory that opens.
#[derive(Debug, Default)]
pub(crate) struct CheckAhead {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many threads may still begin a scan.
    openers: usize,
    scans: Vec<Scanned>,
    /// For telling the scans apart.
    begun: u64,
}

/// The segments of one scan.
#[derive(Debug)]
struct Scanned {
    number: u64,
    segments: Arc<[Segmented]>,
    /// The segment that the scan is at.
    reading: usize,
    /// The first that nobody is at, or was.
    unclaimed: usize,
    /// How many helpers are at it.
    helpers: usize,
}

/// What is known of one segment.
#[derive(Debug)]
struct Segmented {
    segment: Arc<Segment>,
    /// The batches from the segment's beginning up to here are sound. Released batch by batch.
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
    pub(crate) fn scan(&self, segments: impl Iterator<Item = Arc<Segment>>) -> ScanAhead<'_> {
        let known = |segment| Segmented {
            segment,
            sound_below: AtomicU64::new(0),
            is_overtaken: AtomicBool::new(false),
        };
        let segments: Arc<[Segmented]> = segments.map(known).collect();
        if segments.len() < 2 {
            // Nothing lies ahead.
            return ScanAhead { ahead: self, number: 0, segments: Arc::default() };
        }
        let mut state = self.state.lock();
        state.begun += 1;
        let number = state.begun;
        let scanned = Scanned { number, segments, reading: 0, unclaimed: 0, helpers: 0 };
        let segments = Arc::clone(&scanned.segments);
        state.scans.push(scanned);
        self.changed.notify_all();
        ScanAhead { ahead: self, number, segments }
    }

    /// Checks segments ahead of the scans of others, until no scan is under way and none can begin any more.
    pub(crate) fn help(&self) {
        while let Some((number, segments, at)) = self.claim() {
            let _claimed = Claimed { ahead: self, number };
            segments[at].check();
        }
    }

    fn claim(&self) -> Option<(u64, Arc<[Segmented]>, usize)> {
        let mut state = self.state.lock();
        loop {
            if let Some(scan) = state.scans.iter_mut().find(|scan| scan.has_work()) {
                let at = scan.unclaimed;
                scan.unclaimed += 1;
                scan.helpers += 1;
                return Some((scan.number, Arc::clone(&scan.segments), at));
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
        self.unclaimed < self.segments.len() && self.unclaimed <= self.reading + SEGMENTS_AHEAD
    }
}

impl Segmented {
    /// Walks the batches as the scan will, and ends without a word where it would.
    fn check(&self) {
        let mut cursor = BatchCursor::new(Arc::clone(&self.segment), 0);
        let mut scratch = Vec::new();
        while let Ok(Some(batch)) = cursor.peek()
            && !self.is_overtaken.load(Ordering::Relaxed)
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

/// A helper that is at a segment.
struct Claimed<'a> {
    ahead: &'a CheckAhead,
    number: u64,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        drop(self.ahead.with_scan(self.number, |scan| scan.helpers -= 1));
    }
}

/// One scan, from its own side. Once it is dropped no helper is at any of its segments.
#[derive(Debug)]
pub(crate) struct ScanAhead<'a> {
    ahead: &'a CheckAhead,
    number: u64,
    segments: Arc<[Segmented]>,
}

impl ScanAhead<'_> {
    /// The scan comes to this segment: what is known of it, from now on.
    pub(crate) fn enter(&self, segment: &Arc<Segment>) -> Sound<'_> {
        let base = segment.base_offset();
        let at = self.segments.binary_search_by_key(&base, |known| known.segment.base_offset()).ok();
        let enter = |at: usize| {
            drop(self.ahead.with_scan(self.number, |scan| {
                scan.reading = at;
                scan.unclaimed = scan.unclaimed.max(at + 1);
            }));
            &self.segments[at]
        };
        Sound { segment: at.map(enter), below: 0 }
    }
}

impl Drop for ScanAhead<'_> {
    fn drop(&mut self) {
        if self.segments.is_empty() {
            return;
        }
        self.segments.iter().for_each(|segment| segment.is_overtaken.store(true, Ordering::Relaxed));
        let number = self.number;
        let mut state = self.ahead.with_scan(number, |scan| scan.unclaimed = scan.segments.len());
        while state.scans.iter().any(|scan| scan.number == number && scan.helpers > 0) {
            self.ahead.changed.wait(&mut state);
        }
        state.scans.retain(|scan| scan.number != number);
        // Those that the scan did not come to, and those that a helper opened again behind it.
        self.segments.iter().for_each(|known| known.segment.file().release());
    }
}

/// How far a segment is known to be sound, for the one scan of it.
#[derive(Debug)]
pub(crate) struct Sound<'a> {
    /// `None` where nobody is ahead.
    segment: Option<&'a Segmented>,
    below: u64,
}

impl Sound<'_> {
    /// Nothing is known.
    pub(crate) const NOTHING: Sound<'static> = Sound { segment: None, below: 0 };

    /// What of it helps a walk from `start` on: a position in the middle may not be where a batch begins.
    pub(crate) fn for_walk_from(self, start: u64) -> Self {
        if start == 0 { self } else { Self::NOTHING }
    }

    /// Whether the batch that a walk from the segment's beginning has come to is known to be sound. After the first one that is
    /// not, nobody goes on.
    #[inline]
    pub(crate) fn covers(&mut self, batch: &PlacedBatch) -> bool {
        batch.end() <= self.below || self.look(batch.end())
    }

    fn look(&mut self, end: u64) -> bool {
        let Some(known) = self.segment else { return false };
        self.below = known.sound_below.load(Ordering::Acquire);
        if end > self.below {
            known.is_overtaken.store(true, Ordering::Relaxed);
            self.segment = None;
        }
        end <= self.below
    }
}
