//! A leader's log and a follower's copy of it, which parts from it now and then and finds back.
//!
//! Every leader epoch has one writer, as an election gives it; that is all that the two need to find where they part. Once
//! the follower has caught up, both must answer alike, and hold the same bytes.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use idemlog::sim::SimDisk;
use idemlog::{
    AppendOptions, Batch, BatchBuilder, ControlRecord, DEFAULT_MAX_DECOMPRESSED, Durability, Error,
    LeaderEpoch, Log, LogDir, Offset, Origin, ProducerEpoch, ProducerId, ProducerInfo, RecordCheck, Sequence,
    Timestamp,
};

use crate::sim::{Host, mode, small};

#[derive(Arbitrary, Debug)]
pub struct Input {
    mapped: [bool; 2],
    buffered: [bool; 2],
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// The leader stores a batch.
    Lead(Write),
    /// The leader is elected again.
    Elect,
    /// The follower leads, in an epoch above all; with `lower` the other one is elected right behind it, else when the
    /// follower comes back.
    Part {
        lower: bool,
        writes: Vec<Write>,
    },
    /// Goes to where the two part.
    FindBack,
    /// So many of the batches that one fetch gives, in one call.
    Copy(u8),
    Roll(Side),
    Sync(Side),
    /// The leader deletes what the follower has.
    Delete(u8),
    /// The follower deletes what the leader has deleted.
    Trim,
    /// A new replica: of all batches that the leader has, or of none; and of what it knows of its producers beyond them.
    StartOver {
        at_end: bool,
    },
    Restart {
        side: Side,
        clean: bool,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    Leader,
    Follower,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Write {
    Plain { records: u8 },
    Data { producer: u8, transactional: bool, new_epoch: bool, records: u8 },
    Offsets { producer: u8, records: u8 },
    Marker { producer: u8, new_epoch: bool, coordinator_epoch: u8, abort: bool },
}

/// One of the two, on a disk of its own.
struct Replica {
    host: Host,
    dir: Option<LogDir>,
    log: Option<Log>,
}

impl Replica {
    fn new(mapped: bool, buffered: bool) -> Self {
        let durability = if buffered { Durability::Buffered } else { Durability::Synced };
        let host = Host::new(SimDisk::new(mode(mapped)), small().durability(durability));
        let mut replica = Self { host, dir: None, log: None };
        replica.open();
        replica
    }

    fn open(&mut self) {
        let (dir, log) = self.host.open_log().expect("a sound log opens");
        assert!(log.recovery().cut.is_none(), "{}", log.recovery());
        (self.dir, self.log) = (Some(dir), Some(log));
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    fn restart(&mut self, clean: bool) {
        let end = self.log().log_end_offset();
        self.log = None;
        let dir = self.dir.take().expect("open");
        if clean {
            dir.close().unwrap();
        }
        drop(dir);
        self.open();
        assert_eq!(self.log().log_end_offset(), end, "{}", self.log().recovery());
    }

    fn write(&self, write: Write, epoch: i32) {
        let (batch, origin) = write.batch(self.log());
        let options = AppendOptions::default().origin(origin).leader_epoch(LeaderEpoch(epoch));
        match self.log().submit(&[batch], options).and_then(|pending| pending.wait()) {
            Ok(_) | Err(Error::Rejected(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.log().leader_epochs().last().map(|&(epoch, _)| epoch)
    }

    fn producers(&self) -> Vec<ProducerInfo> {
        let mut producers = self.log().producers();
        producers.iter_mut().for_each(|producer| producer.last_seen = Timestamp(0));
        producers
    }

    /// Where the leader epochs begin in [`start`, `end`), the first one at `start`.
    fn epochs(&self, start: Offset, end: Offset) -> BTreeMap<Offset, LeaderEpoch> {
        let begun = self.log().leader_epochs().into_iter().filter(|&(_, begin)| begin < end);
        begun.map(|(epoch, begin)| (begin.max(start), epoch)).collect()
    }

    /// The bytes of the batches from the one that holds `start` on.
    fn bytes(&self, start: Offset) -> Vec<u8> {
        let (mut next, mut bytes) = (start, Vec::new());
        loop {
            let fetched = self.log().read(next, 1 << 20).unwrap();
            let Some(last) = fetched.batches().last() else { return bytes };
            next = last.unwrap().header().next_offset();
            bytes.extend_from_slice(&fetched.bytes);
        }
    }
}

impl Write {
    fn batch(self, log: &Log) -> (Batch, Origin) {
        let builder = BatchBuilder::new().timestamp(Timestamp(3));
        let known = |producer: u8| log.producer(ProducerId(i64::from(producer % 4)));
        let named = |producer: u8, raise: bool, sequence| {
            let epoch = known(producer).map_or(0, |it| it.epoch.0).saturating_add(i16::from(raise));
            BatchBuilder::new().timestamp(Timestamp(4)).producer(
                ProducerId(i64::from(producer % 4)),
                ProducerEpoch(epoch),
                sequence,
            )
        };
        match self {
            Self::Plain { records } => (filled(builder, records), Origin::Client),
            Self::Data { producer, transactional, new_epoch, records } => {
                let last = known(producer).and_then(|it| it.batches.last().map(|last| last.last_sequence.0));
                let next = if new_epoch { 0 } else { last.unwrap_or(-1) + 1 };
                let builder = named(producer, new_epoch, Sequence(next));
                let builder = if transactional { builder.transactional() } else { builder };
                (filled(builder, records), Origin::Client)
            }
            Self::Offsets { producer, records } => {
                let builder = named(producer, false, Sequence::NONE).transactional();
                (filled(builder, records), Origin::Coordinator)
            }
            Self::Marker { producer, new_epoch, coordinator_epoch, abort } => {
                let coordinator_epoch = i32::from(coordinator_epoch % 3);
                let control = if abort {
                    ControlRecord::Abort { coordinator_epoch }
                } else {
                    ControlRecord::Commit { coordinator_epoch }
                };
                let builder = named(producer, new_epoch, Sequence::NONE).control(control);
                (builder.build().unwrap(), Origin::Coordinator)
            }
        }
    }
}

fn filled(builder: BatchBuilder, records: u8) -> Batch {
    let value = "v".repeat(usize::from(records));
    (0..records % 5 + 1).fold(builder, |builder, at| builder.record([at], &value)).build().unwrap()
}

struct Pair {
    leader: Replica,
    follower: Replica,
    /// The highest leader epoch that somebody was elected in.
    highest_epoch: i32,
    /// The leader's.
    epoch: i32,
    /// Whether the follower may hold what the leader does not.
    parted: bool,
}

/// Runs the steps.
pub fn run(input: &Input) {
    let replica = |at: usize| Replica::new(input.mapped[at], input.buffered[at]);
    let mut pair =
        Pair { leader: replica(0), follower: replica(1), highest_epoch: 0, epoch: 0, parted: false };
    for step in input.steps.iter().take(60) {
        pair.step(step);
        if !pair.parted && pair.has_caught_up() {
            pair.compare();
        }
    }
    pair.catch_up();
    pair.compare();
    pair.leader.restart(true);
    pair.follower.restart(true);
    pair.compare();
}

impl Pair {
    fn side(&mut self, side: Side) -> &mut Replica {
        match side {
            Side::Leader => &mut self.leader,
            Side::Follower => &mut self.follower,
        }
    }

    fn elect(&mut self) -> i32 {
        self.highest_epoch += 1;
        self.highest_epoch
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Lead(write) => self.leader.write(*write, self.epoch),
            Step::Elect => self.lead_again(),
            Step::Part { lower, writes } => self.part(*lower, writes),
            Step::FindBack => self.find_back(),
            Step::Copy(count) => drop(self.copy(usize::from(*count % 8) + 1)),
            Step::Roll(side) => self.side(*side).log().roll().unwrap(),
            Step::Sync(side) => self.side(*side).log().sync().unwrap(),
            Step::Delete(before) => self.delete(i64::from(*before)),
            Step::Trim => self.trim(),
            Step::StartOver { at_end } => self.start_over(*at_end),
            Step::Restart { side, clean } => self.restart(*side, *clean),
        }
    }

    fn lead_again(&mut self) {
        self.epoch = self.elect();
        self.leader.log().set_leader_epoch(LeaderEpoch(self.epoch));
    }

    fn restart(&mut self, side: Side, clean: bool) {
        self.side(side).restart(clean);
        self.leader.log().set_leader_epoch(LeaderEpoch(self.epoch));
    }

    fn part(&mut self, lower: bool, writes: &[Write]) {
        let own = self.elect();
        writes.iter().take(4).for_each(|write| self.follower.write(*write, own));
        self.parted = true;
        if lower {
            self.lead_again();
        }
    }

    /// Truncates the follower to where the two part. Source: `AbstractFetcherThread.getOffsetTruncationState`, KIP-279.
    fn find_back(&mut self) {
        if self.epoch < self.highest_epoch {
            self.lead_again();
        }
        let (leader, follower) = (self.leader.log(), self.follower.log());
        let before = follower.log_end_offset();
        while let Some(own) = self.follower.latest_epoch() {
            let answer = leader.end_offset_for_epoch(own);
            let (epoch, end) = answer.unwrap_or_else(|| panic!("{own} is above the leader's epoch"));
            let (own_epoch, own_end) = follower.end_offset_for_epoch(epoch).expect("one of its own");
            let is_common = own_epoch == epoch;
            follower.truncate_to(if is_common { end.min(own_end) } else { own_end }).unwrap();
            if is_common {
                break;
            }
        }
        let end = follower.log_end_offset();
        assert!(end <= leader.log_end_offset(), "{end} is behind the leader's end");
        assert!(self.parted || end == before, "truncated from {before} to {end} without need");
        self.parted = false;
    }

    /// Copies up to `count` batches. `false`: there are none.
    fn copy(&mut self, count: usize) -> bool {
        self.find_back();
        let (leader, follower) = (self.leader.log(), self.follower.log());
        let from = follower.log_end_offset().max(leader.log_start_offset());
        let fetched = leader.read(from, 2048).unwrap();
        let checked = fetched.batches().map(|batch| {
            batch.unwrap().check(RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED).expect("what the leader took")
        });
        let batches: Vec<Batch> = checked.take(count).collect();
        if batches.is_empty() {
            return false;
        }
        let options = AppendOptions::default().origin(Origin::Replication);
        let outcomes = follower.submit(&batches, options).unwrap().wait().unwrap();
        let stored = |(outcome, batch): (&idemlog::AppendOutcome, &Batch)| {
            !outcome.is_duplicate() && outcome.base_offset() == batch.header().base_offset
        };
        assert!(outcomes.iter().zip(&batches).all(stored));
        follower.set_high_watermark(fetched.high_watermark);
        true
    }

    fn has_caught_up(&self) -> bool {
        self.leader.log().log_end_offset() == self.follower.log().log_end_offset()
    }

    fn catch_up(&mut self) {
        while self.copy(8) {}
        assert!(self.has_caught_up());
    }

    fn delete(&mut self, before: i64) {
        if self.parted {
            return;
        }
        let (leader, end) = (self.leader.log(), self.follower.log().log_end_offset());
        let start = leader.log_start_offset();
        let before = (start + before % (end - start + 1).max(1)).min(end);
        leader.delete_records(before).unwrap();
        leader.apply_retention().unwrap();
    }

    fn trim(&mut self) {
        if self.parted {
            return;
        }
        let (start, follower) = (self.leader.log().log_start_offset(), self.follower.log());
        follower.set_high_watermark(follower.log_end_offset());
        follower.delete_records(start).unwrap();
        follower.apply_retention().unwrap();
    }

    fn start_over(&mut self, at_end: bool) {
        let (leader, follower) = (self.leader.log(), self.follower.log());
        let states = if at_end {
            leader.export_producers()
        } else {
            leader.export_producers_at(leader.log_start_offset()).unwrap()
        };
        follower.truncate_fully(states.offset).unwrap();
        follower.import_producers(&states).unwrap();
        self.parted = false;
    }

    /// Both hold the same, from where both begin.
    fn compare(&self) {
        let (leader, follower) = (self.leader.log(), self.follower.log());
        let end = leader.log_end_offset();
        follower.set_high_watermark(end);
        assert_eq!(follower.high_watermark(), leader.high_watermark());
        let start = leader.log_start_offset().max(follower.log_start_offset());
        assert_eq!(self.follower.producers(), self.leader.producers());
        assert_eq!(follower.last_stable_offset().max(start), leader.last_stable_offset().max(start));
        assert_eq!(follower.first_undecided_offset(), leader.first_undecided_offset());
        let aborted = |log: &Log| log.aborted_transactions(start, end).unwrap();
        assert_eq!(aborted(follower), aborted(leader), "from {start}");
        if start < end {
            assert_eq!(self.follower.epochs(start, end), self.leader.epochs(start, end), "from {start}");
            assert!(self.follower.bytes(start) == self.leader.bytes(start), "from {start}");
        }
    }
}
