//! Which log a handle is of. A name is not enough: its partition may be deleted and created again, or opened again.

use std::sync::{Arc, Weak};

use super::{Log, Shared};

/// A log, without keeping it open.
#[derive(Clone, Debug)]
pub(crate) struct LogId(Weak<Shared>);

impl LogId {
    pub(crate) fn is_of(&self, log: &Log) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&log.shared))
    }
}

impl Log {
    pub(crate) fn id(&self) -> LogId {
        LogId(Arc::downgrade(&self.shared))
    }
}
