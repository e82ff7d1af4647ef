//! What was acknowledged: the promise that the log made, written down where the log's process cannot reach it.

use std::collections::HashMap;

/// For every partition and offset that was acknowledged, the CRC of the batch.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    promises: HashMap<(usize, i64), u32>,
    /// Offsets that were acknowledged for two different batches.
    pub(crate) contradictions: u64,
}

impl Ledger {
    pub(crate) fn write(&mut self, partition: usize, base_offset: i64, crc: u32) {
        if self.promises.insert((partition, base_offset), crc).is_some() {
            self.contradictions += 1;
        }
    }

    /// Strikes out the promise that this batch keeps, if it keeps one.
    pub(crate) fn strike(&mut self, partition: usize, base_offset: i64, crc: u32) {
        if self.promises.get(&(partition, base_offset)) == Some(&crc) {
            self.promises.remove(&(partition, base_offset));
        }
    }

    /// How many promises were not kept.
    pub(crate) fn broken(&self) -> u64 {
        self.promises.len() as u64 + self.contradictions
    }
}
