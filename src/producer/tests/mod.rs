//! The producers as a whole. Units are tested where they are.

mod decision;
mod fold;
mod model;
mod snapshot;
mod table;

use proptest::prelude::*;

use super::{
    Context, Decision, Origin, ProducerInfo, ProducerPolicy, ProducerTable, SequenceRule, Verification,
};
use crate::batch::{BatchHeader, ControlRecord};
use crate::error::{Rejection, RejectionReason};
use crate::transaction::TransactionVersion;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
const ID: ProducerId = ProducerId(1);

/// A batch of `count` records of producer 1.
fn data(epoch: i16, first: i32, count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        length: 49,
        leader_epoch: LeaderEpoch(0),
        crc: 1,
        attributes: 0,
        last_offset_delta: count - 1,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ID,
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(first),
        record_count: count,
    }
}

fn transactional(epoch: i16, first: i32, count: i32) -> BatchHeader {
    BatchHeader { attributes: TRANSACTIONAL, ..data(epoch, first, count) }
}

fn marker(epoch: i16) -> BatchHeader {
    BatchHeader { attributes: TRANSACTIONAL | CONTROL, ..data(epoch, -1, 1) }
}

fn commit(coordinator_epoch: i32) -> ControlRecord {
    ControlRecord::Commit { coordinator_epoch }
}

const NOT_ASKED: Verification =
    Verification { is_missing: false, lowest_sequence: None, begins_epoch: false };

const CLIENT: Context = Context {
    origin: Origin::Client,
    log_end: Offset(1),
    fenced_below: None,
    verification: NOT_ASKED,
    now: Timestamp(0),
};

fn coordinator(epoch: i32) -> Context {
    let version = TransactionVersion::V1;
    Context { origin: Origin::Coordinator { epoch: Some(epoch), version }, ..CLIENT }
}

/// A table whose log it plays: batches get the next offsets.
struct Log {
    table: ProducerTable,
    end: Offset,
    now: Timestamp,
}

impl Log {
    fn new(policy: ProducerPolicy) -> Self {
        Self { table: ProducerTable::new(policy), end: Offset(0), now: Timestamp(0) }
    }

    /// A log that took these batches of producer 1, epoch 0: (first sequence, count).
    fn with(policy: ProducerPolicy, batches: &[(i32, i32)]) -> Self {
        let mut log = Self::new(policy);
        batches.iter().for_each(|(first, count)| log.store(data(0, *first, *count), None));
        log
    }

    fn store(&mut self, header: BatchHeader, control: Option<ControlRecord>) {
        let header = BatchHeader { base_offset: self.end, ..header };
        self.table.apply(&header, control, self.now);
        self.end = header.next_offset();
    }

    fn decide(&self, header: &BatchHeader) -> Result<Decision, Rejection> {
        self.table.decide(header, &Context { now: self.now, ..CLIENT })
    }

    fn reason(&self, header: &BatchHeader) -> Option<RejectionReason> {
        self.decide(header).err().map(|rejection| rejection.reason)
    }

    /// Appends as a client.
    fn append(&mut self, header: BatchHeader) -> Result<Decision, Rejection> {
        let decision = self.decide(&header)?;
        if decision == Decision::Append {
            self.store(header, None);
        }
        Ok(decision)
    }
}

fn sorted(table: &ProducerTable) -> Vec<ProducerInfo> {
    let mut producers: Vec<_> = table.iter().collect();
    producers.sort_by_key(|producer| producer.producer_id);
    producers
}

/// Makes the CRC of a changed file right again.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[6..]);
    bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// How long a window is, and whether sequences need only rise.
fn policy_of(window: u8, increasing: bool) -> ProducerPolicy {
    let rule = if increasing { SequenceRule::Increasing } else { SequenceRule::Contiguous };
    ProducerPolicy::default().window(window).sequence_rule(rule)
}

/// (producer id, epoch, first sequence, records, kind, timestamp)
type Operation = (i64, i16, i32, i32, u8, i64);

fn operations(ids: std::ops::Range<i64>, max: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec((ids, 0..3_i16, 0..9_i32, 1..4_i32, 0..8_u8, any::<i64>()), 0..max)
}

/// The batch of an operation, and what it says of a transaction. `None` for what is not in a log.
fn batch_of(operation: &Operation) -> Option<(BatchHeader, Option<ControlRecord>)> {
    let &(id, epoch, first, count, kind, timestamp) = operation;
    let of =
        |header| BatchHeader { producer_id: ProducerId(id), max_timestamp: Timestamp(timestamp), ..header };
    match kind {
        0 => Some((of(marker(epoch)), Some(commit(first)))),
        1 => Some((of(transactional(epoch, first, count)), None)),
        2 => None,
        _ => Some((of(data(epoch, first, count)), None)),
    }
}

/// Some producers of every kind.
fn filled(policy: ProducerPolicy, operations: &[Operation]) -> Log {
    let mut log = Log::new(policy);
    for operation in operations {
        log.now = Timestamp(log.now.0 + 1000);
        match batch_of(operation) {
            Some((header, control)) => log.store(header, control),
            None => log.table.raise_epoch(ProducerId(operation.0), ProducerEpoch(operation.1)),
        }
    }
    log
}
