//! Metadata: the one node, and the topics, which are created when they are first asked for.

use std::sync::Arc;

use idemlog::{Error, ErrorCode};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::{Reply, answer};
use crate::broker::{Broker, NODE, blocking};
use crate::request::Request;
use crate::topics::{Topic, Topics};

const CLUSTER: &str = "idemlog";

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: MetadataRequest = request.body()?;
    let version = request.version;
    let topics = blocking(move || topics(&broker.topics, body, version)).await?;
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE.into())
        .with_host(request.address.ip().to_string().into())
        .with_port(request.address.port().into());
    let response = MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(CLUSTER.into()))
        .with_controller_id(NODE.into())
        .with_topics(topics);
    answer(&request, &response)
}

fn topics(topics: &Topics, request: MetadataRequest, version: i16) -> Vec<MetadataResponseTopic> {
    match request.topics {
        // In version 0 no names ask for all topics; later that is what null does.
        Some(asked) if version > 0 || !asked.is_empty() => asked
            .into_iter()
            .filter_map(|topic| topic.name)
            .map(|name| described(find(topics, &name, request.allow_auto_topic_creation), name))
            .collect(),
        _ => topics
            .all()
            .into_iter()
            .map(|(name, topic)| described(Ok(topic), TopicName(name.into())))
            .collect(),
    }
}

fn find(topics: &Topics, name: &str, may_create: bool) -> Result<Topic, ErrorCode> {
    match topics.find(name) {
        Some(topic) => Ok(topic),
        None if may_create => topics.create(name, topics.default_partitions()).map_err(|error| error.code()),
        None => Err(ErrorCode::UnknownTopicOrPartition),
    }
}

fn described(topic: Result<Topic, ErrorCode>, name: TopicName) -> MetadataResponseTopic {
    let response = MetadataResponseTopic::default().with_name(Some(name));
    match topic {
        Ok(topic) => {
            response.with_partitions(topic.iter().map(|(number, log)| partition(*number, log)).collect())
        }
        Err(code) => response.with_error_code(code.number()),
    }
}

fn partition<T>(number: i32, log: &Result<T, Error>) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_error_code(log.as_ref().err().map_or(0, |error| error.code().number()))
        .with_partition_index(number)
        .with_leader_id(NODE.into())
        .with_replica_nodes(vec![NODE.into()])
        .with_isr_nodes(vec![NODE.into()])
}
