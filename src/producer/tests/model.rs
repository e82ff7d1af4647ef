//! The table against a plain model of the same rules, and a call of several batches against one batch per call.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::producer::{Staging, TableCursor};

const WINDOW: usize = 3;
const BUDGET: usize = 6;
const MIN_IDLE: i64 = 20_000;
const EXPIRY: i64 = 60_000;

fn policy() -> ProducerPolicy {
    ProducerPolicy::default()
        .window(WINDOW as u8)
        .budget(BUDGET)
        .eviction_min_idle_ms(MIN_IDLE)
        .expiry_ms(EXPIRY)
}

#[derive(Clone, Debug)]
enum Operation {
    /// As a client. The sequence counts from what the model expects next.
    Append {
        id: i64,
        epoch: i16,
        ahead: i32,
        count: i32,
        transactional: bool,
    },
    /// Whatever the rules say.
    Replicate {
        id: i64,
        epoch: i16,
        sequence: i32,
        count: i32,
        transactional: bool,
    },
    Marker {
        id: i64,
        epoch: i16,
        coordinator_epoch: i32,
    },
    Raise {
        id: i64,
        epoch: i16,
    },
    Wait {
        seconds: i64,
    },
    Expire,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (id, epoch, count) = (0..12_i64, 0..3_i16, 1..4_i32);
    let ahead = prop_oneof![6 => Just(0), 3 => -12..12_i32];
    prop_oneof![
        12 => (id.clone(), epoch.clone(), ahead, count.clone(), any::<bool>()).prop_map(
            |(id, epoch, ahead, count, transactional)| Operation::Append { id, epoch, ahead, count, transactional }
        ),
        3 => (id.clone(), epoch.clone(), 0..20_i32, count, any::<bool>()).prop_map(
            |(id, epoch, sequence, count, transactional)| Operation::Replicate { id, epoch, sequence, count, transactional }
        ),
        4 => (id.clone(), epoch.clone(), 0..3_i32)
            .prop_map(|(id, epoch, coordinator_epoch)| Operation::Marker { id, epoch, coordinator_epoch }),
        1 => (id, epoch).prop_map(|(id, epoch)| Operation::Raise { id, epoch }),
        3 => (1..30_i64).prop_map(|seconds| Operation::Wait { seconds }),
        1 => Just(Operation::Expire),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Producer {
    epoch: i16,
    /// (epoch, first sequence, last sequence, first offset, last offset), oldest first.
    batches: Vec<(i16, i32, i32, i64, i64)>,
    coordinator_epoch: Option<i32>,
    transaction_first: Option<i64>,
    last_seen: i64,
    touched: u64,
}

impl Producer {
    fn window(&self) -> impl Iterator<Item = &(i16, i32, i32, i64, i64)> {
        self.batches.iter().filter(|batch| batch.0 == self.epoch)
    }

    fn next(&self) -> i32 {
        self.window().last().map_or(0, |batch| batch.2 + 1)
    }
}

#[derive(Debug, Default)]
struct Model {
    producers: HashMap<i64, Producer>,
    now: i64,
    ticks: u64,
}

impl Model {
    fn victim(&self) -> Option<i64> {
        let listed = self.producers.iter().filter(|(_, producer)| producer.transaction_first.is_none());
        let (id, producer) = listed.min_by_key(|(_, producer)| producer.touched)?;
        (self.now - producer.last_seen >= MIN_IDLE).then_some(*id)
    }

    /// `Ok(None)`: new. `Ok(Some(offsets))`: a duplicate. `Err`: the protocol's error.
    fn decide(&self, header: &BatchHeader) -> Result<Option<(i64, i64)>, i16> {
        let (epoch, first) = (header.producer_epoch.0, header.base_sequence.0);
        let last = first + header.last_offset_delta;
        let Some(producer) = self.producers.get(&header.producer_id.0) else {
            let has_room = self.producers.len() < BUDGET || self.victim().is_some();
            return if has_room { Ok(None) } else { Err(19) };
        };
        if epoch < producer.epoch {
            return Err(47);
        }
        if epoch == producer.epoch
            && let Some(batch) = producer.window().find(|batch| (batch.1, batch.2) == (first, last))
        {
            return Ok(Some((batch.3, batch.4)));
        }
        let next = if epoch == producer.epoch { producer.next() } else { 0 };
        if first != next {
            return Err(45);
        }
        let open = producer.transaction_first.is_some();
        if open && !header.is_transactional() { Err(48) } else { Ok(None) }
    }

    fn store(&mut self, header: &BatchHeader, control: Option<ControlRecord>) {
        let id = header.producer_id.0;
        if !self.producers.contains_key(&id)
            && self.producers.len() >= BUDGET
            && let Some(victim) = self.victim()
        {
            self.producers.remove(&victim);
        }
        self.ticks += 1;
        let fresh = Producer { epoch: header.producer_epoch.0, ..Producer::default() };
        let producer = self.producers.entry(id).or_insert(fresh);
        producer.touched = self.ticks;
        producer.last_seen = self.now;
        let is_current = header.producer_epoch.0 >= producer.epoch;
        producer.epoch = producer.epoch.max(header.producer_epoch.0);
        let epoch = producer.epoch;
        if let Some(ControlRecord::Commit { coordinator_epoch }) = control {
            producer.transaction_first = None;
            if is_current {
                producer.coordinator_epoch = Some(coordinator_epoch);
            }
            return;
        }
        if is_current {
            let offsets = header.offsets();
            producer.batches.retain(|batch| batch.0 == epoch);
            if header.base_sequence.0 < producer.next() {
                // It had been forgotten where the batch comes from.
                producer.batches.clear();
            }
            producer.batches.push((
                epoch,
                header.base_sequence.0,
                header.last_sequence().0,
                offsets.first.0,
                offsets.last.0,
            ));
            let excess = producer.batches.len().saturating_sub(WINDOW);
            producer.batches.drain(..excess);
        }
        if header.is_transactional() && producer.transaction_first.is_none() {
            producer.transaction_first = Some(header.base_offset.0);
        }
    }

    /// A marker of a higher epoch drops the batches; fencing keeps them readable.
    fn drop_batches_below(&mut self, id: i64, epoch: i16) {
        if let Some(producer) = self.producers.get_mut(&id).filter(|producer| epoch > producer.epoch) {
            producer.batches.clear();
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        self.producers
            .retain(|_, producer| producer.transaction_first.is_some() || now - producer.last_seen < EXPIRY);
    }
}

/// The table and the model side by side.
struct Pair {
    log: Log,
    model: Model,
}

impl Pair {
    fn new() -> Self {
        Self { log: Log::new(policy()), model: Model::default() }
    }

    fn header(&self, operation: &Operation) -> Option<BatchHeader> {
        let header = |id, header| {
            Some(BatchHeader { producer_id: ProducerId(id), base_offset: self.log.end, ..header })
        };
        let of = |transactional: bool| if transactional { super::transactional } else { data };
        match *operation {
            Operation::Append { id, epoch, ahead, count, transactional } => {
                let next = self.model.producers.get(&id).map_or(0, Producer::next);
                header(id, of(transactional)(epoch, (next + ahead).max(0), count))
            }
            Operation::Replicate { id, epoch, sequence, count, transactional } => {
                header(id, of(transactional)(epoch, sequence, count))
            }
            Operation::Marker { id, epoch, .. } => header(id, marker(epoch)),
            _ => None,
        }
    }

    fn store(&mut self, header: BatchHeader, control: Option<ControlRecord>) {
        self.model.store(&header, control);
        self.log.store(header, control);
    }

    fn run(&mut self, operation: &Operation) {
        let header = self.header(operation);
        match *operation {
            Operation::Append { .. } => self.append(header.unwrap()),
            Operation::Replicate { .. } => self.store(header.unwrap(), None),
            Operation::Marker { id, epoch, coordinator_epoch } => {
                self.model.drop_batches_below(id, epoch);
                self.store(header.unwrap(), Some(commit(coordinator_epoch)));
            }
            Operation::Raise { id, epoch } => {
                self.log.table.raise_epoch(ProducerId(id), ProducerEpoch(epoch));
                if let Some(producer) = self.model.producers.get_mut(&id) {
                    producer.epoch = producer.epoch.max(epoch);
                }
            }
            Operation::Wait { seconds } => {
                self.model.now += seconds * 1000;
                self.log.now = Timestamp(self.model.now);
            }
            Operation::Expire => {
                self.model.expire();
                let mut cursor = Some(TableCursor::START);
                while let Some(at) = cursor {
                    cursor = self.log.table.expire_step(at, 3, self.log.now);
                }
            }
        }
    }

    fn append(&mut self, header: BatchHeader) {
        let expected = self.model.decide(&header);
        let decided = match self.log.decide(&header) {
            Ok(Decision::Append) => Ok(None),
            Ok(Decision::Duplicate(duplicate)) => {
                Ok(duplicate.original.map(|range| (range.first.0, range.last.0)))
            }
            Err(rejection) => Err(rejection.code().number()),
        };
        assert_eq!(decided, expected, "{header:?} with {:?}", self.log.table.get(header.producer_id));
        let plain = self.log.table.decide_plain(&header);
        if let Some((_, decision)) = plain {
            assert_eq!(Ok(decision), self.log.decide(&header), "{header:?}");
        }
        match plain {
            Some((producer, Decision::Append)) => {
                self.model.store(&header, None);
                self.log.table.apply_plain(producer, &header, self.log.end, self.log.now);
                self.log.end = header.last_offset_at(self.log.end) + 1;
            }
            _ if expected == Ok(None) => self.store(header, None),
            _ => {}
        }
    }

    fn check(&self) {
        let table: HashMap<_, _> =
            self.log.table.iter().map(|producer| (producer.producer_id.0, producer)).collect();
        assert_eq!(table.len(), self.model.producers.len());
        for (id, expected) in &self.model.producers {
            let producer = &table[id];
            assert_eq!(self.log.table.get(ProducerId(*id)).as_ref(), Some(producer));
            let batches = producer.batches.iter().map(|batch| {
                let (first, last) = (batch.offsets.first.0, batch.offsets.last.0);
                (producer.batches_epoch.0, batch.first_sequence.0, batch.last_sequence.0, first, last)
            });
            let got = Producer {
                epoch: producer.epoch.0,
                batches: batches.collect(),
                coordinator_epoch: producer.coordinator_epoch,
                transaction_first: producer.transaction_first_offset.map(|offset| offset.0),
                last_seen: producer.last_seen.0,
                touched: expected.touched,
            };
            assert_eq!(&got, expected, "producer {id}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_table_does_what_a_plain_map_does(operations in prop::collection::vec(operation(), 1..120)) {
        let mut pair = Pair::new();
        for operation in &operations {
            pair.run(operation);
            pair.check();
        }
    }

    #[test]
    fn a_call_of_several_batches_is_judged_as_several_calls(
        before in prop::collection::vec(operation(), 1..60),
        call in prop::collection::vec(operation(), 1..20),
    ) {
        let mut pair = Pair::new();
        before.iter().for_each(|operation| pair.run(operation));
        let frozen = pair.log.table.clone();
        let (mut staging, log_end) = (Staging::new(&frozen), pair.log.end);
        for operation in &call {
            let Some(header) = pair.header(operation) else { continue };
            let control = header.is_control().then(|| commit(0));
            let context = match operation {
                Operation::Marker { coordinator_epoch: 0, .. } => coordinator(0),
                Operation::Marker { .. } => Context {
                    origin: Origin::Coordinator { epoch: Some(0), version: TransactionVersion::V2 },
                    ..CLIENT
                },
                _ => CLIENT,
            };
            let context = Context { now: pair.log.now, log_end, ..context };
            let staged = staging.decide(&header, &context);
            let context = Context { log_end: pair.log.end, ..context };
            prop_assert_eq!(&staged, &pair.log.table.decide(&header, &context));
            if staged == Ok(Decision::Append) {
                staging.stage(&header, control, pair.log.now);
                pair.log.store(header, control);
            }
        }
        let unchanged: Vec<_> = frozen.iter().collect();
        prop_assert_eq!(frozen.iter().collect::<Vec<_>>(), unchanged);
    }
}
