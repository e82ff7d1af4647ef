//! Where in a segment the batch of an offset or a time is.

use std::sync::Arc;

use super::time_index::TimePosition;
use super::{BatchCursor, IndexPosition, Segment};
use crate::error::Result;
use crate::types::{Offset, Timestamp};

impl Segment {
    /// A cursor at the first batch whose last offset is `target` or higher; at the end if there is none.
    pub(crate) fn cursor_at(self: &Arc<Self>, target: Offset) -> Result<BatchCursor> {
        let mut cursor = BatchCursor::new(Arc::clone(self), 0);
        let entry = self.look_up(|indexes| indexes.offset.lookup(target, |likely| cursor.expect(likely)))?;
        self.cursor_from(cursor, entry, target)
    }

    /// A cursor at the batch that holds `start`, or at a later one before which nothing is as late as `timestamp`.
    pub(crate) fn cursor_at_time(
        self: &Arc<Self>,
        timestamp: Timestamp,
        start: Offset,
    ) -> Result<BatchCursor> {
        let mut cursor = BatchCursor::new(Arc::clone(self), 0);
        let expect = |likely| cursor.expect(likely);
        let TimePosition { offset, position } =
            self.look_up(|indexes| indexes.time.lookup(timestamp, expect))?;
        match position.filter(|_| offset >= start) {
            Some(position) => self.cursor_from(cursor, IndexPosition { offset, position }, offset),
            None => self.cursor_at(offset.max(start)),
        }
    }

    /// An offset in a batch that ends below `end`, and before which all timestamps are smaller than its own; the base offset
    /// where the index knows of none.
    pub(crate) fn latest_before(self: &Arc<Self>, end: Offset) -> Result<Offset> {
        let last = self.look_up(|indexes| indexes.time.last_before(end))?;
        Ok(last.map_or(self.base_offset, |(_, offset)| offset))
    }

    /// Where a batch begins that lies in front of `offset`, by the index entry that is next to it; `None` where the indexes are not
    /// in memory.
    pub(crate) fn known_position(&self, offset: Offset) -> Option<u64> {
        let indexes = self.indexes.load();
        indexes.as_ref().map(|indexes| u64::from(indexes.offset.lookup(offset, |_| ()).position))
    }

    /// A cursor as [`cursor_at`](Self::cursor_at) gives it, by an index entry, which is believed only if a batch that
    /// begins at or below `target` lies where it points; else the segment is walked from its beginning.
    fn cursor_from(
        self: &Arc<Self>,
        mut cursor: BatchCursor,
        entry: IndexPosition,
        target: Offset,
    ) -> Result<BatchCursor> {
        cursor.go_to(u64::from(entry.position));
        let first = cursor.peek().ok().flatten();
        if let Some(first) = &first {
            cursor.fetch_ahead(first);
        }
        let possible = self.base_offset..=target;
        let believed = first.is_some_and(|first| possible.contains(&first.header.base_offset));
        if entry.position > 0 && !believed {
            cursor = BatchCursor::new(Arc::clone(self), 0);
        }
        cursor.seek(|header| header.last_offset() >= target)?;
        Ok(cursor)
    }
}
