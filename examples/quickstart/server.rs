//! The process that is killed: it owns the log directory and does what a broker does with the library.

use std::io::{self, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use idemlog::{AppendOptions, Batch, Log, LogDir, LogDirOptions, LogOptions, Pending};

use crate::wire::{Acknowledgement, BatchKey, Request, Response};
use crate::{Result, TOPIC};

/// Small, so that the crash meets a log of several segments.
const SEGMENT_BYTES: u32 = 1 << 20;

/// Batches that are placed and wait until they are durable.
type InOrder = Sender<(BatchKey, Pending)>;

pub(crate) fn run(directory: &Path, partitions: usize) -> Result {
    let started = Instant::now();
    let options = LogDirOptions::default().log(LogOptions::default().segment_bytes(SEGMENT_BYTES));
    let dir = LogDir::open(directory, options)?;
    let opened = Response::Opened { elapsed: started.elapsed(), report: reports(&dir)? };
    let answers = Answers(Mutex::new(io::stdout()));
    answers.send(&opened)?;
    thread::scope(|scope| {
        let mut logs = Vec::new();
        for partition in 0..partitions {
            let (sender, receiver) = mpsc::channel();
            logs.push((dir.partition(TOPIC, partition as i32)?, sender));
            scope.spawn(|| acknowledge(receiver, &answers));
        }
        serve(&dir, &logs, &answers)
    })?;
    dir.close()?;
    Ok(())
}

/// What recovery found in each partition that was there.
fn reports(dir: &LogDir) -> Result<String> {
    if let Some((partition, error)) = dir.failed().into_iter().next() {
        return Err(format!("{partition} does not open: {error}").into());
    }
    let mut text = String::new();
    for partition in dir.partitions() {
        let log = dir.partition(partition.topic(), partition.partition())?;
        text += &format!("{partition} {}\n", log.recovery());
    }
    Ok(text)
}

/// Places batches as they come. Nobody waits here: a partition's batches become durable together.
fn serve(dir: &LogDir, logs: &[(Log, InOrder)], answers: &Answers) -> Result {
    let mut requests = BufReader::new(io::stdin());
    while let Some(request) = Request::read(&mut requests)? {
        match request {
            Request::NewProducerId => answers.send(&Response::ProducerId(dir.new_producer_id()?.0))?,
            Request::Append { partition, key, batch } => {
                let (log, in_order) = logs.get(partition).ok_or("no such partition")?;
                match place(log, &batch) {
                    Ok(pending) => in_order.send((key, pending))?,
                    Err(error) => answers.send(&Response::Refused { key, error: error.to_string() })?,
                }
            }
            Request::Close => break,
        }
    }
    Ok(())
}

fn place(log: &Log, batch: &[u8]) -> idemlog::Result<Pending> {
    let batch = Batch::decode_lent(batch)?;
    log.submit(&[batch], AppendOptions::default())
}

/// Answers for one partition. Waiting for the first batch syncs all that were placed so far.
fn acknowledge(pending: Receiver<(BatchKey, Pending)>, answers: &Answers) {
    for (key, pending) in pending {
        let response = match pending.wait().as_deref() {
            Ok([outcome, ..]) => Response::Acknowledged(Acknowledgement {
                key,
                base_offset: outcome.base_offset().0,
                is_duplicate: outcome.is_duplicate(),
            }),
            Ok([]) => continue,
            Err(error) => Response::Refused { key, error: error.to_string() },
        };
        if answers.send(&response).is_err() {
            return; // the clients are gone
        }
    }
}

/// The way back to the clients, shared by all partitions.
struct Answers(Mutex<io::Stdout>);

impl Answers {
    fn send(&self, response: &Response) -> io::Result<()> {
        let mut frame = Vec::new();
        response.write(&mut frame)?;
        let mut stdout = self.0.lock().map_err(|_| io::Error::other("another answer failed"))?;
        stdout.write_all(&frame)?;
        stdout.flush()
    }
}
