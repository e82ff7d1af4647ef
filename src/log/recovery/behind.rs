//! What lies behind the last valid batch of a segment. Looked at in pieces: as much as a segment may have been allocated ahead, and
//! all of a file may be of somebody's making.

use bytes::Bytes;

use crate::batch::{BatchHeader, layout};
use crate::crc::{crc32c, crc32c_append};
use crate::error::Result;
use crate::segment::{LogFile, Segment};

/// How much is looked at together.
pub(super) const PIECE: u64 = 1 << 20;

/// How many bytes are looked at that turn out to be no batch, besides as many as there are a few times.
const PATIENCE: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Bytes up to the last one that is not zero, or that a valid batch needs.
    pub(super) bytes: u64,
    /// Valid batches among them.
    pub(super) batches: u64,
    /// Where the last of those begins.
    last: Option<u64>,
}

/// Looks through the bytes of `segment` from `position` on.
pub(super) fn behind(segment: &Segment, position: u64) -> Result<Behind> {
    let file = segment.file();
    let mut end = end_of_bytes(file, position)?;
    // In bytes that a client chose, each may begin what looks like a batch of megabytes. Who makes them so has nothing kept.
    let mut patience = PATIENCE + 4 * (end - position);
    let mut window = Window { file, start: 0, bytes: Bytes::new() };
    let (mut batches, mut last) = (0, None);
    // The one at `position` is valid too if it was refused for its place only.
    let mut at = position;
    while at < end && at + layout::HEADER_SIZE as u64 <= file.end() {
        match window.valid_batch(at, &mut patience)? {
            Some(size) => {
                batches += 1;
                last = Some(at);
                at += size;
                // A batch without record headers ends in a zero.
                end = end.max(at);
            }
            None => at += 1,
        }
    }
    Ok(Behind { bytes: end - position, batches, last })
}

/// Where the last valid batch begins of those in a segment from `position` on, whatever lies between them.
pub(crate) fn last_valid_batch(segment: &Segment, position: u64) -> Result<Option<u64>> {
    behind(segment, position).map(|behind| behind.last)
}

/// The position behind the last byte that is not zero; `from` if there is none behind it.
fn end_of_bytes(file: &LogFile, from: u64) -> Result<u64> {
    let mut end = file.end();
    while end > from {
        let start = end.saturating_sub(PIECE).max(from);
        match without_zeros(&file.bytes(start, end)?).len() as u64 {
            0 => end = start,
            len => return Ok(start + len),
        }
    }
    Ok(from)
}

/// `bytes` up to the last one that is not zero. Tens of megabytes of zeros are common, so they are looked at in runs,
/// which the compiler makes fast.
fn without_zeros(mut bytes: &[u8]) -> &[u8] {
    const RUN: usize = 4096;
    while let Some((rest, run)) = bytes.split_last_chunk::<RUN>() {
        if run.iter().fold(0, |any, byte| any | byte) != 0 {
            break;
        }
        bytes = rest;
    }
    let len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..len]
}

/// A piece of a file.
struct Window<'a> {
    file: &'a LogFile,
    start: u64,
    bytes: Bytes,
}

impl Window<'_> {
    /// The bytes from `at` on, a header's at least, which the file has.
    fn from(&mut self, at: u64) -> Result<&[u8]> {
        let is_here =
            self.start <= at && at + layout::HEADER_SIZE as u64 <= self.start + self.bytes.len() as u64;
        if !is_here {
            (self.start, self.bytes) = (at, self.file.bytes(at, at + PIECE)?);
        }
        Ok(&self.bytes[(at - self.start) as usize..])
    }

    /// The size of the batch that begins at `at`, if one does. What it takes to see that none does is taken from `patience`;
    /// without any none does.
    fn valid_batch(&mut self, at: u64, patience: &mut u64) -> Result<Option<u64>> {
        let file = self.file;
        let bytes = self.from(at)?;
        if bytes[layout::MAGIC] as i8 != layout::MAGIC_V2 {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::decode(bytes) else { return Ok(None) };
        let size = header.size() as u64;
        let Some(left) = patience.checked_sub(size).filter(|_| at + size <= file.end()) else {
            return Ok(None);
        };
        let crc = match bytes.get(layout::ATTRIBUTES..header.size()) {
            Some(covered) => crc32c(covered),
            None => crc_of(file, at + layout::ATTRIBUTES as u64, at + size)?,
        };
        if crc != header.crc {
            *patience = left;
            return Ok(None);
        }
        Ok(Some(size))
    }
}

/// The CRC-32C of the bytes in [`from`, `to`).
fn crc_of(file: &LogFile, from: u64, to: u64) -> Result<u32> {
    (from..to)
        .step_by(PIECE as usize)
        .try_fold(0, |crc, start| Ok(crc32c_append(crc, &file.bytes(start, to.min(start + PIECE))?)))
}
