//! To which incarnation of its topic a partition belongs.

use std::path::Path;

use super::{Log, Shared};
use crate::error::{CorruptionKind, Error, Result};
use crate::fs::missing::read_if_present;
use crate::fs::name::PartitionFile;
use crate::fs::{Disk, atomic};
use crate::topic_id::{self, TopicId};

/// The largest file that is read.
const MAX_METADATA: u64 = 4096;

/// The topic's id in the directory, if one is noted there.
///
/// # Errors
///
/// [`Error::Corrupt`] for a file that says none; the disk's.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<TopicId>> {
    let path = directory.join(PartitionFile::Metadata.name().unwrap_or_default());
    let Some(bytes) = read_if_present(disk, &path, MAX_METADATA)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| CorruptionKind::Format("not text in UTF-8"));
    text.and_then(topic_id::decode_metadata).map(Some).map_err(|kind| Error::corrupt(&path, 0, kind))
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
                let path = self.path(&PartitionFile::Metadata.name().unwrap_or_default());
                let text = topic_id::encode_metadata(expected);
                atomic::replace_file(&*self.environment.disk, &path, text.as_bytes())?;
                let _ = self.topic_id.set(expected);
                Ok(())
            }
        }
    }
}
