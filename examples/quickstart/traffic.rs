//! The clients: they send, lose acknowledgements, send again, kill the server and carry on with the next one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use idemlog::ProducerId;
use idemlog::sim::Rng;

use crate::Result;
use crate::arguments::Arguments;
use crate::lane::Lane;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::summary::grouped;
use crate::wire::{Acknowledgement, Response};

/// One acknowledgement of so many is lost.
const LOSS: u64 = 20;

/// What happened on the way.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    pub(crate) batches: u64,
    pub(crate) acknowledged_records: u64,
    pub(crate) acknowledgements_lost: u64,
    pub(crate) in_doubt: u64,
    pub(crate) duplicates: u64,
    /// Sent again after a lost acknowledgement, and answered with other offsets than the first time.
    pub(crate) answered_differently: u64,
    pub(crate) answers: u64,
    pub(crate) elapsed: Duration,
    pub(crate) outage: Option<Outage>,
}

impl Counts {
    pub(crate) fn sent_again(&self) -> u64 {
        self.acknowledgements_lost + self.in_doubt
    }
}

/// How long the crash kept the clients waiting.
pub(crate) struct Outage {
    /// Opening the directory: all of recovery.
    pub(crate) recovery: Duration,
    /// From the kill until the new server takes batches.
    pub(crate) total: Duration,
}

/// All that was sent, and the promises that were made about it.
pub(crate) struct Sent {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
}

pub(crate) struct Traffic {
    directory: PathBuf,
    partitions: usize,
    remote: Remote,
    rng: Rng,
    /// The server is killed once as many records are acknowledged.
    kill_at: Option<u64>,
    sent: Sent,
    progress: Progress,
}

impl Traffic {
    pub(crate) fn start(arguments: &Arguments, directory: &Path) -> Result<Self> {
        let mut rng = Rng::new(arguments.seed);
        let (mut remote, _) = Remote::start(directory, arguments.partitions)?;
        let kill_at = arguments.records * (30 + rng.below(40)) / 100;
        Ok(Self {
            directory: directory.to_owned(),
            partitions: arguments.partitions,
            sent: Sent {
                lanes: lanes(arguments, &mut remote)?,
                ledger: Ledger::default(),
                counts: Counts { records: arguments.records, ..Counts::default() },
            },
            kill_at: (arguments.records > 0).then_some(kill_at),
            progress: Progress::new(arguments.records),
            remote,
            rng,
        })
    }

    /// Sends until every record is acknowledged, then has the server close its directory.
    pub(crate) fn run(mut self) -> Result<Sent> {
        let started = Instant::now();
        (0..self.sent.lanes.len()).try_for_each(|lane| self.send_more(lane))?;
        while !self.sent.lanes.iter().all(Lane::is_done) {
            self.remote.flush()?;
            if self.kill_at.take_if(|at| *at <= self.sent.counts.acknowledged_records).is_some() {
                self.kill_and_restart()?;
            }
            let response = self.remote.receive()?;
            self.handle(response)?;
            while let Some(response) = self.remote.try_receive() {
                self.handle(response)?;
            }
            let counts = &self.sent.counts;
            self.progress.show(counts.acknowledged_records, counts.sent_again());
        }
        self.sent.counts.elapsed = started.elapsed();
        self.progress.clear();
        self.remote.close()?;
        Ok(self.sent)
    }

    fn send_more(&mut self, lane: usize) -> Result {
        let sending = &mut self.sent.lanes[lane];
        let partition = sending.partition;
        while let Some(next) = sending.next(&mut self.rng)? {
            self.sent.counts.batches += 1;
            self.remote.send(&next.request(lane, partition))?;
        }
        Ok(())
    }

    fn handle(&mut self, response: Response) -> Result {
        match response {
            Response::Acknowledged(acknowledgement) => self.acknowledged(acknowledgement),
            Response::Refused { error, .. } => Err(format!("the server refused a batch: {error}").into()),
            Response::Opened { .. } | Response::ProducerId(_) => {
                Err("an answer that nobody asked for".into())
            }
        }
    }

    /// The network: sometimes the acknowledgement does not arrive. Then the batch is sent again, as it is.
    fn acknowledged(&mut self, acknowledgement: Acknowledgement) -> Result {
        let Acknowledgement { key, base_offset, is_duplicate } = acknowledgement;
        let Sent { lanes, ledger, counts } = &mut self.sent;
        let lane = lanes.get_mut(key.lane).ok_or("an answer for nobody")?;
        let partition = lane.partition;
        let sent = lane.find(key.first_number).ok_or("an answer about a batch that was not asked about")?;
        counts.answers += 1;
        counts.duplicates += u64::from(is_duplicate);
        counts.answered_differently += u64::from(sent.lost_answer.is_some_and(|first| first != base_offset));
        if self.rng.chance(1, LOSS) {
            sent.lost_answer = Some(base_offset);
            counts.acknowledgements_lost += 1;
            return self.remote.send(&sent.request(key.lane, partition));
        }
        sent.acknowledged = true;
        counts.acknowledged_records += sent.records();
        ledger.write(partition, base_offset, sent.batch.header().crc);
        lane.settle();
        self.send_more(key.lane)
    }

    /// The worst that can happen to a process, in the middle of its work.
    fn kill_and_restart(&mut self) -> Result {
        let in_doubt = self.sent.lanes.iter().flat_map(Lane::in_doubt).count() as u64;
        self.progress.clear();
        println!(
            "SIGKILL after {} records were acknowledged, with {in_doubt} batches in flight",
            grouped(self.sent.counts.acknowledged_records),
        );
        let killed = Instant::now();
        self.remote.kill()?;
        let (remote, opened) = Remote::start(&self.directory, self.partitions)?;
        self.remote = remote;
        self.sent.counts.outage = Some(Outage { recovery: opened.elapsed, total: killed.elapsed() });
        self.sent.counts.in_doubt = in_doubt;
        println!("A new server has opened the directory. Its recovery report:");
        opened.report.lines().for_each(|line| println!("  {line}"));
        println!("The producers send again what is in doubt, and carry on.");
        self.send_in_doubt()
    }

    /// What is stored of it, and what is not, only the log can tell: all of it goes out again, in order.
    fn send_in_doubt(&mut self) -> Result {
        for (number, lane) in self.sent.lanes.iter().enumerate() {
            for sent in lane.in_doubt() {
                self.remote.send(&sent.request(number, lane.partition))?;
            }
        }
        self.remote.flush()
    }
}

/// Every producer sends to every partition. The records are dealt out evenly.
fn lanes(arguments: &Arguments, remote: &mut Remote) -> Result<Vec<Lane>> {
    let count = (arguments.producers * arguments.partitions) as u64;
    let mut lanes = Vec::new();
    for producer in 0..arguments.producers {
        let id = if arguments.idempotence { Some(ProducerId(remote.new_producer_id()?)) } else { None };
        for partition in 0..arguments.partitions {
            let extra = u64::from((lanes.len() as u64) < arguments.records % count);
            lanes.push(Lane::new(producer, partition, id, arguments.records / count + extra));
        }
    }
    Ok(lanes)
}
