//! What a host and a directory are told of the producers that a partition knows, and whom they have it refuse.

use crate::log::Log;
use crate::producer::{Copying, ProducerInfo};
use crate::types::{ProducerEpoch, ProducerId};

/// How many producers are copied while appends wait.
const COPIED_AT_ONCE: usize = 64;

impl Log {
    /// The producers that this partition knows, by id.
    ///
    /// They are copied a few at a time, and appends go on in between. So each is told as it was at some moment of the call, and
    /// not all at the same; one that comes or is forgotten meanwhile may be told or not. All others are, once.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let id = dir.new_producer_id()?;
    /// log.append(&BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?)?;
    ///
    /// let producers = log.producers();
    /// assert_eq!(producers.len(), 1);
    /// assert_eq!((producers[0].producer_id, producers[0].batches[0].offsets.first), (id, Offset(0)));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    pub fn producers(&self) -> Vec<ProducerInfo> {
        let mut copying = Copying::default();
        loop {
            copying.make_room(COPIED_AT_ONCE);
            let appender = self.shared.appender.lock();
            if !copying.step(&appender.producers, COPIED_AT_ONCE) {
                break;
            }
        }
        copying.into_producers()
    }

    /// One producer, if this partition knows it.
    pub fn producer(&self, id: ProducerId) -> Option<ProducerInfo> {
        self.shared.appender.lock().producers.get(id)
    }

    /// The highest producer id below `end`, and below 2^62, that this partition has known, or knows if it has known higher ones.
    pub(crate) fn highest_producer_id_below(&self, end: ProducerId) -> Option<ProducerId> {
        let appender = self.shared.appender.lock();
        let highest = appender.producers.highest_id()?;
        if highest < end { Some(highest) } else { appender.producers.ids().filter(|&id| id < end).max() }
    }

    /// Refuses `id` with an epoch below `epoch` from now on.
    pub(crate) fn fence(&self, id: ProducerId, epoch: ProducerEpoch) {
        self.shared.appender.lock().producers.raise_epoch(id, epoch);
    }

    /// The same for all that the directory refuses.
    pub(crate) fn raise_fences(&self) {
        self.shared.environment.fences.raise_in(&mut self.shared.appender.lock().producers);
    }
}
