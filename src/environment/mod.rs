//! What the partitions of a directory share. Nothing here knows a partition, or the directory.

mod budgets;
mod check_ahead;
mod checkpointing;
mod clock_steps;
mod fences;
mod queue;
mod removed;
mod reserve;

use std::sync::Arc;

pub(crate) use budgets::{HeldBySegments, SpaceBudget};
pub(crate) use check_ahead::{CheckAhead, HELPERS_MAX, Sound};
pub(crate) use checkpointing::{Asked, Checkpointer, Checkpointing};
pub(crate) use clock_steps::ClockSteps;
pub(crate) use fences::Fences;
pub(crate) use queue::{Chore, Chores, Queue, Urgency, Worked};
pub(crate) use removed::Removed;
pub(crate) use reserve::Reserve;

use crate::clock::Clock;
use crate::error::Result;
use crate::fs::{DirectoryLock, Disk};
use crate::sync::Mutex;

/// Disk, clock, workers and budgets.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) clock_steps: ClockSteps,
    pub(crate) queue: Arc<Queue>,
    pub(crate) check_ahead: CheckAhead,
    /// Held as long as anything of the directory can still be written, and given back by a close.
    pub(crate) lock: Mutex<Option<DirectoryLock>>,
    pub(crate) removed: Removed,
    pub(crate) space: SpaceBudget,
    pub(crate) held: HeldBySegments,
    pub(crate) fences: Fences,
    /// Whether nothing may be written at all.
    pub(crate) read_only: bool,
    pub(crate) checkpoints: Checkpointing,
    /// `None` where nothing may be written.
    pub(crate) reserve: Option<Reserve>,
}

impl Environment {
    /// Sees that there is room to write down what is about to be deleted. Comes before blocks are given to anybody.
    pub(crate) fn keep_reserve(&self) -> Result<()> {
        self.reserve.as_ref().map_or(Ok(()), Reserve::keep)
    }

    /// Makes a change that makes room: once more with what is kept for it, where the disk is full.
    pub(crate) fn with_reserve<T>(&self, change: impl Fn() -> Result<T>) -> Result<T> {
        match &self.reserve {
            Some(reserve) => reserve.lend(change),
            None => change(),
        }
    }
}
