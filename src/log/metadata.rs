//! To which incarnation of its topic a partition belongs, and the text of `partition.metadata`, which says that.
//!
//! ```text
//! version: 0
//! topic_id: AAAAAAAAAAEAAAAAAAAAAg
//! ```
//!
//! Source: `PartitionMetadata` of Apache Kafka.

use std::path::Path;

use super::{Log, Shared};
use crate::checkpoint;
use crate::error::{CorruptionKind, Error, Result};
use crate::fs::missing::read_text_if_present;
use crate::fs::name::partition_file;
use crate::fs::{Disk, atomic};
use crate::types::TopicId;

const VERSION: i16 = 0;

/// The largest file that is read.
const MAX_METADATA: u64 = 4096;

/// The topic's id in the directory, if one is noted there.
///
/// # Errors
///
/// [`Error::Corrupt`] for a file that says none; the disk's.
pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<TopicId>> {
    let path = directory.join(partition_file::METADATA);
    let Some(text) = read_text_if_present(disk, &path, MAX_METADATA)? else { return Ok(None) };
    decode(&text).map(Some).map_err(|kind| Error::corrupt(&path, 0, kind))
}

impl Log {
    /// To which incarnation of its topic the partition belongs, if that is known.
    pub fn topic_id(&self) -> Option<TopicId> {
        self.shared.topic_id.get().copied()
    }

    /// Notes, durably, to which topic the partition belongs; or makes sure that it is that one.
    pub(crate) fn belong_to(&self, expected: TopicId) -> Result<()> {
        self.shared.change(|| self.shared.belong_to(expected))
    }
}

impl Shared {
    fn belong_to(&self, expected: TopicId) -> Result<()> {
        let _rolling = self.rolling.lock();
        match self.topic_id.get() {
            Some(&got) if got == expected => Ok(()),
            Some(&got) => Err(Error::TopicId { path: self.directory.clone(), expected, got }),
            None => {
                self.check_writable()?;
                let path = self.path(partition_file::METADATA);
                let text = encode(expected);
                atomic::replace_file(&*self.environment.disk, &path, text.as_bytes())?;
                let _ = self.topic_id.set(expected);
                Ok(())
            }
        }
    }
}

/// The text of the file. Kafka ends it without a line end.
fn encode(topic: TopicId) -> String {
    format!("version: {VERSION}\ntopic_id: {topic}")
}

/// The topic's id in the file's text.
///
/// # Errors
///
/// [`CorruptionKind::Version`] for another version, [`CorruptionKind::Format`] for anything but the two lines, and for
/// [`TopicId::ZERO`].
fn decode(text: &str) -> Result<TopicId, CorruptionKind> {
    let mut lines = text.lines();
    let mut value = |key| lines.next().and_then(|line| line.strip_prefix(key));
    let got =
        checkpoint::field(value("version:"), "the first line of partition.metadata is not its version")?;
    if got != VERSION {
        return Err(CorruptionKind::Version { expected: VERSION, got });
    }
    let topic =
        checkpoint::field(value("topic_id:"), "the second line of partition.metadata is not a topic id")?;
    if topic == TopicId::ZERO || lines.next().is_some() {
        return Err(CorruptionKind::Format("partition.metadata is not a version and the id of a topic"));
    }
    Ok(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_kafkas_text() {
        let text = "version: 0\ntopic_id: AAAAAAAAAAEAAAAAAAAAAg";
        let topic = decode(text).unwrap();
        assert_eq!(encode(topic), text);
        assert_eq!(decode(&format!("{text}\n")), Ok(topic));
    }

    #[test]
    fn a_file_that_is_no_metadata_is_refused() {
        let newer = "version: 1\ntopic_id: AAAAAAAAAAEAAAAAAAAAAg";
        assert_eq!(decode(newer), Err(CorruptionKind::Version { expected: 0, got: 1 }));
        let cases = [
            "",
            "version: 0",
            "topic_id: AAAAAAAAAAEAAAAAAAAAAg\nversion: 0",
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
            "version: 0\ntopic_id: AAAAAAAAAAEAAAAAAAAAAg\nmore",
            "version 0\ntopic_id AAAAAAAAAAEAAAAAAAAAAg",
        ];
        for text in cases {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
