//! What the files of a log directory that are not Kafka's begin with: whose they are, which version, and a checksum.
//!
//! ```text
//! at size field
//!  0    8 magic, the kind of file in ASCII
//!  8    2 version
//! 10    n fields of the kind
//! 10+n  4 CRC-32C over everything before it
//! ```
//!
//! All integers are big endian.

use crate::crc::crc32c;
use crate::error::CorruptionKind;

/// The kind of a file: its magic and the newest known version.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) magic: &'static [u8; 8],
    pub(super) version: i16,
}

impl Kind {
    /// The size of a header around `fields` bytes.
    pub(super) const fn header_size(fields: usize) -> usize {
        size_of::<[u8; 8]>() + size_of::<i16>() + fields + size_of::<u32>()
    }

    /// The header around `fields`.
    pub(super) fn encode(&self, fields: &[u8]) -> Vec<u8> {
        let mut bytes = [self.magic, &self.version.to_be_bytes()[..], fields].concat();
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// The fields of the header that `bytes` begin with, and what is behind it.
    ///
    /// The version is looked at before the checksum: where a newer one has its checksum is not known.
    pub(super) fn decode<'a, const FIELDS: usize>(
        &self,
        bytes: &'a [u8],
    ) -> Result<(&'a [u8; FIELDS], &'a [u8]), CorruptionKind> {
        let too_short =
            CorruptionKind::Length { expected: Self::header_size(FIELDS) as u64, got: bytes.len() as u64 };
        let Some((magic, rest)) = bytes.split_first_chunk::<8>() else { return Err(too_short) };
        if magic != self.magic {
            return Err(CorruptionKind::Format("the file does not begin with the magic of its kind"));
        }
        let Some((&version, rest)) = rest.split_first_chunk() else { return Err(too_short) };
        let version = i16::from_be_bytes(version);
        if version != self.version {
            return Err(CorruptionKind::Version { expected: self.version, got: version });
        }
        let Some((fields, rest)) = rest.split_first_chunk() else { return Err(too_short) };
        let Some((&crc, rest)) = rest.split_first_chunk() else { return Err(too_short) };
        check_crc(crc, &bytes[..10 + FIELDS])?;
        Ok((fields, rest))
    }
}

/// Compares a stored CRC-32C with that of the bytes it covers.
pub(super) fn check_crc(stored: [u8; 4], covered: &[u8]) -> Result<(), CorruptionKind> {
    let (expected, got) = (u32::from_be_bytes(stored), crc32c(covered));
    if expected == got { Ok(()) } else { Err(CorruptionKind::Checksum { expected, got }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { magic: b"idemtest", version: 1 };

    #[test]
    fn a_header_has_these_bytes_and_comes_back() {
        let mut bytes = KIND.encode(&[7, 8, 9]);
        assert_eq!(bytes[..13], *b"idemtest\0\x01\x07\x08\x09");
        assert_eq!(bytes.len(), Kind::header_size(3));
        bytes.extend_from_slice(b"more");
        assert_eq!(KIND.decode::<3>(&bytes), Ok((&[7, 8, 9], &b"more"[..])));
    }

    #[test]
    fn a_header_that_was_cut_or_changed_is_refused() {
        let whole = KIND.encode(&[7, 8, 9]);
        for len in 0..whole.len() {
            let expected = CorruptionKind::Length { expected: whole.len() as u64, got: len as u64 };
            assert_eq!(KIND.decode::<3>(&whole[..len]), Err(expected));
        }
        for byte in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 0x10;
            let refused = KIND.decode::<3>(&bytes).unwrap_err();
            assert!(
                match byte {
                    0..8 => matches!(refused, CorruptionKind::Format(_)),
                    8..10 => matches!(refused, CorruptionKind::Version { expected: 1, .. }),
                    _ => matches!(refused, CorruptionKind::Checksum { .. }),
                },
                "byte {byte}: {refused}"
            );
        }
    }
}
