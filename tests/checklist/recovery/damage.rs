//! Bytes that are not what was written.

use idemlog::sim::Rng;
use idemlog::{CutReason, Disk, Error, LogDir};

use crate::fixture::{Partition, by, many, partitions, plain, txn};

fn last_segment(log: &Partition) -> String {
    log.named(".log").pop().unwrap()
}

/// B18 testCorruptLog, garbage behind the end
#[test]
fn garbage_behind_the_last_batch_is_cut_and_the_log_goes_on() {
    let mut rng = Rng::new(18);
    for mut log in partitions() {
        for round in 0..50 {
            log.send(many(1, 0, 3 * round, 3));
            let state = log.state();
            log.die();
            let mut bytes = log.get(&last_segment(&log));
            bytes.truncate(*log.positions(&last_segment(&log)).last().unwrap());
            let mut garbage = vec![0; 1 + rng.below(300) as usize];
            rng.fill(&mut garbage);
            bytes.extend(garbage);
            log.put(&last_segment(&log), &bytes);
            log.open();
            assert_eq!(log.state(), state, "round {round}");
        }
    }
}

/// B18 testCorruptLog, a bit in the middle
#[test]
fn what_lies_in_front_of_a_damaged_batch_stays_and_the_log_goes_on() {
    let mut rng = Rng::new(19);
    for _ in 0..50 {
        for mut log in partitions() {
            log.send_all((0..40).map(|round| many(1, 0, 3 * round, 3)));
            let state = log.state();
            log.die();
            log.checkpoint(0, 0);
            let segments = log.named(".log");
            let name = &segments[rng.below(segments.len() as u64) as usize];
            let positions = log.positions(name);
            let batch = rng.below(positions.len() as u64 - 1) as usize;
            // What comes before is not covered by the checksum.
            let from = positions[batch] + 17;
            let position = from + rng.below((positions[batch + 1] - from) as u64) as usize;
            log.damage(name, position as i64);
            log.open();
            let left = log.state();
            assert!(left.stored.len() < state.stored.len());
            assert_eq!(left.stored, state.stored[..left.stored.len()]);
            let cut = log.recovery().cut.clone().unwrap();
            assert_eq!((cut.reason, cut.offset.0), (CutReason::Tail, left.end));
            assert_eq!(log.send(many(1, 0, left.end as i32, 3)), left.end);
        }
    }
}

/// B18 testCorruptLog, in a leader epoch, which no checksum covers
#[test]
fn a_log_is_cut_where_leader_epochs_fall_and_all_that_is_cut_is_kept() {
    for count in [4, 5] {
        for mut log in partitions() {
            log.send_all((0..count).map(|sequence| by(1, 0, sequence)));
            log.die();
            log.checkpoint(0, 0);
            let name = last_segment(&log);
            let positions = log.positions(&name);
            let behind = log.get(&name)[positions[3]..positions[count as usize]].to_vec();
            log.damage(&name, positions[2] as i64 + 15);
            log.open();
            assert_eq!((log.offsets(), log.state().leader_epochs), (vec![0, 1, 2], vec![(0, 0), (1, 2)]));
            let cut = log.recovery().cut.clone().unwrap();
            assert_eq!((cut.reason, cut.batches), (CutReason::Tail, count as u64 - 3));
            assert_eq!(log.disk.read(&cut.kept[0], u64::MAX).unwrap(), behind);
            log.send(by(1, 0, 3));
        }
    }
}

/// B35 testCorruptedLogRecoveryDoesNotDeleteProducerStateSnapshotsPostRecovery
#[test]
fn the_snapshots_of_what_is_left_stay_when_a_log_is_cut() {
    for mut log in partitions() {
        log.send_and_roll((0..9).map(|sequence| by(1, 0, sequence)));
        log.send(by(1, 0, 9));
        log.die();
        log.checkpoint(0, 0);
        log.damage(&format!("{:020}.log", 4), 70);
        log.open();
        assert_eq!((log.offsets(), log.end_offset()), (vec![0, 1, 2, 3], 4));
        assert_eq!((log.segments().last(), log.snapshots()), (Some(&4), vec![1, 2, 3, 4]));
        assert_eq!(log.window(1), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        let kept: usize = log.recovery().cut.as_ref().unwrap().kept.len();
        assert!(kept >= 5, "the segments behind are kept aside, {kept}");
    }
}

/// LogSegmentTest.testRecoverTransactionIndex and its neighbours: a marker that is cut leaves its transaction open.
#[test]
fn a_transaction_is_open_again_when_its_marker_is_cut() {
    for mut log in partitions() {
        log.send(txn(1, 0, 0));
        log.abort(1, 0);
        log.send(plain());
        log.die();
        log.checkpoint(0, 0);
        let second = log.positions(&last_segment(&log))[1];
        log.damage(&last_segment(&log), second as i64 + 65);
        log.remove_all(".snapshot");
        log.open();
        assert_eq!((log.end_offset(), log.undecided(), log.all_aborted()), (1, Some(0), vec![]));
    }
}

/// B24 testRecoveryAfterCrashDuringSplitPhase1: the halves were being written when Kafka died.
#[test]
fn a_split_by_kafka_that_had_not_begun_to_replace_is_undone() {
    for mut log in partitions() {
        log.send_and_roll((0..3).map(|sequence| by(1, 0, sequence)));
        log.close();
        let (names, bytes) = (log.names(), log.get(&format!("{:020}.log", 1)));
        for suffix in ["log", "index", "timeindex", "txnindex"] {
            log.put(&format!("{:020}.{suffix}.cleaned", 1), &bytes);
        }
        log.open();
        assert_eq!(log.offsets(), [0, 1, 2]);
        log.close();
        assert_eq!(log.names(), names);
    }
}

/// Opens a log in which Kafka died when a split had begun to replace. Only Kafka splits segments, and only Kafka finishes
/// it: the partition is refused, and stays as it is.
fn is_left_to_kafka(place: fn(&Partition, &[u8])) {
    for mut log in partitions() {
        log.send_and_roll((0..3).map(|sequence| by(1, 0, sequence)));
        log.close();
        place(&log, &log.get(&format!("{:020}.log", 1)));
        let files = || log.names().into_iter().map(|name| (name.clone(), log.get(&name))).collect::<Vec<_>>();
        let before = files();
        let refused = LogDir::open("/data", log.dir_options()).unwrap().partition("t", 0);
        let Err(Error::Corrupt(found)) = refused else { panic!("it opens") };
        assert!(found.path.to_string_lossy().ends_with(".swap"), "{found:?}");
        assert_eq!(files(), before);
    }
}

/// B25 testRecoveryAfterCrashDuringSplitPhase2
#[test]
fn a_split_by_kafka_with_some_new_segments_is_left_to_kafka() {
    is_left_to_kafka(|log, bytes| {
        log.put("00000000000000000001.log.cleaned", bytes);
        log.put("00000000000000000002.log.swap", bytes);
    });
}

/// B26 testRecoveryAfterCrashDuringSplitPhase3
#[test]
fn a_split_by_kafka_with_all_new_segments_is_left_to_kafka() {
    is_left_to_kafka(|log, bytes| {
        for suffix in ["log", "index", "timeindex", "txnindex"] {
            log.put(&format!("00000000000000000001.{suffix}.swap"), bytes);
        }
    });
}

/// B27 testRecoveryAfterCrashDuringSplitPhase4
#[test]
fn a_split_by_kafka_whose_old_segment_is_gone_is_left_to_kafka() {
    is_left_to_kafka(|log, bytes| {
        log.put("00000000000000000001.log.swap", bytes);
        log.put("00000000000000000001.log.deleted", bytes);
        log.remove("00000000000000000001.log");
    });
}

/// B28 testRecoveryAfterCrashDuringSplitPhase5
#[test]
fn a_split_by_kafka_that_has_replaced_some_files_is_left_to_kafka() {
    is_left_to_kafka(|log, bytes| log.put("00000000000000000001.timeindex.swap", bytes));
}

/// TransactionIndexTest.testSanityCheck and its neighbours: an index of aborted transactions that cannot be the log's is
/// built again (difference 9).
#[test]
fn a_wrong_index_of_aborted_transactions_is_built_again() {
    let entry = |first: i64, last: i64| -> Vec<u8> {
        let numbers = [7, first, last, last + 1].map(i64::to_be_bytes);
        [0, 0].into_iter().chain(numbers.into_iter().flatten()).collect()
    };
    for wrong in [vec![], b"garbage".to_vec(), vec![0xff; 34], entry(0, 1), entry(900, 901), vec![0; 68]] {
        for mut log in partitions() {
            log.send_and_roll([txn(1, 0, 0)]);
            log.send(plain());
            log.abort(1, 0);
            log.send_and_roll([plain()]);
            log.send(plain());
            let aborted = log.all_aborted();
            assert_eq!(aborted, [(1, 0, 2, 3)]);
            log.close();
            let name = format!("{:020}.txnindex", 1);
            match wrong.is_empty() {
                true => log.remove(&name),
                false => log.put(&name, &wrong),
            }
            log.open();
            assert_eq!(log.all_aborted(), aborted, "{wrong:?}");
        }
    }
}
