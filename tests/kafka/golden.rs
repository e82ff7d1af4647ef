//! The golden cases: what was appended, the directory that Kafka left, and what Kafka itself loads from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::compare::Comparison;
use crate::differences::Differences;
use crate::model::{Aborted, Log};
use crate::model::{Entry, Found, Load, Origin, Outcome, Segment, Settings, StoredBatch};
use crate::record_batch::{Batch, Content, Marker, Records, split};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub directory: PathBuf,
    pub settings: Settings,
    pub expected: Value,
}

/// One way to open a case's directory.
#[derive(Clone, Debug)]
pub struct Opening {
    pub name: String,
    pub load: Load,
    /// Whether every index and snapshot is deleted before.
    pub from_log_alone: bool,
    pub recorded: Value,
}

impl Case {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        let config = &expected["config"];
        let settings = Settings {
            partition: "golden-0".to_owned(),
            segment_bytes: number(config, "segment.bytes").unwrap_or(1 << 30) as usize,
            segment_ms: number(config, "segment.ms").unwrap_or(7 * 24 * 60 * 60 * 1000),
            max_batch_bytes: number(config, "max.message.bytes").unwrap_or((1 << 20) + 12) as usize,
            expiry_ms: number(config, "producer.id.expiration.ms").unwrap_or(86_400_000),
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, directory: path.join("golden-0"), settings, expected }
    }

    pub fn openings(&self) -> Vec<Opening> {
        let loads = self.expected["loads"].as_object().unwrap();
        loads.iter().map(|(name, recorded)| opening(name, recorded)).collect()
    }

    /// Appends everything, and compares Kafka's decisions with the log's. Returns those that are not the same.
    pub fn append_all(&self, log: &mut Log) -> Vec<String> {
        let appends = self.expected["appends"].as_array().unwrap();
        let mut wrong = Vec::new();
        for (at, append) in appends.iter().enumerate() {
            let (sent, origin) = sent(append);
            let outcome = log.append(&sent, int(append, "leaderEpoch") as i32, origin);
            if !is_recorded(append, &outcome) {
                wrong.push(format!("append {at}: {append}, got {outcome:?}"));
            }
        }
        wrong.extend(self.move_log_start(log));
        wrong
    }

    /// A log that begins above 0 was deleted from before it was closed.
    fn move_log_start(&self, log: &mut Log) -> Option<String> {
        let before = &self.expected["stateBeforeClose"];
        let start = int(before, "logStartOffset");
        if start == 0 {
            return None;
        }
        log.increment_log_start(start);
        if before["segments"][0]["baseOffset"] != 0 {
            log.delete_old_segments();
        }
        None
    }

    pub fn was_closed(&self) -> bool {
        self.expected["writer"]["cleanShutdown"].as_bool().unwrap()
    }

    /// Every file of the directory.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(&self.directory).unwrap().map(Result::unwrap);
        let file = |entry: std::fs::DirEntry| {
            (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).unwrap())
        };
        entries.map(file).collect()
    }

    /// What the directory holds.
    pub fn found(&self) -> Found {
        let mut found = Found::default();
        for entry in std::fs::read_dir(&self.directory).unwrap() {
            let path = entry.unwrap().path();
            let (stem, extension) = (stem(&path), extension(&path));
            match (extension.as_str(), stem.parse::<i64>()) {
                ("log", Ok(base)) => {
                    found.segments.insert(base, read_segment(&self.directory, base));
                }
                ("snapshot", Ok(at)) => {
                    found.snapshots.insert(at, read_snapshot(&std::fs::read(&path).unwrap()));
                }
                _ => {}
            }
        }
        found.leader_epochs = read_leader_epochs(&self.directory.join("leader-epoch-checkpoint"));
        found
    }
}

impl Case {
    /// Compares what the log would leave on the disk with what lies there, as far as it was not damaged.
    pub fn compare_files(&self, log: &Log, comparison: &mut Comparison) {
        let found = self.found();
        for (base, segment) in &found.segments {
            let own = log.segments.get(base).map(|segment| segment.batches.as_slice()).unwrap_or_default();
            for (at, batch) in segment.batches.iter().enumerate().filter(|(_, batch)| batch.is_sound) {
                let place = format!("{} segment {base} batch {at}", self.name);
                let is_known = own.get(at).is_some_and(|own| own.bytes.is_empty() && own.size == batch.size);
                comparison.same(&place, &Some(batch), &if is_known { Some(batch) } else { own.get(at) });
            }
        }
        for (at, entries) in found.snapshots.iter().filter_map(|(at, entries)| Some((at, entries.as_ref()?)))
        {
            let own = log.snapshots.get(at).and_then(Option::as_ref);
            let own: Option<BTreeMap<i64, Entry>> = own.map(|entries| {
                entries.iter().map(|(id, entry)| (*id, entry.read_back(&Differences::NONE))).collect()
            });
            comparison.same(&format!("{} snapshot {at}", self.name), &Some(entries), &own.as_ref());
        }
        comparison.same(&format!("{} leader epochs", self.name), &found.leader_epochs, &log.leader_epochs);
    }
}

impl Found {
    /// Without every index and snapshot.
    pub fn log_alone(mut self) -> Self {
        self.snapshots.clear();
        for segment in self.segments.values_mut() {
            segment.is_indexed = false;
            segment.indexed_position = 0;
            segment.aborted.clear();
            segment.has_sound_transaction_index = false;
            segment.has_foreign_transactions = false;
            segment.timestamp_in_index = None;
        }
        self
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().into_owned()
}

fn opening(name: &str, recorded: &Value) -> Opening {
    let arguments = &recorded["loadArgs"];
    let load = Load {
        clean: arguments["hadCleanShutdown"].as_bool().unwrap(),
        log_start: int(arguments, "logStartOffsetCheckpoint"),
        recovery_point: int(arguments, "recoveryPointCheckpoint"),
        now: int(arguments, "nowMs"),
    };
    let from_log_alone = name.ends_with("indexesAndSnapshotsDeleted");
    Opening { name: name.to_owned(), load, from_log_alone, recorded: recorded.clone() }
}

/// Numbers in the settings stand as numbers or as text.
fn number(value: &Value, key: &str) -> Option<i64> {
    value[key].as_i64().or_else(|| value[key].as_str()?.parse().ok())
}

fn int(value: &Value, key: &str) -> i64 {
    number(value, key).unwrap_or_else(|| panic!("no number {key} in {value}"))
}

/// The batch of an entry of `appends`, and who sent it.
fn sent(append: &Value) -> (Batch, Origin) {
    let content = |base_sequence, transactional, records| Content {
        producer_id: int(append, "producerId"),
        producer_epoch: int(append, "producerEpoch") as i16,
        base_sequence,
        transactional,
        timestamp: int(append, "timestamp"),
        records,
    };
    if append["kind"] == "marker" {
        let abort = append["type"] == "ABORT";
        let marker = Marker { abort, coordinator_epoch: int(append, "coordinatorEpoch") as i32 };
        return (content(-1, true, Records::Marker(marker)).encode(), Origin::Coordinator);
    }
    let (count, value_size) = (int(append, "count") as i32, int(append, "valueSize") as usize);
    let transactional = append["transactional"].as_bool().unwrap();
    let records = Records::Data { count, value_size };
    let sent = content(int(append, "baseSequence") as i32, transactional, records).encode();
    let size = int(append, "sizeInBytes") as usize;
    let is_compressed = append["compression"] != "none";
    (if is_compressed { sent.compressed_to(size) } else { sent }, Origin::Client)
}

fn is_recorded(append: &Value, outcome: &Outcome) -> bool {
    let offsets = |first: i64, last: i64| append["baseOffset"] == first && append["lastOffset"] == last;
    match outcome {
        Outcome::Appended { first, last, .. } => append["result"] == "ok" && offsets(*first, *last),
        Outcome::Duplicate { original, .. } => {
            append["result"] == "duplicate" && offsets(original.first_offset, original.last_offset)
        }
        Outcome::Refused { refusal, .. } => {
            append["result"] == "error" && append["exception"] == refusal.exception
        }
        Outcome::Done(_) | Outcome::Noop => false,
    }
}

fn read_segment(directory: &Path, base: i64) -> Segment {
    let file = |extension| std::fs::read(directory.join(format!("{base:020}.{extension}"))).ok();
    let (batches, tail) = split(&file("log").unwrap());
    let index = file("index");
    let aborted = file("txnindex").map(|bytes| read_aborted(&bytes));
    let timestamps = file("timeindex").unwrap_or_default();
    let last_time = timestamps.chunks_exact(12).next_back();
    let has_foreign_transactions = aborted.iter().flatten().any(|aborted| aborted.last_offset < base);
    Segment {
        base_offset: base,
        batches,
        tail,
        is_indexed: index.is_some(),
        indexed_position: indexed_position(&index.unwrap_or_default()),
        has_sound_transaction_index: aborted.is_some() && !has_foreign_transactions,
        has_foreign_transactions,
        aborted: aborted.unwrap_or_default(),
        timestamp_in_index: Some(last_time.map_or(-1, |entry| i64::from_be_bytes(array(entry, 0)))),
    }
}

fn indexed_position(index: &[u8]) -> usize {
    index.chunks_exact(8).next_back().map_or(0, |entry| i32::from_be_bytes(array(entry, 4)) as usize)
}

fn read_aborted(bytes: &[u8]) -> Vec<Aborted> {
    bytes
        .chunks_exact(34)
        .map(|entry| Aborted {
            producer_id: i64::from_be_bytes(array(entry, 2)),
            first_offset: i64::from_be_bytes(array(entry, 10)),
            last_offset: i64::from_be_bytes(array(entry, 18)),
            last_stable_offset: i64::from_be_bytes(array(entry, 26)),
        })
        .collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

/// `None` for a file that is not sound.
fn read_snapshot(bytes: &[u8]) -> Option<BTreeMap<i64, Entry>> {
    const ENTRIES: usize = 10;
    let is_sound = bytes.len() >= ENTRIES
        && i16::from_be_bytes(array(bytes, 0)) == 1
        && u32::from_be_bytes(array(bytes, 2)) == crc32c::crc32c(&bytes[6..]);
    let count = is_sound.then(|| i32::from_be_bytes(array(bytes, 6)) as usize)?;
    let entries: Vec<&[u8]> = bytes[ENTRIES..].chunks_exact(46).take(count).collect();
    (entries.len() == count).then(|| entries.into_iter().map(read_entry).collect())
}

fn read_entry(bytes: &[u8]) -> (i64, Entry) {
    let long = |at| i64::from_be_bytes(array(bytes, at));
    let int = |at| i32::from_be_bytes(array(bytes, at));
    let (last_sequence, last_offset, delta) = (int(10), long(14), int(22));
    let batch = StoredBatch {
        first_sequence: before(last_sequence, delta),
        last_sequence,
        first_offset: last_offset - i64::from(delta),
        last_offset,
        timestamp: long(26),
    };
    let entry = Entry {
        epoch: i16::from_be_bytes(array(bytes, 8)),
        coordinator_epoch: int(34),
        last_timestamp: long(26),
        transaction_first: Some(long(38)).filter(|first| *first >= 0),
        batches: if last_offset >= 0 { vec![batch] } else { Vec::new() },
    };
    (long(0), entry)
}

/// The sequence that lies `delta` before.
fn before(sequence: i32, delta: i32) -> i32 {
    (i64::from(sequence) - i64::from(delta)).rem_euclid(1 << 31) as i32
}

/// Lines of epoch and start offset behind a version and a count.
fn read_leader_epochs(path: &Path) -> Vec<(i32, i64)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let (epoch, start) = line.split_once(' ')?;
        Some((epoch.parse().ok()?, start.parse().ok()?))
    };
    text.lines().skip(2).filter_map(entry).collect()
}
