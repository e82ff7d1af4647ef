//! The APIs that are served: a file for each, and which versions of it.

mod add_partitions_to_txn;
mod api_versions;
mod create_topics;
mod delete_topics;
mod describe_producers;
mod end_txn;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;

use std::pin::Pin;
use std::sync::Arc;

use anyhow::bail;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Encodable, HeaderVersion, VersionRange};

use crate::broker::Broker;
use crate::frame::Frame;
use crate::request::Request;

/// The second half of a request: resolves to the answer, if there is to be one. An error closes the connection.
pub(crate) type Reply = Pin<Box<dyn Future<Output = anyhow::Result<Option<Frame>>> + Send>>;

/// What is served. The versions end before the compact encoding where a request has arrays, unless it never had another, or a
/// later version asks for more; see [`crate::shape`].
pub(crate) const SERVED: [(ApiKey, VersionRange); 12] = [
    (ApiKey::Produce, versions(3, 8)),
    (ApiKey::Fetch, versions(4, 11)),
    (ApiKey::ListOffsets, versions(1, 7)),
    (ApiKey::Metadata, versions(0, 8)),
    (ApiKey::FindCoordinator, versions(0, 3)),
    (ApiKey::ApiVersions, versions(0, 3)),
    (ApiKey::CreateTopics, versions(2, 4)),
    (ApiKey::DeleteTopics, versions(1, 3)),
    (ApiKey::InitProducerId, versions(0, 4)),
    (ApiKey::AddPartitionsToTxn, versions(0, 2)),
    (ApiKey::EndTxn, versions(0, 3)),
    (ApiKey::DescribeProducers, versions(0, 0)),
];

/// The isolation level of a client that wants only what is committed.
const READ_COMMITTED: i8 = 1;

const fn versions(min: i16, max: i16) -> VersionRange {
    VersionRange { min, max }
}

fn is_served(api: ApiKey, version: i16) -> bool {
    SERVED.iter().any(|(served, range)| *served == api && (range.min..=range.max).contains(&version))
}

/// The first half of a request.
pub(crate) async fn handle(broker: &Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let broker = Arc::clone(broker);
    if request.api != ApiKey::ApiVersions && !is_served(request.api, request.version) {
        bail!("{:?} version {} is not served", request.api, request.version);
    }
    match request.api {
        ApiKey::Produce => produce::handle(broker, request).await,
        ApiKey::Fetch => fetch::handle(broker, request),
        ApiKey::ListOffsets => list_offsets::handle(broker, request).await,
        ApiKey::Metadata => metadata::handle(broker, request).await,
        ApiKey::FindCoordinator => find_coordinator::handle(&request),
        ApiKey::ApiVersions => api_versions::handle(request),
        ApiKey::CreateTopics => create_topics::handle(broker, request).await,
        ApiKey::DeleteTopics => delete_topics::handle(broker, request).await,
        ApiKey::InitProducerId => init_producer_id::handle(broker, request).await,
        ApiKey::AddPartitionsToTxn => add_partitions_to_txn::handle(broker, request).await,
        ApiKey::EndTxn => end_txn::handle(broker, request).await,
        ApiKey::DescribeProducers => describe_producers::handle(broker, request).await,
        other => bail!("{other:?} is not served"),
    }
}

/// The reply of a request that has its answer already.
fn answer(request: &Request, response: &(impl Encodable + HeaderVersion)) -> anyhow::Result<Reply> {
    let frame = request.answer(response)?;
    Ok(Box::pin(std::future::ready(Ok(Some(frame)))))
}

/// The number of an error. For a client that does not know of fenced producers, such a one has an invalid epoch.
fn code(error: ResponseError, knows_fenced: bool) -> i16 {
    match error {
        ResponseError::ProducerFenced if !knows_fenced => ResponseError::InvalidProducerEpoch.code(),
        error => error.code(),
    }
}
