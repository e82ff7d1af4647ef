//! CreateTopics: with the number of partitions that the client asks for, and nothing else to choose.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::{Reply, answer};
use crate::broker::{Broker, blocking};
use crate::request::Request;
use crate::topics::{MAX_PARTITIONS, Topics};

/// Stands for: as many as the broker likes.
const UNSPECIFIED: i32 = -1;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: CreateTopicsRequest = request.body()?;
    let create_all = move || {
        let topics = body.topics.iter();
        topics.map(|topic| result(topic, create(&broker.topics, topic, body.validate_only))).collect()
    };
    answer(&request, &CreateTopicsResponse::default().with_topics(blocking(create_all).await?))
}

fn create(topics: &Topics, topic: &CreatableTopic, validate_only: bool) -> Result<(), i16> {
    let partitions = partitions(topics, topic).map_err(|error| error.code())?;
    Topics::check_name(&topic.name).map_err(|error| error.code().number())?;
    if topics.find(&topic.name).is_some() {
        return Err(ResponseError::TopicAlreadyExists.code());
    }
    if !validate_only {
        topics.create(&topic.name, partitions).map_err(|error| error.code().number())?;
    }
    Ok(())
}

/// How many partitions the topic gets, if it is one that this broker can have.
fn partitions(topics: &Topics, topic: &CreatableTopic) -> Result<i32, ResponseError> {
    if !topic.assignments.is_empty() {
        return Err(ResponseError::InvalidReplicaAssignment);
    }
    if !topic.configs.is_empty() {
        return Err(ResponseError::InvalidConfig);
    }
    if !matches!(topic.replication_factor, -1 | 1) {
        return Err(ResponseError::InvalidReplicationFactor);
    }
    match topic.num_partitions {
        UNSPECIFIED => Ok(topics.default_partitions()),
        partitions @ 1..=MAX_PARTITIONS => Ok(partitions),
        _ => Err(ResponseError::InvalidPartitions),
    }
}

fn result(topic: &CreatableTopic, created: Result<(), i16>) -> CreatableTopicResult {
    CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(created.err().unwrap_or(0))
}
