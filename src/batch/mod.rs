//! The record batch, version 2: bytes to values and back. No I/O.
//!
//! Trust is in the types. A [`BatchHeader`] is 61 decoded bytes. An [`UncheckedBatch`] has all its bytes. A [`Batch`]
//! matches its CRC, and its records were checked as far as its [`RecordCheck`] says. Both give their [`Records`] by the
//! same walk, which is total over any bytes.

mod builder;
mod checked;
mod compression;
mod control;
mod header;
mod held;
pub(crate) mod layout;
mod record;
mod unchecked;
mod varint;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, RecordBuilder};
pub use checked::{Batch, RecordCheck};
pub use control::ControlRecord;
pub use header::{BatchHeader, Compression, TimestampType};
pub use held::BatchBytes;
pub use record::{Record, RecordHeaders, Records};
pub use unchecked::{Batches, UncheckedBatch};

pub(crate) use checked::check_crc;
pub(crate) use record::{check_records, find_record, read_control};

/// The default bound for the records of one compressed batch after decompression: 64 MiB.
///
/// 64 times what Kafka takes as a batch by default, so no honest batch meets it, and little enough that a batch made to
/// expand without end does no harm.
pub const DEFAULT_MAX_DECOMPRESSED: usize = 64 << 20;
