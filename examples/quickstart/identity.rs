//! What a record's value says: who sent it, where to, and as which one.

/// A record's identity. Its value spells it out, so that a record found on disk is known without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer: usize,
    pub(crate) partition: usize,
    /// 0, 1, 2, ... among the records of this producer in this partition.
    pub(crate) number: u64,
}

impl Identity {
    pub(crate) fn value(self) -> String {
        let Self { producer, partition, number } = self;
        let padding = ".".repeat((number * 37 % 150) as usize);
        format!("producer {producer} partition {partition} number {number} {padding}")
    }

    /// Reads a value back; `None` if it is not, to the byte, one that a producer sent.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut words = text.split(' ').skip(1).step_by(2);
        let producer = words.next()?.parse().ok()?;
        let partition = words.next()?.parse().ok()?;
        let number = words.next()?.parse().ok()?;
        let identity = Self { producer, partition, number };
        (identity.value() == text).then_some(identity)
    }
}
