//! The producers of a table, copied in steps between which the table may change.

use super::entry::ProducerInfo;
use super::table::{ProducerTable, TableCursor};

/// How far a copy has got.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    /// Of which table it is, and where it goes on.
    place: Option<(u64, TableCursor)>,
    copied: Vec<ProducerInfo>,
}

impl Copying {
    /// Takes the memory of the next `count`, which takes long where there are many already.
    pub(crate) fn make_room(&mut self, count: usize) {
        self.copied.reserve(count);
    }

    /// Copies the next `count`, from the beginning again if another table has come in the place of the one before. Returns
    /// whether there may be more.
    pub(crate) fn step(&mut self, table: &ProducerTable, count: usize) -> bool {
        let generation = table.generation();
        let from = match self.place {
            Some((before, cursor)) if before == generation => cursor,
            _ => {
                self.copied.clear();
                TableCursor::START
            }
        };
        self.place = table.copy_step(from, count, &mut self.copied).map(|cursor| (generation, cursor));
        self.place.is_some()
    }

    /// All of them by id, each once: one that was moved within the table may have been copied twice.
    pub(crate) fn into_producers(self) -> Vec<ProducerInfo> {
        let mut producers = self.copied;
        producers.sort_by_key(|producer| producer.producer_id);
        producers.dedup_by_key(|producer| producer.producer_id);
        producers
    }
}
