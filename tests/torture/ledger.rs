//! What the processes were told, kept outside of them.

use std::collections::BTreeMap;
use std::fmt;

use idemlog::{Batch, Log, Offset};

/// What a thread does to the log besides appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Truncating,
    Truncated,
    Deleting,
    Deleted,
}

const WORDS: [(Told, &str); 4] = [
    (Told::Truncating, "truncating"),
    (Told::Truncated, "truncated"),
    (Told::Deleting, "deleting"),
    (Told::Deleted, "deleted"),
];

/// The line that says that a batch was acknowledged.
pub fn acknowledged(log: &Log, batch: &Batch, offset: Offset) -> String {
    let header = batch.header();
    let (id, sequence) = (header.producer_id, header.base_sequence);
    format!(
        "ack {} {offset} {} {id} {sequence} {}",
        log.name().partition(),
        header.last_offset_delta + 1,
        header.crc
    )
}

/// The line that says what is being done.
pub fn said(log: &Log, told: Told, offset: Offset) -> String {
    let (_, word) = WORDS.iter().find(|(known, _)| *known == told).unwrap();
    format!("{word} {} {offset}", log.name().partition())
}

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Acknowledged {
    count: i64,
    producer_id: i64,
    sequence: i64,
    crc: i64,
}

/// What must be in one partition.
#[derive(Clone, Debug, Default)]
struct Partition {
    /// By offset.
    batches: BTreeMap<i64, Acknowledged>,
    /// A truncation that may have happened.
    truncating: Option<i64>,
    /// Below this, records may be gone; below `deleted` they are.
    deleting: i64,
    deleted: i64,
}

/// Everything that was told, over all processes so far.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    partitions: BTreeMap<i64, Partition>,
    pub acknowledged: u64,
    truncations: u64,
    deletions: u64,
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, truncations, deletions, .. } = self;
        write!(f, "{acknowledged} batches acknowledged, {truncations} truncations, {deletions} deletions")
    }
}

impl Ledger {
    /// Takes over what a process said.
    pub fn note(&mut self, line: &str) {
        let mut words = line.split(' ');
        let word = words.next().unwrap_or_default();
        let numbers: Vec<i64> = words.map_while(|number| number.parse().ok()).collect();
        let told = WORDS.iter().find(|(_, known)| *known == word).map(|(told, _)| *told);
        match (told, word, &*numbers) {
            (None, "ack", &[partition, offset, count, producer_id, sequence, crc]) => {
                let batch = Acknowledged { count, producer_id, sequence, crc };
                self.partitions.entry(partition).or_default().batches.insert(offset, batch);
                self.acknowledged += 1;
            }
            (Some(told), _, &[partition, offset]) => self.note_change(told, partition, offset),
            // The test harness says something, too.
            _ => {}
        }
    }

    fn note_change(&mut self, told: Told, partition: i64, offset: i64) {
        let partition = self.partitions.entry(partition).or_default();
        match told {
            Told::Truncating => partition.truncating = Some(offset),
            Told::Truncated => {
                partition.truncating = None;
                partition.batches.retain(|first, batch| first + batch.count <= offset);
                partition.deleting = partition.deleting.min(offset);
                partition.deleted = partition.deleted.min(offset);
                self.truncations += 1;
            }
            Told::Deleting => partition.deleting = partition.deleting.max(offset),
            Told::Deleted => {
                partition.deleted = partition.deleted.max(offset);
                self.deletions += 1;
            }
        }
    }

    /// Holds a partition that was just opened against what was told, and settles what was open.
    pub fn check(&mut self, log: &Log) -> Vec<String> {
        let partition = self.partitions.entry(i64::from(log.name().partition())).or_default();
        let mut problems = partition.missing(log);
        problems.extend(doubled(log));
        partition.settle(log);
        problems.into_iter().map(|problem| format!("{}: {problem}", log.name())).collect()
    }
}

impl Partition {
    /// What was acknowledged, and is not there as it was.
    fn missing(&self, log: &Log) -> Vec<String> {
        let stored = stored(log);
        let start = log.log_start_offset().0;
        let mut problems = Vec::new();
        if start > self.deleting.max(0) {
            problems
                .push(format!("it begins at {start}, and was told to begin at {} at most", self.deleting));
        }
        if start < self.deleted.min(self.truncating.unwrap_or(i64::MAX)) {
            problems.push(format!("it begins at {start}, and {} was acknowledged", self.deleted));
        }
        for (offset, batch) in &self.batches {
            let may_be_cut = self.truncating.is_some_and(|target| offset + batch.count > target);
            let is_deleted = offset + batch.count <= start.max(self.deleting);
            if stored.get(offset) != Some(batch) && !may_be_cut && !is_deleted {
                problems
                    .push(format!("acknowledged at {offset}: {batch:?}, there is {:?}", stored.get(offset)));
            }
        }
        problems
    }

    /// What may have happened has happened or not: the log tells.
    fn settle(&mut self, log: &Log) {
        let stored = stored(log);
        self.batches = stored;
        self.truncating = None;
        self.deleting = log.log_start_offset().0;
        self.deleted = self.deleting;
    }
}

fn stored(log: &Log) -> BTreeMap<i64, Acknowledged> {
    let reader = log.reader(log.log_start_offset()).unwrap();
    reader
        .map(|batch| {
            let header = *batch.unwrap().header();
            let batch = Acknowledged {
                count: header.next_offset() - header.base_offset,
                producer_id: header.producer_id.0,
                sequence: i64::from(header.base_sequence.0),
                crc: i64::from(header.crc),
            };
            (header.base_offset.0, batch)
        })
        .collect()
}

/// Every producer's sequences follow each other, one by one.
fn doubled(log: &Log) -> Vec<String> {
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    let mut problems = Vec::new();
    for (offset, batch) in stored(log) {
        let expected = next.insert(batch.producer_id, batch.sequence + batch.count);
        if expected.is_some_and(|expected| expected != batch.sequence) {
            problems.push(format!("at {offset}: {batch:?}, expected sequence {expected:?}"));
        }
    }
    problems
}
