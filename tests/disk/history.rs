//! What a log acknowledged, and that it still has it.

use idemlog::{AppendOptions, Batch, Error, Log, LogDir, Offset};

use crate::common::{batch, stored};

/// The producer that writes it.
const PRODUCER: i64 = 7;

/// The batches of one producer, as a log acknowledged them.
#[derive(Debug, Default)]
pub struct History {
    acknowledged: Vec<(Offset, Batch)>,
    /// What lies below was deleted.
    start: i64,
}

impl History {
    /// The batch that comes next.
    pub fn next(&self) -> Batch {
        batch(PRODUCER, 0, self.acknowledged.len() as i32 * 10, 10)
    }

    /// Appends the next batch.
    pub fn append(&mut self, log: &Log) -> Result<(), Error> {
        let batch = self.next();
        let outcome = log.append(&batch)?;
        assert!(!outcome.is_duplicate(), "a batch whose append was an error is stored");
        self.acknowledged.push((outcome.base_offset(), batch));
        Ok(())
    }

    /// Appends so many batches, with few syncs.
    pub fn write(&mut self, log: &Log, count: usize) {
        let mut pending = Vec::new();
        for _ in 0..count {
            let batch = self.next();
            let submitted = log.submit(std::slice::from_ref(&batch), AppendOptions::default()).unwrap();
            self.acknowledged.push((submitted.outcomes()[0].base_offset(), batch));
            pending.push(submitted);
        }
        pending.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
    }

    /// Appends until there is an error, which comes before so many batches.
    pub fn append_until_error(&mut self, log: &Log, limit: usize) -> Error {
        (0..limit).find_map(|_| self.append(log).err()).expect("an error comes first")
    }

    /// Notes that what lies below this offset was deleted.
    pub fn deleted_below(&mut self, start: Offset) {
        self.start = start.0;
    }

    /// Everything that was acknowledged is there, and nothing else.
    pub fn check_without_appending(&self, log: &Log) {
        let kept = self.acknowledged.iter().filter(|(offset, _)| offset.0 >= self.start);
        let expected: Vec<_> = kept.map(|(offset, batch)| (offset.0, batch.header().crc)).collect();
        assert_eq!(stored(log), expected);
    }

    /// The same, and the last batch is recognised.
    pub fn check(&self, log: &Log) {
        self.check_without_appending(log);
        if let Some((offset, last)) = self.acknowledged.last() {
            let again = log.append(last).unwrap();
            assert!(again.is_duplicate() && again.base_offset() == *offset, "{again:?}");
        }
    }

    /// The same after an opening.
    pub fn check_reopened(&self, dir: &LogDir) {
        assert!(dir.failed().is_empty(), "{:?}", dir.failed());
        self.check(&dir.partition("orders", 0).unwrap());
    }
}
