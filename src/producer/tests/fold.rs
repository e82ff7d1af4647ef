//! A snapshot made from the bytes of the one before, against one made from the whole table.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::producer::snapshot::{self, encode};
use crate::producer::{Fate, Fold, SnapshotIdentity};

const IDENTITY: SnapshotIdentity =
    SnapshotIdentity { leader_epoch: LeaderEpoch(1), base_offset: Offset(2), position: 3, crc: 4 };

fn replay(table: &mut ProducerTable, mut end: Offset, now: Timestamp, operations: &[Operation]) {
    for (header, control) in operations.iter().filter_map(batch_of) {
        let header = BatchHeader { base_offset: end, ..header };
        table.replay(&header, control, now);
        end = header.next_offset();
    }
}

fn fold<'a>(
    bytes: &'a [u8],
    log: &Log,
    changed: &HashSet<i64>,
    forgotten: &HashSet<i64>,
) -> Result<Option<Fold<'a>>, crate::error::CorruptionKind> {
    Fold::new(bytes, log.end, &log.table.policy, log.now, |id| match id.0 {
        id if changed.contains(&id) => Fate::Changed,
        id if forgotten.contains(&id) => Fate::Forgotten,
        _ => Fate::Kept,
    })
}

fn written(fold: &Fold<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let head = fold.write(fold.identity.as_ref(), |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), ()>(())
    });
    let head = head.unwrap();
    bytes[..head.len()].copy_from_slice(&head);
    bytes
}

proptest! {
    #[test]
    fn it_is_the_same_as_from_the_whole_table(
        before in operations(0..20, 80),
        after in operations(0..30, 20),
        forgotten in prop::collection::hash_set(0..30_i64, 0..6),
        window in 1..7_u8,
        increasing: bool,
        budget in 5..50_usize,
        put_back in prop_oneof![Just(0), 1..100_000_i64],
    ) {
        let mut log = filled(policy_of(window, increasing), &before);
        let bytes = encode(&log.table, Some(&IDENTITY));
        // The clock was ahead when some were seen.
        log.now = Timestamp((log.now.0 - put_back).max(0));
        log.table.policy.budget = budget;

        let (mut table, _) = snapshot::decode(&bytes, log.end, log.table.policy.clone(), log.now).unwrap();
        replay(&mut table, log.end, log.now, &after);
        table.retain(|id| !forgotten.contains(&id.0));

        let changed = after.iter().filter_map(|operation| batch_of(operation).map(|_| operation.0)).collect();
        let mut fold = fold(&bytes, &log, &changed, &forgotten).unwrap().unwrap();
        replay(&mut fold.producers, log.end, log.now, &after);
        fold.retain(|id| !forgotten.contains(&id.0));
        prop_assert_eq!(fold.len(), table.len());
        prop_assert_eq!(fold.identity, Some(IDENTITY));

        let folded = written(&fold);
        if forgotten.is_empty() {
            prop_assert_eq!(&folded, &encode(&table, Some(&IDENTITY)));
        }
        let (read, identity) = snapshot::decode(&folded, Offset(1 << 20), table.policy.clone(), log.now).unwrap();
        prop_assert_eq!(sorted(&read), sorted(&table));
        prop_assert_eq!(identity, Some(IDENTITY));
    }

    #[test]
    fn flipped_bits_never_panic(
        before in operations(0..20, 40),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..6),
        changed in prop::collection::hash_set(0..20_i64, 0..20),
    ) {
        let log = filled(policy_of(5, false), &before);
        let mut bytes = encode(&log.table, Some(&IDENTITY));
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
        }
        let bytes = sealed(bytes);
        if let Ok(Some(fold)) = fold(&bytes, &log, &changed, &HashSet::new()) {
            let _ = snapshot::decode(&written(&fold), log.end, log.table.policy.clone(), log.now);
        }
    }
}

#[test]
fn many_producers_are_copied_in_pieces() {
    let mut log = Log::new(policy_of(5, false));
    for id in (0..40_000).chain(0..40_000) {
        log.store(BatchHeader { producer_id: ProducerId(id), ..data(0, (id % 7) as i32, 1) }, None);
    }
    let bytes = encode(&log.table, None);
    let (changed, forgotten) = (HashSet::from([5, 20_000, 39_999]), HashSet::from([7, 30_000]));
    let fold = fold(&bytes, &log, &changed, &forgotten).unwrap().unwrap();
    log.table.retain(|id| !forgotten.contains(&id.0));
    let (read, _) = snapshot::decode(&written(&fold), log.end, log.table.policy.clone(), log.now).unwrap();
    assert_eq!(sorted(&read), sorted(&log.table));
}

#[test]
fn a_file_of_kafka_s_cannot_be_gone_on_with() {
    let log = Log::with(policy_of(5, false), &[(0, 1)]);
    let bytes = encode(&log.table, None);
    let kafka_s = sealed(bytes[..10 + 46].to_vec());
    let none = HashSet::new();
    assert!(fold(&kafka_s, &log, &none, &none).unwrap().is_none());
    assert!(fold(&bytes, &log, &none, &none).unwrap().is_some());
}

#[test]
fn a_damaged_file_is_not_gone_on_with() {
    let log = Log::with(policy_of(5, false), &[(0, 1), (1, 1)]);
    let bytes = encode(&log.table, None);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let fold = fold(&damaged, &log, &HashSet::new(), &HashSet::new());
        assert!(!matches!(fold, Ok(Some(_))), "byte {at}");
    }
}
