//! Frames: four bytes of length, then a request or a response.

use std::io;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::Encodable;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest request that is read. Batches may have 1 MiB; a request may hold several, for several partitions.
pub(crate) const MAX_REQUEST: usize = 16 << 20;
/// How much memory a request gets before its bytes are there.
const FIRST_ALLOCATION: usize = 64 << 10;

/// The next request's bytes. `None` if the client has closed the connection.
pub(crate) async fn read(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    let length = match reader.read_i32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_REQUEST).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a request of {length} bytes, expected at most {MAX_REQUEST}"),
        )
    })?;
    let mut bytes = BytesMut::with_capacity(length.min(FIRST_ALLOCATION));
    let mut reader = reader.take(length as u64);
    while bytes.len() < length {
        if reader.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(bytes.freeze()))
}

/// A response: parts that are sent one behind the other, so that batches go from the log's map to the socket without
/// being copied into a buffer of ours.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    parts: Vec<Bytes>,
    open: BytesMut,
}

impl Frame {
    /// Adds a message, or a part of one.
    pub(crate) fn encode(&mut self, message: &impl Encodable, version: i16) -> anyhow::Result<()> {
        message.encode(&mut self.open, version)
    }

    /// Changes the four bytes added last, the count of an empty array or the length of no bytes, to announce what the
    /// caller adds next.
    pub(crate) fn announce(&mut self, length: usize) -> anyhow::Result<()> {
        let at = self.open.len() - size_of::<i32>();
        self.open[at..].copy_from_slice(&i32::try_from(length)?.to_be_bytes());
        Ok(())
    }

    /// Adds bytes by reference.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.parts.push(self.open.split().freeze());
        self.parts.push(bytes);
    }

    /// Sends the frame.
    pub(crate) async fn write(mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        self.parts.push(self.open.freeze());
        let length: usize = self.parts.iter().map(Bytes::len).sum();
        writer.write_i32(i32::try_from(length).map_err(io::Error::other)?).await?;
        for part in &self.parts {
            writer.write_all(part).await?;
        }
        writer.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_behind_its_length() {
        let mut sent: &[u8] = &[0, 0, 0, 2, 7, 8, 0, 0];
        assert_eq!(read(&mut sent).await.unwrap().unwrap(), [7, 8].as_slice());
        assert_eq!(read(&mut sent).await.unwrap(), None, "a length that is not whole");
    }

    #[tokio::test]
    async fn a_request_of_an_impossible_length_is_refused() {
        for length in [-1, i32::MIN, i32::MAX, MAX_REQUEST as i32 + 1] {
            let error = read(&mut length.to_be_bytes().as_slice()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    #[tokio::test]
    async fn a_request_that_ends_early_is_an_error() {
        let error = read(&mut [0, 0, 0, 9, 1].as_slice()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn parts_are_sent_one_behind_the_other() {
        let mut frame = Frame::default();
        frame.open.extend_from_slice(&[1, 0, 0, 0, 0]);
        frame.announce(3).unwrap();
        frame.append(Bytes::from_static(b"abc"));
        frame.open.extend_from_slice(&[2]);
        let mut sent = Vec::new();
        frame.write(&mut sent).await.unwrap();
        assert_eq!(sent, b"\0\0\0\x09\x01\0\0\0\x03abc\x02");
    }
}
