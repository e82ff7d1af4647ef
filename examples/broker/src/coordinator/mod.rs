//! The coordinator of transactions: who owns a transactional id, and how its transactions end.
//!
//! What a request makes of a state is decided in [`transaction`]; here it becomes true: the state is on the disk before it
//! counts, and before anything that follows from it. So a crash leaves a decided transaction decided, and the next start
//! writes the markers that are missing; one that nobody decided is aborted when its time is up.

mod journal;
mod record;
mod transaction;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use idemlog::{AppendOptions, Clock, Error, LogDir, Pending, ProducerEpoch, SystemClock, TopicPartition};
use kafka_protocol::error::ResponseError;
use parking_lot::{Mutex, RwLock};

use crate::broker::{Broker, blocking};
use crate::log;
use journal::Journal;
pub(crate) use transaction::{Outcome, Owner};
use transaction::{Phase, Transaction};

/// The longest that a producer may leave a transaction open.
const MAX_TIMEOUT_MS: i32 = 15 * 60 * 1000;
/// How often transactions are looked at whose time may be up.
const TICK: Duration = Duration::from_secs(1);

type Result<T> = std::result::Result<T, ResponseError>;

/// A transactional id. Locked while it changes, which takes as long as the disk does. `None` until it has an owner.
type Entry = Arc<Mutex<Option<Transaction>>>;

pub(crate) struct Coordinator {
    dir: LogDir,
    journal: Journal,
    entries: RwLock<HashMap<String, Entry>>,
}

impl Coordinator {
    /// Reads the states, and ends the transactions that are decided. All states are written again, so that the epoch of
    /// this start is on the disk before the first marker is. Blocks.
    pub(crate) fn open(dir: LogDir) -> anyhow::Result<Self> {
        let (journal, states) = Journal::open(&dir)?;
        let entries = states.into_iter().map(|(name, state)| (name, Arc::new(Mutex::new(Some(state)))));
        let coordinator = Self { dir, journal, entries: RwLock::new(entries.collect()) };
        coordinator.rewrite()?;
        coordinator.tick();
        Ok(coordinator)
    }

    /// The next owner of a transactional id. Who claims to be the owner already gets a higher epoch; an open transaction
    /// of another is aborted, and its producer fenced. Blocks, like the others.
    pub(crate) fn next_owner(&self, name: &str, claimed: Option<Owner>, timeout_ms: i32) -> Result<Owner> {
        if name.is_empty() || name.len() > record::MAX_NAME {
            return Err(ResponseError::InvalidRequest);
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let entry = Arc::clone(self.entries.write().entry(name.to_owned()).or_default());
        let mut current = entry.lock();
        let next = match &mut *current {
            None => Transaction::new(self.new_owner()?, timeout_ms),
            Some(state) if state.was_given_to(claimed)? => return Ok(state.owner),
            Some(state) => {
                self.abort(name, state)?;
                let owner = state.owner.next().map_or_else(|| self.new_owner(), Ok)?;
                Transaction::owned_by(owner, claimed, timeout_ms)
            }
        };
        self.write(name, &next)?;
        Ok(current.insert(next).owner)
    }

    /// Adds partitions to a transaction, which begins with the first.
    pub(crate) fn add(&self, name: &str, owner: Owner, partitions: &BTreeSet<TopicPartition>) -> Result<()> {
        self.with(name, |state| match state.adding(owner, partitions, SystemClock.now())? {
            Some(next) => self.change(name, state, next),
            None => Ok(()),
        })
    }

    /// Ends a transaction, everywhere.
    pub(crate) fn end(&self, name: &str, owner: Owner, outcome: Outcome) -> Result<()> {
        self.with(name, |state| {
            if let Some(next) = state.ending(owner, outcome)? {
                self.change(name, state, next)?;
            }
            self.finish(name, state)
        })
    }

    /// Whether an owner's transaction has a partition.
    pub(crate) fn confirm(&self, name: &str, owner: Owner, partition: &TopicPartition) -> Result<()> {
        self.with(name, |state| state.check_holds(owner, partition))
    }

    /// Aborts transactions whose time is up, and ends those that are decided and could not be ended then. A transactional
    /// id that is being changed has its turn the next time.
    fn tick(&self) {
        for (name, entry) in self.entries() {
            if let Some(mut current) = entry.try_lock()
                && let Some(state) = &mut *current
            {
                let is_overdue = state.is_overdue(SystemClock.now());
                // What went wrong was logged where it did; the next tick tries again.
                let _ = if is_overdue { self.abort(&name, state) } else { self.finish(&name, state) };
            }
        }
        if self.journal.is_too_long(self.entries.read().len()) {
            self.rewrite().unwrap_or_else(|error| log(format_args!("rewrite the transaction log: {error}")));
        }
    }

    /// Writes all states again, and forgets what was before them.
    fn rewrite(&self) -> idemlog::Result<()> {
        let begin = self.journal.begin_again()?;
        let mut written = Vec::new();
        for (name, entry) in self.entries() {
            // What changes later is written behind this.
            if let Some(state) = &*entry.lock() {
                written.push(self.journal.submit(&name, state)?);
            }
        }
        written.into_iter().try_for_each(|pending| pending.wait().map(|_| ()))?;
        self.journal.forget(begin)
    }

    fn entries(&self) -> Vec<(String, Entry)> {
        self.entries.read().iter().map(|(name, entry)| (name.clone(), Arc::clone(entry))).collect()
    }

    fn new_owner(&self) -> Result<Owner> {
        let id = self.dir.new_producer_id().map_err(|error| unavailable("get a producer id", &error))?;
        Ok(Owner { id, epoch: ProducerEpoch(0) })
    }

    /// Looks at a transactional id that has an owner.
    fn with<T>(&self, name: &str, look: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
        let entry = self.entries.read().get(name).cloned();
        let entry = entry.ok_or(ResponseError::InvalidProducerIdMapping)?;
        let mut current = entry.lock();
        look(current.as_mut().ok_or(ResponseError::InvalidProducerIdMapping)?)
    }

    /// Ends an open transaction without its owner.
    fn abort(&self, name: &str, state: &mut Transaction) -> Result<()> {
        if let Some(next) = state.fenced() {
            self.change(name, state, next)?;
        }
        self.finish(name, state)
    }

    /// Writes the markers of a decided transaction, all at the same time. If one cannot be written, all are written again
    /// later: a marker does no harm twice, as the owner begins no other transaction before all are there.
    fn finish(&self, name: &str, state: &mut Transaction) -> Result<()> {
        let (Some(next), Phase::Ending(outcome)) = (state.ended(), state.phase) else {
            return Ok(());
        };
        let submit = |partition| (partition, self.submit_marker(partition, state.owner, outcome));
        let submitted: Vec<_> = state.partitions.iter().map(submit).collect();
        let mut finished = Ok(());
        for (partition, marker) in submitted {
            if let Err(error) = marker.and_then(wait_for_marker) {
                log(format_args!("end a transaction in {partition}: {error}"));
                finished = Err(ResponseError::ConcurrentTransactions);
            }
        }
        finished?;
        self.change(name, state, next)
    }

    /// Begins to write a marker. A partition that is not there any more needs none.
    fn submit_marker(
        &self,
        partition: &TopicPartition,
        owner: Owner,
        outcome: Outcome,
    ) -> idemlog::Result<Option<Pending>> {
        let marker = outcome.marker(self.journal.coordinator_epoch());
        let Some(log) = self.dir.find(partition.topic(), partition.partition())? else { return Ok(None) };
        match log.submit_end_transaction(owner.id, owner.epoch, marker, AppendOptions::default()) {
            Err(Error::Gone) => Ok(None),
            submitted => submitted.map(Some),
        }
    }

    fn change(&self, name: &str, state: &mut Transaction, next: Transaction) -> Result<()> {
        self.write(name, &next)?;
        *state = next;
        Ok(())
    }

    fn write(&self, name: &str, state: &Transaction) -> Result<()> {
        self.journal.append(name, state).map_err(|error| unavailable("write a transaction's state", &error))
    }
}

/// Waits until the disk has it, or the partition is gone.
fn wait_for_marker(marker: Option<Pending>) -> idemlog::Result<()> {
    match marker.map_or(Ok(Vec::new()), Pending::wait) {
        Ok(_) | Err(Error::Gone) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Lets a client try again: nothing was changed, or what it wants already was.
fn unavailable(what: &str, error: &Error) -> ResponseError {
    log(format_args!("{what}: {error}"));
    ResponseError::CoordinatorNotAvailable
}

/// Ends transactions whose time is up, for ever.
pub(crate) async fn watch_the_time(broker: &Arc<Broker>) {
    loop {
        tokio::time::sleep(TICK).await;
        let broker = Arc::clone(broker);
        if let Err(error) = blocking(move || broker.coordinator.tick()).await {
            log(format_args!("{error:#}"));
        }
    }
}
