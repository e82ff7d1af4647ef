//! Storage that grows without ever moving what it holds, and gives memory back as it shrinks.
//!
//! A [`Slab`] is a dense array of blocks of equal length, in chunks: pushing allocates a chunk now and then and copies
//! nothing, removing moves the last block into the hole. A [`Pool`] is a slab whose blocks know which entry of the table
//! they belong to, so that the entry can be told when its block moved.

/// Stands for "no slot" in every link between slots.
pub(super) const NONE: u32 = u32::MAX;

/// A dense array of blocks of `stride` values each, addressed by slot.
#[derive(Clone, Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    stride: usize,
    len: usize,
}

impl<T> Slab<T> {
    /// Blocks per chunk, a power of two. A chunk of entries or of single numbers is 32 KiB: too small to be a system call
    /// of its own, and large enough for the list of chunks to stay in the processor's cache.
    const CHUNK: usize = (32 << 10) / if size_of::<T>() <= 4 { 4 } else { 64 };
}

impl<T: Copy> Slab<T> {
    pub(super) fn new(stride: usize) -> Self {
        Self { chunks: Vec::new(), stride, len: 0 }
    }

    /// How many blocks there are; they have the slots below it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Blocks of one value each.
    pub(super) fn of(values: &[T]) -> Self {
        Self { chunks: values.chunks(Self::CHUNK).map(<[T]>::to_vec).collect(), stride: 1, len: values.len() }
    }

    /// All values, block by block.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Appends a block of copies of `value`; its slot is the old length.
    #[inline]
    pub(super) fn push(&mut self, value: T) -> u32 {
        if self.len.is_multiple_of(Self::CHUNK) {
            // The first chunk grows with its contents: most partitions have few producers.
            let capacity = if self.len == 0 { 0 } else { Self::CHUNK * self.stride };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunk = &mut self.chunks[self.len / Self::CHUNK];
        chunk.resize(chunk.len() + self.stride, value);
        self.len += 1;
        (self.len - 1) as u32
    }

    /// Removes a block. `Some(slot)`: the block of that slot, the last, is now where the removed one was.
    pub(super) fn swap_remove(&mut self, slot: u32) -> Option<u32> {
        let last = (self.len - 1) as u32;
        if slot != last {
            for index in 0..self.stride {
                self.block_mut(slot)[index] = self.block(last)[index];
            }
        }
        self.pop();
        (slot != last).then_some(last)
    }

    fn pop(&mut self) {
        self.len -= 1;
        if self.len.is_multiple_of(Self::CHUNK) {
            self.chunks.pop();
        } else {
            let used = self.len % Self::CHUNK * self.stride;
            self.chunks[self.len / Self::CHUNK].truncate(used);
        }
    }

    #[inline]
    pub(super) fn block(&self, slot: u32) -> &[T] {
        let start = slot as usize % Self::CHUNK * self.stride;
        &self.chunks[slot as usize / Self::CHUNK][start..start + self.stride]
    }

    #[inline]
    pub(super) fn block_mut(&mut self, slot: u32) -> &mut [T] {
        let start = slot as usize % Self::CHUNK * self.stride;
        &mut self.chunks[slot as usize / Self::CHUNK][start..start + self.stride]
    }

    /// A block of one value, if there is one in the slot.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        debug_assert_eq!(self.stride, 1);
        self.chunks.get(slot as usize / Self::CHUNK)?.get(slot as usize % Self::CHUNK)
    }

    /// The bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum();
        chunks + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T: Copy> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    /// A block of one value.
    #[inline]
    fn index(&self, slot: u32) -> &T {
        debug_assert_eq!(self.stride, 1);
        &self.chunks[slot as usize / Self::CHUNK][slot as usize % Self::CHUNK]
    }
}

impl<T: Copy> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        debug_assert_eq!(self.stride, 1);
        &mut self.chunks[slot as usize / Self::CHUNK][slot as usize % Self::CHUNK]
    }
}

/// Blocks that some entries have and others do not. An entry holds its block's handle, or [`NONE`].
#[derive(Clone, Debug)]
pub(super) struct Pool<T> {
    pub(super) blocks: Slab<T>,
    owners: Slab<u32>,
}

impl<T: Copy> Pool<T> {
    pub(super) fn new(stride: usize) -> Self {
        Self { blocks: Slab::new(stride), owners: Slab::new(1) }
    }

    /// A new block of copies of `value` for the entry in slot `owner`.
    pub(super) fn allocate(&mut self, owner: u32, value: T) -> u32 {
        self.owners.push(owner);
        self.blocks.push(value)
    }

    /// The blocks of one value each, with their owners.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&T, u32)> {
        self.blocks.iter().zip(self.owners.iter().copied())
    }

    /// Frees a block. `Some(owner)`: the handle of that entry's block is now the freed one.
    pub(super) fn release(&mut self, handle: u32) -> Option<u32> {
        self.owners.swap_remove(handle);
        self.blocks.swap_remove(handle).map(|_| self.owners[handle])
    }

    /// The entry of a block has moved to another slot.
    pub(super) fn set_owner(&mut self, handle: u32, owner: u32) {
        if handle != NONE {
            self.owners[handle] = owner;
        }
    }

    #[cfg(test)]
    pub(super) fn allocated(&self) -> usize {
        self.blocks.allocated() + self.owners.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_block_is_replaced_by_the_last() {
        let mut slab = Slab::new(2);
        for value in 0..Slab::<u32>::CHUNK as u32 + 1 {
            assert_eq!(slab.push(value), value);
        }
        assert_eq!(slab.swap_remove(3), Some(Slab::<u32>::CHUNK as u32));
        assert_eq!(slab.block(3), [Slab::<u32>::CHUNK as u32; 2]);
        assert_eq!(slab.swap_remove(Slab::<u32>::CHUNK as u32 - 1), None);
        assert_eq!((slab.len(), slab.chunks.len()), (Slab::<u32>::CHUNK - 1, 1));
    }

    #[test]
    fn the_owner_of_a_moved_block_is_told() {
        let mut pool = Pool::new(1);
        let handles: Vec<u32> = (0..3).map(|owner| pool.allocate(100 + owner, owner)).collect();
        assert_eq!(pool.release(handles[0]), Some(102));
        assert_eq!(pool.blocks[handles[0]], 2);
        assert_eq!(pool.release(handles[1]), None);
    }
}
