//! Kafka's exceptions, by name and in its words.

use crate::record_batch::Batch;

/// An exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The class, without its package.
    pub exception: &'static str,
    /// `None` where the recordings do not tell.
    pub message: Option<String>,
}

impl Refusal {
    fn new(exception: &'static str, message: String) -> Self {
        Self { exception, message: Some(message) }
    }

    pub fn out_of_range() -> Self {
        Self { exception: "OffsetOutOfRangeException", message: None }
    }

    pub fn too_large(batch: &Batch, partition: &str, limit: usize) -> Self {
        let message = format!(
            "The record batch size in the append to {partition} is {} bytes which exceeds the maximum configured value \
             of {limit}.",
            batch.size
        );
        Self::new("RecordTooLargeException", message)
    }

    pub fn corrupt(batch: &Batch, partition: &str) -> Self {
        let message =
            format!("Record is corrupt (stored crc = {}) in topic partition {partition}.", batch.crc);
        Self::new("CorruptRecordException", message)
    }

    /// What stands in a file has a length that no batch has.
    pub fn undersized(partition: &str, base_offset: i64, length: i32) -> Self {
        let message = format!(
            "Found record size {length} smaller than minimum record overhead (14) in file \
             {partition}/{base_offset:020}.log."
        );
        Self::new("CorruptRecordException", message)
    }

    pub fn negative_sequence(batch: &Batch, partition: &str) -> Self {
        let message = format!(
            "Invalid sequence number {} in record batch with producerId {} in topic partition {partition}",
            batch.base_sequence, batch.producer_id
        );
        Self::new("InvalidRecordException", message)
    }

    pub fn fenced(batch: &Batch, partition: &str, current: i16) -> Self {
        let message = format!(
            "Epoch of producer {} at offset {} in {partition} is {}, which is smaller than the last seen epoch {current}",
            batch.producer_id, batch.base_offset, batch.producer_epoch
        );
        Self::new("InvalidProducerEpochException", message)
    }

    pub fn coordinator_fenced(batch: &Batch, partition: &str, got: i32, current: i32) -> Self {
        let message = format!(
            "Invalid coordinator epoch for producerId {} at offset {} in partition {partition}: {got} (zombie), \
             {current} (current)",
            batch.producer_id, batch.base_offset
        );
        Self::new("TransactionCoordinatorFencedException", message)
    }

    pub fn new_epoch_not_at_zero(batch: &Batch, partition: &str, current: i16) -> Self {
        let message = format!(
            "Invalid sequence number for new epoch of producer {}at offset {} in partition {partition}: {} (request \
             epoch), {} (seq. number), {current} (current producer epoch)",
            batch.producer_id, batch.base_offset, batch.producer_epoch, batch.base_sequence
        );
        Self::new("OutOfOrderSequenceException", message)
    }

    pub fn out_of_order(batch: &Batch, partition: &str, last: i32) -> Self {
        let message = format!(
            "Out of order sequence number for producer {} at offset {} in partition {partition}: {} (incoming seq. \
             number), {last} (current end sequence number)",
            batch.producer_id, batch.base_offset, batch.base_sequence
        );
        Self::new("OutOfOrderSequenceException", message)
    }

    pub fn transaction_open(batch: &Batch, partition: &str) -> Self {
        let message = format!(
            "Expected transactional write from producer {} at offset (offset={}, segment=[-1:-1]) in partition \
             {partition}",
            batch.producer_id, batch.base_offset
        );
        Self::new("InvalidTxnStateException", message)
    }
}
