//! What one producer sends to one partition.

use std::collections::VecDeque;

use idemlog::sim::Rng;
use idemlog::{Batch, BatchBuilder, ProducerEpoch, ProducerId, Sequence};

use crate::Result;
use crate::identity::Identity;
use crate::wire::{BatchKey, Request};

/// How far a producer may be ahead of its oldest batch that is not acknowledged. The log remembers as many batches of
/// each producer, so whatever is sent again is recognised.
const MAX_IN_FLIGHT: usize = 5;
const MAX_RECORDS_PER_BATCH: u64 = 9;

/// One producer's batches for one partition, in order.
pub(crate) struct Lane {
    pub(crate) producer: usize,
    pub(crate) partition: usize,
    /// `None`: the producer does without idempotence.
    producer_id: Option<ProducerId>,
    /// How many records it has to send.
    pub(crate) records: u64,
    /// The number of the next record; its sequence too.
    next_number: u64,
    /// The oldest one is not acknowledged. Later ones may be: they stay until it is.
    in_flight: VecDeque<InFlight>,
}

/// A batch that was sent.
pub(crate) struct InFlight {
    pub(crate) first_number: u64,
    pub(crate) batch: Batch,
    pub(crate) acknowledged: bool,
    /// What an acknowledgement said that the producer never saw.
    pub(crate) lost_answer: Option<i64>,
}

impl Lane {
    pub(crate) fn new(
        producer: usize,
        partition: usize,
        producer_id: Option<ProducerId>,
        records: u64,
    ) -> Self {
        Self { producer, partition, producer_id, records, next_number: 0, in_flight: VecDeque::new() }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next_number == self.records && self.in_flight.is_empty()
    }

    /// Makes the next batch, unless all is sent or too much is in flight.
    pub(crate) fn next(&mut self, rng: &mut Rng) -> Result<Option<&InFlight>> {
        let left = self.records - self.next_number;
        if left == 0 || self.in_flight.len() == MAX_IN_FLIGHT {
            return Ok(None);
        }
        let count = (1 + rng.below(MAX_RECORDS_PER_BATCH)).min(left);
        let first_number = self.next_number;
        let batch = self.build(first_number, count)?;
        self.next_number += count;
        self.in_flight.push_back(InFlight { first_number, batch, acknowledged: false, lost_answer: None });
        Ok(self.in_flight.back())
    }

    fn build(&self, first_number: u64, count: u64) -> Result<Batch> {
        let mut builder = BatchBuilder::new();
        if let Some(id) = self.producer_id {
            builder = builder.producer(id, ProducerEpoch(0), Sequence(i32::try_from(first_number)?));
        }
        for number in first_number..first_number + count {
            let identity = Identity { producer: self.producer, partition: self.partition, number };
            builder = builder.record(format!("producer-{}", self.producer), identity.value());
        }
        Ok(builder.build()?)
    }

    /// The batch that an answer is about.
    pub(crate) fn find(&mut self, first_number: u64) -> Option<&mut InFlight> {
        self.in_flight.iter_mut().find(|sent| sent.first_number == first_number && !sent.acknowledged)
    }

    /// Forgets the batches that nobody will ask about again.
    pub(crate) fn settle(&mut self) {
        while self.in_flight.pop_front_if(|oldest| oldest.acknowledged).is_some() {}
    }

    /// What was sent and is not known to be stored.
    pub(crate) fn in_doubt(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().filter(|sent| !sent.acknowledged)
    }
}

impl InFlight {
    pub(crate) fn request(&self, lane: usize, partition: usize) -> Request {
        let key = BatchKey { lane, first_number: self.first_number };
        Request::Append { partition, key, batch: self.batch.bytes().to_vec() }
    }

    pub(crate) fn records(&self) -> u64 {
        u64::from(self.batch.header().record_count.unsigned_abs())
    }
}
