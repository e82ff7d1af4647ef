//! A log on a simulated disk, what is done to it, and what was promised on the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use idemlog::sim::{Rng, SimDisk};
use idemlog::{
    AppendOptions, AppendOutcome, Batch, BatchBuilder, Clock, ControlRecord, Error, IoMode, Log, LogDir,
    LogDirOptions, LogOptions, Origin, Pending, ProducerEpoch, ProducerId, Sequence, Timestamp,
};

use crate::model::{Expected, Moment, Placed};
use crate::op::{Op, Size};
use crate::violation::{Checked, ensure, failed};

pub const DIRECTORY: &str = "/data";
pub const PARTITION: &str = "/data/t-0";
pub const NAME: &str = "named";

/// How large things are. Bytes that share a page are synced together, so some bugs need several pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Geometry {
    /// A segment of half a page: few sectors, so that every combination of them can be tried.
    Sectors,
    /// A segment of three pages.
    Pages,
}

impl Geometry {
    pub const ALL: [Self; 2] = [Self::Sectors, Self::Pages];

    fn segment_bytes(self) -> u32 {
        match self {
            Self::Sectors => 2048,
            Self::Pages => 12_288,
        }
    }

    /// Reached by a large batch alone, and by no two others.
    fn snapshot_interval_bytes(self) -> u64 {
        match self {
            Self::Sectors => 1300,
            Self::Pages => 9000,
        }
    }

    /// Exact batches fill a segment to the last byte, two of them or three.
    fn batch_bytes(self, size: Size) -> usize {
        match (self, size) {
            (_, Size::Small) => 130,
            (Self::Sectors, Size::Middle) => 210,
            (Self::Sectors, Size::Exact) => 1024,
            (Self::Sectors, Size::Large) => 1400,
            (Self::Pages, Size::Middle) => 2100,
            (Self::Pages, Size::Exact) => 4096,
            (Self::Pages, Size::Large) => 9100,
        }
    }
}

/// Time does not pass: what happens follows from the workload alone.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000)
    }
}

pub fn options(disk: &SimDisk, geometry: Geometry) -> LogDirOptions {
    let log = LogOptions::default()
        .segment_bytes(geometry.segment_bytes())
        .index_interval_bytes(200)
        .max_batch_bytes(geometry.segment_bytes())
        .snapshot_interval_bytes(geometry.snapshot_interval_bytes());
    LogDirOptions::default().log(log).disk(Arc::new(disk.clone())).clock(Arc::new(Still)).recovery_threads(1)
}

pub fn open_raw(disk: &SimDisk, geometry: Geometry) -> idemlog::Result<(LogDir, Log)> {
    let dir = LogDir::open(Path::new(DIRECTORY), options(disk, geometry))?;
    let log = dir.partition("t", 0)?;
    Ok((dir, log))
}

pub fn open(disk: &SimDisk, geometry: Geometry) -> Checked<(LogDir, Log)> {
    open_raw(disk, geometry).map_err(failed("does not open"))
}

/// A producer as its host sees it.
#[derive(Clone, Copy, Debug)]
struct Client {
    id: ProducerId,
    epoch: i16,
    next_sequence: i32,
}

/// One step of a workload, by the points of the disk's journal before and behind it.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub verb: &'static str,
    pub from: usize,
    pub to: usize,
}

/// A log under way.
#[derive(Debug)]
pub struct World {
    pub disk: SimDisk,
    pub geometry: Geometry,
    open: Option<(LogDir, Log)>,
    clients: BTreeMap<u8, Client>,
    /// What was submitted and not waited for, and where it ends.
    pending: Vec<(Pending, i64)>,
    /// What the last crash took, in order.
    lost: Vec<Batch>,
    pub now: Moment,
    /// By the marks in the disk's journal; the first is from before any.
    pub moments: Vec<Moment>,
    /// What the disk may have held before it was opened.
    origin: Vec<Moment>,
    pub spans: Vec<Span>,
}

impl World {
    /// A new log on an empty disk.
    pub fn new(mode: IoMode, geometry: Geometry) -> Checked<Self> {
        let disk = SimDisk::new(mode);
        disk.set_sync_range_covers_length(true);
        Self::on(disk, geometry, Moment::first())
    }

    /// The log that is on a disk, of which `before` is known.
    pub fn on(disk: SimDisk, geometry: Geometry, before: Moment) -> Checked<Self> {
        let mut world = Self {
            disk,
            geometry,
            open: None,
            clients: BTreeMap::new(),
            pending: Vec::new(),
            lost: Vec::new(),
            moments: vec![before.clone()],
            origin: Vec::new(),
            now: before,
            spans: Vec::new(),
        };
        world.open = Some(open(&world.disk, geometry)?);
        world.end_span("open", 0);
        Ok(world)
    }

    pub fn run(mode: IoMode, geometry: Geometry, ops: &[Op]) -> Checked<Self> {
        let mut world = Self::new(mode, geometry)?;
        world.mark();
        world.steps(ops)?;
        Ok(world)
    }

    /// What a disk must hold that is crashed at `point`.
    pub fn expected(&self, point: usize) -> Expected<'_> {
        let before = self.disk.marks(point).last().map_or(0, |&mark| mark as usize);
        let after = (before + 1).min(self.moments.len() - 1);
        let origin: &[Moment] = if before == 0 { &self.origin } else { &[] };
        let (before, after) = (&self.moments[before], &self.moments[after]);
        Expected { before, after, origin, at_least: before.durable, powered: false }
    }

    pub fn steps(&mut self, ops: &[Op]) -> Checked<()> {
        ops.iter().try_for_each(|&op| self.step(op))
    }

    pub fn dir(&self) -> &LogDir {
        &self.open.as_ref().unwrap().0
    }

    pub fn log(&self) -> &Log {
        &self.open.as_ref().unwrap().1
    }

    /// Settles what was found after a crash: the rest is lost, and all that was found is durable.
    pub fn found(&mut self, found: Moment, lost: &[Placed], expected: &Expected) {
        self.origin = expected.moments().cloned().collect();
        let durable = found.log_end();
        self.now =
            Moment { durable, highest_id: self.now.highest_id, named_epoch: self.now.named_epoch, ..found };
        self.moments[0] = Moment { durable: self.moments[0].durable, ..self.now.clone() };
        // An id that was not handed out before the crash is nobody's, and may be handed out again.
        let is_known = |id: ProducerId| (0..=self.now.highest_id).contains(&id.0);
        let sent_again = lost.iter().filter(|placed| is_known(placed.batch.header().producer_id));
        self.lost = sent_again.map(|placed| placed.batch.clone()).collect();
        self.mark();
    }

    /// The producers of the world before a crash go on in the one behind it.
    pub fn take_over_clients(&mut self, other: &Self) {
        self.clients.clone_from(&other.clients);
        // An id that nobody got may be handed out again.
        self.clients.retain(|_, client| client.id.0 <= self.now.highest_id);
        self.rewind_clients();
    }

    /// Every producer goes on behind what the log has of it.
    pub fn rewind_clients(&mut self) {
        let stored = self.now.producers();
        for client in self.clients.values_mut() {
            (client.epoch, client.next_sequence) = match stored.get(&client.id) {
                Some((epoch, batches)) => {
                    (epoch.0, batches.last().map_or(0, |last| last.batch.header().last_sequence().0 + 1))
                }
                None => (client.epoch, 0),
            };
        }
    }

    pub fn step(&mut self, op: Op) -> Checked<()> {
        let from = self.disk.crash_points() - 1;
        self.apply(op)?;
        self.end_span(op.verb(), from);
        self.note_durable();
        self.mark();
        Ok(())
    }

    fn apply(&mut self, op: Op) -> Checked<()> {
        match op {
            Op::Append { producer, size } => {
                let batch = self.next_batch(producer, size)?;
                self.append(&[batch])
            }
            Op::Submit { producer, size } => {
                let batch = self.next_batch(producer, size)?;
                self.submit(&batch)
            }
            Op::Transact { producer, size } => {
                let batch = self.next_batch_of(producer, size, true)?;
                self.submit(&batch)
            }
            Op::Commit { producer } => {
                self.end_transaction(producer, ControlRecord::Commit { coordinator_epoch: 0 })
            }
            Op::Abort { producer } => {
                self.end_transaction(producer, ControlRecord::Abort { coordinator_epoch: 0 })
            }
            Op::Again { producer, back } => self.again(producer, back),
            Op::Plain => self.append(&[self.plain()]),
            Op::Both { producer } => {
                let (one, other) =
                    (self.next_batch(producer, Size::Small)?, self.next_batch(producer, Size::Middle)?);
                self.append(&[one, other])
            }
            Op::Sync => self.log().sync().map_err(failed("sync")),
            Op::Roll => self.log().roll().map_err(failed("roll")),
            Op::NewId { producer } => self.new_client(producer).map(drop),
            Op::NextEpoch { producer } => self.next_epoch(producer),
            Op::Named => self.named(),
            Op::Expire => {
                self.log().expire_producers();
                Ok(())
            }
            Op::Truncate { batches } => self.truncate(batches),
            Op::Delete { kept } => self.delete(kept),
            Op::Close => {
                self.dir().close().map_err(failed("close"))?;
                self.all_durable();
                self.reopen()
            }
            Op::Kill => self.reopen(),
            Op::Retry => self.retry(),
            Op::Cut { .. } => Ok(()),
        }
    }

    /// What is behind the death of a process is whole, and durable once it was opened.
    fn reopen(&mut self) -> Checked<()> {
        self.forget_handles();
        self.open = Some(open(&self.disk, self.geometry)?);
        let end = self.log().log_end_offset().0;
        let expected = self.now.log_end();
        ensure(end == expected, || format!("a killed process left a log end of {end} instead of {expected}"))
    }

    /// As the death of the process does. The lock goes with the last handle.
    pub fn forget_handles(&mut self) {
        self.pending.clear();
        self.open = None;
    }

    fn end_span(&mut self, verb: &'static str, from: usize) {
        self.spans.push(Span { verb, from, to: self.disk.crash_points() - 1 });
    }

    fn mark(&mut self) {
        self.disk.mark(self.moments.len() as u64);
        self.moments.push(self.now.clone());
    }

    /// Everything that the log says to be durable, and every `Pending` that has resolved.
    fn note_durable(&mut self) {
        let resolved = self.pending.extract_if(.., |(pending, _)| pending.is_durable());
        let resolved = resolved.map(|(_, end)| end).max().unwrap_or(0);
        self.now.durable = self.now.durable.max(resolved).max(self.log().durable_offset().0);
    }

    fn all_durable(&mut self) {
        self.now.durable = self.now.log_end();
    }

    fn new_client(&mut self, producer: u8) -> Checked<Client> {
        let client = Client { id: self.new_id()?, epoch: 0, next_sequence: 0 };
        self.clients.insert(producer, client);
        Ok(client)
    }

    /// An id that nobody had before.
    pub fn new_id(&mut self) -> Checked<ProducerId> {
        let id = self.dir().new_producer_id().map_err(failed("a new producer id"))?;
        let highest = self.now.highest_id;
        ensure(id.0 > highest, || format!("producer id {id} was handed out before"))?;
        self.now.highest_id = id.0;
        Ok(id)
    }

    fn next_epoch(&mut self, producer: u8) -> Checked<()> {
        if let Some(client) = self.clients.get_mut(&producer) {
            *client = Client { epoch: client.epoch + 1, next_sequence: 0, ..*client };
        }
        Ok(())
    }

    /// The next epoch of the named producer, which nobody had before.
    pub fn named(&mut self) -> Checked<()> {
        let named = self.dir().producer(NAME).map_err(failed("a named producer"))?;
        let (id, epoch) = (named.id().0, named.epoch().0);
        let highest = self.now.named_epoch;
        ensure(epoch > highest, || format!("epoch {epoch} of the named producer was handed out before"))?;
        self.now.named_epoch = epoch;
        self.now.highest_id = self.now.highest_id.max(id);
        Ok(())
    }

    pub fn next_batch(&mut self, producer: u8, size: Size) -> Checked<Batch> {
        self.next_batch_of(producer, size, false)
    }

    /// The producer's next batch, which belongs to its transaction if one is open or `begins`.
    fn next_batch_of(&mut self, producer: u8, size: Size, begins: bool) -> Checked<Batch> {
        let client = match self.clients.get(&producer) {
            Some(&known) => known,
            None => self.new_client(producer)?,
        };
        let transactional = begins || self.now.transactions().begun_by(client.id).is_some();
        let batch = build(client, size, self.geometry.batch_bytes(size), transactional);
        let next_sequence = client.next_sequence + batch.header().record_count;
        self.clients.insert(producer, Client { next_sequence, ..client });
        // Who goes on does not send again what was lost.
        self.lost.retain(|lost| lost.header().producer_id != client.id);
        Ok(batch)
    }

    fn plain(&self) -> Batch {
        let text = format!("plain {}", self.now.log_end());
        BatchBuilder::new().record("k", text).timestamp(Timestamp(9)).build().unwrap()
    }

    pub fn append(&mut self, batches: &[Batch]) -> Checked<()> {
        let outcomes = if let [batch] = batches {
            self.log().append(batch).map(|outcome| vec![outcome])
        } else {
            self.log().append_all(batches)
        };
        let outcomes = outcomes.map_err(failed("append"))?;
        self.placed(batches, &outcomes)?;
        self.all_durable();
        Ok(())
    }

    /// A batch that was taken back does not come back, and its `Pending` says so.
    fn truncate(&mut self, batches: u8) -> Checked<()> {
        let left = self.now.log.len().saturating_sub(batches.into());
        let target = self.now.log.get(left).map_or(self.now.log_end(), |first| first.base_offset);
        // From here on nobody is promised what goes.
        self.now.durable = self.now.durable.min(target);
        self.mark();
        self.log().truncate_to(target.into()).map_err(failed("truncate"))?;
        let condemned: Vec<_> = self.pending.extract_if(.., |(_, end)| *end > target).collect();
        for (pending, end) in condemned {
            let answer = pending.wait();
            ensure(matches!(answer, Err(Error::Truncated)), || {
                format!("truncated to {target}, the batch up to {end} is answered with {answer:?}")
            })?;
        }
        self.now = self.now.cut_to(left);
        self.lost.clear();
        self.rewind_clients();
        Ok(())
    }

    /// Deletes records, and segments that have no others.
    fn delete(&mut self, kept: u8) -> Checked<()> {
        let after = self.now.without_first(self.now.log.len().saturating_sub(kept.into()));
        let target = after.log_start;
        if after.log.len() == self.now.log.len() {
            return Ok(());
        }
        let start = self.log().delete_records(target.into()).map_err(failed("delete"))?;
        ensure(start.0 == target, || format!("deleted up to {target}, the log starts at {start}"))?;
        self.now = after;
        self.mark();
        self.log().apply_retention().map(drop).map_err(failed("retention"))
    }

    /// Ends the producer's transaction, if one is open.
    fn end_transaction(&mut self, producer: u8, record: ControlRecord) -> Checked<()> {
        let Some(marker) = self.marker(producer, record)? else { return Ok(()) };
        self.lost.retain(|lost| lost.header().producer_id != marker.header().producer_id);
        self.append_marker(&marker)
    }

    /// What ends the producer's transaction, if one is open.
    pub fn marker(&self, producer: u8, record: ControlRecord) -> Checked<Option<Batch>> {
        let Some(client) = self.clients.get(&producer) else { return Ok(None) };
        if self.now.transactions().begun_by(client.id).is_none() {
            return Ok(None);
        }
        let marker = BatchBuilder::new()
            .producer(client.id, ProducerEpoch(client.epoch), Sequence::NONE)
            .control(record)
            .timestamp(Timestamp(1010));
        marker.build().map(Some).map_err(failed("a marker"))
    }

    fn append_marker(&mut self, marker: &Batch) -> Checked<()> {
        let end = self.now.log_end();
        let outcome = self.end(marker).map_err(failed("append a marker"))?;
        ensure(outcome.base_offset().0 == end, || format!("a marker at {end} is answered with {outcome:?}"))?;
        self.now = self.now.with(marker);
        Ok(())
    }

    /// Appends a marker as a coordinator does, and waits.
    pub fn end(&self, marker: &Batch) -> idemlog::Result<AppendOutcome> {
        let options = AppendOptions::default().origin(Origin::Coordinator);
        let outcomes = self.log().submit(std::slice::from_ref(marker), options)?.wait()?;
        Ok(outcomes[0])
    }

    fn submit(&mut self, batch: &Batch) -> Checked<()> {
        let batches = std::slice::from_ref(batch);
        let pending = self.log().submit(batches, AppendOptions::default()).map_err(failed("submit"))?;
        self.placed(batches, pending.outcomes())?;
        self.pending.push((pending, self.now.log_end()));
        Ok(())
    }

    /// New batches lie one behind the other at the end of the log.
    fn placed(&mut self, batches: &[Batch], outcomes: &[AppendOutcome]) -> Checked<()> {
        for (batch, outcome) in batches.iter().zip(outcomes) {
            let end = self.now.log_end();
            ensure(!outcome.is_duplicate() && outcome.base_offset().0 == end, || {
                format!("a new batch at log end {end} is answered with {outcome:?}")
            })?;
            self.now.log.push(Placed { batch: batch.clone(), base_offset: end });
        }
        Ok(())
    }

    /// Sends a batch again that the window must hold.
    fn again(&mut self, producer: u8, back: u8) -> Checked<()> {
        let Some(client) = self.clients.get(&producer) else { return Ok(()) };
        let placed = self
            .now
            .producers()
            .get(&client.id)
            .and_then(|(_, batches)| batches.iter().rev().nth(back.into()).copied().cloned());
        placed.map_or(Ok(()), |placed| self.send_again(&placed))
    }

    /// A duplicate has the offsets of its original, which is durable once it is acknowledged.
    pub fn send_again(&mut self, placed: &Placed) -> Checked<()> {
        let outcome = self.log().append(&placed.batch).map_err(failed("sent again"))?;
        ensure(outcome.is_duplicate() && outcome.offsets() == Some(placed.offsets()), || {
            format!("sent again, the batch at {} is answered with {outcome:?}", placed.base_offset)
        })?;
        self.now.durable = self.now.durable.max(placed.next_offset());
        Ok(())
    }

    /// What was lost is taken as new, in its old order, once.
    fn retry(&mut self) -> Checked<()> {
        for batch in std::mem::take(&mut self.lost) {
            if batch.header().is_control() {
                self.append_marker(&batch)?;
                continue;
            }
            self.append(std::slice::from_ref(&batch))?;
            let placed = self.now.log.last().unwrap().clone();
            self.send_again(&placed)?;
        }
        self.rewind_clients();
        Ok(())
    }
}

/// A batch of so many bytes, whose contents follow from who sends it.
fn build(client: Client, size: Size, bytes: usize, transactional: bool) -> Batch {
    let records = if size == Size::Middle { 3 } else { 1 };
    let guess = (bytes - 61) / records - 15;
    let build = |value_bytes| build_with(client, records, value_bytes, transactional);
    let batch = build(guess);
    let missing = bytes as i64 - batch.bytes().len() as i64;
    let exact = size == Size::Exact && missing != 0;
    if exact { build((guess as i64 + missing) as usize) } else { batch }
}

fn build_with(client: Client, records: usize, value_bytes: usize, transactional: bool) -> Batch {
    let sequence = client.next_sequence;
    let mut rng = Rng::new((client.id.0 as u64) << 32 | (client.epoch as u64) << 20 | sequence as u64);
    let builder = BatchBuilder::new()
        .producer(client.id, ProducerEpoch(client.epoch), Sequence(sequence))
        .timestamp(Timestamp(1000 + (client.id.0 * 13 + i64::from(sequence) * 7) % 50));
    let builder = if transactional { builder.transactional() } else { builder };
    (0..records)
        .fold(builder, |builder, _| {
            let mut value = vec![0; value_bytes];
            rng.fill(&mut value);
            builder.record(format!("{}", client.id), value)
        })
        .build()
        .unwrap()
}

#[test]
fn an_exact_batch_fills_a_part_of_a_segment_to_the_byte() {
    for geometry in Geometry::ALL {
        let client = Client { id: ProducerId(3), epoch: 1, next_sequence: 9 };
        let batch = build(client, Size::Exact, geometry.batch_bytes(Size::Exact), true);
        let bytes = geometry.batch_bytes(Size::Exact);
        assert_eq!(batch.bytes().len(), bytes);
        assert_eq!(geometry.segment_bytes() as usize % bytes, 0);
    }
}
