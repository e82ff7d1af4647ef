//! What happens beside the append path: asked for by whoever sees that it is due, and done by background threads or an appender.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Duration;

use super::Shared;
use super::metrics::FailedChore;
use crate::environment::{Chore, Environment, Urgency};
use crate::error::{Error, Result};

/// How long a worker waits before it tries again what a full disk, or a lack of descriptors, kept it from.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// For how long chores leave it to those behind them to write what has moved into the checkpoints.
const CHECKPOINTS_LATE: Duration = Duration::from_secs(1);

/// Asks for a sync again when the one that is under way is through.
struct SyncLater(Weak<Shared>);

impl Wake for SyncLater {
    fn wake(self: Arc<Self>) {
        let Some(shared) = self.0.upgrade() else { return };
        if !shared.request_sync() {
            // The last worker has left meanwhile, and futures count on one.
            shared.commit.wake_all();
        }
    }
}

impl Shared {
    /// Asks the workers for a chore. Without any, the request waits for [`do_chores`](Self::do_chores).
    pub(super) fn request(&self, chore: Chore) {
        self.environment.queue.request(&self.itself, &self.chores, chore);
    }

    /// Asks the workers for a sync. `false` if there are none; not to be called under a lock.
    pub(super) fn request_sync(&self) -> bool {
        let queue = &self.environment.queue;
        queue.request_awaited(&self.itself, &self.chores, Chore::Sync, || self.commit.wake_all())
    }

    /// Hands what was asked for before there were workers to those who have just come.
    pub(super) fn hand_over_chores(&self) {
        for urgency in [Urgency::Quick, Urgency::Slow] {
            if self.chores.stand(urgency) {
                self.environment.queue.push(self.itself.clone(), urgency);
            }
        }
    }

    /// Does what was asked for.
    pub(super) fn do_chores(&self) {
        self.do_quick();
        self.do_slow();
    }

    /// Errors come up again where they matter: a full disk in the append that needs the blocks, a failed sync as poison.
    pub(super) fn do_quick(&self) {
        let requested = self.chores.take(Urgency::Quick);
        // First what somebody waits for.
        if requested.includes(Chore::Sync) {
            self.sync_for_others();
        }
        if requested.includes(Chore::Room) {
            self.report("make room", self.provide_needed());
        }
        if requested.includes(Chore::Populate) {
            self.report("populate", self.populate());
        }
        if requested.includes(Chore::Prepare) {
            self.report("prepare", self.prepare());
        }
    }

    /// A worker that waited for the sync of one partition would be missed by all others.
    fn sync_for_others(&self) {
        if self.commit.wake_behind_sync(|| Waker::from(Arc::new(SyncLater(self.itself.clone())))) {
            return;
        }
        if let Err(error) = self.sync()
            && !self.commit.is_over()
        {
            self.count_failed("sync", &error);
            // Not a failed sync, but no way to it, and somebody may await it.
            std::thread::sleep(RETRY_PAUSE);
            self.request(Chore::Sync);
        }
    }

    pub(super) fn do_slow(&self) {
        let requested = self.chores.take(Urgency::Slow);
        if requested.includes(Chore::LeaderEpochs) {
            self.report("write leader epochs", self.write_leader_epochs_now());
        }
        if requested.includes(Chore::Seal) {
            self.report("seal", self.seal_rolled());
        }
        if requested.includes(Chore::Snapshot) {
            self.report("snapshot", self.snapshot_appended());
        }
        if requested.includes(Chore::Expire) {
            self.expire_producers();
        }
        if requested.includes(Chore::Retain) {
            self.report("retention", self.apply_retention().map(drop));
        }
        self.report("write checkpoints", self.write_checkpoints());
    }

    /// The files tell of all partitions, so of a wave of rolls not each has them written: whoever has another chore behind it
    /// leaves that to the other, as long as they have not lacked anything for long. A late recovery point costs reading alone.
    fn write_checkpoints(&self) -> Result<()> {
        let Environment { queue, checkpoints, .. } = &*self.environment;
        if checkpoints.behind_for() < CHECKPOINTS_LATE && queue.has_slow() {
            return Ok(());
        }
        checkpoints.write_if_stale()
    }

    /// A chore that failed changes nothing that was promised; it is tried again when it is asked for again.
    fn report(&self, chore: &'static str, result: Result<()>) {
        if let Err(error) = result {
            self.tell();
            event!(warn, partition = %self.name, chore, error = %error, "a background task failed");
            self.count_failed(chore, &error);
        }
    }

    fn count_failed(&self, chore: &'static str, error: &Error) {
        // Of a log that was closed meanwhile nothing is due any more.
        if !matches!(error, Error::Closed | Error::Gone) {
            let (partition, at) = (self.name.clone(), self.environment.clock.now());
            self.counters.failed(FailedChore { partition, chore, error: error.to_string(), at });
        }
    }
}
