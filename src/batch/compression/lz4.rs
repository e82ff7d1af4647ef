//! lz4: one frame of independent blocks of 64 KiB, which every client reads.
//!
//! ```text
//! header   4 bytes  04 22 4D 18
//!          u8       flags: what is in brackets here, and whether the blocks are independent
//!          u8       the size of the blocks before compression
//!         [u64      content size]
//!          u8       checksum of the header
//! block    u32      how many bytes it has; the highest bit says that they are not compressed
//!                   the bytes
//!         [u32      their checksum]
//! end      u32      0
//!         [u32      checksum of the content]
//! ```
//!
//! Blocks repeat. All integers are little endian. The decoder takes more than Kafka's does: blocks that depend on each other, a
//! frame without its end, and the format of before. So the frame is walked first.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{malformed, read_bounded};
use crate::batch::Compression::Lz4;
use crate::batch::layout::read_i32;
use crate::error::BatchError;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
/// The header without a content size.
const HEADER_SIZE: usize = 7;
const CHECKSUM_SIZE: usize = 4;

pub(super) fn compress(records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    encoder.write_all(records).map_err(|error| malformed(Lz4, &error))?;
    encoder.finish().map(|_| ()).map_err(|error| malformed(Lz4, &error))
}

/// Besides `output` the decoder holds two blocks, of 4 MiB at most.
pub(super) fn decompress(input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    if !input.starts_with(&MAGIC) {
        return Err(malformed(Lz4, "no lz4 frame begins here"));
    }
    let frame = whole_frame(input).ok_or_else(|| malformed(Lz4, "the frame is cut short"))?;
    if frame[MAGIC.len()] & INDEPENDENT_BLOCKS == 0 {
        return Err(malformed(Lz4, "the blocks depend on each other"));
    }
    let mut decoder = FrameDecoder::new(frame);
    read_bounded(&mut decoder, limit, output).map_err(|error| malformed(Lz4, &error))?;
    // A block of nothing is an end to the decoder.
    let is_whole = output.len() > limit || decoder.get_ref().is_empty();
    if is_whole { Ok(()) } else { Err(malformed(Lz4, "a block is empty")) }
}

/// The frame at the beginning of `input`, if its end is there.
fn whole_frame(input: &[u8]) -> Option<&[u8]> {
    let flags = *input.get(MAGIC.len())?;
    let if_set = |flag, size| if flags & flag == 0 { 0 } else { size };
    let mut rest = input.get(HEADER_SIZE + if_set(CONTENT_SIZE, 8)..)?;
    loop {
        let (length, behind) = rest.split_at_checked(4)?;
        let length = read_i32(length, 0).swap_bytes();
        if length == 0 {
            let behind = behind.get(if_set(CONTENT_CHECKSUM, CHECKSUM_SIZE)..)?;
            return Some(&input[..input.len() - behind.len()]);
        }
        let size = (length & i32::MAX) as usize;
        rest = behind.get(size + if_set(BLOCK_CHECKSUMS, CHECKSUM_SIZE)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks of 64 KiB, and a bit.
    fn text() -> Vec<u8> {
        b"the same words again and again; ".iter().copied().cycle().take(140_000).collect()
    }

    fn framed(info: FrameInfo) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info.block_size(BlockSize::Max64KB), Vec::new());
        encoder.write_all(&text()).unwrap();
        encoder.finish().unwrap()
    }

    fn decompressed(input: &[u8]) -> Result<Vec<u8>, BatchError> {
        let mut output = Vec::new();
        decompress(input, 1 << 20, &mut output).map(|()| output)
    }

    fn refused(input: &[u8]) -> String {
        match decompressed(input) {
            Err(BatchError::Decompression { codec: "lz4", problem }) => problem,
            other => panic!("{:?}", other.map(|taken| taken.len())),
        }
    }

    #[test]
    fn a_frame_of_independent_blocks_is_read_whatever_else_it_says_of_itself() {
        for (checksums, size) in [(false, None), (true, None), (false, Some(140_000)), (true, Some(140_000))]
        {
            let info =
                FrameInfo::new().block_checksums(checksums).content_checksum(checksums).content_size(size);
            assert!(decompressed(&framed(info)).unwrap() == text(), "{checksums} {size:?}");
        }
    }

    /// Blocks that lean on those before them were read, and stored, though Kafka's decoder refuses them.
    #[test]
    fn blocks_that_depend_on_each_other_are_refused() {
        let linked = framed(FrameInfo::new().block_mode(BlockMode::Linked));
        assert_eq!(refused(&linked), "the blocks depend on each other");
    }

    /// As were frames in the format of before, which has another magic number and no end mark.
    #[test]
    fn a_frame_of_the_legacy_format_is_refused() {
        let block = lz4_flex::block::compress(&text());
        let length = (block.len() as u32).swap_bytes().to_be_bytes();
        let legacy = [&[0x02, 0x21, 0x4c, 0x18][..], &length, &block].concat();
        assert_eq!(refused(&legacy), "no lz4 frame begins here");
    }

    /// And frames cut between their blocks, which told nobody that there had been more.
    #[test]
    fn a_frame_is_cut_short_wherever_its_end_is_missing() {
        let whole = framed(FrameInfo::new().content_checksum(true));
        for length in 0..whole.len() {
            refused(&whole[..length]);
        }
    }

    /// What lies behind a block of nothing was passed over, as the decoder takes it for the end. Other decoders go on, or fail.
    #[test]
    fn a_block_of_nothing_is_refused_where_it_hides_others() {
        let whole = framed(FrameInfo::new());
        // One that is not compressed, and one of a token that stands for no bytes.
        for nothing in [&[0, 0, 0, 0x80][..], &[1, 0, 0, 0, 0x00]] {
            let parted = [&whole[..HEADER_SIZE], nothing, &whole[HEADER_SIZE..]].concat();
            assert_eq!(refused(&parted), "a block is empty");
        }
    }
}
