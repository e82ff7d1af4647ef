//! One transactional id: who owns it, and how far its transaction is. Pure: what each request makes of the state, or why
//! it is refused. The words and rules are those of Kafka's `TransactionMetadata`.
//!
//! | | `Empty` | `Ongoing` | `Ending` | `Ended` |
//! |---|---|---|---|---|
//! | [`adding`](Transaction::adding) | `Ongoing` | `Ongoing` | `ConcurrentTransactions` | `Ongoing` |
//! | [`ending`](Transaction::ending), as decided | `InvalidTxnState` | `Ending` | stays | stays |
//! | [`ending`](Transaction::ending), otherwise | | | `InvalidTxnState` | `InvalidTxnState` |
//! | [`fenced`](Transaction::fenced) | | `Ending`, to abort, one epoch on | | |
//! | [`ended`](Transaction::ended) | | | `Ended` | |
//! | [`owned_by`](Transaction::owned_by) | `Empty` | | | `Empty` |

use std::collections::BTreeSet;

use idemlog::{ControlRecord, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use kafka_protocol::error::ResponseError;

/// An incarnation of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

impl Owner {
    /// The next incarnation; `None` if the id has none left. The very last epoch only ever fences.
    pub(crate) fn next(self) -> Option<Self> {
        let has_next = self.epoch.0 < ProducerEpoch::MAX.0 - 1;
        has_next.then(|| self.fence())
    }

    fn fence(self) -> Self {
        Self { epoch: ProducerEpoch(self.epoch.0.saturating_add(1)), ..self }
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Commit,
    Abort,
}

impl Outcome {
    /// What is written to each partition of the transaction.
    pub(crate) fn marker(self, coordinator_epoch: i32) -> ControlRecord {
        match self {
            Self::Commit => ControlRecord::Commit { coordinator_epoch },
            Self::Abort => ControlRecord::Abort { coordinator_epoch },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The owner has had no transaction yet.
    Empty,
    Ongoing,
    /// Decided; partitions may lack their markers.
    Ending(Outcome),
    Ended(Outcome),
}

/// The state of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) owner: Owner,
    /// Who became the owner by asking for a higher epoch, and asks again if it did not hear of it. In memory only.
    pub(crate) previous: Option<Owner>,
    pub(crate) timeout_ms: i32,
    pub(crate) phase: Phase,
    /// When the transaction began.
    pub(crate) begun: Option<Timestamp>,
    /// Those that need a marker. Empty unless `Ongoing` or `Ending`.
    pub(crate) partitions: BTreeSet<TopicPartition>,
}

impl Transaction {
    pub(crate) fn new(owner: Owner, timeout_ms: i32) -> Self {
        let partitions = BTreeSet::new();
        Self { owner, previous: None, timeout_ms, phase: Phase::Empty, begun: None, partitions }
    }

    /// Whether who comes as `claimed` has the next incarnation already. Refused, so that it does not fence its
    /// successor, if it is not the owner.
    pub(crate) fn was_given_to(&self, claimed: Option<Owner>) -> Result<bool, ResponseError> {
        match claimed {
            None => Ok(false),
            Some(owner) if owner == self.owner => Ok(false),
            Some(owner) if self.phase == Phase::Empty && self.previous == Some(owner) => Ok(true),
            Some(_) => Err(ResponseError::ProducerFenced),
        }
    }

    /// In the hands of the next owner, once no transaction is under way.
    pub(crate) fn owned_by(owner: Owner, previous: Option<Owner>, timeout_ms: i32) -> Self {
        Self { previous, ..Self::new(owner, timeout_ms) }
    }

    /// With more partitions. `None` if it has them.
    pub(crate) fn adding(
        &self,
        owner: Owner,
        partitions: &BTreeSet<TopicPartition>,
        now: Timestamp,
    ) -> Result<Option<Self>, ResponseError> {
        self.check_owner(owner)?;
        let mut next = self.clone();
        match self.phase {
            Phase::Ending(_) => return Err(ResponseError::ConcurrentTransactions),
            Phase::Ongoing if partitions.is_subset(&self.partitions) => return Ok(None),
            Phase::Ongoing => {}
            Phase::Empty | Phase::Ended(_) => (next.phase, next.begun) = (Phase::Ongoing, Some(now)),
        }
        next.partitions.extend(partitions.iter().cloned());
        Ok(Some(next))
    }

    /// Whether a batch may begin the transaction in a partition.
    pub(crate) fn check_holds(&self, owner: Owner, partition: &TopicPartition) -> Result<(), ResponseError> {
        self.check_owner(owner)?;
        let holds = self.phase == Phase::Ongoing && self.partitions.contains(partition);
        if holds { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    /// Decided by its owner. `None` if that is decided already.
    pub(crate) fn ending(&self, owner: Owner, outcome: Outcome) -> Result<Option<Self>, ResponseError> {
        self.check_owner(owner)?;
        match self.phase {
            Phase::Ongoing => Ok(Some(Self { phase: Phase::Ending(outcome), ..self.clone() })),
            Phase::Ending(decided) | Phase::Ended(decided) if decided == outcome => Ok(None),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// To be aborted without its owner, which is fenced by the epoch of the markers. `None` if none is ongoing.
    pub(crate) fn fenced(&self) -> Option<Self> {
        let is_ongoing = self.phase == Phase::Ongoing;
        is_ongoing.then(|| Self {
            owner: self.owner.fence(),
            phase: Phase::Ending(Outcome::Abort),
            ..self.clone()
        })
    }

    /// As it is when all markers are written; `None` unless it is ending.
    pub(crate) fn ended(&self) -> Option<Self> {
        let Phase::Ending(outcome) = self.phase else { return None };
        Some(Self { phase: Phase::Ended(outcome), begun: None, partitions: BTreeSet::new(), ..self.clone() })
    }

    /// Whether it is ongoing for longer than its timeout.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        let since = self.begun.filter(|_| self.phase == Phase::Ongoing);
        since.is_some_and(|begun| now.0.saturating_sub(begun.0) >= i64::from(self.timeout_ms))
    }

    fn check_owner(&self, owner: Owner) -> Result<(), ResponseError> {
        if owner.id != self.owner.id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if owner.epoch == self.owner.epoch { Ok(()) } else { Err(ResponseError::ProducerFenced) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Abort, Commit};
    use Phase::{Empty, Ended, Ending, Ongoing};

    const NOW: Timestamp = Timestamp(1_000);
    const PHASES: [Phase; 6] = [Empty, Ongoing, Ending(Commit), Ending(Abort), Ended(Commit), Ended(Abort)];

    fn owner(id: i64, epoch: i16) -> Owner {
        Owner { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
    }

    fn partitions(numbers: &[i32]) -> BTreeSet<TopicPartition> {
        numbers.iter().map(|number| TopicPartition::new("orders", *number).unwrap()).collect()
    }

    /// Owned by epoch 3 of producer 7.
    fn transaction(phase: Phase) -> Transaction {
        let is_under_way = matches!(phase, Ongoing | Ending(_));
        Transaction {
            phase,
            begun: is_under_way.then_some(NOW),
            partitions: if is_under_way { partitions(&[0]) } else { BTreeSet::new() },
            ..Transaction::new(owner(7, 3), 500)
        }
    }

    fn phase(result: Result<Option<Transaction>, ResponseError>) -> Result<Option<Phase>, ResponseError> {
        result.map(|next| next.map(|next| next.phase))
    }

    #[test]
    fn every_request_in_every_phase_does_as_the_table_says() {
        use ResponseError::{ConcurrentTransactions, InvalidTxnState};
        let invalid = Err(InvalidTxnState);
        let table = [
            (Empty, Ok(Some(Ongoing)), invalid, invalid, None, None),
            (Ongoing, Ok(Some(Ongoing)), Ok(Some(Ending(Commit))), Ok(Some(Ending(Abort))), Some(4), None),
            (Ending(Commit), Err(ConcurrentTransactions), Ok(None), invalid, None, Some(Ended(Commit))),
            (Ending(Abort), Err(ConcurrentTransactions), invalid, Ok(None), None, Some(Ended(Abort))),
            (Ended(Commit), Ok(Some(Ongoing)), Ok(None), invalid, None, None),
            (Ended(Abort), Ok(Some(Ongoing)), invalid, Ok(None), None, None),
        ];
        for (before, adding, commit, abort, fenced, ended) in table {
            let (it, by) = (transaction(before), owner(7, 3));
            assert_eq!(phase(it.adding(by, &partitions(&[1]), NOW)), adding, "{before:?}");
            assert_eq!(phase(it.ending(by, Commit)), commit, "{before:?}");
            assert_eq!(phase(it.ending(by, Abort)), abort, "{before:?}");
            assert_eq!(it.fenced().map(|next| next.owner.epoch.0), fenced, "{before:?}");
            assert_eq!(it.ended().map(|next| next.phase), ended, "{before:?}");
        }
    }

    #[test]
    fn who_is_not_the_owner_is_refused_in_every_phase() {
        let strangers = [
            (owner(7, 2), ResponseError::ProducerFenced),
            (owner(7, 4), ResponseError::ProducerFenced),
            (owner(8, 3), ResponseError::InvalidProducerIdMapping),
        ];
        for (before, (stranger, refusal)) in
            PHASES.into_iter().flat_map(|phase| strangers.map(|it| (phase, it)))
        {
            let it = transaction(before);
            assert_eq!(it.adding(stranger, &partitions(&[0]), NOW), Err(refusal), "{before:?}");
            assert_eq!(it.ending(stranger, Commit), Err(refusal), "{before:?}");
            assert_eq!(it.check_holds(stranger, &TopicPartition::new("orders", 0).unwrap()), Err(refusal));
            assert_eq!(it.was_given_to(Some(stranger)), Err(ResponseError::ProducerFenced), "{before:?}");
        }
    }

    #[test]
    fn a_batch_may_come_to_the_partitions_of_an_ongoing_transaction_only() {
        for before in PHASES {
            for number in [0, 1] {
                let partition = TopicPartition::new("orders", number).unwrap();
                let holds = transaction(before).check_holds(owner(7, 3), &partition).is_ok();
                assert_eq!(holds, before == Ongoing && number == 0, "{before:?} {number}");
            }
        }
    }

    #[test]
    fn partitions_gather_until_all_have_their_markers() {
        let empty = transaction(Empty);
        let one = empty.adding(empty.owner, &partitions(&[1]), NOW).unwrap().unwrap();
        let two = one.adding(one.owner, &partitions(&[1, 2]), Timestamp(9_999)).unwrap().unwrap();
        assert_eq!((two.begun, &two.partitions), (Some(NOW), &partitions(&[1, 2])));
        assert_eq!(two.adding(two.owner, &partitions(&[2]), NOW), Ok(None));
        let ending = two.ending(two.owner, Commit).unwrap().unwrap();
        assert_eq!(ending.partitions, two.partitions);
        let ended = ending.ended().unwrap();
        assert_eq!((ended.begun, ended.partitions.len()), (None, 0));
    }

    #[test]
    fn only_an_ongoing_transaction_becomes_overdue() {
        for before in PHASES {
            assert!(!transaction(before).is_overdue(Timestamp(1_499)), "{before:?}");
            assert_eq!(transaction(before).is_overdue(Timestamp(1_500)), before == Ongoing, "{before:?}");
        }
    }

    #[test]
    fn who_did_not_hear_of_its_next_epoch_may_ask_again_until_it_uses_it() {
        let before = transaction(Ended(Commit));
        let bumped = Transaction::owned_by(owner(7, 4), Some(before.owner), 800);
        assert_eq!((bumped.phase, bumped.timeout_ms), (Empty, 800));
        assert_eq!(bumped.was_given_to(Some(before.owner)), Ok(true));
        assert_eq!(bumped.was_given_to(Some(bumped.owner)), Ok(false));
        let used = bumped.adding(bumped.owner, &partitions(&[0]), NOW).unwrap().unwrap();
        assert_eq!(used.was_given_to(Some(before.owner)), Err(ResponseError::ProducerFenced));

        let other = Transaction::owned_by(owner(7, 4), None, 800);
        assert_eq!(other.was_given_to(Some(before.owner)), Err(ResponseError::ProducerFenced));
        assert_eq!(other.was_given_to(None), Ok(false));
    }

    #[test]
    fn the_last_epoch_of_an_id_only_fences() {
        assert_eq!(owner(7, 32_765).next(), Some(owner(7, 32_766)));
        for epoch in [32_766, 32_767] {
            assert_eq!(owner(7, epoch).next(), None);
            assert_eq!(owner(7, epoch).fence(), owner(7, 32_767));
        }
    }
}
