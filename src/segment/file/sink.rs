//! Where batches are appended to a `.log` file, and what the log stamps into them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::LogFile;
use crate::batch::BatchHeader;
use crate::fs::{DiskFile, MapWriter};
use crate::types::{LeaderEpoch, Offset};

/// The unique right to append to a [`LogFile`].
#[derive(Debug)]
pub(crate) enum Sink {
    Map(MapWriter),
    /// Batches are put together in the buffer, so that each call is one `pwrite`.
    File(Arc<dyn DiskFile>, Vec<u8>),
}

impl Sink {
    /// Where the bytes that it can take end: a map's size stays what it was made with.
    pub(crate) fn capacity(&self) -> u64 {
        match self {
            Self::Map(writer) => writer.map().capacity() as u64,
            Self::File(..) => u64::MAX,
        }
    }

    /// Copies one batch to `position`, behind the published end, with the log's stamps in place of the sender's bytes.
    ///
    /// # Errors
    ///
    /// The disk's, in [`IoMode::Write`](crate::IoMode); nothing is published.
    #[inline(always)]
    pub(crate) fn write(&mut self, position: u64, stamps: &Stamps, batch: &[u8]) -> io::Result<()> {
        let head = stamps.over(batch);
        match self {
            Self::Map(writer) => writer.store_headed(position as usize, head, batch),
            Self::File(_, buffer) => {
                put_together(buffer, head, batch);
                Ok(())
            }
        }
    }

    /// Hands the batches written since `from` to the operating system; there they survive the process.
    #[inline]
    pub(crate) fn flush(&mut self, from: u64) -> io::Result<()> {
        match self {
            Self::Map(_) => Ok(()),
            Self::File(file, buffer) => flush(&**file, buffer, from),
        }
    }

    /// Forgets batches that were written but not flushed.
    pub(crate) fn discard(&mut self) {
        if let Self::File(_, buffer) = self {
            buffer.clear();
        }
    }

    /// Publishes everything below `end`: from here on it never changes.
    #[inline]
    pub(crate) fn publish(&mut self, file: &LogFile, end: u64) {
        if let Self::Map(writer) = self {
            writer.publish(end as usize);
        }
        file.end.store(end, Ordering::Release);
    }
}

#[inline(never)]
fn put_together(buffer: &mut Vec<u8>, head: u128, batch: &[u8]) {
    buffer.extend_from_slice(&head.to_be_bytes());
    buffer.extend_from_slice(batch.get(size_of_val(&head)..).unwrap_or_default());
}

#[inline(never)]
fn flush(file: &dyn DiskFile, buffer: &mut Vec<u8>, from: u64) -> io::Result<()> {
    let written = file.write_at(buffer, from);
    buffer.clear();
    written
}

/// What the log writes into a batch: its base offset and leader epoch. The CRC covers neither.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamps {
    pub(crate) base_offset: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
}

impl Stamps {
    /// Those that a batch has already.
    pub(crate) fn of(header: &BatchHeader) -> Self {
        Self { base_offset: header.base_offset, leader_epoch: header.leader_epoch }
    }

    /// What a stored batch begins with: base offset, the length as sent, leader epoch.
    #[inline(always)]
    fn over(&self, batch: &[u8]) -> u128 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = *batch else { return 0 };
        let length = u128::from(u32::from_be_bytes([a, b, c, d]));
        let base_offset = u128::from(self.base_offset.0 as u64);
        let leader_epoch = u128::from(self.leader_epoch.0 as u32);
        base_offset << 64 | length << 32 | leader_epoch
    }
}
