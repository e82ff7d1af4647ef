//! The batches of a file, one by one, also behind bytes that are none.

use bytes::Bytes;
use idemlog::{BatchError, DEFAULT_MAX_DECOMPRESSED, RecordCheck, UncheckedBatch};

/// What lies at a place of a file that ought to hold batches back to back.
pub(crate) enum Piece {
    /// A batch, and why it is not as it was appended, if it is not.
    Batch(UncheckedBatch, Option<BatchError>),
    /// So many bytes that are no batch, why the first are none, and whether a sound batch follows.
    Other { bytes: usize, error: BatchError, goes_on: bool },
}

/// The pieces of `bytes`, each with where it begins.
pub(crate) struct Pieces {
    bytes: Bytes,
    position: usize,
    /// How many bytes may still be looked at in vain: each may begin what looks like a batch of megabytes.
    patience: usize,
}

const MAGIC: usize = 16;

impl Pieces {
    pub(crate) fn new(bytes: Bytes) -> Self {
        let patience = bytes.len().saturating_mul(4).saturating_add(256 << 20);
        Self { bytes, position: 0, patience }
    }

    fn decode(&self, position: usize) -> Result<UncheckedBatch, BatchError> {
        UncheckedBatch::decode(&self.bytes.slice(position..))
    }

    /// Where the next batch begins that is sound, from `position` on.
    fn next_sound(&mut self, position: usize) -> Option<usize> {
        (position..self.bytes.len()).find(|&at| {
            self.bytes.get(at + MAGIC) == Some(&2)
                && self.decode(at).is_ok_and(|batch| {
                    let size = batch.header().size();
                    let is_sound = size <= self.patience && wrong(&batch).is_none();
                    self.patience = self.patience.saturating_sub(if is_sound { 0 } else { size });
                    is_sound
                })
        })
    }

    /// The size of a batch that is damaged: its length may be, too, and is not believed where nothing follows it.
    fn believed_size(&mut self, size: usize) -> usize {
        let next = self.position + size;
        if next == self.bytes.len() || self.decode(next).is_ok() {
            return size;
        }
        self.next_sound(self.position + 1).map_or(size, |next| next - self.position)
    }
}

impl Iterator for Pieces {
    type Item = (usize, Piece);

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position;
        if position >= self.bytes.len() {
            return None;
        }
        let (size, piece) = match self.decode(position) {
            Ok(batch) => match wrong(&batch) {
                None => (batch.header().size(), Piece::Batch(batch, None)),
                Some(error) => (self.believed_size(batch.header().size()), Piece::Batch(batch, Some(error))),
            },
            Err(error) => {
                let next = self.next_sound(position + 1);
                let bytes = next.unwrap_or(self.bytes.len()) - position;
                (bytes, Piece::Other { bytes, error, goes_on: next.is_some() })
            }
        };
        self.position += size;
        Some((position, piece))
    }
}

/// Why a batch is not as it was appended, by its CRC.
fn wrong(batch: &UncheckedBatch) -> Option<BatchError> {
    batch.clone().check(RecordCheck::Header, DEFAULT_MAX_DECOMPRESSED).err()
}
