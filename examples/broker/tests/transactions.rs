//! What librdkafka writes in transactions is there whole or not at all, whatever happens to acknowledgements, to the
//! producer and to the broker.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use support::{Broker, Consumed, PATIENCE};

const TOPIC: &str = "payments";
const PARTITIONS: i32 = 3;
const ARGUMENTS: [&str; 2] = ["--partitions", "3"];
/// The shortest that librdkafka takes.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Keeps lost connections to itself: they are what these tests are about.
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
    fn log(&self, _: rdkafka::config::RDKafkaLogLevel, _: &str, _: &str) {}
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

type Client = ThreadedProducer<Quiet>;

/// A producer that owns the transactional id.
fn producer(broker: &Broker, timeout: Duration) -> Client {
    let mut config = broker.client();
    config
        .set("transactional.id", "cashier")
        .set("transaction.timeout.ms", timeout.as_millis().to_string())
        .set("message.timeout.ms", timeout.as_millis().to_string())
        .set("batch.num.messages", "10");
    let producer: Client = config.create_with_context(Quiet).unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// Sends records in the open transaction.
fn send(producer: &Client, keys: impl IntoIterator<Item = usize>) {
    for key in keys {
        let (key, value) = (key.to_string(), format!("value of {key}"));
        producer.send(BaseRecord::to(TOPIC).key(&key).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
}

/// A transaction that is stored, and still open.
fn leave_open(producer: &Client, keys: impl IntoIterator<Item = usize>) {
    producer.begin_transaction().unwrap();
    send(producer, keys);
    producer.flush(PATIENCE).unwrap();
}

fn commit(producer: &Client, keys: impl IntoIterator<Item = usize>) {
    producer.begin_transaction().unwrap();
    send(producer, keys);
    producer.commit_transaction(PATIENCE).unwrap();
}

fn abort(producer: &Client, keys: impl IntoIterator<Item = usize>) {
    leave_open(producer, keys);
    producer.abort_transaction(PATIENCE).unwrap();
}

/// All keys, in order.
fn keys(consumed: &[Vec<Consumed>]) -> Vec<usize> {
    let number = |record: &Consumed| std::str::from_utf8(&record.key).unwrap().parse().unwrap();
    let mut keys: Vec<usize> = consumed.iter().flatten().map(number).collect();
    keys.sort_unstable();
    keys
}

fn committed(broker: &Broker) -> Vec<usize> {
    keys(&broker.consume(TOPIC, PARTITIONS))
}

fn uncommitted(broker: &Broker) -> Vec<usize> {
    keys(&broker.consume_as("read_uncommitted", TOPIC, PARTITIONS))
}

/// Asserts that the producer is told that another has taken its place.
fn assert_fenced(result: Result<(), KafkaError>) {
    let Err(KafkaError::Transaction(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.code(), RDKafkaErrorCode::Fenced, "{error}");
    assert!(error.is_fatal(), "{error}");
}

fn wait_until_nothing_is_open(broker: &Broker, records: usize) {
    support::within_patience(|| {
        (0..PARTITIONS).all(|partition| broker.open_transactions(TOPIC, partition) == 0).then_some(())
    });
    assert_eq!(uncommitted(broker).len(), records);
}

#[test]
fn what_is_committed_is_seen_and_what_is_aborted_only_by_those_who_want_everything() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &ARGUMENTS);
    let producer = producer(&broker, PATIENCE);
    commit(&producer, 0..100);
    abort(&producer, 100..200);
    commit(&producer, 200..300);
    let expected: Vec<usize> = (0..100).chain(200..300).collect();
    assert_eq!(committed(&broker), expected);
    assert_eq!(uncommitted(&broker), (0..300).collect::<Vec<_>>());

    leave_open(&producer, 300..400);
    assert_eq!(committed(&broker), expected, "not decided yet");
    assert_eq!(uncommitted(&broker).len(), 400);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(committed(&broker).len(), 300);

    broker.terminate();
    let broker = Broker::start(data.path(), &ARGUMENTS);
    assert_eq!(committed(&broker).len(), 300, "after a restart");
}

#[test]
fn a_second_producer_of_the_same_transactional_id_fences_the_first() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &ARGUMENTS);
    let first = producer(&broker, PATIENCE);
    leave_open(&first, 0..100);
    let second = producer(&broker, PATIENCE);
    assert_eq!(committed(&broker), [0; 0], "aborted");
    assert_fenced(first.commit_transaction(PATIENCE));
    commit(&second, 100..200);
    assert_eq!(committed(&broker), (100..200).collect::<Vec<_>>());
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_fenced() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &ARGUMENTS);
    let late = producer(&broker, TIMEOUT);
    leave_open(&late, 0..100);
    wait_until_nothing_is_open(&broker, 100);
    assert_fenced(late.commit_transaction(PATIENCE));
    assert_eq!(committed(&broker), [0; 0]);
}

#[test]
fn a_transaction_that_a_killed_broker_had_open_is_aborted_when_its_time_is_up() {
    let data = tempfile::tempdir().unwrap();
    let broker = Broker::start(data.path(), &ARGUMENTS);
    let address = broker.address();
    let timeout = Duration::from_secs(8);
    let left = producer(&broker, timeout);
    commit(&left, 0..100);
    let began = Instant::now();
    leave_open(&left, 100..200);
    broker.kill();

    let broker = Broker::start_on(address, data.path(), &ARGUMENTS);
    assert_eq!(committed(&broker), (0..100).collect::<Vec<_>>());
    let still_open: usize = (0..PARTITIONS).map(|number| broker.open_transactions(TOPIC, number)).sum();
    assert!(still_open > 0);
    assert!(began.elapsed() < timeout, "looked at before its time is up");
    wait_until_nothing_is_open(&broker, 200);
    assert!(began.elapsed() >= timeout);
    assert_fenced(left.commit_transaction(PATIENCE));

    let next = producer(&broker, PATIENCE);
    commit(&next, 200..300);
    assert_eq!(committed(&broker), (0..100).chain(200..300).collect::<Vec<_>>());
}

#[test]
fn a_broker_that_loses_acknowledgements_stores_transactions_once_and_whole() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--partitions", "3", "--lose-acks", "0.1", "--seed", "3"];
    let broker = Broker::start(data.path(), &arguments);
    let producer = producer(&broker, PATIENCE);
    for round in 0..20 {
        let keys = round * 100..(round + 1) * 100;
        if round % 2 == 0 { commit(&producer, keys) } else { abort(&producer, keys) }
    }
    let expected: Vec<usize> = (0..2_000).filter(|key| key / 100 % 2 == 0).collect();
    assert_eq!(committed(&broker), expected);
    assert_eq!(uncommitted(&broker), (0..2_000).collect::<Vec<_>>());
    let served = broker.terminate();
    assert!(served.lost_acknowledgements > 0 && served.duplicates > 0, "{served:?}");
}

#[test]
fn transactions_go_on_across_kills_of_the_broker() {
    const ROUNDS: usize = 60;
    let data = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(data.path(), &ARGUMENTS);
    let address = broker.address();
    let producer = producer(&broker, PATIENCE);
    for round in 0..ROUNDS {
        producer.begin_transaction().unwrap();
        send(&producer, round * 20..(round + 1) * 20);
        if round % 10 == 5 {
            // Between the records and the decision, or in the middle of it.
            broker = std::thread::scope(|scope| {
                let deciding = scope.spawn(|| decide(&producer, round));
                std::thread::sleep(Duration::from_millis(round as u64 / 2));
                broker.kill();
                let broker = Broker::start_on(address, data.path(), &ARGUMENTS);
                deciding.join().unwrap();
                broker
            });
        } else {
            decide(&producer, round);
        }
    }
    let expected: Vec<usize> = (0..ROUNDS * 20).filter(|key| key / 20 % 3 != 0).collect();
    assert_eq!(committed(&broker), expected);
}

/// Aborts every third, again and again until it is done.
fn decide(producer: &Client, round: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let is_abort = round.is_multiple_of(3);
        let decided = if is_abort {
            producer.abort_transaction(PATIENCE)
        } else {
            producer.commit_transaction(PATIENCE)
        };
        match decided {
            Ok(()) => return,
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            Err(error) => panic!("round {round}: {error}"),
        }
    }
}
