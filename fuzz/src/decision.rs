//! The decision about each batch, against a model that remembers every batch.
//!
//! The model knows no window, no table and no wrapped comparison: it looks through all batches ever stored, and counts
//! the sequences of an epoch from 0 without end.

use std::collections::HashMap;

use arbitrary::Arbitrary;
use idemlog::sim::SimDisk;
use idemlog::{
    AppendOutcome, Batch, BatchError, DuplicateCheck, Durability, Error, FirstAppend, Log, LogDir, Offset,
    OffsetRange, ProducerEpoch, ProducerPolicy, RecordCheck, RejectionReason, Sequence, SequenceRule,
    WindowBounds,
};

use crate::sim::{Host, hollow, mode, small};

#[derive(Arbitrary, Debug)]
pub struct Input {
    mapped: bool,
    increasing: bool,
    first_append: u8,
    same_bytes: bool,
    window: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// One call with these batches.
    Append(Sent),
    AppendAll(Vec<Sent>),
    Roll,
    Sync,
    Close,
    Kill,
}

/// A batch, in terms of what the model knows.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Sent {
    producer: u8,
    epoch: u8,
    first: First,
    count: Count,
    timestamp: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum First {
    /// The next sequence.
    Next,
    /// So many away from it.
    Near(i8),
    /// A stored batch once more.
    Again {
        back: u8,
    },
    /// The sequences of a stored batch with other bytes.
    Reused {
        back: u8,
    },
    /// So many before the wrap.
    BeforeWrap(u8),
    /// Half a circle and so many from the next one.
    Opposite(i8),
    Zero,
    Any(i32),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Count {
    Few(u8),
    /// Nearly, exactly or more than half a circle.
    Half(i8),
    /// As many as there can be, less so many.
    Most(u8),
}

impl Count {
    fn records(self) -> i32 {
        match self {
            Self::Few(count) => 1 + i32::from(count % 8),
            Self::Half(off) => (1 << 30) + i32::from(off),
            Self::Most(less) => i32::MAX - i32::from(less),
        }
    }
}

/// A stored batch of one producer.
#[derive(Clone, Copy, Debug)]
struct Stored {
    epoch: i16,
    first: i32,
    count: i32,
    /// The number of its first record in its epoch, from the sequence of the epoch's first batch on.
    position: i64,
    base_offset: i64,
    timestamp: i64,
    crc: u32,
}

const CIRCLE: i64 = 1 << 31;

impl Stored {
    fn last(&self) -> i32 {
        ((i64::from(self.first) + i64::from(self.count) - 1) % CIRCLE) as i32
    }

    fn end(&self) -> i64 {
        self.position + i64::from(self.count)
    }

    fn offsets(&self) -> OffsetRange {
        let last = self.base_offset + i64::from(self.count) - 1;
        OffsetRange { first: Offset(self.base_offset), last: Offset(last) }
    }
}

/// What the model makes of a batch.
#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    New(OffsetRange),
    Duplicate { original: Option<OffsetRange>, timestamp: i64, same_bytes: Option<bool> },
    Refused(Refusal),
}

#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    reason: RejectionReason,
    /// Set where the window is longer than half a circle: which of three reasons it is has then no right answer.
    any_misplaced: bool,
    current_epoch: Option<i16>,
    expected: Option<i32>,
    window: Option<WindowBounds>,
}

#[derive(Clone, Debug)]
struct Model {
    increasing: bool,
    first_append: FirstAppend,
    same_bytes: bool,
    window: usize,
    producers: HashMap<i64, Vec<Stored>>,
    end: i64,
}

impl Model {
    /// The batches that count as the window of a batch of `epoch`, oldest first.
    fn window(&self, producer: i64, epoch: i16) -> Vec<Stored> {
        let all = self.producers.get(&producer).map_or(&[][..], |stored| stored);
        let run: Vec<Stored> =
            all.iter().filter(|stored| self.increasing || stored.epoch == epoch).copied().collect();
        run[run.len().saturating_sub(self.window)..].to_vec()
    }

    fn current_epoch(&self, producer: i64) -> Option<i16> {
        self.producers.get(&producer)?.iter().map(|stored| stored.epoch).max()
    }

    fn next(&self, producer: i64, epoch: i16) -> Option<i32> {
        match self.window(producer, epoch).last() {
            None => Some(0),
            Some(last) if self.increasing => last.last().checked_add(1),
            Some(last) => Some((last.end_sequence() % CIRCLE) as i32),
        }
    }

    fn judge(&self, batch: &Batch) -> Verdict {
        let header = batch.header();
        let (producer, epoch) = (header.producer_id.0, header.producer_epoch.0);
        let (first, last) = (header.base_sequence.0, header.last_sequence().0);
        let count = header.record_count;
        let runs_out = self.increasing && i64::from(first) + i64::from(count) > CIRCLE;
        let Some(current) = self.current_epoch(producer) else {
            return self.judge_unknown(first, count, runs_out);
        };
        let window = self.window(producer, epoch);
        let refuse = |reason| self.refuse(reason, producer, epoch, current);
        if epoch < current {
            return refuse(RejectionReason::Fenced);
        }
        if runs_out {
            return refuse(RejectionReason::Overlap);
        }
        if let Some(original) = window.iter().find(|stored| (stored.first, stored.last()) == (first, last)) {
            let known = original.epoch == epoch && original.crc != 0;
            let same_bytes = known.then_some(original.crc == header.crc);
            if self.same_bytes && same_bytes == Some(false) {
                return refuse(RejectionReason::DifferentBytes);
            }
            let (original, timestamp) = (Some(original.offsets()), original.timestamp);
            return Verdict::Duplicate { original, timestamp, same_bytes };
        }
        if self.increasing {
            let Some(highest) = window.last() else { return self.new_batch(count) };
            if last <= highest.last() {
                let timestamp = highest.timestamp;
                return Verdict::Duplicate { original: None, timestamp, same_bytes: None };
            }
            return if first <= highest.last() {
                refuse(RejectionReason::Overlap)
            } else {
                self.new_batch(count)
            };
        }
        if Some(first) == self.next(producer, epoch) {
            return self.new_batch(count);
        }
        if epoch > current {
            return refuse(RejectionReason::NewEpochNotAtZero);
        }
        refuse(misplaced(&window, first, count))
    }

    fn judge_unknown(&self, first: i32, count: i32, runs_out: bool) -> Verdict {
        let refusal = |reason, expected| {
            let any_misplaced = false;
            Verdict::Refused(Refusal { reason, any_misplaced, current_epoch: None, expected, window: None })
        };
        if runs_out {
            return refusal(RejectionReason::Overlap, None);
        }
        let not_at_zero = match self.first_append {
            FirstAppend::RequireZero => Some(RejectionReason::UnknownProducer),
            FirstAppend::RequireZeroInNewLog if self.end == 0 => Some(RejectionReason::NewLogNotAtZero),
            _ => None,
        };
        if let Some(reason) = not_at_zero.filter(|_| !self.increasing && first != 0) {
            return refusal(reason, Some(0));
        }
        self.new_batch(count)
    }

    fn new_batch(&self, count: i32) -> Verdict {
        let last = Offset(self.end + i64::from(count) - 1);
        Verdict::New(OffsetRange { first: Offset(self.end), last })
    }

    fn refuse(&self, reason: RejectionReason, producer: i64, epoch: i16, current: i16) -> Verdict {
        let window = self.window(producer, epoch);
        let counts = self.increasing || epoch == current;
        let bounds = window.first().zip(window.last()).filter(|_| counts);
        let span = bounds.map_or(0, |(oldest, newest)| newest.end() - oldest.position);
        Verdict::Refused(Refusal {
            reason,
            any_misplaced: span > CIRCLE / 2,
            current_epoch: Some(current),
            expected: self.next(producer, epoch).filter(|_| reason != RejectionReason::Fenced),
            window: bounds.map(|(oldest, newest)| WindowBounds {
                first_sequence: Sequence(oldest.first),
                last_sequence: Sequence(newest.last()),
                offsets: OffsetRange { first: oldest.offsets().first, last: newest.offsets().last },
            }),
        })
    }

    fn store(&mut self, batch: &Batch) {
        let header = batch.header();
        let base_offset = self.end;
        self.end += i64::from(header.record_count);
        let stored = self.producers.entry(header.producer_id.0).or_default();
        let epoch = header.producer_epoch.0;
        let run_end = stored.iter().rfind(|stored| stored.epoch == epoch).map(Stored::end);
        stored.push(Stored {
            epoch,
            first: header.base_sequence.0,
            count: header.record_count,
            position: run_end.unwrap_or(header.base_sequence.0.into()),
            base_offset,
            timestamp: header.max_timestamp.0,
            crc: header.crc,
        });
    }
}

impl Stored {
    fn end_sequence(&self) -> i64 {
        i64::from(self.first) + i64::from(self.count)
    }
}

/// Where a batch lies that begins at none of the right places: at the one of its possible places on the endless line of
/// sequences that is nearest to the end.
fn misplaced(window: &[Stored], first: i32, count: i32) -> RejectionReason {
    let (Some(oldest), Some(newest)) = (window.first(), window.last()) else { return RejectionReason::Gap };
    let next = newest.end();
    let ahead = (i64::from(first) - next).rem_euclid(CIRCLE);
    let start = if ahead < CIRCLE / 2 { next + ahead } else { next + ahead - CIRCLE };
    if start > next {
        RejectionReason::Gap
    } else if start + i64::from(count) <= oldest.position {
        RejectionReason::OlderThanWindow
    } else {
        RejectionReason::Overlap
    }
}

/// The log and the model side by side.
struct Pair {
    host: Host,
    dir: Option<LogDir>,
    log: Option<Log>,
    model: Model,
}

/// Runs the steps on both.
pub fn compare(input: &Input) {
    let mut pair = Pair::new(input);
    for step in input.steps.iter().take(200) {
        pair.step(step);
    }
}

impl Pair {
    fn new(input: &Input) -> Self {
        let first_append = match input.first_append % 3 {
            0 => FirstAppend::RequireZeroInNewLog,
            1 => FirstAppend::AcceptAny,
            _ => FirstAppend::RequireZero,
        };
        let window = 1 + input.window % 8;
        let policy = ProducerPolicy::default()
            .window(window)
            .first_append(first_append)
            .sequence_rule(if input.increasing { SequenceRule::Increasing } else { SequenceRule::Contiguous })
            .duplicate_check(if input.same_bytes {
                DuplicateCheck::SameBytes
            } else {
                DuplicateCheck::Sequences
            });
        let log =
            small().durability(Durability::Buffered).record_check(RecordCheck::Header).producers(policy);
        let host = Host::new(SimDisk::new(mode(input.mapped)), log);
        let model = Model {
            increasing: input.increasing,
            first_append,
            same_bytes: input.same_bytes,
            window: window.into(),
            producers: HashMap::new(),
            end: 0,
        };
        let mut pair = Self { host, dir: None, log: None, model };
        pair.open();
        pair
    }

    fn open(&mut self) {
        let (dir, log) = self.host.open_log().expect("a sound log opens");
        assert_eq!(log.log_end_offset().0, self.model.end);
        (self.dir, self.log) = (Some(dir), Some(log));
    }

    fn step(&mut self, step: &Step) {
        let log = self.log.clone().expect("open");
        match step {
            Step::Append(sent) => self.append(&log, std::slice::from_ref(sent)),
            Step::AppendAll(sent) => self.append(&log, &sent[..sent.len().min(4)]),
            Step::Roll => log.roll().unwrap(),
            Step::Sync => log.sync().unwrap(),
            Step::Close => {
                drop(log);
                self.dir.take().unwrap().close().unwrap();
                self.log = None;
                self.open();
            }
            Step::Kill => {
                drop(log);
                (self.dir, self.log) = (None, None);
                self.open();
            }
        }
    }

    /// Sends the batches in one call. The model takes them one by one, all or none.
    fn append(&mut self, log: &Log, sent: &[Sent]) {
        let mut staged = self.model.clone();
        let (mut batches, mut verdicts, mut refused) = (Vec::new(), Vec::new(), false);
        for sent in sent {
            let batch = staged.batch(sent);
            if !refused {
                let verdict = staged.judge(&batch);
                refused = matches!(verdict, Verdict::Refused(_));
                if matches!(verdict, Verdict::New(_)) {
                    staged.store(&batch);
                }
                verdicts.push(verdict);
            }
            batches.push(batch);
        }
        // All batches of a call go into one segment, which has no more offsets.
        let records: i64 = batches.iter().map(|batch| i64::from(batch.header().record_count)).sum();
        match log.append_all(&batches) {
            Err(Error::InvalidBatch(BatchError::ClientRule { got, .. })) if records > CIRCLE => {
                assert_eq!(got, records);
            }
            _ if records > CIRCLE => panic!("{records} records in one call"),
            Ok(outcomes) => {
                assert_eq!(outcomes.len(), verdicts.len(), "{verdicts:?}");
                outcomes
                    .iter()
                    .zip(&verdicts)
                    .for_each(|(outcome, verdict)| assert_outcome(outcome, verdict));
                self.model = staged;
            }
            Err(Error::Rejected(rejection)) => {
                let Some(Verdict::Refused(refusal)) = verdicts.last() else {
                    panic!("refused ({rejection}) where the model has {verdicts:?}");
                };
                assert_refusal(&rejection, refusal);
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(log.log_end_offset().0, self.model.end);
    }
}

fn assert_outcome(outcome: &AppendOutcome, verdict: &Verdict) {
    match verdict {
        Verdict::New(offsets) => {
            assert!(!outcome.is_duplicate(), "{outcome:?}, {verdict:?}");
            assert_eq!(outcome.offsets(), Some(*offsets));
        }
        Verdict::Duplicate { original, timestamp, same_bytes } => {
            assert!(outcome.is_duplicate(), "{outcome:?}, {verdict:?}");
            let got = (outcome.offsets(), outcome.timestamp().0, outcome.same_bytes());
            assert_eq!(got, (*original, *timestamp, *same_bytes));
        }
        Verdict::Refused(refusal) => panic!("{outcome:?} where the model refuses: {refusal:?}"),
    }
}

fn assert_refusal(rejection: &idemlog::Rejection, refusal: &Refusal) {
    use RejectionReason::{Gap, OlderThanWindow, Overlap};
    let misplaced = |reason| matches!(reason, Gap | OlderThanWindow | Overlap);
    let same = rejection.reason == refusal.reason
        || (refusal.any_misplaced && misplaced(rejection.reason) && misplaced(refusal.reason));
    assert!(same, "{rejection:?} where the model has {refusal:?}");
    let expected = (refusal.current_epoch.map(ProducerEpoch), refusal.expected.map(Sequence), refusal.window);
    assert_eq!((rejection.current_epoch, rejection.expected, rejection.window), expected, "{rejection:?}");
}

impl Model {
    fn batch(&self, sent: &Sent) -> Batch {
        let producer = i64::from(sent.producer % 4);
        let epoch = i16::from(sent.epoch % 3);
        let next = self.next(producer, epoch).unwrap_or(i32::MAX);
        let near = |from: i64, away: i64| ((from + away).rem_euclid(CIRCLE)) as i32;
        let mut count = sent.count.records();
        let mut timestamp = i64::from(sent.timestamp);
        let stored = self.producers.get(&producer);
        let at = |back: u8| stored.and_then(|stored| stored.iter().rev().nth(usize::from(back % 12)));
        let mut again = |original: Option<&Stored>, other: i64| match original {
            Some(original) => {
                (count, timestamp) = (original.count, original.timestamp + other);
                original.first
            }
            None => next,
        };
        let first = match sent.first {
            First::Next => next,
            First::Near(away) => near(next.into(), away.into()),
            First::Again { back } => again(at(back), 0),
            First::Reused { back } => again(at(back), 1),
            First::BeforeWrap(less) => i32::MAX - i32::from(less),
            First::Opposite(away) => near(i64::from(next) + CIRCLE / 2, away.into()),
            First::Zero => 0,
            First::Any(sequence) => sequence & i32::MAX,
        };
        hollow((producer, epoch, first), count, timestamp)
    }
}
