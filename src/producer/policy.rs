//! What a host can choose about producers: who counts as a duplicate, as unknown, as expired.

use super::snapshot;
use crate::error::{Error, Result};

/// Which sequences a batch may have behind those already stored.
///
/// ```
/// use idemlog::SequenceRule;
///
/// assert_eq!(SequenceRule::default(), SequenceRule::Contiguous);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SequenceRule {
    /// As Kafka: the next sequence is the last one plus 1, and 0 comes behind 2^31-1. A gap is refused.
    #[default]
    Contiguous,
    /// Any higher sequence: a batch that ends at or below the highest sequence stored is a duplicate, for the whole
    /// life of the producer and across its epochs. For producers that number by a position in their own source. Sequences
    /// do not wrap.
    Increasing,
}

/// With which sequence a producer may begin that the partition does not know. Only asked under
/// [`SequenceRule::Contiguous`].
///
/// ```
/// use idemlog::FirstAppend;
///
/// assert_eq!(FirstAppend::default(), FirstAppend::RequireZeroInNewLog);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FirstAppend {
    /// With any, as Kafka up to 4.4.
    AcceptAny,
    /// With any, but with 0 where the log has never held a record: nothing can have come before it there. So what a client has
    /// in flight towards a new partition is stored in its order, as Kafka does from 4.5 on. A log that was emptied takes any,
    /// unless a truncation made it end at offset 0 again.
    #[default]
    RequireZeroInNewLog,
    /// With 0. A producer that was forgotten must begin there again: clients do so in a new epoch or under a new id,
    /// [`Producer`](crate::Producer) in the epoch that it has.
    RequireZero,
}

/// What makes a batch the same as a stored one.
///
/// ```
/// use idemlog::DuplicateCheck;
///
/// assert_eq!(DuplicateCheck::default(), DuplicateCheck::Sequences);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DuplicateCheck {
    /// Producer, epoch, first and last sequence, as Kafka. The answer says whether the bytes were the same.
    #[default]
    Sequences,
    /// The CRC-32C too: a sequence that is used again for other bytes is refused.
    SameBytes,
}

/// By which clock an idle producer expires.
///
/// ```
/// use idemlog::ExpiryClock;
///
/// assert_eq!(ExpiryClock::default(), ExpiryClock::HostTime);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExpiryClock {
    /// The host's, from the last append seen. It may jump: between two looks of the partition at the clock, which it takes
    /// at appends and in [`Log::expire_producers`](crate::Log::expire_producers), at most an hour counts, and nothing if it
    /// was put back. So in a partition with less than an append an hour, idle producers are remembered longer.
    #[default]
    HostTime,
    /// As Kafka: the host's time now less the timestamp in the producer's last batch, which the producer chose.
    RecordTimestamp,
}

/// How a partition remembers and judges producers. Every value has a default that suits a broker.
///
/// ```
/// use idemlog::{DuplicateCheck, ProducerPolicy};
///
/// let policy = ProducerPolicy::default().window(10).duplicate_check(DuplicateCheck::SameBytes);
/// assert_eq!(policy.window, 10);
/// policy.validate()?;
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerPolicy {
    /// How many batches of each producer are recognised when they are sent again, 1 to 64. Default: 5, what a Kafka
    /// client may have in flight.
    pub window: u8,
    /// Which sequences a batch may have behind those already stored. Default: [`SequenceRule::Contiguous`].
    pub sequence_rule: SequenceRule,
    /// With which sequence an unknown producer may begin. Default: [`FirstAppend::RequireZeroInNewLog`].
    pub first_append: FirstAppend,
    /// What makes a batch the same as a stored one. Default: [`DuplicateCheck::Sequences`].
    pub duplicate_check: DuplicateCheck,
    /// By which clock an idle producer expires. Default: [`ExpiryClock::HostTime`].
    pub expiry_clock: ExpiryClock,
    /// After how many idle ms a producer is forgotten, 1 and up. Default: 86,400,000, a day.
    pub expiry_ms: i64,
    /// How many producers the partition remembers, 1 and up, as far as a snapshot of 8 GiB holds them: 44 million with a
    /// window of 5. Default: 1,000,000, of up to 200 bytes each. A follower takes more, and an opening that reads the log
    /// again finds up to a million more: they go when they have been idle for `eviction_min_idle_ms`.
    pub budget: usize,
    /// For how many ms behind its last append a producer is never forgotten to make room for another, 1 and up. Longer
    /// than any client goes on sending a batch. Default: 900,000, a quarter of an hour.
    pub eviction_min_idle_ms: i64,
}

impl Default for ProducerPolicy {
    fn default() -> Self {
        Self {
            window: 5,
            sequence_rule: SequenceRule::default(),
            first_append: FirstAppend::default(),
            duplicate_check: DuplicateCheck::default(),
            expiry_clock: ExpiryClock::default(),
            expiry_ms: 86_400_000,
            budget: 1_000_000,
            eviction_min_idle_ms: 900_000,
        }
    }
}

setters! { ProducerPolicy:
    window: u8,
    sequence_rule: SequenceRule,
    first_append: FirstAppend,
    duplicate_check: DuplicateCheck,
    expiry_clock: ExpiryClock,
    expiry_ms: i64,
    budget: usize,
    eviction_min_idle_ms: i64,
}

impl ProducerPolicy {
    /// Remembers more than any log does: nothing is forgotten for want of room, nor with an epoch, as the default rule has it.
    pub(crate) fn remembering_all() -> Self {
        let all = Self::default().sequence_rule(SequenceRule::Increasing);
        all.window(64).budget(1 << 31).expiry_ms(i64::MAX)
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        let check = |holds: bool, option, expected, got: String| {
            if holds { Ok(()) } else { Err(Error::InvalidOption { option, expected, got }) }
        };
        check((1..=64).contains(&self.window), "window", "1 to 64", self.window.to_string())?;
        check(self.expiry_ms > 0, "expiry_ms", "1 or more", self.expiry_ms.to_string())?;
        let budgets = 1..=snapshot::producers_max(self.window);
        let expected = "1 to what a snapshot of 8 GiB holds";
        check(budgets.contains(&self.budget), "budget", expected, self.budget.to_string())?;
        let idle = self.eviction_min_idle_ms;
        check(idle > 0, "eviction_min_idle_ms", "1 or more", idle.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_cannot_work_is_named() {
        let policy = ProducerPolicy::default;
        let cases = [
            ("window", policy().window(0)),
            ("window", policy().window(65)),
            ("expiry_ms", policy().expiry_ms(0)),
            ("budget", policy().budget(0)),
            ("budget", policy().budget(45_000_000)),
            ("budget", policy().window(64).budget(5_000_000)),
            ("eviction_min_idle_ms", policy().eviction_min_idle_ms(0)),
        ];
        for (name, policy) in cases {
            let error = policy.validate().unwrap_err();
            assert!(
                matches!(error, Error::InvalidOption { option, .. } if option == name),
                "{name}: {error}"
            );
        }
        policy().validate().unwrap();
        policy().budget(44_000_000).validate().unwrap();
    }
}
