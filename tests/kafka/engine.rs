//! The engine, asked to do what the model does: over a simulated disk, so that a process can die and a file be torn.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use idemlog::sim::SimDisk;
use idemlog::{
    Access, AppendOptions, AppendOutcome, Batch, Clock, CorruptionPolicy, Disk, Durability, Error,
    ExpiryClock, FirstAppend, IoMode, LeaderEpoch, Log, LogDir, LogDirOptions, LogOptions, Offset, Origin,
    ProducerPolicy, Timestamp,
};
use serde_json::{Value, json};

use crate::kafka_json;
use crate::model::{Load, Settings};
use crate::record_batch;

const DIRECTORY: &str = "/data";

/// A clock that stands where it was put.
#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// What the engine answered, as far as model and engine can say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Appended { first: i64, last: i64 },
    Duplicate { first: i64, last: i64, timestamp: i64 },
    Refused { exception: &'static str },
    Deleted(i64),
    Unchanged,
    Done,
}

/// One partition of the engine.
pub struct Engine {
    settings: Settings,
    mode: IoMode,
    disk: SimDisk,
    clock: Arc<SetClock>,
    open: Option<(LogDir, Log)>,
}

impl Engine {
    /// A disk with nothing on it.
    pub fn new(settings: &Settings, mode: IoMode) -> Self {
        let disk = SimDisk::new(mode);
        Self { settings: settings.clone(), mode, disk, clock: Arc::default(), open: None }
    }

    fn topic(&self) -> &str {
        self.settings.partition.trim_end_matches("-0")
    }

    fn directory(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.settings.partition)
    }

    /// Puts a file of the partition onto the disk.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.write(&self.directory().join(name), bytes);
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        self.disk.create_directory(path.parent().unwrap()).unwrap();
        let _ = self.disk.remove_file(path);
        self.disk.open(path, Access::CreateNew).unwrap().write_at(bytes, 0).unwrap();
    }

    pub fn set_time(&self, now: i64) {
        self.clock.0.store(now, Ordering::Relaxed);
    }

    /// Opens the directory as it is.
    pub fn open(&mut self) -> Result<(), Error> {
        let dir = LogDir::open(DIRECTORY, self.options())?;
        let log = dir.partition(self.topic(), 0)?;
        self.open = Some((dir, log));
        Ok(())
    }

    fn options(&self) -> LogDirOptions {
        let settings = &self.settings;
        let producers = ProducerPolicy::default()
            .window(5)
            .first_append(FirstAppend::AcceptAny)
            .expiry_clock(ExpiryClock::RecordTimestamp)
            .expiry_ms(settings.expiry_ms);
        let log = LogOptions::default()
            .producers(producers)
            .segment_bytes(settings.segment_bytes as u32)
            .segment_ms(settings.segment_ms)
            .retention_interval_ms(i64::MAX)
            .index_interval_bytes(512)
            .segment_index_bytes(65_536)
            .max_batch_bytes(settings.max_batch_bytes as u32)
            .corruption(CorruptionPolicy::CutAndKeep)
            .durability(Durability::Synced)
            .io_mode(Some(self.mode));
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        LogDirOptions::default().log(log).clock(clock).disk(Arc::new(self.disk.clone())).recovery_threads(1)
    }

    pub fn log(&self) -> &Log {
        &self.open.as_ref().expect("the log is open").1
    }

    /// Closes well, and opens again.
    pub fn reopen_clean(&mut self) -> Result<(), Error> {
        if let Some((dir, _)) = self.open.take() {
            dir.close()?;
        }
        self.open()
    }

    /// Dies, leaving the active segment with only its first `active_bytes`, and opens with these checkpoints.
    pub fn reopen_unclean(&mut self, load: Load, active: (i64, usize)) -> Result<(), Error> {
        self.open = None;
        self.disk = self.disk.kill(self.disk.crash_points() - 1);
        let path = self.directory().join(format!("{:020}.log", active.0));
        if let Ok(file) = self.disk.open(&path, Access::Write) {
            file.set_len(active.1 as u64).unwrap();
        }
        self.checkpoint(load);
        self.open()
    }

    /// Writes what a broker would have in its checkpoint files.
    pub fn checkpoint(&self, load: Load) {
        let offsets = |offset: i64| format!("0\n1\n{} 0 {offset}\n", self.topic());
        let directory = Path::new(DIRECTORY);
        self.write(
            &directory.join("recovery-point-offset-checkpoint"),
            offsets(load.recovery_point).as_bytes(),
        );
        self.write(&directory.join("log-start-offset-checkpoint"), offsets(load.log_start).as_bytes());
        if load.clean {
            self.write(&directory.join(".kafka_cleanshutdown"), br#"{"version":0,"brokerEpoch":-1}"#);
        }
    }

    pub fn append(&self, sent: &record_batch::Batch, leader_epoch: i32, origin: Origin) -> Answer {
        let options = AppendOptions::default().leader_epoch(LeaderEpoch(leader_epoch)).origin(origin);
        let appended = Batch::decode(Bytes::copy_from_slice(&sent.bytes))
            .map_err(Error::from)
            .and_then(|batch| self.log().submit(&[batch], options))
            .and_then(idemlog::Pending::wait);
        match appended {
            Ok(outcomes) => answer(&outcomes[0]),
            Err(error) => Answer::Refused { exception: exception(&error) },
        }
    }

    pub fn increment_log_start(&self, offset: i64) -> Answer {
        let before = self.log().log_start_offset();
        match self.log().delete_records(Offset(offset)) {
            Ok(start) if start == before => Answer::Unchanged,
            Ok(_) => Answer::Done,
            Err(error) => Answer::Refused { exception: exception(&error) },
        }
    }

    pub fn delete_old_segments(&self) -> Answer {
        Answer::Deleted(self.log().apply_retention().unwrap() as i64)
    }

    pub fn truncate(&self, target: i64) -> Answer {
        if self.log().truncate_to(Offset(target)).unwrap() { Answer::Done } else { Answer::Unchanged }
    }

    /// The engine's state in the words of the recordings.
    pub fn state(&self) -> Value {
        let log = self.log();
        let aborted = log.aborted_transactions(Offset(0), Offset(i64::MAX)).unwrap();
        json!({
            "logStartOffset": log.log_start_offset().0,
            "logEndOffset": log.log_end_offset().0,
            "highWatermark": log.high_watermark().0,
            "lastStableOffset": log.last_stable_offset().0,
            "firstUndecidedOffset": log.first_undecided_offset().map(|offset| offset.0),
            "abortedTxns": kafka_json::aborted_transactions(&aborted),
            "leaderEpochs": kafka_json::leader_epochs(&log.leader_epochs()),
            "producers": kafka_json::producers(&log.producers()),
        })
    }

    /// The `.log` files: their base offsets, and what is in them.
    pub fn segments(&self) -> Vec<(i64, Vec<u8>)> {
        let mut segments: Vec<(i64, Vec<u8>)> = self
            .disk
            .list(&self.directory())
            .unwrap()
            .iter()
            .filter_map(|entry| {
                let name = entry.name.to_string_lossy().into_owned();
                let base = name.strip_suffix(".log")?.parse().ok()?;
                Some((base, self.disk.read(&self.directory().join(&name), u64::MAX).unwrap()))
            })
            .collect();
        segments.sort();
        segments
    }
}

fn answer(outcome: &AppendOutcome) -> Answer {
    let (first, last) = (outcome.base_offset().0, outcome.last_offset().0);
    match outcome.is_duplicate() {
        true => Answer::Duplicate { first, last, timestamp: outcome.timestamp().0 },
        false => Answer::Appended { first, last },
    }
}

/// The exception that clients of Kafka make of an error.
fn exception(error: &Error) -> &'static str {
    match error.code().number() {
        1 => "OffsetOutOfRangeException",
        2 => "CorruptRecordException",
        10 => "RecordTooLargeException",
        45 => "OutOfOrderSequenceException",
        47 => "InvalidProducerEpochException",
        48 => "InvalidTxnStateException",
        52 => "TransactionCoordinatorFencedException",
        87 => "InvalidRecordException",
        other => panic!("{error} has code {other}"),
    }
}
