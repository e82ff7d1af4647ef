//! What the bytes of a batch are held by.

use std::ops::{Deref, Range};

use bytes::{Buf, Bytes};

/// What the bytes of a batch, and of its records, are held by: [`Bytes`], which keep the memory that they lie in, or
/// `&[u8]`, which borrow it, and spare an atomic operation wherever something is handed out.
///
/// No other type has it. What holds bytes can be cloned, and gives them by `Deref`; whatever else it can do may change.
pub trait BatchBytes: Held {}

impl BatchBytes for Bytes {}
impl BatchBytes for &[u8] {}

/// What both can do. Nothing copies a byte.
#[doc(hidden)]
pub trait Held: Buf + Clone + Default + Deref<Target = [u8]> {
    /// A part of the bytes, which must be there.
    #[must_use]
    fn part(&self, range: Range<usize>) -> Self;

    /// Takes the first bytes, which must be there, and leaves the rest.
    #[must_use]
    fn take_first(&mut self, count: usize) -> Self;
}

impl Held for Bytes {
    #[inline(always)]
    fn part(&self, range: Range<usize>) -> Self {
        self.slice(range)
    }

    #[inline(always)]
    fn take_first(&mut self, count: usize) -> Self {
        self.split_to(count)
    }
}

impl Held for &[u8] {
    #[inline(always)]
    fn part(&self, range: Range<usize>) -> Self {
        &self[range]
    }

    #[inline(always)]
    fn take_first(&mut self, count: usize) -> Self {
        let (first, rest) = self.split_at(count);
        *self = rest;
        first
    }
}
