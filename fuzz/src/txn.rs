//! Transactions of one partition, and a model that works everything out from the list of batches in the log.
//!
//! The model keeps no state beside the list, the offsets that the host moves, and how far markers were ever below the high
//! watermark. Whatever a log answers is computed from the beginning each time.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use idemlog::sim::SimDisk;
use idemlog::{
    AbortedTransaction, AppendOptions, Batch, BatchBuilder, ControlRecord, Durability, Error, Log, LogDir,
    Offset, Origin, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use crate::sim::{Host, mode, small, visible};
use crate::txn_model::{Model, Remembered, Verdict};

#[derive(Arbitrary, Debug)]
pub struct Input {
    mapped: bool,
    buffered: bool,
    /// Whether old segments are deleted on their own.
    limited: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// A batch without a producer.
    Plain {
        records: u8,
    },
    Data(Data),
    /// Data of a coordinator: transactional, without sequences.
    Offsets {
        producer: u8,
        epoch: Epoch,
        records: u8,
    },
    /// A batch of the log again, counted from the end.
    Again {
        back: u8,
    },
    Marker {
        producer: u8,
        epoch: Epoch,
        coordinator_epoch: u8,
        abort: bool,
    },
    Roll,
    Sync,
    HighWatermark(u8),
    Delete(u8),
    Retain,
    Truncate(u8),
    Empty(u8),
    Read {
        from: u8,
        to: u8,
        max: u16,
    },
    Close,
    Kill,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Data {
    producer: u8,
    transactional: bool,
    epoch: Epoch,
    /// Off the sequence that is next, mostly by nothing.
    off: u8,
    records: u8,
}

/// Relative to the producer's.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Epoch {
    Current,
    Same,
    Next,
    Stale,
}

impl Epoch {
    fn of(self, current: i16) -> i16 {
        match self {
            Self::Current | Self::Same => current,
            Self::Next => current.saturating_add(1),
            Self::Stale => (current - 1).max(0),
        }
    }
}

struct Driver {
    host: Host,
    dir: Option<LogDir>,
    log: Option<Log>,
    model: Model,
}

/// Runs the steps.
pub fn run(input: &Input) {
    let durability = if input.buffered { Durability::Buffered } else { Durability::Synced };
    let limit = input.limited.then_some(4000);
    let options = small().durability(durability).retention_bytes(limit);
    let host = Host::new(SimDisk::new(mode(input.mapped)), options);
    let mut driver = Driver { host, dir: None, log: None, model: Model::default() };
    driver.open();
    for step in input.steps.iter().take(60) {
        driver.step(step);
        driver.check();
    }
}

impl Driver {
    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    fn open(&mut self) {
        let (dir, log) = self.host.open_log().expect("a sound log opens");
        assert!(log.recovery().cut.is_none(), "{}", log.recovery());
        self.model.reopened(log.log_end_offset().0);
        (self.dir, self.log) = (Some(dir), Some(log));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Plain { records } => self.append(&built(None, false, records), Origin::Client),
            Step::Data(data) => self.data(data),
            Step::Offsets { producer, epoch, records } => self.offsets(producer, epoch, records),
            Step::Again { back } => self.again(back),
            Step::Marker { producer, epoch, coordinator_epoch, abort } => {
                self.marker(producer, epoch, i32::from(coordinator_epoch % 3), abort);
            }
            Step::Roll => {
                self.log().roll().unwrap();
                self.model.roll();
            }
            Step::Sync => self.log().sync().unwrap(),
            Step::HighWatermark(to) => self.set_high_watermark(to),
            Step::Delete(before) => self.delete(before),
            Step::Retain => drop(self.log().apply_retention().unwrap()),
            Step::Truncate(to) => self.truncate(to),
            Step::Empty(start) => self.empty(i64::from(start)),
            Step::Read { from, to, max } => self.read(from, to, usize::from(max).max(1)),
            Step::Close => {
                self.log = None;
                self.dir.take().expect("open").close().unwrap();
                self.open();
            }
            Step::Kill => {
                (self.dir, self.log) = (None, None);
                self.open();
            }
        }
        self.model.follow_retention(self.log().log_start_offset().0);
    }

    fn data(&mut self, data: Data) {
        let id = i64::from(data.producer % 4);
        let known = self.model.producers().remove(&id).unwrap_or_default();
        let epoch = data.epoch.of(known.epoch);
        let next = if epoch > known.epoch { 0 } else { known.next_sequence() };
        let sequence = next + if data.off > 240 { i32::from(data.off - 240) } else { 0 };
        let batch = built(Some((id, epoch, sequence)), data.transactional, data.records);
        self.append(&batch, Origin::Client);
    }

    fn offsets(&mut self, producer: u8, epoch: Epoch, records: u8) {
        let id = i64::from(producer % 4);
        let epoch = epoch.of(self.model.producers().get(&id).map_or(0, |known| known.epoch));
        self.append(&built(Some((id, epoch, -1)), true, records), Origin::Coordinator);
    }

    fn again(&mut self, back: u8) {
        let data = |batch: &&Batch| batch.header().base_sequence.0 >= 0;
        let mut sent = self.model.batches().filter(data).collect::<Vec<_>>().into_iter().rev();
        let Some(batch) = sent.nth(usize::from(back % 16)).cloned() else { return };
        self.append(&batch, Origin::Client);
    }

    fn marker(&mut self, producer: u8, epoch: Epoch, coordinator_epoch: i32, abort: bool) {
        let id = i64::from(producer % 4);
        let epoch = epoch.of(self.model.producers().get(&id).map_or(0, |known| known.epoch));
        let control = if abort {
            ControlRecord::Abort { coordinator_epoch }
        } else {
            ControlRecord::Commit { coordinator_epoch }
        };
        let batch = BatchBuilder::new()
            .producer(ProducerId(id), ProducerEpoch(epoch), Sequence::NONE)
            .timestamp(Timestamp(5))
            .control(control)
            .build()
            .unwrap();
        self.append(&batch, Origin::Coordinator);
    }

    /// Appends a batch; the model says what comes of it.
    fn append(&mut self, batch: &Batch, origin: Origin) {
        let verdict = self.model.judge(batch, origin == Origin::Coordinator);
        let options = AppendOptions::default().origin(origin);
        let answer = self.log().submit(std::slice::from_ref(batch), options).and_then(|it| it.wait());
        match (answer, &verdict) {
            (Ok(outcomes), Verdict::New) => {
                assert!(!outcomes[0].is_duplicate(), "{outcomes:?}");
                assert_eq!(outcomes[0].base_offset().0, self.model.log_end);
                self.model.store(batch);
            }
            (Ok(outcomes), Verdict::Duplicate { base_offset }) => {
                assert!(outcomes[0].is_duplicate(), "{outcomes:?}, {verdict:?}");
                assert_eq!(outcomes[0].base_offset().0, *base_offset);
            }
            (Err(Error::Rejected(rejection)), Verdict::Refused(reasons)) => {
                assert!(reasons.contains(&rejection.reason), "{rejection:?}, {verdict:?}");
            }
            (answer, _) => panic!("{answer:?} where the model has {verdict:?}"),
        }
    }

    /// An offset of the log, or one beyond its end.
    fn offset(&self, at: u8) -> i64 {
        let span = self.model.log_end - self.model.log_start + 2;
        self.model.log_start + i64::from(at) % span
    }

    fn set_high_watermark(&mut self, to: u8) {
        let to = self.offset(to);
        self.log().set_high_watermark(Offset(to));
        self.model.high_watermark = Some(to.min(self.model.log_end).max(self.model.log_start));
    }

    fn delete(&mut self, before: u8) {
        let before = self.offset(before);
        match self.log().delete_records(Offset(before)) {
            Ok(start) => {
                assert!(before <= self.model.high_watermark());
                self.model.log_start = self.model.log_start.max(before);
                assert_eq!(start.0, self.model.log_start);
            }
            Err(Error::OffsetOutOfRange { .. }) => assert!(before > self.model.high_watermark()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The base of the first segment, as the disk has it: a sync gives each its name.
    fn first_base(&self) -> Option<i64> {
        self.log().sync().unwrap();
        let files = crate::files::read(&self.host.disk, std::path::Path::new(crate::sim::PARTITION));
        files.iter().filter_map(|(name, _)| name.strip_suffix(".log")?.parse().ok()).min()
    }

    fn truncate(&mut self, to: u8) {
        // Some targets lie below the log start offset, some below the first segment.
        let target = if to % 8 == 0 { i64::from(to / 8) } else { self.offset(to) };
        let first = self.first_base();
        let truncated = self.log().truncate_to(Offset(target)).unwrap();
        assert_eq!(truncated, target < self.model.log_end);
        if !truncated {
            return;
        }
        match first {
            Some(first) if first <= target => self.model.truncate(target),
            _ => self.model.start_over(target),
        }
    }

    fn empty(&mut self, start: i64) {
        self.log().truncate_fully(Offset(start)).unwrap();
        self.model.start_over(start);
    }

    fn read(&self, from: u8, to: u8, max: usize) {
        let (from, to) = (self.offset(from).min(self.model.high_watermark()), self.offset(to));
        assert_eq!(self.aborted(from, to), self.model.aborted(from, to), "{from}..{to}");
        self.fetch_all(from, max);
        self.read_committed(from);
    }

    fn aborted(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        self.log().aborted_transactions(Offset(from), Offset(to)).unwrap()
    }

    /// Reads what is committed as a Kafka client does: batches and aborted transactions, and leaves those out itself.
    fn fetch_all(&self, from: i64, max: usize) {
        let (mut next, mut got) = (from, Vec::new());
        loop {
            let fetched = self.log().read_committed(Offset(next), max).unwrap();
            let headers: Vec<_> = fetched.batches().map(|batch| *batch.unwrap().header()).collect();
            let Some(last) = headers.last() else {
                assert!(fetched.aborted.is_empty());
                break;
            };
            assert_eq!(fetched.aborted, self.model.aborted(next, last.next_offset().0), "from {next}");
            let left_out = |header: &idemlog::BatchHeader| {
                let of_batch = |aborted: &&AbortedTransaction| {
                    aborted.producer_id == header.producer_id
                        && aborted.first_offset <= header.base_offset
                        && header.base_offset < aborted.last_offset
                };
                header.is_control()
                    || (header.is_transactional() && fetched.aborted.iter().any(|it| of_batch(&it)))
            };
            let kept = headers.iter().filter(|header| !left_out(header));
            got.extend(kept.map(|header| (header.base_offset.0, header.crc)));
            assert!(last.next_offset().0 > next, "reading goes on");
            next = last.next_offset().0;
        }
        assert_eq!(got, self.model.committed(from), "from {from}");
    }

    fn read_committed(&self, from: i64) {
        let reader = self.log().reader(Offset(from)).unwrap().committed();
        let got: Vec<_> = reader
            .map(|batch| {
                let header = *batch.unwrap().header();
                (header.base_offset.0, header.crc)
            })
            .collect();
        assert_eq!(got, self.model.committed(from), "from {from}");
    }

    fn check(&mut self) {
        let (log, model) = (self.log.as_ref().expect("open"), &mut self.model);
        let axis = (log.log_start_offset().0, log.high_watermark().0, log.log_end_offset().0);
        assert_eq!(axis, (model.log_start, model.high_watermark(), model.log_end));
        assert_eq!(log.last_stable_offset().0, model.last_stable_offset());
        let first = log.first_undecided_offset().map(|first| first.0);
        assert_eq!(first, model.open_transactions().values().copied().min());
        assert_eq!(known(log), model.remembered());
        let read = visible(log);
        assert_eq!(read, model.readable(model.log_start, model.high_watermark()));
        let (start, end) = (self.model.log_start, self.model.log_end);
        assert_eq!(self.aborted(start, end), self.model.aborted(start, end));
        self.read_committed(start);
    }
}

fn known(log: &Log) -> BTreeMap<i64, Remembered> {
    let batches = |producer: &idemlog::ProducerInfo| {
        let row = |it: &idemlog::ProducerBatch| {
            let (first, last) = (it.first_sequence.0.into(), it.last_sequence.0.into());
            [first, last, it.offsets.first.0, it.offsets.last.0]
        };
        producer.batches.iter().map(row).collect()
    };
    let one = |it: &idemlog::ProducerInfo| {
        let first = it.transaction_first_offset.map(|first| first.0);
        (it.producer_id.0, (it.epoch.0, it.coordinator_epoch, first, batches(it)))
    };
    log.producers().iter().map(one).collect()
}

/// A batch of up to five records.
fn built(producer: Option<(i64, i16, i32)>, transactional: bool, records: u8) -> Batch {
    let mut builder = BatchBuilder::new().timestamp(Timestamp(i64::from(records)));
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence));
    }
    if transactional {
        builder = builder.transactional();
    }
    let value = "v".repeat(usize::from(records));
    (0..records % 5 + 1).fold(builder, |builder, at| builder.record([at], &value)).build().unwrap()
}
