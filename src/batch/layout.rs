//! Where each field of a record batch (magic 2) lies. Reader and writer share these constants.
//!
//! ```text
//!  at size field                 covered by the CRC
//!   0    8 base offset           no: stamped by the log
//!   8    4 batch length          no: bytes behind this field
//!  12    4 leader epoch          no: stamped by the log
//!  16    1 magic                 no: 2
//!  17    4 CRC-32C               no: over the bytes from 21 to the end
//!  21    2 attributes            yes
//!  23    4 last offset delta     yes
//!  27    8 base timestamp        yes
//!  35    8 maximum timestamp     yes
//!  43    8 producer id           yes
//!  51    2 producer epoch        yes
//!  53    4 base sequence         yes
//!  57    4 record count          yes
//!  61      records               yes, compressed as a whole
//! ```
//!
//! Source: `DefaultRecordBatch` of Apache Kafka. All integers are big endian.

pub(crate) const BASE_OFFSET: usize = 0;
pub(crate) const LENGTH: usize = 8;
pub(crate) const LEADER_EPOCH: usize = 12;
pub(crate) const MAGIC: usize = 16;
pub(crate) const CRC: usize = 17;
pub(crate) const ATTRIBUTES: usize = 21;
pub(crate) const LAST_OFFSET_DELTA: usize = 23;
pub(crate) const BASE_TIMESTAMP: usize = 27;
pub(crate) const MAX_TIMESTAMP: usize = 35;
pub(crate) const PRODUCER_ID: usize = 43;
pub(crate) const PRODUCER_EPOCH: usize = 51;
pub(crate) const BASE_SEQUENCE: usize = 53;
pub(crate) const RECORD_COUNT: usize = 57;

/// The size of the header: where the records begin.
pub(crate) const HEADER_SIZE: usize = 61;
/// The bytes that the length field does not count: base offset and itself.
pub(crate) const LENGTH_OVERHEAD: usize = 12;
/// The bytes that tell a batch's offset, size and magic.
pub(crate) const PREFIX_SIZE: usize = 17;
/// The only supported format.
pub(crate) const MAGIC_V2: i8 = 2;

const _: () = assert!(RECORD_COUNT + 4 == HEADER_SIZE && MAGIC + 1 == CRC && CRC + 4 == ATTRIBUTES);

/// Attribute bits 0 to 2: the codec.
pub(crate) const CODEC_MASK: i16 = 0x07;
/// Attribute bit 3: the timestamps are those of the append, not of creation.
pub(crate) const LOG_APPEND_TIME: i16 = 0x08;
/// Attribute bit 4: part of a transaction.
pub(crate) const TRANSACTIONAL: i16 = 0x10;
/// Attribute bit 5: holds a control record (a transaction marker), no data.
pub(crate) const CONTROL: i16 = 0x20;
/// Attribute bit 6: the base timestamp field is a delete horizon, set by compaction.
pub(crate) const DELETE_HORIZON: i16 = 0x40;

macro_rules! big_endian {
    ($($name:ident -> $type:ty),*) => {
        $(
            /// The big-endian number at `at`. The caller has checked that the bytes are there.
            #[inline]
            pub(crate) fn $name(bytes: &[u8], at: usize) -> $type {
                let mut field = [0; size_of::<$type>()];
                field.copy_from_slice(&bytes[at..at + size_of::<$type>()]);
                <$type>::from_be_bytes(field)
            }
        )*
    };
}

big_endian!(read_i16 -> i16, read_i32 -> i32, read_u32 -> u32, read_i64 -> i64);
