//! What is published of a `.log` file becomes durable.

use std::sync::atomic::Ordering;

use super::opened::Opened;
use super::{COPY_STEP, LogFile};
use crate::error::{IoContext, Result};
use crate::fs::Access;

/// Pages are taken out of the mapping before they are synced if there are as many bytes of them.
const UNMAP_MIN: u64 = 128 << 10;

impl LogFile {
    /// Whether published bytes are not known to be on the disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.synced.load(Ordering::Acquire) < self.end()
    }

    /// Makes everything published so far durable (not the name). `true` if there was anything to do.
    pub(crate) fn sync(&self) -> Result<bool> {
        let mut failed = self.syncing.lock();
        if let Some(error) = &*failed {
            return Err((**error).clone());
        }
        let (from, to) = (self.synced.load(Ordering::Acquire), self.end());
        if from >= to {
            return Ok(false);
        }
        let synced = match self.opened.load_full().as_deref() {
            // The kernel syncs nothing through a map that was made for reading, which shows all that there is.
            Some(Opened::Map { map, whole: None }) if map.capacity() as u64 >= to => {
                if to - from >= UNMAP_MIN {
                    map.unmap_pages(from as usize..to as usize);
                }
                map.sync(from as usize..to as usize)
            }
            Some(Opened::File(file)) => file.sync(),
            _ => self.open(Access::Write)?.sync(),
        };
        let synced = synced.at("sync", &self.path());
        if let Err(error) = synced {
            *failed = Some(Box::new(error.clone()));
            // What can still be done is for the next opening, and changes nothing if it fails, too.
            let _ = self.write_again(from, to);
            return Err(error);
        }
        self.synced.fetch_max(to, Ordering::AcqRel);
        Ok(true)
    }

    /// Makes a file that an opening found durable as it is, its length included. Everything below `from` is so already.
    pub(crate) fn sync_found(&self, from: u64) -> Result<()> {
        let synced = self.open(Access::Write)?.sync().at("sync", &self.path());
        // The next opening must not take for durable what only memory has.
        synced.inspect_err(|_| drop(self.write_again(from, self.end())))
    }

    /// Writes published bytes once more, as they are. The kernel counts what it could not write as written: whoever opened the
    /// file next would sync nothing, and take for durable what is in memory only.
    fn write_again(&self, from: u64, to: u64) -> Result<()> {
        let file = self.open(Access::Write)?;
        let mut position = from;
        while position < to {
            let end = to.min(position + COPY_STEP);
            file.write_at(&self.bytes(position, end)?, position).at("write again", &self.path())?;
            position = end;
        }
        Ok(())
    }

    /// Notes that somebody else made everything published durable.
    pub(crate) fn mark_synced(&self) {
        self.synced.fetch_max(self.end(), Ordering::AcqRel);
    }
}
