//! What is to be done with the batches of a call: the producers' decision about each, under the append lock. Changes nothing.

use smallvec::SmallVec;

use super::incoming::Incoming;
use super::outcome::AppendOutcome;
use super::plan::Plan;
use crate::batch::{BatchHeader, ControlRecord};
use crate::error::{Rejection, Result};
use crate::log::{Appender, Shared};
use crate::producer::{Context, Decision, Staging, Verification};
use crate::segment::SegmentWriter;
use crate::types::{ProducerId, Timestamp};

impl Shared {
    pub(super) fn judge<'a>(
        &self,
        appender: &Appender,
        incoming: Incoming<'_>,
        now: Timestamp,
        outcomes: &'a mut [AppendOutcome],
    ) -> Result<Plan<'a>> {
        // Where the writer is: behind a segment that was begun above the log end and whose first batch then failed.
        let next_offset = appender.writer.as_ref().map(SegmentWriter::next_offset);
        let plan = Plan::new(next_offset.unwrap_or_else(|| self.watermarks.log_end()), outcomes);
        if incoming.is_replicated() {
            incoming.check_order(plan.next_offset, appender.latest_epoch())?;
            return Ok(plan.with_replicated(incoming.batches));
        }
        incoming.check_leader_epoch(appender.lowest_next_epoch())?;
        let judged = match incoming.batches {
            [batch] => self.judge_one(appender, incoming, batch.header(), now, plan),
            _ => self.judge_all(appender, incoming, now, plan),
        };
        let plan = judged.inspect_err(|rejection| self.counters.refused(rejection.reason))?;
        incoming.check_timestamps(plan.demand, &appender.options, &*self.environment.clock, now)?;
        Ok(plan)
    }

    fn judge_one<'a>(
        &self,
        appender: &Appender,
        incoming: Incoming<'_>,
        header: &BatchHeader,
        now: Timestamp,
        mut plan: Plan<'a>,
    ) -> Result<Plan<'a>, Rejection> {
        let context = self.context(appender, incoming, header, incoming.control(0), now);
        plan.add(header, appender.producers.decide(header, &context)?);
        Ok(plan)
    }

    /// Judges each batch as if those before it were stored.
    fn judge_all<'a>(
        &self,
        appender: &Appender,
        incoming: Incoming<'_>,
        now: Timestamp,
        mut plan: Plan<'a>,
    ) -> Result<Plan<'a>, Rejection> {
        let mut staging = Staging::new(&appender.producers);
        let mut verified = SmallVec::<[ProducerId; 1]>::new();
        let required = appender.options.verify_transactions;
        for (batch, control) in incoming.iter() {
            let header = batch.header();
            let mut context = self.context(appender, incoming, header, control, now);
            if verified.contains(&header.producer_id) {
                // One of its batches before has ended the verification.
                context.verification = Verification::none(required);
            }
            let decision = staging.decide(header, &context)?;
            if matches!(decision, Decision::Append) {
                let placed = BatchHeader { base_offset: plan.next_offset, ..*header };
                staging.stage(&placed, control, now);
                verified.extend(appender.verifications.ends_with(header).then_some(header.producer_id));
            }
            plan.add(header, decision);
        }
        Ok(plan)
    }

    fn context(
        &self,
        appender: &Appender,
        incoming: Incoming<'_>,
        header: &BatchHeader,
        control: Option<ControlRecord>,
        now: Timestamp,
    ) -> Context {
        let verification = if header.is_transactional() {
            let shown = incoming.options.verification;
            appender.verifications.look(header.producer_id, shown, appender.options.verify_transactions)
        } else {
            Default::default()
        };
        Context {
            origin: incoming.origin_of(control),
            log_end: self.watermarks.log_end(),
            fenced_below: self.environment.fences.get(header.producer_id),
            verification,
            now,
        }
    }
}
