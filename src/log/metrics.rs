//! What an operator sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::commit::End;
use super::latencies::{Latencies, LatencyCounters};
use super::{Log, Shared};
use crate::error::RejectionReason;
use crate::fs::name::TopicPartition;
use crate::segment::{Segment, segments_from};
use crate::sync::Mutex;
use crate::types::{Offset, Timestamp};

/// The kinds of refusal, in the order of their counters.
const REASONS: [RejectionReason; 13] = [
    RejectionReason::Gap,
    RejectionReason::Overlap,
    RejectionReason::OlderThanWindow,
    RejectionReason::DifferentBytes,
    RejectionReason::Fenced,
    RejectionReason::NewEpochNotAtZero,
    RejectionReason::NewLogNotAtZero,
    RejectionReason::UnknownProducer,
    RejectionReason::ProducerBudget,
    RejectionReason::TransactionOpen,
    RejectionReason::NotVerified,
    RejectionReason::CoordinatorFenced,
    RejectionReason::StaleMarker,
];

/// Counters of one partition since it was opened, and its state now.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// log.append(&BatchBuilder::new().record(b"k", b"v").build()?)?;
///
/// let metrics = log.metrics();
/// assert_eq!(metrics.appended_batches, 1);
/// assert!(metrics.syncs >= 1);
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LogMetrics {
    /// Batches stored.
    pub appended_batches: u64,
    /// Bytes stored.
    pub appended_bytes: u64,
    /// Batches recognised as sent before.
    pub duplicates: u64,
    /// Batches refused, by reason; reasons that did not occur are left out.
    pub refusals: Vec<(RejectionReason, u64)>,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Half of the syncs since the opening took less than this; of a directory, that of the partition with the largest.
    pub sync_p50: Duration,
    /// 99 of 100 syncs since the opening took less than this; of a directory, that of the partition with the largest.
    pub sync_p99: Duration,
    /// How long the syncs took. Of a directory, those of all partitions. After a week the percentiles hardly move any more: the
    /// difference of two looks tells what they are in between.
    pub sync_latencies: Latencies,
    /// How long the sync that is under way has been, zero while there is none; of a directory, the longest of them. The latencies
    /// tell of a sync when it is over, so where the disk hangs this alone moves.
    pub sync_running_for: Duration,
    /// Offsets appended and not yet durable. Where the disk hangs it stands still as soon as the bounds of
    /// [`LogOptions`](crate::LogOptions) hold up whoever appends.
    pub durable_lag: u64,
    /// Bytes of the log behind the recovery point, of which an opening reads every one if the process is killed now. At most an
    /// index interval more than it is; where the indexes of the segment that holds the point are not in memory, all of that segment.
    pub recovery_lag_bytes: u64,
    /// Appends that had to get blocks of the disk themselves.
    pub page_stalls: u64,
    /// Appends that had to prepare the next segment themselves.
    pub segment_stalls: u64,
    /// Appends that waited because too much was not synced.
    pub budget_stalls: u64,
    /// Producers known.
    pub producers: u64,
    /// Producers forgotten because there were too many.
    pub producer_evictions: u64,
    /// Producers forgotten because they were idle.
    pub producer_expiries: u64,
    /// Segments in the log.
    pub segments: u64,
    /// Bytes of disk taken by segment files.
    pub allocated_bytes: u64,
    /// Bytes of them that hold batches.
    pub used_bytes: u64,
    /// Bytes of the `.corrupt` files, in which recovery and `repair` kept what they took out of the log, when it was opened. Nobody
    /// but you removes them.
    pub kept_bytes: u64,
    /// Segments mapped.
    pub maps: u64,
    /// Bytes of memory that indexes take. [`LogDirOptions::max_index_bytes`](crate::LogDirOptions::max_index_bytes) bounds those of
    /// sealed segments, over all partitions.
    pub index_bytes: u64,
    /// Indexes that did not fit their log and were built again.
    pub indexes_rebuilt: u64,
    /// What was done beside the appends and failed, and was told to nobody else: segments prepared, synced and sealed, index files,
    /// snapshots and checkpoints written, records deleted by retention. It is tried again when it is due again, and none of
    /// it takes back what was promised; but if the number goes on rising, then the disk fills up, or the next opening takes long.
    pub failed_chores: u64,
    /// The last of them.
    pub last_failed_chore: Option<FailedChore>,
    /// Whether the log is poisoned: 1, or 0. Of a directory, how many partitions are.
    pub poisoned: u64,
    /// Why the log is poisoned; of a directory, why one of its partitions is.
    pub poison: Option<String>,
}

/// Something that failed beside the appends.
///
/// ```
/// use idemlog::{LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// if let Some(failed) = dir.metrics().sum.last_failed_chore {
///     eprintln!("{}: at {} {} failed: {}", failed.partition, failed.at.0, failed.chore, failed.error);
/// }
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedChore {
    /// The partition for which it was done.
    pub partition: TopicPartition,
    /// What it was, in a word or two: `retention`, `seal`, `snapshot`.
    pub chore: &'static str,
    /// The text of the error.
    pub error: String,
    /// The host's time when it failed.
    pub at: Timestamp,
}

impl LogMetrics {
    /// Adds another partition's. Percentiles become the larger of the two, and of what failed the last counts.
    pub(crate) fn add(&mut self, other: &Self) {
        self.appended_batches += other.appended_batches;
        self.appended_bytes += other.appended_bytes;
        self.duplicates += other.duplicates;
        for &(reason, count) in &other.refusals {
            match self.refusals.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += count,
                None => self.refusals.push((reason, count)),
            }
        }
        self.syncs += other.syncs;
        self.sync_p50 = self.sync_p50.max(other.sync_p50);
        self.sync_p99 = self.sync_p99.max(other.sync_p99);
        self.sync_latencies.add(&other.sync_latencies);
        self.sync_running_for = self.sync_running_for.max(other.sync_running_for);
        self.durable_lag += other.durable_lag;
        self.recovery_lag_bytes += other.recovery_lag_bytes;
        self.page_stalls += other.page_stalls;
        self.segment_stalls += other.segment_stalls;
        self.budget_stalls += other.budget_stalls;
        self.producers += other.producers;
        self.producer_evictions += other.producer_evictions;
        self.producer_expiries += other.producer_expiries;
        self.segments += other.segments;
        self.allocated_bytes += other.allocated_bytes;
        self.used_bytes += other.used_bytes;
        self.kept_bytes += other.kept_bytes;
        self.maps += other.maps;
        self.index_bytes += other.index_bytes;
        self.indexes_rebuilt += other.indexes_rebuilt;
        self.failed_chores += other.failed_chores;
        let failed_at = |metrics: &Self| metrics.last_failed_chore.as_ref().map(|failed| failed.at);
        if failed_at(other) > failed_at(self) {
            self.last_failed_chore.clone_from(&other.last_failed_chore);
        }
        self.poisoned += other.poisoned;
        if self.poison.is_none() {
            self.poison.clone_from(&other.poison);
        }
    }
}

/// The counters as the engine raises them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_batches: Count,
    pub(crate) appended_bytes: Count,
    pub(crate) duplicates: Count,
    pub(crate) page_stalls: Count,
    pub(crate) segment_stalls: Count,
    pub(crate) budget_stalls: Count,
    pub(crate) indexes_rebuilt: Count,
    failed_chores: Count,
    last_failed_chore: Mutex<Option<FailedChore>>,
    refusals: [Count; REASONS.len()],
    sync_latencies: LatencyCounters,
    /// When the sync that is under way began.
    sync_began: Mutex<Option<Instant>>,
}

/// A sync that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningSync<'a> {
    counters: &'a Counters,
    began: Instant,
}

impl RunningSync<'_> {
    pub(crate) fn succeeded(self) {
        self.counters.sync_latencies.record(self.began.elapsed());
    }
}

impl Drop for RunningSync<'_> {
    fn drop(&mut self) {
        *self.counters.sync_began.lock() = None;
    }
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds without an atomic instruction. The caller holds the append lock, and nobody else writes this counter.
    pub(crate) fn add_locked(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn refused(&self, reason: RejectionReason) {
        if let Some(at) = REASONS.iter().position(|&known| known == reason) {
            self.refusals[at].add(1);
        }
    }

    pub(crate) fn failed(&self, chore: FailedChore) {
        self.failed_chores.add(1);
        *self.last_failed_chore.lock() = Some(chore);
    }

    /// Of one partition there is one at a time.
    pub(crate) fn sync_begins(&self) -> RunningSync<'_> {
        let began = Instant::now();
        *self.sync_began.lock() = Some(began);
        RunningSync { counters: self, began }
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.sync_latencies.read().count()
    }

    /// The part of the metrics that is counted; the rest is state.
    pub(crate) fn read(&self, log_end: Offset, durable: Offset) -> LogMetrics {
        let sync_latencies = self.sync_latencies.read();
        LogMetrics {
            appended_batches: self.appended_batches.get(),
            appended_bytes: self.appended_bytes.get(),
            duplicates: self.duplicates.get(),
            refusals: REASONS
                .iter()
                .zip(&self.refusals)
                .filter(|(_, count)| count.get() > 0)
                .map(|(reason, count)| (*reason, count.get()))
                .collect(),
            syncs: sync_latencies.count(),
            sync_p50: sync_latencies.quantile(0.5),
            sync_p99: sync_latencies.quantile(0.99),
            sync_latencies,
            sync_running_for: self.sync_began.lock().map(|began| began.elapsed()).unwrap_or_default(),
            durable_lag: (log_end - durable).max(0).unsigned_abs(),
            page_stalls: self.page_stalls.get(),
            segment_stalls: self.segment_stalls.get(),
            budget_stalls: self.budget_stalls.get(),
            indexes_rebuilt: self.indexes_rebuilt.get(),
            failed_chores: self.failed_chores.get(),
            last_failed_chore: self.last_failed_chore.lock().clone(),
            ..LogMetrics::default()
        }
    }
}

impl Log {
    /// Counters and state, for an operator.
    pub fn metrics(&self) -> LogMetrics {
        self.shared.metrics()
    }
}

impl Shared {
    fn metrics(&self) -> LogMetrics {
        let mut metrics = self.counters.read(self.watermarks.log_end(), self.watermarks.durable());
        let segments = self.segments.load();
        metrics.segments = segments.len() as u64;
        metrics.recovery_lag_bytes = self.recovery_lag(&segments);
        metrics.kept_bytes = self.kept_bytes;
        metrics.allocated_bytes = segments.iter().map(|segment| segment.file().allocated()).sum();
        metrics.used_bytes = segments.iter().map(|segment| segment.file().end()).sum();
        metrics.maps = segments.iter().filter(|segment| segment.file().is_mapped()).count() as u64;
        metrics.index_bytes = segments.iter().map(|segment| segment.index_memory() as u64).sum();
        if let Some(End::Poisoned(cause)) = self.commit.end() {
            (metrics.poisoned, metrics.poison) = (1, Some(cause.to_string()));
        }
        let appender = self.appender.lock();
        metrics.producers = appender.producers.len() as u64;
        metrics.producer_evictions = appender.producers.evictions();
        metrics.producer_expiries = appender.producers.expiries();
        metrics
    }

    /// By what is in memory: an operator looks at thousands of partitions, and often.
    fn recovery_lag(&self, segments: &[Arc<Segment>]) -> u64 {
        let point = self.recovery_point();
        if point >= self.watermarks.log_end() {
            return 0;
        }
        let from = segments_from(segments, point);
        let behind: u64 = from.iter().map(|segment| segment.file().end()).sum();
        let below = from.first().and_then(|segment| segment.known_position(point));
        behind.saturating_sub(below.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use crate::fs::IoMode;
    use crate::fs::sim::SimDisk;
    use crate::{LogDir, LogDirOptions};

    /// The sum of all partitions was taken with their list held, for which a creation waits, and behind it everybody: for as long as
    /// one append lock was held. A producer with a new name waited for every one of those locks, to fence nobody.
    #[test]
    fn who_waits_for_one_partition_keeps_nobody_from_another() {
        let options = LogDirOptions::default().disk(Arc::new(SimDisk::new(IoMode::Write)));
        let dir = LogDir::open("/data", options).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let held = log.shared.appender.lock();
        thread::scope(|scope| {
            let counted = scope.spawn(|| dir.metrics());
            thread::sleep(Duration::from_millis(20));
            let (done, is_done) = channel();
            let creating = dir.clone();
            scope.spawn(move || {
                let made = creating.partition("other", 0).map(drop);
                done.send(made.and_then(|()| creating.producer("new").map(drop))).unwrap();
            });
            let made = is_done.recv_timeout(Duration::from_secs(5));
            drop(held);
            made.unwrap().unwrap();
            counted.join().unwrap();
        });
    }
}
