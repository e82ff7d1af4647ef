//! Index entries, each held against the batches of its segment.

use std::collections::HashSet;
use std::iter;

use super::ProblemKind;
use super::walk::Seen;
use crate::error::CorruptionKind;
use crate::segment::{IndexPosition, OffsetIndex, Segment, TimeIndex};
use crate::transaction::AbortedTransaction;
use crate::types::{Offset, Timestamp};

/// No index file is larger.
pub(super) const MAX_BYTES: u64 = 1 << 30;

/// What is wrong in an index file.
#[derive(Debug)]
pub(super) struct Wrong {
    /// At which byte of it.
    pub(super) position: u64,
    /// The offset in the entry, if it is one that is wrong.
    pub(super) offset: Option<Offset>,
    pub(super) kind: ProblemKind,
}

/// Holds a file's bytes against the batches of its segment.
pub(super) type Check = fn(&Segment, &[u8], &[Seen]) -> Vec<Wrong>;

/// Every entry must point at the beginning of a batch, and name the last offset of that batch or of one that lies between it
/// and the next entry: Kafka up to 4.0 has an entry for each call that appended, of all of its batches.
pub(super) fn check_offsets(segment: &Segment, bytes: &[u8], batches: &[Seen]) -> Vec<Wrong> {
    // An entry behind the end of the segment is wrong, not the file: a crash may have shortened the segment.
    let index = match OffsetIndex::decode(segment.base_offset(), bytes, u64::MAX, bytes.len()) {
        Ok(index) => index,
        Err(kind) => return not_decoded(kind),
    };
    let nexts = index.iter().skip(1).map(|next| u64::from(next.position)).chain(iter::once(u64::MAX));
    let check =
        |(entry, next): (IndexPosition, _)| Some((Some(entry.offset), wrong_offset(entry, next, batches)?));
    numbered(index.iter().zip(nexts).map(check), OffsetIndex::ENTRY_SIZE)
}

/// What is wrong with an entry, if anything is; the `next` one points at that byte.
fn wrong_offset(entry: IndexPosition, next: u64, batches: &[Seen]) -> Option<ProblemKind> {
    let IndexPosition { offset, position } = entry;
    let Ok(at) = batches.binary_search_by_key(&u64::from(position), |batch| batch.position) else {
        return Some(ProblemKind::IndexPosition { offset, position: u64::from(position) });
    };
    let mut covered = batches[at..].iter().take_while(|batch| batch.position < next);
    let wrong = ProblemKind::IndexOffset {
        position: u64::from(position),
        expected: batches[at].last_offset,
        got: offset,
    };
    (!covered.any(|batch| batch.last_offset == offset)).then_some(wrong)
}

/// Every entry must tell the largest timestamp up to the batch that ends with its offset, which is the first that has it.
pub(super) fn check_times(segment: &Segment, bytes: &[u8], batches: &[Seen]) -> Vec<Wrong> {
    let index = match TimeIndex::decode(segment.base_offset(), bytes, bytes.len(), iter::empty()) {
        Ok(index) => index,
        Err(kind) => return not_decoded(kind),
    };
    let encoded = index.encode(0);
    let (entries, _) = encoded.as_chunks::<{ TimeIndex::ENTRY_SIZE }>();
    let check = |&[t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3]: &[u8; TimeIndex::ENTRY_SIZE]| {
        let timestamp = Timestamp(i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]));
        let offset = segment.base_offset() + i64::from(u32::from_be_bytes([o0, o1, o2, o3]));
        let (before, from) = batches.split_at(batches.partition_point(|batch| batch.last_offset < offset));
        let is_true = from.first().is_some_and(|batch| {
            (batch.last_offset, batch.timestamp, batch.largest_timestamp) == (offset, timestamp, timestamp)
        });
        let is_first = before.last().is_none_or(|batch| batch.largest_timestamp < timestamp);
        let wrong = ProblemKind::IndexTimestamp { timestamp, offset };
        (!is_true || !is_first).then_some((Some(offset), wrong))
    };
    numbered(entries.iter().map(check), TimeIndex::ENTRY_SIZE)
}

/// The entries of a transaction index must be `aborted`, the transactions that were aborted in the segment. Where that is
/// not known, each must end at a marker of its producer.
pub(super) fn check_transactions(
    bytes: &[u8],
    aborted: Option<&[AbortedTransaction]>,
    batches: &[Seen],
) -> Vec<Wrong> {
    let (entries, rest) = bytes.as_chunks::<{ AbortedTransaction::SIZE }>();
    let mut before = None;
    let check = |entry: &[u8; AbortedTransaction::SIZE]| match AbortedTransaction::decode(entry) {
        Err(kind) => Some((None, kind.into())),
        Ok(got) => {
            let wrong = match aborted {
                _ if before.replace(got.last_offset) >= Some(got.last_offset) => {
                    Some(ProblemKind::TransactionOrder { last_offset: got.last_offset })
                }
                Some(aborted) => difference(&got, aborted),
                None => is_no_marker(&got, batches),
            };
            Some((Some(got.last_offset), wrong?))
        }
    };
    let mut wrong = numbered(entries.iter().map(check), AbortedTransaction::SIZE);
    if !rest.is_empty() {
        let position = (bytes.len() - rest.len()) as u64;
        wrong.push(Wrong { position, offset: None, kind: ProblemKind::HalfEntry });
    }
    wrong
}

/// What the log shows instead of `got`.
fn difference(got: &AbortedTransaction, aborted: &[AbortedTransaction]) -> Option<ProblemKind> {
    let at = aborted.partition_point(|aborted| aborted.last_offset < got.last_offset);
    match aborted.get(at).filter(|expected| expected.last_offset == got.last_offset) {
        Some(expected) if expected == got => None,
        Some(expected) => Some(ProblemKind::WrongTransaction { expected: *expected, got: *got }),
        None => Some(ProblemKind::NoAbortedTransaction { last_offset: got.last_offset }),
    }
}

/// How many of `aborted` are not in the file.
pub(super) fn lacking_transactions(bytes: &[u8], aborted: &[AbortedTransaction]) -> usize {
    let (entries, _) = bytes.as_chunks::<{ AbortedTransaction::SIZE }>();
    let noted: HashSet<Offset> = entries
        .iter()
        .filter_map(|entry| Some(AbortedTransaction::decode(entry).ok()?.last_offset))
        .collect();
    aborted.iter().filter(|aborted| !noted.contains(&aborted.last_offset)).count()
}

fn is_no_marker(aborted: &AbortedTransaction, batches: &[Seen]) -> Option<ProblemKind> {
    let AbortedTransaction { producer_id, last_offset, .. } = *aborted;
    let batch = batches.get(batches.partition_point(|batch| batch.last_offset < last_offset));
    let is_marker =
        batch.is_some_and(|batch| batch.marker_of == Some(producer_id) && batch.last_offset == last_offset);
    (!is_marker).then_some(ProblemKind::NoMarker { producer_id, last_offset })
}

fn not_decoded(kind: CorruptionKind) -> Vec<Wrong> {
    vec![Wrong { position: 0, offset: None, kind: kind.into() }]
}

/// The problems, each with the position of its entry.
fn numbered(
    problems: impl Iterator<Item = Option<(Option<Offset>, ProblemKind)>>,
    size: usize,
) -> Vec<Wrong> {
    let numbered = problems.enumerate().filter_map(|(at, problem)| {
        let (offset, kind) = problem?;
        Some(Wrong { position: (at * size) as u64, offset, kind })
    });
    numbered.collect()
}
