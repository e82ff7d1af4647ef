//! zstd: one or several frames (RFC 8878).
//!
//! Frames are decompressed in one go, into memory that grows until they fit. A streaming decoder would allocate the
//! window that the frame's header asks for, up to 128 MiB for a few bytes of input.

use std::cell::RefCell;

use zstd::zstd_safe::{CCtx, DCtx, ErrorCode, compress_bound, get_error_name, zstd_sys::ZSTD_ErrorCode};

use super::malformed;
use crate::batch::Compression::Zstd;
use crate::error::BatchError;

/// The expansion that is tried first. Text takes 3 to 10 times its compressed size.
const FIRST_EXPANSION: usize = 8;
const FIRST_SIZE: usize = 4096;
const GROWTH: usize = 4;
const OUTPUT_TOO_SMALL: ErrorCode = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as ErrorCode).wrapping_neg();

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
    CONTEXT.with_borrow_mut(|context| decompress_in(context, input, limit, output))
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
