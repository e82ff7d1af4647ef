//! The table as bytes, and any bytes as a table.

use proptest::prelude::*;

use super::*;
use crate::error::CorruptionKind;
use crate::producer::snapshot::{self, SnapshotIdentity, encode};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const IDENTITY: SnapshotIdentity = SnapshotIdentity {
    leader_epoch: LeaderEpoch(3),
    base_offset: Offset(70),
    position: 4096,
    crc: 0xdead_beef,
};

/// The log end behind the batches of `populated`.
const END: Offset = Offset(23);

fn policy() -> ProducerPolicy {
    ProducerPolicy::default()
}

/// Reads a snapshot of the offset `END`.
fn decode(
    bytes: &[u8],
    policy: ProducerPolicy,
    now: Timestamp,
) -> Result<(ProducerTable, Option<SnapshotIdentity>), CorruptionKind> {
    snapshot::decode(bytes, END, policy, now)
}

/// Producers of every kind: with one batch, a full window, a marker, an open transaction, a fence, no batch.
fn populated() -> ProducerTable {
    let mut log = Log::new(policy());
    log.now = NOW;
    let of = |id, header| BatchHeader {
        producer_id: ProducerId(id),
        max_timestamp: Timestamp(id),
        crc: 7,
        ..header
    };
    log.store(of(1, data(0, 0, 3)), None);
    (0..9).for_each(|sequence| log.store(of(2, data(1, sequence, 1)), None));
    log.store(of(3, transactional(0, 0, 1)), None);
    log.store(BatchHeader { max_timestamp: Timestamp(9), ..of(3, marker(0)) }, Some(commit(4)));
    log.store(of(4, transactional(0, 0, 1)), None);
    (0..3).for_each(|sequence| log.store(of(5, data(0, sequence, 1)), None));
    log.store(of(6, marker(2)), Some(commit(1)));
    log.now = NOW + 5000;
    log.store(of(7, data(0, i32::MAX, 4)), None);
    log.table.raise_epoch(ProducerId(5), ProducerEpoch(8));
    log.table
}

impl std::ops::Add<i64> for Timestamp {
    type Output = Self;

    fn add(self, ms: i64) -> Self {
        Self(self.0 + ms)
    }
}

#[test]
fn a_table_is_read_back_with_everything_in_it() {
    let table = populated();
    let bytes = encode(&table, Some(&IDENTITY));
    let (read, identity) = decode(&bytes, policy(), NOW + 5000).unwrap();
    assert_eq!(identity, Some(IDENTITY));
    assert_eq!(sorted(&read), sorted(&table));
    assert_eq!(encode(&read, identity.as_ref()), bytes, "and writes the same bytes");
}

/// More producers than one piece of the file holds, in the order of their last batches and not.
#[test]
fn a_file_that_is_written_in_pieces_is_read_back_whole() {
    for turn in [1, 7919] {
        let mut log = Log::new(policy());
        for number in 0..20_000_i64 {
            let producer_id = ProducerId(number * turn % 20_000);
            log.store(BatchHeader { producer_id, ..data(0, 0, 1) }, None);
        }
        (0..20_000).step_by(turn as usize).for_each(|id| {
            log.store(BatchHeader { producer_id: ProducerId(id), ..data(0, 1, 1) }, None);
        });
        let (mut pieces, mut count) = (Vec::new(), 0);
        let written = snapshot::write(&log.table, Some(&IDENTITY), |piece| {
            pieces.extend_from_slice(piece);
            count += 1;
            Ok::<(), ()>(())
        });
        pieces[..10].copy_from_slice(&written.unwrap());
        assert!(count > 3);
        assert_eq!(pieces, encode(&log.table, Some(&IDENTITY)));
        let (read, _) = snapshot::decode(&pieces, log.end, policy(), log.now).unwrap();
        assert_eq!(sorted(&read), sorted(&log.table));
        let victim = |table: ProducerTable| table.recency.least_recent;
        assert_eq!(victim(read), victim(log.table));
    }
}

#[test]
fn a_file_that_cannot_be_written_on_ends_with_the_error() {
    let mut left = 2;
    let written = snapshot::write(&populated(), None, |_| {
        left -= 1;
        if left > 0 { Ok(()) } else { Err("the disk is full") }
    });
    assert_eq!((written, left), (Err("the disk is full"), 0));
}

#[test]
fn the_highest_id_is_known_whoever_was_read_or_appended() {
    let mut log = Log::new(policy());
    assert_eq!(log.table.highest_id(), None);
    log.store(BatchHeader { producer_id: ProducerId(9), ..data(0, 0, 1) }, None);
    log.store(BatchHeader { producer_id: ProducerId(4), ..data(0, 0, 1) }, None);
    assert_eq!(log.table.highest_id(), Some(ProducerId(9)));
    let (read, _) = decode(&encode(&log.table, None), policy(), NOW).unwrap();
    assert_eq!(read.highest_id(), Some(ProducerId(9)));
}

#[test]
fn the_beginning_is_what_kafka_would_write() {
    let mut log = Log::new(policy());
    log.store(BatchHeader { max_timestamp: Timestamp(9), ..data(2, 5, 3) }, None);
    let bytes = encode(&log.table, None);
    let expected: Vec<u8> = [
        &1_i16.to_be_bytes()[..],
        &bytes[2..6],
        &1_i32.to_be_bytes(),
        &1_i64.to_be_bytes(),
        &2_i16.to_be_bytes(),
        &7_i32.to_be_bytes(),
        &[0, 0, 0, 0, 0, 0, 0, 2],
        &2_i32.to_be_bytes(),
        &9_i64.to_be_bytes(),
        &(-1_i32).to_be_bytes(),
        &(-1_i64).to_be_bytes(),
    ]
    .concat();
    assert_eq!(bytes[..56], expected);
}

#[test]
fn kafka_is_not_shown_the_batches_of_a_fenced_epoch() {
    let mut log = Log::with(policy(), &[(0, 1)]);
    log.table.raise_epoch(ID, ProducerEpoch(3));
    let kafkas = sealed(encode(&log.table, None)[..56].to_vec());
    let (read, _) = decode(&kafkas, policy(), NOW).unwrap();
    let producer = read.get(ID).unwrap();
    assert_eq!((producer.epoch, producer.batches), (ProducerEpoch(3), vec![]));
}

#[test]
fn a_file_of_kafka_s_has_the_last_batches_seen_now() {
    let entries = populated().len();
    let kafkas = sealed(encode(&populated(), None)[..10 + 46 * entries].to_vec());
    let (read, identity) = decode(&kafkas, policy(), NOW).unwrap();
    assert_eq!((read.len(), identity), (entries, None));
    let producer = read.get(ProducerId(2)).unwrap();
    assert_eq!(producer.batches.len(), 1);
    assert_eq!((producer.batches[0].last_sequence, producer.batches[0].crc), (Sequence(8), None));
    assert_eq!(producer.last_seen, NOW);
    let marked = read.get(ProducerId(6)).unwrap();
    assert_eq!((marked.batches.len(), marked.coordinator_epoch), (0, Some(1)));
    assert_eq!(marked.last_timestamp, Timestamp(6));
}

#[test]
fn the_empty_table_is_kafka_s_ten_bytes_and_a_trailer() {
    let bytes = encode(&ProducerTable::new(policy()), None);
    assert_eq!(bytes.len(), 10 + 40);
    assert_eq!(decode(&bytes, policy(), NOW).unwrap().0.len(), 0);
    assert_eq!(decode(&sealed(bytes[..10].to_vec()), policy(), NOW).unwrap().0.len(), 0);
}

#[test]
fn of_more_producers_than_the_budget_the_most_recent_stay() {
    let (mut read, _) = decode(&encode(&populated(), None), policy().budget(2), NOW + 5000).unwrap();
    assert_eq!(read.len(), 7, "as long as they may send again");
    read.evict_excess(9, NOW + 5000 + policy().eviction_min_idle_ms);
    let ids: Vec<_> = sorted(&read).iter().map(|producer| producer.producer_id.0).collect();
    assert_eq!(ids, [4, 7], "4 has a transaction open, 7 came last");
}

/// A budget was allowed whose snapshot could be written, and no more be read.
#[test]
fn no_producer_takes_more_of_a_file_than_a_budget_counts_with() {
    for window in [1, 5, 64] {
        let mut log = Log::new(policy().window(window));
        (0..64).for_each(|sequence| log.store(data(0, sequence, 1), None));
        log.store(marker(0), Some(commit(1)));
        let empty = encode(&ProducerTable::new(policy()), None).len();
        let bytes = (encode(&log.table, None).len() - empty) as u64;
        let most = snapshot::producers_max(window) as u64;
        let left = snapshot::MAX_BYTES - empty as u64 - bytes * most;
        assert!(left < bytes, "{left} bytes of {bytes} each, window {window}");
    }
}

#[test]
fn a_smaller_window_keeps_the_newest_batches() {
    let (read, _) = decode(&encode(&populated(), None), policy().window(2), NOW + 5000).unwrap();
    let batches = read.get(ProducerId(2)).unwrap().batches;
    assert_eq!(batches.iter().map(|batch| batch.last_sequence.0).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn the_clock_s_jumps_are_not_in_the_file() {
    let mut log = Log::with(policy(), &[(0, 1)]);
    log.now = NOW;
    log.store(data(0, 1, 1), None);
    let (read, _) = decode(&encode(&log.table, None), policy(), NOW + 1000).unwrap();
    assert_eq!(read.get(ID).unwrap().last_seen, NOW);
    let (early, _) = decode(&encode(&log.table, None), policy(), Timestamp(5000)).unwrap();
    assert_eq!(early.get(ID).unwrap().last_seen, Timestamp(5000), "nobody was seen in the future");
}

#[test]
fn a_lie_is_found() {
    let good = encode(&populated(), Some(&IDENTITY));
    let entries = populated().len();
    let trailer = 10 + 46 * entries;
    let rows = trailer + 40;
    type Damage = (&'static str, usize, &'static [u8]);
    let cases: [Damage; 13] = [
        ("version", 0, &[0, 2]),
        ("number of entries", 6, &[0, 0, 0, 9]),
        ("negative number of entries", 6, &[0xff, 0xff, 0xff, 0xff]),
        ("largest number of entries", 6, &[0x7f, 0xff, 0xff, 0xff]),
        ("producer id", 10, &[0xff]),
        ("last sequence", 20, &[0xf0]),
        ("offset delta", 32, &[0xff]),
        ("offset delta beyond the offset", 32, &[0x7f]),
        ("magic", trailer, b"X"),
        ("newer trailer", trailer + 4, &[0, 2]),
        ("number of older batches", trailer + 32, &[0xff]),
        ("number of supplements", trailer + 36, &[0xff]),
        ("older batches of one producer", rows + 8, &[9]),
    ];
    for (name, at, lie) in cases {
        let mut bytes = good.clone();
        bytes[at..at + lie.len()].copy_from_slice(lie);
        let error = decode(&sealed(bytes.clone()), policy(), NOW).unwrap_err();
        let is_version = matches!(error, CorruptionKind::Version { .. });
        assert_eq!(is_version, name == "version" || name == "newer trailer", "{name}: {error}");
        if !is_version {
            let unsealed = decode(&bytes, policy(), NOW).unwrap_err();
            assert!(matches!(unsealed, CorruptionKind::Checksum { .. }), "{name}: {unsealed}");
        }
    }
}

/// A snapshot told of a batch far behind the offset that it was of, and the log believed it: the batch sent again was a
/// duplicate, and waited without end for its original to become durable.
#[test]
fn no_batch_of_a_snapshot_lies_at_its_offset_or_behind() {
    let good = encode(&populated(), Some(&IDENTITY));
    assert!(snapshot::decode(&good, END, policy(), NOW).is_ok());
    assert!(snapshot::decode(&good, Offset(END.0 - 1), policy(), NOW).is_err());
    let older = 10 + (46 + 10) * populated().len() + 40;
    let supplements = good.len() - 2 * 27;
    for (name, at) in [("last batch", 10 + 14), ("older batch", older), ("supplement", supplements + 3)] {
        let mut bytes = good.clone();
        bytes[at..at + 8].copy_from_slice(&END.0.to_be_bytes());
        let error = decode(&sealed(bytes), policy(), NOW).unwrap_err();
        assert!(error.to_string().contains("impossible offsets"), "{name}: {error}");
    }
}

/// A snapshot with the same producer twice was loaded, and only one of the two was ever found: the other one stayed as it
/// was, in every later snapshot, too.
#[test]
fn a_producer_is_in_a_snapshot_once() {
    let good = encode(&populated(), None);
    let (first, second) = (10, 10 + 46);
    let mut bytes = good.clone();
    bytes.copy_within(first..first + 8, second);
    let error = decode(&sealed(bytes), policy(), NOW).unwrap_err();
    assert_eq!(error, CorruptionKind::Format("a producer that is there twice"));
}

/// A snapshot told of a transaction that was to begin far behind its offset: the last stable offset stayed below it, and
/// the first marker ended what had never begun.
#[test]
fn no_transaction_of_a_snapshot_begins_at_its_offset_or_behind() {
    let good = encode(&populated(), None);
    for (first, is_sound) in [(END.0 - 1, true), (END.0, false), (END.0 + 1, false), (i64::MAX, false)] {
        let mut bytes = good.clone();
        bytes[10 + 38..][..8].copy_from_slice(&first.to_be_bytes());
        let read = decode(&sealed(bytes), policy(), NOW);
        assert_eq!(read.is_ok(), is_sound, "{first}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_unless_all_of_kafka_s_part_is_there() {
    let good = encode(&populated(), Some(&IDENTITY));
    let kafkas = 10 + 46 * populated().len();
    for length in 0..good.len() {
        let cut = good[..length].to_vec();
        assert!(decode(&cut, policy(), NOW).is_err(), "cut at {length}");
        if length >= 10 {
            assert_eq!(
                decode(&sealed(cut), policy(), NOW).is_ok(),
                length == kafkas,
                "cut at {length}, CRC right"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8), 1..6)) {
        let mut bytes = encode(&populated(), Some(&IDENTITY));
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        if let Ok((table, identity)) = decode(&sealed(bytes), policy(), NOW) {
            exercise(table, identity.as_ref());
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes, policy(), NOW).is_err());
    }

    #[test]
    fn a_random_table_is_read_back(
        operations in operations(0..20, 80),
        window in 1..7_u8,
        increasing: bool,
    ) {
        let log = filled(policy_of(window, increasing), &operations);
        let bytes = encode(&log.table, None);
        let (read, _) = snapshot::decode(&bytes, log.end, log.table.policy.clone(), log.now).unwrap();
        prop_assert_eq!(sorted(&read), sorted(&log.table));
        prop_assert_eq!(by_recency(read), by_recency(log.table));
    }
}

/// Uses everything of a table that came from bytes.
fn exercise(mut table: ProducerTable, identity: Option<&SnapshotIdentity>) {
    let _bytes = encode(&table, identity);
    let ids: Vec<_> = table.iter().map(|producer| producer.producer_id).collect();
    for producer_id in ids {
        for header in [data(0, 0, 5), data(1, i32::MAX, 5), transactional(i16::MAX, 0, 1)] {
            let header = BatchHeader { producer_id, ..header };
            let _decision = table.decide(&header, &CLIENT);
            table.apply(&header, None, NOW);
        }
    }
}

/// Forgets all that can be, in order.
fn by_recency(mut table: ProducerTable) -> Vec<i64> {
    table.policy.budget = 1;
    let mut order = Vec::new();
    loop {
        let before: Vec<_> = table.iter().map(|producer| producer.producer_id.0).collect();
        if table.evict_excess(1, Timestamp(3_000_000)) == 0 {
            return order;
        }
        order.extend(before.into_iter().filter(|id| table.get(ProducerId(*id)).is_none()));
    }
}
