//! What the batches of a log tell of transactions.

use std::collections::BTreeMap;

use idemlog::{AbortedTransaction, ControlRecord, Log, Offset, ProducerId};

use crate::model::{Moment, Placed};
use crate::violation::{Checked, ensure, failed};

/// Which transactions are open, and which were aborted.
#[derive(Debug, Default)]
pub struct Transactions {
    /// The first offsets of the open ones.
    open: BTreeMap<ProducerId, i64>,
    /// In the order of their markers.
    aborted: Vec<AbortedTransaction>,
}

impl Transactions {
    /// Those of a log from its very beginning on.
    pub fn replay<'a>(log: impl Iterator<Item = &'a Placed>) -> Self {
        let mut transactions = Self::default();
        log.filter(|placed| placed.batch.header().is_transactional())
            .for_each(|placed| transactions.note(placed));
        transactions
    }

    fn note(&mut self, placed: &Placed) {
        let id = placed.batch.header().producer_id;
        match placed.batch.control().unwrap() {
            None => drop(self.open.entry(id).or_insert(placed.base_offset)),
            Some(marker) => self.end(id, placed.base_offset, marker),
        }
    }

    fn end(&mut self, producer_id: ProducerId, marker: i64, record: ControlRecord) {
        let first = self.open.remove(&producer_id);
        if let (Some(first), ControlRecord::Abort { .. }) = (first, record) {
            self.aborted.push(AbortedTransaction {
                producer_id,
                first_offset: Offset(first),
                last_offset: Offset(marker),
                last_stable_offset: Offset(self.first_open().unwrap_or(marker + 1)),
            });
        }
    }

    /// Where the producer's open transaction begins.
    pub fn begun_by(&self, id: ProducerId) -> Option<i64> {
        self.open.get(&id).copied()
    }

    fn first_open(&self) -> Option<i64> {
        self.open.values().min().copied()
    }

    fn has_aborted(&self, placed: &Placed) -> bool {
        self.aborted.iter().any(|aborted| {
            aborted.producer_id == placed.batch.header().producer_id
                && (aborted.first_offset.0..aborted.last_offset.0).contains(&placed.base_offset)
        })
    }

    /// Whether a reader sees the batch that wants only what is decided and not aborted.
    fn shows(&self, placed: &Placed) -> bool {
        let header = placed.batch.header();
        let decided = self.first_open().is_none_or(|first| placed.base_offset < first);
        decided && !header.is_control() && !(header.is_transactional() && self.has_aborted(placed))
    }
}

/// Compares the transactions of a log that is durable and read to its end with those that its batches tell of.
pub fn compare(log: &Log, moment: &Moment) -> Checked<()> {
    let transactions = moment.transactions();
    let first = transactions.first_open();
    let undecided = log.first_undecided_offset().map(|offset| offset.0);
    ensure(undecided == first, || format!("is undecided from {undecided:?} on instead of {first:?}"))?;
    let end = moment.log_end();
    let (found, expected) = (log.last_stable_offset().0, first.unwrap_or(end).clamp(moment.log_start, end));
    ensure(found == expected, || format!("is stable up to {found} instead of {expected}"))?;
    compare_aborted(log, moment, &transactions)?;
    compare_committed(log, moment, &transactions)
}

fn compare_aborted(log: &Log, moment: &Moment, transactions: &Transactions) -> Checked<()> {
    let (start, end) = (Offset(moment.log_start), Offset(moment.log_end()));
    let found = log.aborted_transactions(start, end).map_err(failed("the aborted transactions"))?;
    let expected = transactions.aborted.iter().filter(|aborted| aborted.last_offset >= start);
    ensure(found.iter().eq(expected), || {
        format!("tells of the aborted {found:?} from {start} on, of {:?}", transactions.aborted)
    })
}

fn compare_committed(log: &Log, moment: &Moment, transactions: &Transactions) -> Checked<()> {
    let reader = log.reader(log.log_start_offset()).map_err(failed("read"))?.committed();
    let found: Result<Vec<i64>, _> = reader.map(|batch| Ok(batch?.header().base_offset.0)).collect();
    let found = found.map_err(failed::<idemlog::Error>("read what is committed"))?;
    let shown = moment.log.iter().filter(|placed| transactions.shows(placed));
    let expected: Vec<_> = shown.map(|placed| placed.base_offset).collect();
    ensure(found == expected, || format!("shows as committed {found:?} instead of {expected:?}"))
}
