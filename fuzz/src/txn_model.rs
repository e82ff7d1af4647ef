//! What a log with transactions must answer, worked out from the list of its batches.

use std::collections::BTreeMap;

use idemlog::{AbortedTransaction, Batch, BatchHeader, ControlRecord, Offset, ProducerId, RejectionReason};

/// The window of the policy.
const WINDOW: usize = 5;
/// The reasons that say no more than "not the next sequence": which of them it is, another target looks at.
const MISPLACED: [RejectionReason; 3] =
    [RejectionReason::Gap, RejectionReason::Overlap, RejectionReason::OlderThanWindow];

/// What is remembered of a producer: epoch, coordinator epoch, where its transaction begins, its batches.
pub type Remembered = (i16, Option<i32>, Option<i64>, Vec<[i64; 4]>);

/// A batch of the log.
#[derive(Clone, Debug)]
struct Placed {
    batch: Batch,
    base_offset: i64,
}

impl Placed {
    fn header(&self) -> &BatchHeader {
        self.batch.header()
    }

    fn end(&self) -> i64 {
        self.base_offset + i64::from(self.header().last_offset_delta) + 1
    }

    fn producer(&self) -> i64 {
        self.header().producer_id.0
    }

    fn is_data_of_a_transaction(&self) -> bool {
        self.header().is_transactional() && !self.header().is_control()
    }

    /// Whether it aborts, if it is a marker.
    fn aborts(&self) -> Option<bool> {
        marker(&self.batch).map(|(aborts, _)| aborts)
    }
}

/// Whether a marker aborts, and the epoch of its coordinator.
fn marker(batch: &Batch) -> Option<(bool, i32)> {
    match batch.control().unwrap()? {
        ControlRecord::Commit { coordinator_epoch } => Some((false, coordinator_epoch)),
        ControlRecord::Abort { coordinator_epoch } => Some((true, coordinator_epoch)),
        other => panic!("{other:?} was never sent"),
    }
}

/// What is to be answered to a batch.
#[derive(Debug)]
pub enum Verdict {
    New,
    Duplicate {
        base_offset: i64,
    },
    /// For one of these reasons.
    Refused(Vec<RejectionReason>),
}

/// A producer as the batches so far make it.
#[derive(Clone, Debug, Default)]
pub struct Producer {
    pub epoch: i16,
    coordinator_epoch: Option<i32>,
    /// First and last sequence, first and last offset, of each batch of the epoch.
    run: Vec<[i64; 4]>,
}

impl Producer {
    pub fn next_sequence(&self) -> i32 {
        self.run.last().map_or(0, |last| (last[1] + 1) as i32)
    }

    fn window(&self) -> &[[i64; 4]] {
        &self.run[self.run.len().saturating_sub(WINDOW)..]
    }

    fn enter(&mut self, epoch: i16) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.run.clear();
        }
    }
}

/// The log. Everything else follows.
#[derive(Debug, Default)]
pub struct Model {
    /// All batches since the log was begun, also those that were deleted from its head.
    placed: Vec<Placed>,
    pub log_start: i64,
    pub log_end: i64,
    /// The host's.
    pub high_watermark: Option<i64>,
    /// Markers below hold nothing back any more: the high watermark was here.
    settled: i64,
    /// Where the last segment that was rolled to begins: the log ends there or behind it, as long as its file is there.
    rolled: i64,
}

impl Model {
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.placed.iter().map(|placed| &placed.batch)
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.map_or(self.log_end, |set| set.min(self.log_end))
    }

    pub fn producers(&self) -> BTreeMap<i64, Producer> {
        let mut producers = BTreeMap::new();
        for placed in self.placed.iter().filter(|placed| placed.producer() >= 0) {
            let header = placed.header();
            let first = || Producer { epoch: header.producer_epoch.0, ..Producer::default() };
            let producer: &mut Producer = producers.entry(placed.producer()).or_insert_with(first);
            producer.enter(header.producer_epoch.0);
            match marker(&placed.batch) {
                Some((_, epoch)) => producer.coordinator_epoch = Some(epoch),
                None => {
                    let sequences = [header.base_sequence.0.into(), header.last_sequence().0.into()];
                    let offsets = [placed.base_offset, placed.end() - 1];
                    producer.run.push([sequences[0], sequences[1], offsets[0], offsets[1]]);
                }
            }
        }
        producers
    }

    /// Where each open transaction begins.
    pub fn open_transactions(&self) -> BTreeMap<i64, i64> {
        self.transactions().0
    }

    /// The open transactions, and those that were ended: producer, first offset, offset of the marker, whether aborted,
    /// and up to where all was decided once the marker was.
    fn transactions(&self) -> (BTreeMap<i64, i64>, Vec<(AbortedTransaction, bool)>) {
        let (mut open, mut ended) = (BTreeMap::new(), Vec::new());
        for placed in &self.placed {
            if placed.is_data_of_a_transaction() {
                open.entry(placed.producer()).or_insert(placed.base_offset);
            }
            let Some(aborts) = placed.aborts() else { continue };
            let Some(first) = open.remove(&placed.producer()) else { continue };
            let stable = open.values().copied().min().unwrap_or(placed.end());
            let transaction = AbortedTransaction {
                producer_id: ProducerId(placed.producer()),
                first_offset: Offset(first),
                last_offset: Offset(placed.base_offset),
                last_stable_offset: Offset(stable),
            };
            ended.push((transaction, aborts));
        }
        (open, ended)
    }

    /// Called after every step, as the log is asked after every step.
    pub fn last_stable_offset(&mut self) -> i64 {
        let high_watermark = self.high_watermark();
        self.settled = self.settled.max(high_watermark);
        self.stable().clamp(self.log_start.min(high_watermark), high_watermark)
    }

    fn stable(&self) -> i64 {
        let (open, ended) = self.transactions();
        let unsettled = ended.iter().map(|(it, _)| it).filter(|it| it.last_offset.0 >= self.settled);
        open.into_values().chain(unsettled.map(|it| it.first_offset.0)).min().unwrap_or(i64::MAX)
    }

    /// The aborted transactions with offsets in [`from`, `to`).
    pub fn aborted(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        let aborted = self.transactions().1.into_iter().filter(|(_, aborts)| *aborts).map(|(it, _)| it);
        aborted.filter(|it| it.last_offset.0 >= from && it.first_offset.0 < to).collect()
    }

    /// Base offset and CRC of the batches from the one that holds `from` on that end at `limit` or before.
    pub fn readable(&self, from: i64, limit: i64) -> Vec<(i64, u32)> {
        let within = self.placed.iter().filter(|placed| placed.end() > from && placed.end() <= limit);
        within.map(|placed| (placed.base_offset, placed.header().crc)).collect()
    }

    /// The same of what a reader gets who wants only what is committed.
    pub fn committed(&self, from: i64) -> Vec<(i64, u32)> {
        let high_watermark = self.high_watermark();
        let limit = self.stable().clamp(self.log_start.min(high_watermark), high_watermark);
        let is_kept = |(at, placed): &(usize, &Placed)| {
            !placed.header().is_control() && (!placed.is_data_of_a_transaction() || self.commits(*at))
        };
        let all = self.placed.iter().enumerate();
        let within = all.filter(|(_, placed)| placed.end() > from && placed.end() <= limit);
        within.filter(is_kept).map(|(_, placed)| (placed.base_offset, placed.header().crc)).collect()
    }

    /// Whether the next marker of the batch's producer commits.
    fn commits(&self, at: usize) -> bool {
        let producer = self.placed[at].producer();
        let behind = self.placed[at..].iter().filter(|placed| placed.producer() == producer);
        let marker = behind.filter_map(Placed::aborts).next();
        !marker.expect("below the last stable offset every transaction is decided")
    }

    pub fn remembered(&self) -> BTreeMap<i64, Remembered> {
        let open = self.open_transactions();
        let one = |(id, producer): (i64, Producer)| {
            let first = open.get(&id).copied();
            (id, (producer.epoch, producer.coordinator_epoch, first, producer.window().to_vec()))
        };
        self.producers().into_iter().map(one).collect()
    }

    /// What comes of a batch of a client, or of a coordinator.
    pub fn judge(&self, batch: &Batch, by_coordinator: bool) -> Verdict {
        let header = batch.header();
        let refused = |reason| Verdict::Refused(vec![reason]);
        if header.producer_id.0 < 0 {
            return Verdict::New;
        }
        let Some(known) = self.producers().remove(&header.producer_id.0) else {
            let is_late = !by_coordinator && self.log_end == 0 && header.base_sequence.0 != 0;
            return if is_late { refused(RejectionReason::NewLogNotAtZero) } else { Verdict::New };
        };
        if header.producer_epoch.0 < known.epoch {
            return refused(RejectionReason::Fenced);
        }
        if by_coordinator {
            let is_older = |(_, epoch): (bool, i32)| known.coordinator_epoch.is_some_and(|last| epoch < last);
            let is_fenced = marker(batch).is_some_and(is_older);
            return if is_fenced { refused(RejectionReason::CoordinatorFenced) } else { Verdict::New };
        }
        self.judge_sequence(header, &known)
    }

    fn judge_sequence(&self, header: &BatchHeader, known: &Producer) -> Verdict {
        let refused = |reason| Verdict::Refused(vec![reason]);
        let is_new_epoch = header.producer_epoch.0 > known.epoch;
        let sequences = [i64::from(header.base_sequence.0), i64::from(header.last_sequence().0)];
        let stored = known.window().iter().find(|batch| batch[..2] == sequences);
        match stored.filter(|_| !is_new_epoch) {
            Some(stored) => Verdict::Duplicate { base_offset: stored[2] },
            None if is_new_epoch && header.base_sequence.0 != 0 => {
                refused(RejectionReason::NewEpochNotAtZero)
            }
            None if !is_new_epoch && header.base_sequence.0 != known.next_sequence() => {
                Verdict::Refused(MISPLACED.to_vec())
            }
            None if !header.is_transactional()
                && self.open_transactions().contains_key(&header.producer_id.0) =>
            {
                refused(RejectionReason::TransactionOpen)
            }
            None => Verdict::New,
        }
    }

    pub fn store(&mut self, batch: &Batch) {
        let placed = Placed { batch: batch.clone(), base_offset: self.log_end };
        self.log_end = placed.end();
        self.placed.push(placed);
    }

    /// Retention moves the log start offset to a batch, not above the high watermark, and nothing else.
    pub fn follow_retention(&mut self, log_start: i64) {
        if log_start != self.log_start {
            let (before, high_watermark) = (self.log_start, self.high_watermark());
            assert!(before < log_start && log_start <= high_watermark, "from {before} to {log_start}");
            let begins = |placed: &Placed| placed.base_offset == log_start || placed.end() == log_start;
            assert!(self.placed.iter().any(begins), "{log_start} is where no segment begins");
            self.log_start = log_start;
        }
    }

    pub fn truncate(&mut self, target: i64) {
        self.placed.retain(|placed| placed.end() <= target);
        self.log_end = target;
        if self.rolled > target {
            self.rolled = 0;
        }
        self.log_start = self.log_start.min(target);
        self.high_watermark = self.high_watermark.map(|set| set.min(target));
        self.settled = self.settled.min(target);
    }

    pub fn start_over(&mut self, start: i64) {
        self.placed.clear();
        (self.log_start, self.log_end, self.rolled) = (start, start, start);
        self.high_watermark = self.high_watermark.map(|_| start);
        self.settle_anew();
    }

    /// A segment begins at the log end. Its file may be lost with the process, as it has no batch.
    pub fn roll(&mut self) {
        self.rolled = self.log_end;
    }

    /// A new opening: the host has said nothing of the high watermark yet, and the log ends at `log_end`: with its last
    /// batch, or, if it was truncated inside of one, with the segment that was rolled to there.
    pub fn reopened(&mut self, log_end: i64) {
        let last = self.placed.last().map_or(self.log_start, Placed::end).max(self.log_start);
        assert!(log_end == last || (log_end == self.rolled && self.rolled > last), "{log_end}, not {last}");
        self.log_end = log_end;
        self.high_watermark = None;
        self.settle_anew();
    }

    /// Of the markers in the log nobody knows any more which were below the high watermark.
    fn settle_anew(&mut self) {
        self.settled = self.log_end;
    }
}
