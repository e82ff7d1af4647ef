//! Everything that can go wrong, as values: what was expected, what came, where, and which protocol error it maps to.

mod code;
mod display;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::{
    LeaderEpoch, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};
pub use code::ErrorCode;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. Nothing was changed by a call that failed, unless its documentation says so.
///
/// ```
/// use idemlog::{Error, ErrorCode};
///
/// let error = Error::Truncated;
/// assert_eq!(error.code(), ErrorCode::NotLeaderOrFollower);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The producer's id, epoch or sequence does not allow this batch; the log is unchanged.
    Rejected(Rejection),
    /// The bytes are not an acceptable record batch; the log is unchanged.
    InvalidBatch(BatchError),
    /// A file holds what it must not hold, or what only a newer idemlog knows ([`CorruptionKind::Version`]).
    Corrupt(Corruption),
    /// The operating system refused an operation.
    Io(IoError),
    /// Another owner holds the log directory.
    Locked {
        /// The directory that is held.
        path: PathBuf,
    },
    /// An earlier sync of this partition failed. Appends are refused, and reads where nothing is to be read, as nothing will
    /// come; opening it again recovers ([`LogDir::reopen_partition`](crate::LogDir::reopen_partition)).
    Poisoned(IoError),
    /// The directory to open is no log directory, and [must be one](crate::LogDirOptions::must_exist): its volume may not be mounted.
    NotALogDir {
        /// The directory.
        path: PathBuf,
    },
    /// The offset asked for lies outside of the log.
    OffsetOutOfRange {
        /// The offset asked for.
        got: Offset,
        /// The log start offset.
        start: Offset,
        /// Where it ends: the log end offset, or the high watermark where records are to be deleted.
        end: Offset,
    },
    /// A replicated batch does not begin at the log end offset or above, or imported producers are not of the log end offset.
    /// A replica whose first batch holds its log start offset begins where that batch does
    /// ([`export_producers_at`](crate::Log::export_producers_at)).
    UnexpectedOffset {
        /// The log end offset.
        expected: Offset,
        /// The one that came.
        got: Offset,
    },
    /// Producers are imported into a log that holds batches, or did and still has segments.
    NotEmpty {
        /// The partition's directory.
        path: PathBuf,
    },
    /// A replicated batch, or the [`AppendOptions::leader_epoch`](crate::AppendOptions) of an append, has a lower leader
    /// epoch than the log: another leader was elected since.
    StaleLeaderEpoch {
        /// The lowest that is taken: the highest of a batch in the log; for an append also that in which the log is led.
        latest: LeaderEpoch,
        /// The one that came.
        got: LeaderEpoch,
    },
    /// A partition belongs to another topic of the same name.
    TopicId {
        /// The partition's directory.
        path: PathBuf,
        /// The topic's id that was asked for.
        expected: TopicId,
        /// The one in the directory.
        got: TopicId,
    },
    /// No partition belongs to [`TopicId::ZERO`], which stands for an id that is not known.
    UnknownTopicId,
    /// A truncation removed the batch before it was durable, or replicated. If it failed itself, an opening may find the batch again.
    Truncated,
    /// The log was closed, deleted or poisoned while the append waited: it may be durable or not.
    InDoubt,
    /// The log or its directory was closed by this process; or all handles of the [`LogDir`](crate::LogDir) are dropped, and the
    /// call must write the directory's checkpoints.
    Closed,
    /// The directory is being closed by a call that waits for the thread on which it is to be closed again, as by a waker.
    Closing,
    /// The partition was deleted.
    Gone,
    /// A [`Pending`](crate::Pending) was awaited where no background thread would sync. The batches are stored, and durable with
    /// the next sync of anybody, by [`Log::sync`](crate::Log::sync) or an append that waits.
    NoSyncer,
    /// A [`Producer`](crate::Producer) has a batch of which it is not known whether it is stored; call its `retry`.
    Unsettled,
    /// A bound was reached and the caller asked not to wait.
    WouldBlock {
        /// The option that sets the bound, `max_unsynced_bytes` or `max_pending`; or `room`, where the log must first make some for
        /// more batches.
        bound: &'static str,
    },
    /// An option has a value that cannot work.
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// The values that work.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// The partition to create is there, or the one to open again is open and takes appends.
    Exists {
        /// Its directory.
        path: PathBuf,
    },
    /// A topic name that Kafka would refuse.
    InvalidTopic {
        /// The name.
        topic: String,
        /// Which rule it breaks.
        expected: &'static str,
    },
    /// A partition's number is below 0.
    InvalidPartition {
        /// The number.
        got: i32,
    },
    /// No id is left in the directory's range, [`producer_ids`](crate::LogDirOptions::producer_ids).
    ProducerIdsExhausted,
    /// The directory knows as many producers with a name as it may, two million; those go on.
    ProducerNamesExhausted,
    /// A [`Producer`](crate::Producer) has used its last sequence in a partition whose sequences only increase.
    SequencesExhausted,
    /// The log has no room below the last offset, 2^63-1; nothing was stored.
    OffsetsExhausted,
    /// The log directory or partition is open for reading only.
    ReadOnly {
        /// Its path.
        path: PathBuf,
    },
}

/// An operation that the operating system refused.
///
/// ```
/// use idemlog::{Error, LogDir, LogDirOptions};
///
/// let error = LogDir::open("/proc/nowhere", LogDirOptions::default()).unwrap_err();
/// assert!(matches!(&error, Error::Io(io) if io.path.starts_with("/proc/nowhere")), "{error}");
/// ```
#[derive(Clone, Debug)]
pub struct IoError {
    /// What was being done: "open", "sync", "allocate", ...
    pub operation: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: Arc<io::Error>,
}

impl IoError {
    /// Names an operating system error by operation and path.
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_owned(), source: Arc::new(source) }
    }
}

/// Gives an [`io::Result`] its place: which operation on which path.
pub(crate) trait IoContext<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io(IoError::new(operation, path, source)))
    }
}

/// A file that holds what it must not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The byte position in it.
    pub position: u64,
    /// What is wrong there.
    pub kind: CorruptionKind,
    /// The recovery point, where a partition did not open as this lies below it: what is damaged was durable.
    pub below: Option<Offset>,
}

impl Corruption {
    pub(crate) fn new(path: PathBuf, position: u64, kind: CorruptionKind) -> Self {
        Self { path, position, kind, below: None }
    }
}

/// What is wrong with the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptionKind {
    /// The bytes are not a valid record batch.
    Batch(BatchError),
    /// A batch stands at an offset where it cannot stand.
    BaseOffset {
        /// The offset that must stand here (or a higher one, where gaps are allowed).
        expected: Offset,
        /// The offset found.
        got: Offset,
    },
    /// A batch has a leader epoch lower than the batch before it.
    LeaderEpoch {
        /// The lowest acceptable epoch.
        expected: LeaderEpoch,
        /// The epoch found.
        got: LeaderEpoch,
    },
    /// A checksum over a file or a part of it does not match.
    Checksum {
        /// The checksum in the file.
        expected: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// The file's format has a version that is not known, and skipping it would break a promise. A higher one was written by a
    /// newer idemlog, or a newer Kafka: the file is not damaged, and it opens with that.
    Version {
        /// The newest known version.
        expected: i16,
        /// The version found.
        got: i16,
    },
    /// The file is shorter or longer than its contents say.
    Length {
        /// The length that the contents call for.
        expected: u64,
        /// The length found.
        got: u64,
    },
    /// The file is longer than any of its kind can be.
    TooLong {
        /// The length that one may have.
        limit: u64,
        /// The length found.
        got: u64,
    },
    /// A segment is missing: the log has a hole.
    MissingSegment {
        /// The offset at which a segment must begin.
        expected: Offset,
        /// Where the next one begins.
        got: Offset,
    },
    /// The log ends below the offset up to which it was durable.
    MissingEnd {
        /// Up to here everything was durable.
        expected: Offset,
        /// The log end offset found.
        got: Offset,
    },
    /// A partition of which the checkpoints of a log directory tell has no directory, and was not deleted: it was taken away or lost.
    /// (Of a directory that Kafka left behind a crash it counts as deleted.)
    /// Bring it back, and open it ([`LogDir::reopen_partition`](crate::LogDir::reopen_partition)), or delete it
    /// ([`LogDir::delete_partition`](crate::LogDir::delete_partition)).
    MissingPartition {
        /// Up to here it was durable.
        recovery_point: Offset,
    },
    /// A text or table file that does not follow its format, in words.
    Format(&'static str),
}

/// Why bytes are not an acceptable record batch (magic 2). Positions count from the batch's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch says it has, or than any batch has.
    TooShort {
        /// Bytes needed.
        expected: usize,
        /// Bytes there.
        got: usize,
    },
    /// The length field is smaller than a batch header, or negative.
    Length {
        /// The value of the length field.
        got: i32,
    },
    /// Bytes are left over behind the batch where only one is allowed.
    TrailingBytes {
        /// The batch's size.
        expected: usize,
        /// Bytes there.
        got: usize,
    },
    /// A batch of an older (0, 1) or unknown format.
    UnsupportedMagic {
        /// The magic byte.
        got: i8,
    },
    /// The CRC-32C does not match.
    Crc {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// A header field is out of its range.
    Field {
        /// The field's name in the format.
        field: &'static str,
        /// The values that are allowed.
        expected: &'static str,
        /// The value found.
        got: i64,
    },
    /// The batch is larger than the log takes.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The batch's size in bytes.
        got: usize,
        /// The option that sets the limit.
        option: &'static str,
    },
    /// The batch, or all of a call, does not fit into a segment: the limit is
    /// [`segment_bytes`](crate::LogOptions::segment_bytes).
    LargerThanSegment {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        got: usize,
    },
    /// A record inside the batch is malformed.
    Record {
        /// Which record, from 0.
        index: i32,
        /// Where, in the (decompressed) records.
        position: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The compression codec is not one of the known.
    UnknownCodec {
        /// The codec's number.
        got: u8,
    },
    /// The codec's feature is not compiled in.
    CodecDisabled {
        /// The codec's name, which is the feature's.
        codec: &'static str,
    },
    /// The compressed bytes are malformed.
    Decompression {
        /// The codec's name.
        codec: &'static str,
        /// The codec's own words.
        problem: String,
    },
    /// The records decompress to more than the bound.
    DecompressedTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The batch is further ahead of the clock than
    /// [`max_timestamp_ahead_ms`](crate::LogOptions::max_timestamp_ahead_ms) lets a client be.
    TimestampAhead {
        /// The largest timestamp that is taken at this time.
        expected: Timestamp,
        /// The batch's largest.
        got: Timestamp,
    },
    /// A rule for batches from clients is broken.
    ClientRule {
        /// The rule.
        expected: &'static str,
        /// The value that breaks it.
        got: i64,
    },
}

/// A batch that its producer's state does not allow. Carries what a client or an operator needs to see why.
///
/// ```
/// use idemlog::{BatchBuilder, Error, LogDir, LogDirOptions, ProducerEpoch, RejectionReason, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let id = dir.new_producer_id()?;
/// let batch = |sequence| {
///     BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(sequence)).record(b"k", b"v").build()
/// };
///
/// log.append(&batch(0)?)?;
/// let Err(Error::Rejected(rejection)) = log.append(&batch(2)?) else { panic!("a gap is refused") };
/// assert_eq!(rejection.reason, RejectionReason::Gap);
/// assert_eq!(rejection.expected, Some(Sequence(1)));
/// assert_eq!(rejection.code().number(), 45); // OUT_OF_ORDER_SEQUENCE_NUMBER
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// Why.
    pub reason: RejectionReason,
    /// The producer of the refused batch.
    pub producer_id: ProducerId,
    /// The epoch in the refused batch.
    pub producer_epoch: ProducerEpoch,
    /// The first sequence of the refused batch.
    pub first_sequence: Sequence,
    /// The last sequence of the refused batch.
    pub last_sequence: Sequence,
    /// The producer's current epoch in this partition, if it is known.
    pub current_epoch: Option<ProducerEpoch>,
    /// The sequence at which the producer goes on here. `None` for one that is [`Fenced`](RejectionReason::Fenced), for a marker,
    /// and where none is known.
    pub expected: Option<Sequence>,
    /// The batches still recognised as duplicates. `None` if there are none.
    pub window: Option<WindowBounds>,
}

/// The batches of a producer that are still recognised when they are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBounds {
    /// The first sequence of the oldest batch.
    pub first_sequence: Sequence,
    /// The last sequence of the newest batch.
    pub last_sequence: Sequence,
    /// From the first offset of the oldest to the last offset of the newest.
    pub offsets: OffsetRange,
}

/// Why a producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The batch begins above the next sequence, or above the one with which the transaction begins that is being verified
    /// ([`Log::begin_verification`](crate::Log::begin_verification)): one before it is missing. Or it is the first of an unknown
    /// producer in an epoch that such a transaction begins
    /// ([`TransactionVersion::V2`](crate::TransactionVersion)), and does not begin at 0.
    Gap,
    /// The batch covers sequences that are stored, without being one of the stored batches; or, under
    /// [`SequenceRule::Increasing`](crate::SequenceRule::Increasing), it runs past 2^31-1.
    Overlap,
    /// The batch is stored, or was skipped, but lies before the batches still remembered.
    OlderThanWindow,
    /// The sequence of a remembered batch is used again for other bytes (policy `SameBytes`).
    DifferentBytes,
    /// The batch's producer epoch is older than the producer's current one.
    Fenced,
    /// The first batch of a new producer epoch does not begin at sequence 0.
    NewEpochNotAtZero,
    /// The log has never held a record, and the batch does not begin at sequence 0: one before it is on its way, or was
    /// refused (policy `RequireZeroInNewLog`).
    NewLogNotAtZero,
    /// The producer is not known here and does not begin at sequence 0 (policy `RequireZero`).
    UnknownProducer,
    /// The partition has as many producers as it may, and none of them can be forgotten yet.
    ProducerBudget,
    /// A batch outside of a transaction while the producer's transaction is open.
    TransactionOpen,
    /// A transactional batch for which no verification was begun, or another one.
    NotVerified,
    /// A marker of a transaction coordinator older than the last one heard of.
    CoordinatorFenced,
    /// A marker in the producer epoch of the transaction that is open, where each has its own
    /// ([`TransactionVersion::V2`](crate::TransactionVersion)): it ended the one before, and comes again.
    StaleMarker,
}
impl Error {
    /// A [`Error::Corrupt`] at a place.
    pub(crate) fn corrupt(path: &Path, position: u64, kind: CorruptionKind) -> Self {
        Self::Corrupt(Corruption::new(path.to_owned(), position, kind))
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_full_disk(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io(cause) if matches!(cause.source.kind(), StorageFull | QuotaExceeded))
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Self {
        Self::InvalidBatch(error)
    }
}
