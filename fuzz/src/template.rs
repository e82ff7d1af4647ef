//! Sound partitions to damage.

use std::path::Path;
use std::sync::OnceLock;

use idemlog::sim::SimDisk;
use idemlog::{
    Batch, BatchBuilder, Compression, ControlRecord, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use crate::files::{self, Files};
use crate::sim::{Host, PARTITION, mode, small};

/// A partition and what the checkpoints say of it.
#[derive(Debug)]
pub struct Template {
    pub files: Files,
    pub log_end: i64,
    /// The bases of the segments.
    pub bases: Vec<i64>,
}

/// A log of several segments, and the same as a process left it that was killed.
pub fn all() -> &'static [Template; 3] {
    static TEMPLATES: OnceLock<[Template; 3]> = OnceLock::new();
    TEMPLATES.get_or_init(|| [make(5, true), make(5, false), make(1, false)])
}

/// A batch of an idempotent producer.
pub fn batch(producer: i64, epoch: i16, sequence: i32, count: usize, timestamp: i64) -> Batch {
    let builder = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(epoch), Sequence(sequence))
        .timestamp(Timestamp(timestamp))
        .compression(if timestamp % 5 == 4 { Compression::Zstd } else { Compression::None });
    let value = "v".repeat(20 + (timestamp % 60).unsigned_abs() as usize);
    (0..count).fold(builder, |builder, at| builder.record(format!("{at}"), &value)).build().unwrap()
}

/// A transaction marker, which only replication would store: for seeds.
pub fn marker(producer: i64) -> Batch {
    BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), Sequence::NONE)
        .timestamp(Timestamp(5))
        .control(ControlRecord::Commit { coordinator_epoch: 1 })
        .build()
        .unwrap()
}

fn make(rounds: i32, close: bool) -> Template {
    let host = Host::new(SimDisk::new(mode(false)), small());
    let (dir, log) = host.open_log().unwrap();
    for round in 0..rounds {
        for producer in 1..4 {
            let epoch = i16::from(producer == 3 && round > 2);
            let sequence = if epoch > 0 { (round - 3) * 3 } else { round * 3 };
            log.append(&batch(producer, epoch, sequence, 3, i64::from(round) * 10 + producer)).unwrap();
        }
        if round == 2 {
            log.roll().unwrap();
        }
    }
    let log_end = log.log_end_offset().0;
    if close {
        dir.close().unwrap();
    }
    drop((dir, log));
    let mut files = files::read(&host.disk, Path::new(PARTITION));
    // What is allocated ahead would only make room for mutations that nobody sees.
    files.iter_mut().filter(|(name, _)| name.ends_with(".log")).for_each(|(_, bytes)| trim(bytes));
    let base = |name: &str| name.strip_suffix(".log").and_then(|digits| digits.parse().ok());
    let bases = files.iter().filter_map(|(name, _)| base(name)).collect();
    Template { files, log_end, bases }
}

fn trim(bytes: &mut Vec<u8>) {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end + 8);
}
