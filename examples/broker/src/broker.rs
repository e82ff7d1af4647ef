//! What all connections share.

use anyhow::Context;
use idemlog::LogDir;
use tokio::sync::watch;

use crate::coordinator::Coordinator;
use crate::faults::Faults;
use crate::topics::Topics;

/// The id of the one node of this cluster.
pub(crate) const NODE: i32 = 0;

pub(crate) struct Broker {
    pub(crate) dir: LogDir,
    pub(crate) topics: Topics,
    pub(crate) faults: Faults,
    pub(crate) coordinator: Coordinator,
    stopping: watch::Receiver<bool>,
}

impl Broker {
    /// Ends the transactions that are decided. Blocks.
    pub(crate) fn open(
        dir: LogDir,
        partitions: i32,
        faults: Faults,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let topics = Topics::new(dir.clone(), partitions);
        let coordinator = Coordinator::open(dir.clone()).context("open the transaction log")?;
        Ok(Self { dir, topics, coordinator, faults, stopping })
    }

    /// Resolves when the broker is told to stop.
    pub(crate) async fn stopping(&self) {
        // An error says that the server is gone, which is no reason to go on either.
        let _ = self.stopping.clone().wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }
}

/// Runs on a thread that may block what must not block one of tokio's workers.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.context("work on a blocking thread")
}
