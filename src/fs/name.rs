//! Every name on the disk, built and parsed: the files of a partition, the files of a log directory, and the
//! directories of partitions. All but our own are Kafka's.
//!
//! Parsing is total and strict: a name is what building would have made, or it is foreign (`Other`) and left alone.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::types::Offset;

/// The files of a log directory.
pub(crate) mod directory_file {
    /// Locked by the directory's owner.
    pub(crate) const LOCK: &str = ".lock";
    /// There while every partition is closed well.
    pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
    /// Per partition, the offset below which all is durable.
    pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
    /// Per partition, the log start offset.
    pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
    /// Per partition, the high watermark.
    pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
    /// Ours: the producer ids that were given out.
    pub(crate) const PRODUCER_IDS: &str = "idemlog-producer-ids";
    /// Ours: the ids of producers that have a name.
    pub(crate) const NAMED_PRODUCERS: &str = "idemlog-named-producers";
    /// Ours: blocks for those who make room on a full disk.
    pub(crate) const RESERVE: &str = "idemlog-reserve";
}

/// The files of a partition that belong to none of its segments.
pub(crate) mod partition_file {
    use crate::types::Offset;

    /// Ours: the next segment, whose base offset is not known yet.
    pub(crate) const PREPARED: &str = "segment.prepared";
    /// Where each leader epoch began.
    pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
    /// The topic's id.
    pub(crate) const METADATA: &str = "partition.metadata";
    pub(super) const CORRUPT: &str = ".corrupt";

    /// Ours: bytes cut out of the segment that begins at `base`, from `position` on, where so many files were kept `before`.
    pub(crate) fn quarantined(base: Offset, position: u64, before: u64) -> String {
        match before {
            0 => format!("{:020}.{position}{CORRUPT}", base.0),
            _ => format!("{:020}.{position}.{before}{CORRUPT}", base.0),
        }
    }
}

const TEMPORARY: &str = ".tmp";

/// The files that belong to one segment, named by its base offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SegmentFile {
    /// The record batches.
    Log,
    /// Offset to position.
    OffsetIndex,
    /// Timestamp to offset.
    TimeIndex,
    /// Aborted transactions.
    TransactionIndex,
    /// The producer table as it was below the base offset.
    Snapshot,
}

impl SegmentFile {
    pub(crate) const ALL: [Self; 5] =
        [Self::Log, Self::OffsetIndex, Self::TimeIndex, Self::TransactionIndex, Self::Snapshot];

    /// The name of this file of the segment that begins at `base`.
    pub(crate) fn name(self, base: Offset) -> String {
        format!("{:020}{}", base.0, self.suffix())
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::OffsetIndex => ".index",
            Self::TimeIndex => ".timeindex",
            Self::TransactionIndex => ".txnindex",
            Self::Snapshot => ".snapshot",
        }
    }
}

/// What a second suffix says about a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// No second suffix: in use.
    Live,
    /// To be removed.
    Deleted,
    /// Being written by Kafka's cleaner, or to replace a longer file.
    Cleaned,
    /// Complete, about to replace the live file.
    Swap,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Deleted, Self::Cleaned, Self::Swap, Self::Live];

    fn suffix(self) -> &'static str {
        match self {
            Self::Live => "",
            Self::Deleted => ".deleted",
            Self::Cleaned => ".cleaned",
            Self::Swap => ".swap",
        }
    }
}

/// A file in a partition's directory, as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PartitionFile {
    /// A file of the segment that begins at `base`.
    Segment { file: SegmentFile, base: Offset, stage: Stage },
    /// The next segment, whose base offset is not known yet.
    Prepared,
    /// Where each leader epoch began.
    LeaderEpochs,
    /// The topic's id.
    Metadata,
    /// Bytes cut out of the segment that begins at `base`, from `position` on, kept for a human. So many files were kept of
    /// there `before`.
    Quarantined { base: Offset, position: u64, before: u64 },
    /// A leftover of a replacement that did not finish.
    Temporary,
    /// Not a name of this format.
    Other,
}

impl PartitionFile {
    /// What a file called `name` is.
    pub(crate) fn parse(name: &OsStr) -> Self {
        match name.to_str() {
            Some(partition_file::PREPARED) => Self::Prepared,
            Some(partition_file::LEADER_EPOCHS) => Self::LeaderEpochs,
            Some(partition_file::METADATA) => Self::Metadata,
            Some(name) if is_temporary(name) => Self::Temporary,
            Some(name) => parse_quarantined(name).or_else(|| parse_segment(name)).unwrap_or(Self::Other),
            None => Self::Other,
        }
    }
}

/// Whether a file of this name was taken out of a partition, whole or in part, and kept for a human.
pub(crate) fn is_quarantined(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.ends_with(partition_file::CORRUPT))
}

/// Whether it is the name under which a file of ours is written before it is replaced.
fn is_temporary(name: &str) -> bool {
    let replaced = name.strip_suffix(TEMPORARY).map(|name| PartitionFile::parse(OsStr::new(name)));
    replaced.is_some_and(|file| !matches!(file, PartitionFile::Temporary | PartitionFile::Other))
}

fn parse_segment(name: &str) -> Option<PartitionFile> {
    let (stem, stage) =
        Stage::ALL.into_iter().find_map(|stage| Some((name.strip_suffix(stage.suffix())?, stage)))?;
    let (digits, file) =
        SegmentFile::ALL.into_iter().find_map(|file| Some((stem.strip_suffix(file.suffix())?, file)))?;
    Some(PartitionFile::Segment { file, base: parse_base(digits)?, stage })
}

fn parse_quarantined(name: &str) -> Option<PartitionFile> {
    let (base, place) = name.strip_suffix(partition_file::CORRUPT)?.split_once('.')?;
    let (position, before) = match place.split_once('.') {
        Some((position, before)) => (position, parse_number(before).filter(|&before| before > 0)?),
        None => (place, 0),
    };
    Some(PartitionFile::Quarantined { base: parse_base(base)?, position: parse_number(position)?, before })
}

fn parse_base(digits: &str) -> Option<Offset> {
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok().map(Offset)).flatten()
}

/// A decimal number as `Display` writes it: no sign, no leading zeros.
fn parse_number<N: std::str::FromStr + fmt::Display>(digits: &str) -> Option<N> {
    let number: N = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

/// The temporary file that replaces `path`.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// Which log: a topic's name and the number of one of its partitions.
///
/// ```
/// use idemlog::TopicPartition;
///
/// let orders = TopicPartition::new("orders", 0)?;
/// assert_eq!(orders.to_string(), "orders-0");
/// assert!(orders < TopicPartition::new("orders", 1)?);
///
/// let refused = TopicPartition::new("a/b", 0).unwrap_err();
/// assert_eq!(refused.to_string(), r#"topic name "a/b": only ASCII letters, digits, '.', '_' and '-'"#);
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    topic: String,
    partition: i32,
}

impl TopicPartition {
    /// Names a partition. The rules for a topic are Kafka's: 1 to 249 ASCII letters, digits, '.', '_' and '-', and
    /// neither "." nor "..". A partition is 0 or higher.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTopic`], [`Error::InvalidPartition`].
    pub fn new(topic: impl Into<String>, partition: i32) -> Result<Self> {
        let topic = topic.into();
        if let Some(expected) = broken_rule(&topic) {
            return Err(Error::InvalidTopic { topic, expected });
        }
        if partition < 0 {
            return Err(Error::InvalidPartition { got: partition });
        }
        Ok(Self { topic, partition })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The number of the partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// `topic-partition`. A topic may hold dashes, too: the partition is behind the last one.
    fn parse(name: &str) -> Option<Self> {
        let (topic, partition) = name.rsplit_once('-')?;
        Self::new(topic, parse_number(partition)?).ok()
    }
}

/// The rule of topic names that `topic` breaks.
fn broken_rule(topic: &str) -> Option<&'static str> {
    const MAX_LENGTH: usize = 249;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match topic {
        "" => Some("not empty"),
        "." | ".." => Some("neither \".\" nor \"..\""),
        _ if topic.len() > MAX_LENGTH => Some("at most 249 characters"),
        _ if !topic.bytes().all(allowed) => Some("only ASCII letters, digits, '.', '_' and '-'"),
        _ => None,
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A directory in a log directory, as its name tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PartitionDirectory {
    /// A partition in use.
    Live(TopicPartition),
    /// A partition that was deleted, not all of it removed yet.
    Deleted,
    /// A partition that Kafka was moving here from another log directory.
    Future,
    /// A partition that Kafka found not to belong here.
    Stray,
    /// Not a name of this format.
    Other,
}

impl PartitionDirectory {
    /// What a directory called `name` is.
    pub(crate) fn parse(name: &OsStr) -> Self {
        let Some(name) = name.to_str() else { return Self::Other };
        let retired = [("-delete", Self::Deleted), ("-future", Self::Future), ("-stray", Self::Stray)];
        for (suffix, kind) in retired {
            if name.strip_suffix(suffix).is_some_and(is_partition_with_id) {
                return kind;
            }
        }
        TopicPartition::parse(name).map_or(Self::Other, Self::Live)
    }

    /// The name under which a deleted partition waits for its removal; `id` tells it from earlier ones.
    pub(crate) fn deleted(partition: &TopicPartition, id: u128) -> String {
        Self::longer_names_of(partition) + &format!("{id:032x}-delete")
    }

    /// Whether one of the other names in the directory is a longer one of the partition's, as it has while it is deleted, or moved by
    /// Kafka.
    pub(crate) fn has_longer_name(partition: &TopicPartition, others: &[OsString]) -> bool {
        let longer = Self::longer_names_of(partition);
        others.iter().any(|other| other.to_string_lossy().starts_with(&longer))
    }

    /// What the longer names of a partition's directory begin with.
    fn longer_names_of(partition: &TopicPartition) -> String {
        const MAX_NAME: usize = 255;
        const MOST_BEHIND: usize = 32 + "-delete".len();
        let number = format!("-{}.", partition.partition);
        // Kafka cuts the topic as well: the name is not parsed for it.
        let topic = &partition.topic[..partition.topic.len().min(MAX_NAME - MOST_BEHIND - number.len())];
        format!("{topic}{number}")
    }
}

/// `topic-partition.id` with an id of 32 hexadecimal digits.
fn is_partition_with_id(name: &str) -> bool {
    let is_id = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.rsplit_once('.')
        .is_some_and(|(partition, id)| is_id(id) && TopicPartition::parse(partition).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;

    fn segment(file: SegmentFile, base: i64, stage: Stage) -> PartitionFile {
        PartitionFile::Segment { file, base: Offset(base), stage }
    }

    fn built(file: PartitionFile) -> String {
        match file {
            PartitionFile::Segment { file, base, stage } => file.name(base) + stage.suffix(),
            PartitionFile::Prepared => partition_file::PREPARED.to_owned(),
            PartitionFile::LeaderEpochs => partition_file::LEADER_EPOCHS.to_owned(),
            PartitionFile::Metadata => partition_file::METADATA.to_owned(),
            PartitionFile::Quarantined { base, position, before } => {
                partition_file::quarantined(base, position, before)
            }
            PartitionFile::Temporary | PartitionFile::Other => panic!("{file:?} has no name of its own"),
        }
    }

    #[test]
    fn names_are_built_and_parsed_alike() {
        use SegmentFile::*;
        let cases = [
            ("00000000000000000000.log", segment(Log, 0, Stage::Live)),
            ("00000000000000000302.index", segment(OffsetIndex, 302, Stage::Live)),
            ("00000000000000000302.timeindex", segment(TimeIndex, 302, Stage::Live)),
            ("00000000000000000302.txnindex", segment(TransactionIndex, 302, Stage::Live)),
            ("09223372036854775807.snapshot", segment(Snapshot, i64::MAX, Stage::Live)),
            ("00000000000000000001.log.deleted", segment(Log, 1, Stage::Deleted)),
            ("00000000000000000001.log.cleaned", segment(Log, 1, Stage::Cleaned)),
            ("00000000000000000001.timeindex.swap", segment(TimeIndex, 1, Stage::Swap)),
            ("00000000000000000001.snapshot.deleted", segment(Snapshot, 1, Stage::Deleted)),
            ("segment.prepared", PartitionFile::Prepared),
            ("leader-epoch-checkpoint", PartitionFile::LeaderEpochs),
            ("partition.metadata", PartitionFile::Metadata),
            (
                "00000000000000000007.4096.corrupt",
                PartitionFile::Quarantined { base: Offset(7), position: 4096, before: 0 },
            ),
            (
                "00000000000000000007.4096.2.corrupt",
                PartitionFile::Quarantined { base: Offset(7), position: 4096, before: 2 },
            ),
        ];
        for (name, file) in cases {
            assert_eq!(PartitionFile::parse(OsStr::new(name)), file, "{name}");
            assert_eq!(built(file), name);
        }
    }

    #[test]
    fn a_foreign_name_is_left_alone() {
        let names = [
            "",
            ".log",
            "0.log",
            "0000000000000000001.log",
            "000000000000000000001.log",
            "+0000000000000000001.log",
            "-0000000000000000001.log",
            "99999999999999999999.log",
            "00000000000000000001",
            "00000000000000000001.LOG",
            "00000000000000000001.log.old",
            "00000000000000000001.deleted",
            "00000000000000000001.log.swap.swap",
            "00000000000000000001.04.corrupt",
            "00000000000000000001.-4.corrupt",
            "00000000000000000001.corrupt",
            "00000000000000000001.4.0.corrupt",
            "00000000000000000001.4.1.1.corrupt",
            "00000000000000000001.4.log.corrupt",
            "٠٠٠٠٠٠٠٠٠٠.log",
            "segment.prepared2",
            "README",
            ".tmp",
            "notes.tmp",
            "leader-epoch-checkpoint.tmp.tmp",
        ];
        for name in names {
            assert_eq!(PartitionFile::parse(OsStr::new(name)), PartitionFile::Other, "{name:?}");
        }
    }

    #[test]
    fn no_name_of_ours_looks_like_one_of_kafkas() {
        use directory_file::{NAMED_PRODUCERS, PRODUCER_IDS, RESERVE};
        let quarantined = partition_file::quarantined(Offset(0), 0, 1);
        let ours = [partition_file::PREPARED, &quarantined, PRODUCER_IDS, NAMED_PRODUCERS, RESERVE];
        for name in ours {
            assert!(!SegmentFile::ALL.iter().any(|file| name.ends_with(file.suffix())), "{name}");
            assert!(!["-delete", "-future", "-stray"].iter().any(|suffix| name.ends_with(suffix)), "{name}");
        }
    }

    #[test]
    fn a_temporary_name_is_recognised_wherever_it_stands() {
        let path = temporary(Path::new("/data/orders-0/leader-epoch-checkpoint"));
        assert_eq!(path, Path::new("/data/orders-0/leader-epoch-checkpoint.tmp"));
        use partition_file::{LEADER_EPOCHS, METADATA};
        let names = ["00000000000000000001.log", "00000000000000000001.4.corrupt", METADATA, LEADER_EPOCHS];
        for path in names.map(|name| temporary(Path::new(name))) {
            assert_eq!(PartitionFile::parse(path.file_name().unwrap()), PartitionFile::Temporary, "{path:?}");
        }
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for topic in ["a", "orders", "a-b.c_D9", "...", "-", &longest] {
            assert_eq!(TopicPartition::new(topic, 0).unwrap().topic(), topic);
        }
        let too_long = "x".repeat(250);
        for topic in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a:b", &too_long] {
            assert!(matches!(TopicPartition::new(topic, 0), Err(Error::InvalidTopic { .. })), "{topic:?}");
        }
        let refused = TopicPartition::new("a", -1).unwrap_err();
        assert!(matches!(refused, Error::InvalidPartition { got: -1 }));
        assert_eq!(refused.code(), ErrorCode::UnknownTopicOrPartition);
    }

    #[test]
    fn the_partition_is_behind_the_last_dash() {
        let cases = [
            ("orders-0", "orders", 0),
            ("a-b-12", "a-b", 12),
            ("--3", "-", 3),
            ("a-2147483647", "a", i32::MAX),
        ];
        for (name, topic, partition) in cases {
            let expected = TopicPartition::new(topic, partition).unwrap();
            assert_eq!(
                PartitionDirectory::parse(OsStr::new(name)),
                PartitionDirectory::Live(expected.clone())
            );
            assert_eq!(expected.to_string(), name);
        }
        for name in [
            "orders",
            "orders-",
            "-0",
            "orders-01",
            "orders-+1",
            "orders-2147483648",
            "a b-0",
            ".-0x",
            "..-0",
        ] {
            assert_eq!(PartitionDirectory::parse(OsStr::new(name)), PartitionDirectory::Other, "{name}");
        }
    }

    #[test]
    fn retired_directories_are_recognised() {
        let id = "0123456789abcdef0123456789ABCDEF";
        let cases = [
            (format!("a-b-0.{id}-delete"), PartitionDirectory::Deleted),
            (format!("a-0.{id}-future"), PartitionDirectory::Future),
            (format!("a-0.{id}-stray"), PartitionDirectory::Stray),
            (format!("a.{id}-delete"), PartitionDirectory::Other),
            ("a-0.beef-delete".to_owned(), PartitionDirectory::Other),
        ];
        for (name, kind) in cases {
            assert_eq!(PartitionDirectory::parse(OsStr::new(&name)), kind, "{name}");
        }
    }

    #[test]
    fn a_deleted_directorys_name_fits_a_file_system() {
        for topic in ["a".to_owned(), "x".repeat(249)] {
            let partition = TopicPartition::new(topic, i32::MAX).unwrap();
            let name = PartitionDirectory::deleted(&partition, 7);
            assert!(name.len() <= 255);
            assert_eq!(PartitionDirectory::parse(OsStr::new(&name)), PartitionDirectory::Deleted);
        }
    }
}
