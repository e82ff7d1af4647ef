//! What the checkpoints of a directory say about one of its partitions, and what follows from it.

use crate::types::{Offset, OffsetRange};

/// What the checkpoints say about one partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CheckpointedState {
    /// Everything below was durable. `None` if nothing is known, as of a partition that is new.
    pub(crate) recovery_point: Option<Offset>,
    pub(crate) log_start: Option<Offset>,
    pub(crate) high_watermark: Option<Offset>,
    /// Whether the directory is marked as closed well.
    pub(crate) clean: bool,
    /// Whether they are idemlog's own, which has the start of each log there, and writes it before it deletes what lies in front.
    /// Kafka has those alone that begin inside of a segment, and writes them afterwards.
    pub(crate) is_ours: bool,
}

impl CheckpointedState {
    /// Everything below is durable, as far as is known.
    pub(crate) fn durable_below(&self) -> Offset {
        self.recovery_point.unwrap_or(Offset::ZERO)
    }

    /// The log start offset, if it was written down before what lay in front of it was deleted.
    fn told_start(&self) -> Option<Offset> {
        self.log_start.filter(|_| self.is_ours)
    }

    /// Whether they are as they are while a log is emptied, which loses its recovery point before it is told its new start: nothing
    /// of it goes before that.
    pub(crate) fn is_emptied(&self) -> bool {
        self.told_start().is_some() && self.recovery_point == Some(Offset::ZERO)
    }

    /// The durable offsets that are missing in front of a first segment at `base`.
    pub(crate) fn missing_head(&self, base: Offset) -> Option<OffsetRange> {
        /// A first batch as far above the log start as that may have begun a segment of its own.
        const FAR: i64 = 1 << 30;
        let start = self.told_start()?;
        // Who empties a log to begin it at a lower offset says so before, with no recovery point, and may crash then.
        let is_missing = start < base && start < self.durable_below() && base - start <= FAR;
        is_missing.then(|| OffsetRange { first: start, last: Offset(base.0 - 1) })
    }
}
