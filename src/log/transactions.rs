//! Transactions: up to where they are decided, which were aborted, and how they are ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::producers::snapshots;
use super::{AppendOptions, AppendOutcome, Appender, Log, Origin, Pending, Shared};
use crate::batch::{BatchBuilder, ControlRecord};
use crate::error::{BatchError, Error, Rejection, RejectionReason, Result};
use crate::producer::{ProducerTable, VerificationGuard};
use crate::segment::{BatchCursor, Segment, TransactionIndex, segments_from};
use crate::sync::{Mutex, MutexGuard};
use crate::transaction::{self, AbortedTransaction, TransactionEffect, TransactionVersion, Transactions};
use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The transactions that hold the last stable offset back. A leaf in the order of locks; a log without transactions
/// pays one load.
#[derive(Debug, Default)]
pub(super) struct UnstableTransactions {
    /// Whether there are any. Changed only under the lock.
    any: AtomicBool,
    state: Mutex<Transactions>,
}

impl UnstableTransactions {
    /// The open ones of `producers`.
    pub(super) fn of(producers: &ProducerTable) -> Self {
        let this = Self::default();
        this.begin_again(producers, Offset::ZERO);
        this
    }

    fn begin_again(&self, producers: &ProducerTable, log_end: Offset) {
        let mut state = self.state.lock();
        state.begin_again(producers.open_transactions(), log_end);
        self.any.store(state.first_unstable().is_some(), Ordering::Release);
    }

    /// The high watermark, and the first offset that is not decided for a reader who sees everything below.
    fn look(&self, high_watermark: impl Fn() -> Offset) -> (Offset, Option<Offset>) {
        // First: a transaction that begins behind this look lies above.
        let seen = high_watermark();
        if !self.any.load(Ordering::Acquire) {
            return (seen, None);
        }
        let mut state = self.state.lock();
        // Again: a truncation has lowered it before it took this lock, and what comes behind it is not below what was seen.
        let high_watermark = high_watermark();
        state.settle(high_watermark, usize::MAX);
        let first = state.first_unstable();
        self.any.store(first.is_some(), Ordering::Release);
        (high_watermark, first)
    }

    fn note(&self, effect: TransactionEffect, high_watermark: Offset) -> Option<AbortedTransaction> {
        let mut state = self.state.lock();
        self.any.store(true, Ordering::Release);
        // More than comes in: nobody may ever look, as where a follower has no readers.
        state.settle(high_watermark, 2);
        state.note(effect)
    }

    fn oldest(&self) -> Option<(Offset, ProducerId)> {
        if self.any.load(Ordering::Acquire) { self.state.lock().oldest() } else { None }
    }
}

impl Log {
    /// Below this offset every transaction is decided: what a reader sees that wants only committed records. Never above
    /// the [`high_watermark`](Self::high_watermark).
    pub fn last_stable_offset(&self) -> Offset {
        self.shared.last_stable_offset()
    }

    /// Where the oldest open transaction begins. `None` if none is open.
    pub fn first_undecided_offset(&self) -> Option<Offset> {
        self.shared.transactions.oldest().map(|(first, _)| first)
    }

    /// Whether the oldest open transaction was left behind: its producer's last batch is more than five minutes older
    /// than `longest_timeout_ms`, the longest that any coordinator leaves a transaction open.
    /// Source: `ProducerStateManager.hasLateTransaction`.
    pub fn has_late_transaction(&self, longest_timeout_ms: i64) -> bool {
        let shared = &self.shared;
        let Some((_, id)) = shared.transactions.oldest() else { return false };
        self.producer(id).is_some_and(|producer| {
            transaction::is_late(producer.last_timestamp, shared.now(), longest_timeout_ms)
        })
    }

    /// The aborted transactions that have records in [`from`, `to`), in the order of their markers.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`](crate::Error::Corrupt) where an index is missing and the batches cannot be read to build it;
    /// [`Error::Closed`](crate::Error::Closed), [`Error::Gone`](crate::Error::Gone); the disk's.
    pub fn aborted_transactions(&self, from: Offset, to: Offset) -> Result<Vec<AbortedTransaction>> {
        self.shared.check_readable()?;
        self.shared.aborted(from, to)
    }

    /// The aborted transactions whose markers lie in `segment`, one of [`segments`](Self::segments).
    pub(crate) fn aborted_in(&self, segment: &Arc<Segment>) -> Result<Vec<AbortedTransaction>> {
        Ok(self.shared.transaction_index(segment)?.entries().to_vec())
    }

    /// Ends a producer's transaction with a marker, as its coordinator does, and waits until the marker is as durable as
    /// the log's [`Durability`](crate::Durability) says. Without an open transaction the marker is stored all the same,
    /// and raises the producer's epoch.
    ///
    /// A crash before it returns leaves the marker stored or not. Sending it again stores another, which does no harm as long
    /// as the producer has not begun its next transaction in this epoch: that one would be ended by it. So a coordinator tells
    /// the producer that its transaction has ended when every marker is stored, and sends none afterwards; or it raises the
    /// epoch with each, and says so ([`submit_end_transaction`](Self::submit_end_transaction)).
    ///
    /// ```
    /// use idemlog::{BatchBuilder, ControlRecord, LogDir, LogDirOptions, ProducerEpoch, Sequence};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    ///
    /// let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?;
    /// let stored = log.append(&batch)?;
    /// assert_eq!(log.last_stable_offset(), stored.base_offset()); // not decided yet
    ///
    /// log.end_transaction(id, epoch, ControlRecord::Commit { coordinator_epoch: 0 })?;
    /// assert_eq!(log.last_stable_offset(), log.log_end_offset());
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`](crate::Error::Rejected): the producer's epoch or the coordinator's is older than the last one
    /// heard of. [`Error::InvalidBatch`](crate::Error::InvalidBatch) for a record that is no marker; else as
    /// [`append`](Self::append).
    pub fn end_transaction(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        marker: ControlRecord,
    ) -> Result<AppendOutcome> {
        let pending = self.submit_end_transaction(id, epoch, marker, AppendOptions::default())?;
        pending.wait()?.pop().ok_or(Error::Closed)
    }

    /// The same with options, and returns before the marker is durable: a coordinator submits the markers for all partitions
    /// of a transaction, and then waits for all, so that their disks or replicas
    /// ([`Pending::replicated`](crate::Pending::replicated)) work at the same time. The origin is the coordinator, whatever the
    /// options say.
    ///
    /// With [`TransactionVersion::V2`] each transaction of a producer has its own epoch, and that of the marker is above the one
    /// that it ends. So one that comes again cannot end the next: where no transaction is open it is answered as a duplicate,
    /// without an offset, and nothing is stored. No batch of the next epoch may come in before the marker, or that is refused for
    /// good: [`verify_transactions`](crate::LogOptions::verify_transactions) sees to it.
    ///
    /// ```
    /// use idemlog::{
    ///     AppendOptions, BatchBuilder, ControlRecord, LogDir, LogDirOptions, ProducerEpoch, Sequence, TransactionVersion,
    /// };
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let logs = [dir.partition("orders", 0)?, dir.partition("orders", 1)?];
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    /// let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?;
    /// logs.iter().try_for_each(|log| log.append(&batch).map(drop))?;
    ///
    /// let (next, commit) = (ProducerEpoch(1), ControlRecord::Commit { coordinator_epoch: 0 });
    /// let options = AppendOptions::default().transaction_version(TransactionVersion::V2);
    /// let markers: Result<Vec<_>, _> =
    ///     logs.iter().map(|log| log.submit_end_transaction(id, next, commit, options)).collect();
    /// markers?.into_iter().try_for_each(|marker| marker.wait().map(drop))?;
    /// assert_eq!(logs[1].last_stable_offset(), logs[1].log_end_offset());
    ///
    /// let again = logs[0].submit_end_transaction(id, next, commit, options)?.wait()?;
    /// assert!(again[0].is_duplicate());
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`](crate::Error::Rejected) as for [`end_transaction`](Self::end_transaction), and under `V2` for the
    /// epoch of a transaction that is open ([`StaleMarker`](crate::RejectionReason::StaleMarker)).
    /// [`Error::InvalidBatch`](crate::Error::InvalidBatch) for a record that is no marker; else as [`submit`](Self::submit).
    pub fn submit_end_transaction(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        marker: ControlRecord,
        options: AppendOptions,
    ) -> Result<Pending> {
        check_marker(marker)?;
        let batch = BatchBuilder::new()
            .producer(id, epoch, Sequence::NONE)
            .control(marker)
            .timestamp(self.shared.environment.clock.now())
            .build()?;
        self.submit(&[batch], options.origin(Origin::Coordinator))
    }

    /// Notes, before the coordinator of a transaction is asked whether it is open, that it is being asked. The batch is
    /// then appended with the guard ([`AppendOptions::verification`]); where
    /// [`LogOptions::verify_transactions`](crate::LogOptions) is set, a transaction begins only so. `None`: it is open
    /// here already, in this epoch, there is nothing to ask.
    ///
    /// `sequence` is the batch's first: until the verification is over, none above the lowest is taken. It is over with the
    /// first batch of the transaction, and with a marker; under [`TransactionVersion::V2`] not with one of `epoch`, which is
    /// a late one of the transaction before. In memory only, and forgotten like an idle producer, after
    /// [`expiry_ms`](crate::ProducerPolicy) or where there are more than the `budget`, the oldest first: then it is begun
    /// again. Source: KIP-890, `UnifiedLog.maybeStartTransactionVerification`.
    ///
    /// ```
    /// use idemlog::{
    ///     AppendOptions, BatchBuilder, LogDir, LogDirOptions, LogOptions, ProducerEpoch, Sequence, TransactionVersion,
    /// };
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// let options = LogDirOptions::default().log(LogOptions::default().verify_transactions(true));
    /// let dir = LogDir::open(data.path(), options)?;
    /// let log = dir.partition("orders", 0)?;
    /// let (id, epoch) = (dir.new_producer_id()?, ProducerEpoch(0));
    /// let batch = BatchBuilder::new().producer(id, epoch, Sequence(0)).transactional().record(b"k", b"v").build()?;
    ///
    /// let mut options = AppendOptions::default();
    /// if let Some(guard) = log.begin_verification(id, epoch, Sequence(0), TransactionVersion::V1)? {
    ///     // Here the coordinator is asked whether the transaction is open, and goes to this partition.
    ///     options = options.verification(guard);
    /// }
    /// log.submit(&[batch], options)?.wait()?;
    /// assert_eq!(log.begin_verification(id, epoch, Sequence(1), TransactionVersion::V1)?, None);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`](crate::Error::Rejected) for an epoch that is older than the producer's: the coordinator need not be
    /// asked.
    pub fn begin_verification(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        version: TransactionVersion,
    ) -> Result<Option<VerificationGuard>> {
        let mut appender = self.shared.appender.lock();
        let now = self.shared.now();
        let Appender { verifications, producers, options, .. } = &mut *appender;
        let current = producers.epoch(id).max(self.shared.environment.fences.get(id));
        if let Some(current) = current.filter(|current| epoch < *current) {
            self.shared.counters.refused(RejectionReason::Fenced);
            return Err(fenced(id, epoch, sequence, current).into());
        }
        if producers.has_open_transaction(id, epoch) {
            return Ok(None);
        }
        Ok(Some(verifications.begin(id, epoch, sequence, version, now, &options.producers)))
    }
}

impl Shared {
    pub(super) fn last_stable_offset(&self) -> Offset {
        let (high_watermark, first) = self.transactions.look(|| self.watermarks.high_watermark());
        transaction::last_stable_offset(first, self.watermarks.log_start(), high_watermark)
    }

    /// Takes over what a stored batch did, before its end is published: who sees a transaction's batches knows that it is
    /// open, and who sees a marker finds the aborted transaction.
    #[inline(never)]
    pub(super) fn note_effect(&self, segment: &Segment, effect: TransactionEffect) {
        if let Some(aborted) = self.transactions.note(effect, self.watermarks.high_watermark())
            && let Some(mut index) = segment.transactions()
        {
            index.append(aborted);
        }
    }

    /// The open transactions are those of `producers` from now on.
    pub(super) fn reset_transactions(&self, producers: &ProducerTable) {
        self.transactions.begin_again(producers, self.watermarks.log_end());
    }

    pub(super) fn aborted(&self, from: Offset, to: Offset) -> Result<Vec<AbortedTransaction>> {
        let mut found = Vec::new();
        let segments = self.segments.load_full();
        for segment in segments_from(&segments, from) {
            if self.transaction_index(segment)?.collect(from, to, &mut found) {
                break;
            }
        }
        Ok(found)
    }

    /// The segment's aborted transactions: from memory, from its file, or, where that is missing or does not fit the
    /// log, from the batches.
    pub(super) fn transaction_index<'a>(
        &self,
        segment: &'a Arc<Segment>,
    ) -> Result<MutexGuard<'a, TransactionIndex>> {
        if let Some(index) = segment.transactions() {
            return Ok(index);
        }
        let index = match segment.load_transactions() {
            Some(index) => index,
            None => self.build_transaction_index(segment)?,
        };
        Ok(segment.set_transactions(index))
    }

    fn build_transaction_index(&self, segment: &Arc<Segment>) -> Result<TransactionIndex> {
        let now = self.now();
        let (segments, base) = (self.segments.load_full(), segment.base_offset());
        let before = self.newest_snapshot(&segments, base, now)?.replay(&segments, base, now)?;
        aborted_in(segment, before.producers, now)
    }
}

/// Of a batch of which no more is known.
fn fenced(id: ProducerId, epoch: ProducerEpoch, sequence: Sequence, current: ProducerEpoch) -> Rejection {
    Rejection {
        reason: RejectionReason::Fenced,
        producer_id: id,
        producer_epoch: epoch,
        first_sequence: sequence,
        last_sequence: sequence,
        current_epoch: Some(current),
        expected: None,
        window: None,
    }
}

/// Other control records are not for a partition's transactions.
fn check_marker(record: ControlRecord) -> Result<(), BatchError> {
    let ControlRecord::Other { kind } = record else { return Ok(()) };
    let (field, expected) =
        ("control record type", "that of a commit or an abort, with the coordinator's epoch");
    Err(BatchError::Field { field, expected, got: kind.into() })
}

/// The transactions that were aborted in a segment, in front of which the producers are as in `producers`.
fn aborted_in(
    segment: &Arc<Segment>,
    mut producers: ProducerTable,
    now: Timestamp,
) -> Result<TransactionIndex> {
    let mut transactions: Transactions = producers.open_transactions().collect();
    let mut index = TransactionIndex::default();
    let mut cursor = BatchCursor::new(Arc::clone(segment), 0);
    while let Some(batch) = cursor.next()? {
        let effect = snapshots::apply(&mut producers, &cursor, &batch, now)?;
        if let Some(aborted) = effect.and_then(|effect| transactions.note(effect)) {
            index.append(aborted);
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::producer::ProducerPolicy;

    const A: ProducerId = ProducerId(1);

    fn began(first: i64) -> TransactionEffect {
        TransactionEffect::Began { producer_id: A, first_offset: Offset(first) }
    }

    fn ended(first: i64, marker: i64) -> TransactionEffect {
        let (first_offset, marker) = (Offset(first), Offset(marker));
        TransactionEffect::Ended { producer_id: A, first_offset, marker, aborted: false }
    }

    /// They stayed for good, all that the log had ever seen.
    #[test]
    fn transactions_that_are_over_are_forgotten_where_nobody_reads_committed_records() {
        let transactions = UnstableTransactions::default();
        for at in 0..1_000 {
            transactions.note(began(2 * at), Offset(2 * at));
            transactions.note(ended(2 * at, 2 * at + 1), Offset(2 * at));
        }
        let first = transactions.state.lock().first_unstable();
        assert_eq!(
            first,
            Some(Offset(1_998)),
            "but for the last, whose marker is not below the high watermark"
        );
    }

    /// Who had seen the high watermark before a truncation settled what was appended behind it, and was replicated nowhere.
    #[test]
    fn a_look_that_a_truncation_overtakes_settles_nothing_that_was_appended_since() {
        let transactions = UnstableTransactions::default();
        transactions.note(began(45), Offset(40));
        let high_watermark = Cell::new(Offset(100));
        let looked = transactions.look(|| {
            let seen = high_watermark.get();
            if seen == Offset(100) {
                high_watermark.set(Offset(50));
                transactions.begin_again(&ProducerTable::new(ProducerPolicy::default()), Offset(50));
                transactions.note(began(55), Offset(50));
                transactions.note(ended(55, 60), Offset(50));
            }
            seen
        });
        assert_eq!(looked, (Offset(50), Some(Offset(55))));
        assert_eq!(transactions.look(|| Offset(60)), (Offset(60), Some(Offset(55))));
        assert_eq!(transactions.look(|| Offset(61)), (Offset(61), None));
    }
}
