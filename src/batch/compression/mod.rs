//! The codecs of record batches: compressed bytes in, records out, never more than a bound.
//!
//! What is written here can be read by Kafka: standard gzip, lz4 and zstd frames, and snappy in the framing of the Java
//! library. What Kafka's decoders refuse is refused here, too: nobody could read it later. A codec whose feature is not
//! compiled in is refused with [`BatchError::CodecDisabled`].

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use super::header::Compression;
use crate::error::BatchError;

/// Stands in for a codec that is not compiled in.
#[cfg(not(all(feature = "gzip", feature = "lz4", feature = "snappy", feature = "zstd")))]
macro_rules! disabled {
    ($codec:ident) => {
        mod $codec {
            use crate::error::BatchError;

            const DISABLED: BatchError = BatchError::CodecDisabled { codec: stringify!($codec) };

            pub(super) fn compress(_: &[u8], _: &mut Vec<u8>) -> Result<(), BatchError> {
                Err(DISABLED)
            }

            pub(super) fn decompress(_: &[u8], _: usize, _: &mut Vec<u8>) -> Result<(), BatchError> {
                Err(DISABLED)
            }
        }
    };
}

#[cfg(not(feature = "gzip"))]
disabled!(gzip);
#[cfg(not(feature = "lz4"))]
disabled!(lz4);
#[cfg(not(feature = "snappy"))]
disabled!(snappy);
#[cfg(not(feature = "zstd"))]
disabled!(zstd);

/// Appends `records`, compressed, to `output`.
pub(super) fn compress(codec: Compression, records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    match codec {
        Compression::None => {
            output.extend_from_slice(records);
            Ok(())
        }
        Compression::Gzip => gzip::compress(records, output),
        Compression::Snappy => snappy::compress(records, output),
        Compression::Lz4 => lz4::compress(records, output),
        Compression::Zstd => zstd::compress(records, output),
    }
}

/// Replaces the contents of `output` by the decompressed `input`, of which there may be `limit` bytes.
pub(super) fn decompress(
    codec: Compression,
    input: &[u8],
    limit: usize,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    output.clear();
    match codec {
        Compression::None => output.extend_from_slice(input),
        Compression::Gzip => gzip::decompress(input, limit, output)?,
        Compression::Snappy => snappy::decompress(input, limit, output)?,
        Compression::Lz4 => lz4::decompress(input, limit, output)?,
        Compression::Zstd => zstd::decompress(input, limit, output)?,
    }
    if output.len() > limit { Err(BatchError::DecompressedTooLarge { limit }) } else { Ok(()) }
}

/// Reads at most one byte more than `limit`, so that the caller sees that there is too much.
#[cfg(any(feature = "gzip", feature = "lz4"))]
fn read_bounded(reader: impl std::io::Read, limit: usize, output: &mut Vec<u8>) -> std::io::Result<()> {
    use std::io::Read;

    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(output).map(|_| ())
}

/// An error in a codec's own words.
#[cfg(any(feature = "gzip", feature = "lz4", feature = "snappy", feature = "zstd"))]
fn malformed(codec: Compression, problem: &(impl ToString + ?Sized)) -> BatchError {
    BatchError::Decompression { codec: codec.name(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::enabled_codecs;

    /// Compresses well, and is longer than a block of any codec.
    fn text() -> Vec<u8> {
        b"the same words again and again; ".iter().copied().cycle().take(200_000).collect()
    }

    fn compressed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        compress(codec, bytes, &mut output).unwrap();
        output
    }

    #[test]
    fn what_a_codec_compresses_it_decompresses() {
        for codec in enabled_codecs() {
            for bytes in [Vec::new(), b"x".to_vec(), text()] {
                let mut output = b"left over from before".to_vec();
                decompress(codec, &compressed(codec, &bytes), bytes.len(), &mut output).unwrap();
                assert!(output == bytes, "{codec}, {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn compressing_appends() {
        for codec in enabled_codecs() {
            let mut output = vec![1, 2, 3];
            compress(codec, b"abc", &mut output).unwrap();
            assert_eq!(output, [&[1, 2, 3][..], &compressed(codec, b"abc")].concat(), "{codec}");
        }
    }

    #[test]
    fn several_members_or_frames_are_read_as_one() {
        let may_be_several = |codec: &Compression| matches!(codec, Compression::Gzip | Compression::Zstd);
        for codec in enabled_codecs().into_iter().filter(may_be_several) {
            let input = [compressed(codec, b"first "), compressed(codec, b"second")].concat();
            let mut output = Vec::new();
            decompress(codec, &input, 100, &mut output).unwrap();
            assert_eq!(output, b"first second", "{codec}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let bytes = text();
        for codec in enabled_codecs() {
            let input = compressed(codec, &bytes);
            for limit in [0, 1, 1000, bytes.len() - 1] {
                let result = decompress(codec, &input, limit, &mut Vec::new());
                assert_eq!(result, Err(BatchError::DecompressedTooLarge { limit }), "{codec} within {limit}");
            }
        }
    }

    #[test]
    fn a_large_buffer_from_before_does_not_raise_the_limit() {
        for codec in enabled_codecs() {
            let mut output = Vec::with_capacity(1 << 20);
            let result = decompress(codec, &compressed(codec, &text()), 1000, &mut output);
            assert_eq!(result, Err(BatchError::DecompressedTooLarge { limit: 1000 }), "{codec}");
        }
    }

    /// An lz4 frame without its end passed for a whole one, as did no bytes at all: batches were stored that neither a broker of
    /// Kafka's nor a consumer takes. Only the framing of snappy does not say where it ends: there the records are missing.
    #[test]
    fn a_frame_that_is_cut_short_is_refused() {
        for codec in enabled_codecs().into_iter().filter(|codec| *codec != Compression::None) {
            let input = compressed(codec, b"the same words again and again; the same words");
            let looks_whole = |length| codec == Compression::Snappy && length == 16;
            for length in (0..input.len()).filter(|length| !looks_whole(*length)) {
                let result = decompress(codec, &input[..length], 1 << 16, &mut Vec::new());
                assert!(
                    matches!(result, Err(BatchError::Decompression { .. })),
                    "{codec}, {length} of {}: {result:?}",
                    input.len()
                );
            }
        }
    }

    #[test]
    fn no_bytes_panic_a_codec() {
        let mut output = Vec::new();
        for codec in enabled_codecs() {
            let input = compressed(codec, b"the same words again and again; the same words");
            for at in 0..input.len() {
                let _ = decompress(codec, &input[..at], 1 << 16, &mut output);
                for bit in 0..8 {
                    let mut damaged = input.clone();
                    damaged[at] ^= 1 << bit;
                    let _ = decompress(codec, &damaged, 1 << 16, &mut output);
                    assert!(output.len() <= (1 << 16) + 1, "{codec}");
                }
            }
        }
    }

    #[test]
    fn a_codec_that_is_not_compiled_in_is_named() {
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            if !enabled_codecs().contains(&codec) {
                let result = decompress(codec, b"", 0, &mut Vec::new());
                assert!(
                    matches!(result, Err(BatchError::CodecDisabled { codec: name }) if name == codec.to_string())
                );
            }
        }
    }
}
