//! What is done to a log before the power goes, and what was promised on the way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use idemlog::sim::{Rng, SimDisk};
use idemlog::{
    AppendOptions, Batch, BatchBuilder, IoMode, Log, LogDir, LogDirOptions, LogOptions, Offset,
    ProducerEpoch, ProducerId, Sequence, Timestamp,
};

/// One step. A producer is one of three numbers; what they stand for is found while running.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// A batch of so many records, waited for.
    Append {
        producer: u8,
        records: u8,
    },
    /// A batch of so many records, not waited for.
    Submit {
        producer: u8,
        records: u8,
    },
    /// One of the producer's last batches again, waited for.
    Again {
        producer: u8,
        back: u8,
    },
    /// A batch without a producer, waited for.
    Plain,
    Sync,
    Roll,
    /// A new producer id takes the producer's place.
    NewId {
        producer: u8,
    },
    /// A named producer takes its next epoch.
    Named,
    /// The last so many batches are cut; with the last offset that is left in the middle of the first of them, if it has
    /// two records.
    Truncate {
        batches: u8,
        inside: bool,
    },
    /// Closed well and opened again.
    Close,
    /// The process dies and opens the directory again.
    Kill,
}

/// A batch that the log took, and where.
#[derive(Clone, Debug)]
pub struct Placed {
    pub batch: Batch,
    pub base_offset: i64,
}

/// What must hold from a mark on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promise {
    /// So many of the placed batches are in the log for good.
    pub durable: usize,
    /// How many truncations are complete.
    pub truncations: usize,
    /// The highest producer id that was handed out.
    pub highest_id: i64,
    /// The last epoch of the named producer.
    pub named_epoch: i16,
}

/// A workload that was run to its end.
#[derive(Debug)]
pub struct Run {
    pub disk: SimDisk,
    pub placed: Vec<Placed>,
    /// What was placed when each truncation came.
    pub before_truncation: Vec<Vec<Placed>>,
    /// By the marks in the disk's journal.
    pub promises: Vec<Promise>,
}

pub const DIRECTORY: &str = "/data";
pub const NAME: &str = "named";

pub fn options(disk: &SimDisk) -> LogDirOptions {
    let log = LogOptions::default()
        .segment_bytes(2048)
        .index_interval_bytes(200)
        .max_batch_bytes(2048)
        .snapshot_interval_bytes(1500);
    LogDirOptions::default().log(log).disk(Arc::new(disk.clone())).recovery_threads(1)
}

pub fn open(disk: &SimDisk) -> idemlog::Result<(LogDir, Log)> {
    let dir = LogDir::open(Path::new(DIRECTORY), options(disk))?;
    let log = dir.partition("t", 0)?;
    Ok((dir, log))
}

pub fn generate(seed: u64) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let length = 3 + rng.below(14);
    (0..length).map(|_| generate_one(&mut rng)).collect()
}

fn generate_one(rng: &mut Rng) -> Op {
    let producer = rng.below(3) as u8;
    let records = 1 + rng.below(8) as u8;
    match rng.below(22) {
        0..=5 => Op::Append { producer, records },
        6..=10 => Op::Submit { producer, records },
        11..=12 => Op::Again { producer, back: rng.below(5) as u8 },
        13 => Op::Plain,
        14 => Op::Sync,
        15 => Op::Roll,
        16 => Op::NewId { producer },
        17 => Op::Named,
        18 => Op::Close,
        19..=20 => Op::Truncate { batches: rng.below(6) as u8, inside: rng.below(2) == 0 },
        _ => Op::Kill,
    }
}

/// A workload under way.
struct Driver {
    run: Run,
    dir: LogDir,
    log: Log,
    /// The id of each producer, and its next sequence.
    producers: HashMap<u8, (ProducerId, i32)>,
    promise: Promise,
}

impl Run {
    /// What was placed at the time of a promise, and until the next truncation.
    pub fn placed(&self, promise: Promise) -> &[Placed] {
        self.before_truncation.get(promise.truncations).unwrap_or(&self.placed)
    }

    pub fn of(mode: IoMode, ops: &[Op]) -> Self {
        let disk = SimDisk::new(mode);
        disk.set_sync_range_covers_length(true);
        let (dir, log) = open(&disk).unwrap();
        let run = Self { disk, placed: Vec::new(), before_truncation: Vec::new(), promises: Vec::new() };
        let mut driver = Driver { run, dir, log, producers: HashMap::new(), promise: Promise::default() };
        ops.iter().for_each(|&op| driver.step(op));
        driver.run
    }
}

impl Driver {
    fn step(&mut self, op: Op) {
        match op {
            Op::Append { producer, records } => {
                let batch = self.next_batch(producer, records);
                self.append(batch);
            }
            Op::Submit { producer, records } => {
                let batch = self.next_batch(producer, records);
                let pending =
                    self.log.submit(std::slice::from_ref(&batch), AppendOptions::default()).unwrap();
                let base_offset = pending.outcomes()[0].base_offset().0;
                self.run.placed.push(Placed { batch, base_offset });
            }
            Op::Again { producer, back } => self.again(producer, back),
            Op::Plain => {
                let text = format!("plain {}", self.run.placed.len());
                let batch = BatchBuilder::new().record("k", text).timestamp(Timestamp(9)).build().unwrap();
                self.append(batch);
            }
            Op::Sync => {
                self.log.sync().unwrap();
                self.all_durable();
            }
            Op::Roll => self.log.roll().unwrap(),
            Op::NewId { producer } => drop(self.new_id(producer)),
            Op::Named => {
                let named = self.dir.producer(NAME).unwrap();
                self.promise.named_epoch = named.epoch().0;
                self.promise.highest_id = self.promise.highest_id.max(named.id().0);
                self.promised();
            }
            Op::Close => {
                self.dir.close().unwrap();
                self.all_durable();
                self.reopen();
            }
            Op::Truncate { batches, inside } => self.truncate(batches.into(), inside),
            Op::Kill => self.reopen(),
        }
    }

    fn truncate(&mut self, batches: usize, inside: bool) {
        let kept = self.run.placed.len().saturating_sub(batches);
        let Some(first) = self.run.placed.get(kept) else { return };
        let has_two = first.batch.header().last_offset_delta > 0;
        let target = first.base_offset + i64::from(inside && has_two);
        // From here on the batches may go.
        self.promise.durable = self.promise.durable.min(kept);
        self.promised();
        assert!(self.log.truncate_to(Offset(target)).unwrap());
        self.run.before_truncation.push(self.run.placed.clone());
        self.run.placed.truncate(kept);
        self.promise.truncations += 1;
        self.all_durable();
        self.forget_cut();
    }

    /// Producers go on behind their last batch that is left; those without one get a new id.
    fn forget_cut(&mut self) {
        let placed = &self.run.placed;
        self.producers.retain(|_, (id, next)| {
            let last = placed.iter().rev().find(|placed| placed.batch.header().producer_id == *id);
            last.inspect(|last| *next = last.batch.header().last_sequence().0 + 1).is_some()
        });
    }

    fn reopen(&mut self) {
        // The lock goes with the last handle; a placeholder takes its place meanwhile.
        let other = SimDisk::new(IoMode::Write);
        (self.dir, self.log) = open(&other).unwrap();
        (self.dir, self.log) = open(&self.run.disk).unwrap();
    }

    fn new_id(&mut self, producer: u8) -> (ProducerId, i32) {
        let id = self.dir.new_producer_id().unwrap();
        assert!(id.0 > self.promise.highest_id || self.promise.highest_id == 0, "{id} was handed out before");
        self.promise.highest_id = id.0;
        self.promised();
        self.producers.insert(producer, (id, 0));
        (id, 0)
    }

    fn next_batch(&mut self, producer: u8, records: u8) -> Batch {
        let (id, sequence) = match self.producers.get(&producer) {
            Some(&known) => known,
            None if self.log.log_end_offset().0 == 0 || producer > 0 => self.new_id(producer),
            None => self.new_id(producer),
        };
        self.producers.insert(producer, (id, sequence + i32::from(records)));
        let builder = BatchBuilder::new()
            .producer(id, ProducerEpoch(0), Sequence(sequence))
            .timestamp(Timestamp(i64::from(sequence)));
        (0..records)
            .fold(builder, |builder, at| {
                builder.record(format!("{id}"), format!("{sequence} {at} {:.>60}", ""))
            })
            .build()
            .unwrap()
    }

    fn append(&mut self, batch: Batch) {
        let outcome = self.log.append(&batch).unwrap();
        assert!(!outcome.is_duplicate());
        self.run.placed.push(Placed { batch, base_offset: outcome.base_offset().0 });
        self.all_durable();
    }

    /// Sends a batch again that the window must hold.
    fn again(&mut self, producer: u8, back: u8) {
        let Some(&(id, _)) = self.producers.get(&producer) else { return };
        let of_producer = |placed: &&Placed| placed.batch.header().producer_id == id;
        let Some(at) = self.run.placed.iter().filter(of_producer).rev().nth(back.into()).cloned() else {
            return;
        };
        let outcome = self.log.append(&at.batch).unwrap();
        assert!(outcome.is_duplicate());
        assert_eq!(outcome.base_offset().0, at.base_offset);
        let upto = self.run.placed.iter().position(|placed| placed.base_offset == at.base_offset).unwrap();
        self.promise.durable = self.promise.durable.max(upto + 1);
        self.promised();
    }

    fn all_durable(&mut self) {
        self.promise.durable = self.run.placed.len();
        self.promised();
    }

    fn promised(&mut self) {
        self.run.disk.mark(self.run.promises.len() as u64);
        self.run.promises.push(self.promise);
    }
}
