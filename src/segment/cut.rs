//! What is left of a segment in front of an offset.

use std::sync::Arc;

use super::{BatchCursor, IndexFiller, Indexes, LogFile, Segment, Summary};
use crate::error::Result;
use crate::types::Offset;

/// The batches of a segment in front of the first whose last offset is the target or higher.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// Where they end in the file.
    pub(crate) end: u64,
    /// The offset behind the last of them.
    pub(crate) next_offset: Offset,
    indexes: Indexes,
    summary: Summary,
}

impl Prefix {
    /// What a segment of these batches holds whose next one begins at `next_offset`.
    pub(crate) fn summary_until(&self, next_offset: Offset) -> Summary {
        Summary { next_offset, ..self.summary }
    }
}

impl Segment {
    /// What is left in front of `target`. Changes nothing.
    pub(crate) fn prefix(self: &Arc<Self>, target: Offset) -> Result<Prefix> {
        let indexes = self.indexes_before(target)?;
        let mut summary = Summary::of_entries(self.base_offset, &indexes);
        let from = indexes.last_position();
        let mut cursor = BatchCursor::new(Arc::clone(self), from);
        while let Some(batch) = cursor.peek()?.filter(|batch| batch.header.last_offset() < target) {
            summary.add(&batch);
            cursor.skip(&batch);
        }
        // Nothing more may come before the file is written, and Kafka takes its last entry for the largest timestamp.
        IndexFiller::resume(self.index_options, &summary).seal(&indexes);
        Ok(Prefix { end: cursor.position(), next_offset: summary.next_offset, indexes, summary })
    }

    /// The index entries of batches in front of `target`. If the last of them is not where it says, all are built anew.
    fn indexes_before(self: &Arc<Self>, target: Offset) -> Result<Indexes> {
        let before = |indexes: &Indexes| Indexes {
            offset: indexes.offset.truncated(target),
            time: indexes.time.truncated(target),
        };
        let indexes = before(&*self.indexes()?);
        if self.last_entry_fits(&indexes) { Ok(indexes) } else { Ok(before(&self.build_indexes()?)) }
    }

    /// A segment of the prefix only. The file is not touched: it may still be longer.
    pub(crate) fn cut(&self, prefix: Prefix) -> Arc<Self> {
        let file = LogFile::new(
            Arc::clone(self.file.disk()),
            self.file.mode(),
            self.file.path(),
            prefix.end,
            prefix.end,
        );
        let transactions = self.transactions().map(|index| {
            let mut index = index.clone();
            index.truncate(prefix.next_offset);
            index
        });
        let Prefix { indexes, summary, .. } = prefix;
        Arc::new(Self::recovered(self.base_offset, file, self.index_options, indexes, transactions, summary))
    }
}
