//! What the broker answers to clients without a library, well-behaved and not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, ProducerId, Sequence};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeProducersRequest, EndTxnRequest, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Connection, encode, within_patience};

const TOPIC: &str = "orders";
const ALL: i16 = -1;

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn batch() -> Bytes {
    BatchBuilder::new().record(b"key", b"value").build().unwrap().into_bytes()
}

fn produce_request(acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(TOPIC)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

fn produce(connection: &mut Connection, acks: i16, records: Bytes) -> PartitionProduceResponse {
    let mut response = connection.call(8, &produce_request(acks, records));
    response.responses.remove(0).partition_responses.remove(0)
}

fn metadata_request(may_create: bool) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(may_create)
}

/// How many partitions the topic has, or the error of asking.
fn partitions(connection: &mut Connection, may_create: bool) -> Result<usize, i16> {
    let topic = connection.call(8, &metadata_request(may_create)).topics.remove(0);
    if topic.error_code == 0 { Ok(topic.partitions.len()) } else { Err(topic.error_code) }
}

fn list_offsets_request(timestamp: i64) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_topics(vec![topic])
}

fn offset(connection: &mut Connection, timestamp: i64) -> i64 {
    connection.call(5, &list_offsets_request(timestamp)).topics[0].partitions[0].offset
}

fn end(connection: &mut Connection) -> i64 {
    offset(connection, -1)
}

fn fetch_request(offset: i64, max_wait: Duration) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(TOPIC)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_topics(vec![topic])
}

fn create_request(topic: &str, partitions: i32) -> CreateTopicsRequest {
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![topic])
}

fn create(connection: &mut Connection, topic: &str, partitions: i32) -> i16 {
    connection.call(4, &create_request(topic, partitions)).topics[0].error_code
}

fn delete(connection: &mut Connection) -> i16 {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name(TOPIC)]);
    connection.call(3, &request).responses[0].error_code
}

fn add_partitions_request() -> AddPartitionsToTxnRequest {
    let topic = AddPartitionsToTxnTopic::default().with_name(name(TOPIC)).with_partitions(vec![0]);
    AddPartitionsToTxnRequest::default().with_v3_and_below_topics(vec![topic])
}

fn describe_producers_request() -> DescribeProducersRequest {
    let topic = TopicRequest::default().with_name(name(TOPIC)).with_partition_indexes(vec![0]);
    DescribeProducersRequest::default().with_topics(vec![topic])
}

fn broker() -> (tempfile::TempDir, Broker) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["--partitions", "2"]);
    (data, broker)
}

/// A broker that has the topic.
fn broker_with_topic() -> (tempfile::TempDir, Broker, Connection) {
    let (data, broker) = broker();
    let mut connection = broker.connect();
    assert_eq!(partitions(&mut connection, true), Ok(2));
    (data, broker, connection)
}

/// Asserts that the connection ends without another answer.
fn assert_closed(connection: &mut Connection, what: &str) {
    assert_eq!(connection.receive_frame(), None, "{what}");
}

#[test]
fn every_version_that_the_broker_offers_is_answered() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let offered = connection.call(3, &ApiVersionsRequest::default());
    assert_eq!(offered.api_keys.len(), 12);
    for api in offered.api_keys {
        for version in api.min_version..=api.max_version {
            match api.api_key {
                0 => drop(connection.call(version, &produce_request(ALL, batch()))),
                1 => drop(connection.call(version, &fetch_request(0, Duration::ZERO))),
                2 => drop(connection.call(version, &list_offsets_request(-2))),
                3 => drop(connection.call(version, &MetadataRequest::default().with_topics(Some(vec![])))),
                10 => drop(connection.call(version, &FindCoordinatorRequest::default())),
                18 => drop(connection.call(version, &ApiVersionsRequest::default())),
                19 => drop(connection.call(version, &create_request("other", 1))),
                20 => drop(connection.call(version, &DeleteTopicsRequest::default())),
                22 => drop(connection.call(version, &InitProducerIdRequest::default())),
                24 => drop(connection.call(version, &add_partitions_request())),
                26 => drop(connection.call(version, &EndTxnRequest::default())),
                61 => drop(connection.call(version, &describe_producers_request())),
                other => panic!("API {other} is offered"),
            }
        }
    }
}

#[test]
fn a_client_that_is_newer_than_the_broker_learns_what_the_broker_offers() {
    let (_data, broker) = broker();
    let mut connection = broker.connect();
    let mut request = encode(3, 7, &ApiVersionsRequest::default()).to_vec();
    request[2..4].copy_from_slice(&99_i16.to_be_bytes());
    connection.send_frame(&request);
    let response = connection.receive::<ApiVersionsRequest>(0, 7);
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), 12);
}

#[test]
fn the_broker_is_its_only_node_and_the_coordinator_of_everything() {
    let (_data, broker) = broker();
    let mut connection = broker.connect();
    let port = i32::from(broker.address().port());
    let metadata = connection.call(8, &MetadataRequest::default().with_topics(None));
    assert_eq!(metadata.brokers.len(), 1);
    assert_eq!((metadata.brokers[0].node_id, metadata.brokers[0].port), (metadata.controller_id, port));
    let coordinator = connection.call(3, &FindCoordinatorRequest::default());
    assert_eq!(
        (coordinator.error_code, coordinator.node_id, coordinator.port),
        (0, metadata.controller_id, port)
    );
}

#[test]
fn topics_are_created_and_deleted() {
    let (_data, broker) = broker();
    let mut connection = broker.connect();
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(partitions(&mut connection, false), Err(unknown));
    assert_eq!(delete(&mut connection), unknown);

    assert_eq!(create(&mut connection, TOPIC, 5), 0);
    assert_eq!(create(&mut connection, TOPIC, 5), ResponseError::TopicAlreadyExists.code());
    assert_eq!(partitions(&mut connection, false), Ok(5));
    assert_eq!(produce(&mut connection, ALL, batch()).error_code, 0);

    assert_eq!(delete(&mut connection), 0);
    assert_eq!(partitions(&mut connection, false), Err(unknown));
    assert_eq!(partitions(&mut connection, true), Ok(2), "created on first use");
    assert_eq!(end(&mut connection), 0, "nothing of the deleted one is left");

    assert_eq!(create(&mut connection, "../escape", 1), ResponseError::InvalidTopicException.code());
    let own = "__transaction_state";
    assert_eq!(create(&mut connection, own, 1), ResponseError::InvalidTopicException.code());
    assert_eq!(create(&mut connection, "none", 0), ResponseError::InvalidPartitions.code());
}

#[test]
fn each_producer_gets_an_id_of_its_own() {
    let (_data, broker) = broker();
    let mut connection = broker.connect();
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let first = connection.call(4, &request);
    let second = connection.call(4, &request);
    assert_eq!((first.error_code, first.producer_epoch), (0, 0));
    assert_ne!(first.producer_id, second.producer_id);
}

#[test]
fn a_client_waits_for_as_much_as_its_acks_say() {
    let (_data, _broker, mut connection) = broker_with_topic();
    for (offset, acks) in [1, ALL].into_iter().enumerate() {
        let response = produce(&mut connection, acks, batch());
        assert_eq!((response.error_code, response.base_offset), (0, offset as i64), "acks {acks}");
    }
    connection.send(8, 3, &produce_request(0, batch()));
    connection.call(3, &ApiVersionsRequest::default());
    within_patience(|| (end(&mut connection) == 3).then_some(()));
}

/// Such a request ended its connection, and the client never learned why.
#[test]
fn acks_that_mean_nothing_are_refused_for_each_partition() {
    let (_data, _broker, mut connection) = broker_with_topic();
    for acks in [7, 2, -2] {
        let refused = produce(&mut connection, acks, batch());
        let code = ResponseError::InvalidRequiredAcks.code();
        assert_eq!((refused.error_code, refused.base_offset, refused.log_start_offset), (code, -1, -1));
    }
    assert_eq!(end(&mut connection), 0, "nothing was stored");
}

#[test]
fn offsets_are_found_by_end_and_by_time() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let stored_at = |timestamp| {
        let builder = BatchBuilder::new().timestamp(idemlog::Timestamp(timestamp)).record(b"k", b"v");
        builder.build().unwrap().into_bytes()
    };
    for timestamp in [1_000, 2_000, 3_000] {
        assert_eq!(produce(&mut connection, ALL, stored_at(timestamp)).error_code, 0);
    }
    assert_eq!(offset(&mut connection, -3), 2);
    for (timestamp, expected) in [(-2, 0), (-1, 3), (0, 0), (1_000, 0), (1_001, 1), (3_000, 2), (3_001, -1)] {
        assert_eq!(offset(&mut connection, timestamp), expected, "{timestamp}");
    }
    assert_eq!(produce(&mut connection, ALL, stored_at(2_500)).error_code, 0);
    let latest = connection.call(7, &list_offsets_request(-3));
    let partition = &latest.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.offset, partition.timestamp), (0, 2, 3_000));
}

#[test]
fn a_fetch_returns_the_bytes_that_were_produced() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let sent = batch();
    assert_eq!(produce(&mut connection, ALL, sent.clone()).error_code, 0);
    let response = connection.call(11, &fetch_request(0, Duration::ZERO));
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
    let stored = partition.records.clone().unwrap();
    // All but the base offset, the length and the leader epoch, which the log may set.
    assert_eq!(stored[16..], sent[16..]);
}

#[test]
fn a_fetch_outside_of_the_log_is_refused() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let response = connection.call(11, &fetch_request(1, Duration::from_secs(30)));
    assert_eq!(response.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
}

#[test]
fn a_fetch_waits_for_as_long_as_asked_when_there_is_nothing() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let wait = Duration::from_millis(300);
    let began = Instant::now();
    let response = connection.call(11, &fetch_request(0, wait));
    assert!(began.elapsed() >= wait);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.records.as_ref().map(Bytes::len)), (0, Some(0)));
}

#[test]
fn a_waiting_fetch_is_answered_when_a_batch_comes() {
    let (_data, broker, mut connection) = broker_with_topic();
    let began = Instant::now();
    connection.send(11, 9, &fetch_request(0, Duration::from_secs(60)));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(produce(&mut broker.connect(), ALL, batch()).error_code, 0);
    let response = connection.receive::<FetchRequest>(11, 9);
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    assert!(began.elapsed() < Duration::from_secs(30), "did not wait to the end");
}

/// A read ends with its segment, and with what the client takes of a partition. The fetch then waited for as much as the client
/// would rather have, which no batch could bring: at each end of a segment consumers stood still.
#[test]
fn a_fetch_that_more_batches_would_not_fill_does_not_wait_for_them() {
    let (_data, _broker, mut connection) = broker_with_topic();
    (0..3).for_each(|_| assert_eq!(produce(&mut connection, ALL, batch()).error_code, 0));
    let mut request = fetch_request(0, Duration::from_secs(60)).with_min_bytes(1 << 20);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let began = Instant::now();
    let response = connection.call(11, &request);
    let records = response.responses[0].partitions[0].records.as_ref().unwrap();
    assert_eq!(records.len(), batch().len(), "the first batch, however large");
    assert!(began.elapsed() < Duration::from_secs(30), "waited for nothing");
}

#[test]
fn a_fetch_without_room_for_all_partitions_tells_the_offsets_of_the_others() {
    let (_data, _broker, mut connection) = broker_with_topic();
    assert_eq!(produce(&mut connection, ALL, batch()).error_code, 0);
    let mut request = fetch_request(0, Duration::ZERO).with_max_bytes(0);
    let partition = request.topics[0].partitions[0].clone();
    request.topics[0].partitions.push(partition);
    let response = connection.call(11, &request);
    let told = |at: usize| {
        let partition: &PartitionData = &response.responses[0].partitions[at];
        (partition.error_code, partition.high_watermark, partition.records.as_ref().map(Bytes::len))
    };
    assert_eq!((told(0), told(1)), ((0, 1, Some(batch().len())), (0, 1, Some(0))));
}

#[test]
fn batches_that_are_damaged_or_too_old_are_refused_and_not_stored() {
    const CRC: usize = 17;
    const MAGIC: usize = 16;
    let changed = |at: usize, to: u8| {
        let mut bytes = batch().to_vec();
        bytes[at] = to;
        Bytes::from(bytes)
    };
    let cut = batch().slice(..batch().len() - 1);
    let unsupported = ResponseError::UnsupportedForMessageFormat;
    let refused = [
        ("wrong CRC", changed(CRC, !batch()[CRC]), ResponseError::CorruptMessage),
        ("magic 0", changed(MAGIC, 0), unsupported),
        ("magic 1", changed(MAGIC, 1), unsupported),
        ("magic 0 as it was", old_message(0), unsupported),
        ("magic 1 as it was", old_message(1), unsupported),
        ("cut off", cut, ResponseError::CorruptMessage),
        ("no batch", Bytes::new(), ResponseError::InvalidRecord),
        ("two batches", [batch(), batch()].concat().into(), ResponseError::InvalidRecord),
    ];
    let (_data, _broker, mut connection) = broker_with_topic();
    for (what, records, expected) in refused {
        let response = produce(&mut connection, ALL, records);
        assert_eq!(ResponseError::try_from_code(response.error_code), Some(expected), "{what}");
    }
    assert_eq!(end(&mut connection), 0, "nothing was stored");
    assert_eq!(produce(&mut connection, ALL, batch()).base_offset, 0, "the connection goes on");
}

/// Refusals were answered without the log start offset, by which a client tells whether what it had sent is gone.
#[test]
fn a_refusal_says_where_the_log_begins() {
    let (_data, _broker, mut connection) = broker_with_topic();
    let late =
        BatchBuilder::new().producer(ProducerId(7), ProducerEpoch(0), Sequence(5)).record(b"key", b"value");
    let refused = produce(&mut connection, ALL, late.build().unwrap().into_bytes());
    let code = ResponseError::OutOfOrderSequenceNumber.code();
    assert_eq!((refused.error_code, refused.base_offset, refused.log_start_offset), (code, -1, 0));
}

/// A message of the formats before batches: CRC (left at 0), magic, attributes, timestamp (magic 1), key and value.
fn old_message(magic: u8) -> Bytes {
    let timestamp: &[u8] = if magic == 0 { &[] } else { &[0; 8] };
    let message = [&[0; 4], [magic, 0].as_slice(), timestamp, &[0, 0, 0, 1, b'k', 0, 0, 0, 1, b'v']].concat();
    [&[0; 8], (message.len() as i32).to_be_bytes().as_slice(), &message].concat().into()
}

#[test]
fn a_request_that_cannot_be_answered_ends_its_connection_alone() {
    let (_data, broker) = broker();
    let with = |at: usize, value: i16| {
        let mut request = encode(3, 1, &ApiVersionsRequest::default()).to_vec();
        request[at..at + 2].copy_from_slice(&value.to_be_bytes());
        [&(request.len() as i32).to_be_bytes(), request.as_slice()].concat()
    };
    let mut too_many = encode(1, 1, &DeleteTopicsRequest::default()).to_vec();
    let count = too_many.len() - 8;
    too_many[count..count + 4].copy_from_slice(&i32::MAX.to_be_bytes());
    let refused: [(&str, Vec<u8>); 10] = [
        ("larger than allowed", (17_i32 << 20).to_be_bytes().to_vec()),
        ("the largest there is", i32::MAX.to_be_bytes().to_vec()),
        ("of a negative length", (-1_i32).to_be_bytes().to_vec()),
        ("empty", vec![0; 4]),
        ("of no known API", with(0, 32_767)),
        ("of a negative API", with(0, -1)),
        ("of an API that is not served", with(0, 8)),
        ("of a version that is not served", with(0, 1)),
        ("of HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("of an array that cannot be there", [&(too_many.len() as i32).to_be_bytes(), &*too_many].concat()),
    ];
    let mut bystander = broker.connect();
    for (what, bytes) in refused {
        let mut connection = broker.connect();
        connection.send_bytes(&bytes);
        assert_closed(&mut connection, what);
        bystander.call(3, &ApiVersionsRequest::default());
    }
    broker.assert_serving();
}

#[test]
fn a_request_that_ends_early_is_refused_wherever_it_ends() {
    let (_data, broker, _connection) = broker_with_topic();
    let requests = [
        encode(8, 1, &produce_request(ALL, batch())),
        encode(11, 1, &fetch_request(0, Duration::ZERO)),
        encode(5, 1, &list_offsets_request(-1)),
        encode(8, 1, &metadata_request(false)),
        encode(4, 1, &create_request("never", 1)),
        encode(3, 1, &DeleteTopicsRequest::default().with_topic_names(vec![name(TOPIC)])),
        encode(4, 1, &InitProducerIdRequest::default()),
        encode(3, 1, &FindCoordinatorRequest::default()),
        encode(2, 1, &add_partitions_request()),
        encode(3, 1, &EndTxnRequest::default()),
        encode(0, 1, &describe_producers_request()),
    ];
    for request in requests {
        for length in 0..request.len() {
            let mut connection = broker.connect();
            connection.send_frame(&request[..length]);
            assert_closed(&mut connection, &format!("{length} bytes of {request:?}"));
        }
        let mut connection = broker.connect();
        connection.send_bytes(&(request.len() as i32).to_be_bytes());
        connection.send_bytes(&request[..request.len() / 2]);
        connection.finish();
        assert_closed(&mut connection, "the client closed in the middle");
    }
    broker.assert_serving();
}

#[test]
fn no_bytes_bring_the_broker_down() {
    let (_data, broker, _connection) = broker_with_topic();
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let served = broker.connect().call(3, &ApiVersionsRequest::default()).api_keys;
    for round in 0..600 {
        let api = &served[round % served.len()];
        let versions = (api.max_version - api.min_version + 1) as u64;
        let version = api.min_version + (draw() % versions) as i16;
        let mut request = [api.api_key.to_be_bytes(), version.to_be_bytes(), [0; 2], [0, 1]].concat();
        // Mostly small numbers: lengths and counts that are possible get further into the decoder.
        let length = draw() % 80;
        request.extend((0..length).map(|_| if draw() % 4 == 0 { draw() as u8 } else { (draw() % 3) as u8 }));
        let mut connection = broker.connect();
        connection.send_frame(&request);
        connection.finish();
        let _answered_or_closed = connection.receive_frame();
    }
    broker.assert_serving();
    broker.terminate();
}

#[test]
fn a_broker_that_is_asked_to_stop_leaves_its_data_marked_clean() {
    let (data, broker, mut connection) = broker_with_topic();
    assert_eq!(produce(&mut connection, ALL, batch()).error_code, 0);
    let mut waiting = broker.connect();
    waiting.send(11, 2, &fetch_request(1, Duration::from_secs(60)));
    // A fetch that waits does not hold it up.
    assert_eq!(broker.terminate().stored_batches, 1);
    assert!(is_marked_clean(data.path()));
}

#[test]
fn a_broker_that_is_killed_leaves_its_data_to_be_recovered() {
    let (data, broker, mut connection) = broker_with_topic();
    assert_eq!(produce(&mut connection, ALL, batch()).error_code, 0);
    broker.kill();
    assert!(!is_marked_clean(data.path()));
}

/// Also asserts that the one record is there.
fn is_marked_clean(data: &std::path::Path) -> bool {
    let dir = LogDir::open(data, LogDirOptions::default()).unwrap();
    let log = dir.partition(TOPIC, 0).unwrap();
    assert_eq!(log.log_end_offset().0, 1);
    log.recovery().marked_clean
}
