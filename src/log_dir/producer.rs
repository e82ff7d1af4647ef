//! A producer for programs that embed both ends.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::batch::{Batch, BatchBuilder};
use crate::error::{Error, Result};
use crate::fs::name::TopicPartition;
use crate::log::{AppendOutcome, Log};
use crate::types::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence};

/// Gives batches their sequences, per partition, and sends a batch again safely.
///
/// Made by [`LogDir::producer`](crate::LogDir::producer). A batch whose append failed stays with the producer until
/// [`retry`](Self::retry) has settled whether it is stored; until then the partition takes no other batch from it, since
/// that would get the same sequence.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("readings", 0)?;
///
/// let sensor = dir.producer("sensor-7")?;
/// sensor.append(&log, BatchBuilder::new().record(b"t", b"21.5"))?;
/// sensor.append(&log, BatchBuilder::new().record(b"t", b"21.6"))?;
///
/// // The program starts again: the same id, a higher epoch, and where it stopped.
/// let again = dir.producer("sensor-7")?;
/// let last = again.last(&log).unwrap();
/// assert_eq!(last.last_sequence.0, 1);
/// assert!(sensor.append(&log, BatchBuilder::new().record(b"t", b"0")).is_err(), "fenced");
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Debug)]
pub struct Producer {
    id: ProducerId,
    epoch: ProducerEpoch,
    partitions: Mutex<HashMap<TopicPartition, State>>,
}

/// Where the producer is in one partition.
#[derive(Debug)]
struct State {
    next: Sequence,
    /// Sent, and not known to be stored or not.
    unsettled: Option<Batch>,
}

/// The last batch that a producer stored in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastBatch {
    /// The epoch it was written in.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record. Sequences begin at 0 in every epoch, except under
    /// [`SequenceRule::Increasing`](crate::SequenceRule::Increasing).
    pub last_sequence: Sequence,
    /// Where it is stored: its records tell a program what of its source it sent last.
    pub offsets: OffsetRange,
}

impl Producer {
    pub(super) fn new(id: ProducerId, epoch: ProducerEpoch) -> Self {
        Self { id, epoch, partitions: Mutex::default() }
    }

    /// The producer id.
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// The epoch of this incarnation.
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// The last batch that this producer, or one before it under the same id, stored in `log`.
    pub fn last(&self, log: &Log) -> Option<LastBatch> {
        let info = log.producer(self.id)?;
        let last = info.batches.last()?;
        Some(LastBatch {
            epoch: info.batches_epoch,
            last_sequence: last.last_sequence,
            offsets: last.offsets,
        })
    }

    /// Stores the records that `batch` holds, under the next sequences of this producer, and waits until they are
    /// durable. What `batch` says about a producer is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Unsettled`] while an earlier batch is; nothing is sent. [`Error::Rejected`] when a newer incarnation has
    /// fenced this one. After any other error that the log returns, the batch may be stored or not: call
    /// [`retry`](Self::retry).
    pub fn append(&self, log: &Log, batch: BatchBuilder) -> Result<AppendOutcome> {
        let mut partitions = self.partitions.lock();
        let state = partitions.entry(log.name().clone()).or_insert_with(|| self.begin(log));
        if state.unsettled.is_some() {
            return Err(Error::Unsettled);
        }
        let batch = batch.producer(self.id, self.epoch, state.next).build()?;
        state.unsettled = Some(batch);
        state.settle(log)
    }

    /// Sends the batch again whose append failed, if there is one. The log stores it once, whatever happened before.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); the batch stays for the next retry.
    pub fn retry(&self, log: &Log) -> Result<Option<AppendOutcome>> {
        match self.partitions.lock().get_mut(log.name()) {
            Some(state) if state.unsettled.is_some() => state.settle(log).map(Some),
            _ => Ok(None),
        }
    }

    /// The first sequence in a partition: 0, or behind what this very epoch stored there.
    fn begin(&self, log: &Log) -> State {
        let increasing = log.options().producers.sequence_rule == crate::SequenceRule::Increasing;
        let next = self
            .last(log)
            .filter(|last| increasing || last.epoch == self.epoch)
            .map_or(Sequence(0), |last| last.last_sequence.plus(1));
        State { next, unsettled: None }
    }
}

impl State {
    fn settle(&mut self, log: &Log) -> Result<AppendOutcome> {
        let Some(batch) = &self.unsettled else { return Err(Error::Unsettled) };
        match log.append(batch) {
            Ok(outcome) => {
                self.next = batch.header().last_sequence().plus(1);
                self.unsettled = None;
                Ok(outcome)
            }
            // Refused for good: it is not stored, and never will be.
            Err(error @ (Error::Rejected(_) | Error::InvalidBatch(_))) => {
                self.unsettled = None;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

impl LastBatch {
    /// The offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.offsets.last + 1
    }
}
