//! Zig-zag varints, as the fields of a record use them: seven bits a byte, the lowest first.
//!
//! Like Kafka, the readers take encodings longer than needed, up to 5 (varint) or 10 (varlong) bytes, and drop the bits
//! that do not fit. They give `None` where the bytes end early or the number does not end in time.

const CONTINUES: u8 = 0x80;
const MAX_VARINT: usize = 5;
const MAX_VARLONG: usize = 10;

/// Reads a 32-bit number at `at` and moves `at` behind it.
#[inline(always)]
pub(super) fn read_varint(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let number = read_unsigned(bytes, at, MAX_VARINT)? as u32;
    Some((number >> 1) as i32 ^ -((number & 1) as i32))
}

/// Reads a 64-bit number at `at` and moves `at` behind it.
#[inline(always)]
pub(super) fn read_varlong(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let number = read_unsigned(bytes, at, MAX_VARLONG)?;
    Some((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// One byte is by far the most frequent size, so only that case is inlined.
#[inline(always)]
fn read_unsigned(bytes: &[u8], at: &mut usize, max_size: usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < CONTINUES {
        *at += 1;
        return Some(u64::from(first));
    }
    let (number, size) = read_longer(&bytes[*at..], max_size)?;
    *at += size;
    Some(number)
}

#[inline]
fn read_longer(bytes: &[u8], max_size: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for (index, &byte) in bytes.iter().take(max_size).enumerate() {
        number |= u64::from(byte & !CONTINUES) << (7 * index);
        if byte < CONTINUES {
            return Some((number, index + 1));
        }
    }
    None
}

/// Appends a 32-bit number.
pub(super) fn write_varint(out: &mut Vec<u8>, number: i32) {
    write_varlong(out, i64::from(number));
}

/// Appends a 64-bit number.
pub(super) fn write_varlong(out: &mut Vec<u8>, number: i64) {
    let mut rest = zigzag(number);
    while rest >= u64::from(CONTINUES) {
        out.push(rest as u8 | CONTINUES);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The bytes that a number takes. A 32-bit number takes the same as a varint and as a varlong.
pub(super) fn size_of(number: i64) -> usize {
    let bits = u64::BITS - (zigzag(number) | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [(i64, &[u8]); 12] = [
        (0, &[0]),
        (-1, &[1]),
        (1, &[2]),
        (-64, &[0x7f]),
        (63, &[0x7e]),
        (64, &[0x80, 0x01]),
        (-65, &[0x81, 0x01]),
        (8191, &[0xfe, 0x7f]),
        (i32::MAX as i64, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        (i32::MIN as i64, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        (i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ];

    #[test]
    fn a_number_is_written_as_expected_and_read_back() {
        for (number, encoded) in EDGES {
            let mut out = Vec::new();
            write_varlong(&mut out, number);
            assert_eq!(out, encoded, "{number}");
            assert_eq!(size_of(number), encoded.len(), "{number}");
            let mut at = 0;
            assert_eq!(read_varlong(encoded, &mut at), Some(number));
            assert_eq!(at, encoded.len());
            if let Ok(small) = i32::try_from(number) {
                assert_eq!(read_varint(encoded, &mut 0), Some(small));
            }
        }
    }

    #[test]
    fn a_number_cut_short_is_none() {
        for (number, encoded) in EDGES {
            for length in 0..encoded.len() {
                assert_eq!(read_varlong(&encoded[..length], &mut 0), None, "{number} cut to {length}");
                assert_eq!(read_varint(&encoded[..length], &mut 0), None, "{number} cut to {length}");
            }
        }
        assert_eq!(read_varint(&[0], &mut 1), None);
        assert_eq!(read_varint(&[0], &mut 2), None);
    }

    #[test]
    fn a_longer_encoding_than_needed_is_read_up_to_the_limit() {
        assert_eq!(read_varint(&[0x82, 0x80, 0x80, 0x80, 0x00], &mut 0), Some(1));
        assert_eq!(read_varint(&[0x82, 0x80, 0x80, 0x80, 0x80, 0x00], &mut 0), None);
        let mut longest = [0x80; 10];
        longest[9] = 0;
        assert_eq!(read_varlong(&longest, &mut 0), Some(0));
        assert_eq!(read_varlong(&[0x80; 11], &mut 0), None);
    }

    #[test]
    fn bits_that_do_not_fit_are_dropped() {
        assert_eq!(read_varint(&[0xfe, 0xff, 0xff, 0xff, 0x7f], &mut 0), Some(i32::MAX));
        let mut full = [0xff; 10];
        full[9] = 0x7f;
        assert_eq!(read_varlong(&full, &mut 0), Some(i64::MIN));
    }
}
