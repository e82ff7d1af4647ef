//! What all connections share.

use std::collections::HashMap;

use anyhow::Context;
use idemlog::{LogDir, ProducerEpoch, ProducerId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::faults::Faults;
use crate::topics::Topics;

/// The id of the one node of this cluster.
pub(crate) const NODE: i32 = 0;

pub(crate) struct Broker {
    pub(crate) dir: LogDir,
    pub(crate) topics: Topics,
    pub(crate) faults: Faults,
    /// The incarnations of named producers that this process handed out, to know a stale one by.
    pub(crate) incarnations: Mutex<HashMap<String, (ProducerId, ProducerEpoch)>>,
    stopping: watch::Receiver<bool>,
}

impl Broker {
    pub(crate) fn new(dir: LogDir, partitions: i32, faults: Faults, stopping: watch::Receiver<bool>) -> Self {
        let topics = Topics::new(dir.clone(), partitions);
        Self { dir, topics, faults, incarnations: Mutex::default(), stopping }
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
