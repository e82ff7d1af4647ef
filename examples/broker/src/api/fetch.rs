//! Fetch: batches as they are stored, as soon as there are enough of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use idemlog::{ErrorCode, Fetched, Log, Offset, TailWait};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use tokio::time::Instant;

use super::{READ_COMMITTED, Reply, answer};
use crate::broker::{Broker, blocking};
use crate::frame::Frame;
use crate::request::Request;
use crate::topics::Topics;

/// The longest that a client may have its request wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// The most that a response holds, unless its first batch is larger.
const MAX_BYTES: usize = 64 << 20;
/// The watermarks of an answer that is an error.
const UNKNOWN: i64 = -1;

pub(crate) fn handle(broker: Arc<Broker>, request: Request) -> anyhow::Result<Reply> {
    let body: FetchRequest = request.body()?;
    // Sessions are something that a broker may offer; this one answers every request in full.
    if body.session_id != 0 {
        let code = ResponseError::FetchSessionIdNotFound.code();
        return answer(&request, &FetchResponse::default().with_error_code(code));
    }
    let wait = Duration::from_millis(u64::try_from(body.max_wait_ms).unwrap_or(0)).min(MAX_WAIT);
    Ok(Box::pin(reply(broker, request, body, Instant::now() + wait)))
}

async fn reply(
    broker: Arc<Broker>,
    request: Request,
    body: FetchRequest,
    deadline: Instant,
) -> anyhow::Result<Option<Frame>> {
    let body = Arc::new(body);
    let min_bytes = usize::try_from(body.min_bytes).unwrap_or(0);
    loop {
        let (reading, asked) = (Arc::clone(&broker), Arc::clone(&body));
        let found = blocking(move || Found::read(&reading.topics, &asked)).await?;
        let is_full = found.bytes >= min_bytes || found.has_more;
        let is_due = is_full || found.has_error || Instant::now() >= deadline;
        if is_due || broker.is_stopping() {
            return encode(&request, found.topics).map(Some);
        }
        tokio::select! {
            () = any(found.waits) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = broker.stopping() => {}
        }
    }
}

/// What there is to answer now.
#[derive(Default)]
struct Found {
    topics: Vec<(TopicName, Vec<PartitionData>)>,
    bytes: usize,
    has_error: bool,
    /// Whether a partition has more than its part of this answer may hold: what there is to wait for would not be in it.
    has_more: bool,
    only_committed: bool,
    /// Resolve when there is more.
    waits: Vec<TailWait>,
}

impl Found {
    fn read(topics: &Topics, request: &FetchRequest) -> Self {
        let limit = usize::try_from(request.max_bytes).unwrap_or(0).min(MAX_BYTES);
        let mut found = Self { only_committed: request.isolation_level == READ_COMMITTED, ..Self::default() };
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|asked| {
                let read = topics
                    .log(&topic.topic, asked.partition)
                    .and_then(|log| found.partition(&log, asked, limit));
                found.has_error |= read.is_err();
                read.unwrap_or_else(|code| refused(asked, code))
            });
            let partitions = partitions.collect();
            found.topics.push((topic.topic.clone(), partitions));
        }
        found
    }

    /// The batches of a partition. The first one of a response is there however large it is, so that a consumer never
    /// stands still. Where nothing is left of the limit only the offsets are read.
    fn partition(
        &mut self,
        log: &Log,
        asked: &FetchPartition,
        limit: usize,
    ) -> Result<PartitionData, ErrorCode> {
        let (left, from) = (limit.saturating_sub(self.bytes), Offset(asked.fetch_offset));
        let wanted = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(left);
        let is_first = self.bytes == 0;
        let mut fetched = self.read_log(log, from, if is_first { wanted.max(1) } else { wanted })?;
        let end = if self.only_committed { fetched.last_stable } else { fetched.high_watermark };
        self.has_more |= !fetched.bytes.is_empty() && fetched.next_offset < end;
        self.waits.push(self.wait_at(log, end.max(from)));
        if !is_first && fetched.bytes.len() > wanted {
            (fetched.bytes, fetched.aborted) = (bytes::Bytes::new(), Vec::new());
            self.has_more = true;
        }
        self.bytes += fetched.bytes.len();
        Ok(PartitionData::default()
            .with_partition_index(asked.partition)
            .with_high_watermark(fetched.high_watermark.0)
            .with_last_stable_offset(fetched.last_stable.0)
            .with_log_start_offset(fetched.log_start.0)
            .with_aborted_transactions(self.only_committed.then(|| aborted(&fetched)))
            .with_records(Some(fetched.bytes)))
    }

    fn read_log(&self, log: &Log, from: Offset, max_bytes: usize) -> Result<Fetched, ErrorCode> {
        let fetched =
            if self.only_committed { log.read_committed(from, max_bytes) } else { log.read(from, max_bytes) };
        fetched.map_err(|error| error.code())
    }

    fn wait_at(&self, log: &Log, offset: Offset) -> TailWait {
        if self.only_committed { log.readable_committed(offset) } else { log.readable(offset) }
    }
}

/// The transactions whose records the consumer leaves out.
fn aborted(fetched: &Fetched) -> Vec<AbortedTransaction> {
    let named = fetched.aborted.iter().map(|aborted| {
        AbortedTransaction::default()
            .with_producer_id(aborted.producer_id.0.into())
            .with_first_offset(aborted.first_offset.0)
    });
    named.collect()
}

fn refused(asked: &FetchPartition, code: ErrorCode) -> PartitionData {
    PartitionData::default()
        .with_partition_index(asked.partition)
        .with_error_code(code.number())
        .with_high_watermark(UNKNOWN)
        .with_last_stable_offset(UNKNOWN)
        .with_log_start_offset(UNKNOWN)
}

/// Resolves when one of them does.
async fn any(mut waits: Vec<TailWait>) {
    std::future::poll_fn(|context| {
        let is_ready = waits.iter_mut().any(|wait| Pin::new(wait).poll(context).is_ready());
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Encodes the levels of the response one by one, each without what it holds: in the versions served that stands last in
/// each. So the batches can follow by reference.
fn encode(request: &Request, topics: Vec<(TopicName, Vec<PartitionData>)>) -> anyhow::Result<Frame> {
    let mut frame = request.begin_answer::<FetchResponse>()?;
    frame.encode(&FetchResponse::default(), request.version)?;
    frame.announce(topics.len())?;
    for (name, partitions) in topics {
        frame.encode(&FetchableTopicResponse::default().with_topic(name), request.version)?;
        frame.announce(partitions.len())?;
        for mut partition in partitions {
            let records = partition.records.replace(bytes::Bytes::new()).unwrap_or_default();
            frame.encode(&partition, request.version)?;
            frame.announce(records.len())?;
            frame.append(records);
        }
    }
    Ok(frame)
}
