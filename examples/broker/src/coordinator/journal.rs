//! The states of all transactional ids on the disk: a partition of the broker's own, with a record for each change. The
//! last record of an id counts.
//!
//! The partition's leader epoch is the coordinator's epoch, and rises with each start: a marker from before is never
//! newer than one from now.

use std::collections::HashMap;

use anyhow::Context;
use idemlog::{
    AppendOptions, BatchBuilder, Clock, Durability, LeaderEpoch, Log, LogDir, Offset, Origin, Pending,
    Result, SystemClock,
};

use super::record;
use super::transaction::Transaction;
use crate::topics;

/// How many records there may be for each transactional id, on average, and how many in any case.
const RECORDS_PER_ID: i64 = 16;
const RECORDS: i64 = 100_000;

pub(super) struct Journal {
    log: Log,
}

impl Journal {
    /// Opens the partition, created if missing, and reads the states. The epoch is a new one; it is on the disk with the
    /// first record.
    pub(super) fn open(dir: &LogDir) -> anyhow::Result<(Self, HashMap<String, Transaction>)> {
        let log = dir.partition(topics::TRANSACTION_STATE, 0)?;
        let states = read(&log).with_context(|| format!("read {}", log.name()))?;
        log.set_leader_epoch(LeaderEpoch(log.leader_epoch().0.saturating_add(1)));
        Ok((Self { log }, states))
    }

    pub(super) fn coordinator_epoch(&self) -> i32 {
        self.log.leader_epoch().0
    }

    /// Writes a state, and waits until the disk has it.
    pub(super) fn append(&self, name: &str, state: &Transaction) -> Result<()> {
        self.submit(name, state)?.wait().map(|_| ())
    }

    /// Writes a state.
    pub(super) fn submit(&self, name: &str, state: &Transaction) -> Result<Pending> {
        let now = SystemClock.now();
        let (key, value) = (record::encode_key(name), record::encode_value(state, now));
        let batch = BatchBuilder::new().timestamp(now).record(key, value).build()?;
        let options = AppendOptions::default().origin(Origin::Coordinator).durability(Durability::Synced);
        self.log.submit(&[batch], options)
    }

    /// Whether most of the records are of no use any more, with so many transactional ids.
    pub(super) fn is_too_long(&self, ids: usize) -> bool {
        let records = self.log.log_end_offset() - self.log.log_start_offset();
        records > RECORDS.max(RECORDS_PER_ID.saturating_mul(ids as i64))
    }

    /// Begins a segment for the states that are written next, and tells its offset.
    pub(super) fn begin_again(&self) -> Result<Offset> {
        self.log.roll()?;
        Ok(self.log.log_end_offset())
    }

    /// Forgets the records before an offset, behind which all states were written again.
    pub(super) fn forget(&self, before: Offset) -> Result<()> {
        self.log.delete_records(before).map(|_| ())
    }
}

fn read(log: &Log) -> anyhow::Result<HashMap<String, Transaction>> {
    let mut states = HashMap::new();
    for batch in log.reader(log.log_start_offset())?.to_log_end() {
        for record in batch?.records() {
            let record = record?;
            let key = record::decode_key(record.key_slice().unwrap_or_default())?;
            states.insert(key, record::decode_value(record.value_slice().unwrap_or_default())?);
        }
    }
    Ok(states)
}
