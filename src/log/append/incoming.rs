//! The batches of a call, checked as far as that goes without knowing the log.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::options::{AppendOptions, Origin};
use crate::batch::{Batch, ControlRecord, TimestampType};
use crate::error::{BatchError, Error, Result};
use crate::log::LogOptions;
use crate::producer;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// Batches that may be judged.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) batches: Cow<'a, [Batch]>,
    /// What the control batches say; as many as there are batches.
    controls: SmallVec<[Option<ControlRecord>; 1]>,
    pub(super) options: &'a AppendOptions,
}

impl<'a> Incoming<'a> {
    /// To be [`check`](Self::check)ed.
    pub(super) fn new(batches: &'a [Batch], options: &'a AppendOptions) -> Self {
        Self { batches: Cow::Borrowed(batches), controls: SmallVec::new(), options }
    }

    /// Checks what can be said of batches without knowing the log, and stamps them with the time of the append where
    /// the log does.
    pub(super) fn check(&mut self, log: &LogOptions, now: impl Fn() -> Timestamp) -> Result<()> {
        let (mut total, origin) = (0, self.options.origin);
        for batch in &*self.batches {
            check_one(batch, origin, log)?;
            self.controls.push(if batch.header().is_control() { batch.control()? } else { None });
            total += batch.bytes().len();
        }
        limit(total, log.segment_bytes, "segment_bytes")?;
        check_span(&self.batches, origin)?;
        if log.timestamp_type == TimestampType::LogAppendTime && origin != Origin::Replication {
            let now = now();
            self.batches = self.batches.iter().map(|batch| batch.with_append_time(now)).collect();
        }
        Ok(())
    }

    /// Every batch, with what it says if it is a control batch.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Batch, Option<ControlRecord>)> {
        self.batches.iter().zip(self.controls.iter().copied())
    }

    pub(super) fn is_replicated(&self) -> bool {
        self.options.origin == Origin::Replication
    }

    /// The origin by whose rules a batch is judged.
    pub(super) fn origin_of(&self, control: Option<ControlRecord>) -> producer::Origin {
        match self.options.origin {
            Origin::Client => producer::Origin::Client,
            Origin::Replication => producer::Origin::Replication,
            Origin::Coordinator => {
                let epoch = control.and_then(ControlRecord::coordinator_epoch);
                producer::Origin::Coordinator { epoch }
            }
        }
    }

    /// Replicated batches come with their offsets and leader epochs: whether these may stand behind `log_end`.
    pub(super) fn check_order(&self, log_end: Offset, latest: LeaderEpoch) -> Result<()> {
        let (mut expected, mut epoch) = (log_end, latest);
        for batch in self.batches.iter() {
            let header = batch.header();
            if header.base_offset < expected {
                return Err(Error::UnexpectedOffset { expected, got: header.base_offset });
            }
            if header.leader_epoch < epoch {
                return Err(Error::StaleLeaderEpoch { latest: epoch, got: header.leader_epoch });
            }
            (expected, epoch) = (header.next_offset(), header.leader_epoch);
        }
        Ok(())
    }
}

fn check_one(batch: &Batch, origin: Origin, log: &LogOptions) -> Result<()> {
    if origin == Origin::Replication {
        return Ok(());
    }
    limit(batch.bytes().len(), log.max_batch_bytes, "max_batch_bytes")?;
    match origin {
        Origin::Coordinator => batch.check_offsets()?,
        _ => batch.check_client_rules()?,
    }
    Ok(batch.ensure_checked(log.record_check, log.max_decompressed_bytes)?)
}

/// The batches of a call go into one segment, whose indexes count offsets from its base in four bytes.
fn check_span(batches: &[Batch], origin: Origin) -> Result<()> {
    const MOST: i64 = 1 << 31;
    let headers = || batches.iter().map(Batch::header);
    let got = match (origin, headers().next(), headers().last()) {
        (Origin::Replication, Some(first), Some(last)) => last.next_offset() - first.base_offset,
        _ => headers().map(|header| i64::from(header.last_offset_delta) + 1).sum(),
    };
    let expected = "the batches of one call must take 2^31 offsets at most";
    if got > MOST { Err(BatchError::ClientRule { expected, got }.into()) } else { Ok(()) }
}

fn limit(got: usize, limit: u32, option: &'static str) -> Result<()> {
    let limit = limit as usize;
    if got > limit { Err(BatchError::TooLarge { limit, got, option }.into()) } else { Ok(()) }
}
