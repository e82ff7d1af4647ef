//! zstd: one or several frames (RFC 8878).
//!
//! Frames are decompressed in one go, into memory that grows until they fit. A streaming decoder would allocate the
//! window that the frame's header asks for, up to 128 MiB for a few bytes of input. So how large that is has to be looked at
//! here: a consumer, which streams, takes no larger one.

use std::cell::RefCell;

use zstd::zstd_safe::{
    CCtx, DCtx, ErrorCode, compress_bound, find_frame_compressed_size, get_error_name,
    get_frame_content_size, zstd_sys::ZSTD_ErrorCode,
};

use super::malformed;
use crate::batch::Compression::Zstd;
use crate::error::BatchError;

/// The expansion that is tried first. Text takes 3 to 10 times its compressed size.
const FIRST_EXPANSION: usize = 8;
const FIRST_SIZE: usize = 4096;
const GROWTH: usize = 4;
const OUTPUT_TOO_SMALL: ErrorCode = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as ErrorCode).wrapping_neg();

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// In the byte behind the magic: the window is as large as the content, and has no descriptor.
const SINGLE_SEGMENT: u8 = 0x20;
/// What a decoder takes that was not told otherwise, in C and in Java: `ZSTD_MAXWINDOWSIZE_DEFAULT`.
const LARGEST_WINDOW: u64 = (1 << 27) + 1;

thread_local! {
    /// Making a context costs more than decompressing a batch (measured: 10 us, and 3 us for 1 KiB), so each thread that
    /// decompresses keeps one, of about 160 KiB.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

pub(super) fn compress(records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut compressed = Vec::with_capacity(compress_bound(records.len()));
    let mut context = CCtx::create();
    context.compress(&mut compressed, records, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(named)?;
    output.extend_from_slice(&compressed);
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    check_windows(input)?;
    CONTEXT.with_borrow_mut(|context| decompress_in(context, input, limit, output))
}

fn check_windows(input: &[u8]) -> Result<(), BatchError> {
    let mut rest = input;
    loop {
        if window_of(rest).is_some_and(|window| window > LARGEST_WINDOW) {
            return Err(malformed(Zstd, "the window is larger than 128 MiB"));
        }
        rest = &rest[find_frame_compressed_size(rest).map_err(named)?..];
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// The window that the frame asks for at the beginning of `frame`, if it is one that holds data.
fn window_of(frame: &[u8]) -> Option<u64> {
    let (&flags, &descriptor) = (frame.get(MAGIC.len())?, frame.get(MAGIC.len() + 1)?);
    if !frame.starts_with(&MAGIC) {
        return None;
    }
    if flags & SINGLE_SEGMENT != 0 {
        return get_frame_content_size(frame).ok()?;
    }
    let base = 1 << (10 + (descriptor >> 3));
    Some(base + base / 8 * u64::from(descriptor & 7))
}

fn decompress_in(
    context: &mut DCtx<'_>,
    input: &[u8],
    limit: usize,
    output: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let mut size = input.len().saturating_mul(FIRST_EXPANSION).max(FIRST_SIZE).max(output.capacity());
    loop {
        output.reserve_exact(size.min(limit));
        match context.decompress(output, input) {
            Ok(_) => return Ok(()),
            Err(OUTPUT_TOO_SMALL) if size < limit => size = size.saturating_mul(GROWTH),
            Err(OUTPUT_TOO_SMALL) => return Err(BatchError::DecompressedTooLarge { limit }),
            Err(code) => return Err(named(code)),
        }
    }
}

fn named(code: ErrorCode) -> BatchError {
    malformed(Zstd, get_error_name(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one block that is stored as it is, behind a window descriptor.
    fn frame(window: u8, bytes: &[u8]) -> Vec<u8> {
        let block = [(bytes.len() as u8) << 3 | 1, 0, 0];
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, window][..], &block, bytes].concat()
    }

    fn decompressed(input: &[u8]) -> Result<Vec<u8>, BatchError> {
        let mut output = Vec::new();
        decompress(input, 1 << 20, &mut output).map(|()| output)
    }

    /// A frame was taken whatever window it asks for, as it is decompressed in one go. Kafka's decoder streams, and refuses a
    /// window above 128 MiB, in each of the frames: the batch was stored, and no consumer could read it.
    #[test]
    fn a_window_that_no_consumer_takes_is_refused() {
        let descriptor = |log: u8, mantissa: u8| (log - 10) << 3 | mantissa;
        for (log, mantissa, is_taken) in
            [(10, 0, true), (27, 0, true), (27, 1, false), (28, 0, false), (41, 7, false)]
        {
            let asking = frame(descriptor(log, mantissa), b"abc");
            for input in [asking.clone(), [frame(0, b"abc"), asking].concat()] {
                let result = decompressed(&input);
                assert_eq!(result.is_ok(), is_taken, "{log} {mantissa}: {result:?}");
                assert!(is_taken || matches!(result, Err(BatchError::Decompression { codec: "zstd", .. })));
            }
        }
    }

    #[test]
    fn a_frame_to_be_skipped_is_skipped() {
        let skipped = [0x5f, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, b'n', b'o'];
        let input = [&frame(0, b"abc")[..], &skipped, &frame(0, b"def")].concat();
        assert_eq!(decompressed(&input).unwrap(), b"abcdef");
    }

    #[test]
    fn a_frame_that_expands_a_thousandfold_is_read() {
        let zeros = vec![0; 1 << 22];
        let mut input = Vec::new();
        compress(&zeros, &mut input).unwrap();
        assert!(input.len() < zeros.len() / 1000);
        let mut output = Vec::new();
        decompress(&input, zeros.len(), &mut output).unwrap();
        assert!(output == zeros);
    }
}
