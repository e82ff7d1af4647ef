//! Produce: a batch for each partition in, offsets out.
//!
//! Every batch is submitted to be synced; what a client chooses with its acks is only what it waits for: nothing (0), that
//! the batch is stored (1), or that it is durable (all). Readers see durable batches.
//!
//! Where a batch would begin a transaction in its partition, the coordinator must know that the transaction goes there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use idemlog::{
    AppendOptions, AppendOutcome, Batch, Batches, ErrorCode, Log, Offset, Pending, RejectionReason,
    TransactionVersion, UncheckedBatch,
};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};

use super::{Reply, answer, code};
use crate::broker::{Broker, blocking};
use crate::coordinator::{Coordinator, Owner};
use crate::frame::Frame;
use crate::request::Request;

/// What the client waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acks {
    None,
    Stored,
    Durable,
}

impl Acks {
    /// `None` for a number that means nothing.
    fn of(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Stored),
            -1 => Some(Self::Durable),
            _ => None,
        }
    }
}

/// What became of the batch for a partition: stored, or refused with a protocol error.
struct Submitted {
    partition: i32,
    /// The partition's log, if there is one.
    log: Option<Log>,
    result: Result<Pending, i16>,
}

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: ProduceRequest = request.body()?;
    let Some(acks) = Acks::of(body.acks) else {
        return answer(&request, &refused(body, ResponseError::InvalidRequiredAcks));
    };
    let timeout = Duration::from_millis(u64::try_from(body.timeout_ms).unwrap_or(0));
    let submitting = Arc::clone(&broker);
    let topics = blocking(move || submit_all(&submitting, body)).await?;
    Ok(Box::pin(reply(broker, request, topics, acks, timeout)))
}

/// The answer that refuses what is for any partition.
fn refused(request: ProduceRequest, error: ResponseError) -> ProduceResponse {
    let refuse = |data: PartitionProduceData| {
        let response = PartitionProduceResponse::default().with_index(data.index);
        response.with_error_code(error.code()).with_base_offset(-1)
    };
    let refuse_topic = |topic: TopicProduceData| {
        let partitions = topic.partition_data.into_iter().map(refuse).collect();
        TopicProduceResponse::default().with_name(topic.name).with_partition_responses(partitions)
    };
    ProduceResponse::default().with_responses(request.topic_data.into_iter().map(refuse_topic).collect())
}

fn submit_all(broker: &Broker, request: ProduceRequest) -> Vec<(TopicName, Vec<Submitted>)> {
    let name = request.transactional_id.as_ref().map(|name| name.as_str());
    let submit_topic = |topic: TopicProduceData| {
        let partitions = topic.partition_data.into_iter().map(|data| {
            let PartitionProduceData { index: partition, records, .. } = data;
            match broker.topics.log(&topic.name, partition) {
                Ok(log) => {
                    let result = submit(broker, name, &log, records.unwrap_or_default());
                    Submitted { partition, log: Some(log), result }
                }
                Err(code) => Submitted { partition, log: None, result: Err(code.number()) },
            }
        });
        let partitions = partitions.collect();
        (topic.name, partitions)
    };
    request.topic_data.into_iter().map(submit_topic).collect()
}

fn submit(broker: &Broker, name: Option<&str>, log: &Log, records: Bytes) -> Result<Pending, i16> {
    if broker.faults.refusal.happens() {
        return Err(RejectionReason::ProducerBudget.code().number());
    }
    let batch = checked(log, records).map_err(ErrorCode::number)?;
    let options = confirmed(&broker.coordinator, name, log, &batch)?;
    log.submit(&[batch], options).map_err(|error| error.code().number())
}

/// With the confirmation of the coordinator where the batch begins a transaction.
fn confirmed(
    coordinator: &Coordinator,
    name: Option<&str>,
    log: &Log,
    batch: &Batch,
) -> Result<AppendOptions, i16> {
    let (options, header) = (AppendOptions::default(), batch.header());
    if !header.is_transactional() {
        return Ok(options);
    }
    let name = name.ok_or(ResponseError::InvalidTxnState.code())?;
    let owner = Owner { id: header.producer_id, epoch: header.producer_epoch };
    let begun = log.begin_verification(owner.id, owner.epoch, header.base_sequence, TransactionVersion::V1);
    match begun.map_err(|error| error.code().number())? {
        Some(guard) => {
            coordinator.confirm(name, owner, log.name()).map_err(|error| code(error, false))?;
            Ok(options.verification(guard))
        }
        None => Ok(options),
    }
}

/// The batch, checked as the log wants it to be: a slice of the request's bytes. There must be one and no more for each
/// partition.
fn checked(log: &Log, records: Bytes) -> Result<Batch, ErrorCode> {
    let options = log.options();
    let check = |batch: UncheckedBatch| batch.check(options.record_check, options.max_decompressed_bytes);
    let mut batches = Batches::new(records);
    match (batches.next(), batches.next()) {
        (Some(batch), None) => batch.and_then(check).map_err(|error| error.code()),
        _ => Err(ErrorCode::InvalidRecord),
    }
}

/// Waits for what the client waits for, and answers.
async fn reply(
    broker: Arc<Broker>,
    request: Request,
    topics: Vec<(TopicName, Vec<Submitted>)>,
    acks: Acks,
    timeout: Duration,
) -> anyhow::Result<Option<Frame>> {
    let deadline = tokio::time::Instant::now() + timeout;
    let mut responses = Vec::with_capacity(topics.len());
    for (name, partitions) in topics {
        let mut answered = Vec::with_capacity(partitions.len());
        for submitted in partitions {
            answered.push(settled(submitted, acks, deadline).await);
        }
        responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(answered));
    }
    if broker.faults.lost_acknowledgement.happens() {
        bail!("an acknowledgement was to be lost");
    }
    if acks != Acks::None {
        return request.answer(&ProduceResponse::default().with_responses(responses)).map(Some);
    }
    // Who waits for no answer can only be told by the end of the connection.
    let mut codes =
        responses.iter().flat_map(|topic| &topic.partition_responses).map(|answer| answer.error_code);
    if codes.any(|code| code != 0) { bail!("a batch with acks 0 was refused") } else { Ok(None) }
}

/// The answer for a partition, once it is due. With the log's start also where the batches are refused: by it a client sees
/// whether what it sent before is gone, or was never there.
async fn settled(
    submitted: Submitted,
    acks: Acks,
    deadline: tokio::time::Instant,
) -> PartitionProduceResponse {
    let stored = match submitted.result {
        Err(code) => Err(code),
        Ok(pending) => base_offset(pending, acks, deadline).await,
    };
    let log_start = submitted.log.map_or(Offset(-1), |log| log.log_start_offset());
    let response = PartitionProduceResponse::default()
        .with_index(submitted.partition)
        .with_log_start_offset(log_start.0);
    match stored {
        Ok(offset) => response.with_base_offset(offset.0),
        Err(code) => response.with_error_code(code).with_base_offset(-1),
    }
}

async fn base_offset(pending: Pending, acks: Acks, deadline: tokio::time::Instant) -> Result<Offset, i16> {
    let base_offset = pending.outcomes().first().map_or(Offset(-1), AppendOutcome::base_offset);
    if acks == Acks::Durable {
        match tokio::time::timeout_at(deadline, pending).await {
            Ok(durable) => durable.map(|_| ()).map_err(|error| error.code().number())?,
            Err(_) => return Err(ResponseError::RequestTimedOut.code()),
        }
    }
    Ok(base_offset)
}
