//! FindCoordinator: this broker, of groups and of transactions.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Reply, answer};
use crate::broker::NODE;
use crate::request::Request;

/// The types of coordinators that there are.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The node id and port of no node.
const NOBODY: i32 = -1;

pub(crate) fn handle(request: &Request) -> anyhow::Result<Reply> {
    let body: FindCoordinatorRequest = request.body()?;
    if !matches!(body.key_type, GROUP | TRANSACTION) {
        let code = ResponseError::InvalidRequest.code();
        let nobody = FindCoordinatorResponse::default().with_node_id(NOBODY.into()).with_port(NOBODY);
        return answer(request, &nobody.with_error_code(code));
    }
    let response = FindCoordinatorResponse::default()
        .with_node_id(NODE.into())
        .with_host(request.address.ip().to_string().into())
        .with_port(request.address.port().into());
    answer(request, &response)
}
