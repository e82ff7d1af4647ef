//! Pages and blocks ahead of a fast appender, so that it does not wait for the kernel at each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::environment::Chore;
use crate::error::Result;
use crate::fs::Pages;
use crate::log::options::Durability;
use crate::log::{Appender, Shared};
use crate::segment::{ALLOCATION_STEP_MIN, LogFile, Segment};

/// Pages are populated as far ahead of an appender as it comes in this time,
const POPULATE_TIME: Duration = Duration::from_millis(32);
/// in bytes at most,
pub(in crate::log) const POPULATE_MAX: u64 = 64 << 20;
/// as many times what the segment holds,
const POPULATE_GROWTH: u64 = 8;
/// and not at all if that is less than this.
const POPULATE_MIN: u64 = 64 << 10;
/// Who makes so few bytes durable at a time waits for the file system's journal at nearly every block that is new: another
/// thread writes the blocks before,
const SMALL_SYNC: u64 = 32 << 10;
/// as far ahead as this at least.
const WRITE_AHEAD: u64 = 1 << 20;
/// A sync of so much may write a large page at each of its ends that it shares with others; a smaller one would write several
/// times what was appended.
const LARGE_SYNC: u64 = 4 << 20;
/// Of fewer syncs nothing follows.
const SYNCS_MIN: u64 = 4;
/// Where a new segment's pace is looked at first, long before its first blocks are full,
const FIRST_LOOK: u64 = 8 << 10;
/// and how much of its blocks may be left when more are asked for, however slow the appender is.
const BLOCKS_LEFT: u64 = 32 << 10;

/// An appender is fast for which as much is populated: 128 MiB/s.
const FAST: u64 = 4 << 20;
/// There are blocks for as many times what is populated at once.
const ALLOCATE_AHEAD: u64 = 4;

/// How fast the active segment fills, and how far its pages are populated.
#[derive(Debug, Default)]
pub(in crate::log) struct Pace {
    /// Up to here pages are populated, or being so.
    populated: u64,
    /// Where the appender asks to populate more.
    look_again: u64,
    last: Option<Look>,
    /// How far ahead it was populated then.
    ahead: u64,
    sync_size: SyncSize,
    unjudged: Unjudged,
}

/// How much of the log is made durable at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum SyncSize {
    /// [`SMALL_SYNC`] at most.
    Small,
    Medium,
    /// [`LARGE_SYNC`] or more, or never anything.
    #[default]
    Large,
}

impl SyncSize {
    fn of(bytes: u64, syncs: u64) -> Self {
        if bytes <= syncs * SMALL_SYNC {
            Self::Small
        } else if bytes < syncs * LARGE_SYNC {
            Self::Medium
        } else {
            Self::Large
        }
    }
}

/// The bytes and the syncs since the size of the syncs was last judged.
#[derive(Clone, Copy, Debug, Default)]
struct Unjudged {
    bytes: u64,
    syncs: u64,
}

impl Unjudged {
    /// The size of the syncs, once there are enough: one may be a roll's, or a snapshot's, and come at any place.
    fn judge(&mut self, bytes: u64, syncs: u64) -> Option<SyncSize> {
        self.bytes += bytes;
        self.syncs += syncs;
        let are_enough = self.syncs >= SYNCS_MIN || self.bytes >= SYNCS_MIN * LARGE_SYNC;
        are_enough.then(|| {
            let Self { bytes, syncs } = std::mem::take(self);
            SyncSize::of(bytes, syncs)
        })
    }
}

/// A look at the appender.
#[derive(Clone, Copy, Debug)]
struct Look {
    position: u64,
    time: Instant,
    /// How many syncs there had been of the log.
    syncs: u64,
}

/// What a worker is to populate.
#[derive(Debug)]
pub(in crate::log) struct Ahead {
    segment: Arc<Segment>,
    from: u64,
    to: u64,
    /// Up to here there must be blocks.
    blocks: u64,
    pages: Pages,
    /// Whether the blocks are written, too.
    writes_blocks: bool,
}

impl Pace {
    /// Where the appender is to be looked at again.
    pub(in crate::log) fn next(&self) -> u64 {
        self.look_again
    }

    /// Whether the appender will be through a segment within seconds.
    pub(in crate::log) fn is_fast(&self) -> bool {
        self.ahead >= FAST
    }

    /// What pages the appender gets whose log is as durable as that. They are large only for one that waits for no sync: what
    /// is populated stays as it is, and if it began to wait, megabytes were written for each of its kilobytes.
    pub(in crate::log) fn pages(&self, durability: Durability) -> Pages {
        match self.sync_size {
            SyncSize::Large if self.is_fast() && durability == Durability::Buffered => Pages::Large,
            SyncSize::Large => Pages::AsRead,
            SyncSize::Small | SyncSize::Medium => Pages::Small,
        }
    }

    /// Notes how far to populate ahead of the appender, in bytes.
    fn note(&mut self, look: Look) {
        let last = self.last.replace(look);
        self.ahead = 0;
        let Some(last) = last.filter(|last| last.position <= look.position) else { return };
        let elapsed = (look.time - last.time).max(Duration::from_micros(1));
        let bytes = look.position - last.position;
        let ahead = bytes as f64 * POPULATE_TIME.as_secs_f64() / elapsed.as_secs_f64();
        self.sync_size = self.unjudged.judge(bytes, look.syncs - last.syncs).unwrap_or(self.sync_size);
        if ahead >= POPULATE_MIN as f64 {
            let ahead = (ahead as u64).max(if self.writes_blocks() { WRITE_AHEAD } else { 0 });
            // Two small batches at once say little: a thousand partitions may have them.
            self.ahead = ahead.min(POPULATE_MAX).min(look.position * POPULATE_GROWTH);
        }
    }

    /// Whether blocks are written where pages are populated.
    fn writes_blocks(&self) -> bool {
        self.sync_size == SyncSize::Small
    }

    /// Where to look again, after a look at `position`.
    fn next_look(&self, position: u64, allocated: u64) -> u64 {
        let next = position + if self.ahead == 0 { POPULATE_MIN } else { self.ahead / 4 };
        let blocks_run_short = allocated.saturating_sub(BLOCKS_LEFT);
        if position < FIRST_LOOK {
            FIRST_LOOK
        } else if self.ahead == 0 && position < blocks_run_short {
            next.min(blocks_run_short)
        } else {
            next
        }
    }
}

impl Appender {
    /// What to populate now, by how fast the appender came here; nothing for a slow one. Notes where to look again.
    fn populate_next(&mut self, syncs: u64, durability: Durability) -> Option<Ahead> {
        let writer = self.writer.as_ref()?;
        let (segment, position) = (Arc::clone(writer.segment()), writer.position());
        self.pace.note(Look { position, time: Instant::now(), syncs });
        let (from, to) = (self.pace.populated.max(position), position + self.pace.ahead);
        let (allocated, blocks) = (segment.file().allocated(), to.max(position + BLOCKS_LEFT));
        self.pace.populated = from.max(to);
        self.pace.look_again = self.pace.next_look(position, allocated);
        let (pages, writes_blocks) = (self.pace.pages(durability), self.pace.writes_blocks() && from < to);
        (from < to || allocated < blocks).then_some(Ahead { segment, from, to, blocks, pages, writes_blocks })
    }
}

impl Shared {
    /// Begins anew: the appender has come to another segment.
    pub(in crate::log) fn restart_pace(&self, appender: &mut Appender) {
        appender.pace = Pace::default();
        *self.ahead.lock() = None;
    }

    /// Asks for pages where the appender will be soon. It looks at its pace itself: a worker would have to wait for the
    /// append lock, which a fast appender holds half of the time.
    #[inline]
    pub(in crate::log) fn request_pages(&self, appender: &mut Appender, position: u64) {
        if position >= appender.pace.look_again {
            self.request_pages_now(appender);
        }
    }

    #[cold]
    fn request_pages_now(&self, appender: &mut Appender) {
        let (syncs, durability) = (self.counters.syncs(), self.admission.durability());
        let Some(next) = appender.populate_next(syncs, durability) else { return };
        let mut ahead = self.ahead.lock();
        let pending = ahead.take().filter(|pending| Arc::ptr_eq(&pending.segment, &next.segment));
        *ahead = Some(match pending {
            None => next,
            Some(pending) => Ahead {
                from: pending.from,
                to: pending.to.max(next.to),
                blocks: pending.blocks.max(next.blocks),
                writes_blocks: pending.writes_blocks || next.writes_blocks,
                ..next
            },
        });
        drop(ahead);
        self.request(Chore::Populate);
    }

    /// Populates pages, and allocates blocks, as far as was asked for.
    pub(in crate::log) fn populate(&self) -> Result<()> {
        let Some(Ahead { segment, from, to, blocks, pages, writes_blocks }) = self.ahead.lock().take() else {
            return Ok(());
        };
        let file = segment.file();
        // What is in nobody's way yet gets no more than the budget leaves.
        let granted = file.allocated().saturating_add(self.environment.space.room().max(ALLOCATION_STEP_MIN));
        self.allocate_in(file, blocks.min(granted).min(u64::from(self.options().segment_bytes)))?;
        segment.populate(from, to, pages);
        // A busy disk may take long to find blocks: they are there long before the appender is.
        self.allocate_ahead(file, blocks.saturating_add(to.saturating_sub(from) * ALLOCATE_AHEAD))?;
        // Not by the appender itself, which would wait for what it is to be spared.
        let is_aside = self.environment.queue.has_workers();
        if writes_blocks && is_aside { file.write_blocks(from, to) } else { Ok(()) }
    }

    /// A step further if there are no blocks up to `end`.
    fn allocate_ahead(&self, file: &LogFile, end: u64) -> Result<()> {
        let (allocated, capacity) = (file.allocated(), u64::from(self.options().segment_bytes));
        if end > allocated && allocated < capacity { self.allocate_in(file, allocated + 1) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSITION: u64 = 100 << 20;

    /// What a look says behind another one, between which so many bytes came in so long a time, with so many syncs.
    fn pace(bytes: u64, milliseconds: u64, syncs: u64) -> Pace {
        let mut pace = Pace::default();
        let first = Look { position: POSITION, time: Instant::now(), syncs: 5 };
        pace.note(first);
        assert_eq!((pace.ahead, pace.writes_blocks()), (0, false), "of one look nothing follows");
        let time = first.time + Duration::from_millis(milliseconds);
        pace.note(Look { position: POSITION + bytes, time, syncs: 5 + syncs });
        pace
    }

    #[test]
    fn pages_are_populated_as_far_ahead_as_an_appender_comes_in_the_time_of_populating() {
        assert_eq!(pace(4 << 20, 64, 0).ahead, 2 << 20);
        assert_eq!(pace(4 << 20, 1, 0).ahead, POPULATE_MAX);
        assert_eq!(pace(64 << 10, 1000, 0).ahead, 0, "a slow one faults by itself");
    }

    #[test]
    fn blocks_are_written_ahead_of_an_appender_whose_syncs_are_small() {
        let ahead = |bytes, milliseconds, syncs| {
            let pace = pace(bytes, milliseconds, syncs);
            (pace.ahead, pace.writes_blocks())
        };
        assert_eq!(ahead(320 << 10, 32, 300), (WRITE_AHEAD, true), "a batch of 1 KiB in each");
        assert_eq!(ahead(320 << 10, 32, 10), (WRITE_AHEAD, true));
        assert_eq!(ahead(320 << 10, 32, 9), (320 << 10, false), "more than 32 KiB in each");
        assert_eq!(ahead(64 << 10, 1000, 64).0, 0, "a slow one waits for the journal");
        assert_eq!(ahead(8 << 20, 32, 8000), (8 << 20, true));
    }

    #[test]
    fn pages_are_as_large_as_what_is_synced_at_a_time() {
        let pages = |bytes, syncs, durability| pace(bytes, 16, syncs).pages(durability);
        assert_eq!(pages(16 << 20, 0, Durability::Buffered), Pages::Large);
        assert_eq!(pages(16 << 20, 4, Durability::Buffered), Pages::Large);
        assert_eq!(pages(16 << 20, 5, Durability::Buffered), Pages::Small, "the host syncs by itself");
        assert_eq!(pages(16 << 20, 4, Durability::Synced), Pages::AsRead);
        assert_eq!(pages(16 << 20, 5, Durability::Synced), Pages::Small);
        assert_eq!(pages(512 << 10, 0, Durability::Buffered), Pages::AsRead, "a slow one");
    }

    /// One sync seen by one look made the pages small until the next roll, of a log that syncs at rolls and checkpoints only.
    #[test]
    fn the_size_of_syncs_follows_from_several() {
        let mut pace = Pace::default();
        let mut look = Look { position: POSITION, time: Instant::now(), syncs: 5 };
        pace.note(look);
        let mut size_after = |looks: u64, bytes, syncs| {
            for _ in 0..looks {
                look = Look { position: look.position + bytes, syncs: look.syncs + syncs, ..look };
                pace.note(look);
            }
            pace.sync_size
        };
        assert_eq!(size_after(1, 64 << 10, 1), SyncSize::Large, "a roll's");
        assert_eq!(size_after(255, 1 << 20, 0), SyncSize::Large);
        assert_eq!(size_after(1, 1 << 20, 1), SyncSize::Large, "a snapshot's");
        assert_eq!(size_after(16, 1 << 20, 1), SyncSize::Medium);
        assert_eq!(size_after(15, 1 << 20, 0), SyncSize::Medium, "between two syncs");
        assert_eq!(size_after(2, 64 << 10, 64), SyncSize::Small);
        assert_eq!(size_after(32, 1 << 20, 0), SyncSize::Large, "it syncs no more");
    }

    #[test]
    fn a_small_segment_gets_no_more_than_a_multiple_of_what_it_holds() {
        let mut pace = Pace::default();
        let first = Look { position: 0, time: Instant::now(), syncs: 0 };
        pace.note(first);
        let time = first.time + Duration::from_millis(1);
        pace.note(Look { position: FIRST_LOOK, time, syncs: 8 });
        assert_eq!(pace.ahead, FIRST_LOOK * POPULATE_GROWTH);
    }
}
