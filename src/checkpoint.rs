//! The text format of Kafka's checkpoint files: a version, the number of entries, one line per entry.
//!
//! ```text
//! 0
//! 2
//! orders 0 1500
//! orders 1 1498
//! ```
//!
//! Source: `CheckpointFile` of Apache Kafka.

use std::fmt::{Display, Write};
use std::str::FromStr;

use crate::error::CorruptionKind;

/// The only version there is.
const VERSION: i16 = 0;

/// The text of a file with these lines.
pub(crate) fn encode<Line: Display>(lines: impl ExactSizeIterator<Item = Line>) -> String {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

/// The lines behind version and number. An empty file has none, as in Kafka.
///
/// # Errors
///
/// [`CorruptionKind::Version`] for another version, [`CorruptionKind::Format`] if a number is missing or there are
/// more or fewer lines than it says.
pub(crate) fn decode(text: &str) -> Result<impl Iterator<Item = &str>, CorruptionKind> {
    let mut lines = text.lines();
    let Some(version) = lines.next() else { return Ok(lines) };
    let got = field(Some(version), "the version of a checkpoint is not a number")?;
    if got != VERSION {
        return Err(CorruptionKind::Version { expected: VERSION, got });
    }
    let count: usize = field(lines.next(), "the number of entries of a checkpoint is not a number")?;
    if lines.clone().count() != count {
        return Err(CorruptionKind::Format("a checkpoint has not as many entries as it says"));
    }
    Ok(lines)
}

/// A number in decimal, or `problem`.
pub(crate) fn field<N: FromStr>(field: Option<&str>, problem: &'static str) -> Result<N, CorruptionKind> {
    field.and_then(|field| field.trim_ascii().parse().ok()).ok_or(CorruptionKind::Format(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Result<Vec<&str>, CorruptionKind> {
        decode(text).map(Iterator::collect)
    }

    #[test]
    fn lines_come_back_as_they_were_written() {
        for expected in [&["a 1", "b 2"][..], &["a 1"], &[]] {
            assert_eq!(lines(&encode(expected.iter())).unwrap(), expected);
        }
        assert_eq!(encode(["a 1", "b 2"].iter()), "0\n2\na 1\nb 2\n");
    }

    #[test]
    fn an_empty_file_and_a_missing_last_line_end_are_fine() {
        assert_eq!(lines("").unwrap(), [""; 0]);
        assert_eq!(lines("0\n1\na 1").unwrap(), ["a 1"]);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let version = |got| CorruptionKind::Version { expected: 0, got };
        let count = CorruptionKind::Format("a checkpoint has not as many entries as it says");
        let number = CorruptionKind::Format("the number of entries of a checkpoint is not a number");
        let cases = [
            ("1\n0\n", version(1)),
            ("-1\n0\n", version(-1)),
            ("zero\n0\n", CorruptionKind::Format("the version of a checkpoint is not a number")),
            ("0", number.clone()),
            ("0\n-1\n", number.clone()),
            ("0\n18446744073709551616\n", number),
            ("0\n18446744073709551615\na\n", count.clone()),
            ("0\n2\na\n", count.clone()),
            ("0\n0\na\n", count),
        ];
        for (text, expected) in cases {
            assert_eq!(lines(text).unwrap_err(), expected, "{text:?}");
        }
    }
}
