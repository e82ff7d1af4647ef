//! FindCoordinator: this broker, of everything.

use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Reply, answer};
use crate::broker::NODE;
use crate::request::Request;

pub(crate) fn handle(request: &Request) -> anyhow::Result<Reply> {
    request.body::<FindCoordinatorRequest>()?;
    let response = FindCoordinatorResponse::default()
        .with_node_id(NODE.into())
        .with_host(request.address.ip().to_string().into())
        .with_port(request.address.port().into());
    answer(request, &response)
}
