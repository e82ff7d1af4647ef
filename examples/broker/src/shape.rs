//! A look at a request before it is decoded, because the decoder reserves memory for as many elements as an array
//! claims to have.
//!
//! Only arrays matter: what has none needs no look, and what follows the last one is left to the decoder.

use bytes::{Buf, TryGetError};
use kafka_protocol::messages::ApiKey;

use Field::{Array, Bytes, CompactArray, CompactString, Fixed, Since, String, Tags};

/// How many array elements one request may have.
const MAX_ELEMENTS: usize = 100_000;

/// One field, or several in a row.
enum Field {
    /// So many bytes.
    Fixed(usize),
    /// Two bytes of length first.
    String,
    /// Four bytes of length first.
    Bytes,
    /// Four bytes of count, then as many times these fields.
    Array(&'static [Field]),
    /// A variable-length integer first, the length plus one.
    CompactString,
    /// A variable-length integer first, the count plus one.
    CompactArray(&'static [Field]),
    /// Fields that the schema does not know: their count, then number, length and bytes of each.
    Tags,
    /// There from this version on.
    Since(i16, &'static Field),
}

const PRODUCE: &[Field] = &[String, Fixed(6), Array(&[String, Array(&[Fixed(4), Bytes])])];

const FETCH: &[Field] = &[
    Fixed(17),
    Since(7, &Fixed(8)),
    Array(&[String, Array(&[Fixed(4), Since(9, &Fixed(4)), Fixed(8), Since(5, &Fixed(8)), Fixed(4)])]),
    Since(7, &Array(&[String, Array(&[Fixed(4)])])),
];

const LIST_OFFSETS: &[Field] =
    &[Fixed(4), Since(2, &Fixed(1)), Array(&[String, Array(&[Fixed(4), Since(4, &Fixed(4)), Fixed(8)])])];

/// From version 6 on.
const COMPACT_LIST_OFFSETS: &[Field] =
    &[Fixed(5), CompactArray(&[CompactString, CompactArray(&[Fixed(16), Tags]), Tags]), Tags];

const CREATE_TOPICS: &[Field] =
    &[Array(&[String, Fixed(6), Array(&[Fixed(4), Array(&[Fixed(4)])]), Array(&[String, String])])];

const NAMES: &[Field] = &[Array(&[String])];

const ADD_PARTITIONS_TO_TXN: &[Field] = &[String, Fixed(10), Array(&[String, Array(&[Fixed(4)])])];

const DESCRIBE_PRODUCERS: &[Field] = &[CompactArray(&[CompactString, CompactArray(&[Fixed(4)]), Tags]), Tags];

fn fields(api: ApiKey, version: i16) -> &'static [Field] {
    match api {
        ApiKey::Produce => PRODUCE,
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets if version < 6 => LIST_OFFSETS,
        ApiKey::ListOffsets => COMPACT_LIST_OFFSETS,
        ApiKey::CreateTopics => CREATE_TOPICS,
        ApiKey::Metadata | ApiKey::DeleteTopics => NAMES,
        ApiKey::AddPartitionsToTxn => ADD_PARTITIONS_TO_TXN,
        ApiKey::DescribeProducers => DESCRIBE_PRODUCERS,
        _ => &[],
    }
}

/// Refuses a request whose arrays claim more elements than are there, or than one request may have.
pub(crate) fn check(api: ApiKey, version: i16, body: &[u8]) -> anyhow::Result<()> {
    Walk { version, rest: body, elements: 0 }.fields(fields(api, version))
}

struct Walk<'a> {
    version: i16,
    rest: &'a [u8],
    elements: usize,
}

impl Walk<'_> {
    fn fields(&mut self, fields: &[Field]) -> anyhow::Result<()> {
        fields.iter().try_for_each(|field| self.field(field))
    }

    fn field(&mut self, field: &Field) -> anyhow::Result<()> {
        match *field {
            Fixed(length) => self.skip(length),
            String => {
                let length = self.rest.try_get_i16()?;
                self.skip(length_or_null(length.into())?)
            }
            Bytes => {
                let length = self.rest.try_get_i32()?;
                self.skip(length_or_null(length)?)
            }
            Array(element) => {
                let count = length_or_null(self.rest.try_get_i32()?)?;
                self.elements(count, element)
            }
            CompactString => {
                let length = self.varint()?.saturating_sub(1);
                self.skip(length)
            }
            CompactArray(element) => {
                let count = self.varint()?.saturating_sub(1);
                self.elements(count, element)
            }
            Tags => {
                let count = self.varint()?;
                (0..count).try_for_each(|_| self.tag())
            }
            Since(version, _) if self.version < version => Ok(()),
            Since(_, field) => self.field(field),
        }
    }

    fn elements(&mut self, count: usize, element: &[Field]) -> anyhow::Result<()> {
        self.elements = self.elements.saturating_add(count);
        anyhow::ensure!(self.elements <= MAX_ELEMENTS, "{} elements in a request", self.elements);
        (0..count).try_for_each(|_| self.fields(element))
    }

    fn tag(&mut self) -> anyhow::Result<()> {
        let _number = self.varint()?;
        let length = self.varint()?;
        self.skip(length)
    }

    /// Seven bits a byte, the lowest first; of 32 bits in all.
    fn varint(&mut self) -> anyhow::Result<usize> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let byte = self.rest.try_get_u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        anyhow::bail!("a variable-length integer of more than 5 bytes")
    }

    fn skip(&mut self, length: usize) -> anyhow::Result<()> {
        let available = self.rest.len();
        if length > available {
            return Err(TryGetError { requested: length, available }.into());
        }
        self.rest.advance(length);
        Ok(())
    }
}

/// -1 stands for null, which has no elements.
fn length_or_null(length: i32) -> anyhow::Result<usize> {
    if length == -1 { Ok(0) } else { Ok(usize::try_from(length)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_claims_more_than_is_there_is_refused() {
        for count in [1_i32, 1_000, i32::MAX, -2, i32::MIN] {
            assert!(check(ApiKey::DeleteTopics, 1, &count.to_be_bytes()).is_err(), "{count}");
        }
        for count in [0_i32, -1] {
            check(ApiKey::DeleteTopics, 1, &count.to_be_bytes()).unwrap();
        }
    }

    #[test]
    fn an_array_inside_of_another_is_looked_at_too() {
        let mut request = vec![0, 0, 0, 1, 0, 1, b't'];
        request.splice(..0, [0xff, 0xff, 0, 1, 0, 0, 0, 0]);
        request.extend(i32::MAX.to_be_bytes());
        assert!(check(ApiKey::Produce, 3, &request).is_err());
        let at = request.len() - 4;
        request[at..].fill(0);
        check(ApiKey::Produce, 3, &request).unwrap();
    }

    #[test]
    fn a_compact_array_counts_one_more_than_it_has() {
        let describe = |bytes: &[u8]| check(ApiKey::DescribeProducers, 0, bytes);
        for request in [&[0, 0][..], &[1, 0], &[2, 2, b't', 2, 0, 0, 0, 1, 0, 0], &[1, 1, 9, 2, b'x', b'y']] {
            describe(request).unwrap();
        }
        let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
        let refused = [
            &[][..],
            &[2, 0],
            &[2, 2, b't', 3, 0, 0, 0, 1, 0, 0],
            &[1, 1, 9, 3, b'x', b'y'],
            &most,
            &[0xff; 6],
        ];
        refused.iter().for_each(|request| assert!(describe(request).is_err(), "{request:?}"));
    }

    #[test]
    fn a_request_has_no_more_elements_than_allowed() {
        let names = |count: usize| {
            let mut request = (count as u32).to_be_bytes().to_vec();
            request.resize(4 + 2 * count, 0);
            check(ApiKey::Metadata, 1, &request)
        };
        names(MAX_ELEMENTS).unwrap();
        assert!(names(MAX_ELEMENTS + 1).is_err());
    }
}
