//! ListOffsets: the first offset, the end, the first offset at or after a time, or that of the latest time.

use std::sync::Arc;

use idemlog::{ErrorCode, Log, OffsetAndTimestamp, Timestamp};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{READ_COMMITTED, Reply, answer};
use crate::broker::{Broker, blocking};
use crate::request::Request;
use crate::topics::Topics;

/// Stands in the place of a time for the end of the log, as far as consumers may read.
const LATEST: i64 = -1;
/// Stands in the place of a time for the log's first offset.
const EARLIEST: i64 = -2;
/// Stands in the place of a time for the record with the latest one (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The answer when no record is as late as asked for, and the timestamp where none was asked for.
const NONE: i64 = -1;

pub(crate) async fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: ListOffsetsRequest = request.body()?;
    let only_committed = body.isolation_level == READ_COMMITTED;
    let look_up = move || {
        let topics = body.topics.into_iter();
        topics.map(|asked| topic(&broker.topics, asked, only_committed)).collect()
    };
    answer(&request, &ListOffsetsResponse::default().with_topics(blocking(look_up).await?))
}

fn topic(topics: &Topics, asked: ListOffsetsTopic, only_committed: bool) -> ListOffsetsTopicResponse {
    let partitions = asked.partitions.iter().map(|partition| {
        let found = topics.log(&asked.name, partition.partition_index).map_err(ErrorCode::number);
        answered(partition, found.and_then(|log| look_up(&log, partition.timestamp, only_committed)))
    });
    let partitions = partitions.collect();
    ListOffsetsTopicResponse::default().with_name(asked.name).with_partitions(partitions)
}

/// The offset asked for, and the time of its record.
fn look_up(log: &Log, timestamp: i64, only_committed: bool) -> Result<(i64, i64), i16> {
    let end = if only_committed { log.last_stable_offset() } else { log.high_watermark() };
    let found = match timestamp {
        LATEST => return Ok((end.0, NONE)),
        EARLIEST => return Ok((log.log_start_offset().0, NONE)),
        MAX_TIMESTAMP => log.offset_of_max_timestamp(),
        0.. => log.offset_for_timestamp(Timestamp(timestamp)),
        _ => return Err(ResponseError::InvalidRequest.code()),
    };
    let found = found.map_err(|error| error.code().number())?.filter(|found| found.offset < end);
    Ok(found.map_or((NONE, NONE), |OffsetAndTimestamp { offset, timestamp }| (offset.0, timestamp.0)))
}

fn answered(
    partition: &ListOffsetsPartition,
    found: Result<(i64, i64), i16>,
) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
    match found {
        Ok((offset, timestamp)) => response.with_offset(offset).with_timestamp(timestamp),
        Err(code) => response.with_error_code(code).with_offset(NONE).with_timestamp(NONE),
    }
}
