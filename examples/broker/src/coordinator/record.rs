//! A transactional id as a record: the bytes of Kafka's `TransactionLogKey` and `TransactionLogValue`, version 0.
//!
//! ```text
//! key    version i16 = 0, transactional id (i16 length, UTF-8)
//! value  version i16 = 0, producer id i64, producer epoch i16, timeout in ms i32, status i8,
//!        topics (i32 count; -1 = null): name (i16 length, UTF-8), partitions (i32 count): number i32
//!        last change i64, begin of the transaction i64 (-1 = none)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure};
use bytes::{Buf, BufMut};
use idemlog::{ProducerEpoch, ProducerId, Timestamp, TopicPartition};

use super::transaction::{Outcome, Owner, Phase, Transaction};

const VERSION: i16 = 0;
const NONE: i64 = -1;
/// The phases by their status number.
const PHASES: [Phase; 6] = [
    Phase::Empty,
    Phase::Ongoing,
    Phase::Ending(Outcome::Commit),
    Phase::Ending(Outcome::Abort),
    Phase::Ended(Outcome::Commit),
    Phase::Ended(Outcome::Abort),
];

/// The longest transactional id.
pub(super) const MAX_NAME: usize = i16::MAX as usize;

/// The key. `name` is not longer than [`MAX_NAME`].
pub(super) fn encode_key(name: &str) -> Vec<u8> {
    let mut key = VERSION.to_be_bytes().to_vec();
    put_string(&mut key, name);
    key
}

pub(super) fn encode_value(transaction: &Transaction, now: Timestamp) -> Vec<u8> {
    let mut value = VERSION.to_be_bytes().to_vec();
    value.put_i64(transaction.owner.id.0);
    value.put_i16(transaction.owner.epoch.0);
    value.put_i32(transaction.timeout_ms);
    value.put_u8(PHASES.iter().position(|phase| *phase == transaction.phase).unwrap_or_default() as u8);
    put_partitions(&mut value, &transaction.partitions);
    value.put_i64(now.0);
    value.put_i64(transaction.begun.map_or(NONE, |begun| begun.0));
    value
}

fn put_partitions(value: &mut Vec<u8>, partitions: &BTreeSet<TopicPartition>) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    partitions.iter().for_each(|it| topics.entry(it.topic()).or_default().push(it.partition()));
    value.put_i32(topics.len() as i32);
    for (topic, numbers) in topics {
        put_string(value, topic);
        value.put_i32(numbers.len() as i32);
        numbers.into_iter().for_each(|number| value.put_i32(number));
    }
}

fn put_string(bytes: &mut Vec<u8>, string: &str) {
    bytes.put_i16(string.len() as i16);
    bytes.extend_from_slice(string.as_bytes());
}

pub(super) fn decode_key(mut key: &[u8]) -> anyhow::Result<String> {
    check_version(&mut key)?;
    let name = take_string(&mut key)?.to_owned();
    ensure!(key.is_empty(), "{} bytes behind a transactional id", key.len());
    Ok(name)
}

pub(super) fn decode_value(mut value: &[u8]) -> anyhow::Result<Transaction> {
    let bytes = &mut value;
    check_version(bytes)?;
    let owner = Owner { id: ProducerId(bytes.try_get_i64()?), epoch: ProducerEpoch(bytes.try_get_i16()?) };
    let timeout_ms = bytes.try_get_i32()?;
    let status = bytes.try_get_u8()?;
    let Some(phase) = PHASES.get(usize::from(status)).copied() else { bail!("status {status}") };
    let partitions = take_partitions(bytes)?;
    let _last_change = bytes.try_get_i64()?;
    let begun = Some(bytes.try_get_i64()?).filter(|begun| *begun != NONE).map(Timestamp);
    ensure!(bytes.is_empty(), "{} bytes behind the state of a transactional id", bytes.len());
    Ok(Transaction { phase, begun, partitions, ..Transaction::new(owner, timeout_ms) })
}

fn take_partitions(bytes: &mut &[u8]) -> anyhow::Result<BTreeSet<TopicPartition>> {
    let mut partitions = BTreeSet::new();
    for _ in 0..bytes.try_get_i32()? {
        let topic = take_string(bytes)?;
        for _ in 0..bytes.try_get_i32()? {
            partitions.insert(TopicPartition::new(topic, bytes.try_get_i32()?)?);
        }
    }
    Ok(partitions)
}

fn check_version(bytes: &mut &[u8]) -> anyhow::Result<()> {
    let version = bytes.try_get_i16()?;
    ensure!(version == VERSION, "version {version}, expected {VERSION}");
    Ok(())
}

fn take_string<'a>(bytes: &mut &'a [u8]) -> anyhow::Result<&'a str> {
    let length = usize::try_from(bytes.try_get_i16()?)?;
    let Some((string, rest)) = bytes.split_at_checked(length) else {
        bail!("a string of {length} bytes, of which {} are there", bytes.len())
    };
    *bytes = rest;
    Ok(std::str::from_utf8(string)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transaction() -> Transaction {
        let partitions = [("a", 1), ("a", 2), ("b", 0)];
        Transaction {
            phase: Phase::Ongoing,
            begun: Some(Timestamp(9)),
            partitions: partitions.map(|(topic, number)| TopicPartition::new(topic, number).unwrap()).into(),
            ..Transaction::new(Owner { id: ProducerId(7), epoch: ProducerEpoch(3) }, 500)
        }
    }

    #[test]
    fn a_state_is_read_back_in_every_phase() {
        for phase in PHASES {
            let written = Transaction { phase, ..transaction() };
            assert_eq!(decode_value(&encode_value(&written, Timestamp(10))).unwrap(), written);
        }
        let empty = Transaction::new(transaction().owner, 1);
        assert_eq!(decode_value(&encode_value(&empty, Timestamp(10))).unwrap(), empty);
        assert_eq!(decode_key(&encode_key("payments")).unwrap(), "payments");
    }

    #[test]
    fn a_state_has_these_bytes() {
        assert_eq!(encode_key("ab"), [0, 0, 0, 2, b'a', b'b']);
        let expected = [
            &[0, 0][..],
            &7_i64.to_be_bytes(),
            &[0, 3, 0, 0, 1, 0xf4, 1, 0, 0, 0, 2],
            &[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
            &[0, 1, b'b', 0, 0, 0, 1, 0, 0, 0, 0],
            &10_i64.to_be_bytes(),
            &9_i64.to_be_bytes(),
        ];
        assert_eq!(encode_value(&transaction(), Timestamp(10)), expected.concat());
    }

    #[test]
    fn bytes_that_are_not_whole_or_too_many_are_refused() {
        let (key, value) = (encode_key("ab"), encode_value(&transaction(), Timestamp(10)));
        (0..key.len()).for_each(|length| assert!(decode_key(&key[..length]).is_err(), "{length}"));
        (0..value.len()).for_each(|length| assert!(decode_value(&value[..length]).is_err(), "{length}"));
        assert!(decode_key(&[&key[..], &[0]].concat()).is_err());
        assert!(decode_value(&[&value[..], &[0]].concat()).is_err());
    }
}
