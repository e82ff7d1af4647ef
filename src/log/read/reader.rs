//! A walk over the batches that readers see, across segments, for as long as the log goes on.

use std::sync::Arc;

use crate::batch::{BatchHeader, UncheckedBatch};
use crate::error::{Error, Result};
use crate::log::Shared;
use crate::log::read::bound::Bound;
use crate::log::read::misplaced;
use crate::segment::{BatchCursor, Segment};
use crate::transaction::AbortedRanges;
use crate::types::Offset;

/// Batches in order of their offsets. Holds what it reads: truncation and deletion do not change what it returned.
///
/// Ends (`None`) at the high watermark, and goes on when called again after more was appended. That of a poisoned log, where
/// nothing comes any more, ends with [`Error::Poisoned`]. An error leaves the reader where it is: whoever calls it again gets the
/// same one until its cause is gone, or [`seek`](Self::seek) goes past it.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    /// The offset to go on at.
    next: Offset,
    cursor: Option<BatchCursor>,
    visible: Visible,
}

/// What a reader sees.
#[derive(Clone, Debug)]
enum Visible {
    /// Everything below the high watermark.
    Replicated,
    /// Everything.
    Appended,
    /// What is decided and not aborted.
    Committed(Known),
}

/// What a reader knows of transactions.
#[derive(Clone, Debug)]
struct Known {
    aborted: AbortedRanges,
    /// Up to here those that were aborted are known.
    to: Offset,
    /// How often the log had been truncated: what comes in place of what was cut has other transactions.
    generation: u64,
}

impl Reader {
    /// One that begins at `from`, which lies within the log.
    pub(in crate::log) fn new(shared: Arc<Shared>, from: Offset) -> Self {
        Self { shared, next: from, cursor: None, visible: Visible::Replicated }
    }

    /// Reads up to the log end offset instead of the high watermark: also what is not durable, or not replicated, and
    /// may be gone after a crash. As [`Log::read_to_log_end`](crate::Log::read_to_log_end); the wait for more is
    /// [`Log::wait_for_log_end`](crate::Log::wait_for_log_end).
    #[must_use]
    pub fn to_log_end(mut self) -> Self {
        self.visible = Visible::Appended;
        self
    }

    /// Reads only what is decided and not aborted: batches up to the last stable offset, without those of aborted
    /// transactions and without transaction markers.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, ControlRecord, LogDir, LogDirOptions, Offset, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    /// log.append(&BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?)?;
    /// log.end_transaction(id, epoch, ControlRecord::Abort { coordinator_epoch: 0 })?;
    ///
    /// assert_eq!(log.reader(Offset(0))?.count(), 2); // the batch and its marker
    /// assert_eq!(log.reader(Offset(0))?.committed().count(), 0);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn committed(mut self) -> Self {
        // The first batch may begin below the offset that the reader begins at.
        self.visible = Visible::Committed(Known::nothing());
        self
    }

    /// The next batch, lent until the reader is asked for another one; `None` at the end, as the iterator says it.
    ///
    /// For those who go through many batches and keep none of them. What the iterator hands out holds the memory that it
    /// lies in, which is counted in two atomic operations for each batch: a good part of the time of a walk over headers.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// log.append(&BatchBuilder::new().record(b"k1", b"first").record(b"k2", b"second").build()?)?;
    ///
    /// let mut reader = log.reader(Offset(0))?;
    /// let (mut scratch, mut bytes) = (Vec::new(), 0);
    /// while let Some(batch) = reader.lend_next() {
    ///     for record in batch?.records_in(&mut scratch) {
    ///         bytes += record?.value().map_or(0, <[u8]>::len);
    ///     }
    /// }
    /// assert_eq!(bytes, "first".len() + "second".len());
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Log::read`](crate::Log::read).
    // Always: a batch that is returned through memory is waited for, which takes as long as all the rest.
    #[inline(always)]
    pub fn lend_next(&mut self) -> Option<Result<UncheckedBatch<&[u8]>>> {
        match self.advance_in_present_log() {
            Ok(position) => Some(Ok(self.cursor.as_ref()?.lent_at(position?))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Goes on at `offset`, which may lie before or behind where the reader was.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, Error, LogDir, LogDirOptions, Offset};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # let log = dir.partition("orders", 0)?;
    /// let mut reader = log.reader(Offset(0))?;
    /// # (0..3).try_for_each(|_| log.append(&BatchBuilder::new().record(b"k", b"v").build()?).map(drop))?;
    /// log.delete_records(Offset(2))?; // retention has overtaken the reader
    /// let Some(Err(Error::OffsetOutOfRange { start, .. })) = reader.next() else { panic!() };
    /// reader.seek(start)?;
    /// assert_eq!(reader.next().unwrap()?.header().base_offset, Offset(2));
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Log::reader`](crate::Log::reader); the reader stays where it was.
    pub fn seek(&mut self, offset: Offset) -> Result<()> {
        self.shared.check_readable()?;
        self.shared.check_range(offset)?;
        (self.next, self.cursor) = (offset, None);
        if let Visible::Committed(known) = &mut self.visible {
            *known = Known::nothing();
        }
        Ok(())
    }

    /// The offset at which the reader goes on.
    pub fn position(&self) -> Offset {
        self.next
    }

    #[inline]
    fn limit(&self) -> Offset {
        self.shared.bound(match self.visible {
            Visible::Replicated => Bound::HighWatermark,
            Visible::Appended => Bound::LogEnd,
            Visible::Committed(_) => Bound::LastStableOffset,
        })
    }

    /// Moves behind the next batch that the reader wants. Returns where in the cursor's segment it lies.
    ///
    /// Not the batch, nor its header: what is handed on through memory, in pieces of other sizes than it was put there, is
    /// waited for at each hand.
    #[inline(always)]
    fn advance(&mut self) -> Result<Option<u64>> {
        self.shared.check_readable()?;
        if self.next < self.shared.watermarks.log_start() {
            self.leave_segment();
        }
        let generation = self.shared.commit.generation();
        let limit = self.limit();
        while self.next < limit {
            let from = self.next;
            let Some(position) = self.pass_next(limit)? else {
                return self.end_at(limit, generation).map(|()| None);
            };
            let left_out = self.leaves_out(position, limit, generation);
            if !left_out.inspect_err(|_| (self.next, self.cursor) = (from, None))? {
                return Ok(Some(position));
            }
        }
        // Who waits for more would be told at once to wait no longer, again and again.
        self.shared.commit.check().map(|()| None)
    }

    /// Leaves the segment, whose batches are deleted up to somewhere behind the reader: who looks where to go on is told so.
    #[cold]
    fn leave_segment(&mut self) {
        self.cursor = None;
    }

    /// The same; goes on where the segment that the cursor was in, or the batch it came to, has left the log.
    #[inline(always)]
    fn advance_in_present_log(&mut self) -> Result<Option<u64>> {
        loop {
            match self.advance() {
                Err(Error::Truncated) => {}
                Err(error) if self.cursor.is_some() && Segment::is_gone(&error) => self.cursor = None,
                outcome => return outcome,
            }
        }
    }

    /// Moves on where it is right that there is no batch before the limit, and will be none.
    #[cold]
    fn end_at(&mut self, limit: Offset, generation: u64) -> Result<()> {
        let (shared, next) = (&self.shared, self.next);
        let end = shared.in_present_log(next, || shared.end_at(next, limit, generation))?;
        if end > next {
            // The cursor stands where batches may come that the reader does not want: another truncation may end in between.
            (self.next, self.cursor) = (end, None);
        }
        Ok(())
    }

    /// Whether the reader does not want the batch, at which all transactions below `limit` are decided.
    /// [`Error::Truncated`]: the limit is of `generation`, and the batch may have come in the place of what it was for.
    #[inline(always)]
    fn leaves_out(&mut self, position: u64, limit: Offset, generation: u64) -> Result<bool> {
        let leaves_out = match self.visible {
            Visible::Replicated | Visible::Appended => false,
            Visible::Committed(_) => self.is_undone(position, limit, generation)?,
        };
        // Looked at last: a batch that came behind a truncation is seen after its generation.
        if self.shared.commit.generation() == generation { Ok(leaves_out) } else { Err(Error::Truncated) }
    }

    /// Whether the batch is a marker, or part of an aborted transaction.
    #[inline(never)]
    fn is_undone(&mut self, position: u64, limit: Offset, generation: u64) -> Result<bool> {
        let Visible::Committed(known) = &mut self.visible else { return Ok(false) };
        let Some(cursor) = &self.cursor else { return Ok(false) };
        let header = cursor.header_at(position);
        if header.is_control() || !header.is_transactional() {
            return Ok(header.is_control());
        }
        if known.generation != generation || header.base_offset >= known.to {
            *known = Known::look_up(&self.shared, &header, limit, generation)?;
        }
        Ok(known.aborted.cover(&header))
    }

    /// Moves behind the next batch, if it ends at `limit` or before.
    #[inline(always)]
    fn pass_next(&mut self, limit: Offset) -> Result<Option<u64>> {
        if !self.cursor.as_ref().is_some_and(BatchCursor::has_next) {
            self.find_next()?;
        }
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        let Some(batch) = cursor.peek()? else { return Ok(None) };
        if batch.header.next_offset() > limit {
            return Ok(None);
        }
        if batch.header.last_offset() < self.next {
            return Err(misplaced(cursor.segment(), batch.position, batch.header.base_offset, self.next));
        }
        cursor.skip(&batch);
        self.next = batch.header.next_offset();
        Ok(Some(batch.position))
    }

    /// Looks for the next batch where its segment has ended, or what the cursor knew has left the log: that may be there
    /// again with other bytes.
    #[cold]
    fn find_next(&mut self) -> Result<()> {
        let (shared, next) = (&self.shared, self.next);
        self.cursor = shared.in_present_log(next, || shared.cursor(next))?;
        Ok(())
    }
}

impl Known {
    fn nothing() -> Self {
        Self { aborted: AbortedRanges::default(), to: Offset::ZERO, generation: 0 }
    }

    /// What there is to know up to `limit` from a batch on.
    fn look_up(shared: &Shared, header: &BatchHeader, limit: Offset, generation: u64) -> Result<Self> {
        // The batch may begin below the log start offset; its marker lies behind it.
        let from = header.last_offset();
        let found = shared.in_present_log(from, || shared.aborted(from, limit))?;
        // Where the batch has left the log meanwhile, its marker may have, too.
        shared.check_not_deleted(from)?;
        if !shared.is_still_decided(from, limit, generation) {
            return Err(Error::Truncated);
        }
        Ok(Self { aborted: found.into_iter().collect(), to: limit, generation })
    }
}

impl Iterator for Reader {
    type Item = Result<UncheckedBatch>;

    // Always, as [`Reader::lend_next`].
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        match self.advance_in_present_log() {
            Ok(position) => Some(Ok(self.cursor.as_ref()?.batch_at(position?))),
            Err(error) => Some(Err(error)),
        }
    }
}
