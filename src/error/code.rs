//! What to answer a client of Kafka's protocol with.

use super::{BatchError, Error, Rejection, RejectionReason};

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
    /// No error: for hosts that answer in codes. No [`Error`] has it.
    None = 0,
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
    /// Not now. Kafka says it where replicas are missing, and every client waits a moment and sends the same batch again.
    NotEnoughReplicas = 19,
    /// The timestamp is too far ahead.
    InvalidTimestamp = 32,
    /// The topic or partition exists already.
    TopicAlreadyExists = 36,
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
    /// The leader epoch is over: for hosts that answer followers and consumers in codes. No [`Error`] has it, as a producer,
    /// which knows no leader epoch, gives its batch up at it (librdkafka).
    FencedLeaderEpoch = 74,
    /// The codec is not supported.
    UnsupportedCompressionType = 76,
    /// The batch breaks a rule of the format.
    InvalidRecord = 87,
    /// The topic id is not known.
    UnknownTopicId = 100,
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
            | Self::NewEpochNotAtZero
            | Self::NewLogNotAtZero => ErrorCode::OutOfOrderSequenceNumber,
            Self::Fenced | Self::StaleMarker => ErrorCode::InvalidProducerEpoch,
            Self::UnknownProducer => ErrorCode::UnknownProducerId,
            Self::ProducerBudget => ErrorCode::NotEnoughReplicas,
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
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::TooLarge { .. } | Self::DecompressedTooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::UnknownCodec { .. } | Self::CodecDisabled { .. } => ErrorCode::UnsupportedCompressionType,
            Self::Record { .. } | Self::ClientRule { .. } | Self::Field { .. } => ErrorCode::InvalidRecord,
            Self::TimestampAhead { .. } => ErrorCode::InvalidTimestamp,
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
            Self::Truncated | Self::Closed | Self::Closing | Self::StaleLeaderEpoch { .. } => {
                ErrorCode::NotLeaderOrFollower
            }
            Self::InDoubt => ErrorCode::RequestTimedOut,
            Self::Gone | Self::InvalidPartition { .. } => ErrorCode::UnknownTopicOrPartition,
            Self::Exists { .. } => ErrorCode::TopicAlreadyExists,
            Self::WouldBlock { .. } => ErrorCode::NotEnoughReplicas,
            Self::Corrupt(_)
            | Self::Io(_)
            | Self::Locked { .. }
            | Self::NotALogDir { .. }
            | Self::Poisoned(_)
            | Self::ReadOnly { .. } => ErrorCode::KafkaStorageError,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::TopicId { .. } => ErrorCode::InconsistentTopicId,
            Self::UnexpectedOffset { .. }
            | Self::NotEmpty { .. }
            | Self::NoSyncer
            | Self::Unsettled
            | Self::InvalidOption { .. }
            | Self::ProducerIdsExhausted
            | Self::ProducerNamesExhausted
            | Self::SequencesExhausted
            | Self::OffsetsExhausted => ErrorCode::UnknownServerError,
        }
    }
}
