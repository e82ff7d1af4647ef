//! An embeddable, idempotent partition log storage engine.
//!
//! A broker links it, hands it record batches and gets offsets back. Each producer has an id, an epoch and a sequence
//! number per partition; a batch that is sent again because its acknowledgement was lost is recognised inside the append
//! and answered with the original's offsets. Batches live in Kafka's own disk format, and after a crash everything is
//! rebuilt from the log. The promise: **an append that was acknowledged is in the log exactly once, in order, and stays
//! there.**
//!
//! ```
//! use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, Sequence};
//!
//! # let data = tempfile::tempdir().unwrap();
//! # let path = data.path();
//! let dir = LogDir::open(path, LogDirOptions::default())?;
//! let log = dir.partition("orders", 0)?; // created if missing
//!
//! let batch = BatchBuilder::new()
//!     .producer(dir.new_producer_id()?, ProducerEpoch(0), Sequence(0))
//!     .record(b"k1", b"first")
//!     .record(b"k2", b"second")
//!     .build()?;
//!
//! let first = log.append(&batch)?; // durable when it returns
//! let again = log.append(&batch)?; // the acknowledgement was lost, so it is sent again
//! assert!(again.is_duplicate());
//! assert_eq!(again.base_offset(), first.base_offset()); // stored once, answered twice
//!
//! for batch in log.reader(first.base_offset())? {
//!     for record in batch?.records() {
//!         println!("{:?}", record?.value()); // zero copy: values are Bytes into the map
//!     }
//! }
//! dir.close()?; // the next opening has nothing to recover
//! # Ok::<(), idemlog::Error>(())
//! ```
//!
//! # Where to begin
//!
//! * [`LogDir`] is a directory of partitions that one process has open, [`Log`] one partition: append, read, wait for more, delete.
//! * [`BatchBuilder`] makes a batch out of records; [`Batches`] finds those of a client in its bytes.
//! * [`LogDir::producer`] is for a program that is its own client: it numbers the batches and sends them again.
//! * [`LogDirOptions`], [`LogOptions`] and [`ProducerPolicy`] are all options, each with its range and default.
//! * [`Error::code`] is what to answer a client of Kafka's protocol with.
//! * [`manual`] has the chapters behind all that: the format, idempotence, durability, reading, what survives what, recovery,
//!   transactions, replication and operations; and what each word means.
//!
//! # What it runs on
//!
//! Linux first; other Unix without memory maps; not Windows. Calls block, unless they say otherwise; what can be awaited needs no
//! particular runtime. No thread is started in the background that the host did not ask for
//! ([`LogDirOptions::background_threads`]).
//!
//! The codecs `gzip`, `snappy`, `lz4` and `zstd` are cargo features, all on by default: without one, a batch that is compressed so
//! is refused where its records must be read. `tracing` tells the host's subscriber of openings, rolls and failures; `cli` is for
//! the command-line tool `idemlog`.

#[cfg(windows)]
compile_error!(
    "idemlog runs on Unix: its durability rests on directory syncs and renames that Windows lacks"
);

/// An event for the host's subscriber; nothing without the feature `tracing`.
macro_rules! event {
    ($level:ident, $($field:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::$level!($($field)*);
    };
}

/// Methods of a builder that set the public fields of the type by their names.
macro_rules! setters {
    ($options:ident: $($field:ident: $type:ty),* $(,)?) => {
        impl $options {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

mod batch;
mod checkpoint;
mod clock;
mod crc;
mod environment;
mod epoch;
mod error;
mod fs;
pub mod inspect;
mod log;
mod log_dir;
pub mod manual;
mod panic;
mod producer;
pub mod repair;
mod segment;
mod sync;
mod transaction;
mod types;
pub mod verify;

pub use batch::{
    Batch, BatchBuilder, BatchBytes, BatchHeader, Batches, Compression, ControlRecord,
    DEFAULT_MAX_DECOMPRESSED, Record, RecordBuilder, RecordCheck, RecordHeaders, Records, TimestampType,
    UncheckedBatch,
};
pub use clock::{Clock, SystemClock};
pub use error::{
    BatchError, Corruption, CorruptionKind, Error, ErrorCode, IoError, Rejection, RejectionReason, Result,
    WindowBounds,
};
pub use fs::name::TopicPartition;
pub use fs::sim;
pub use fs::{
    Access, DirectoryEntry, DirectoryLock, Disk, DiskFile, EntryKind, IoMode, Map, MapObserver, MapWriter,
    Pages, RealDisk,
};
pub use log::{
    AppendOptions, AppendOutcome, BelowStart, CorruptionPolicy, Cut, CutReason, Durability, FailedChore,
    Fetched, Latencies, Log, LogMetrics, LogOptions, OffsetAndTimestamp, Origin, Pending, ProducerStates,
    Reader, RecoveryReport, Replicated, TailWait,
};
pub use log_dir::{LastBatch, LogDir, LogDirMetrics, LogDirOptions, Producer, Progress};
pub use producer::{
    DuplicateCheck, ExpiryClock, FirstAppend, ProducerBatch, ProducerInfo, ProducerPolicy, SequenceRule,
    VerificationGuard,
};
pub use transaction::{AbortedTransaction, TransactionVersion};
pub use types::{LeaderEpoch, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};
