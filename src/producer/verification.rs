//! Which transactions a coordinator has confirmed: without that, a batch of a transaction that the coordinator has ended
//! already would open it again, and nobody would close it. In memory only; a broker asks again after a restart.
//!
//! Source: `VerificationStateEntry`, `VerificationGuard` of Apache Kafka (KIP-890).

use std::collections::HashMap;

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
}

/// The verifications of a partition that are begun.
#[derive(Debug, Default)]
pub(crate) struct Verifications {
    begun: HashMap<ProducerId, Begun>,
    last: u64,
}

#[derive(Debug)]
struct Begun {
    guard: VerificationGuard,
    since: Timestamp,
    lowest_sequence: Sequence,
    epoch: ProducerEpoch,
}

impl Verifications {
    /// Begins a verification, or joins the one that is under way: a lower sequence of the same epoch lowers its
    /// sequence, a higher epoch replaces both.
    pub(crate) fn begin(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        now: Timestamp,
    ) -> VerificationGuard {
        let last = &mut self.last;
        let begun = self.begun.entry(id).or_insert_with(|| {
            *last += 1;
            Begun { guard: VerificationGuard(*last), since: now, lowest_sequence: sequence, epoch }
        });
        if epoch > begun.epoch {
            (begun.epoch, begun.lowest_sequence) = (epoch, sequence);
        } else if epoch == begun.epoch {
            begun.lowest_sequence = begun.lowest_sequence.min(sequence);
        }
        begun.guard
    }

    /// What is known for a batch that comes with `shown`. `required`: whether batches must have a guard at all.
    pub(crate) fn look(
        &self,
        id: ProducerId,
        shown: Option<VerificationGuard>,
        required: bool,
    ) -> Verification {
        let begun = self.begun.get(&id);
        let is_shown = begun.is_some_and(|begun| shown == Some(begun.guard));
        Verification {
            is_missing: required && !is_shown,
            lowest_sequence: begun.map(|begun| begun.lowest_sequence),
        }
    }

    /// A transactional batch or a marker of the producer was stored.
    pub(crate) fn end(&mut self, id: ProducerId) {
        if !self.begun.is_empty() {
            self.begun.remove(&id);
        }
    }

    /// Forgets verifications that were begun `expiry_ms` ago.
    pub(crate) fn expire(&mut self, now: Timestamp, expiry_ms: i64) {
        self.begun.retain(|_, begun| now.0.saturating_sub(begun.since.0) < expiry_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ProducerId = ProducerId(1);
    const NOW: Timestamp = Timestamp(1_000);

    fn lowest(verifications: &Verifications) -> Option<i32> {
        verifications.look(A, None, true).lowest_sequence.map(|sequence| sequence.0)
    }

    #[test]
    fn a_verification_is_joined_until_a_batch_ends_it() {
        let mut verifications = Verifications::default();
        let first = verifications.begin(A, ProducerEpoch(0), Sequence(0), NOW);
        assert_eq!(verifications.begin(A, ProducerEpoch(0), Sequence(0), NOW), first);
        assert!(!verifications.look(A, Some(first), true).is_missing);
        assert!(verifications.look(A, None, true).is_missing);
        assert!(!verifications.look(A, None, false).is_missing, "not required");
        verifications.end(A);
        assert!(verifications.look(A, Some(first), true).is_missing, "it is over");
        assert_ne!(verifications.begin(A, ProducerEpoch(0), Sequence(0), NOW), first);
    }

    #[test]
    fn the_lowest_sequence_of_the_highest_epoch_counts() {
        let mut verifications = Verifications::default();
        let steps = [(0, 5, 5), (0, 3, 3), (0, 4, 3), (1, 9, 9), (0, 1, 9), (1, 7, 7)];
        for (epoch, sequence, expected) in steps {
            verifications.begin(A, ProducerEpoch(epoch), Sequence(sequence), NOW);
            assert_eq!(lowest(&verifications), Some(expected), "epoch {epoch}, sequence {sequence}");
        }
    }

    #[test]
    fn a_verification_expires() {
        let mut verifications = Verifications::default();
        verifications.begin(A, ProducerEpoch(0), Sequence(0), NOW);
        verifications.expire(Timestamp(1_999), 1_000);
        assert_eq!(lowest(&verifications), Some(0));
        verifications.expire(Timestamp(2_000), 1_000);
        assert_eq!(lowest(&verifications), None);
    }
}
