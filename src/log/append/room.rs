//! Room for what is appended: which segment, whether it has blocks, and who gets them.

use super::plan::Demand;
use crate::error::{Error, Result};
use crate::log::{Appender, Shared};
use crate::segment::SegmentWriter;
use crate::types::{Offset, Timestamp};

/// What an append lacks before it can go on. Made without the append lock.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) enum Need {
    /// Blocks of the disk up to this position of the segment that begins here, as long as it is the active one.
    Blocks { base: Offset, end: u64 },
    /// A writer for the last segment, up to this position at least: it was opened or recovered, or its map is too small
    /// for what the options say by now.
    Writer(u64),
    /// A new segment that has blocks for so many bytes.
    Segment(u64),
    /// More offsets than there are.
    Offsets,
}

impl Shared {
    /// Sees that the active segment can take the batches, rolling if the next one is ready; where to, if it did.
    pub(super) fn make_room(
        &self,
        appender: &mut Appender,
        demand: Option<Demand>,
        now: Timestamp,
    ) -> Result<Option<Offset>, Need> {
        let Some(demand) = demand else { return Ok(None) };
        if demand.last_offset == Offset(i64::MAX) {
            return Err(Need::Offsets);
        }
        let mut rolled = None;
        if self.must_roll(appender, demand, now)? {
            let prepared = appender.prepared.take_if(|next| next.file.allocated() >= demand.bytes);
            let prepared = prepared.ok_or(Need::Segment(demand.bytes))?;
            let base = self.next_base(demand);
            self.activate(appender, prepared, base);
            rolled = Some(base);
        }
        let writer = appender.writer.as_ref().ok_or(Need::Segment(demand.bytes))?;
        let end = writer.position() + demand.bytes;
        if end > writer.capacity() {
            appender.writer = None;
            return Err(Need::Writer(end));
        }
        let segment = writer.segment();
        if end > segment.file().allocated() {
            return Err(Need::Blocks { base: segment.base_offset(), end });
        }
        Ok(rolled)
    }

    /// Whether there will be batches above the end of the last one, in a segment without a name; which it still lacks if an
    /// earlier call failed to give it one.
    pub(super) fn leaves_gap(&self, appender: &mut Appender, demand: Option<Demand>) -> bool {
        let writer = appender.writer.as_ref().filter(|writer| !writer.segment().is_named());
        let log_end = self.watermarks.log_end();
        let is_gap = |writer: &SegmentWriter, demand: Demand| {
            (writer.position() == 0 || demand.first_offset > log_end)
                && demand.first_offset > self.watermarks.batch_end_at(log_end)
        };
        let is_behind = |writer| appender.behind_gap || demand.is_some_and(|demand| is_gap(writer, demand));
        appender.behind_gap = writer.is_some_and(is_behind);
        appender.behind_gap
    }

    /// Where the next segment begins: with its first batch. A log's first segment begins where the log does, so that an
    /// opening finds the same log start offset, unless its first batch is too far above.
    fn next_base(&self, demand: Demand) -> Offset {
        let log_end = self.watermarks.log_end();
        let fits = demand.last_offset - log_end <= i64::from(i32::MAX);
        if fits && self.segments.load().is_empty() { log_end } else { demand.first_offset }
    }

    /// Kafka's rule (`LogSegment.shouldRoll`): the segment would become too large, is too old, an index is full, or the
    /// last offset is too far from the base.
    fn must_roll(&self, appender: &Appender, demand: Demand, now: Timestamp) -> Result<bool, Need> {
        let Some(writer) = &appender.writer else {
            // Also where the last segment is full: nobody but its writer sees that it ends with what was published.
            return if self.segments.load().is_empty() { Ok(true) } else { Err(Need::Writer(0)) };
        };
        let base = writer.segment().base_offset();
        if demand.last_offset > last_offset_from(base) {
            return Ok(true);
        }
        Ok(writer.position() > 0
            && (writer.position() + demand.bytes > u64::from(appender.options.segment_bytes)
                || writer.age(demand.timestamp, now) > appender.options.segment_ms
                || writer.indexes_are_full()))
    }

    /// Makes what an append found missing that did not wait for it.
    pub(in crate::log) fn provide_needed(&self) -> Result<()> {
        let needed = self.needed.lock().take();
        needed.map_or(Ok(()), |need| self.change(|| self.provide(need)))
    }

    pub(super) fn provide(&self, need: Need) -> Result<()> {
        match need {
            Need::Blocks { base, end } => self.allocate(base, end),
            Need::Writer(end) => self.open_writer(end),
            Need::Segment(bytes) => {
                self.counters.segment_stalls.add(1);
                self.prepare()?;
                self.extend_prepared(bytes)
            }
            Need::Offsets => Err(Error::OffsetsExhausted),
        }
    }

    /// Gives the segment that begins at `base` blocks up to `end` at least. Where another one is active by now, that one lacks none:
    /// they would be all of its size.
    fn allocate(&self, base: Offset, end: u64) -> Result<()> {
        let active = self.segments.load().last().filter(|last| last.base_offset() == base).cloned();
        let Some(segment) = active else { return Ok(()) };
        self.counters.page_stalls.add(1);
        self.allocate_in(segment.file(), end)
    }
}

/// The last offset that fits into a segment that begins at `base`, whose indexes count in four bytes.
pub(super) fn last_offset_from(base: Offset) -> Offset {
    Offset(base.0.saturating_add(i64::from(i32::MAX)).min(i64::MAX - 1))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;
    use std::sync::Arc;

    use crate::error::Error;
    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;
    use crate::{AppendOptions, BatchBuilder, LogDir, LogDirOptions, LogOptions};

    /// Where the log was rolled meanwhile, the next segment got the blocks that its predecessor had lacked at its end: up to all
    /// of the segment's size at once, for nothing.
    #[test]
    fn blocks_that_a_segment_lacked_are_not_given_to_the_next_one() {
        let disk = Arc::new(SimDisk::new(IoMode::Mapped));
        let log = LogOptions::default().segment_bytes(16 << 20).max_batch_bytes(1 << 20);
        let dir = LogDir::open("/data", LogDirOptions::default().log(log).disk(disk)).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let batch = BatchBuilder::new().record("k", vec![b'v'; 100_000]).build().unwrap();
        (0..80).for_each(|_| assert!(log.append(&batch).is_ok()));
        let refused = loop {
            if let Err(error) = log.try_submit(from_ref(&batch), AppendOptions::default()) {
                break error;
            }
        };
        assert!(matches!(refused, Error::WouldBlock { bound: "room" }), "{refused}");
        let shared = &log.shared;
        // By somebody who had seen the segment before it was rolled.
        let needed = *shared.needed.lock();
        log.roll().unwrap();
        assert!(shared.needed.lock().is_none(), "whoever tries again says what it lacks by then");
        *shared.needed.lock() = needed;
        let active = || shared.segments.load().last().unwrap().file().allocated();
        let before = active();
        shared.provide_needed().unwrap();
        assert_eq!(active(), before);
        log.append(&batch).unwrap();
    }
}
