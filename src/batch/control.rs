//! Control records: the markers that end transactions, and the kinds that only a Raft log has.

use super::layout::{read_i16, read_i32};

const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const KEY_SIZE: usize = 4;
const VALUE_SIZE: usize = 6;

/// What the one record of a control batch says.
///
/// ```
/// use idemlog::{BatchBuilder, ControlRecord, ProducerEpoch, ProducerId, Sequence};
///
/// let marker = BatchBuilder::new()
///     .producer(ProducerId(7), ProducerEpoch(0), Sequence::NONE)
///     .control(ControlRecord::Commit { coordinator_epoch: 3 })
///     .build()?;
/// assert_eq!(marker.control()?, Some(ControlRecord::Commit { coordinator_epoch: 3 }));
/// # Ok::<(), idemlog::BatchError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlRecord {
    /// The transaction of the batch's producer is committed.
    Commit {
        /// The epoch of the transaction coordinator that decided it.
        coordinator_epoch: i32,
    },
    /// The transaction of the batch's producer is aborted.
    Abort {
        /// The epoch of the transaction coordinator that decided it.
        coordinator_epoch: i32,
    },
    /// No transaction marker: a leader change, a Raft snapshot's header, or a kind to come.
    Other {
        /// Its number in the format.
        kind: i16,
    },
}

impl ControlRecord {
    /// Whether this ends a transaction.
    pub(super) fn is_marker(self) -> bool {
        !matches!(self, Self::Other { .. })
    }

    /// The epoch of the transaction coordinator that a marker comes from.
    pub(crate) fn coordinator_epoch(self) -> Option<i32> {
        match self {
            Self::Commit { coordinator_epoch } | Self::Abort { coordinator_epoch } => Some(coordinator_epoch),
            Self::Other { .. } => None,
        }
    }

    /// The key and the value. The value of a kind without meaning here is null.
    pub(super) fn encode(self) -> ([u8; KEY_SIZE], Option<[u8; VALUE_SIZE]>) {
        match self {
            Self::Abort { coordinator_epoch } => (key(ABORT), Some(value(coordinator_epoch))),
            Self::Commit { coordinator_epoch } => (key(COMMIT), Some(value(coordinator_epoch))),
            Self::Other { kind } => (key(kind), None),
        }
    }

    /// Reads a control record. Like Kafka, a newer version is read as far as this one knows it.
    pub(super) fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, &'static str> {
        let Some(key) = key.filter(|key| key.len() >= KEY_SIZE) else {
            return Err("the key of a control record is null or shorter than 4 bytes");
        };
        if read_i16(key, 0) < 0 {
            return Err("the version of a control record's key is negative");
        }
        match read_i16(key, 2) {
            ABORT => Ok(Self::Abort { coordinator_epoch: decode_value(value)? }),
            COMMIT => Ok(Self::Commit { coordinator_epoch: decode_value(value)? }),
            kind => Ok(Self::Other { kind }),
        }
    }
}

fn key(kind: i16) -> [u8; KEY_SIZE] {
    let [v0, v1] = VERSION.to_be_bytes();
    let [k0, k1] = kind.to_be_bytes();
    [v0, v1, k0, k1]
}

fn value(coordinator_epoch: i32) -> [u8; VALUE_SIZE] {
    let [v0, v1] = VERSION.to_be_bytes();
    let [e0, e1, e2, e3] = coordinator_epoch.to_be_bytes();
    [v0, v1, e0, e1, e2, e3]
}

fn decode_value(value: Option<&[u8]>) -> Result<i32, &'static str> {
    let Some(value) = value.filter(|value| value.len() >= VALUE_SIZE) else {
        return Err("the value of a transaction marker is null or shorter than 6 bytes");
    };
    if read_i16(value, 0) < 0 {
        return Err("the version of a transaction marker is negative");
    }
    Ok(read_i32(value, 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_record_is_read_back() {
        for record in [
            ControlRecord::Commit { coordinator_epoch: i32::MAX },
            ControlRecord::Abort { coordinator_epoch: -1 },
            ControlRecord::Other { kind: 2 },
            ControlRecord::Other { kind: -1 },
        ] {
            let (key, value) = record.encode();
            let decoded = ControlRecord::decode(Some(&key), value.as_ref().map(|value| &value[..]));
            assert_eq!(decoded, Ok(record));
        }
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        let decoded = ControlRecord::decode(Some(&[0, 9, 0, 1, 5, 5]), Some(&[0, 9, 0, 0, 0, 7, 1, 2, 3]));
        assert_eq!(decoded, Ok(ControlRecord::Commit { coordinator_epoch: 7 }));
    }

    #[test]
    fn a_malformed_control_record_is_refused() {
        type Part = Option<&'static [u8]>;
        let value: Part = Some(&[0, 0, 0, 0, 0, 0]);
        let cases: [(&str, Part, Part); 7] = [
            ("null key", None, value),
            ("short key", Some(&[0, 0, 0]), value),
            ("negative key version", Some(&[0xff, 0xff, 0, 1]), value),
            ("null value", Some(&[0, 0, 0, 1]), None),
            ("short value", Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0])),
            ("negative value version", Some(&[0, 0, 0, 0]), Some(&[0x80, 0, 0, 0, 0, 0])),
            ("empty", Some(&[]), Some(&[])),
        ];
        for (name, key, value) in cases {
            assert!(ControlRecord::decode(key, value).is_err(), "{name}");
        }
    }
}
