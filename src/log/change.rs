//! What a change of the log can come to besides what it says itself.

use super::Shared;
use super::commit::End;
use crate::error::{Error, IoError, Result};
use crate::panic::watched;

impl Shared {
    /// Makes a change that must be made whole. If it panics, as a disk of the host's may, nobody knows what the log has:
    /// it is poisoned, as by a failed sync, and the panic goes on.
    #[inline(always)]
    pub(super) fn whole<T>(&self, change: impl FnOnce() -> T) -> T {
        self.telling(|| self.whole_under_lock(change))
    }

    /// The same under the append lock, so that no append comes in between. Those who wait are told by
    /// [`telling`](Self::telling), outside of it.
    #[inline(always)]
    pub(super) fn whole_under_lock<T>(&self, change: impl FnOnce() -> T) -> T {
        watched(change, || {
            let panicked = std::io::Error::other("a change of the log panicked");
            self.end_quietly(End::Poisoned(IoError::new("change", &self.directory, panicked)));
        })
    }

    /// Tells those who wait if `change` panics, which has poisoned the log.
    #[inline(always)]
    pub(super) fn telling<T>(&self, change: impl FnOnce() -> T) -> T {
        watched(change, || self.tell())
    }

    /// Makes a change of the log's files. If it fails because the log was closed or deleted meanwhile, that is the error; if
    /// it poisons the log, those who wait are told.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.whole(change).map_err(|error| self.explain(error))
    }

    #[cold]
    fn explain(&self, error: Error) -> Error {
        self.tell();
        match self.commit.end() {
            Some(end @ (End::Closed | End::Gone)) => end.error(),
            _ => error,
        }
    }
}
