//! DescribeProducers: what partitions know of their producers.

use std::sync::Arc;

use idemlog::{ErrorCode, Log, ProducerInfo};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::{Reply, answer};
use crate::broker::{Broker, blocking};
use crate::request::Request;
use crate::topics::Topics;

/// Stands for a sequence, coordinator epoch or offset that there is not.
const NONE: i32 = -1;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: DescribeProducersRequest = request.body()?;
    let describe = move || body.topics.into_iter().map(|asked| topic(&broker.topics, asked)).collect();
    answer(&request, &DescribeProducersResponse::default().with_topics(blocking(describe).await?))
}

fn topic(topics: &Topics, asked: TopicRequest) -> TopicResponse {
    let partitions = asked.partition_indexes.iter().map(|number| {
        let response = PartitionResponse::default().with_partition_index(*number);
        match topics.log(&asked.name, *number) {
            Ok(log) => response.with_active_producers(producers(&log)),
            Err(code) => response.with_error_code(ErrorCode::number(code)),
        }
    });
    let partitions = partitions.collect();
    TopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

fn producers(log: &Log) -> Vec<ProducerState> {
    log.producers().iter().map(producer).collect()
}

fn producer(info: &ProducerInfo) -> ProducerState {
    let last = info.batches.last().filter(|_| info.batches_epoch == info.epoch);
    ProducerState::default()
        .with_producer_id(info.producer_id.0.into())
        .with_producer_epoch(info.epoch.0.into())
        .with_last_sequence(last.map_or(NONE, |batch| batch.last_sequence.0))
        .with_last_timestamp(info.last_timestamp.0)
        .with_coordinator_epoch(info.coordinator_epoch.unwrap_or(NONE))
        .with_current_txn_start_offset(info.transaction_first_offset.map_or(NONE.into(), |first| first.0))
}
