//! InitProducerId: who a producer is. A new id for one without a name; the same id in a higher epoch for one with a
//! name, which fences those of that name before it.

use std::sync::Arc;

use idemlog::{ProducerEpoch, ProducerId};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use super::{Reply, answer};
use crate::broker::{Broker, blocking};
use crate::request::Request;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: InitProducerIdRequest = request.body()?;
    let claimed = (ProducerId(body.producer_id.0), ProducerEpoch(body.producer_epoch));
    let producer = move || match body.transactional_id {
        Some(name) if name.is_empty() => Err(ResponseError::InvalidRequest.code()),
        Some(name) => named(&broker, &name, claimed),
        // Also for one that has an id and asks to go on in a higher epoch: its sequences begin again either way.
        None => broker
            .dir
            .new_producer_id()
            .map(|id| (id, ProducerEpoch(0)))
            .map_err(|error| error.code().number()),
    };
    let response = match blocking(producer).await? {
        Ok((id, epoch)) => {
            InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(epoch.0)
        }
        Err(code) => InitProducerIdResponse::default().with_error_code(code).with_producer_epoch(-1),
    };
    answer(&request, &response)
}

/// The next incarnation of a named producer. One that claims to be an earlier incarnation than the last must not
/// fence the last.
fn named(
    broker: &Broker,
    name: &str,
    claimed: (ProducerId, ProducerEpoch),
) -> Result<(ProducerId, ProducerEpoch), i16> {
    let mut incarnations = broker.incarnations.lock();
    if claimed.0.is_some() && incarnations.get(name).is_some_and(|last| *last != claimed) {
        return Err(ResponseError::InvalidProducerEpoch.code());
    }
    let producer = broker.dir.producer(name).map_err(|error| error.code().number())?;
    let incarnation = (producer.id(), producer.epoch());
    incarnations.insert(name.to_owned(), incarnation);
    Ok(incarnation)
}
