//! EndTxn: a transaction is committed or aborted, in all of its partitions.

use std::sync::Arc;

use idemlog::{ProducerEpoch, ProducerId};
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse};

use super::{Reply, answer, code};
use crate::broker::{Broker, blocking};
use crate::coordinator::{Outcome, Owner};
use crate::request::Request;

/// From this version on clients know of fenced producers.
const KNOWS_FENCED: i16 = 2;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: EndTxnRequest = request.body()?;
    let owner = Owner { id: ProducerId(body.producer_id.0), epoch: ProducerEpoch(body.producer_epoch) };
    let outcome = if body.committed { Outcome::Commit } else { Outcome::Abort };
    let end = move || broker.coordinator.end(&body.transactional_id, owner, outcome);
    let error = blocking(end).await?.err();
    let error_code = error.map_or(0, |error| code(error, request.version >= KNOWS_FENCED));
    answer(&request, &EndTxnResponse::default().with_error_code(error_code))
}
