//! What a crash may have left, and no damage is: the next opening deals with it.

use crate::error::Result;
use crate::log::CheckpointedState;
use crate::types::Offset;

/// How much of a log may be unfinished.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unfinished {
    /// It was closed well, or is a copy outside of a log directory.
    Nothing,
    /// No checkpoint tells of it, as of one that is new: its last batch, which a process was killed over.
    LastBatch,
    /// Everything from the recovery point on, in any order.
    From(Offset),
}

impl Unfinished {
    pub(super) fn of(checkpointed: CheckpointedState) -> Self {
        match checkpointed.recovery_point {
            _ if checkpointed.clean => Self::Nothing,
            Some(point) => Self::From(point),
            None => Self::LastBatch,
        }
    }

    /// Whether a log that ends at `log_end`, and goes on with what is wrong, is unfinished there: `is_last` tells whether no batch
    /// follows.
    pub(super) fn begins(self, log_end: Offset, is_last: impl FnOnce() -> Result<bool>) -> Result<bool> {
        match self {
            Self::Nothing => Ok(false),
            Self::LastBatch => is_last(),
            Self::From(point) => Ok(log_end >= point),
        }
    }

    /// Whether an opening does not believe what is noted of the batch that ends at or behind `offset`, in a segment that the
    /// next one follows at `next_base`.
    pub(super) fn has(self, offset: Offset, next_base: Option<Offset>) -> bool {
        match self {
            Self::From(point) => offset >= point && next_base.is_none_or(|next| next > point),
            Self::Nothing | Self::LastBatch => false,
        }
    }
}
