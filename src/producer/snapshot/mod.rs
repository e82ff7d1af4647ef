//! The bytes of a `.snapshot` file: all producers of a partition as of an offset.
//!
//! The file begins as Kafka's version 1. What Kafka does not keep stands in a trailer behind the entries, which the
//! file's CRC covers and Kafka's reader does not look at. All numbers are big endian.
//!
//! ```text
//!  at size
//!   0    2 version, 1
//!   2    4 CRC-32C over the bytes from 6 to the end of the file
//!   6    4 n, the number of entries
//!  10      n entries of 46 bytes
//!          +0  8 producer id
//!          +8  2 producer epoch
//!         +10  4 last sequence              -1: no batch
//!         +14  8 last offset                -1: no batch
//!         +22  4 last offset less first of the last batch
//!         +26  8 timestamp of the last batch or marker
//!         +34  4 coordinator epoch          -1: none
//!         +38  8 first offset of the open transaction, -1: none
//!  then the trailer
//!          +0  4 magic, "IDLP"
//!          +4  2 version, 1
//!          +6  2 flags: 1 = the identity is set
//!          +8  4 identity: leader epoch     of the last batch that the snapshot covers
//!         +12  8 identity: base offset
//!         +20  8 identity: byte position in its segment
//!         +28  4 identity: CRC-32C
//!         +32  4 w, the number of older batches of all windows
//!         +36  4 s, the number of supplements
//!  then n rows of 10 bytes, one for each entry
//!          +0  4 when the host last saw the producer, in seconds since 1970
//!          +4  4 CRC-32C of the last batch  0: unknown
//!          +8  1 how many older batches the entry has
//!          +9  1 flags: 1 = the entry has a supplement
//!  then w older batches of 28 bytes, in the order of the entries, oldest first
//!          +0  8 last offset
//!          +8  8 timestamp
//!         +16  4 last sequence
//!         +20  4 last offset less first
//!         +24  4 CRC-32C                    0: unknown
//!  then s supplements of 27 bytes, in the order of the entries: the last batch where the entry cannot tell it
//!          +0  1 flags: 1 = the entry's timestamp is that of a marker; 2 = the producer was fenced since the batch
//!          +1  2 the epoch of the batches, where the producer was fenced since
//!          +3 24 the last batch, as an older one without CRC
//! ```
//!
//! Of a producer that was fenced since its last batch, Kafka's entry shows no batch: it is of an older epoch. A trailer
//! of a newer version is refused, because skipping it would forget batches.
//!
//! - here: the format, its sizes, and the identity.
//! - `write`: from producers to bytes; `read`: from bytes to producers.
//! - `restore`: a table of all that is in a file; `fold`: newer bytes from older ones.

mod fold;
mod read;
mod restore;
mod write;

use crate::error::CorruptionKind;
use crate::types::{LeaderEpoch, Offset};
pub(crate) use fold::{Fate, Fold};
pub(crate) use read::{Check, decode};
pub(crate) use write::{encode, write};

/// A larger file is not read, nor written.
pub(crate) const MAX_BYTES: u64 = 8 << 30;

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const COVERED_FROM: usize = 6;
const HEAD_SIZE: usize = 10;
const ENTRY_SIZE: usize = 46;

const MAGIC: u32 = u32::from_be_bytes(*b"IDLP");
const TRAILER_VERSION: i16 = 1;
const TRAILER_HEAD_SIZE: usize = 40;
const ROW_SIZE: usize = 10;
const BATCH_SIZE: usize = 28;
const SUPPLEMENT_SIZE: usize = 27;

const HAS_IDENTITY: i16 = 1;
const HAS_SUPPLEMENT: u8 = 1;
const MARKER_IS_LAST: u8 = 1;
const FENCED: u8 = 2;

type Result<T> = std::result::Result<T, CorruptionKind>;

/// The last batch that a snapshot covers. If it is not in the log, the snapshot describes batches that are not either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotIdentity {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) base_offset: Offset,
    /// Where it begins in its segment.
    pub(crate) position: u64,
    pub(crate) crc: u32,
}

/// How many producers with such a window are sure to find room in a file.
pub(super) fn producers_max(window: u8) -> usize {
    let older = BATCH_SIZE * usize::from(window.saturating_sub(1));
    let each = ENTRY_SIZE + ROW_SIZE + SUPPLEMENT_SIZE + older;
    ((MAX_BYTES - (HEAD_SIZE + TRAILER_HEAD_SIZE) as u64) / each as u64) as usize
}
