//! A log and what must hold of it, through rolls, deletions, killed processes and power cuts.
//!
//! The model is the list of batches that were placed, in order, and how many of them were promised to stay. A power cut
//! may take any number of the others from the end, never one from the middle, and brings none that was not placed.

use std::collections::{HashMap, HashSet};

use arbitrary::Arbitrary;
use idemlog::sim::{SimDisk, Survivors};
use idemlog::{
    AppendOptions, Batch, Error, Log, LogDir, Offset, Pending, ProducerPolicy, RejectionReason, Timestamp,
};

use crate::sim::{Host, mode, small, stored};
use crate::template::batch;

#[derive(Arbitrary, Debug)]
pub struct Input {
    mapped: bool,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Append(New),
    Submit(New),
    /// A stored batch, a new one, and the new one once more, in one call.
    AppendAll(New, u8),
    /// One of the producer's last batches again.
    Again {
        producer: u8,
        back: u8,
    },
    /// A batch with one before it missing.
    Gap(New),
    Roll,
    Sync,
    /// The oldest append that nobody has waited for yet.
    Wait,
    Read {
        from: u8,
        max: u16,
    },
    Seek {
        timestamp: u8,
    },
    Expire,
    Recreate,
    Close,
    Kill,
    PowerCut {
        back: u8,
        survivors: Vec<u8>,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct New {
    producer: u8,
    records: u8,
    timestamp: u8,
}

/// A batch that the log took, and where.
#[derive(Clone, Debug)]
struct Placed {
    batch: Batch,
    base_offset: i64,
    /// Whether the log must still answer for it.
    remembered: bool,
}

impl Placed {
    fn end(&self) -> i64 {
        self.base_offset + i64::from(self.batch.header().record_count)
    }

    fn identity(&self) -> (i64, u32) {
        (self.base_offset, self.batch.header().crc)
    }

    fn size(&self) -> usize {
        self.batch.bytes().len()
    }
}

/// What must hold from a mark in the disk's journal on.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    /// So many of the placed batches stay.
    durable: usize,
    /// The highest producer id that was handed out.
    highest_id: i64,
}

/// What survives a power cut, by the input's bytes.
struct Chosen<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Survivors for Chosen<'_> {
    fn choose(&mut self, options: usize) -> usize {
        self.0.next().map_or(0, |&byte| usize::from(byte) % options)
    }
}

/// The window of the policy.
const WINDOW: usize = 5;
const EXPIRY: i64 = 60_000;

struct Driver {
    host: Host,
    dir: Option<LogDir>,
    log: Option<Log>,
    placed: Vec<Placed>,
    pending: Vec<(Pending, usize)>,
    /// The id of each producer and its next sequence.
    producers: HashMap<u8, (i64, i32)>,
    promise: Promise,
    promises: Vec<Promise>,
}

/// Runs the steps.
pub fn run(input: &Input) {
    let policy = ProducerPolicy::default().window(WINDOW as u8).expiry_ms(EXPIRY);
    let disk = SimDisk::new(mode(input.mapped));
    disk.set_sync_range_covers_length(true);
    let host = Host::new(disk, small().producers(policy));
    let mut driver = Driver {
        host,
        dir: None,
        log: None,
        placed: Vec::new(),
        pending: Vec::new(),
        producers: HashMap::new(),
        promise: Promise::default(),
        promises: Vec::new(),
    };
    driver.open();
    for step in input.steps.iter().take(60) {
        driver.step(step);
        driver.check();
    }
    driver.close();
    driver.check();
    assert!(driver.log().recovery().cut.is_none(), "{}", driver.log().recovery());
}

impl Driver {
    fn log(&self) -> &Log {
        self.log.as_ref().expect("open")
    }

    fn open(&mut self) {
        let (dir, log) = self.host.open_log().expect("a log opens after anything but damage");
        (self.dir, self.log) = (Some(dir), Some(log));
    }

    /// The process is gone, with all its handles.
    fn die(&mut self) {
        self.pending.clear();
        (self.dir, self.log) = (None, None);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(new) => self.append(*new),
            Step::Submit(new) => self.submit(*new),
            Step::AppendAll(new, back) => self.append_all(*new, *back),
            Step::Again { producer, back } => self.again(*producer, *back),
            Step::Gap(new) => self.gap(*new),
            Step::Roll => self.log().roll().unwrap(),
            Step::Sync => {
                self.log().sync().unwrap();
                self.all_durable();
            }
            Step::Wait => self.wait(),
            Step::Read { from, max } => self.read(i64::from(*from), usize::from(*max)),
            Step::Seek { timestamp } => self.seek(i64::from(*timestamp)),
            Step::Expire => self.expire(),
            Step::Recreate => self.recreate(),
            Step::Close => self.close(),
            Step::Kill => {
                self.die();
                self.open();
            }
            Step::PowerCut { back, survivors } => self.power_cut(*back, survivors),
        }
    }

    fn new_id(&mut self) -> i64 {
        let id = self.dir.as_ref().expect("open").new_producer_id().unwrap().0;
        assert!(id > self.promise.highest_id || self.promise.highest_id == 0, "{id} was handed out before");
        self.promise.highest_id = id;
        self.promised();
        id
    }

    /// The next batch of a producer, which nobody has sent yet.
    fn build(&mut self, new: New) -> Batch {
        let producer = new.producer % 3;
        let (id, sequence) = match self.producers.get(&producer) {
            Some(&known) => known,
            None => (self.new_id(), 0),
        };
        let records = i32::from(new.records % 9) + 1;
        self.producers.insert(producer, (id, sequence + records));
        batch(id, 0, sequence, records as usize, new.timestamp.into())
    }

    fn place(&mut self, batch: Batch, base_offset: Offset) {
        let end = self.placed.last().map_or(0, Placed::end);
        assert_eq!(base_offset.0, end, "a batch goes where the log ends");
        self.placed.push(Placed { batch, base_offset: base_offset.0, remembered: true });
    }

    fn append(&mut self, new: New) {
        let batch = self.build(new);
        let outcome = self.log().append(&batch).unwrap();
        assert!(!outcome.is_duplicate());
        self.place(batch, outcome.base_offset());
        self.all_durable();
    }

    fn submit(&mut self, new: New) {
        let batch = self.build(new);
        let pending = self.log().submit(std::slice::from_ref(&batch), AppendOptions::default()).unwrap();
        let outcome = pending.outcomes()[0];
        assert!(!outcome.is_duplicate());
        self.place(batch, outcome.base_offset());
        self.pending.push((pending, self.placed.len()));
    }

    /// A batch of the producer that the window still holds.
    fn remembered(&self, producer: u8, back: u8) -> Option<(usize, Placed)> {
        let (id, _) = *self.producers.get(&(producer % 3))?;
        let of_producer = |(_, placed): &(usize, &Placed)| placed.batch.header().producer_id.0 == id;
        let mut recent = self.placed.iter().enumerate().rev().filter(of_producer);
        let (at, placed) = recent.nth(usize::from(back) % WINDOW)?;
        placed.remembered.then(|| (at, placed.clone()))
    }

    fn again(&mut self, producer: u8, back: u8) {
        let Some((at, placed)) = self.remembered(producer, back) else { return };
        let outcome = self.log().append(&placed.batch).unwrap();
        assert!(outcome.is_duplicate());
        assert_eq!(
            (outcome.base_offset().0, outcome.last_offset().0 + 1),
            (placed.base_offset, placed.end())
        );
        self.durable(at + 1);
    }

    fn append_all(&mut self, new: New, back: u8) {
        let earlier = self.remembered(new.producer, back);
        let batch = self.build(new);
        let again = earlier.iter().map(|(_, placed)| placed.batch.clone());
        let batches: Vec<Batch> = again.chain([batch.clone(), batch.clone()]).collect();
        if batches.iter().map(|batch| batch.bytes().len()).sum::<usize>() > 2048 {
            let error = self.log().append_all(&batches).unwrap_err();
            assert!(matches!(error, Error::InvalidBatch(_)), "{error}");
            return self.take_back(new);
        }
        let outcomes = self.log().append_all(&batches).unwrap();
        let [earlier_outcome @ .., first, second] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert!(!first.is_duplicate() && second.is_duplicate());
        assert_eq!(first.offsets(), second.offsets());
        for (outcome, (_, placed)) in earlier_outcome.iter().zip(&earlier) {
            assert!(outcome.is_duplicate() && outcome.base_offset().0 == placed.base_offset);
        }
        self.place(batch, first.base_offset());
        self.all_durable();
    }

    /// The sequences of a batch that was not stored are free again.
    fn take_back(&mut self, new: New) {
        let next = self.producers.get_mut(&(new.producer % 3)).expect("just built");
        next.1 -= i32::from(new.records % 9) + 1;
    }

    fn gap(&mut self, new: New) {
        let Some(&(id, sequence)) = self.producers.get(&(new.producer % 3)) else { return };
        if sequence == 0 || !self.placed.iter().any(|placed| placed.batch.header().producer_id.0 == id) {
            return;
        }
        let ahead = batch(id, 0, sequence + 1 + i32::from(new.records), 1, new.timestamp.into());
        let Err(Error::Rejected(rejection)) = self.log().append(&ahead) else { panic!("a gap is refused") };
        assert_eq!((rejection.reason, rejection.expected.unwrap().0), (RejectionReason::Gap, sequence));
    }

    fn wait(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let (pending, placed) = self.pending.remove(0);
        pending.wait().unwrap();
        self.durable(placed);
    }

    fn read(&self, from: i64, max: usize) {
        let (log, high_watermark) = (self.log(), self.log().high_watermark().0);
        let fetched = match log.read(Offset(from), max) {
            Ok(fetched) => fetched,
            Err(Error::OffsetOutOfRange { .. }) => return assert!(from > log.log_end_offset().0),
            Err(error) => panic!("{error}"),
        };
        assert!(from <= log.log_end_offset().0);
        let batches: Vec<_> = fetched.batches().map(|batch| *batch.unwrap().header()).collect();
        let got: Vec<_> = batches.iter().map(|header| (header.base_offset.0, header.crc)).collect();
        let begin = self.placed.iter().position(|placed| placed.end() > from).unwrap_or(self.placed.len());
        let expected: Vec<_> = self.placed[begin..].iter().take(got.len()).map(Placed::identity).collect();
        assert_eq!(got, expected, "from {from}");
        assert_eq!(got.is_empty(), from >= high_watermark || max == 0, "reading goes on");
        assert!(fetched.bytes.len() <= max || got.len() == 1);
        assert_eq!(fetched.next_offset, batches.last().map_or(Offset(from), |last| last.next_offset()));
        assert!(batches.last().is_none_or(|last| last.next_offset().0 <= high_watermark));
        let size: usize = self.placed[begin..begin + got.len()].iter().map(Placed::size).sum();
        assert_eq!(fetched.bytes.len(), size);
    }

    fn seek(&self, timestamp: i64) {
        let high_watermark = self.log().high_watermark().0;
        let visible = self.placed.iter().take_while(|placed| placed.end() <= high_watermark);
        let expected = visible
            .map(|placed| (placed.base_offset, placed.batch.header().max_timestamp.0))
            .find(|&(_, of_batch)| of_batch >= timestamp);
        let found = self.log().offset_for_timestamp(Timestamp(timestamp)).unwrap();
        assert_eq!(found.map(|found| (found.offset.0, found.timestamp.0)), expected, "at {timestamp}");
    }

    /// Nobody is known any more; everybody comes back under a new id.
    fn expire(&mut self) {
        self.host.clock.advance(EXPIRY + 2_000);
        self.log().expire_producers();
        assert_eq!(self.log().producers(), []);
        self.producers.clear();
        self.placed.iter_mut().for_each(|placed| placed.remembered = false);
    }

    fn recreate(&mut self) {
        self.pending.clear();
        let dir = self.dir.clone().expect("open");
        assert!(dir.delete_partition("t", 0).unwrap());
        assert!(matches!(self.log().append(&batch(0, 0, 0, 1, 1)), Err(Error::Gone)));
        self.log = Some(dir.partition("t", 0).unwrap());
        self.placed.clear();
        self.producers.clear();
        self.promise.durable = 0;
        self.host.disk.restart_journal();
        self.promises.clear();
        self.promised();
    }

    fn close(&mut self) {
        self.dir.as_ref().expect("open").close().unwrap();
        self.all_durable();
        self.die();
        self.open();
    }

    /// The power goes now, or some changes of the disk ago.
    fn power_cut(&mut self, back: u8, survivors: &[u8]) {
        self.die();
        let disk = &self.host.disk;
        let last = disk.crash_points() - 1;
        let point = last.saturating_sub(usize::from(back) % 16);
        let promise =
            disk.marks(point).last().map_or(Promise::default(), |&mark| self.promises[mark as usize]);
        let image = disk.crash(point, &mut Chosen(survivors.iter().cycle()));
        image.set_sync_range_covers_length(true);
        self.host.disk = image;
        self.open();
        self.survived(promise);
    }

    /// What is left is a beginning of what was placed, and no shorter than was promised.
    fn survived(&mut self, promise: Promise) {
        let (found, error) = stored(self.log());
        assert_eq!(error, None);
        assert!(
            found.len() >= promise.durable,
            "{} batches are left of {} promised",
            found.len(),
            promise.durable
        );
        let placed: Vec<_> = self.placed.iter().take(found.len()).map(Placed::identity).collect();
        assert_eq!(found, placed, "not a beginning of what was placed");
        self.placed.truncate(found.len());
        self.continue_producers();
        self.promise = Promise { durable: found.len(), ..promise };
        self.promises.clear();
        self.promised();
    }

    /// Producers go on behind what is left of them, those of whom nothing is left under a new id.
    fn continue_producers(&mut self) {
        let mut next: HashMap<i64, i32> = HashMap::new();
        for placed in &self.placed {
            let header = placed.batch.header();
            next.insert(header.producer_id.0, header.last_sequence().0 + 1);
        }
        self.producers.retain(|_, (id, sequence)| {
            next.get(id).is_some_and(|next| {
                *sequence = *next;
                true
            })
        });
    }

    fn all_durable(&mut self) {
        self.durable(self.placed.len());
    }

    fn durable(&mut self, count: usize) {
        self.promise.durable = self.promise.durable.max(count);
        self.promised();
    }

    fn promised(&mut self) {
        self.host.disk.mark(self.promises.len() as u64);
        self.promises.push(self.promise);
    }

    /// What holds at any time.
    fn check(&self) {
        let log = self.log();
        let (found, error) = stored(log);
        assert_eq!(error, None);
        assert_eq!(found, self.placed.iter().map(Placed::identity).collect::<Vec<_>>());
        assert_eq!(log.log_end_offset().0, self.placed.last().map_or(0, Placed::end));
        let promised = self.placed[..self.promise.durable].last().map_or(0, Placed::end);
        assert!(promised <= log.durable_offset().0 && log.durable_offset() <= log.log_end_offset());
        assert!(log.high_watermark() <= log.durable_offset());
        let visible: Vec<_> =
            log.reader(Offset(0)).unwrap().map(|batch| batch.unwrap().header().crc).collect();
        let below = self.placed.iter().filter(|placed| placed.end() <= log.high_watermark().0).count();
        assert_eq!(visible.len(), below);
        let known: HashSet<i64> = log.producers().iter().map(|producer| producer.producer_id.0).collect();
        let expected = self.placed.iter().filter(|placed| placed.remembered);
        assert!(expected.map(|placed| placed.batch.header().producer_id.0).all(|id| known.contains(&id)));
    }
}
