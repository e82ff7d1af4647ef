//! InitProducerId: who a producer is. A new id for one without a name; the same id in a higher epoch for one with a
//! transactional id, which fences those of that name before it.

use std::sync::Arc;

use idemlog::{ProducerEpoch, ProducerId};
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Reply, answer, code};
use crate::broker::{Broker, blocking};
use crate::coordinator::Owner;
use crate::request::Request;

/// From this version on clients know of fenced producers.
const KNOWS_FENCED: i16 = 4;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: InitProducerIdRequest = request.body()?;
    let version = request.version;
    let response = match blocking(move || owner(&broker, &body, version)).await? {
        Ok(Owner { id, epoch }) => {
            InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(epoch.0)
        }
        Err(code) => InitProducerIdResponse::default().with_error_code(code).with_producer_epoch(-1),
    };
    answer(&request, &response)
}

fn owner(broker: &Broker, body: &InitProducerIdRequest, version: i16) -> Result<Owner, i16> {
    let claimed = Owner { id: ProducerId(body.producer_id.0), epoch: ProducerEpoch(body.producer_epoch) };
    let claimed = Some(claimed).filter(|claimed| claimed.id.is_some());
    match &body.transactional_id {
        Some(name) => broker
            .coordinator
            .next_owner(name, claimed, body.transaction_timeout_ms)
            .map_err(|error| code(error, version >= KNOWS_FENCED)),
        // Also for one that has an id and asks to go on in a higher epoch: its sequences begin again either way.
        None => {
            let id = broker.dir.new_producer_id().map_err(|error| error.code().number())?;
            Ok(Owner { id, epoch: ProducerEpoch(0) })
        }
    }
}
