//! The recorded traces: one operation and Kafka's answer to it per line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;

use crate::model::{Load, Log, Origin, Outcome, Settings};
use crate::record_batch::{Batch, Content, Marker, Records};

/// The arguments of operations; what else stands in a line is an answer.
const ARGUMENTS: [&str; 24] = [
    "i",
    "now",
    "op",
    "config",
    "kind",
    "pid",
    "epoch",
    "baseSeq",
    "count",
    "txn",
    "valueSize",
    "ts",
    "leaderEpoch",
    "corrupt",
    "type",
    "coordinatorEpoch",
    "ms",
    "offset",
    "tornBytes",
    "tornSegment",
    "logStartOffsetCheckpoint",
    "recoveryPointCheckpoint",
    "final",
    "cause",
];

/// What the log is asked to do.
#[derive(Clone, Debug)]
pub enum Op {
    Open,
    Append {
        sent: Batch,
        leader_epoch: i32,
    },
    Marker {
        sent: Batch,
        leader_epoch: i32,
    },
    AdvanceTime,
    ExpireProducers,
    IncrementLogStart {
        offset: i64,
    },
    DeleteOldSegments,
    Truncate {
        target: i64,
    },
    Roll,
    Flush,
    ReopenClean,
    /// The process dies and leaves `torn` bytes less of the active segment.
    ReopenUnclean {
        log_start: i64,
        recovery_point: i64,
        torn: usize,
    },
    CheckState,
}

/// One line of a trace.
#[derive(Clone, Debug)]
pub struct Line {
    pub number: i64,
    pub now: i64,
    pub op: Op,
    /// What Kafka answered, and its state afterwards.
    pub recorded: Value,
}

/// A whole trace.
#[derive(Clone, Debug)]
pub struct Trace {
    pub name: String,
    pub settings: Settings,
    pub lines: Vec<Line>,
}

impl Trace {
    pub fn read(path: &Path) -> Self {
        let mut text = String::new();
        GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        let values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let config = &values[0]["config"];
        let settings = Settings {
            partition: "trace-0".to_owned(),
            segment_bytes: int(config, "segmentBytes") as usize,
            segment_ms: i64::MAX,
            max_batch_bytes: int(config, "maxMessageBytes") as usize,
            expiry_ms: int(config, "producerIdExpirationMs"),
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, settings, lines: values.into_iter().map(line).collect() }
    }
}

fn int(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

fn line(value: Value) -> Line {
    let op = op(&value);
    let (number, now) = (int(&value, "i"), int(&value, "now"));
    let Value::Object(mut recorded) = value else { panic!("a line is an object") };
    ARGUMENTS.iter().for_each(|argument| {
        recorded.remove(*argument);
    });
    Line { number, now, op, recorded: Value::Object(recorded) }
}

fn op(value: &Value) -> Op {
    match value["op"].as_str().unwrap() {
        "open" => Op::Open,
        "append" => Op::Append { sent: data(value), leader_epoch: int(value, "leaderEpoch") as i32 },
        "marker" => Op::Marker { sent: marker(value), leader_epoch: int(value, "leaderEpoch") as i32 },
        "advanceTime" => Op::AdvanceTime,
        "expireProducers" => Op::ExpireProducers,
        "incrementLogStartOffset" => Op::IncrementLogStart { offset: int(value, "offset") },
        "deleteOldSegments" => Op::DeleteOldSegments,
        "truncateTo" => Op::Truncate { target: int(value, "offset") },
        "roll" => Op::Roll,
        "flush" => Op::Flush,
        "reopenClean" => Op::ReopenClean,
        "reopenUnclean" | "reopenUncleanTorn" => Op::ReopenUnclean {
            log_start: int(value, "logStartOffsetCheckpoint"),
            recovery_point: int(value, "recoveryPointCheckpoint"),
            torn: value["tornBytes"].as_u64().unwrap_or(0) as usize,
        },
        "checkState" => Op::CheckState,
        other => panic!("an unknown operation: {other}"),
    }
}

fn data(value: &Value) -> Batch {
    let count = int(value, "count") as i32;
    let value_size = int(value, "valueSize") as usize;
    let sent = content(value, int(value, "baseSeq") as i32, Records::Data { count, value_size });
    let sent = Content { transactional: value["txn"].as_bool().unwrap(), ..sent }.encode();
    if value["corrupt"].as_bool().unwrap_or(false) { sent.corrupted() } else { sent }
}

fn marker(value: &Value) -> Batch {
    let abort = match value["type"].as_str().unwrap() {
        "ABORT" => true,
        "COMMIT" => false,
        other => panic!("an unknown marker: {other}"),
    };
    let marker = Marker { abort, coordinator_epoch: int(value, "coordinatorEpoch") as i32 };
    Content { transactional: true, ..content(value, -1, Records::Marker(marker)) }.encode()
}

fn content(value: &Value, base_sequence: i32, records: Records) -> Content {
    Content {
        producer_id: int(value, "pid"),
        producer_epoch: int(value, "epoch") as i16,
        base_sequence,
        transactional: false,
        timestamp: int(value, "ts"),
        records,
    }
}

impl Log {
    /// Does what a line says.
    pub fn perform(&mut self, line: &Line) -> Outcome {
        match &line.op {
            Op::Append { sent, leader_epoch } => self.append(sent, *leader_epoch, Origin::Client),
            Op::Marker { sent, leader_epoch } => self.append(sent, *leader_epoch, Origin::Coordinator),
            Op::ExpireProducers => {
                self.expire_producers(line.now);
                Outcome::Done(None)
            }
            Op::IncrementLogStart { offset } => self.increment_log_start(*offset),
            Op::DeleteOldSegments => self.delete_old_segments(),
            Op::Truncate { target } => self.truncate(*target, line.now),
            Op::Roll => {
                self.roll();
                Outcome::Done(None)
            }
            Op::Flush => self.flush(),
            Op::ReopenClean => {
                self.close();
                self.load(Load {
                    clean: true,
                    log_start: self.log_start,
                    recovery_point: self.log_end,
                    now: line.now,
                })
            }
            Op::ReopenUnclean { log_start, recovery_point, torn } => {
                self.tear(*torn);
                self.load(Load {
                    clean: false,
                    log_start: *log_start,
                    recovery_point: *recovery_point,
                    now: line.now,
                })
            }
            Op::Open | Op::AdvanceTime | Op::CheckState => Outcome::Done(None),
        }
    }

    /// Everything that a line of a trace may say after the operation.
    pub fn answer(&self, line: &Line, before: i64, outcome: &Outcome) -> Value {
        let mut answer = self.summary();
        answer["out"] = outcome.out();
        answer["state"] = self.state();
        answer["leoBefore"] = before.into();
        if let Op::Append { sent, .. } | Op::Marker { sent, .. } = &line.op {
            answer["sizeInBytes"] = sent.size.into();
            answer["crc"] = sent.crc.into();
        }
        if let Outcome::Done(Some(number)) = outcome {
            let name = if matches!(line.op, Op::Flush) { "recoveryPoint" } else { "deleted" };
            answer[name] = (*number).into();
        }
        answer
    }
}
