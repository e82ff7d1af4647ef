//! The batches of a call, checked as far as that goes without knowing the log.

use super::options::{AppendOptions, Origin};
use super::plan::Demand;
use crate::batch::{Batch, ControlRecord, DEFAULT_MAX_DECOMPRESSED, check_records};
use crate::clock::Clock;
use crate::error::{BatchError, Error, Result};
use crate::log::LogOptions;
use crate::log::append::admission::Admission;
use crate::producer;
use crate::types::{LeaderEpoch, Offset, Timestamp};

/// A batch whose bytes are the caller's: all that an append needs, whoever holds them.
pub(super) type Lent<'a> = Batch<&'a [u8]>;

/// Batches that may be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) batches: &'a [Lent<'a>],
    /// What each batch says if it is a control batch: none at all where there is only data.
    controls: &'a [Option<ControlRecord>],
    pub(super) options: AppendOptions,
    /// Whether the log has put the time of the append into the batches.
    is_stamped: bool,
}

impl<'a> Incoming<'a> {
    /// Checks what can be said of batches without knowing the log.
    pub(super) fn check(
        batches: &'a [Lent<'a>],
        options: AppendOptions,
        admission: &Admission,
    ) -> Result<Self> {
        let (mut bytes, mut offsets) = (0, 0);
        for batch in batches {
            check_one(batch, options.origin, admission)?;
            bytes += batch.bytes().len();
            offsets += i64::from(batch.header().last_offset_delta) + 1;
        }
        if let (Origin::Replication, [first, .., last]) = (options.origin, batches) {
            offsets = last.header().next_offset() - first.header().base_offset;
        }
        limit(bytes, admission.segment_bytes(), |limit, got| BatchError::LargerThanSegment { limit, got })?;
        check_span(offsets)?;
        Ok(Self { batches, controls: &[], options, is_stamped: false })
    }

    /// What each batch says if it is a control batch; nothing where there is only data. A control batch is checked as a recovery
    /// checks it, whoever sends it: that cuts the log in front of one that it does not understand.
    pub(super) fn read_controls(self) -> Result<Vec<Option<ControlRecord>>> {
        if !self.batches.iter().any(|batch| batch.header().is_control()) {
            return Ok(Vec::new());
        }
        let mut scratch = Vec::new();
        let mut read = |batch: &Lent<'_>| {
            if batch.header().is_control() {
                check_records(batch.header(), batch.bytes(), DEFAULT_MAX_DECOMPRESSED, &mut scratch)?;
            }
            Ok(batch.control()?)
        };
        self.batches.iter().map(&mut read).collect()
    }

    /// The same with what [`read_controls`](Self::read_controls) has found.
    pub(super) fn with_controls(self, controls: &'a [Option<ControlRecord>]) -> Self {
        Self { controls, ..self }
    }

    /// Whether the log puts the time of the append into the batches.
    pub(super) fn must_be_stamped(self, admission: &Admission) -> bool {
        admission.stamps_time() && !self.is_replicated()
    }

    /// The batches with `now` as the time of their append.
    pub(super) fn stamped(self, now: Timestamp) -> Vec<Batch> {
        self.batches.iter().map(|batch| batch.with_append_time(now)).collect()
    }

    /// The same with the batches that [`stamped`](Self::stamped) has made.
    pub(super) fn with_stamped(self, batches: &'a [Lent<'a>]) -> Self {
        Self { batches, is_stamped: true, ..self }
    }

    /// Every batch, with what it says if it is a control batch.
    #[inline]
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a Lent<'a>, Option<ControlRecord>)> {
        self.batches.iter().enumerate().map(move |(index, batch)| (batch, self.control(index)))
    }

    #[inline]
    pub(super) fn control(self, index: usize) -> Option<ControlRecord> {
        self.controls.get(index).copied().flatten()
    }

    #[inline]
    pub(super) fn is_replicated(self) -> bool {
        self.options.origin == Origin::Replication
    }

    /// The origin by whose rules a batch is judged.
    #[inline]
    pub(super) fn origin_of(self, control: Option<ControlRecord>) -> producer::Origin {
        match self.options.origin {
            Origin::Client => producer::Origin::Client,
            Origin::Replication => producer::Origin::Replication,
            Origin::Coordinator => {
                let epoch = control.and_then(ControlRecord::coordinator_epoch);
                producer::Origin::Coordinator { epoch, version: self.options.transaction_version }
            }
        }
    }

    /// Refuses new batches of a client that are too far ahead of the clock (KIP-937, `LogValidator.validateTimestamp`;
    /// Kafka looks at each record, here the header says which is the largest, as it does to retention). Once a batch is
    /// stored this is not asked again, so a duplicate is answered.
    pub(super) fn check_timestamps(
        self,
        new: Option<Demand>,
        options: &LogOptions,
        clock: &dyn Clock,
        recently: Timestamp,
    ) -> Result<()> {
        let Some(Demand { latest_timestamp: got, .. }) = new else { return Ok(()) };
        let is_asked = self.options.origin == Origin::Client && !self.is_stamped;
        if !is_asked || got <= options.latest_timestamp(recently) {
            return Ok(());
        }
        // Nothing is refused by a time that is some milliseconds old.
        let expected = options.latest_timestamp(clock.now());
        if got > expected { Err(BatchError::TimestampAhead { expected, got }.into()) } else { Ok(()) }
    }

    /// Refuses what comes from a leader that was deposed, duplicates included: its batch must not stand under the epoch
    /// of another.
    pub(super) fn check_leader_epoch(self, latest: LeaderEpoch) -> Result<()> {
        match self.options.leader_epoch {
            Some(got) if got < latest => Err(Error::StaleLeaderEpoch { latest, got }),
            _ => Ok(()),
        }
    }

    /// Replicated batches come with their offsets and leader epochs: whether these may stand behind `log_end`.
    pub(super) fn check_order(self, log_end: Offset, latest: LeaderEpoch) -> Result<()> {
        let (mut expected, mut epoch) = (log_end, latest);
        for batch in self.batches {
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

#[inline(always)]
pub(super) fn check_one(batch: &Lent<'_>, origin: Origin, admission: &Admission) -> Result<()> {
    if origin == Origin::Replication {
        return Ok(());
    }
    let too_large = |limit, got| BatchError::TooLarge { limit, got, option: "max_batch_bytes" };
    limit(batch.bytes().len(), admission.max_batch_bytes(), too_large)?;
    match origin {
        Origin::Coordinator => batch.check_offsets()?,
        _ => batch.check_client_rules()?,
    }
    Ok(batch.ensure_checked(admission.record_check(), admission.max_decompressed_bytes())?)
}

/// The batches of a call go into one segment, whose indexes count offsets from its base in four bytes.
fn check_span(offsets: i64) -> Result<()> {
    const MOST: i64 = 1 << 31;
    let expected = "the batches of one call must take 2^31 offsets at most";
    if offsets > MOST { Err(BatchError::ClientRule { expected, got: offsets }.into()) } else { Ok(()) }
}

fn limit(got: usize, limit: u32, refusal: impl FnOnce(usize, usize) -> BatchError) -> Result<()> {
    let limit = limit as usize;
    if got > limit { Err(refusal(limit, got).into()) } else { Ok(()) }
}
