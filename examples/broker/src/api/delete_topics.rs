//! DeleteTopics.

use std::sync::Arc;

use idemlog::ErrorCode;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};

use super::{Reply, answer};
use crate::broker::{Broker, blocking};
use crate::request::Request;
use crate::topics::Topics;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: DeleteTopicsRequest = request.body()?;
    let delete_all = move || body.topic_names.into_iter().map(|name| delete(&broker.topics, name)).collect();
    answer(&request, &DeleteTopicsResponse::default().with_responses(blocking(delete_all).await?))
}

fn delete(topics: &Topics, name: TopicName) -> DeletableTopicResult {
    let code = match topics.delete(&name) {
        Ok(true) => 0,
        Ok(false) => ErrorCode::UnknownTopicOrPartition.number(),
        Err(error) => error.code().number(),
    };
    DeletableTopicResult::default().with_name(Some(name)).with_error_code(code)
}
