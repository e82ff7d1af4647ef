//! gzip: one or several members back to back (RFC 1952).

use std::io::Write;

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{malformed, read_bounded};
use crate::batch::Compression::Gzip;
use crate::error::BatchError;

pub(super) fn compress(records: &[u8], output: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut encoder = GzEncoder::new(output, flate2::Compression::default());
    encoder.write_all(records).and_then(|()| encoder.try_finish()).map_err(|error| malformed(Gzip, &error))
}

pub(super) fn decompress(input: &[u8], limit: usize, output: &mut Vec<u8>) -> Result<(), BatchError> {
    read_bounded(MultiGzDecoder::new(input), limit, output).map_err(|error| malformed(Gzip, &error))
}
