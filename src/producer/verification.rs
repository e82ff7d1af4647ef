//! Which transactions a coordinator has confirmed: without that, a batch of a transaction that the coordinator has ended
//! already would open it again, and nobody would close it. In memory only; a broker asks again after a restart.
//!
//! Source: `VerificationStateEntry`, `VerificationGuard` of Apache Kafka (KIP-890).

use std::collections::{BTreeMap, HashMap};

use super::clock::HostClock;
use super::policy::ProducerPolicy;
use crate::batch::BatchHeader;
use crate::transaction::TransactionVersion;
use crate::types::{ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Shows that a verification was begun before the coordinator was asked. See
/// [`Log::begin_verification`](crate::Log::begin_verification).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerificationGuard(u64);

/// What the decision needs of a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verification {
    /// Whether a transaction may not begin with this batch, because nobody has shown the guard.
    pub(crate) is_missing: bool,
    /// The lowest sequence that was seen when it was begun: the transaction begins there.
    pub(crate) lowest_sequence: Option<Sequence>,
    /// Whether its transaction is the first of the producer's epoch: without any batch known, sequences begin at 0.
    pub(crate) begins_epoch: bool,
}

impl Verification {
    /// Where none is under way. `required`: whether batches must have a guard at all.
    pub(crate) fn none(required: bool) -> Self {
        Self { is_missing: required, ..Self::default() }
    }
}

/// The verifications of a partition that are begun. Who asks for them need not exist: they are no more than the producers that
/// the partition remembers.
#[derive(Debug, Default)]
pub(crate) struct Verifications {
    begun: HashMap<ProducerId, Begun>,
    /// Whose they are and when they were begun, by the number of the guard: the oldest first.
    by_age: BTreeMap<u64, (ProducerId, i64)>,
    last: u64,
    clock: HostClock,
}

#[derive(Debug)]
struct Begun {
    guard: VerificationGuard,
    lowest_sequence: Sequence,
    epoch: ProducerEpoch,
    version: TransactionVersion,
}

impl Begun {
    fn join(&mut self, epoch: ProducerEpoch, sequence: Sequence, version: TransactionVersion) {
        if epoch > self.epoch {
            (self.epoch, self.lowest_sequence, self.version) = (epoch, sequence, version);
        } else if epoch == self.epoch {
            self.lowest_sequence = self.lowest_sequence.min(sequence);
        }
    }

    /// Whether it is over with this batch of the transaction, or with this marker. Not with a late one of the transaction
    /// before, which has the epoch of this one.
    fn ends_with(&self, header: &BatchHeader) -> bool {
        let is_before = self.version == TransactionVersion::V2 && header.producer_epoch == self.epoch;
        header.is_transactional() && !(header.is_control() && is_before)
    }
}

impl Verifications {
    /// Begins a verification, or joins the one that is under way: a lower sequence of the same epoch lowers its
    /// sequence, a higher epoch replaces both.
    pub(crate) fn begin(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        version: TransactionVersion,
        now: Timestamp,
        policy: &ProducerPolicy,
    ) -> VerificationGuard {
        // More than comes in, so that they become fewer where nothing else has them expire.
        self.expire(2, now, policy.expiry_ms);
        if let Some(begun) = self.begun.get_mut(&id) {
            begun.join(epoch, sequence, version);
            return begun.guard;
        }
        while self.begun.len() >= policy.budget && self.forget_oldest(|_| true) {}
        self.last += 1;
        let guard = VerificationGuard(self.last);
        self.begun.insert(id, Begun { guard, lowest_sequence: sequence, epoch, version });
        self.by_age.insert(guard.0, (id, self.clock.peek(now)));
        guard
    }

    /// What is known for a batch that comes with `shown`. `required`: whether batches must have a guard at all.
    pub(crate) fn look(
        &self,
        id: ProducerId,
        shown: Option<VerificationGuard>,
        required: bool,
    ) -> Verification {
        let Some(begun) = self.begun.get(&id) else { return Verification::none(required) };
        Verification {
            is_missing: required && shown != Some(begun.guard),
            lowest_sequence: Some(begun.lowest_sequence),
            begins_epoch: begun.version == TransactionVersion::V2,
        }
    }

    /// Whether the producer's verification is over once this batch is stored.
    pub(crate) fn ends_with(&self, header: &BatchHeader) -> bool {
        self.begun.get(&header.producer_id).is_some_and(|begun| begun.ends_with(header))
    }

    /// A batch was stored.
    pub(crate) fn end(&mut self, header: &BatchHeader) {
        if !self.begun.is_empty()
            && self.ends_with(header)
            && let Some(begun) = self.begun.remove(&header.producer_id)
        {
            self.by_age.remove(&begun.guard.0);
        }
    }

    /// Forgets up to `count` verifications that were begun `expiry_ms` ago. Returns how many.
    pub(crate) fn expire(&mut self, count: usize, now: Timestamp, expiry_ms: i64) -> usize {
        self.clock.observe(now);
        let until = self.clock.peek(now).saturating_sub(expiry_ms);
        (0..count).take_while(|_| self.forget_oldest(|since| since <= until)).count()
    }

    /// Forgets the oldest, if `is_due` says so of when it was begun.
    fn forget_oldest(&mut self, is_due: impl FnOnce(i64) -> bool) -> bool {
        let oldest = self.by_age.first_entry().filter(|oldest| is_due(oldest.get().1));
        let id = oldest.map(|oldest| oldest.remove().0);
        id.is_some_and(|id| self.begun.remove(&id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, ControlRecord};

    const A: ProducerId = ProducerId(1);
    const NOW: Timestamp = Timestamp(1_000);

    fn lowest(verifications: &Verifications) -> Option<i32> {
        verifications.look(A, None, true).lowest_sequence.map(|sequence| sequence.0)
    }

    fn begin(
        verifications: &mut Verifications,
        id: ProducerId,
        epoch: i16,
        sequence: i32,
    ) -> VerificationGuard {
        begin_in(verifications, id, epoch, sequence, TransactionVersion::V1)
    }

    fn begin_in(
        verifications: &mut Verifications,
        id: ProducerId,
        epoch: i16,
        sequence: i32,
        version: TransactionVersion,
    ) -> VerificationGuard {
        let policy = ProducerPolicy::default().expiry_ms(1_000).budget(3);
        verifications.begin(id, ProducerEpoch(epoch), Sequence(sequence), version, NOW, &policy)
    }

    fn batch(id: ProducerId, epoch: i16) -> BatchHeader {
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(epoch), Sequence(0)).transactional();
        *builder.record(b"k", b"v").build().unwrap().header()
    }

    fn marker(id: ProducerId, epoch: i16) -> BatchHeader {
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(epoch), Sequence::NONE);
        *builder.control(ControlRecord::Commit { coordinator_epoch: 0 }).build().unwrap().header()
    }

    #[test]
    fn a_verification_is_joined_until_a_batch_ends_it() {
        let mut verifications = Verifications::default();
        let first = begin(&mut verifications, A, 0, 0);
        assert_eq!(begin(&mut verifications, A, 0, 0), first);
        assert!(!verifications.look(A, Some(first), true).is_missing);
        assert!(verifications.look(A, None, true).is_missing);
        assert!(!verifications.look(A, None, false).is_missing, "not required");
        verifications.end(&batch(A, 0));
        assert!(verifications.look(A, Some(first), true).is_missing, "it is over");
        assert_ne!(begin(&mut verifications, A, 0, 0), first);
    }

    /// A client that has heard of its transaction's end begins the next one before all markers are written. The late marker
    /// ended the verification of that one, and the batch that came with its guard was refused with a fatal error.
    #[test]
    fn a_late_marker_of_the_transaction_before_ends_no_verification() {
        use TransactionVersion::{V1, V2};
        let cases = [
            ("the marker before, in the epoch that it began", V2, marker(A, 6), false),
            ("a marker that fences", V2, marker(A, 7), true),
            ("a marker of an older epoch", V2, marker(A, 5), true),
            ("a batch of the transaction", V2, batch(A, 6), true),
            ("a marker where epochs tell nothing", V1, marker(A, 6), true),
        ];
        for (name, version, header, ends) in cases {
            let mut verifications = Verifications::default();
            let guard = begin_in(&mut verifications, A, 6, 0, version);
            assert_eq!(verifications.ends_with(&header), ends, "{name}");
            verifications.end(&header);
            assert_eq!(verifications.look(A, Some(guard), true).is_missing, ends, "{name}");
        }
    }

    #[test]
    fn the_lowest_sequence_of_the_highest_epoch_counts() {
        let mut verifications = Verifications::default();
        let steps = [(0, 5, 5), (0, 3, 3), (0, 4, 3), (1, 9, 9), (0, 1, 9), (1, 7, 7)];
        for (epoch, sequence, expected) in steps {
            begin(&mut verifications, A, epoch, sequence);
            assert_eq!(lowest(&verifications), Some(expected), "epoch {epoch}, sequence {sequence}");
        }
    }

    #[test]
    fn a_verification_expires() {
        let mut verifications = Verifications::default();
        begin(&mut verifications, A, 0, 0);
        assert_eq!(verifications.expire(9, Timestamp(1_999), 1_000), 0);
        assert_eq!(lowest(&verifications), Some(0));
        assert_eq!(verifications.expire(9, Timestamp(2_000), 1_000), 1);
        assert_eq!(lowest(&verifications), None);
    }

    /// Each that was begun for an id that a client had made up stayed for a day, and where nothing was appended for ever.
    #[test]
    fn there_are_no_more_verifications_than_the_budget_has_producers_and_the_oldest_goes() {
        let mut verifications = Verifications::default();
        let guards: Vec<_> =
            (0..5).map(|id| (ProducerId(id), begin(&mut verifications, ProducerId(id), 0, 0))).collect();
        let left = |&(id, guard)| !verifications.look(id, Some(guard), true).is_missing;
        assert_eq!(guards.iter().map(left).collect::<Vec<_>>(), [false, false, true, true, true]);
        verifications.end(&marker(ProducerId(3), 0));
        assert_eq!((verifications.begun.len(), verifications.by_age.len()), (2, 2));
    }

    /// A clock that was set ahead by a day ended all that were under way.
    #[test]
    fn a_jump_of_the_clock_ends_no_verification() {
        let mut verifications = Verifications::default();
        begin(&mut verifications, A, 0, 0);
        const DAY: i64 = 86_400_000;
        assert_eq!(verifications.expire(9, Timestamp(NOW.0 + 2 * DAY), DAY), 0);
        for _ in 0..2 {
            assert_eq!(verifications.expire(9, Timestamp(NOW.0 - DAY), DAY), 0, "and back");
        }
        assert_eq!(lowest(&verifications), Some(0));
    }
}
