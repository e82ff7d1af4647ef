//! What a read answers wherever it begins, what it says beside the batches, and what wakes those who wait.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use common::{MODES, batch, open, options, plain, small, stored};
use idemlog::sim::{Fault, Oldest, Operation, SimDisk};
use idemlog::{
    AppendOptions, BatchBuilder, Compression, Durability, Error, Fetched, IoMode, LeaderEpoch, Log, LogDir,
    Offset, Origin, Reader, RecordBuilder, RecordCheck, Result, Timestamp, TimestampType, UncheckedBatch,
};

/// Longer than anything takes that does not hang.
const LONG: Duration = Duration::from_secs(30);

fn fill(log: &Log, count: usize) {
    for _ in 0..count {
        log.append(&plain("value")).unwrap();
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, woken: &Arc<Woken>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Arc::clone(woken).into()))
}

type Read = fn(&Log, Offset) -> Result<Fetched>;
const READS: [Read; 2] = [|log, from| log.read(from, 1 << 20), |log, from| log.read_committed(from, 1 << 20)];

fn is_out_of_range<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::OffsetOutOfRange { .. }))
}

/// After a failover a consumer met a leader whose high watermark had not come as far as the one it had read up to, was told
/// that its offset is out of range, and began anew somewhere: it read records twice, or never.
#[test]
fn between_the_high_watermark_and_the_log_end_there_is_nothing_to_read_yet() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        fill(&log, 11);
        log.set_high_watermark(Offset(5));
        for from in 5..=11 {
            for read in READS {
                let fetched = read(&log, Offset(from)).unwrap();
                assert!(fetched.bytes.is_empty() && fetched.high_watermark == Offset(5), "{from}");
            }
            let mut reader = log.reader(Offset(from)).unwrap();
            assert!(reader.next().is_none() && reader.clone().committed().next().is_none());
            reader.seek(Offset(16 - from)).unwrap();
        }
        assert!(READS.iter().all(|read| is_out_of_range(&read(&log, Offset(12)))));
        assert!(is_out_of_range(&log.reader(Offset(12))));
        let mut reader = log.reader(Offset(8)).unwrap();
        assert!(is_out_of_range(&reader.seek(Offset(12))) && reader.position() == Offset(8));

        log.set_high_watermark(Offset(10));
        assert_eq!(reader.map(|batch| batch.unwrap().header().base_offset.0).collect::<Vec<_>>(), [8, 9]);
    }
}

#[test]
fn who_waits_above_the_high_watermark_is_woken_when_it_passes_and_not_to_stay_before() {
    let data = tempfile::tempdir().unwrap();
    let log = open(data.path(), MODES[0]).partition("t", 0).unwrap();
    fill(&log, 10);
    log.set_high_watermark(Offset(5));
    let (woken, mut readable) = (Arc::default(), pin!(log.readable(Offset(7))));
    assert!(poll(readable.as_mut(), &woken).is_pending());
    log.set_high_watermark(Offset(7));
    assert!(poll(readable.as_mut(), &woken).is_pending(), "there is nothing at 7 yet");
    assert!(!log.wait_for(Offset(7), Duration::ZERO));
    thread::scope(|scope| {
        let waits = [
            scope.spawn(|| log.wait_for(Offset(7), LONG)),
            scope.spawn(|| log.wait_for_committed(Offset(7), LONG)),
        ];
        thread::sleep(Duration::from_millis(20));
        let before = woken.0.load(Ordering::Relaxed);
        log.set_high_watermark(Offset(8));
        assert!(waits.into_iter().all(|wait| wait.join().unwrap()));
        assert!(woken.0.load(Ordering::Relaxed) > before && poll(readable.as_mut(), &woken).is_ready());
    });
    assert_eq!(log.read(Offset(7), 1 << 20).unwrap().batches().count(), 1);
}

/// A buffered log of four batches, two of them durable, whose sync has failed.
fn poisoned() -> (LogDir, Log) {
    let disk = SimDisk::new(MODES[0]);
    let logs = options(MODES[0]).log(small(MODES[0]).durability(Durability::Buffered));
    let dir = LogDir::open(Path::new("/data"), logs.disk(Arc::new(disk.clone()))).unwrap();
    let log = dir.partition("t", 0).unwrap();
    fill(&log, 2);
    log.sync().unwrap();
    fill(&log, 2);
    disk.inject(Fault::nth(Operation::Sync, 1));
    assert!(matches!(log.sync(), Err(Error::Poisoned(_))));
    (dir, log)
}

fn is_poisoned<T>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Poisoned(_)))
}

/// Whoever had read a poisoned log to its end, or further than it is durable, was told to wait no longer, and then that there is
/// nothing yet, again and again.
#[test]
fn a_poisoned_log_shows_what_is_durable_and_says_that_nothing_comes_behind_it() {
    for high_watermark in [None, Some(Offset(1)), Some(Offset(2)), Some(Offset(4))] {
        let (_dir, log) = poisoned();
        high_watermark.into_iter().for_each(|offset| log.set_high_watermark(offset));
        let end = high_watermark.unwrap_or(Offset(2)).min(Offset(2));
        for from in 0..=5 {
            let found = (end.0 - from) as usize;
            for read in READS {
                let answer = read(&log, Offset(from));
                match from {
                    _ if from < end.0 => assert_eq!(answer.unwrap().batches().count(), found),
                    5 => assert!(is_out_of_range(&answer)),
                    _ => assert!(is_poisoned(&answer), "{from} of {end}"),
                }
            }
            let Ok(reader) = log.reader(Offset(from)) else { continue };
            for mut reader in [reader.clone(), reader.committed()] {
                let walked = reader.by_ref().take_while(Result::is_ok).count();
                assert_eq!(walked, found.min(2) * usize::from(from < end.0));
                assert!(is_poisoned(&reader.next().unwrap()) && is_poisoned(&reader.lend_next().unwrap()));
            }
        }
        let began = Instant::now();
        assert!(!log.wait_for(Offset(3), LONG) && began.elapsed() < LONG);
    }
}

/// A leader could answer its followers only as long as nobody had set a high watermark: it stopped there, which the followers
/// were to move, and what waited for more waited for that.
#[test]
fn a_follower_reads_to_the_log_end_and_is_woken_there() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        log.set_high_watermark(Offset(0));
        let (woken, mut readable) = (Arc::default(), pin!(log.readable_to_log_end(Offset(0))));
        assert!(poll(readable.as_mut(), &woken).is_pending());
        assert!(!log.wait_for_log_end(Offset(0), Duration::from_millis(1)));
        thread::scope(|scope| {
            let wait = scope.spawn(|| log.wait_for_log_end(Offset(0), LONG));
            thread::sleep(Duration::from_millis(20));
            // Nobody syncs it.
            let pending = log.submit(&[plain("value")], AppendOptions::default()).unwrap();
            assert!(wait.join().unwrap() && woken.0.load(Ordering::Relaxed) > 0);
            assert!(poll(readable.as_mut(), &woken).is_ready() && !pending.is_durable());
        });
        fill(&log, 4);
        for from in 0..=5 {
            let fetched = log.read_to_log_end(Offset(from), 1 << 20).unwrap();
            assert_eq!((fetched.batches().count() as i64, fetched.high_watermark), (5 - from, Offset(0)));
            assert_eq!(log.reader(Offset(from)).unwrap().to_log_end().count() as i64, 5 - from);
            assert!(log.read(Offset(from), 1 << 20).unwrap().bytes.is_empty());
        }
        assert!(is_out_of_range(&log.read_to_log_end(Offset(6), 1 << 20)));
        log.close().unwrap();
        assert!(!log.wait_for_log_end(Offset(5), LONG));
        assert!(poll(pin!(log.readable_to_log_end(Offset(5))), &woken).is_ready());
    }
}

fn follow(from: &Log, to: &Log) {
    let fetched = from.read_to_log_end(to.log_end_offset(), 1 << 20).unwrap();
    let check = |batch: UncheckedBatch<_>| batch.check(RecordCheck::Header, 0).unwrap();
    let batches: Vec<_> = fetched.lent_batches().map(|batch| check(batch.unwrap())).collect();
    to.submit(&batches, AppendOptions::default().origin(Origin::Replication)).unwrap().wait().unwrap();
}

#[test]
fn a_leader_that_lost_what_its_follower_has_leads_in_a_higher_epoch_and_the_logs_come_together() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        disk.set_sync_range_covers_length(true);
        let open_on = |disk: &SimDisk| {
            LogDir::open(Path::new("/data"), options(mode).disk(Arc::new(disk.clone()))).unwrap()
        };
        let following = open_on(&SimDisk::new(mode));
        let follower = following.partition("t", 0).unwrap();
        let dir = open_on(&disk);
        let leader = dir.partition("t", 0).unwrap();
        leader.set_leader_epoch(LeaderEpoch(1));
        fill(&leader, 2);
        let lost = leader.submit(&[plain("lost")], AppendOptions::default()).unwrap();
        follow(&leader, &follower);
        assert_eq!((leader.durable_offset(), follower.log_end_offset()), (Offset(2), Offset(3)));

        let disk = disk.crash(disk.crash_points() - 1, &mut Oldest);
        drop((lost, leader, dir));
        let dir = open_on(&disk);
        let leader = dir.partition("t", 0).unwrap();
        leader.set_leader_epoch(LeaderEpoch(2));
        fill(&leader, 2);
        let (latest, _) = *follower.leader_epochs().last().unwrap();
        follower.truncate_to(leader.end_offset_for_epoch(latest).unwrap().1).unwrap();
        follow(&leader, &follower);
        assert_eq!(stored(&follower), stored(&leader));
        assert_eq!(follower.leader_epochs(), [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(2), Offset(2))]);
    }
}

#[test]
fn a_read_says_where_to_go_on() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let log = open(data.path(), mode).partition("t", 0).unwrap();
        for sequence in 0..60 {
            log.append(&batch(1, 0, 3 * sequence, 3)).unwrap();
        }
        log.set_high_watermark(Offset(170)); // inside of a batch
        for (read, end) in
            [(READS[0], 168), (READS[1], 168), (|log, from| log.read_to_log_end(from, 300), 180)]
        {
            let (mut next, mut reads) = (Offset(1), 0);
            loop {
                let fetched = read(&log, next).unwrap();
                let last = fetched.batches().last().map(|last| last.unwrap().header().next_offset());
                assert_eq!(fetched.next_offset, last.unwrap_or(next));
                let Some(last) = last else { break };
                (next, reads) = (last, reads + 1);
            }
            assert!(next == Offset(end) && reads > 2, "{reads} to {next}, and there are several segments");
        }
        assert_eq!(log.read(Offset(169), 1 << 20).unwrap().next_offset, Offset(169));
        assert_eq!(log.read(Offset(175), 1 << 20).unwrap().next_offset, Offset(175));
    }
}

/// A truncation inside of a batch leaves the last one ending in front of the log end, and no records between them. Who stood there
/// was sent back to where it stood, and told by every wait that there was something to read: it went round and round.
#[test]
fn who_stands_in_front_of_a_gap_at_the_log_end_goes_on_and_waits_behind_it() {
    let data = tempfile::tempdir().unwrap();
    let (_dir, log) = common::truncated_inside_a_batch(data.path());
    assert_eq!((log.log_end_offset(), log.high_watermark()), (Offset(8), Offset(8)));
    let reads = [READS[0], READS[1], |log, from| log.read_to_log_end(from, 1 << 20)];
    for from in 5..=8 {
        for read in reads {
            let fetched = read(&log, Offset(from)).unwrap();
            assert!(fetched.bytes.is_empty() && fetched.next_offset == Offset(8), "{from}: {fetched:?}");
        }
        let reader = log.reader(Offset(from)).unwrap();
        for mut reader in [reader.clone(), reader.clone().to_log_end(), reader.committed()] {
            assert!(reader.next().is_none() && reader.position() == Offset(8), "{from}: {reader:?}");
            assert!(!log.wait_for(reader.position(), Duration::ZERO));
        }
    }
    log.set_high_watermark(Offset(6));
    assert_eq!(log.read(Offset(5), 1 << 20).unwrap().next_offset, Offset(6), "no further than it may see");
    assert_eq!(log.read(Offset(7), 1 << 20).unwrap().next_offset, Offset(7));
    log.set_high_watermark(Offset(8));

    let behind = log.append(&plain("behind the gap")).unwrap().base_offset();
    for from in [5, 6, 8] {
        let fetched = log.read_to_log_end(Offset(from), 1 << 20).unwrap();
        assert_eq!((fetched.batches().count(), fetched.next_offset), (1, behind + 1), "{from}");
    }
    assert_eq!(log.read(Offset(5), 1 << 20).unwrap().next_offset, behind, "where the high watermark stays");
}

/// A follower asks for what comes behind its own log end, which a read of nothing does not move.
#[test]
fn who_waits_in_front_of_a_gap_at_the_log_end_is_told_of_what_comes_behind_it() {
    let data = tempfile::tempdir().unwrap();
    let (_dir, log) = common::truncated_inside_a_batch(data.path());
    let is_there = |from| {
        [
            log.wait_for(from, Duration::ZERO),
            log.wait_for_committed(from, Duration::ZERO),
            log.wait_for_log_end(from, Duration::ZERO),
        ]
    };
    assert_eq!(is_there(Offset(4)), [true; 3]);
    for from in 5..=8 {
        assert_eq!(is_there(Offset(from)), [false; 3], "{from}");
    }
    let (woken, mut readable) = (Arc::default(), pin!(log.readable_to_log_end(Offset(5))));
    assert!(poll(readable.as_mut(), &woken).is_pending());
    log.set_high_watermark(Offset(6));
    log.set_high_watermark(Offset(8));
    assert!(poll(readable.as_mut(), &woken).is_pending());
    thread::scope(|scope| {
        let wait = scope.spawn(|| log.wait_for_log_end(Offset(6), LONG));
        thread::sleep(Duration::from_millis(20));
        assert!(!wait.is_finished());
        log.append(&plain("behind the gap")).unwrap();
        assert!(wait.join().unwrap());
    });
    assert!(woken.0.load(Ordering::Relaxed) > 0 && poll(readable.as_mut(), &woken).is_ready());
    assert_eq!(is_there(Offset(5)), [false, false, true]);
    log.set_high_watermark(Offset(9));
    assert_eq!(is_there(Offset(5)), [true; 3]);
}

/// As everybody who was above what a truncation took: it goes on where the log has come as far again.
#[test]
fn who_went_behind_a_gap_stays_there_when_the_log_is_truncated_into_it() {
    for held in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let (_dir, log) = common::truncated_inside_a_batch(data.path());
        let mut readers = [Offset(0), Offset(5)].map(|from| log.reader(from).unwrap());
        let batches: Vec<_> = readers.iter_mut().flat_map(Iterator::by_ref).map(Result::unwrap).collect();
        assert_eq!(batches.len(), 1);
        let batches = held.then_some(batches);
        assert!(log.truncate_to(Offset(6)).unwrap());
        assert_eq!(log.read(Offset(5), 1 << 20).unwrap().next_offset, Offset(6));
        for offset in 6..=8 {
            assert!(readers.iter_mut().all(|reader| reader.next().is_none()), "{offset}");
            assert_eq!(log.append(&plain("in the gap")).unwrap().base_offset(), Offset(offset));
        }
        for reader in &mut readers {
            let next = reader.next().unwrap().unwrap();
            assert_eq!((next.header().base_offset, Reader::position(reader)), (Offset(8), Offset(9)));
        }
        drop(batches);
    }
}

/// A log without transactions was searched for aborted ones to its end at each read: every later segment's index
/// was opened, and where there is none, as in what Kafka wrote, its batches were read.
#[test]
fn a_read_of_committed_records_looks_for_aborted_transactions_only_where_there_are_transactions() {
    for mode in MODES {
        let disk = SimDisk::new(mode);
        let options = options(mode).disk(Arc::new(disk.clone()));
        let dir = LogDir::open("/data", options.clone()).unwrap();
        let log = dir.partition("t", 0).unwrap();
        for sequence in 0..60 {
            log.append(&batch(1, 0, 3 * sequence, 3)).unwrap();
        }
        assert!(log.metrics().segments > 4);
        dir.close().unwrap();
        drop((dir, log));

        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let calls = |read: Read| {
            let count = || Operation::ALL.map(|operation| disk.calls(operation));
            let (before, fetched) = (count(), read(&log, Offset(0)).unwrap());
            (std::array::from_fn::<_, 15, _>(|at| count()[at] - before[at]), fetched)
        };
        let [plain, committed]: [Read; 2] =
            [|log, from| log.read(from, 300), |log, from| log.read_committed(from, 300)];
        // Opens the segment.
        calls(plain);
        let ((expected, all), (calls, committed)) = (calls(plain), calls(committed));
        assert!(committed.bytes == all.bytes && committed.aborted.is_empty());
        assert_eq!(calls, expected, "{mode:?}");
    }
}

/// A fetch that had no room left read a batch for each partition that it then dropped.
#[test]
fn a_read_of_no_bytes_tells_the_offsets_and_looks_at_no_batch() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), IoMode::Write);
    let log = dir.partition("t", 0).unwrap();
    fill(&log, 3);
    log.delete_records(Offset(1)).unwrap();
    log.set_high_watermark(Offset(2));
    common::change(&log.directory().join("00000000000000000000.log"), |bytes| bytes.fill(1));
    assert!(matches!(log.read(Offset(1), 1), Err(Error::Corrupt(_))));
    for from in 1..=3 {
        let fetched = log.read(Offset(from), 0).unwrap();
        let told = (fetched.log_start, fetched.high_watermark, fetched.last_stable, fetched.next_offset);
        assert_eq!(told, (Offset(1), Offset(2), Offset(2), Offset(from)));
        assert!(fetched.bytes.is_empty());
    }
    assert!(is_out_of_range(&log.read(Offset(0), 0)) && is_out_of_range(&log.read(Offset(4), 0)));
}

/// What readers see of `all`, the batches with their records: whole ones below `end`, records from `start` on.
fn seen(
    all: &[Vec<(Offset, Timestamp)>],
    start: Offset,
    end: Offset,
) -> impl Iterator<Item = (Offset, Timestamp)> {
    let whole = all.iter().filter(move |batch| batch.last().is_some_and(|&(last, _)| last < end));
    whole.flatten().copied().filter(move |&(offset, _)| offset >= start)
}

/// Where a high watermark lay inside of a batch, records were found by time that no reader saw.
#[test]
fn records_are_found_by_time_among_those_that_readers_see() {
    let rising = |at: i64| 1_000 + at;
    let falling = |at: i64| 1_000 - at;
    let equal = |_| 1_000;
    let waves = |at: i64| 1_000 + at / 8 - at % 4 * 2;
    let none = |_| -1;
    let early = |at: i64| if at == 17 { 9_000 } else { 1_000 + at };
    let times: [fn(i64) -> i64; 6] = [rising, falling, equal, waves, none, early];
    for (case, time) in times.into_iter().enumerate() {
        for mode in MODES {
            let data = tempfile::tempdir().unwrap();
            let logs = options(mode).log(small(mode).segment_bytes(1500));
            let dir = LogDir::open(data.path(), logs).unwrap();
            let log = dir.partition("t", 0).unwrap();
            for at in 0..40 {
                let record =
                    |at| RecordBuilder::new().timestamp(Timestamp(time(at))).value("a value of some length");
                let batch =
                    (0..3).map(|of| record(3 * at + of)).fold(BatchBuilder::new(), BatchBuilder::push);
                log.append(&batch.build().unwrap()).unwrap();
            }
            assert!(log.metrics().segments > 2);
            let all: Vec<Vec<_>> = log
                .reader(Offset(0))
                .unwrap()
                .map(|batch| batch.unwrap().into_records().map(|record| record.unwrap()))
                .map(|records| records.map(|record| (record.offset(), record.timestamp())).collect())
                .collect();
            for start in [0, 1, 52, 119] {
                log.set_high_watermark(Offset(120));
                log.delete_records(Offset(start)).unwrap();
                for end in (start..=120).rev().step_by(2) {
                    log.set_high_watermark(Offset(end));
                    let what = format!("case {case}, {mode:?}, {start}..{end}");
                    let seen = || seen(&all, Offset(start), Offset(end));
                    let latest = seen().reduce(|one, other| if other.1 > one.1 { other } else { one });
                    let found = log.offset_of_max_timestamp().unwrap();
                    assert_eq!(found.map(|found| (found.offset, found.timestamp)), latest, "{what}");
                    for wanted in [-1, 990, 1_000, 1_003, 1_050, 9_000].map(Timestamp) {
                        let first = seen().find(|&(_, timestamp)| timestamp >= wanted);
                        let found = log.offset_for_timestamp(wanted).unwrap();
                        assert_eq!(
                            found.map(|found| (found.offset, found.timestamp)),
                            first,
                            "{what}, {wanted:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_largest_time_is_the_first_records_where_the_log_or_the_compressor_changed_them() {
    let data = tempfile::tempdir().unwrap();
    let dir = open(data.path(), MODES[0]);
    let log = dir.partition("t", 0).unwrap();
    let record = |timestamp| RecordBuilder::new().timestamp(Timestamp(timestamp)).value("value");
    let batch = || BatchBuilder::new().push(record(5)).push(record(9)).push(record(9));
    log.append(&batch().compression(Compression::Gzip).build().unwrap()).unwrap();
    let latest = log.offset_of_max_timestamp().unwrap().unwrap();
    assert_eq!((latest.offset, latest.timestamp), (Offset(1), Timestamp(9)));

    log.set_options((*log.options()).clone().timestamp_type(TimestampType::LogAppendTime)).unwrap();
    log.append(&batch().build().unwrap()).unwrap();
    assert_eq!(log.offset_of_max_timestamp().unwrap().unwrap().offset, Offset(3), "of all three the same");
    log.close().unwrap();
    assert!(matches!(log.offset_of_max_timestamp(), Err(Error::Closed)));
}
