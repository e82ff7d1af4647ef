//! One partition on a simulated disk, and the words that the cases are told in.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idemlog::sim::{Oldest, SimDisk};
use idemlog::{
    AbortedTransaction, Access, AppendOptions, AppendOutcome, Batch, BatchBuilder, Clock, ControlRecord,
    Disk, Error, ErrorCode, FirstAppend, LeaderEpoch, Log, LogDir, LogDirOptions, LogOptions, Offset, Origin,
    ProducerEpoch, ProducerId, ProducerInfo, ProducerPolicy, Sequence, Timestamp,
};

use crate::common::{MODES, TestClock, small, stored};

/// The time at which every test begins, and the timestamp of batches that have no other.
pub const NOW: i64 = 1_000_000_000;
const DIRECTORY: &str = "/data";
const TOPIC: &str = "t";

/// A partition that can be closed, killed, damaged and opened again.
pub struct Partition {
    pub disk: SimDisk,
    pub clock: Arc<TestClock>,
    pub options: LogOptions,
    open: Option<(LogDir, Log)>,
}

/// What can be seen of a partition from outside.
#[derive(Debug, PartialEq)]
pub struct State {
    pub stored: Vec<(i64, u32)>,
    pub start: i64,
    pub end: i64,
    pub last_stable: i64,
    pub producers: Vec<ProducerInfo>,
    pub aborted: Vec<AbortedTransaction>,
    pub leader_epochs: Vec<(i32, i64)>,
}

/// Ways to open a partition again that lose nothing: closed well, killed, and with nothing left but the segments.
pub const REOPENINGS: [fn(&mut Partition); 3] =
    [Partition::close_and_open, Partition::die_and_open, Partition::recover_from_segments];

/// A producer policy that takes any first sequence, as Kafka's recorded decisions do.
pub fn policy() -> ProducerPolicy {
    ProducerPolicy::default().first_append(FirstAppend::AcceptAny)
}

/// An empty partition for each way to the disk.
pub fn partitions() -> impl Iterator<Item = Partition> {
    partitions_with(|options| options)
}

/// The same with other options.
pub fn partitions_with(options: impl Fn(LogOptions) -> LogOptions) -> impl Iterator<Item = Partition> {
    MODES.into_iter().map(move |mode| {
        let base = small(mode).producers(policy()).retention_interval_ms(i64::MAX);
        Partition::new(SimDisk::new(mode), options(base))
    })
}

/// A batch of one record.
pub fn by(id: i64, epoch: i16, sequence: i32) -> BatchBuilder {
    many(id, epoch, sequence, 1)
}

/// A batch of `count` records.
pub fn many(id: i64, epoch: i16, sequence: i32, count: usize) -> BatchBuilder {
    let builder = BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(epoch), Sequence(sequence))
        .timestamp(Timestamp(NOW));
    (0..count).fold(builder, |builder, number| builder.record("key", format!("{id} {sequence} {number}")))
}

/// A batch of one record inside of a transaction.
pub fn txn(id: i64, epoch: i16, sequence: i32) -> BatchBuilder {
    by(id, epoch, sequence).transactional()
}

/// A batch of one record without a producer.
pub fn plain() -> BatchBuilder {
    BatchBuilder::new().record("key", "value").timestamp(Timestamp(NOW))
}

/// A batch of one record of `size` bytes without a producer.
pub fn sized(size: usize) -> BatchBuilder {
    BatchBuilder::new().record("key", "x".repeat(size)).timestamp(Timestamp(NOW))
}

pub const fn committed(coordinator_epoch: i32) -> ControlRecord {
    ControlRecord::Commit { coordinator_epoch }
}

pub const fn aborted(coordinator_epoch: i32) -> ControlRecord {
    ControlRecord::Abort { coordinator_epoch }
}

pub fn marker(id: i64, epoch: i16, record: ControlRecord) -> BatchBuilder {
    BatchBuilder::new()
        .producer(ProducerId(id), ProducerEpoch(epoch), Sequence::NONE)
        .control(record)
        .timestamp(Timestamp(NOW))
}

/// A batch as a leader has stored it.
pub fn at(offset: i64, batch: BatchBuilder) -> BatchBuilder {
    batch.base_offset(Offset(offset)).leader_epoch(LeaderEpoch(0))
}

/// The batch without its records, as compaction may leave it: a header that keeps offsets and sequences.
pub fn emptied(batch: BatchBuilder) -> Batch {
    let full = batch.build().unwrap();
    let header = full.header();
    let empty = BatchBuilder::new()
        .producer(header.producer_id, header.producer_epoch, header.base_sequence)
        .timestamp(header.max_timestamp)
        .base_offset(header.base_offset)
        .leader_epoch(header.leader_epoch)
        .compacted(header.last_offset_delta)
        .build()
        .unwrap();
    let mut bytes = empty.bytes().to_vec();
    bytes[21..23].copy_from_slice(&full.bytes()[21..23]);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Batch::decode(bytes.into()).unwrap()
}

impl Deref for Partition {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.open.as_ref().expect("the partition is open").1
    }
}

impl Partition {
    fn new(disk: SimDisk, options: LogOptions) -> Self {
        disk.set_sync_range_covers_length(true);
        let mut partition = Self { disk, clock: TestClock::at(NOW), options, open: None };
        partition.open();
        partition
    }

    pub fn dir(&self) -> &LogDir {
        &self.open.as_ref().expect("the partition is open").0
    }

    pub fn dir_options(&self) -> LogDirOptions {
        LogDirOptions::default()
            .log(self.options.clone())
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .disk(Arc::new(self.disk.clone()))
            .recovery_threads(1)
    }

    pub fn open(&mut self) {
        let dir = LogDir::open(DIRECTORY, self.dir_options()).unwrap();
        let log = dir.partition(TOPIC, 0).unwrap();
        self.open = Some((dir, log));
    }

    /// Closes the partition well.
    pub fn close(&mut self) {
        self.dir().close().unwrap();
        self.open = None;
    }

    pub fn close_and_open(&mut self) {
        self.close();
        self.open();
    }

    /// The process dies.
    pub fn die(&mut self) {
        self.disk = self.disk.kill(self.disk.crash_points() - 1);
        self.open = None;
    }

    /// What the death of the process behind an event of the disk's journal leaves.
    pub fn killed_at(&self, point: usize) -> Self {
        Self::new(self.disk.kill(point), self.options.clone())
    }

    pub fn die_and_open(&mut self) {
        self.die();
        self.open();
    }

    /// The power goes, and with it all that was not synced.
    pub fn lose_power_and_open(&mut self) {
        self.disk = self.disk.crash(self.disk.crash_points() - 1, &mut Oldest);
        self.open = None;
        self.open();
    }

    /// The process dies, and of the partition's files only the segments are left, and of the checkpoints none.
    pub fn keep_only_segments(&mut self) {
        self.die();
        for suffix in [".index", ".timeindex", ".txnindex", ".snapshot", "leader-epoch-checkpoint"] {
            self.remove_all(suffix);
        }
        self.remove_checkpoints();
    }

    pub fn recover_from_segments(&mut self) {
        self.keep_only_segments();
        self.open();
    }

    pub fn remove_checkpoints(&self) {
        for name in ["recovery-point-offset-checkpoint", "log-start-offset-checkpoint"] {
            let path = Path::new(DIRECTORY).join(name);
            if self.disk.exists(&path).unwrap() {
                self.disk.remove_file(&path).unwrap();
            }
        }
    }

    /// Says that a log is durable up to `recovery_point`, and begins at `log_start`.
    pub fn checkpoint(&self, recovery_point: i64, log_start: i64) {
        let offsets = [
            ("recovery-point-offset-checkpoint", recovery_point),
            ("log-start-offset-checkpoint", log_start),
        ];
        for (name, offset) in offsets {
            self.write(&Path::new(DIRECTORY).join(name), format!("0\n1\n{TOPIC} 0 {offset}\n").as_bytes());
        }
    }

    pub fn is_marked_clean(&self) -> bool {
        self.disk.exists(&Path::new(DIRECTORY).join(".kafka_cleanshutdown")).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{TOPIC}-0")).join(name)
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        let _ = self.disk.remove_file(path);
        self.disk.open(path, Access::CreateNew).unwrap().write_at(bytes, 0).unwrap();
    }

    /// Puts a file into the partition's directory.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.write(&self.path(name), bytes);
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        self.disk.read(&self.path(name), u64::MAX).unwrap()
    }

    pub fn remove(&self, name: &str) {
        self.disk.remove_file(&self.path(name)).unwrap();
    }

    /// Flips a bit of the byte at `position`, counted from the end where it is negative.
    pub fn damage(&self, name: &str, position: i64) {
        let mut bytes = self.get(name);
        let position = if position < 0 { bytes.len() as i64 + position } else { position };
        bytes[position as usize] ^= 1;
        self.put(name, &bytes);
    }

    /// Where each batch of a segment begins, and where the last one ends.
    pub fn positions(&self, segment: &str) -> Vec<usize> {
        let bytes = self.get(segment);
        let size =
            |at: usize| Some(u32::from_be_bytes(bytes.get(at + 8..at + 12)?.try_into().ok()?) as usize);
        std::iter::successors(Some(0), |&at| size(at).filter(|&size| size > 0).map(|size| at + 12 + size))
            .collect()
    }

    /// The last entry of a segment's time index: the timestamp, and the offset.
    pub fn last_time(&self, base: i64) -> Option<(i64, i64)> {
        let bytes = self.get(&format!("{base:020}.timeindex"));
        let entry = bytes.chunks_exact(12).last()?;
        let timestamp = i64::from_be_bytes(entry[..8].try_into().unwrap());
        Some((timestamp, base + i64::from(u32::from_be_bytes(entry[8..].try_into().unwrap()))))
    }

    pub fn names(&self) -> Vec<String> {
        let entries = self.disk.list(&self.path("")).unwrap();
        let mut names: Vec<String> =
            entries.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The names that end so.
    pub fn named(&self, suffix: &str) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(suffix)).collect()
    }

    fn numbers(&self, suffix: &str) -> Vec<i64> {
        self.names().iter().filter_map(|name| name.strip_suffix(suffix)?.parse().ok()).collect()
    }

    /// The offsets of the snapshots.
    pub fn snapshots(&self) -> Vec<i64> {
        self.numbers(".snapshot")
    }

    /// The base offsets of the segments.
    pub fn segments(&self) -> Vec<i64> {
        self.numbers(".log")
    }

    pub fn remove_all(&self, suffix: &str) {
        self.named(suffix).iter().for_each(|name| self.remove(name));
    }

    /// Appends as a client; it must be new. Its base offset.
    pub fn send(&self, batch: BatchBuilder) -> i64 {
        let outcome = self.append(&batch.build().unwrap()).unwrap();
        assert!(!outcome.is_duplicate(), "{outcome:?}");
        outcome.base_offset().0
    }

    /// Appends one after the other as a client.
    pub fn send_all(&self, batches: impl IntoIterator<Item = BatchBuilder>) {
        for batch in batches {
            self.send(batch);
        }
    }

    /// Appends each in a segment of its own.
    pub fn send_and_roll(&self, batches: impl IntoIterator<Item = BatchBuilder>) {
        for batch in batches {
            self.send(batch);
            self.roll().unwrap();
        }
    }

    /// Appends as a client what was stored before, which changes nothing. The original's first and last offset.
    pub fn send_again(&self, batch: BatchBuilder) -> (i64, i64) {
        let before = (self.state(), self.names());
        let outcome = self.append(&batch.build().unwrap()).unwrap();
        assert!(outcome.is_duplicate(), "{outcome:?}");
        assert_eq!((self.state(), self.names()), before, "a duplicate changes nothing");
        (outcome.base_offset().0, outcome.last_offset().0)
    }

    /// Appends as a client what is refused, which changes nothing.
    pub fn refused(&self, batch: BatchBuilder) -> ErrorCode {
        self.refuses(|log| log.append(&batch.build().unwrap()))
    }

    /// Appends a marker that is refused, which changes nothing.
    pub fn refused_marker(&self, id: i64, epoch: i16, record: ControlRecord) -> ErrorCode {
        self.refuses(|log| log.end_transaction(ProducerId(id), ProducerEpoch(epoch), record))
    }

    /// Does what is refused, which changes nothing.
    pub fn refuses<T: std::fmt::Debug>(&self, work: impl FnOnce(&Log) -> Result<T, Error>) -> ErrorCode {
        let before = (self.state(), self.names());
        let error = work(self).unwrap_err();
        assert_eq!((self.state(), self.names()), before, "what is refused changes nothing");
        error.code()
    }

    pub fn commit(&self, id: i64, epoch: i16) -> i64 {
        self.end(id, epoch, committed(0))
    }

    pub fn abort(&self, id: i64, epoch: i16) -> i64 {
        self.end(id, epoch, aborted(0))
    }

    /// Appends a marker as the transaction coordinator. Its offset.
    pub fn end(&self, id: i64, epoch: i16, record: ControlRecord) -> i64 {
        self.end_transaction(ProducerId(id), ProducerEpoch(epoch), record).unwrap().base_offset().0
    }

    /// Appends as a follower, in one call.
    pub fn replicate(&self, batches: impl IntoIterator<Item = BatchBuilder>) {
        let batches: Vec<Batch> = batches.into_iter().map(|batch| batch.build().unwrap()).collect();
        self.try_replicate(&batches).unwrap();
    }

    pub fn try_replicate(&self, batches: &[Batch]) -> Result<Vec<AppendOutcome>, Error> {
        self.submit(batches, AppendOptions::default().origin(Origin::Replication))?.wait()
    }

    pub fn state(&self) -> State {
        State {
            stored: stored(self),
            start: self.log_start_offset().0,
            end: self.log_end_offset().0,
            last_stable: self.last_stable_offset().0,
            producers: self.producers(),
            aborted: self.aborted_transactions(Offset(0), Offset(i64::MAX)).unwrap(),
            leader_epochs: self.leader_epochs().iter().map(|(epoch, start)| (epoch.0, start.0)).collect(),
        }
    }

    pub fn of(&self, id: i64) -> Option<ProducerInfo> {
        self.producer(ProducerId(id))
    }

    /// The producers that are known.
    pub fn known(&self) -> Vec<i64> {
        self.producers().iter().map(|producer| producer.producer_id.0).collect()
    }

    /// The first and last sequence of each batch that is remembered of a producer.
    pub fn window(&self, id: i64) -> Vec<(i32, i32)> {
        let producer = self.of(id).expect("the producer is known");
        producer.batches.iter().map(|batch| (batch.first_sequence.0, batch.last_sequence.0)).collect()
    }

    pub fn epoch(&self, id: i64) -> i16 {
        self.of(id).expect("the producer is known").epoch.0
    }

    /// Where a producer's transaction begins.
    pub fn open_transaction(&self, id: i64) -> Option<i64> {
        Some(self.of(id)?.transaction_first_offset?.0)
    }

    pub fn undecided(&self) -> Option<i64> {
        self.first_undecided_offset().map(|offset| offset.0)
    }

    pub fn last_stable(&self) -> i64 {
        self.last_stable_offset().0
    }

    pub fn end_offset(&self) -> i64 {
        self.log_end_offset().0
    }

    pub fn start_offset(&self) -> i64 {
        self.log_start_offset().0
    }

    /// The base offsets of what readers see.
    pub fn offsets(&self) -> Vec<i64> {
        stored(self).iter().map(|(base, _)| *base).collect()
    }

    /// Producer, first and last offset, and last stable offset of every aborted transaction.
    pub fn all_aborted(&self) -> Vec<(i64, i64, i64, i64)> {
        let aborted = self.aborted_transactions(Offset(0), Offset(i64::MAX)).unwrap();
        aborted
            .iter()
            .map(|it| (it.producer_id.0, it.first_offset.0, it.last_offset.0, it.last_stable_offset.0))
            .collect()
    }
}
