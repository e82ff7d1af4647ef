//! AddPartitionsToTxn: where a transaction is going to write. All of the partitions or none.

use std::collections::BTreeSet;
use std::sync::Arc;

use idemlog::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::{Reply, answer, code};
use crate::broker::{Broker, blocking};
use crate::coordinator::Owner;
use crate::request::Request;
use crate::topics::Topics;

/// From this version on clients know of fenced producers.
const KNOWS_FENCED: i16 = 2;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: AddPartitionsToTxnRequest = request.body()?;
    let version = request.version;
    let results = blocking(move || add(&broker, body, version)).await?;
    answer(&request, &AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results))
}

fn add(broker: &Broker, body: AddPartitionsToTxnRequest, version: i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = body.v3_and_below_topics;
    let added = existing(&broker.topics, &topics).ok_or(ResponseError::OperationNotAttempted);
    let added = added.and_then(|partitions| {
        let id = ProducerId(body.v3_and_below_producer_id.0);
        let owner = Owner { id, epoch: ProducerEpoch(body.v3_and_below_producer_epoch) };
        broker.coordinator.add(&body.v3_and_below_transactional_id, owner, &partitions)
    });
    let error_code = added.err().map_or(0, |error| code(error, version >= KNOWS_FENCED));
    topics.into_iter().map(|topic| result(&broker.topics, topic, error_code)).collect()
}

/// The partitions, if there are all of them.
fn existing(topics: &Topics, asked: &[AddPartitionsToTxnTopic]) -> Option<BTreeSet<TopicPartition>> {
    let logs = asked.iter().flat_map(|topic| {
        let numbers = topic.partitions.iter();
        numbers.map(|number| topics.log(&topic.name, *number))
    });
    logs.map(|log| Some(log.ok()?.name().clone())).collect()
}

/// The same `error_code` for each partition that there is.
fn result(topics: &Topics, topic: AddPartitionsToTxnTopic, error_code: i16) -> AddPartitionsToTxnTopicResult {
    let results = topic.partitions.iter().map(|number| {
        let missing = topics.log(&topic.name, *number).err().map(ErrorCode::number);
        AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(*number)
            .with_partition_error_code(missing.unwrap_or(error_code))
    });
    let results = results.collect();
    AddPartitionsToTxnTopicResult::default().with_name(topic.name).with_results_by_partition(results)
}
