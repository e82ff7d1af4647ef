//! What a host is told of the producers that a partition knows.

use super::Log;
use crate::producer::{Copying, ProducerInfo};
use crate::types::ProducerId;

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
}
