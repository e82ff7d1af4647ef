//! What goes between the two processes: frames over the child's standard input and output.
//!
//! A frame is its length (4 bytes), a kind (1), three numbers (8 each) and a body, all big endian.

use std::io::{self, Read, Write};
use std::time::Duration;

/// Kind, numbers and body.
type Frame = (u8, [i64; 3], Vec<u8>);

/// The size of kind and numbers.
const FRAME_HEADER: usize = 25;
/// The largest frame that is taken.
const MAX_FRAME: usize = 16 << 20;

/// Which batch a request or an answer is about: the lane that it was sent on, and its first record's number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchKey {
    pub(crate) lane: usize,
    pub(crate) first_number: u64,
}

/// What the clients ask.
pub(crate) enum Request {
    NewProducerId,
    Append { partition: usize, key: BatchKey, batch: Vec<u8> },
    Close,
}

/// What the server answers.
pub(crate) enum Response {
    /// The first thing it says: the directory is open.
    Opened {
        elapsed: Duration,
        report: String,
    },
    ProducerId(i64),
    Acknowledged(Acknowledgement),
    Refused {
        key: BatchKey,
        error: String,
    },
}

/// A batch is stored, now or since it was sent before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledgement {
    pub(crate) key: BatchKey,
    pub(crate) base_offset: i64,
    pub(crate) is_duplicate: bool,
}

impl Request {
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::NewProducerId => write_frame(to, b'p', [0; 3], &[]),
            Self::Append { partition, key, batch } => {
                let numbers = [*partition as i64, key.lane as i64, key.first_number as i64];
                write_frame(to, b'a', numbers, batch)
            }
            Self::Close => write_frame(to, b'c', [0; 3], &[]),
        }
    }

    /// `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, [partition, lane, number], body)) = read_frame(from)? else { return Ok(None) };
        Ok(Some(match kind {
            b'p' => Self::NewProducerId,
            b'a' => Self::Append { partition: partition as usize, key: batch_key(lane, number), batch: body },
            b'c' => Self::Close,
            _ => return Err(unknown(kind)),
        }))
    }
}

impl Response {
    pub(crate) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Opened { elapsed, report } => {
                write_frame(to, b'o', [elapsed.as_nanos() as i64, 0, 0], report.as_bytes())
            }
            Self::ProducerId(id) => write_frame(to, b'p', [*id, 0, 0], &[]),
            Self::Acknowledged(Acknowledgement { key, base_offset, is_duplicate }) => {
                let kind = if *is_duplicate { b'd' } else { b's' };
                write_frame(to, kind, [key.lane as i64, key.first_number as i64, *base_offset], &[])
            }
            Self::Refused { key, error } => {
                write_frame(to, b'r', [key.lane as i64, key.first_number as i64, 0], error.as_bytes())
            }
        }
    }

    /// `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some((kind, [first, second, third], body)) = read_frame(from)? else { return Ok(None) };
        let text = || String::from_utf8_lossy(&body).into_owned();
        let key = batch_key(first, second);
        Ok(Some(match kind {
            b'o' => Self::Opened { elapsed: Duration::from_nanos(first as u64), report: text() },
            b'p' => Self::ProducerId(first),
            b's' | b'd' => {
                Self::Acknowledged(Acknowledgement { key, base_offset: third, is_duplicate: kind == b'd' })
            }
            b'r' => Self::Refused { key, error: text() },
            _ => return Err(unknown(kind)),
        }))
    }
}

fn batch_key(lane: i64, number: i64) -> BatchKey {
    BatchKey { lane: lane as usize, first_number: number as u64 }
}

fn unknown(kind: u8) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a frame of the unknown kind {kind}"))
}

fn write_frame(to: &mut impl Write, kind: u8, numbers: [i64; 3], body: &[u8]) -> io::Result<()> {
    to.write_all(&((FRAME_HEADER + body.len()) as u32).to_be_bytes())?;
    to.write_all(&[kind])?;
    numbers.iter().try_for_each(|number| to.write_all(&number.to_be_bytes()))?;
    to.write_all(body)
}

fn read_frame(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if !(FRAME_HEADER..=MAX_FRAME).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let mut header = [0; FRAME_HEADER];
    from.read_exact(&mut header)?;
    let mut body = vec![0; length - FRAME_HEADER];
    from.read_exact(&mut body)?;
    let mut numbers = [0; 3];
    for (number, bytes) in numbers.iter_mut().zip(header[1..].as_chunks::<8>().0) {
        *number = i64::from_be_bytes(*bytes);
    }
    Ok(Some((header[0], numbers, body)))
}
