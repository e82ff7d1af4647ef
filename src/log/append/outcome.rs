//! What an append answers.

use smallvec::SmallVec;

use crate::batch::BatchHeader;
use crate::producer::Duplicate;
use crate::types::{Offset, OffsetRange, Timestamp};

/// Where a batch is stored: now, or since it was sent the first time.
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions, ProducerEpoch, Sequence};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// let log = dir.partition("orders", 0)?;
/// let id = dir.new_producer_id()?;
/// let batch = BatchBuilder::new().producer(id, ProducerEpoch(0), Sequence(0)).record(b"k", b"v").build()?;
///
/// let first = log.append(&batch)?;
/// let again = log.append(&batch)?;
/// assert!(!first.is_duplicate() && again.is_duplicate());
/// assert_eq!(first.offsets(), again.offsets());
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    duplicate: bool,
    offsets: Option<OffsetRange>,
    timestamp: Timestamp,
    same_bytes: Option<bool>,
}

/// One outcome per batch of a call.
pub(in crate::log) type Outcomes = SmallVec<[AppendOutcome; 1]>;

impl AppendOutcome {
    /// Stands where a batch is not judged yet.
    pub(super) const UNKNOWN: Self =
        Self { duplicate: false, offsets: None, timestamp: Timestamp::NONE, same_bytes: None };

    #[inline]
    pub(super) fn appended(header: &BatchHeader, base_offset: Offset) -> Self {
        let last = header.last_offset_at(base_offset);
        Self {
            duplicate: false,
            offsets: Some(OffsetRange { first: base_offset, last }),
            timestamp: header.max_timestamp,
            same_bytes: None,
        }
    }

    #[inline]
    pub(super) fn duplicate(duplicate: &Duplicate) -> Self {
        Self {
            duplicate: true,
            offsets: duplicate.original,
            timestamp: duplicate.timestamp,
            same_bytes: duplicate.same_bytes,
        }
    }

    /// Whether the batch was stored before and this append changed nothing.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }

    /// The offsets under which the batch is stored. `None` only for a duplicate: of a marker
    /// ([`TransactionVersion::V2`](crate::TransactionVersion)), or, under
    /// [`SequenceRule::Increasing`](crate::SequenceRule::Increasing), one that is none of the batches still remembered: it is older
    /// than they are, or was put together otherwise.
    pub fn offsets(&self) -> Option<OffsetRange> {
        self.offsets
    }

    /// The offset of the first record; -1 where [`offsets`](Self::offsets) is `None`.
    pub fn base_offset(&self) -> Offset {
        self.offsets.map_or(Offset(-1), |offsets| offsets.first)
    }

    /// The offset of the last record; -1 where [`offsets`](Self::offsets) is `None`.
    pub fn last_offset(&self) -> Offset {
        self.offsets.map_or(Offset(-1), |offsets| offsets.last)
    }

    /// The largest timestamp of the stored batch; where [`offsets`](Self::offsets) is `None`, that of the producer's last one.
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// For a duplicate: whether the bytes sent now are those stored, where that is known.
    pub fn same_bytes(&self) -> Option<bool> {
        self.same_bytes
    }
}
