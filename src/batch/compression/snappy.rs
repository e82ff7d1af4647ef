//! snappy in the framing of the Java library that Kafka uses.
//!
//! ```text
//! header   8 bytes  82 'S' 'N' 'A' 'P' 'P' 'Y' 00
//!          i32      version 1
//!          i32      lowest version that reads it: 1
//! block    i32      size of the compressed block
//!                   the block
//! ```
//!
//! Headers and blocks repeat. All integers are big endian. Input without a header is one raw block, as some clients
//! write it.

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::malformed;
use crate::batch::Compression::Snappy;
use crate::batch::layout::read_i32;
use crate::error::BatchError;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER_SIZE: usize = 16;
const VERSION: i32 = 1;
const LENGTH_SIZE: usize = 4;
/// What the Java library puts into a block.
const BLOCK_SIZE: usize = 32 * 1024;
/// No element of the format yields more bytes than this for each of its own.
const MAX_EXPANSION: usize = 64;

pub(super) fn compress(records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    output.extend_from_slice(&MAGIC);
    output.extend_from_slice(&VERSION.to_be_bytes());
    output.extend_from_slice(&VERSION.to_be_bytes());
    let mut encoder = Encoder::new();
    records.chunks(BLOCK_SIZE).try_for_each(|block| compress_block(&mut encoder, block, output))
}

fn compress_block(encoder: &mut Encoder, block: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let length_at = output.len();
    let start = length_at + LENGTH_SIZE;
    output.resize(start + max_compress_len(block.len()), 0);
    let size = encoder.compress(block, &mut output[start..]).map_err(|error| malformed(Snappy, &error))?;
    output.truncate(start + size);
    output[length_at..start].copy_from_slice(&(size as i32).to_be_bytes());
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    if !input.starts_with(&MAGIC) {
        return decompress_block(input, limit, output);
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER_SIZE..).ok_or_else(|| malformed(Snappy, "the header is cut short"))?;
            continue;
        }
        let (block, behind) = split_block(rest).ok_or_else(|| malformed(Snappy, "a block is cut short"))?;
        decompress_block(block, limit, output)?;
        rest = behind;
    }
    Ok(())
}

fn split_block(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = rest.split_at_checked(LENGTH_SIZE)?;
    rest.split_at_checked(usize::try_from(read_i32(length, 0)).ok()?)
}

fn decompress_block(block: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    let claimed = decompress_len(block).map_err(|error| malformed(Snappy, &error))?;
    if claimed / MAX_EXPANSION > block.len() {
        return Err(malformed(Snappy, "a block claims more bytes than it can hold"));
    }
    let start = output.len();
    if claimed > limit.saturating_sub(start) {
        return Err(BatchError::DecompressedTooLarge { limit });
    }
    output.resize(start + claimed, 0);
    Decoder::new().decompress(block, &mut output[start..]).map_err(|error| malformed(Snappy, &error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompressed(input: &[u8]) -> Result<Vec<u8>, BatchError> {
        let mut output = Vec::new();
        decompress(input, 1 << 20, &mut output).map(|()| output)
    }

    #[test]
    fn a_raw_block_without_a_header_is_read() {
        let raw = Encoder::new().compress_vec(b"raw raw raw raw").unwrap();
        assert_eq!(decompressed(&raw).unwrap(), b"raw raw raw raw");
    }

    #[test]
    fn several_streams_are_read_as_one() {
        let mut input = Vec::new();
        compress(b"first ", &mut input).unwrap();
        compress(b"second", &mut input).unwrap();
        assert_eq!(decompressed(&input).unwrap(), b"first second");
    }

    #[test]
    fn a_length_that_lies_is_refused_before_memory_is_taken() {
        let stream = |block: &[u8]| {
            let mut input = Vec::new();
            compress(b"", &mut input).unwrap();
            input.extend_from_slice(block);
            input
        };
        for (name, block) in [
            ("a block longer than the input", &[0x7f, 0xff, 0xff, 0xff, 0][..]),
            ("a negative length", &[0xff, 0xff, 0xff, 0xff, 0]),
            ("a length cut short", &[0, 0]),
            ("a block of 2^32-1 bytes", &[0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            ("a block of 600 KB in 3 bytes", &[0, 0, 0, 3, 0xff, 0xff, 0x24]),
        ] {
            let result = decompressed(&stream(block));
            assert!(matches!(result, Err(BatchError::Decompression { .. })), "{name}: {result:?}");
        }
    }
}
