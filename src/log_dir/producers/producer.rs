//! A producer for programs that embed both ends.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, ReentrantMutex};

use crate::batch::{Batch, BatchBuilder};
use crate::error::{Error, Result};
use crate::fs::name::TopicPartition;
use crate::log::{AppendOutcome, Log, LogId};
use crate::producer::SequenceRule;
use crate::types::{Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence};

/// Gives batches their sequences, per partition, and sends a batch again safely.
///
/// Made by [`LogDir::producer`](crate::LogDir::producer). A batch whose append failed stays with the producer until
/// [`retry`](Self::retry) has stored it, or it is refused; until then the partition takes no other batch from it, since
/// that would get the same sequence. Any thread may call it; its appends to one partition wait for each other.
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
    /// Locked one by one over appends: what waits for one partition's disk does not hold up the others.
    partitions: Mutex<HashMap<TopicPartition, Arc<ReentrantMutex<RefCell<State>>>>>,
}

/// Where the producer is in one partition.
#[derive(Debug)]
struct State {
    /// Which log of the partition's name `next` is for: it may have been deleted and created again, or opened again.
    log: LogId,
    /// `None`: behind the last one that there is, where they do not begin again.
    next: Option<Sequence>,
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

    /// The last batch that this producer, or one before it under the same id, stored in `log`. It may not be durable yet, as
    /// where the one before was still appending: a program that goes on behind it, or tells its source so, calls
    /// [`Log::sync`](crate::Log::sync) first. Of a poisoned log it says nothing certain; open it again.
    ///
    /// `None` also where the partition has forgotten what it stored: a producer with a name expires there like every other,
    /// a day after its last append unless [`expiry_ms`](crate::ProducerPolicy) says otherwise, or goes where there are
    /// more than the budget. A program that sends again from the beginning when it finds `None` needs an expiry that is longer
    /// than it may stand still, or looks into the log.
    pub fn last(&self, log: &Log) -> Option<LastBatch> {
        let info = log.producer(self.id)?;
        let last = info.batches.last()?;
        Some(LastBatch {
            epoch: info.batches_epoch,
            last_sequence: last.last_sequence,
            offsets: last.offsets,
        })
    }

    /// Stores the records that `batch` holds, under the next sequences of this producer, and waits until they are as durable
    /// as the log's [`Durability`](crate::Durability) says. What `batch` says about a producer is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Unsettled`] while an earlier batch is, also in a waker that an append or a retry of this producer in the same
    /// partition calls; nothing is sent. [`Error::SequencesExhausted`] behind sequence
    /// 2^31-1 under [`SequenceRule::Increasing`](crate::SequenceRule::Increasing): take another name.
    /// [`Error::Rejected`] when a newer incarnation has fenced this one, or when the partition has lost, by a truncation,
    /// what this producer stored there, or forgotten this producer; [`Error::InvalidBatch`]: this call has stored nothing, and the next one goes on behind
    /// what the partition has. After any other error that the log returns, the batch may be stored or not: call
    /// [`retry`](Self::retry).
    pub fn append(&self, log: &Log, batch: BatchBuilder) -> Result<AppendOutcome> {
        let state = {
            let mut partitions = self.partitions.lock();
            let begin = || Arc::new(ReentrantMutex::new(RefCell::new(self.begin(log))));
            Arc::clone(partitions.entry(log.name().clone()).or_insert_with(begin))
        };
        let state = state.lock();
        let mut state = to_change(&state)?;
        if state.unsettled.is_some() {
            return Err(Error::Unsettled);
        }
        if !state.log.is_of(log) {
            *state = self.begin(log);
        }
        let next = state.next.ok_or(Error::SequencesExhausted)?;
        let batch = batch.producer(self.id, self.epoch, next).build()?;
        state.unsettled = Some(batch);
        self.settle(&mut state, log)
    }

    /// Sends the batch again whose append failed, if there is one. The log stores it once, whatever happened before. `None`: there
    /// is none.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use idemlog::sim::{Fault, Operation, SimDisk};
    /// # use idemlog::{BatchBuilder, Error, IoMode, LogDir, LogDirOptions, Offset};
    /// # let disk = SimDisk::new(IoMode::Write);
    /// # let dir = LogDir::open("/data", LogDirOptions::default().disk(Arc::new(disk.clone())))?;
    /// let log = dir.partition("readings", 0)?;
    /// let sensor = dir.producer("sensor-7")?;
    /// # disk.inject(Fault::nth(Operation::Sync, 1).on("readings-0/")); // the disk fails in the middle
    /// let failed = sensor.append(&log, BatchBuilder::new().record(b"t", b"21.5"));
    /// assert!(matches!(failed, Err(Error::InDoubt))); // the sync failed: it is stored or not
    /// let next = sensor.append(&log, BatchBuilder::new().record(b"t", b"21.6"));
    /// assert!(matches!(next, Err(Error::Unsettled)));
    ///
    /// let log = dir.reopen_partition("readings", 0)?;
    /// sensor.retry(&log)?;
    /// assert_eq!(log.log_end_offset(), Offset(1)); // stored once
    /// sensor.append(&log, BatchBuilder::new().record(b"t", b"21.6"))?;
    /// # assert_eq!(log.log_end_offset(), Offset(2));
    /// # assert!(sensor.retry(&log)?.is_none());
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append); the batch stays for the next retry. Not after [`Error::Rejected`]: the log does not take
    /// this batch any more, and another may follow. But it may have been stored before, if a newer incarnation has fenced
    /// this one meanwhile, or the partition has forgotten the producer: [`last`](Self::last) tells what the newest stored
    /// batch is.
    pub fn retry(&self, log: &Log) -> Result<Option<AppendOutcome>> {
        let state = self.partitions.lock().get(log.name()).cloned();
        let Some(state) = state else { return Ok(None) };
        let state = state.lock();
        let mut state = to_change(&state)?;
        if state.unsettled.is_some() { self.settle(&mut state, log).map(Some) } else { Ok(None) }
    }

    /// The first sequence in a partition: 0, or behind what this very epoch stored there.
    fn begin(&self, log: &Log) -> State {
        let last = self.last(log).filter(|last| is_increasing(log) || last.epoch == self.epoch);
        let next = last.map_or(Some(Sequence(0)), |last| behind(last.last_sequence, log));
        State { log: log.id(), next, unsettled: None }
    }

    fn settle(&self, state: &mut State, log: &Log) -> Result<AppendOutcome> {
        let Some(batch) = &state.unsettled else { return Err(Error::Unsettled) };
        match log.append(batch) {
            Ok(outcome) => {
                let next = behind(batch.header().last_sequence(), log);
                *state = State { log: log.id(), next, unsettled: None };
                Ok(outcome)
            }
            // Refused for good under this sequence, and not sent under another: it may have been stored before, also one that
            // the log's options have come to forbid meanwhile.
            Err(error @ (Error::Rejected(_) | Error::InvalidBatch(_))) => {
                *state = self.begin(log);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }
}

/// The state, unless its holder is in the middle of an append, which called a waker that has come here.
fn to_change(state: &RefCell<State>) -> Result<RefMut<'_, State>> {
    state.try_borrow_mut().map_err(|_| Error::Unsettled)
}

fn is_increasing(log: &Log) -> bool {
    log.options().producers.sequence_rule == SequenceRule::Increasing
}

/// The sequence behind `last`, by the log's rule.
fn behind(last: Sequence, log: &Log) -> Option<Sequence> {
    if is_increasing(log) { last.0.checked_add(1).map(Sequence) } else { Some(last.plus(1)) }
}

impl LastBatch {
    /// The offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.offsets.last + 1
    }
}
