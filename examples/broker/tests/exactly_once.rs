//! What librdkafka produces is there once and in order, whatever happens to acknowledgements and to the broker.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idemlog::{Compression, LogDir, LogDirOptions};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer,
};
use support::{Broker, Consumed, PATIENCE};

const TOPIC: &str = "records";
const PARTITIONS: i32 = 3;

/// The keys that were acknowledged, and how many were not.
#[derive(Clone, Default)]
struct Deliveries {
    acknowledged: Arc<Mutex<HashSet<usize>>>,
    failed: Arc<AtomicUsize>,
}

impl ClientContext for Deliveries {
    // Lost connections are what these tests are about.
    fn error(&self, _: KafkaError, _: &str) {}
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => drop(self.acknowledged.lock().unwrap().insert(number(message.key().unwrap()))),
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn number(key: &[u8]) -> usize {
    std::str::from_utf8(key).unwrap().parse().unwrap()
}

fn producer(broker: &Broker, options: &[(&str, &str)]) -> (ThreadedProducer<Deliveries>, Deliveries) {
    let deliveries = Deliveries::default();
    let mut config: ClientConfig = broker.client();
    // Many small batches, for many acknowledgements.
    config.set("batch.num.messages", "100").set("queue.buffering.max.messages", "1000000");
    for (key, value) in options {
        config.set(*key, *value);
    }
    (config.create_with_context(deliveries.clone()).unwrap(), deliveries)
}

fn send(producer: &ThreadedProducer<Deliveries>, key: usize) {
    let (key, value) = (key.to_string(), format!("value of {key}"));
    let mut record = BaseRecord::to(TOPIC).key(&key).payload(&value);
    while let Err((error, refused)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
        std::thread::sleep(Duration::from_millis(10));
        record = refused;
    }
}

/// Produces the keys below `records`, each until it is acknowledged.
fn produce(broker: &Broker, records: usize, options: &[(&str, &str)]) {
    let (producer, deliveries) = producer(broker, options);
    (0..records).for_each(|key| send(&producer, key));
    producer.flush(PATIENCE).unwrap();
    assert_eq!(deliveries.failed.load(Ordering::Relaxed), 0);
    assert_eq!(deliveries.acknowledged.lock().unwrap().len(), records);
}

/// How often each key came back.
fn counts(consumed: &[Vec<Consumed>]) -> HashMap<usize, usize> {
    let mut counts = HashMap::new();
    consumed.iter().flatten().for_each(|record| *counts.entry(number(&record.key)).or_default() += 1);
    counts
}

/// Asserts that the keys below `records` are there once each, in the order in which they were sent, without a gap.
fn assert_once_and_in_order(consumed: &[Vec<Consumed>], records: usize) {
    assert_eq!(consumed.iter().map(Vec::len).sum::<usize>(), records);
    assert_eq!(counts(consumed).len(), records);
    for (partition, records) in consumed.iter().enumerate() {
        assert!(!records.is_empty(), "partition {partition} got its share");
        for (offset, record) in records.iter().enumerate() {
            assert_eq!(record.offset, offset as i64);
            let key = number(&record.key);
            assert_eq!(record.value, format!("value of {key}").as_bytes());
            assert!(offset == 0 || number(&records[offset - 1].key) < key, "{key} at offset {offset}");
        }
    }
}

#[test]
fn an_idempotent_producer_that_loses_acknowledgements_stores_each_record_once_and_in_order() {
    const RECORDS: usize = 100_000;
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--partitions", "3", "--lose-acks", "0.05", "--seed", "1"];
    let broker = Broker::start(data.path(), &arguments);
    produce(&broker, RECORDS, &[("enable.idempotence", "true")]);

    assert_once_and_in_order(&broker.consume(TOPIC, PARTITIONS), RECORDS);
    let served = broker.terminate();
    assert!(served.lost_acknowledgements > 0 && served.duplicates > 0, "{served:?}");
}

/// The answer was `THROTTLING_QUOTA_EXCEEDED` once, for which librdkafka gives a batch up: those behind it in flight were
/// gaps then, and the producer was at an end.
#[test]
fn an_idempotent_producer_that_is_refused_for_now_sends_again_and_in_order() {
    const RECORDS: usize = 20_000;
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["--partitions", "3", "--refuse", "0.1", "--seed", "1"]);
    produce(&broker, RECORDS, &[("enable.idempotence", "true"), ("enable.gapless.guarantee", "true")]);

    assert_once_and_in_order(&broker.consume(TOPIC, PARTITIONS), RECORDS);
    let served = broker.terminate();
    assert!(served.refused_appends > 0, "{served:?}");
}

#[test]
fn a_producer_without_idempotence_that_loses_acknowledgements_stores_records_twice() {
    const RECORDS: usize = 100_000;
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--partitions", "3", "--lose-acks", "0.05", "--seed", "1"];
    let broker = Broker::start(data.path(), &arguments);
    produce(&broker, RECORDS, &[("enable.idempotence", "false"), ("acks", "all")]);

    let counts = counts(&broker.consume(TOPIC, PARTITIONS));
    assert_eq!(counts.len(), RECORDS, "nothing is lost");
    let duplicates = counts.values().filter(|count| **count > 1).count();
    assert!(duplicates > 0, "lost acknowledgements make duplicates");
    let served = broker.terminate();
    assert!(served.lost_acknowledgements > 0, "{served:?}");
    assert_eq!(served.duplicates, 0, "without a producer id none is recognised");
}

#[test]
fn a_broker_that_is_killed_while_a_client_produces_loses_and_doubles_nothing() {
    const RECORDS: usize = 60_000;
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--partitions", "3"];
    let mut broker = Broker::start(data.path(), &arguments);
    let address = broker.address();
    // A short queue lets the sender run only a little ahead of the acknowledgements.
    let options = [("enable.idempotence", "true"), ("queue.buffering.max.messages", "2000")];
    let (producer, deliveries) = producer(&broker, &options);
    let acknowledged = || deliveries.acknowledged.lock().unwrap().len();

    let broker = std::thread::scope(|scope| {
        scope.spawn(|| (0..RECORDS).for_each(|key| send(&producer, key)));
        for round in 1..=3 {
            support::within_patience(|| (acknowledged() > round * RECORDS / 6).then_some(()));
            assert!(acknowledged() < RECORDS, "killed in the middle");
            broker.kill();
            broker = Broker::start_on(address, data.path(), &arguments);
        }
        broker
    });
    producer.flush(PATIENCE).unwrap();
    assert_eq!(deliveries.failed.load(Ordering::Relaxed), 0);
    assert_eq!(acknowledged(), RECORDS);
    assert_once_and_in_order(&broker.consume(TOPIC, PARTITIONS), RECORDS);
}

#[test]
fn what_was_acknowledged_is_there_after_the_broker_and_the_client_are_gone() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &["--partitions", "3"]);
    let address = broker.address();
    let (producer, deliveries) = producer(&broker, &[("enable.idempotence", "true")]);
    (0..20_000).for_each(|key| send(&producer, key));
    support::within_patience(|| (deliveries.acknowledged.lock().unwrap().len() > 1_000).then_some(()));
    broker.kill();
    producer.purge(PurgeConfig::default().queue().inflight());
    drop(producer);
    let acknowledged = deliveries.acknowledged.lock().unwrap().clone();

    let broker = Broker::start_on(address, data.path(), &["--partitions", "3"]);
    let counts = counts(&broker.consume(TOPIC, PARTITIONS));
    let lost = acknowledged.iter().filter(|key| !counts.contains_key(key)).count();
    assert_eq!(lost, 0, "of {} acknowledged", acknowledged.len());
    assert!(counts.values().all(|count| *count == 1));
}

#[test]
fn batches_of_all_four_codecs_come_back_as_they_were_sent() {
    let codecs = [
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ];
    for (codec, stored) in codecs {
        let data = tempfile::tempdir().unwrap();
        let broker = Broker::start(data.path(), &["--partitions", "3"]);
        produce(
            &broker,
            5_000,
            &[("enable.idempotence", "true"), ("compression.type", codec), ("linger.ms", "20")],
        );
        assert_once_and_in_order(&broker.consume(TOPIC, PARTITIONS), 5_000);
        broker.terminate();
        assert_eq!(codecs_stored(data.path()), HashSet::from([stored]), "{codec} is what was stored");
    }
}

/// The codecs of all batches in a data directory.
fn codecs_stored(data: &Path) -> HashSet<Compression> {
    let dir = LogDir::open(data, LogDirOptions::default()).unwrap();
    let logs = (0..PARTITIONS).map(|partition| dir.partition(TOPIC, partition).unwrap());
    logs.flat_map(|log| log.reader(log.log_start_offset()).unwrap())
        .map(|batch| batch.unwrap().header().compression().unwrap())
        .collect()
}
