//! What the checkpoints of an open directory are to say.

use super::Checkpoints;
use crate::environment::Checkpointer;
use crate::error::Result;
use crate::log::{CheckpointedState, Log};
use crate::log_dir::Inner;

impl Checkpointer for Inner {
    fn write_checkpoints(&self) -> Result<()> {
        let gone = self.gone.lock().clone();
        self.checkpoints().write(&*self.options.disk, &self.path)?;
        self.gone.lock().retain(|name| !gone.contains(name));
        Ok(())
    }
}

impl Inner {
    /// What the checkpoints are to say. Of the partitions that failed it stays: damage below a recovery point that was
    /// forgotten would be taken for an unfinished end, and cut.
    fn checkpoints(&self) -> Checkpoints {
        let (failed, logs): (Vec<_>, Vec<Log>) = {
            let (failed, partitions) = (self.failed.lock(), self.partitions.read());
            let failed = failed.iter().map(|(name, failed)| (name.clone(), failed.state));
            (failed.collect(), partitions.values().cloned().collect())
        };
        // Not under the locks, for which everybody waits who looks for a partition.
        let mut checkpoints = Checkpoints::default();
        failed.iter().for_each(|(name, state)| checkpoints.add(name, *state));
        logs.iter().for_each(|log| checkpoints.add(log.name(), state_of(log)));
        checkpoints
    }
}

/// What the checkpoints are to say of a partition that is open.
pub(in crate::log_dir) fn state_of(log: &Log) -> CheckpointedState {
    // In this order: the start never passes the recovery point, but where both are lowered.
    let start = log.checkpointed_start();
    CheckpointedState {
        recovery_point: Some(log.checkpointed_recovery_point(start)),
        log_start: Some(start),
        high_watermark: log.high_watermark_to_checkpoint(),
        clean: false,
        is_ours: true,
    }
}
