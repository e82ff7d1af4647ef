//! What the coordinator answers to producers without a library, whose requests come late, twice or from the past.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use idemlog::{BatchBuilder, ProducerEpoch, ProducerId, Sequence};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, CreateTopicsRequest, DescribeProducersRequest, EndTxnRequest, FetchRequest,
    FindCoordinatorRequest, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ProduceRequest, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;
use support::{Broker, Connection};

const TOPIC: &str = "payments";
const NAME: &str = "cashier";
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn transactional_id(name: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(name.to_owned()))
}

/// The error that a number stands for; `None` for 0.
fn error(code: i16) -> Option<ResponseError> {
    ResponseError::try_from_code(code)
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    id: i64,
    epoch: i16,
}

/// A broker with a topic of two partitions, and a producer who owns the transactional id.
fn start() -> (tempfile::TempDir, Broker, Client, Owner) {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &[]);
    let mut client = Client(broker.connect());
    let created =
        CreatableTopic::default().with_name(topic()).with_num_partitions(2).with_replication_factor(1);
    let response = client.0.call(4, &CreateTopicsRequest::default().with_topics(vec![created]));
    assert_eq!(response.topics[0].error_code, 0);
    let owner = client.take_over();
    (data, broker, client, owner)
}

struct Client(Connection);

impl Client {
    fn init(&mut self, version: i16, claimed: Option<Owner>) -> InitProducerIdResponse {
        let mut request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id(NAME)))
            .with_transaction_timeout_ms(60_000);
        if let Some(Owner { id, epoch }) = claimed {
            request = request.with_producer_id(id.into()).with_producer_epoch(epoch);
        }
        self.0.call(version, &request)
    }

    /// Becomes the owner.
    fn take_over(&mut self) -> Owner {
        let response = self.init(4, None);
        assert_eq!(response.error_code, 0);
        Owner { id: response.producer_id.0, epoch: response.producer_epoch }
    }

    /// The answer for each partition.
    fn add(&mut self, version: i16, owner: Owner, partitions: &[i32]) -> Vec<Option<ResponseError>> {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(topic()).with_partitions(partitions.to_vec());
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(NAME))
            .with_v3_and_below_producer_id(owner.id.into())
            .with_v3_and_below_producer_epoch(owner.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let results = self.0.call(version, &request).results_by_topic_v3_and_below.remove(0);
        results.results_by_partition.iter().map(|result| error(result.partition_error_code)).collect()
    }

    fn end(&mut self, version: i16, owner: Owner, committed: bool) -> Option<ResponseError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional_id(NAME))
            .with_producer_id(owner.id.into())
            .with_producer_epoch(owner.epoch)
            .with_committed(committed);
        error(self.0.call(version, &request).error_code)
    }

    /// Produces a transactional batch of one record to partition 0.
    fn produce(&mut self, name: Option<&str>, owner: Owner, sequence: i32) -> Option<ResponseError> {
        self.send(name, batch(owner, sequence, true))
    }

    fn send(&mut self, name: Option<&str>, records: Bytes) -> Option<ResponseError> {
        let data = PartitionProduceData::default().with_records(Some(records));
        let topic = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(name.map(transactional_id))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        error(self.0.call(8, &request).responses[0].partition_responses[0].error_code)
    }

    fn fetch(&mut self, isolation: i8) -> PartitionData {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic()).with_partitions(vec![partition]);
        let request = FetchRequest::default().with_isolation_level(isolation).with_topics(vec![topic]);
        self.0.call(11, &request).responses.remove(0).partitions.remove(0)
    }

    /// The offset for the time, as a consumer of this isolation level sees it.
    fn offset(&mut self, isolation: i8, timestamp: i64) -> i64 {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_isolation_level(isolation).with_topics(vec![topic]);
        self.0.call(5, &request).topics[0].partitions[0].offset
    }
}

fn batch(owner: Owner, sequence: i32, is_transactional: bool) -> Bytes {
    let builder = BatchBuilder::new()
        .producer(ProducerId(owner.id), ProducerEpoch(owner.epoch), Sequence(sequence))
        .timestamp(idemlog::Timestamp(1_000))
        .record(b"key", b"value");
    let builder = if is_transactional { builder.transactional() } else { builder };
    builder.build().unwrap().into_bytes()
}

#[test]
fn a_batch_is_taken_for_the_partitions_of_an_open_transaction_only() {
    use ResponseError::{InvalidProducerIdMapping, InvalidTxnState};
    let (_data, _broker, mut client, owner) = start();
    assert_eq!(client.produce(Some(NAME), owner, 0), Some(InvalidTxnState), "no transaction");
    assert_eq!(client.add(2, owner, &[1]), [None]);
    assert_eq!(client.produce(Some(NAME), owner, 0), Some(InvalidTxnState), "of another partition");
    assert_eq!(client.add(2, owner, &[0]), [None]);
    assert_eq!(client.produce(None, owner, 0), Some(InvalidTxnState), "without a transactional id");
    assert_eq!(client.produce(Some("other"), owner, 0), Some(InvalidProducerIdMapping));
    let stranger = Owner { id: owner.id + 1_000, ..owner };
    assert_eq!(client.produce(Some(NAME), stranger, 0), Some(InvalidProducerIdMapping));
    assert_eq!(client.fetch(READ_UNCOMMITTED).high_watermark, 0, "nothing was stored");

    assert_eq!(client.produce(Some(NAME), owner, 0), None);
    assert_eq!(client.produce(Some(NAME), owner, 1), None);
    assert_eq!(client.send(Some(NAME), batch(owner, 2, false)), Some(InvalidTxnState), "outside of it");
    assert_eq!(client.end(3, owner, true), None);
    assert_eq!(client.produce(Some(NAME), owner, 2), Some(InvalidTxnState), "late");
    assert_eq!(client.fetch(READ_COMMITTED).last_stable_offset, 3);
}

#[test]
fn a_fenced_producer_is_told_so_in_the_words_of_its_version() {
    use ResponseError::{InvalidProducerEpoch, ProducerFenced};
    let (_data, broker, mut client, old) = start();
    let mut successor = Client(broker.connect());
    let new = successor.take_over();
    assert_eq!((new.id, new.epoch), (old.id, old.epoch + 1));
    for (version, expected) in [(0, InvalidProducerEpoch), (1, InvalidProducerEpoch), (2, ProducerFenced)] {
        assert_eq!(client.add(version, old, &[0]), [Some(expected)]);
        assert_eq!(client.end(version, old, true), Some(expected));
    }
    for (version, expected) in [(3, InvalidProducerEpoch), (4, ProducerFenced)] {
        assert_eq!(error(client.init(version, Some(old)).error_code), Some(expected));
    }
    assert_eq!(client.produce(Some(NAME), old, 0), Some(InvalidProducerEpoch));
    assert_eq!(successor.add(2, new, &[0]), [None], "the successor is not disturbed");
    assert_eq!(successor.produce(Some(NAME), new, 0), None);
    assert_eq!(client.produce(Some(NAME), old, 0), Some(InvalidProducerEpoch));
}

#[test]
fn a_producer_that_comes_back_as_itself_gets_a_higher_epoch_and_gets_it_again() {
    let (_data, _broker, mut client, owner) = start();
    for _ in 0..2 {
        let response = client.init(4, Some(owner));
        assert_eq!((response.error_code, response.producer_id.0), (0, owner.id));
        assert_eq!(response.producer_epoch, owner.epoch + 1);
    }
}

#[test]
fn a_decision_can_be_repeated_but_not_changed() {
    let (_data, _broker, mut client, owner) = start();
    assert_eq!(client.end(3, owner, true), Some(ResponseError::InvalidTxnState), "nothing to decide");
    for committed in [true, false] {
        assert_eq!(client.add(2, owner, &[0]), [None]);
        for _ in 0..2 {
            assert_eq!(client.end(3, owner, committed), None);
        }
        assert_eq!(client.end(3, owner, !committed), Some(ResponseError::InvalidTxnState));
    }
}

#[test]
fn partitions_are_added_all_or_none() {
    use ResponseError::{OperationNotAttempted, UnknownTopicOrPartition};
    let (_data, _broker, mut client, owner) = start();
    let added = client.add(2, owner, &[0, 7, 1]);
    let unknown = Some(UnknownTopicOrPartition);
    assert_eq!(added, [Some(OperationNotAttempted), unknown, Some(OperationNotAttempted)]);
    assert_eq!(client.produce(Some(NAME), owner, 0), Some(ResponseError::InvalidTxnState));
    assert_eq!(client.add(2, owner, &[0, 1]), [None, None]);
    assert_eq!(client.produce(Some(NAME), owner, 0), None);
}

#[test]
fn a_fetch_says_what_is_decided_and_what_was_aborted() {
    let (_data, _broker, mut client, owner) = start();
    assert_eq!(client.add(2, owner, &[0]), [None]);
    assert_eq!(client.produce(Some(NAME), owner, 0), None);
    let (all, committed) = (client.fetch(READ_UNCOMMITTED), client.fetch(READ_COMMITTED));
    for seen in [&all, &committed] {
        assert_eq!((seen.high_watermark, seen.last_stable_offset), (1, 0));
    }
    assert!(!all.records.unwrap().is_empty() && committed.records.unwrap().is_empty());
    let ends = |client: &mut Client| [READ_UNCOMMITTED, READ_COMMITTED].map(|level| client.offset(level, -1));
    let founds =
        |client: &mut Client| [READ_UNCOMMITTED, READ_COMMITTED].map(|level| client.offset(level, 1));
    assert_eq!((ends(&mut client), founds(&mut client)), ([1, 0], [0, -1]));

    assert_eq!(client.end(3, owner, false), None);
    let (all, committed) = (client.fetch(READ_UNCOMMITTED), client.fetch(READ_COMMITTED));
    assert_eq!((all.last_stable_offset, committed.last_stable_offset), (2, 2));
    assert_eq!(all.aborted_transactions, None);
    assert_eq!(all.records, committed.records, "consumers leave out what was aborted");
    let aborted = committed.aborted_transactions.unwrap();
    assert_eq!((aborted.len(), aborted[0].producer_id.0, aborted[0].first_offset), (1, owner.id, 0));
    assert_eq!((ends(&mut client), founds(&mut client)), ([2, 2], [0, 0]));
}

#[test]
fn the_producers_of_a_partition_are_described() {
    let (_data, _broker, mut client, owner) = start();
    let describe = |client: &mut Client, partition| {
        let asked = TopicRequest::default().with_name(topic()).with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![asked]);
        client.0.call(0, &request).topics.remove(0).partitions.remove(0)
    };
    assert_eq!(describe(&mut client, 0).active_producers, []);
    assert_eq!(error(describe(&mut client, 9).error_code), Some(ResponseError::UnknownTopicOrPartition));
    assert_eq!(client.add(2, owner, &[0]), [None]);
    assert_eq!(client.produce(Some(NAME), owner, 0), None);
    let open = describe(&mut client, 0).active_producers.remove(0);
    assert_eq!((open.producer_id.0, open.producer_epoch), (owner.id, owner.epoch.into()));
    assert_eq!((open.last_sequence, open.last_timestamp), (0, 1_000));
    assert_eq!((open.coordinator_epoch, open.current_txn_start_offset), (-1, 0));
    assert_eq!(client.end(3, owner, true), None);
    let ended = describe(&mut client, 0).active_producers.remove(0);
    assert!(ended.coordinator_epoch > 0);
    assert_eq!(ended.current_txn_start_offset, -1);
}

#[test]
fn there_are_coordinators_of_groups_and_of_transactions() {
    let (_data, broker, mut client, _) = start();
    for (kind, expected) in [(0, None), (1, None), (2, Some(ResponseError::InvalidRequest))] {
        let request = FindCoordinatorRequest::default().with_key_type(kind);
        let response = client.0.call(3, &request);
        assert_eq!(error(response.error_code), expected);
        assert_eq!(response.port == i32::from(broker.address().port()), expected.is_none());
    }
}
