//! lz4: one frame of independent blocks of 64 KiB, which every client reads.

use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::{malformed, read_bounded};
use crate::batch::Compression::Lz4;
use crate::error::BatchError;

pub(super) fn compress(records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let frame = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    encoder.write_all(records).map_err(|error| malformed(Lz4, &error))?;
    encoder.finish().map(|_| ()).map_err(|error| malformed(Lz4, &error))
}

/// Besides `output` the decoder holds two blocks, of 8 MiB at most.
pub(super) fn decompress(input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    read_bounded(FrameDecoder::new(input), limit, output).map_err(|error| malformed(Lz4, &error))
}
