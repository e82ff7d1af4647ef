//! Everything that can go wrong, as values: what was expected, what came, where, and which protocol error it maps to.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::topic_id::TopicId;
use crate::types::{LeaderEpoch, Offset, OffsetRange, ProducerEpoch, ProducerId, Sequence};

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
    /// A file holds what it must not hold.
    Corrupt(Corruption),
    /// The operating system refused an operation.
    Io(IoError),
    /// Another owner holds the log directory.
    Locked {
        /// The directory that is held.
        path: PathBuf,
    },
    /// An earlier sync of this partition failed. Appends are refused; opening the directory again recovers.
    Poisoned(IoError),
    /// The offset asked for lies outside of the log.
    OffsetOutOfRange {
        /// The offset asked for.
        got: Offset,
        /// The log start offset.
        start: Offset,
        /// The exclusive end: the log end offset, or what the reader may see of it.
        end: Offset,
    },
    /// A replicated batch does not begin at the log end offset or above.
    UnexpectedOffset {
        /// The lowest offset that it may begin at.
        expected: Offset,
        /// The one it begins at.
        got: Offset,
    },
    /// A replicated batch has a lower leader epoch than the log.
    StaleLeaderEpoch {
        /// The highest leader epoch in the log.
        latest: LeaderEpoch,
        /// The batch's.
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
    /// A truncation removed the batch before it was durable.
    Truncated,
    /// The log was closed, deleted or poisoned while the append waited: it may be durable or not.
    InDoubt,
    /// The log or its directory was closed by this process.
    Closed,
    /// The partition was deleted.
    Gone,
    /// A [`Pending`](crate::Pending) was awaited although nobody syncs: neither a background thread nor a waiter.
    NoSyncer,
    /// A [`Producer`](crate::Producer) has a batch of which it is not known whether it is stored; call its `retry`.
    Unsettled,
    /// A bound was reached and the caller asked not to wait.
    WouldBlock {
        /// The option that sets the bound.
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
    /// A topic name that Kafka would refuse.
    InvalidTopic {
        /// The name.
        topic: String,
        /// Which rule it breaks.
        expected: &'static str,
    },
    /// All 2^63-1 producer ids were given out, or a batch with one of the last came from elsewhere.
    ProducerIdsExhausted,
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
        expected: i32,
        /// The epoch found.
        got: i32,
    },
    /// A checksum over a file or a part of it does not match.
    Checksum {
        /// The checksum in the file.
        expected: u32,
        /// The checksum of the bytes.
        got: u32,
    },
    /// The file's version is newer than this crate knows, and skipping it would break a promise.
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
    /// A segment is missing: the log has a hole.
    MissingSegment {
        /// The offset at which a segment must begin.
        expected: Offset,
        /// Where the next one begins.
        got: Offset,
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
    /// The sequence that would have been accepted.
    pub expected: Option<Sequence>,
    /// The batches still recognised as duplicates.
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
    /// The batch begins above the next sequence: one before it is missing.
    Gap,
    /// The batch covers sequences that are stored, without being one of the stored batches.
    Overlap,
    /// The batch is stored, or was skipped, but lies before the batches still remembered.
    OlderThanWindow,
    /// The sequence of a remembered batch is used again for other bytes (policy `SameBytes`).
    DifferentBytes,
    /// The batch's producer epoch is older than the producer's current one.
    Fenced,
    /// The first batch of a new producer epoch does not begin at sequence 0.
    NewEpochNotAtZero,
    /// The producer is not known here, and the policy does not take its sequence.
    UnknownProducer,
    /// The partition has as many producers as it may, and none of them can be forgotten yet.
    ProducerBudget,
    /// A batch outside of a transaction while the producer's transaction is open.
    TransactionOpen,
    /// A transactional batch for which no verification was begun, or another one.
    NotVerified,
    /// A marker of a transaction coordinator older than the last one heard of.
    CoordinatorFenced,
}

/// The Kafka protocol's error, to answer a client with.
///
/// ```
/// use idemlog::ErrorCode;
///
/// assert_eq!(ErrorCode::OutOfOrderSequenceNumber.number(), 45);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i16)]
pub enum ErrorCode {
    /// The server experienced an unexpected error.
    UnknownServerError = -1,
    /// The requested offset is not within the range of offsets.
    OffsetOutOfRange = 1,
    /// The record's CRC or size is wrong.
    CorruptMessage = 2,
    /// The batch is larger than the server takes.
    MessageTooLarge = 10,
    /// The partition is not (or no longer) here.
    UnknownTopicOrPartition = 3,
    /// The server is not the leader of the partition, any more.
    NotLeaderOrFollower = 6,
    /// The request timed out.
    RequestTimedOut = 7,
    /// The topic name is invalid.
    InvalidTopic = 17,
    /// The batch is larger than a segment.
    RecordListTooLarge = 18,
    /// The record format is not supported.
    UnsupportedForMessageFormat = 43,
    /// Sequences came out of order.
    OutOfOrderSequenceNumber = 45,
    /// The producer epoch is old.
    InvalidProducerEpoch = 47,
    /// The transactional state does not allow the batch.
    InvalidTxnState = 48,
    /// The transaction coordinator is old.
    TransactionCoordinatorFenced = 52,
    /// The disk failed.
    KafkaStorageError = 56,
    /// The producer is not known.
    UnknownProducerId = 59,
    /// The codec is not supported.
    UnsupportedCompressionType = 76,
    /// The batch breaks a rule of the format.
    InvalidRecord = 87,
    /// A quota was exceeded.
    ThrottlingQuotaExceeded = 89,
    /// The partition belongs to another topic of the same name.
    InconsistentTopicId = 103,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn number(self) -> i16 {
        self as i16
    }
}

impl RejectionReason {
    /// The protocol error to answer with.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Gap
            | Self::Overlap
            | Self::OlderThanWindow
            | Self::DifferentBytes
            | Self::NewEpochNotAtZero => ErrorCode::OutOfOrderSequenceNumber,
            Self::Fenced => ErrorCode::InvalidProducerEpoch,
            Self::UnknownProducer => ErrorCode::UnknownProducerId,
            Self::ProducerBudget => ErrorCode::ThrottlingQuotaExceeded,
            Self::TransactionOpen | Self::NotVerified => ErrorCode::InvalidTxnState,
            Self::CoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
        }
    }
}

impl Rejection {
    /// The protocol error to answer with.
    pub fn code(&self) -> ErrorCode {
        self.reason.code()
    }
}

impl BatchError {
    /// The protocol error to answer with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::UnsupportedMagic { .. } => ErrorCode::UnsupportedForMessageFormat,
            Self::TooLarge { option: "segment_bytes", .. } => ErrorCode::RecordListTooLarge,
            Self::TooLarge { .. } | Self::DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::UnknownCodec { .. } | Self::CodecDisabled { .. } => ErrorCode::UnsupportedCompressionType,
            Self::Record { .. } | Self::ClientRule { .. } | Self::Field { .. } => ErrorCode::InvalidRecord,
            _ => ErrorCode::CorruptMessage,
        }
    }
}

impl Error {
    /// The protocol error to answer a client with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Rejected(rejection) => rejection.code(),
            Self::InvalidBatch(error) => error.code(),
            Self::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::InvalidTopic { .. } => ErrorCode::InvalidTopic,
            Self::Truncated | Self::Closed => ErrorCode::NotLeaderOrFollower,
            Self::InDoubt => ErrorCode::RequestTimedOut,
            Self::Gone => ErrorCode::UnknownTopicOrPartition,
            Self::WouldBlock { .. } => ErrorCode::ThrottlingQuotaExceeded,
            Self::Corrupt(_)
            | Self::Io(_)
            | Self::Locked { .. }
            | Self::Poisoned(_)
            | Self::ReadOnly { .. } => ErrorCode::KafkaStorageError,
            Self::TopicId { .. } => ErrorCode::InconsistentTopicId,
            Self::UnexpectedOffset { .. }
            | Self::StaleLeaderEpoch { .. }
            | Self::NoSyncer
            | Self::Unsettled
            | Self::InvalidOption { .. }
            | Self::ProducerIdsExhausted
            | Self::SequencesExhausted
            | Self::OffsetsExhausted => ErrorCode::UnknownServerError,
        }
    }

    /// A [`Error::Corrupt`] at a place.
    pub(crate) fn corrupt(path: &Path, position: u64, kind: CorruptionKind) -> Self {
        Self::Corrupt(Corruption { path: path.to_owned(), position, kind })
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::InvalidBatch(error) => write!(f, "invalid batch: {error}"),
            Self::Corrupt(corruption) => corruption.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Locked { path } => write!(
                f,
                "{} is in use by another owner (this process, another one, or a running Kafka); close it first",
                path.display()
            ),
            Self::Poisoned(cause) => write!(
                f,
                "an earlier sync failed ({cause}); nothing more is taken, open the directory again to recover"
            ),
            Self::OffsetOutOfRange { got, start, end } => {
                write!(f, "offset {got} is outside of the log, which has {start} up to {end} (exclusive)")
            }
            Self::UnexpectedOffset { expected, got } => {
                write!(f, "a replicated batch begins at offset {got}, must begin at {expected} or above")
            }
            Self::StaleLeaderEpoch { latest, got } => {
                write!(f, "a replicated batch has leader epoch {got}, the log is at {latest} already")
            }
            Self::TopicId { path, expected, got } => write!(
                f,
                "{} belongs to the topic with id {got}, not {expected}: one of the same name was deleted and created again",
                path.display()
            ),
            Self::Truncated => f.write_str("the batch was truncated before it was durable"),
            Self::InDoubt => f.write_str(
                "the log was closed, deleted or poisoned before the batch was known to be durable; send it again after reopening",
            ),
            Self::Closed => f.write_str("the log is closed"),
            Self::Gone => f.write_str("the partition was deleted"),
            Self::NoSyncer => f.write_str(
                "nobody syncs this log, so awaiting would never end: ask for background threads (LogDirOptions::background_threads), \
                 run LogDir::run_background in a thread, or call Pending::wait",
            ),
            Self::Unsettled => f.write_str(
                "it is not known whether an earlier batch of this producer is stored: call retry first",
            ),
            Self::WouldBlock { bound } => write!(f, "the bound {bound} is reached; wait for pending appends"),
            Self::InvalidOption { option, expected, got } => {
                write!(f, "option {option} must be {expected}, not {got}")
            }
            Self::InvalidTopic { topic, expected } => write!(f, "topic name {topic:?}: {expected}"),
            Self::ProducerIdsExhausted => f.write_str("no producer id is left to give out"),
            Self::SequencesExhausted => {
                f.write_str("no sequence is left in this partition: go on under another name")
            }
            Self::OffsetsExhausted => f.write_str("the log has too few offsets left for the batch"),
            Self::ReadOnly { path } => write!(f, "{} is open for reading only", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) | Self::Poisoned(error) => Some(&*error.source),
            _ => None,
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.path.display(), self.source)
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.position, self.kind)
    }
}

impl fmt::Display for CorruptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(error) => error.fmt(f),
            Self::BaseOffset { expected, got } => {
                write!(f, "a batch at offset {got} where {expected} must stand")
            }
            Self::LeaderEpoch { expected, got } => {
                write!(f, "a batch of leader epoch {got} behind one of {expected}")
            }
            Self::Checksum { expected, got } => {
                write!(f, "the checksum is {expected:#010x}, that of the bytes {got:#010x}")
            }
            Self::Version { expected, got } => write!(f, "version {got}, the newest known is {expected}"),
            Self::Length { expected, got } => write!(f, "{got} bytes where {expected} must be"),
            Self::MissingSegment { expected, got } => {
                write!(f, "no segment begins at offset {expected}, the next begins at {got}")
            }
            Self::Format(problem) => f.write_str(problem),
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { expected, got } => write!(f, "{got} bytes where the batch needs {expected}"),
            Self::Length { got } => write!(f, "a length field of {got}, too small for a batch"),
            Self::TrailingBytes { expected, got } => {
                write!(f, "{got} bytes where one batch of {expected} must be")
            }
            Self::UnsupportedMagic { got } => write!(f, "magic {got}; only 2 is supported"),
            Self::Crc { expected, got } => {
                write!(f, "the header's CRC-32C is {expected:#010x}, that of the bytes {got:#010x}")
            }
            Self::Field { field, expected, got } => write!(f, "{field} is {got}, must be {expected}"),
            Self::TooLarge { limit, got, option } => write!(f, "{got} bytes, more than {option} = {limit}"),
            Self::Record { index, position, problem } => {
                write!(f, "record {index} at byte {position} of the records: {problem}")
            }
            Self::UnknownCodec { got } => write!(f, "unknown compression codec {got}"),
            Self::CodecDisabled { codec } => write!(f, "compressed with {codec}, which is not compiled in"),
            Self::Decompression { codec, problem } => write!(f, "{codec}: {problem}"),
            Self::DecompressedTooLarge { limit } => {
                write!(f, "the records decompress to more than {limit} bytes")
            }
            Self::ClientRule { expected, got } => write!(f, "from a client, {expected}; got {got}"),
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gap => "a batch before it is missing",
            Self::Overlap => "it covers stored sequences without being one of the stored batches",
            Self::OlderThanWindow => "it lies before the batches that are remembered",
            Self::DifferentBytes => "its sequence is stored with other bytes",
            Self::Fenced => "its producer epoch is older than the current one",
            Self::NewEpochNotAtZero => "a new producer epoch must begin at sequence 0",
            Self::UnknownProducer => "the producer is not known here and must begin at sequence 0",
            Self::ProducerBudget => {
                "the partition has as many producers as it may and can forget none of them yet"
            }
            Self::TransactionOpen => "the producer has a transaction open and the batch is not part of it",
            Self::NotVerified => "the transaction was not verified for this partition",
            Self::CoordinatorFenced => "the transaction coordinator's epoch is older than the last one seen",
        })
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "batch of producer {} epoch {} with sequences {}..={} refused: {}",
            self.producer_id, self.producer_epoch, self.first_sequence, self.last_sequence, self.reason
        )?;
        if let Some(expected) = self.expected {
            write!(f, "; the next sequence is {expected}")?;
        }
        if let Some(epoch) = self.current_epoch {
            write!(f, "; the current epoch is {epoch}")?;
        }
        if let Some(window) = self.window {
            write!(
                f,
                "; remembered are sequences {}..={} at offsets {}",
                window.first_sequence, window.last_sequence, window.offsets
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Rejection {}
impl std::error::Error for BatchError {}
impl std::error::Error for Corruption {}
