//! What a host can choose for a partition.

use crate::batch::{DEFAULT_MAX_DECOMPRESSED, RecordCheck, TimestampType};
use crate::error::{Error, Result};
use crate::fs::IoMode;
use crate::producer::ProducerPolicy;
use crate::segment::IndexOptions;
use crate::types::Timestamp;

/// The most bytes that a segment may have: Kafka counts its positions in 31 bits.
pub(crate) const MAX_SEGMENT_BYTES: u64 = 0x7fff_ffff;

/// What an acknowledged append survives.
///
/// ```
/// use idemlog::Durability;
///
/// assert_eq!(Durability::default(), Durability::Synced);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// The death of the process, of the machine, and the loss of power: acknowledged when the disk has it.
    #[default]
    Synced,
    /// The death of the process: acknowledged when the operating system has it. That of the machine may take what was appended
    /// since the last sync, from the end.
    Buffered,
}

/// What to do with a batch that is damaged although it was durable: below the recovery point, or in a log that was
/// closed cleanly. (A damaged end above the recovery point is what a crash leaves, and is always cut.)
///
/// ```
/// use idemlog::CorruptionPolicy;
///
/// assert_eq!(CorruptionPolicy::default(), CorruptionPolicy::Refuse);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CorruptionPolicy {
    /// The partition does not open: [`Error::Corrupt`] says where. Nothing is changed.
    #[default]
    Refuse,
    /// The log is cut in front of the damage. What is cut is kept beside it in files ending in `.corrupt`. Where the first
    /// segments are missing, it begins behind them.
    CutAndKeep,
}

/// How one partition stores its batches. Every value has a default that suits a broker.
///
/// ```
/// use idemlog::{Durability, LogOptions};
///
/// let options = LogOptions::default().segment_bytes(64 << 20).durability(Durability::Buffered);
/// assert_eq!(options.segment_bytes, 64 << 20);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogOptions {
    /// What an acknowledged append survives. Default: [`Durability::Synced`].
    pub durability: Durability,
    /// The size in bytes at which a segment is rolled, 1 KiB to 2 GiB - 1. Default: 1 GiB.
    pub segment_bytes: u32,
    /// The age in ms at which a segment is rolled, by the timestamps of its batches, 1 and up. Default: 7 days.
    pub segment_ms: i64,
    /// The size in bytes at which an index is full, and its segment is rolled, 24 to 2 GiB - 1. Default: 10 MiB.
    pub segment_index_bytes: u32,
    /// The bytes of batches between two index entries, 1 and up. Default: 4,096.
    pub index_interval_bytes: u32,
    /// The largest batch taken, but for replicated ones, in bytes, 61 to 2 GiB - 1. Default: 1 MiB + 12, as in Kafka.
    pub max_batch_bytes: u32,
    /// How closely a client's batch is looked at. Default: [`RecordCheck::Full`].
    pub record_check: RecordCheck,
    /// What a client's batch may decompress to, in bytes, 0 and up. Default: [`DEFAULT_MAX_DECOMPRESSED`](crate::DEFAULT_MAX_DECOMPRESSED),
    /// which a look-up by time allows for in any case.
    pub max_decompressed_bytes: usize,
    /// Whose timestamps batches have: their producers' (the default), or the log's own. The log's are written into each
    /// batch that is not replicated, which takes a copy and a new CRC; of a duplicate it is then not known whether its
    /// bytes are the same.
    pub timestamp_type: TimestampType,
    /// How far a client's batch may be ahead of the clock, in ms, 0 and up, by its largest timestamp, which the header has:
    /// further, and it is refused, as one client with a wrong clock would keep a segment from ever being as old as
    /// [`retention_ms`](Self::retention_ms). Not asked of replicated batches, of the host's own as a coordinator, nor where
    /// the log's timestamps take the place of the client's. A batch without a timestamp (-1) is never ahead.
    /// Default: 1 hour, as in Kafka (`message.timestamp.after.max.ms`, KIP-937 and KIP-1030); `i64::MAX`: no bound.
    pub max_timestamp_ahead_ms: i64,
    /// Whether a transaction may begin only with a guard of
    /// [`Log::begin_verification`](crate::Log::begin_verification). Default: no.
    pub verify_transactions: bool,
    /// Who counts as a duplicate, as unknown, as expired.
    pub producers: ProducerPolicy,
    /// How many bytes of batches may be not durable yet before the next append waits for a sync, 1 and up;
    /// [`try_submit`](crate::Log::try_submit) is refused in place of waiting. A [`Durability::Buffered`] log has no such bound.
    /// Default: 64 MiB.
    pub max_unsynced_bytes: u64,
    /// The same in batches, 1 and up. Default: 65,536.
    pub max_pending: u64,
    /// The bytes of batches after which the producers are written to a snapshot and the recovery point moves on, which
    /// bounds what opening must read, 1 and up: what an opening behind a crash has read counts, and a quarter of the interval is
    /// enough for it to be due then. Default: 256 MiB.
    pub snapshot_interval_bytes: u64,
    /// How often, in ms, appends look for idle producers to forget, 1 and up. Default: 10 minutes.
    pub expiry_interval_ms: i64,
    /// The bytes that the log keeps at least: while it would still have as many without its oldest segment, that segment is
    /// deleted, 0 and up. Default: `None`, all.
    pub retention_bytes: Option<u64>,
    /// The age in ms, by its largest timestamp, from which on a segment is deleted, 0 and up. Where the
    /// [clock](crate::LogDirOptions::clock) is set ahead by more than an hour, nothing is deleted by its age for an hour.
    /// Default: `None`, any age.
    pub retention_ms: Option<i64>,
    /// How often, in ms, appends look for segments to delete, 1 and up. Default: 5 minutes.
    pub retention_interval_ms: i64,
    /// What to do with damage that no crash explains. Default: [`CorruptionPolicy::Refuse`].
    pub corruption: CorruptionPolicy,
    /// How bytes reach the file. Default: `None`, by the kind of the file system ([`IoMode`]).
    pub io_mode: Option<IoMode>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Synced,
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 60 * 60 * 1000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            max_batch_bytes: (1 << 20) + 12,
            record_check: RecordCheck::Full,
            max_decompressed_bytes: DEFAULT_MAX_DECOMPRESSED,
            timestamp_type: TimestampType::CreateTime,
            max_timestamp_ahead_ms: 60 * 60 * 1000,
            verify_transactions: false,
            producers: ProducerPolicy::default(),
            max_unsynced_bytes: 64 << 20,
            max_pending: 1 << 16,
            snapshot_interval_bytes: 256 << 20,
            expiry_interval_ms: 10 * 60 * 1000,
            retention_bytes: None,
            retention_ms: None,
            retention_interval_ms: 5 * 60 * 1000,
            corruption: CorruptionPolicy::Refuse,
            io_mode: None,
        }
    }
}

setters! { LogOptions:
    durability: Durability,
    segment_bytes: u32,
    segment_ms: i64,
    segment_index_bytes: u32,
    index_interval_bytes: u32,
    max_batch_bytes: u32,
    record_check: RecordCheck,
    max_decompressed_bytes: usize,
    timestamp_type: TimestampType,
    max_timestamp_ahead_ms: i64,
    verify_transactions: bool,
    producers: ProducerPolicy,
    max_unsynced_bytes: u64,
    max_pending: u64,
    snapshot_interval_bytes: u64,
    expiry_interval_ms: i64,
    retention_bytes: Option<u64>,
    retention_ms: Option<i64>,
    retention_interval_ms: i64,
    corruption: CorruptionPolicy,
    io_mode: Option<IoMode>,
}

impl LogOptions {
    /// Checks that `next` can take the place of these while the log is open.
    pub(crate) fn check_change(&self, next: &Self) -> Result<()> {
        next.validate()?;
        let fixed = |option, is_same: bool, got: String| {
            let expected = "as it was when the log was opened";
            if is_same { Ok(()) } else { Err(Error::InvalidOption { option, expected, got }) }
        };
        let (before, after) = (&self.producers, &next.producers);
        fixed("window", before.window == after.window, after.window.to_string())?;
        let same_rule = before.sequence_rule == after.sequence_rule;
        fixed("sequence_rule", same_rule, format!("{:?}", after.sequence_rule))?;
        fixed("io_mode", self.io_mode == next.io_mode, format!("{:?}", next.io_mode))
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the first that cannot work.
    pub fn validate(&self) -> Result<()> {
        let segment = u64::from(self.segment_bytes);
        let fits = (1024..=MAX_SEGMENT_BYTES).contains(&segment);
        check(fits, "segment_bytes", "1024 to 2147483647", segment)?;
        check(self.segment_ms > 0, "segment_ms", "1 or more", self.segment_ms)?;
        let index = self.segment_index_bytes;
        check((24..=0x7fff_ffff).contains(&index), "segment_index_bytes", "24 to 2147483647", index)?;
        let interval = self.index_interval_bytes;
        check(interval > 0, "index_interval_bytes", "1 or more", interval)?;
        let batch = self.max_batch_bytes;
        check((61..=0x7fff_ffff).contains(&batch), "max_batch_bytes", "61 to 2147483647", batch)?;
        check(self.max_unsynced_bytes > 0, "max_unsynced_bytes", "1 or more", self.max_unsynced_bytes)?;
        check(self.max_pending > 0, "max_pending", "1 or more", self.max_pending)?;
        let snapshot = self.snapshot_interval_bytes;
        check(snapshot > 0, "snapshot_interval_bytes", "1 or more", snapshot)?;
        let expiry = self.expiry_interval_ms;
        check(expiry > 0, "expiry_interval_ms", "1 or more", expiry)?;
        let ahead = self.max_timestamp_ahead_ms;
        check(ahead >= 0, "max_timestamp_ahead_ms", "0 or more", ahead)?;
        let age = self.retention_ms.unwrap_or(0);
        check(age >= 0, "retention_ms", "0 or more", age)?;
        let interval = self.retention_interval_ms;
        check(interval > 0, "retention_interval_ms", "1 or more", interval)?;
        self.producers.validate()
    }

    /// The largest timestamp that a client's batch may have at this time.
    pub(crate) fn latest_timestamp(&self, now: Timestamp) -> Timestamp {
        // Of a clock before 1970, too, `i64::MAX` is ahead of everything.
        Timestamp(now.0.max(0).saturating_add(self.max_timestamp_ahead_ms))
    }

    pub(crate) fn indexes(&self) -> IndexOptions {
        IndexOptions { interval_bytes: self.index_interval_bytes, max_bytes: self.segment_index_bytes }
    }
}

fn check(holds: bool, option: &'static str, expected: &'static str, got: impl Into<i128>) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::InvalidOption { option, expected, got: got.into().to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number was told without its sign.
    #[test]
    fn an_option_below_zero_is_told_as_it_is() {
        let error = LogOptions::default().retention_ms(Some(-7)).validate().unwrap_err();
        assert_eq!(error.to_string(), "option retention_ms must be 0 or more, not -7");
        let error = LogOptions::default().segment_ms(i64::MIN).validate().unwrap_err();
        assert!(error.to_string().ends_with(&format!("not {}", i64::MIN)), "{error}");
    }

    #[test]
    fn an_option_that_cannot_work_is_named() {
        let cases = [
            ("segment_bytes", LogOptions::default().segment_bytes(1)),
            ("segment_ms", LogOptions::default().segment_ms(0)),
            ("segment_index_bytes", LogOptions::default().segment_index_bytes(0)),
            ("index_interval_bytes", LogOptions::default().index_interval_bytes(0)),
            ("max_batch_bytes", LogOptions::default().max_batch_bytes(60)),
            ("max_unsynced_bytes", LogOptions::default().max_unsynced_bytes(0)),
            ("max_pending", LogOptions::default().max_pending(0)),
            ("snapshot_interval_bytes", LogOptions::default().snapshot_interval_bytes(0)),
            ("expiry_interval_ms", LogOptions::default().expiry_interval_ms(0)),
            ("max_timestamp_ahead_ms", LogOptions::default().max_timestamp_ahead_ms(-1)),
            ("retention_ms", LogOptions::default().retention_ms(Some(-1))),
            ("retention_interval_ms", LogOptions::default().retention_interval_ms(0)),
        ];
        for (name, options) in cases {
            let error = options.validate().unwrap_err();
            assert!(
                matches!(error, Error::InvalidOption { option, .. } if option == name),
                "{name}: {error}"
            );
        }
        LogOptions::default().validate().unwrap();
    }
}
