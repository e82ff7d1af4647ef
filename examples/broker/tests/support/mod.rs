//! A broker in a child process, and the clients that the tests talk to it with.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::{ApiKey, DescribeProducersRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The broker's process. Killed when dropped.
pub(crate) struct Broker {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
}

/// What a broker says of itself when it has ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) stored_batches: u64,
    pub(crate) duplicates: u64,
    pub(crate) lost_acknowledgements: u64,
    pub(crate) refused_appends: u64,
}

impl Broker {
    /// Starts a broker on a free port and waits until it listens.
    pub(crate) fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), data, arguments)
    }

    /// Starts a broker where clients expect it.
    pub(crate) fn start_on(address: SocketAddr, data: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_idemlog-broker"))
            .args(["--listen", &address.to_string(), "--data"])
            .arg(data)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = lines(child.stdout.take().unwrap());
        // Killed when this fails.
        let mut broker = Self { child, address, lines };
        let line = broker.lines.recv_timeout(PATIENCE).unwrap();
        broker.address = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        broker
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the process as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end, and waits until it has ended well.
    pub(crate) fn terminate(mut self) -> Served {
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
        assert!(within_patience(|| self.child.try_wait().unwrap()).success());
        let line = self.lines.recv_timeout(PATIENCE).unwrap();
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [stored_batches, duplicates, lost_acknowledgements, refused_appends] = numbers[..] else {
            panic!("{line}")
        };
        Served { stored_batches, duplicates, lost_acknowledgements, refused_appends }
    }

    /// Asserts that the process is there and answers.
    pub(crate) fn assert_serving(&self) {
        self.connect().call(0, &kafka_protocol::messages::ApiVersionsRequest::default());
    }

    /// How many producers have a transaction open in a partition.
    pub(crate) fn open_transactions(&self, topic: &str, partition: i32) -> usize {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let topic = TopicRequest::default().with_name(name).with_partition_indexes(vec![partition]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let described = self.connect().call(0, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(described.error_code, 0);
        described.active_producers.iter().filter(|producer| producer.current_txn_start_offset >= 0).count()
    }

    /// A connection without a client library.
    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream }
    }

    /// The configuration that every librdkafka client starts from.
    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.address.to_string())
            .set("reconnect.backoff.ms", "5")
            .set("reconnect.backoff.max.ms", "50")
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "50")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string());
        config
    }

    /// All records of a topic that are not of open or aborted transactions, each partition from its beginning to its end.
    pub(crate) fn consume(&self, topic: &str, partitions: i32) -> Vec<Vec<Consumed>> {
        self.consume_as("read_committed", topic, partitions)
    }

    /// The records of a topic that a consumer of this isolation level gets.
    pub(crate) fn consume_as(&self, isolation: &str, topic: &str, partitions: i32) -> Vec<Vec<Consumed>> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "reader")
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut consumed = vec![Vec::new(); partitions as usize];
        let mut open = partitions;
        let deadline = Instant::now() + PATIENCE;
        while open > 0 {
            assert!(Instant::now() < deadline, "{open} partitions were not read to their end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => consumed[message.partition() as usize].push(Consumed::from(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                // What a client gets over by itself: it connects again.
                Some(Err(KafkaError::MessageConsumption(_))) | None => {}
                Some(Err(error)) => panic!("{error}"),
            }
        }
        consumed
    }
}

/// Reads on a thread of its own, because a read has no end of patience.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    receiver
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A record that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

impl From<&BorrowedMessage<'_>> for Consumed {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let bytes = |field: Option<&[u8]>| field.unwrap_or_default().to_vec();
        Self { offset: message.offset(), key: bytes(message.key()), value: bytes(message.payload()) }
    }
}

/// A connection on which a test says what it likes.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Sends a request and decodes its answer.
    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, 1, request);
        self.receive::<R>(version, 1)
    }

    /// Sends a request.
    pub(crate) fn send<R: Request>(&mut self, version: i16, correlation_id: i32, request: &R) {
        self.send_frame(&encode(version, correlation_id, request));
    }

    /// Decodes the next answer.
    pub(crate) fn receive<R: Request>(&mut self, version: i16, correlation_id: i32) -> R::Response {
        let mut frame = self.receive_frame().expect("an answer");
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes behind the answer", frame.len());
        response
    }

    /// Sends the length of `frame`, and the frame.
    pub(crate) fn send_frame(&mut self, frame: &[u8]) {
        self.send_bytes(&[&(frame.len() as i32).to_be_bytes(), frame].concat());
    }

    /// Sends bytes as they are. The broker may have closed the connection already.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Lets the broker know that nothing more comes.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// The bytes of the next answer. `None` if the broker has closed the connection.
    pub(crate) fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length) {
            Ok(()) => {
                let mut frame = vec![0; i32::from_be_bytes(length) as usize];
                self.stream.read_exact(&mut frame).unwrap();
                Some(frame.into())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("neither answered nor closed")
            }
            Err(_) => None,
        }
    }
}

/// A request's bytes, without the length in front.
pub(crate) fn encode<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::try_from(R::KEY).unwrap() as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id);
    encode_request_header_into_buffer(&mut frame, &header).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// Asks again and again until there is an answer.
pub(crate) fn within_patience<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
