//! The short way of nearly every batch: data of a client, outside of transactions, the next one of its producer or a
//! duplicate, for a segment that has room, with no chore due. It does what the long way would, or nothing.
//!
//! What else might be due is a matter of how far the segment is filled and of the time, so the long way works out how far
//! batches may go on like that, and leaves it with the writer as its [`Leeway`]. Whatever changes one of its reasons makes
//! a new writer, or ends the leeway; but for workers that come or go, the prepared segment, and a clock that is set
//! back, which are looked at again within 64 KiB.

use super::incoming::{Lent, check_one};
use super::room::last_offset_from;
use super::{AppendOutcome, Origin, Placed};
use crate::batch::BatchHeader;
use crate::error::Result;
use crate::log::commit::Ticket;
use crate::log::{Appender, Shared};
use crate::producer::{Decision, PlainProducer};
use crate::segment::{ALLOCATION_STEP_MIN, Leeway, Stamps};
use crate::types::{Offset, Timestamp};

impl Shared {
    /// Stores a batch, or answers a duplicate, if that is all there is to do. `None`: it is for the long way, which may
    /// find that it must be refused.
    #[inline(always)]
    pub(super) fn place_plain(
        &self,
        batch: &Lent<'_>,
        outcome: &mut AppendOutcome,
    ) -> Result<Option<Placed>> {
        if !self.admits_plain(batch) {
            return Ok(None);
        }
        let mut appender = self.lock_appender();
        if appender.closing || self.commit.is_over() {
            return Ok(None);
        }
        let now = self.now();
        let Some((producer, decision)) = appender.decide_plain(batch, now) else { return Ok(None) };
        let target = match decision {
            Decision::Append => {
                let stored =
                    self.storing(&mut appender, |appender| self.store_plain(appender, batch, producer, now))?;
                let Some(base_offset) = stored else { return Ok(None) };
                *outcome = AppendOutcome::appended(batch.header(), base_offset);
                outcome.last_offset() + 1
            }
            Decision::Duplicate(duplicate) => {
                *outcome = AppendOutcome::duplicate(&duplicate);
                self.counters.duplicates.add_locked(1);
                duplicate.durable_at
            }
        };
        let ticket = Some(Ticket { target, generation: self.commit.generation() });
        let is_new = !outcome.is_duplicate();
        Ok(Some(Placed { ticket, is_new, rolled: None, has_chores: false, left_gap: false }))
    }

    /// Whether the batch may come in as it is, and without waiting.
    #[inline(always)]
    fn admits_plain(&self, batch: &Lent<'_>) -> bool {
        let admission = &self.admission;
        !batch.header().is_transactional()
            && !admission.stamps_time()
            && batch.bytes().len() <= admission.segment_bytes() as usize
            && check_one(batch, Origin::Client, admission).is_ok()
            && self.backlog.exceeds(&self.counters, admission).is_none()
    }

    /// Copies a new batch, publishes it, and applies it to its producer. `None` if it goes beyond the leeway.
    #[inline(always)]
    fn store_plain(
        &self,
        appender: &mut Appender,
        batch: &Lent<'_>,
        producer: PlainProducer,
        now: Timestamp,
    ) -> Result<Option<Offset>> {
        let leader_epoch = appender.latest_epoch();
        let Some(writer) = &mut appender.writer else { return Ok(None) };
        let base_offset = writer.next_offset();
        let is_in_order = base_offset == self.watermarks.log_end() && leader_epoch >= appender.leader_epoch;
        if !is_in_order || !takes(writer.leeway(), writer.position(), base_offset, batch.header()) {
            return Ok(None);
        }
        writer.append(batch.header(), &Stamps { base_offset, leader_epoch }, batch.bytes())?;
        let log_end = writer.next_offset();
        appender.producers.apply_plain(producer, batch.header(), base_offset, now);
        self.count(appender, 1, batch.header().size() as u64);
        self.watermarks.set_log_end(log_end);
        Ok(Some(base_offset))
    }

    /// Works out how far batches may take the short way from here.
    pub(super) fn renew_leeway(&self, appender: &mut Appender, now: Timestamp) {
        let leeway = self.leeway(appender, now);
        if let (Some(writer), Some(leeway)) = (&mut appender.writer, leeway) {
            writer.set_leeway(leeway);
        }
    }

    fn leeway(&self, appender: &Appender, now: Timestamp) -> Option<Leeway> {
        let (writer, options) = (appender.writer.as_ref()?, &appender.options);
        // Each is the last position at which the long way has nothing to do but to store the batch.
        let position = writer.position();
        let roll = u64::from(options.segment_bytes).min(position.saturating_add(writer.index_room()));
        let room = writer.capacity().min(writer.segment().file().allocated());
        let until_snapshot = options.snapshot_interval_bytes.saturating_sub(appender.since_snapshot + 1);
        let until_told = ALLOCATION_STEP_MIN.saturating_sub(appender.filled + 1);
        let told = position.saturating_add(until_snapshot.min(until_told));
        let (young, old) = writer.young_until(options.segment_ms);
        let due = |last: Timestamp, interval: i64| Timestamp(last.0.saturating_add(interval));
        let expiry = due(appender.expired_at, options.expiry_interval_ms);
        let retention = due(appender.retained_at, options.retention_interval_ms);
        Some(Leeway {
            position: roll.min(room).min(told).min(self.next_request(appender)),
            offset: last_offset_from(writer.segment().base_offset()),
            // Later more may be taken, which the long way sees.
            timestamp: young.min(options.latest_timestamp(now)),
            now: old.min(expiry).min(retention),
        })
    }
}

impl Appender {
    /// The decision about a batch, if nothing is due at this time.
    #[inline(always)]
    fn decide_plain(&self, batch: &Lent<'_>, now: Timestamp) -> Option<(PlainProducer, Decision)> {
        let is_early = now < self.writer.as_ref()?.leeway().now;
        if is_early { self.producers.decide_plain(batch.header()) } else { None }
    }
}

/// Whether a batch at this place stays within the leeway.
#[inline(always)]
fn takes(leeway: Leeway, position: u64, base_offset: Offset, header: &BatchHeader) -> bool {
    position + header.size() as u64 <= leeway.position
        && header.last_offset_at(base_offset) <= leeway.offset
        && header.max_timestamp <= leeway.timestamp
}
