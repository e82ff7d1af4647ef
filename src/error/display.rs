//! Errors in words.

use std::fmt;

use super::{BatchError, Corruption, CorruptionKind, Error, IoError, Rejection, RejectionReason};
use crate::types::TopicId;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::InvalidBatch(error) => write!(f, "invalid batch: {error}"),
            Self::Corrupt(corruption) => corruption.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Locked { .. }
            | Self::NotALogDir { .. }
            | Self::NotEmpty { .. }
            | Self::TopicId { .. }
            | Self::Exists { .. }
            | Self::ReadOnly { .. } => self.fmt_place(f),
            Self::Poisoned(cause) => write!(
                f,
                "an earlier sync failed ({cause}); nothing more is taken, open the partition again to recover"
            ),
            Self::OffsetOutOfRange { got, start, end } => {
                write!(f, "offset {got} is outside of the log, which has {start} up to {end} (exclusive)")
            }
            Self::UnexpectedOffset { expected, got } => {
                write!(f, "what is replicated begins at offset {got}, the log ends at {expected}")
            }
            Self::StaleLeaderEpoch { latest, got } => {
                write!(f, "leader epoch {got} is over, the log is at {latest} already")
            }
            Self::UnknownTopicId => write!(
                f,
                "topic id {}: it stands for an id that is not known, and no partition belongs to it",
                TopicId::ZERO
            ),
            Self::Truncated => f.write_str("the batch was truncated before it was durable, or replicated"),
            Self::InDoubt => f.write_str(
                "the log was closed, deleted or poisoned before the batch was known to be durable; send it again after reopening",
            ),
            Self::Closed => f.write_str("the log is closed"),
            Self::Closing => {
                f.write_str("the directory is being closed already, by a call that waits for this thread")
            }
            Self::Gone => f.write_str("the partition was deleted"),
            Self::NoSyncer => f.write_str(
                "nobody syncs this log, so awaiting would never end: ask for background threads (LogDirOptions::background_threads), \
                 run LogDir::run_background in a thread, or call Pending::wait",
            ),
            Self::Unsettled => f.write_str(
                "it is not known whether an earlier batch of this producer is stored: call retry first",
            ),
            Self::WouldBlock { bound: "room" } => {
                f.write_str("the log must make room first; try again, or submit where you may wait")
            }
            Self::WouldBlock { bound } => write!(f, "the bound {bound} is reached; wait for pending appends"),
            Self::InvalidOption { option, expected, got } => {
                write!(f, "option {option} must be {expected}, not {got}")
            }
            Self::InvalidTopic { topic, expected } => write!(f, "topic name {topic:?}: {expected}"),
            Self::InvalidPartition { got } => write!(f, "partition {got}: it must be 0 or higher"),
            Self::ProducerIdsExhausted => f.write_str("no producer id is left to give out"),
            Self::ProducerNamesExhausted => f.write_str("there are too many producers with a name for another one"),
            Self::SequencesExhausted => {
                f.write_str("no sequence is left in this partition: go on under another name")
            }
            Self::OffsetsExhausted => f.write_str("the log has too few offsets left for the batch"),
        }
    }
}

impl Error {
    /// What is said of a directory.
    fn fmt_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(
                f,
                "{} is in use by another owner (this process, another one, or a running Kafka); close it first",
                path.display()
            ),
            Self::NotALogDir { path } => write!(
                f,
                "{} is no log directory: none of .lock, .kafka_cleanshutdown and recovery-point-offset-checkpoint is there; \
                 mount its volume, or open it without must_exist to begin a new one",
                path.display()
            ),
            Self::NotEmpty { path } => {
                write!(f, "the log in {} is not empty: truncate it fully first", path.display())
            }
            Self::TopicId { path, expected, got } => write!(
                f,
                "{} belongs to the topic with id {got}, not {expected}: one of the same name was deleted and created again",
                path.display()
            ),
            Self::Exists { path } => write!(f, "{} exists already", path.display()),
            Self::ReadOnly { path } => write!(f, "{} is open for reading only", path.display()),
            // None of these.
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::error::Error for Error {
    /// What is behind the operating system's error; all else is in the words of this one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) | Self::Poisoned(error) => error.source(),
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
        write!(f, "{} at byte {}: {}", self.path.display(), self.position, self.kind)?;
        match self.below {
            Some(point) => write!(
                f,
                "; that is below the recovery point {point}, so it was durable: `idemlog repair` says what can be done"
            ),
            None => Ok(()),
        }
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
            Self::Version { expected, got } if got > expected => write!(
                f,
                "version {got} of its format, of which this idemlog knows {expected} at the most: a newer idemlog wrote it, or a newer Kafka"
            ),
            Self::Version { expected, got } => {
                write!(f, "version {got} of its format, which there never was; the newest is {expected}")
            }
            Self::Length { expected, got } => write!(f, "{got} bytes where {expected} must be"),
            Self::TooLong { limit, got } => {
                write!(f, "{got} bytes; a file of its kind has {limit} at the most")
            }
            Self::MissingSegment { expected, got } => {
                write!(f, "no segment begins at offset {expected}, the next begins at {got}")
            }
            Self::MissingEnd { expected, got } => {
                write!(f, "the log ends at offset {got}; up to {expected} it was durable")
            }
            Self::MissingPartition { recovery_point } => write!(
                f,
                "the partition is missing, up to offset {recovery_point} it was durable; bring its directory back and open it again, or delete it"
            ),
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
            Self::LargerThanSegment { limit, got } => {
                write!(f, "{got} bytes, more than segment_bytes = {limit}")
            }
            Self::Record { index, position, problem } => {
                write!(f, "record {index} at byte {position} of the records: {problem}")
            }
            Self::UnknownCodec { got } => write!(f, "unknown compression codec {got}"),
            Self::CodecDisabled { codec } => write!(f, "compressed with {codec}, which is not compiled in"),
            Self::Decompression { codec, problem } => write!(f, "{codec}: {problem}"),
            Self::DecompressedTooLarge { limit } => {
                write!(f, "the records decompress to more than {limit} bytes")
            }
            Self::TimestampAhead { expected, got } => {
                write!(
                    f,
                    "its largest timestamp is {got}, ahead of the clock; at this time {expected} is the latest"
                )
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
            Self::NewLogNotAtZero => "the log is new, and a producer must begin at sequence 0 there",
            Self::UnknownProducer => "the producer is not known here and must begin at sequence 0",
            Self::ProducerBudget => {
                "the partition has as many producers as it may and can forget none of them yet"
            }
            Self::TransactionOpen => "the producer has a transaction open and the batch is not part of it",
            Self::NotVerified => "the transaction was not verified for this partition",
            Self::StaleMarker => "it ended the transaction before the one that is open",
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

impl std::error::Error for IoError {
    /// What is behind the operating system's error, which is in the words of this one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl std::error::Error for Rejection {}
impl std::error::Error for BatchError {}
impl std::error::Error for Corruption {}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;

    fn words(error: &(dyn std::error::Error + 'static)) -> String {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    /// What prints an error with its causes, as anyhow does, said twice what the operating system had answered.
    #[test]
    fn an_error_with_its_causes_says_nothing_twice() {
        let io_error = || IoError::new("sync", Path::new("orders-0"), io::Error::other("the cable is out"));
        for error in [Error::Io(io_error()), Error::Poisoned(io_error())] {
            assert_eq!(words(&error).matches("the cable is out").count(), 1, "{}", words(&error));
        }
        assert_eq!(words(&io_error()), "sync orders-0: the cable is out");
    }
}
