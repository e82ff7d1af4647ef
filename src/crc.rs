//! CRC-32C (Castagnoli), the checksum of batches and of the engine's own files.
//!
//! Two libraries compute it, each the faster one on some processors: `crc-fast` multiplies without carry over whole vectors,
//! `crc32c` keeps three streams of the processor's own instruction going. What a vector holds decides.

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC-32C of `bytes`.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    if has_wide_multiplication() {
        // By the name of the first protocol that used it (RFC 3720).
        crc_fast::crc32_iscsi(bytes)
    } else {
        ::crc32c::crc32c(bytes)
    }
}

/// The CRC-32C of the bytes that `crc` is of, and `bytes` behind them. That of no bytes is 0.
pub(crate) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    if has_wide_multiplication() { append_widely(crc, bytes) } else { ::crc32c::crc32c_append(crc, bytes) }
}

fn append_widely(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

/// Whether carry-less multiplication outruns the instruction for CRCs: with the vectors of AVX-512 by a third to a half,
/// without them it is behind by a quarter (measured on a Zen 3, and on a processor that has them).
#[cfg(target_arch = "x86_64")]
#[inline]
fn has_wide_multiplication() -> bool {
    std::arch::is_x86_feature_detected!("avx512vl") && std::arch::is_x86_feature_detected!("vpclmulqdq")
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn has_wide_multiplication() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// Both are tables then.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
fn has_wide_multiplication() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
    }

    /// Bit by bit, as RFC 3720 describes it.
    fn by_definition(bytes: &[u8]) -> u32 {
        let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        !bytes.iter().fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
    }

    /// Each length, and each place in a cache line, takes other instructions. A processor takes one of the two ways; both
    /// are tested on each.
    #[test]
    fn it_is_what_the_definition_says_whichever_way_the_processor_takes() {
        let bytes = bytes(3 * 4096);
        for len in (0..600).chain([1000, 1023, 1024, 1025, 4096, 3 * 4096 - 64]) {
            for start in [0, 1, 7, 8, 21, 63] {
                let piece = &bytes[start..start + len];
                let expected = by_definition(piece);
                let ways = [
                    crc32c(piece),
                    crc_fast::crc32_iscsi(piece),
                    ::crc32c::crc32c(piece),
                    append_widely(0, piece),
                ];
                assert_eq!(ways, [expected; 4], "{len} bytes from {start}");
            }
        }
    }

    #[test]
    fn it_is_the_same_in_pieces() {
        let bytes = bytes(10_000);
        for append in [crc32c_append, append_widely, ::crc32c::crc32c_append] {
            for size in [1, 3, 16, 61, 255, 256, 1000, 9999] {
                assert_eq!(bytes.chunks(size).fold(0, append), crc32c(&bytes), "pieces of {size}");
            }
        }
    }
}
