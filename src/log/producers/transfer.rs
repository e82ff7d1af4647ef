//! What a partition knows of its producers, taken from one replica to another.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::atomic;
use crate::fs::name::SegmentFile;
use crate::log::{Log, Shared};
use crate::producer::snapshot;
use crate::segment::{Segment, segment_at};
use crate::types::Offset;

/// The producers of a partition as of an offset, as bytes: those of a `.snapshot` file. See
/// [`Log::export_producers`].
///
/// ```
/// use idemlog::{Offset, ProducerStates};
///
/// let received = ProducerStates { offset: Offset(100), bytes: vec![1, 2, 3] };
/// assert_eq!(received.offset, Offset(100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStates {
    /// All batches below are taken into account.
    pub offset: Offset,
    /// The bytes of a `.snapshot` file.
    pub bytes: Vec<u8>,
}

impl Log {
    /// What this log knows of its producers at its end, for a replica that begins there, or that gets the batches from
    /// there on. Holds the append lock while the producers are copied.
    pub fn export_producers(&self) -> ProducerStates {
        let appender = self.shared.appender.lock();
        let bytes = snapshot::encode(&appender.producers, None);
        ProducerStates { offset: self.shared.watermarks.log_end(), bytes }
    }

    /// What this log knew of its producers at `offset`, for a replica that begins there: at the leader's log start offset one gets
    /// all batches that the leader has, and with this what the leader knows beyond them. Where `offset` lies inside of a batch
    /// it is as of the offset at which that batch begins, which is the answer's: a replica gets whole batches, so it begins
    /// there, too. Who was forgotten since is left out.
    ///
    /// Reads the newest snapshot at or below that offset, and the headers of the batches in between; appends go on meanwhile,
    /// snapshots and retention wait.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
    ///
    /// # let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    /// let leader = LogDir::open(one.path(), LogDirOptions::default())?;
    /// let follower = LogDir::open(other.path(), LogDirOptions::default())?;
    /// let (from, to) = (leader.partition("orders", 0)?, follower.partition("orders", 0)?);
    /// let id = leader.new_producer_id()?;
    /// let batch = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?;
    /// from.append(&batch)?;
    /// from.delete_records(Offset(1))?;
    /// from.append(&BatchBuilder::new().record(b"k", b"to be copied").build()?)?;
    ///
    /// let states = from.export_producers_at(from.log_start_offset())?;
    /// to.truncate_fully(states.offset)?;
    /// to.import_producers(&states)?;
    /// assert_eq!(to.log_end_offset(), Offset(1)); // what is fetched next goes here
    /// assert!(to.append(&batch)?.is_duplicate()); // although its record is gone on both sides
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`] below the log start offset and above the log end offset. [`Error::Corrupt`] where it cannot
    /// be told any more: the snapshot that covers deleted batches is damaged, or a batch is. [`Error::Closed`], [`Error::Gone`];
    /// the disk's.
    pub fn export_producers_at(&self, offset: Offset) -> Result<ProducerStates> {
        self.shared.export_producers_at(offset)
    }

    /// Takes over what another replica knew of its producers at the offset where this log begins. The log must be empty
    /// ([`truncate_fully`](Self::truncate_fully) makes it so) and begin at that offset. Durable when it returns; a crash before
    /// leaves the producers of before, or those imported.
    ///
    /// ```
    /// use idemlog::{AppendOptions, BatchBuilder, LogDir, LogDirOptions, Origin, ProducerEpoch, Sequence};
    ///
    /// # let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    /// let leader = LogDir::open(one.path(), LogDirOptions::default())?;
    /// let follower = LogDir::open(other.path(), LogDirOptions::default())?;
    /// let (from, to) = (leader.partition("orders", 0)?, follower.partition("orders", 0)?);
    /// let id = leader.new_producer_id()?;
    /// let batch = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?;
    /// from.append(&batch)?;
    ///
    /// let states = from.export_producers();
    /// to.truncate_fully(states.offset)?;
    /// to.import_producers(&states)?;
    /// assert!(to.append(&batch)?.is_duplicate()); // although the batch itself was never copied
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] if there is a segment, also if all of its records are deleted; [`Error::UnexpectedOffset`] if the
    /// log begins elsewhere; [`Error::Corrupt`] for bytes that are no snapshot; [`Error::Poisoned`], [`Error::Closed`],
    /// [`Error::Gone`], [`Error::ReadOnly`]. The log is as it was. The disk's: it goes on with the producers that it knew, but the
    /// next opening, and what is written of producers until then, may know the imported ones. Import them again, or empty the log.
    pub fn import_producers(&self, states: &ProducerStates) -> Result<()> {
        self.shared.change(|| self.shared.import_producers(states))
    }
}

impl Shared {
    fn export_producers_at(&self, got: Offset) -> Result<ProducerStates> {
        // Neither batches nor snapshots go away meanwhile.
        let _sealing = self.sealing.lock();
        self.check_readable()?;
        let (start, end) = (self.watermarks.log_start(), self.watermarks.readable_end());
        if !(start..=end).contains(&got) {
            return Err(Error::OffsetOutOfRange { got, start, end });
        }
        let (segments, now) = (self.segments.load_full(), self.now());
        let offset = begin_of_batch(&segments, got)?;
        let known = self.complete_snapshot(&segments, offset, now)?;
        let producers = self.replay_known(known, &segments, offset, now)?.producers;
        Ok(ProducerStates { offset, bytes: snapshot::encode(&producers, None) })
    }

    fn import_producers(&self, states: &ProducerStates) -> Result<()> {
        let _files = self.hold_files();
        let mut appender = self.appender.lock();
        self.check_writable()?;
        let (start, end) = (self.watermarks.log_start(), self.watermarks.log_end());
        if start != end || !self.segments.load().is_empty() {
            return Err(Error::NotEmpty { path: self.directory.clone() });
        }
        if end != states.offset {
            return Err(Error::UnexpectedOffset { expected: end, got: states.offset });
        }
        let path = self.segment_path(SegmentFile::Snapshot, states.offset);
        let policy = self.options().producers.clone();
        let now = self.now();
        let (mut producers, _) = snapshot::decode(&states.bytes, states.offset, policy, now)
            .map_err(|kind| Error::corrupt(&path, 0, kind))?;
        producers.evict_excess(usize::MAX, now);
        let encoded = snapshot::encode(&producers, None);
        atomic::replace_file(&*self.environment.disk, &path, &encoded)?;
        self.replace_producers(&mut appender, producers);
        Ok(())
    }
}

/// Where the batch that holds `offset` begins; `offset` itself if there is none.
fn begin_of_batch(segments: &[Arc<Segment>], offset: Offset) -> Result<Offset> {
    let Some(segment) = segment_at(segments, offset) else { return Ok(offset) };
    let next = segment.cursor_at(offset)?.peek()?;
    Ok(next.map_or(offset, |batch| batch.header.base_offset.min(offset)))
}
