//! The decision: is a batch new, a duplicate, or refused? One pure function over what is remembered of its producer.
//!
//! The rules are Kafka's (`ProducerStateManager`, `ProducerAppendInfo`), judged in this order. The first that applies
//! decides. "First" and "last" are the batch's sequences.
//!
//! | | batch | rule | decision |
//! |---|---|---|---|
//! | N | without producer id, or replicated | nobody asks about it: the log is right | append |
//! | U0 | unknown producer, client | the epoch is below what the host's directory of producers demands | `Fenced` |
//! | U1 | unknown producer, transactional data | as V | `NotVerified` |
//! | C | all | the epoch is older than the producer's | `Fenced` |
//! | V | known producer, transactional data | no transaction of its epoch is open, and a verification is missing where one is required (not asked of a duplicate) | `NotVerified` |
//! | M1 | marker, [`V2`](TransactionVersion::V2) | its epoch is that of the open transaction, which is the one behind it | `StaleMarker` |
//! | M2 | marker, `V2` | its epoch is the producer's, and no transaction is open: it has ended it before | duplicate without its offset |
//! | M3 | marker | its coordinator's epoch is older than the last one heard of | `CoordinatorFenced` |
//! | W | client, [`Increasing`](SequenceRule::Increasing) | it would run past 2^31-1 | `Overlap` |
//! | U2 | unknown producer, client, [`Contiguous`](SequenceRule::Contiguous) | first is not 0 where [`FirstAppend`] asks for it, or the verification under way is of `V2`: its epoch begins here | `UnknownProducer`, `NewLogNotAtZero`, or `Gap` |
//! | U3 | unknown producer, client | the budget is used up and nobody can be forgotten | `ProducerBudget` |
//! | U4 | unknown producer, client | first is above the lowest sequence of the verification under way | `Gap` |
//! | U | unknown producer | none of these | append |
//! | A1 | client, [`SameBytes`](DuplicateCheck::SameBytes) | first and last are those of a batch in the window, of the same epoch, and both CRCs are known and differ | `DifferentBytes` |
//! | A2 | client | first and last are those of a batch in the window, of the same epoch | duplicate |
//! | I1 | client, `Increasing` | last <= highest | duplicate without its offsets |
//! | I2 | client, `Increasing` | first <= highest < last | `Overlap` |
//! | D2 | client | first is above the lowest sequence of the verification under way | `Gap` |
//! | D3 | client, `Contiguous` | a newer epoch and first is not 0 (unless the epoch so far was -1) | `NewEpochNotAtZero` |
//! | D4 | client, `Contiguous` | same epoch and first is not the next sequence | `Gap`, `Overlap` or `OlderThanWindow` |
//! | E | data, not transactional | the producer's transaction is open | `TransactionOpen` |
//! | F | | none of these | append |
//!
//! The next sequence is the window's last plus 1, with 0 behind 2^31-1; 0 where there is no window. The window is empty
//! for a batch of a newer epoch, and after the epoch was raised without a batch. Under `Increasing` it is not: there
//! "highest" and the window stay over all epochs, and a coordinator's data without sequences does not enter it. (A CRC covers the producer epoch, so it is only known within one.)
//!
//! **Which refusal D4 is.** Sequences are points on a circle of 2^31. From the next sequence, the half circle ahead is
//! the future, the rest is the past. A batch that begins in the future is a `Gap`. One that ends before the window's
//! oldest batch begins is `OlderThanWindow`. All else touches stored sequences without being a stored batch: `Overlap`.
//!
//! **What the log tells.** A batch of the log was not refused where it was appended. One that I1, I2 or D4 would refuse behind
//! the window, and not for a gap, tells that its producer had been forgotten there, and began anew with it: it does not
//! [`go on`](goes_on), and the window of before goes, as it went there. Kept, it would answer for sequences that are used a
//! second time, and what is sent under them would be acknowledged and not stored. A gap is what compaction leaves: there the
//! window stays, and what it answers is true, since its sequences do not come again before they have left it. An epoch never
//! falls: who came back in a lower one is fenced from the next opening on, which refuses and loses nothing.

use super::entry::{EntryView, StoredBatch};
use super::policy::{DuplicateCheck, FirstAppend, ProducerPolicy, SequenceRule};
use super::verification::Verification;
use crate::batch::BatchHeader;
use crate::error::{Rejection, RejectionReason};
use crate::transaction::TransactionVersion;
use crate::types::{Offset, OffsetRange, ProducerEpoch, Sequence, Timestamp};

/// Who asks for a batch to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client: all rules hold.
    Client,
    /// A transaction or group coordinator: no sequences.
    Coordinator {
        /// Its epoch, in the batches that are transaction markers.
        epoch: Option<i32>,
        /// How these tell what they end.
        version: TransactionVersion,
    },
    /// Another replica's log, or this one's at open: what is in a log is right.
    Replication,
}

/// What the decision needs besides the batch and its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Who asks.
    pub(crate) origin: Origin,
    /// The log end offset. At 0 the log is new: it has never held a record.
    pub(crate) log_end: Offset,
    /// The lowest epoch that the host's directory takes from this producer id, where it knows one.
    pub(crate) fenced_below: Option<ProducerEpoch>,
    /// What is known of the verification of the batch's transaction.
    pub(crate) verification: Verification,
    /// The host's time.
    pub(crate) now: Timestamp,
}

/// What to do with a batch that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is new: store it.
    Append,
    /// It is stored already: answer as then.
    Duplicate(Duplicate),
}

/// The batch that a duplicate repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Duplicate {
    /// Where it is stored. `None` for a marker, and under [`SequenceRule::Increasing`] where no batch of the window is the
    /// same.
    pub(crate) original: Option<OffsetRange>,
    /// Its timestamp; that of the producer's last batch where there is no `original`.
    pub(crate) timestamp: Timestamp,
    /// Whether its bytes are those sent now, where that is known.
    pub(crate) same_bytes: Option<bool>,
    /// The original is durable once the log is durable up to here (exclusive).
    pub(crate) durable_at: Offset,
}

/// The producer of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    Known(EntryView<'a>),
    Unknown,
    /// Unknown, and the budget lets no other producer in.
    Excess,
}

impl Subject<'_> {
    /// An unknown one, for whom the budget has room or not.
    pub(super) fn unknown(has_room: bool) -> Self {
        if has_room { Self::Unknown } else { Self::Excess }
    }
}

/// Decides by the table in the module's documentation.
#[inline(always)]
pub(super) fn decide(
    subject: &Subject<'_>,
    header: &BatchHeader,
    context: &Context,
    policy: &ProducerPolicy,
) -> Result<Decision, Rejection> {
    if !header.is_idempotent() || context.origin == Origin::Replication {
        return Ok(Decision::Append);
    }
    match subject {
        Subject::Unknown => decide_unknown(true, header, context, policy),
        Subject::Excess => decide_unknown(false, header, context, policy),
        &Subject::Known(view) => {
            let judge = Judge { view, header, policy, verification: context.verification };
            match context.origin {
                Origin::Coordinator { epoch: Some(epoch), version } => {
                    judge.decide_marker(epoch, version, context.log_end)
                }
                origin => judge.decide(origin),
            }
        }
    }
}

/// What [`decide`] says of a client's batch of data outside of transactions, from a producer that is known. `None` if it
/// refuses.
#[inline(always)]
pub(super) fn decide_plain(
    view: EntryView<'_>,
    header: &BatchHeader,
    policy: &ProducerPolicy,
) -> Option<Decision> {
    let verification = Verification::default();
    Judge { view, header, policy, verification }.decide(Origin::Client).ok()
}

/// Whether a batch of the log, in its producer's current epoch, goes on behind the window, at once or behind a gap.
#[inline]
pub(super) fn goes_on(view: EntryView<'_>, header: &BatchHeader, policy: &ProducerPolicy) -> bool {
    let judge = Judge { view, header, policy, verification: Verification::default() };
    judge.next_sequence() == Some(header.base_sequence) || judge.leaves_gap()
}

fn decide_unknown(
    has_room: bool,
    header: &BatchHeader,
    context: &Context,
    policy: &ProducerPolicy,
) -> Result<Decision, Rejection> {
    let refuse = |reason| Err(rejection(header, reason));
    let is_client = context.origin == Origin::Client;
    if is_client && let Some(least) = context.fenced_below.filter(|least| header.producer_epoch < *least) {
        return Err(Rejection { current_epoch: Some(least), ..rejection(header, RejectionReason::Fenced) });
    }
    if begins_transaction(header) && context.verification.is_missing {
        return refuse(RejectionReason::NotVerified);
    }
    if !is_client {
        return Ok(Decision::Append);
    }
    if runs_past_the_end(header, policy) {
        return refuse(RejectionReason::Overlap);
    }
    if let Some(reason) = must_begin_at_zero(context, policy).filter(|_| header.base_sequence != Sequence(0))
    {
        return Err(Rejection { expected: Some(Sequence(0)), ..rejection(header, reason) });
    }
    if lies_above_verified(header, context.verification) {
        return refuse(RejectionReason::Gap);
    }
    if has_room { Ok(Decision::Append) } else { refuse(RejectionReason::ProducerBudget) }
}

/// With what an unknown producer is refused that does not begin at 0, where it must.
fn must_begin_at_zero(context: &Context, policy: &ProducerPolicy) -> Option<RejectionReason> {
    if policy.sequence_rule != SequenceRule::Contiguous {
        return None;
    }
    let is_new = context.log_end == Offset::ZERO;
    let by_policy = match policy.first_append {
        FirstAppend::AcceptAny => None,
        FirstAppend::RequireZeroInNewLog => is_new.then_some(RejectionReason::NewLogNotAtZero),
        FirstAppend::RequireZero => Some(RejectionReason::UnknownProducer),
    };
    by_policy.or(context.verification.begins_epoch.then_some(RejectionReason::Gap))
}

/// Where no transaction is open.
fn begins_transaction(header: &BatchHeader) -> bool {
    header.is_transactional() && !header.is_control()
}

fn lies_above_verified(header: &BatchHeader, verification: Verification) -> bool {
    verification.lowest_sequence.is_some_and(|lowest| header.base_sequence > lowest)
}

fn runs_past_the_end(header: &BatchHeader, policy: &ProducerPolicy) -> bool {
    policy.sequence_rule == SequenceRule::Increasing
        && header.base_sequence.0.checked_add(header.last_offset_delta).is_none()
}

fn rejection(header: &BatchHeader, reason: RejectionReason) -> Rejection {
    Rejection {
        reason,
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        first_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        current_epoch: None,
        expected: None,
        window: None,
    }
}

/// A batch before what is remembered of its producer.
#[derive(Clone, Copy)]
struct Judge<'a> {
    view: EntryView<'a>,
    header: &'a BatchHeader,
    policy: &'a ProducerPolicy,
    verification: Verification,
}

impl<'a> Judge<'a> {
    #[inline(always)]
    fn decide(self, origin: Origin) -> Result<Decision, Rejection> {
        if self.header.producer_epoch < self.view.epoch() {
            return self.refuse(RejectionReason::Fenced);
        }
        if self.verification.is_missing && self.is_unverified(origin) {
            return self.refuse(RejectionReason::NotVerified);
        }
        if origin == Origin::Client { self.judge_sequence() } else { self.append() }
    }

    /// Decides about a marker, which a coordinator sends that is in `epoch`. Where it stands that ended the transaction
    /// before is not remembered: below `log_end`.
    #[cold]
    fn decide_marker(
        self,
        epoch: i32,
        version: TransactionVersion,
        log_end: Offset,
    ) -> Result<Decision, Rejection> {
        let (view, marker_epoch) = (self.view, self.header.producer_epoch);
        if marker_epoch < view.epoch() {
            return self.refuse(RejectionReason::Fenced);
        }
        if version == TransactionVersion::V2 && view.has_open_transaction(marker_epoch) {
            return self.refuse(RejectionReason::StaleMarker);
        }
        let is_ended = marker_epoch == view.epoch() && view.side.transaction_first.is_none();
        if version == TransactionVersion::V2 && is_ended {
            return Ok(Decision::Duplicate(Duplicate {
                original: None,
                timestamp: view.last_timestamp(),
                same_bytes: None,
                durable_at: log_end,
            }));
        }
        if view.side.coordinator_epoch.is_some_and(|last| epoch < last) {
            return self.refuse(RejectionReason::CoordinatorFenced);
        }
        Ok(Decision::Append)
    }

    /// What comes of a batch that no other rule stopped.
    #[inline]
    fn append(self) -> Result<Decision, Rejection> {
        let data = !self.header.is_control();
        if data && !self.header.is_transactional() && self.view.side.transaction_first.is_some() {
            return self.refuse(RejectionReason::TransactionOpen);
        }
        Ok(Decision::Append)
    }

    #[cold]
    fn is_unverified(self, origin: Origin) -> bool {
        let is_duplicate =
            || origin == Origin::Client && self.window_counts() && self.stored_batch().is_some();
        let is_open = || self.view.has_open_transaction(self.header.producer_epoch);
        begins_transaction(self.header) && !is_open() && !is_duplicate()
    }

    #[inline(always)]
    fn judge_sequence(self) -> Result<Decision, Rejection> {
        if runs_past_the_end(self.header, self.policy) {
            return self.refuse(RejectionReason::Overlap);
        }
        // What comes next behind a window without jumps is none of it: the older batches, which lie elsewhere in memory,
        // need not be looked at.
        let is_next = Some(self.header.base_sequence) == self.next_sequence();
        let may_be_stored = self.view.entry.has_jumps || !is_next;
        if may_be_stored
            && self.window_counts()
            && let Some(original) = self.stored_batch()
        {
            return self.repeat(original);
        }
        if lies_above_verified(self.header, self.verification) {
            return self.refuse(RejectionReason::Gap);
        }
        match self.policy.sequence_rule {
            SequenceRule::Contiguous => self.contiguous(is_next),
            SequenceRule::Increasing => self.increasing(),
        }
    }

    /// Whether the batch belongs to the same run of sequences as the window.
    #[inline]
    fn window_counts(self) -> bool {
        self.policy.sequence_rule == SequenceRule::Increasing
            || (self.view.epoch() == self.header.producer_epoch && self.view.side.fenced_epoch.is_none())
    }

    /// The batch of the window with the same sequences.
    #[inline]
    fn stored_batch(self) -> Option<&'a StoredBatch> {
        let (last, delta) = (self.header.last_sequence(), self.header.last_offset_delta);
        let is_same = |batch: &&StoredBatch| batch.last_sequence == last && batch.offset_delta == delta;
        let newest = Some(&self.view.entry.last).filter(|newest| newest.present().is_some());
        self.view.older().find(is_same).or(newest.filter(is_same))
    }

    #[inline(always)]
    fn repeat(self, original: &StoredBatch) -> Result<Decision, Rejection> {
        // The CRC covers the producer epoch.
        let same_epoch =
            self.view.side.fenced_epoch.is_none() && self.view.epoch() == self.header.producer_epoch;
        let sent = StoredBatch::of(self.header, self.header.base_offset);
        let known = original.known_crc().zip(sent.known_crc()).filter(|_| same_epoch);
        let same_bytes = known.map(|(stored, sent)| stored == sent);
        if self.policy.duplicate_check == DuplicateCheck::SameBytes && same_bytes == Some(false) {
            return self.refuse(RejectionReason::DifferentBytes);
        }
        Ok(Decision::Duplicate(Duplicate {
            original: Some(original.offsets()),
            timestamp: original.timestamp,
            same_bytes,
            durable_at: original.last_offset + 1,
        }))
    }

    #[inline(always)]
    fn contiguous(self, is_next: bool) -> Result<Decision, Rejection> {
        if is_next {
            return self.append();
        }
        if self.view.epoch() == self.header.producer_epoch {
            return self.refuse(self.misplaced());
        }
        if self.view.epoch() == ProducerEpoch::NONE {
            return self.append();
        }
        self.refuse(RejectionReason::NewEpochNotAtZero)
    }

    fn increasing(self) -> Result<Decision, Rejection> {
        let Some(highest) = self.view.last() else { return self.append() };
        if self.header.last_sequence() <= highest.last_sequence {
            return Ok(Decision::Duplicate(Duplicate {
                original: None,
                timestamp: highest.timestamp,
                same_bytes: None,
                durable_at: highest.last_offset + 1,
            }));
        }
        if self.header.base_sequence <= highest.last_sequence {
            return self.refuse(RejectionReason::Overlap);
        }
        self.append()
    }

    /// Whether the batch begins above all of the window, which then lies within the half circle before it.
    fn leaves_gap(self) -> bool {
        let Some(bounds) = self.view.bounds() else { return true };
        let first = self.header.base_sequence;
        if self.policy.sequence_rule == SequenceRule::Increasing {
            return first > bounds.last_sequence;
        }
        let above = |sequence| distance(bounds.first_sequence, sequence);
        bounds.last_sequence.0 >= 0 && (above(bounds.last_sequence) + 1..HALF_CIRCLE).contains(&above(first))
    }

    /// Why a batch is refused that does not begin at the next sequence.
    fn misplaced(self) -> RejectionReason {
        let (Some(bounds), Some(next)) =
            (self.view.bounds().filter(|_| self.window_counts()), self.next_sequence())
        else {
            return RejectionReason::Gap;
        };
        let behind = distance(self.header.base_sequence, next);
        if bounds.last_sequence.0 < 0 || behind > HALF_CIRCLE {
            return RejectionReason::Gap;
        }
        let records = i64::from(self.header.last_offset_delta) + 1;
        if records <= behind - distance(bounds.first_sequence, next) {
            RejectionReason::OlderThanWindow
        } else {
            RejectionReason::Overlap
        }
    }

    /// The sequence that the batch should begin with. `None`: there is none left.
    #[inline(always)]
    fn next_sequence(self) -> Option<Sequence> {
        match self.view.last().filter(|batch| self.window_counts() && batch.last_sequence.0 >= 0) {
            None => Some(Sequence(0)),
            Some(last) if self.policy.sequence_rule == SequenceRule::Contiguous => {
                Some(last.last_sequence.plus(1))
            }
            Some(last) => last.last_sequence.0.checked_add(1).map(Sequence),
        }
    }

    #[cold]
    fn refuse<T>(self, reason: RejectionReason) -> Result<T, Rejection> {
        use RejectionReason::{CoordinatorFenced, Fenced, StaleMarker};
        let by_epoch = matches!(reason, Fenced | CoordinatorFenced | StaleMarker);
        Err(Rejection {
            current_epoch: Some(self.view.epoch()),
            expected: self.next_sequence().filter(|_| !by_epoch),
            window: self.view.bounds().filter(|_| self.window_counts()),
            ..rejection(self.header, reason)
        })
    }
}

const HALF_CIRCLE: i64 = 1 << 30;

/// How many sequences `from` lies before `to` on the circle of 2^31.
fn distance(from: Sequence, to: Sequence) -> i64 {
    (i64::from(to.0) - i64::from(from.0)).rem_euclid(1 << 31)
}
