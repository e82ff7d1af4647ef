//! The numbers of a partition log and the id of a topic, each a type of its own so that one cannot be taken for another.

mod topic_id;

use std::fmt;

pub use topic_id::TopicId;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }
    };
}

number! {
    /// The logical number of a record in a partition: 0, 1, 2, ... Never a byte position.
    ///
    /// ```
    /// use idemlog::Offset;
    ///
    /// assert_eq!(Offset(5) + 2, Offset(7));
    /// assert!(Offset(5) < Offset(7));
    /// ```
    Offset(i64)
}

number! {
    /// Who wrote a batch. Ids are 0 and up; [`ProducerId::NONE`] (-1) marks a batch without idempotence.
    ///
    /// ```
    /// use idemlog::ProducerId;
    ///
    /// assert!(ProducerId(7).is_some());
    /// assert!(!ProducerId::NONE.is_some());
    /// ```
    ProducerId(i64)
}

number! {
    /// Which incarnation of a producer wrote a batch: 0 to 32,767, and -1 for none. An older epoch is fenced by a newer.
    ///
    /// ```
    /// use idemlog::ProducerEpoch;
    ///
    /// assert!(ProducerEpoch(3) < ProducerEpoch(4));
    /// ```
    ProducerEpoch(i16)
}

number! {
    /// Which leadership of the partition wrote a batch: 0 and up, -1 for unknown.
    ///
    /// ```
    /// use idemlog::LeaderEpoch;
    ///
    /// assert_eq!(LeaderEpoch::UNKNOWN, LeaderEpoch(-1));
    /// ```
    LeaderEpoch(i32)
}

number! {
    /// Milliseconds since 1970-01-01 UTC; -1 for none.
    ///
    /// ```
    /// use idemlog::Timestamp;
    ///
    /// assert!(Timestamp(1_700_000_000_000) > Timestamp::NONE);
    /// ```
    Timestamp(i64)
}

number! {
    /// A record's number among its producer's records: 0 to 2,147,483,647, then 0 again; -1 for none.
    ///
    /// ```
    /// use idemlog::Sequence;
    ///
    /// assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
    /// assert_eq!(Sequence(0).minus(1), Sequence(i32::MAX));
    /// ```
    Sequence(i32)
}

impl Offset {
    /// The first offset of every partition, 0.
    pub const ZERO: Self = Self(0);
}

impl Default for Offset {
    /// Where every partition begins: [`ZERO`](Self::ZERO).
    fn default() -> Self {
        Self::ZERO
    }
}

impl std::ops::Add<i64> for Offset {
    type Output = Self;

    /// Saturates at the largest offset: bytes that claim more are refused where they are decoded.
    fn add(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }
}

impl std::ops::Sub for Offset {
    type Output = i64;

    fn sub(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }
}

impl ProducerId {
    /// A batch without idempotence.
    pub const NONE: Self = Self(-1);

    /// Whether this names a producer.
    pub fn is_some(self) -> bool {
        self.0 > -1
    }
}

impl ProducerEpoch {
    /// No epoch.
    pub const NONE: Self = Self(-1);
    /// The last epoch of a producer id; after it comes a new id.
    pub const MAX: Self = Self(i16::MAX);
}

impl LeaderEpoch {
    /// No leader epoch is known.
    pub const UNKNOWN: Self = Self(-1);
}

impl Timestamp {
    /// No timestamp.
    pub const NONE: Self = Self(-1);
}

impl Sequence {
    /// No sequence: the batch is not idempotent, or a control batch.
    pub const NONE: Self = Self(-1);
    /// The last sequence before the wrap to 0.
    pub const MAX: Self = Self(i32::MAX);

    /// The sequence `count` records later, neither of the two being negative, wrapping from 2^31-1 to 0
    /// (`DefaultRecordBatch.incrementSequence`).
    #[must_use]
    pub fn plus(self, count: i32) -> Self {
        Self(self.0.wrapping_add(count) & i32::MAX)
    }

    /// The sequence `count` records earlier, `count` not being negative, wrapping from 0 to 2^31-1 (`DefaultRecordBatch.decrementSequence`).
    #[must_use]
    pub fn minus(self, count: i32) -> Self {
        Self(self.0.wrapping_sub(count) & i32::MAX)
    }
}

/// A run of offsets, both ends inclusive: those of one batch.
///
/// ```
/// use idemlog::{Offset, OffsetRange};
///
/// let range = OffsetRange { first: Offset(3), last: Offset(5) };
/// assert_eq!(range.count(), 3);
/// assert!(range.contains(Offset(4)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// The first offset.
    pub first: Offset,
    /// The last offset, inclusive.
    pub last: Offset,
}

impl OffsetRange {
    /// How many offsets the range covers; at the most 2^63-1, which is one less than there are.
    pub fn count(self) -> i64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Whether `offset` is one of them.
    pub fn contains(self, offset: Offset) -> bool {
        self.first <= offset && offset <= self.last
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_offsets_are_counted_without_an_overflow() {
        let count = |first, last| OffsetRange { first: Offset(first), last: Offset(last) }.count();
        assert_eq!([count(3, 3), count(1, i64::MAX), count(0, i64::MAX)], [1, i64::MAX, i64::MAX]);
    }

    #[test]
    fn a_sequence_wraps_in_both_directions() {
        for (from, count, to) in
            [(0, 1, 1), (i32::MAX, 1, 0), (i32::MAX - 10, 20, 9), (i32::MAX, i32::MAX, i32::MAX - 1)]
        {
            assert_eq!(Sequence(from).plus(count), Sequence(to), "{from} + {count}");
            assert_eq!(Sequence(to).minus(count), Sequence(from), "{to} - {count}");
        }
    }
}
