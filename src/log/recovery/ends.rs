//! The two ends of the log: whether anything durable is missing in front of its first segment, and what stands behind its last
//! valid batch.

use std::path::PathBuf;
use std::sync::Arc;

use super::repair::Change;
use super::report::{Cut, CutReason};
use super::{Recovery, behind, quarantine, scan};
use crate::error::{Corruption, CorruptionKind, Error, Result};
use crate::log::options::CorruptionPolicy;
use crate::types::Offset;

impl Recovery<'_> {
    /// Whether durable records are missing in front of the first segment. A log that is only read may have an owner who deletes
    /// some just now.
    pub(super) fn judge_head(&mut self) -> Result<()> {
        let Some(first) = self.files.first() else { return Ok(()) };
        let base = first.base_offset();
        let Some(missing) = self.request.checkpointed.missing_head(base) else { return Ok(()) };
        let is_refused = self.request.options.corruption == CorruptionPolicy::Refuse;
        if is_refused && !self.request.environment.read_only {
            let kind = CorruptionKind::MissingSegment { expected: missing.first, got: base };
            let found = Corruption::new(first.file().path(), 0, kind);
            return Err(Error::Corrupt(Corruption { below: Some(self.request.durable_below()), ..found }));
        }
        self.report.missing_head = Some(missing);
        Ok(())
    }

    /// Decides about what stands behind the last valid batch.
    pub(super) fn judge_end(&mut self) -> Result<()> {
        self.close_scanned_end()?;
        let log_end = self.log_end();
        // Of what is deleted nothing can be missing: an opening that starts over may have been interrupted.
        let is_missing = log_end.max(self.log_start) < self.request.durable_below();
        if self.report.cut.is_none() && is_missing {
            let found = self.missing_end(log_end);
            self.refuse_or_note(found, log_end, 0, 0, Vec::new())?;
        }
        self.judge_start(log_end)
    }

    /// If the last scanned segment did not end where its file does: cuts it there, and drops the segments behind it.
    pub(super) fn close_scanned_end(&mut self) -> Result<()> {
        let Some(scanned) = self.scanned.last_mut() else { return Ok(()) };
        let Some(found) = scanned.stop.take() else { return Ok(()) };
        let (segment, end) = (Arc::clone(&scanned.segment), scanned.end);
        if scan::is_unsupported(&segment, &found)? {
            return Err(Error::Corrupt(found));
        }
        let behind = behind::behind(&segment, end)?;
        let later = self.files.split_off(self.untouched + self.scanned.len());
        let log_end = self.log_end();
        self.changes.push(Change::Cut { segment: Arc::clone(&segment), end });
        if behind.bytes == 0 && later.is_empty() {
            self.report.trimmed_bytes += segment.file().end() - end;
            return if log_end < self.request.durable_below() {
                self.refuse_or_note(found, log_end, 0, 0, Vec::new())
            } else {
                Ok(())
            };
        }
        let keeps_all = self.request.for_repair || log_end < self.request.durable_below();
        let mut kept = Vec::new();
        if behind.batches > 0 || (keeps_all && behind.bytes > 0) {
            let path = quarantine::of_copy(self.request, &segment, end, behind.bytes)?;
            kept.push(path.clone());
            self.changes.push(Change::KeepAside { segment, from: end, bytes: behind.bytes, to: path });
        }
        let bytes = behind.bytes + later.iter().map(|segment| segment.file().end()).sum::<u64>();
        let mut batches = behind.batches;
        // From the highest down: a crash in between leaves no hole.
        for segment in later.into_iter().rev() {
            batches += behind::behind(&segment, 0)?.batches;
            let to = quarantine::of_file(self.request, segment.base_offset(), 0)?;
            kept.push(to.clone());
            self.changes.push(Change::MoveAside { segment, to });
        }
        self.refuse_or_note(found, log_end, bytes, batches, kept)
    }

    /// A cut below the recovery point is refused or reported, by the policy; one above is what a crash leaves.
    fn refuse_or_note(
        &mut self,
        found: Corruption,
        offset: Offset,
        bytes: u64,
        batches: u64,
        kept: Vec<PathBuf>,
    ) -> Result<()> {
        let is_tail = offset >= self.request.durable_below();
        if !is_tail && self.request.options.corruption == CorruptionPolicy::Refuse {
            return Err(Error::Corrupt(Corruption { below: Some(self.request.durable_below()), ..found }));
        }
        let reason = if is_tail { CutReason::Tail } else { CutReason::Corruption };
        self.report.cut = Some(Cut { reason, found, offset, bytes, batches, kept });
        Ok(())
    }

    /// The log ends, without any damage, below what was durable.
    fn missing_end(&self, log_end: Offset) -> Corruption {
        let (path, position) = self.scanned.last().map_or_else(
            || (self.request.directory.clone(), 0),
            |last| (last.segment.file().path(), last.end),
        );
        let kind = CorruptionKind::MissingEnd { expected: self.request.durable_below(), got: log_end };
        Corruption::new(path, position, kind)
    }
}
