//! Random operations on one log, and what came of every append.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use idemlog::sim::Rng;
use idemlog::{
    AppendOutcome, BatchBuilder, Clock, Compression, ControlRecord, Durability, Error, ExpiryClock,
    FirstAppend, IoMode, LeaderEpoch, Log, LogDir, LogDirOptions, LogOptions, Offset, ProducerEpoch,
    ProducerId, ProducerInfo, ProducerPolicy, RecordBuilder, Sequence, Timestamp, TopicId,
};
use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::{Result, state};

pub(crate) const TOPIC: &str = "fixture";
pub(crate) const SEGMENT_BYTES: u32 = 8192;
pub(crate) const EXPIRY_MS: i64 = 86_400_000;
/// AAAAAAAAAAEAAAAAAAAAAg, as in Kafka's recordings.
pub(crate) const TOPIC_ID: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);

const BEGIN: i64 = 1_700_000_000_000;
/// Between two operations.
const STEP_MS: i64 = 7;
/// How many operations the second part has, which only appends.
const LAST: u64 = 25;
const CODECS: [(Compression, &str); 5] = [
    (Compression::None, "none"),
    (Compression::Gzip, "gzip"),
    (Compression::Snappy, "snappy"),
    (Compression::Lz4, "lz4"),
    (Compression::Zstd, "zstd"),
];

/// A clock that stands where it was put.
#[derive(Debug)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// A batch to send.
#[derive(Clone, Copy, Debug)]
struct Data {
    id: i64,
    epoch: i16,
    sequence: i32,
    count: i32,
    transactional: bool,
}

/// Operations on one open log.
pub(crate) struct Operations {
    rng: Rng,
    clock: Arc<SetClock>,
    dir: LogDir,
    log: Log,
    coordinator_epoch: i32,
    /// The last epoch of each producer. Who was forgotten comes back with the next one.
    epochs: BTreeMap<i64, i16>,
    appends: Vec<Value>,
    counts: BTreeMap<&'static str, u64>,
}

impl Operations {
    /// Opens a new log.
    pub(crate) fn begin(arguments: &Arguments) -> Result<Self> {
        let clock = Arc::new(SetClock(AtomicI64::new(BEGIN)));
        let mode = if arguments.seed.is_multiple_of(2) { IoMode::Mapped } else { IoMode::Write };
        let options = LogDirOptions::default().log(options(mode)).clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let dir = LogDir::open(&arguments.directory, options)?;
        let log = dir.partition_of(TOPIC_ID, TOPIC, 0)?;
        let rng = Rng::new(arguments.seed);
        let (epochs, appends, counts) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Ok(Self { rng, clock, dir, log, coordinator_epoch: 1, epochs, appends, counts })
    }

    /// Does everything. Returns what is to be told of it.
    pub(crate) fn perform(&mut self, count: u64) -> Result<Value> {
        for _ in 0..count.saturating_sub(LAST) {
            self.any()?;
        }
        self.settle()?;
        for _ in 0..LAST.min(count) {
            self.append_something()?;
        }
        Ok(json!({
            "stateBeforeClose": state::of(&self.log)?,
            "appends": self.appends,
            "nowMs": self.clock.now().0,
            "counts": self.counts,
        }))
    }

    pub(crate) fn close(self) -> Result {
        Ok(self.dir.close()?)
    }

    /// Whoever is forgotten by now is in no snapshot that counts.
    fn settle(&mut self) -> Result {
        self.log.expire_producers();
        self.append_plain()?;
        Ok(self.log.roll()?)
    }

    fn any(&mut self) -> Result {
        match self.rng.below(200) {
            0..4 => self.roll(),
            4..7 => self.delete_records(),
            7..8 => self.apply_retention(),
            8..13 => self.truncate(),
            13..15 => self.expire(),
            15..20 => self.raise_leader_epoch(),
            _ => self.append_something(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn advance(&self, milliseconds: i64) {
        self.clock.0.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn roll(&mut self) -> Result {
        self.count("roll");
        Ok(self.log.roll()?)
    }

    /// Deletes up to a third of the records, and in half of the cases the segments that have no other.
    fn delete_records(&mut self) -> Result {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let before = start + self.rng.below((end.0 - start.0) as u64 / 3 + 1) as i64;
        self.log.delete_records(before)?;
        if self.rng.chance(1, 2) {
            self.log.apply_retention()?;
        }
        self.count("delete records");
        Ok(())
    }

    fn apply_retention(&mut self) -> Result {
        let unlimited = (*self.log.options()).clone();
        self.log.set_options(unlimited.clone().retention_bytes(Some(u64::from(6 * SEGMENT_BYTES))))?;
        self.log.apply_retention()?;
        self.count("retention");
        Ok(self.log.set_options(unlimited)?)
    }

    /// Takes back up to 40 offsets. Inside of a batch the log ends higher than the last batch that is left: another
    /// comes at once, because nobody who opens the log can know.
    fn truncate(&mut self) -> Result {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let back = 1 + self.rng.below(40) as i64;
        self.log.truncate_to(Offset((end.0 - back).max(start.0)))?;
        self.count("truncation");
        self.append_plain()
    }

    fn expire(&mut self) -> Result {
        self.advance(EXPIRY_MS + 1);
        self.log.expire_producers();
        self.count("expiry");
        Ok(())
    }

    fn raise_leader_epoch(&mut self) -> Result {
        let epoch = LeaderEpoch(self.log.leader_epoch().0 + 1 + self.rng.below(2) as i32);
        self.log.set_leader_epoch(epoch);
        self.count("leader epoch");
        Ok(())
    }

    fn append_something(&mut self) -> Result {
        self.advance(STEP_MS);
        match self.rng.below(20) {
            0..2 => self.append_duplicate(),
            2..4 => self.append_refused(),
            4..7 => self.end_some_transaction(),
            7..9 => self.append_plain(),
            _ => self.append_next(),
        }
    }

    /// Three producers without transactions, and three with.
    fn some_producer(&mut self) -> i64 {
        [1001, 1002, 1003, 2001, 2002, 2003][self.rng.below(6) as usize]
    }

    fn known(&self, id: i64) -> Option<ProducerInfo> {
        self.log.producer(ProducerId(id))
    }

    fn epoch_of(&self, id: i64) -> i16 {
        let next = || self.epochs.get(&id).map_or(0, |last| last + 1);
        self.known(id).map_or_else(next, |known| known.epoch.0)
    }

    /// What a producer sends next.
    fn next(&mut self, id: i64) -> Data {
        let known = self.known(id);
        let epoch = self.epoch_of(id);
        let last = known.as_ref().and_then(|known| known.batches.last());
        let sequence = last.map_or(0, |last| last.last_sequence.0 + 1);
        let count = 1 + self.rng.below(5) as i32;
        Data { id, epoch, sequence, count, transactional: id > 2000 }
    }

    fn append_next(&mut self) -> Result {
        let id = self.some_producer();
        let mut data = self.next(id);
        let is_open = self.known(id).is_some_and(|known| known.transaction_first_offset.is_some());
        if !is_open && self.rng.chance(1, 15) {
            (data.epoch, data.sequence) = (data.epoch + 1, 0);
        }
        self.append(data)
    }

    fn append_plain(&mut self) -> Result {
        let count = 1 + self.rng.below(5) as i32;
        self.append(Data { id: -1, epoch: -1, sequence: -1, count, transactional: false })
    }

    /// Sends a batch again that is remembered.
    fn append_duplicate(&mut self) -> Result {
        let id = self.some_producer();
        let Some(known) = self.known(id).filter(|known| !known.batches.is_empty()) else {
            return self.append_next();
        };
        let batch = known.batches[self.rng.below(known.batches.len() as u64) as usize];
        let count = batch.last_sequence.0 - batch.first_sequence.0 + 1;
        let (epoch, sequence) = (known.epoch.0, batch.first_sequence.0);
        self.append(Data { id, epoch, sequence, count, transactional: id > 2000 })
    }

    /// A gap, an old epoch, data that belongs to no transaction while one is open, an old coordinator.
    fn append_refused(&mut self) -> Result {
        let id = self.some_producer();
        let Some(known) = self.known(id) else { return self.append_next() };
        let next = self.next(id);
        let is_open = known.transaction_first_offset.is_some();
        match self.rng.below(4) {
            0 if known.epoch.0 > 0 => self.append(Data { epoch: next.epoch - 1, ..next }),
            1 if is_open => self.append(Data { transactional: false, ..next }),
            2 if known.coordinator_epoch > Some(0) => self.end_transaction(id, known.epoch.0, 0),
            _ => self.append(Data { sequence: next.sequence + 3, ..next }),
        }
    }

    /// Mostly one that is open, now and then of a producer that has none.
    fn end_some_transaction(&mut self) -> Result {
        let open: Vec<ProducerInfo> = self
            .log
            .producers()
            .into_iter()
            .filter(|producer| producer.transaction_first_offset.is_some())
            .collect();
        if self.rng.chance(1, 20) {
            self.coordinator_epoch += 1;
        }
        if open.is_empty() || self.rng.chance(1, 12) {
            let id = 2001 + self.rng.below(3) as i64;
            let epoch = self.epoch_of(id);
            return self.end_transaction(id, epoch, self.coordinator_epoch);
        }
        let ended = &open[self.rng.below(open.len() as u64) as usize];
        // A coordinator that fences the producer raises its epoch with the marker.
        let epoch = ended.epoch.0 + i16::from(self.rng.chance(1, 8));
        self.end_transaction(ended.producer_id.0, epoch, self.coordinator_epoch)
    }

    fn append(&mut self, data: Data) -> Result {
        let (codec, compression) = CODECS[self.rng.below(CODECS.len() as u64) as usize];
        let value_size = 40 + self.rng.below(260) as usize;
        let timestamp = self.clock.now();
        let Data { id, epoch, sequence, count, transactional } = data;
        let mut builder = BatchBuilder::new().compression(codec).timestamp(timestamp);
        if id >= 0 {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
        }
        if transactional {
            builder = builder.transactional();
        }
        for at in 0..count {
            builder = builder.push(RecordBuilder::new().value(vec![b'a' + (at % 26) as u8; value_size]));
        }
        let batch = builder.build()?;
        let told = json!({
            "kind": "data",
            "producerId": id,
            "producerEpoch": epoch,
            "baseSequence": sequence,
            "count": count,
            "valueSize": value_size,
            "transactional": transactional,
            "timestamp": timestamp.0,
            "compression": compression,
            "leaderEpoch": self.log.leader_epoch().0,
            "sizeInBytes": batch.header().size(),
        });
        let outcome = self.log.append(&batch);
        self.tell(told, outcome)
    }

    fn end_transaction(&mut self, id: i64, epoch: i16, coordinator_epoch: i32) -> Result {
        let is_abort = self.rng.chance(1, 2);
        let marker = match is_abort {
            true => ControlRecord::Abort { coordinator_epoch },
            false => ControlRecord::Commit { coordinator_epoch },
        };
        let told = json!({
            "kind": "marker",
            "producerId": id,
            "producerEpoch": epoch,
            "type": if is_abort { "ABORT" } else { "COMMIT" },
            "coordinatorEpoch": coordinator_epoch,
            "timestamp": self.clock.now().0,
            "leaderEpoch": self.log.leader_epoch().0,
        });
        let outcome = self.log.end_transaction(ProducerId(id), ProducerEpoch(epoch), marker);
        self.tell(told, outcome)
    }

    fn note_epoch(&mut self, told: &Value) {
        if let (Some(id), Some(epoch)) = (told["producerId"].as_i64(), told["producerEpoch"].as_i64()) {
            self.epochs.insert(id, epoch as i16);
        }
    }

    fn tell(&mut self, mut told: Value, outcome: idemlog::Result<AppendOutcome>) -> Result {
        let (result, what) = match outcome {
            Ok(outcome) => {
                told["baseOffset"] = outcome.base_offset().0.into();
                told["lastOffset"] = outcome.last_offset().0.into();
                self.note_epoch(&told);
                if outcome.is_duplicate() { ("duplicate", "duplicate") } else { ("ok", "append") }
            }
            Err(error) => {
                told["exception"] = exception(&error)?.into();
                ("error", "refusal")
            }
        };
        told["result"] = result.into();
        self.count(what);
        self.appends.push(told);
        Ok(())
    }
}

fn options(mode: IoMode) -> LogOptions {
    let producers = ProducerPolicy::default()
        .first_append(FirstAppend::AcceptAny)
        .expiry_clock(ExpiryClock::RecordTimestamp)
        .expiry_ms(EXPIRY_MS);
    LogOptions::default()
        .durability(Durability::Synced)
        .segment_bytes(SEGMENT_BYTES)
        .segment_index_bytes(SEGMENT_BYTES)
        .producers(producers)
        .io_mode(Some(mode))
}

/// The exception that Kafka has for a refusal.
fn exception(error: &Error) -> Result<&'static str> {
    match error {
        Error::Rejected(_) => match error.code().number() {
            45 => Ok("OutOfOrderSequenceException"),
            47 => Ok("InvalidProducerEpochException"),
            48 => Ok("InvalidTxnStateException"),
            52 => Ok("TransactionCoordinatorFencedException"),
            other => Err(format!("{error} has code {other}").into()),
        },
        _ => Err(error.clone().into()),
    }
}
