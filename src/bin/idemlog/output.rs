//! Where lines go, and what becomes of those that nobody reads any more.

use std::fmt::Display;
use std::io::{ErrorKind, Result, Write};

/// The output of a command that judges. Its reader may have seen enough, as `grep -q` has: then nothing more is written, and the
/// command goes on to its verdict.
pub(crate) struct UntilUnread<W>(Option<W>);

impl<W: Write> UntilUnread<W> {
    pub(crate) fn new(out: W) -> Self {
        Self(Some(out))
    }

    fn unless_unread<T>(&mut self, unread: T, write: impl FnOnce(&mut W) -> Result<T>) -> Result<T> {
        let Some(out) = &mut self.0 else { return Ok(unread) };
        match write(out) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(unread)
            }
            written => written,
        }
    }
}

impl<W: Write> Write for UntilUnread<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.unless_unread(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> Result<()> {
        self.unless_unread((), W::flush)
    }
}

/// Says something beside the output. That nobody reads it is no reason to stop, as `eprintln` would.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "idemlog: {line}");
}
