//! One segment: its batches, and what its index files say.

use crate::differences::Differences;
use crate::model::Refusal;
use crate::record_batch::{Batch, Tail};

/// An aborted transaction, in the index of the segment with its marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    pub last_offset: i64,
    pub last_stable_offset: i64,
}

/// A segment, in memory as on the disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub base_offset: i64,
    pub batches: Vec<Batch>,
    pub tail: Tail,
    pub aborted: Vec<Aborted>,
    /// Whether there is an offset index.
    pub is_indexed: bool,
    /// The position in the offset index's last entry: what stands before it is not read to find the segment's end.
    pub indexed_position: usize,
    /// Whether the transaction index is there and has only entries of this segment.
    pub has_sound_transaction_index: bool,
    /// Whether the transaction index has entries of other segments: Kafka then recovers the segment.
    pub has_foreign_transactions: bool,
    /// What the time index says, where that is all Kafka knows.
    pub timestamp_in_index: Option<i64>,
}

impl Segment {
    pub fn empty(base_offset: i64) -> Self {
        Self {
            base_offset,
            batches: Vec::new(),
            tail: Tail::Nothing,
            aborted: Vec::new(),
            is_indexed: true,
            indexed_position: 0,
            has_sound_transaction_index: true,
            has_foreign_transactions: false,
            timestamp_in_index: None,
        }
    }

    pub fn size(&self) -> usize {
        self.batches.iter().map(|batch| batch.size).sum::<usize>() + self.tail.bytes()
    }

    /// The offset behind the last batch, as far as a reader gets.
    pub fn next_offset(&self, partition: &str) -> Result<i64, Refusal> {
        match self.tail {
            Tail::Garbage { length, .. } => Err(Refusal::undersized(partition, self.base_offset, length)),
            _ => Ok(self.batches_end()),
        }
    }

    pub fn batches_end(&self) -> i64 {
        self.batches.last().map_or(self.base_offset, Batch::next_offset)
    }

    pub fn largest_timestamp(&self, differences: &Differences) -> i64 {
        let of_batches = self.batches.iter().map(|batch| batch.max_timestamp).max().unwrap_or(-1);
        match self.timestamp_in_index {
            Some(indexed) if !differences.largest_timestamp_of_batches => indexed,
            _ => of_batches,
        }
    }

    /// Keeps the batches that end before `target`.
    pub fn truncate(&mut self, target: i64) {
        let keep = self.batches.iter().take_while(|batch| batch.last_offset < target).count();
        self.batches.truncate(keep);
        self.tail = Tail::Nothing;
        self.aborted.retain(|aborted| aborted.last_offset < target);
        self.timestamp_in_index = None;
    }

    /// Keeps the first `count` batches. Returns whether anything was behind them.
    pub fn cut(&mut self, count: usize) -> bool {
        let had_more = count < self.batches.len() || self.tail != Tail::Nothing;
        self.batches.truncate(count);
        self.tail = Tail::Nothing;
        let end = self.batches_end();
        self.aborted.retain(|aborted| aborted.last_offset < end);
        had_more
    }

    /// Loses its last bytes, as a file does when the machine dies.
    pub fn tear(&mut self, bytes: usize) {
        let mut left = self.size().saturating_sub(bytes);
        let mut kept = 0;
        for batch in &self.batches {
            if batch.size > left {
                break;
            }
            left -= batch.size;
            kept += 1;
        }
        self.batches.truncate(kept);
        self.tail = if left > 0 { Tail::Torn { bytes: left } } else { Tail::Nothing };
    }

    /// The position of each batch, and the batch.
    pub fn positions(&self) -> impl Iterator<Item = (usize, &Batch)> {
        self.batches.iter().scan(0, |end, batch| {
            let position = *end;
            *end += batch.size;
            Some((position, batch))
        })
    }
}
