//! CRC-32C (Castagnoli), the checksum of batches and of the engine's own files.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // By the name of the first protocol that used it (RFC 3720).
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of bytes that come in pieces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Of all pieces so far.
    pub(crate) fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
    }

    /// Each length, and each place in a cache line, takes other instructions.
    #[test]
    fn it_is_what_another_implementation_says() {
        let bytes = bytes(3 * 4096);
        for len in (0..600).chain([1000, 1023, 1024, 1025, 4096, 3 * 4096 - 64]) {
            for start in [0, 1, 7, 8, 21, 63] {
                let piece = &bytes[start..start + len];
                assert_eq!(crc32c(piece), ::crc32c::crc32c(piece), "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn it_is_the_same_in_pieces() {
        let bytes = bytes(10_000);
        for size in [1, 3, 16, 61, 255, 256, 1000, 9999] {
            let mut crc = Crc32c::new();
            bytes.chunks(size).for_each(|piece| crc.update(piece));
            assert_eq!(crc.value(), crc32c(&bytes), "pieces of {size}");
        }
        assert_eq!(Crc32c::new().value(), crc32c(b""));
    }
}
