//! The judge: reads the `.log` files themselves, batch by batch, and compares them with what was sent and with what was
//! promised. It asks the engine nothing.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use idemlog::{Batch, Batches, DEFAULT_MAX_DECOMPRESSED, RecordCheck};

use crate::identity::Identity;
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::{Result, TOPIC};

/// How many problems are told one by one.
const MAX_TOLD: usize = 10;

/// What the files hold, and what is wrong with it.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) lost: u64,
    pub(crate) stored_twice: u64,
    pub(crate) out_of_order: u64,
    /// Acknowledged, and not there under that offset and with that CRC.
    pub(crate) broken_promises: u64,
    /// Bytes, batches and records that nobody can have sent, or that stand where they cannot.
    pub(crate) damaged: u64,
    /// The first problems, in words.
    pub(crate) told: Vec<String>,
}

/// Reads back all partitions.
pub(crate) fn check(directory: &Path, lanes: &[Lane], ledger: &Ledger) -> Result<Findings> {
    let mut check = Check {
        ledger: ledger.clone(),
        sightings: lanes.iter().map(Sightings::of).collect(),
        found: Findings::default(),
    };
    let partitions = lanes.iter().map(|lane| lane.partition + 1).max().unwrap_or(0);
    (0..partitions).try_for_each(|partition| check.partition(directory, partition))?;
    Ok(check.finish())
}

struct Check {
    /// The promises that no batch has kept yet.
    ledger: Ledger,
    sightings: Vec<Sightings>,
    found: Findings,
}

/// Which records of one producer in one partition were seen.
struct Sightings {
    producer: usize,
    partition: usize,
    seen: Vec<bool>,
    /// The number behind the highest one seen.
    next: u64,
}

impl Sightings {
    fn of(lane: &Lane) -> Self {
        let seen = vec![false; lane.records as usize];
        Self { producer: lane.producer, partition: lane.partition, seen, next: 0 }
    }
}

impl Check {
    fn partition(&mut self, directory: &Path, partition: usize) -> Result {
        let mut next_offset = 0;
        for path in segments(&directory.join(format!("{TOPIC}-{partition}")))? {
            let bytes = Bytes::from(fs::read(&path)?);
            self.found.files += 1;
            self.found.bytes += bytes.len() as u64;
            for batch in Batches::new(bytes) {
                match batch.and_then(|batch| batch.check(RecordCheck::Full, DEFAULT_MAX_DECOMPRESSED)) {
                    Ok(batch) => self.batch(partition, &batch, &mut next_offset, &path),
                    Err(error) => self.damage(format!("{}: {error}", path.display())),
                }
            }
        }
        Ok(())
    }

    fn batch(&mut self, partition: usize, batch: &Batch, next_offset: &mut i64, path: &Path) {
        let header = batch.header();
        if header.base_offset.0 != *next_offset {
            self.damage(format!(
                "{}: offset {} where {next_offset} must be",
                path.display(),
                header.base_offset
            ));
        }
        *next_offset = header.next_offset().0;
        self.found.batches += 1;
        self.ledger.strike(partition, header.base_offset.0, header.crc);
        for record in batch.records() {
            let identity = record.ok().and_then(|record| Identity::of(record.value_slice()?));
            self.record(partition, identity);
        }
    }

    fn record(&mut self, partition: usize, identity: Option<Identity>) {
        self.found.records += 1;
        let sightings = identity.and_then(|record| {
            let here =
                |lane: &&mut Sightings| lane.producer == record.producer && lane.partition == partition;
            self.sightings.iter_mut().find(here).filter(|_| record.partition == partition)
        });
        let number = identity.map_or(0, |record| record.number);
        let Some((seen, next)) =
            sightings.and_then(|lane| lane.seen.get_mut(number as usize).map(|seen| (seen, &mut lane.next)))
        else {
            return self.damage(format!("partition {partition} has a record that nobody sent: {identity:?}"));
        };
        if std::mem::replace(seen, true) {
            self.found.stored_twice += 1;
        } else if number < *next {
            self.found.out_of_order += 1;
        }
        *next = (*next).max(number + 1);
    }

    fn damage(&mut self, problem: String) {
        self.found.damaged += 1;
        if self.found.told.len() < MAX_TOLD {
            self.found.told.push(problem);
        }
    }

    fn finish(mut self) -> Findings {
        let unseen = |lane: &Sightings| lane.seen.iter().filter(|seen| !**seen).count() as u64;
        self.found.lost = self.sightings.iter().map(unseen).sum();
        self.found.broken_promises = self.ledger.broken();
        self.found
    }
}

/// The partition's `.log` files. Their names are numbers of one length, so that they sort by offset.
fn segments(partition: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in fs::read_dir(partition)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
