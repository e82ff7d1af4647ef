//! A `.log` file, or its end, leaves the log: it is retired, and cut in place if nobody sees it, else replaced by a copy.

use std::path::Path;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::{COPY_STEP, LogFile, Place};
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::{Access, name};

impl LogFile {
    /// Takes the file out of the log: from here on nobody opens, maps or extends it. `true` if nobody sees any of it
    /// any more, so that it may be cut. There must be no [`Sink`](super::Sink).
    pub(crate) fn retire(&self) -> bool {
        let place = self.close();
        place.views.is_empty() && !self.is_mapped_at(&place)
    }

    /// The same where the file stays as it is: nobody looks who sees it.
    pub(crate) fn let_go(&self) {
        drop(self.close());
    }

    fn close(&self) -> MutexGuard<'_, Place> {
        // Who is allocating finishes first; it would extend what is cut.
        let mut has_sink = self.allocating.lock();
        *has_sink = false;
        let mut place = self.place.lock();
        self.retired.store(true, Ordering::Release);
        // A swap counts those who are just looking at what is swapped out among its owners.
        drop(self.opened.swap(None));
        place.forget_unheld();
        place
    }

    /// Whether anybody in the process has the file mapped: who read from it before the log was closed and opened again is not
    /// among the views.
    fn is_mapped_at(&self, place: &Place) -> bool {
        self.disk.open(&place.path, Access::Read).and_then(|file| file.is_mapped()).unwrap_or(true)
    }

    /// Takes the file back in: it was not cut after all.
    pub(crate) fn revive(&self) {
        let _place = self.place.lock();
        self.retired.store(false, Ordering::Release);
    }

    #[inline]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Cuts a retired file that nobody sees, durably.
    pub(crate) fn cut(&self, end: u64) -> Result<()> {
        let path = self.path();
        let file = self.disk.open(&path, Access::Write).at("open", &path)?;
        file.set_len(end).at("cut", &path)?;
        file.sync().at("sync", &path)
    }

    /// Cuts a file that no log has open yet, in place or by a copy; neither is durable as to the name.
    pub(crate) fn shorten(&self, end: u64) -> Result<()> {
        // What was mapped to be looked at goes away with the cut.
        self.release();
        let place = self.place.lock();
        if self.is_mapped_at(&place) {
            drop(place);
            self.copy_prefix(end)?;
            self.replace_by_copy()?;
        } else {
            self.open_at(&place, Access::Write)?.set_len(end).at("cut", &place.path)?;
        }
        self.end.store(end, Ordering::Release);
        Ok(())
    }

    /// Copies the first `end` bytes to a file beside this one, durably but for its name. On an error nothing is left.
    pub(crate) fn copy_prefix(&self, end: u64) -> Result<()> {
        let path = self.path();
        let copied = self.copy_to(&name::temporary(&path), end);
        copied.inspect_err(|_| self.discard_copy())
    }

    fn copy_to(&self, copy: &Path, end: u64) -> Result<()> {
        let path = self.path();
        self.discard_copy();
        let from = self.disk.open(&path, Access::Read).at("open", &path)?;
        let to = self.disk.open(copy, Access::CreateNew).at("create", copy)?;
        let mut buffer = vec![0; COPY_STEP.min(end) as usize];
        let mut position = 0;
        while position < end {
            let step = &mut buffer[..COPY_STEP.min(end - position) as usize];
            let got = from.read_at(step, position).at("read", &path)? as u64;
            if got < step.len() as u64 {
                return Err(Error::corrupt(
                    &path,
                    position + got,
                    CorruptionKind::Length { expected: end, got },
                ));
            }
            to.write_at(step, position).at("write", copy)?;
            position += got;
        }
        to.sync().at("sync", copy)
    }

    /// Removes what [`copy_prefix`](Self::copy_prefix) made, where that works; the next one or the next opening does.
    pub(crate) fn discard_copy(&self) {
        let _ = self.disk.remove_file(&name::temporary(&self.path()));
    }

    /// Puts the copy in place of the file, durably. Who sees the old one goes on seeing it.
    pub(crate) fn replace_by_copy(&self) -> Result<()> {
        let path = self.path();
        let copy = name::temporary(&path);
        self.disk.rename(&copy, &path).at("rename", &copy)?;
        self.sync_directory()
    }
}
