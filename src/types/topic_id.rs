//! The id of a topic, and its text. Source: `Uuid` of Apache Kafka.

use std::fmt;
use std::str::FromStr;

use crate::error::CorruptionKind;

/// Tells a topic from one of the same name that was deleted before: 16 bytes, written as Kafka writes them, in base64
/// for URLs without padding.
///
/// ```
/// use idemlog::TopicId;
///
/// let id: TopicId = "AAAAAAAAAAEAAAAAAAAAAg".parse()?;
/// assert_eq!(id.0[7], 1);
/// assert_eq!(id.0[15], 2);
/// assert_eq!(id.to_string(), "AAAAAAAAAAEAAAAAAAAAAg");
/// # Ok::<(), idemlog::CorruptionKind>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// No topic: what Kafka's protocol sends in place of an id that is not known. No partition belongs to it.
    pub const ZERO: Self = Self([0; 16]);

    /// The digits of an id; the last one has its low four bits clear.
    const DIGITS: usize = 22;
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The bits of the last digit that lie behind the id's 128.
const SPARE_BITS: u32 = 4;

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u128::from_be_bytes(self.0);
        let mut digits = String::with_capacity(Self::DIGITS);
        for digit in 0..Self::DIGITS as u32 - 1 {
            digits.push(char::from(ALPHABET[(number >> (122 - 6 * digit)) as usize & 0x3f]));
        }
        digits.push(char::from(ALPHABET[(number << SPARE_BITS) as usize & 0x3f]));
        f.pad(&digits)
    }
}

impl FromStr for TopicId {
    type Err = CorruptionKind;

    fn from_str(text: &str) -> Result<Self, CorruptionKind> {
        const PROBLEM: CorruptionKind =
            CorruptionKind::Format("a topic id is not 22 digits of base64 for URLs");
        let [leading @ .., last] = text.as_bytes() else { return Err(PROBLEM) };
        let last = value_of(*last).filter(|last| last & 0xf == 0).ok_or(PROBLEM)?;
        if text.len() != Self::DIGITS {
            return Err(PROBLEM);
        }
        let mut number = 0;
        for &digit in leading {
            number = number << 6 | value_of(digit).ok_or(PROBLEM)?;
        }
        Ok(Self((number << (6 - SPARE_BITS) | last >> SPARE_BITS).to_be_bytes()))
    }
}

fn value_of(digit: u8) -> Option<u128> {
    ALPHABET.iter().position(|&known| known == digit).map(|value| value as u128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_written_as_kafka_writes_it() {
        let mut one_and_two = [0; 16];
        (one_and_two[7], one_and_two[15]) = (1, 2);
        // The second and third are RFC 4648's digits of 0xff and of the bytes 0 to 15.
        let cases = [
            (one_and_two, "AAAAAAAAAAEAAAAAAAAAAg"),
            ([0xff; 16], "_____________________w"),
            (std::array::from_fn(|byte| byte as u8), "AAECAwQFBgcICQoLDA0ODw"),
            ([0xfb; 16], "-_v7-_v7-_v7-_v7-_v7-w"),
        ];
        for (bytes, text) in cases {
            assert_eq!(TopicId(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(TopicId(bytes)));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let cases = [
            ("", "nothing"),
            ("AAAAAAAAAAEAAAAAAAAAA", "21 digits"),
            ("AAAAAAAAAAEAAAAAAAAAAgA", "23 digits"),
            ("AAAAAAAAAAEAAAAAAAAAAg==", "padding"),
            ("AAAAAAAAAAEAAAAAAAAAAh", "bits behind the last byte"),
            ("AAAAAAAAAA+AAAAAAAAAAg", "a digit of plain base64"),
            ("AAAAAAAAAAEAAAAAAAAA\u{e9}g", "a letter that is not ASCII"),
        ];
        for (text, what) in cases {
            assert!(text.parse::<TopicId>().is_err(), "{what}");
        }
    }

    proptest! {
        #[test]
        fn any_id_survives_its_text(bytes: [u8; 16]) {
            prop_assert_eq!(TopicId(bytes).to_string().parse(), Ok(TopicId(bytes)));
        }

        #[test]
        fn any_text_that_is_an_id_is_its_only_text(text in "[A-Za-z0-9_-]{21}[AQgw]") {
            prop_assert_eq!(text.parse::<TopicId>().unwrap().to_string(), text);
        }
    }
}
