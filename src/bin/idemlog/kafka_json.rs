//! What a log tells of producers and aborted transactions as JSON, in the words of Kafka's own. The example and the test
//! that compare logs with Kafka's take in this file, too.

use idemlog::{AbortedTransaction, LeaderEpoch, Offset, ProducerBatch, ProducerInfo};
use serde_json::{Value, json};

pub(crate) fn leader_epochs(epochs: &[(LeaderEpoch, Offset)]) -> Value {
    epochs.iter().map(|(epoch, start)| json!({ "epoch": epoch.0, "startOffset": start.0 })).collect()
}

pub(crate) fn aborted_transactions<'a>(aborted: impl IntoIterator<Item = &'a AbortedTransaction>) -> Value {
    aborted.into_iter().map(transaction).collect()
}

pub(crate) fn producers(producers: &[ProducerInfo]) -> Value {
    producers.iter().map(producer).collect()
}

fn transaction(aborted: &AbortedTransaction) -> Value {
    json!({
        "producerId": aborted.producer_id.0,
        "firstOffset": aborted.first_offset.0,
        "lastOffset": aborted.last_offset.0,
        "lastStableOffset": aborted.last_stable_offset.0,
    })
}

fn producer(producer: &ProducerInfo) -> Value {
    json!({
        "producerId": producer.producer_id.0,
        "producerEpoch": producer.epoch.0,
        "coordinatorEpoch": producer.coordinator_epoch.unwrap_or(-1),
        "lastTimestamp": producer.last_timestamp.0,
        "currentTxnFirstOffset": producer.transaction_first_offset.map(|offset| offset.0),
        "batches": producer.batches.iter().map(batch).collect::<Value>(),
    })
}

fn batch(batch: &ProducerBatch) -> Value {
    json!({
        "firstSeq": batch.first_sequence.0,
        "lastSeq": batch.last_sequence.0,
        "firstOffset": batch.offsets.first.0,
        "lastOffset": batch.offsets.last.0,
        "timestamp": batch.timestamp.0,
    })
}
