//! A segment that was written to before it had its name.

use std::sync::Arc;

use super::repair::Change;
use super::report::{Cut, CutReason};
use super::{Recovery, behind, quarantine, whole_file};
use crate::environment::Sound;
use crate::error::{Corruption, CorruptionKind, Error, Result};
use crate::fs::name::partition_file;
use crate::segment::{BatchCursor, PlacedBatch, Segment};

impl Recovery<'_> {
    /// Takes in a segment that was written to before it had its name, if it goes on where the log ends.
    pub(super) fn adopt_prepared(&mut self) -> Result<()> {
        let Some(len) = self.inventory.prepared else { return Ok(()) };
        let path = self.request.directory.join(partition_file::PREPARED);
        let log_end = self.log_end();
        let prepared = whole_file(self.request, path.clone(), log_end, len);
        match first_sound(&prepared)? {
            Ok(first) if first.header.base_offset == log_end => {}
            Ok(first) => {
                let (expected, got) = (log_end, first.header.base_offset);
                let kind = CorruptionKind::BaseOffset { expected, got };
                return self.pass_over(&prepared, Corruption::new(path, 0, kind));
            }
            Err(found) => return self.pass_over(&prepared, found),
        }
        self.close_scanned_end()?;
        let scanned = self.scan.segment(&prepared, None, None, Sound::NOTHING)?;
        let before = self.scanned.iter().map(|scanned| Arc::clone(&scanned.segment)).collect();
        self.changes.push(Change::Name { from: path, base: log_end, before });
        self.files.push(prepared);
        self.scanned.push(scanned);
        self.report.adopted_prepared = true;
        Ok(())
    }

    /// A prepared segment that does not go on where the log ends: it is removed, but for batches that are whole, which are
    /// kept aside and reported.
    fn pass_over(&mut self, prepared: &Arc<Segment>, found: Corruption) -> Result<()> {
        let behind = behind::behind(prepared, 0)?;
        if behind.batches == 0 {
            self.changes.push(Change::Remove(prepared.file().path()));
            return Ok(());
        }
        self.close_scanned_end()?;
        let offset = self.log_end();
        // What was kept of a segment at the same offset has the position at which it was cut, which is lower.
        let to = quarantine::of_file(self.request, offset, prepared.file().end())?;
        self.changes.push(Change::MoveAside { segment: Arc::clone(prepared), to: to.clone() });
        let none = Cut { reason: CutReason::Tail, found, offset, bytes: 0, batches: 0, kept: Vec::new() };
        let cut = self.report.cut.get_or_insert(none);
        cut.bytes += behind.bytes;
        cut.batches += behind.batches;
        cut.kept.push(to);
        Ok(())
    }
}

/// The batch that a file begins with, or what is wrong with it.
fn first_sound(segment: &Arc<Segment>) -> Result<Result<PlacedBatch, Corruption>> {
    let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
    let first = cursor.peek().and_then(|first| match first {
        Some(first) => cursor.check(&first, &mut Vec::new()).map(|()| Ok(first)),
        None => Ok(Err(empty(segment))),
    });
    match first {
        Err(Error::Corrupt(found)) => Ok(Err(found)),
        first => first,
    }
}

/// What is said of a file without a batch.
fn empty(segment: &Segment) -> Corruption {
    let kind = CorruptionKind::Format("no batch");
    Corruption::new(segment.file().path(), 0, kind)
}
