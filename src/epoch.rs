//! Which leader epoch began at which offset: the history by which replicas find where their logs part. Pure.
//!
//! The file `leader-epoch-checkpoint` is a [checkpoint](crate::checkpoint) with a line per epoch, `<epoch> <start>`.
//! Source: `LeaderEpochFileCache` of Apache Kafka.

use crate::checkpoint;
use crate::error::CorruptionKind;
use crate::types::{LeaderEpoch, Offset};

/// The leader epochs of a partition and the offset at which each began; both strictly increase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Every epoch with its first offset, the oldest first.
    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// The newest epoch and its first offset.
    pub(crate) fn latest(&self) -> Option<(LeaderEpoch, Offset)> {
        self.entries.last().copied()
    }

    /// Notes that the batch at `start` is the first of `epoch`. Returns whether that was news: an epoch that is not
    /// above the latest one changes nothing.
    ///
    /// Epochs that began at `start` or behind it hold no batch, and go.
    #[inline]
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        let latest = self.latest().map_or(LeaderEpoch::UNKNOWN, |(epoch, _)| epoch);
        let is_news = epoch > latest;
        if is_news {
            self.begin(epoch, start);
        }
        is_news
    }

    #[cold]
    fn begin(&mut self, epoch: LeaderEpoch, start: Offset) {
        self.truncate_from_end(start);
        self.entries.push((epoch, start));
    }

    /// The largest epoch not above `requested`, and the offset behind its last batch in a log that ends at `log_end` and is
    /// led in epoch `leading`, which begins there if no batch is of it yet.
    ///
    /// As Kafka answers `OffsetsForLeaderEpoch`: an epoch older than all that are known ends where the first known
    /// one begins, under its own number; one above the latest (or none) has no answer.
    pub(crate) fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end: Offset,
        leading: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest().map_or(leading, |(latest, _)| latest.max(leading));
        if requested == LeaderEpoch::UNKNOWN || requested > latest {
            return None;
        }
        if requested == latest {
            return Some((requested, log_end));
        }
        let not_above = self.entries.partition_point(|&(epoch, _)| epoch <= requested);
        let end = self.entries.get(not_above).map_or(log_end, |&(_, start)| start);
        let epoch = self.entries[..not_above].last().map_or(requested, |&(epoch, _)| epoch);
        Some((epoch, end))
    }

    /// The epoch that the batch at `offset` belongs to, if the history goes back that far.
    pub(crate) fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let begun = self.entries.partition_point(|&(_, start)| start <= offset);
        self.entries[..begun].last().map(|&(epoch, _)| epoch)
    }

    /// Forgets the epochs that began at `offset` or behind it: the log ends there.
    pub(crate) fn truncate_from_end(&mut self, offset: Offset) {
        self.entries.truncate(self.entries.partition_point(|&(_, start)| start < offset));
    }

    /// Forgets what was before `offset`: the log begins there. The epoch that covers it then begins there, too.
    pub(crate) fn truncate_from_start(&mut self, offset: Offset) {
        let begun = self.entries.partition_point(|&(_, start)| start <= offset);
        if let Some(covering) = begun.checked_sub(1) {
            self.entries[covering].1 = offset;
            self.entries.drain(..covering);
        }
    }

    /// The file's text.
    pub(crate) fn encode(&self) -> String {
        checkpoint::encode(self.entries.iter().map(|(epoch, start)| format!("{epoch} {start}")))
    }

    /// The history in a file's text.
    ///
    /// # Errors
    ///
    /// [`CorruptionKind`] if it is no checkpoint, a line is not two numbers from 0 up, or one of them does not increase
    /// strictly from line to line.
    pub(crate) fn decode(text: &str) -> Result<Self, CorruptionKind> {
        let mut history = Self::default();
        for line in checkpoint::decode(text)? {
            let (epoch, start) = decode_line(line)?;
            if history.latest().is_some_and(|latest| latest.0 >= epoch || latest.1 >= start) {
                return Err(CorruptionKind::Format("leader epochs do not increase"));
            }
            history.entries.push((epoch, start));
        }
        Ok(history)
    }
}

fn decode_line(line: &str) -> Result<(LeaderEpoch, Offset), CorruptionKind> {
    const PROBLEM: &str = "a leader epoch is not two numbers, epoch and start offset";
    let mut fields = line.split_ascii_whitespace();
    let epoch = checkpoint::field(fields.next(), PROBLEM)?;
    let start = checkpoint::field(fields.next(), PROBLEM)?;
    if epoch < 0 || start < 0 || fields.next().is_some() {
        return Err(CorruptionKind::Format(PROBLEM));
    }
    Ok((LeaderEpoch(epoch), Offset(start)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn history(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut history = LeaderEpochs::default();
        for &(epoch, start) in entries {
            assert!(history.assign(LeaderEpoch(epoch), Offset(start)));
        }
        history
    }

    fn entries(history: &LeaderEpochs) -> Vec<(i32, i64)> {
        history.entries().iter().map(|(epoch, start)| (epoch.0, start.0)).collect()
    }

    #[test]
    fn only_a_higher_epoch_is_news() {
        let mut history = history(&[(2, 6)]);
        for (epoch, start) in [(2, 6), (2, 7), (2, 5), (1, 10), (-1, 10)] {
            assert!(!history.assign(LeaderEpoch(epoch), Offset(start)), "epoch {epoch} at {start}");
        }
        assert!(history.assign(LeaderEpoch(3), Offset(10)));
        assert_eq!(entries(&history), [(2, 6), (3, 10)]);
    }

    #[test]
    fn an_epoch_without_a_batch_is_replaced_by_the_next_one() {
        let mut history = history(&[(0, 0), (1, 5), (2, 8)]);
        history.assign(LeaderEpoch(4), Offset(8));
        assert_eq!(entries(&history), [(0, 0), (1, 5), (4, 8)]);
        history.assign(LeaderEpoch(5), Offset(3));
        assert_eq!(entries(&history), [(0, 0), (5, 3)]);
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins() {
        let history = history(&[(2, 5), (4, 10), (7, 30)]);
        let cases = [
            ("the latest", 7, Some((7, 100))),
            ("an older one", 4, Some((4, 30))),
            ("one between two", 3, Some((2, 10))),
            ("the oldest", 2, Some((2, 10))),
            ("one before all", 1, Some((1, 5))),
            ("one above all", 8, None),
            ("none", -1, None),
        ];
        for (what, requested, expected) in cases {
            for leading in [0, 7] {
                let end = history.end_offset_for(LeaderEpoch(requested), Offset(100), LeaderEpoch(leading));
                assert_eq!(end.map(|(epoch, offset)| (epoch.0, offset.0)), expected, "{what}, {leading}");
            }
        }
    }

    #[test]
    fn the_epoch_of_a_leader_without_a_batch_begins_at_the_log_end() {
        let cases = [
            ("the leader's", 9, Some((9, 100)), Some((9, 100))),
            ("one between", 8, Some((7, 100)), Some((8, 100))),
            ("that of the last batch", 7, Some((7, 100)), Some((7, 100))),
            ("an older one", 3, Some((2, 30)), Some((3, 100))),
            ("one above all", 10, None, None),
            ("none", -1, None, None),
        ];
        for (what, requested, expected, in_an_empty_log) in cases {
            for (history, expected) in
                [(history(&[(2, 5), (7, 30)]), expected), (LeaderEpochs::default(), in_an_empty_log)]
            {
                let end = history.end_offset_for(LeaderEpoch(requested), Offset(100), LeaderEpoch(9));
                assert_eq!(end.map(|(epoch, offset)| (epoch.0, offset.0)), expected, "{what}");
            }
        }
    }

    #[test]
    fn an_offset_belongs_to_the_last_epoch_that_began_at_or_before_it() {
        let history = history(&[(2, 5), (4, 10)]);
        for (offset, expected) in [(4, None), (5, Some(2)), (9, Some(2)), (10, Some(4)), (i64::MAX, Some(4))]
        {
            assert_eq!(history.epoch_for_offset(Offset(offset)), expected.map(LeaderEpoch), "{offset}");
        }
    }

    #[test]
    fn cutting_the_end_forgets_epochs_that_begin_there_or_later() {
        let cases: [(i64, &[(i32, i64)]); 5] = [
            (31, &[(2, 5), (4, 10), (7, 30)]),
            (30, &[(2, 5), (4, 10)]),
            (11, &[(2, 5), (4, 10)]),
            (10, &[(2, 5)]),
            (0, &[]),
        ];
        for (offset, expected) in cases {
            let mut history = history(&[(2, 5), (4, 10), (7, 30)]);
            history.truncate_from_end(Offset(offset));
            assert_eq!(entries(&history), expected, "cut at {offset}");
        }
    }

    #[test]
    fn cutting_the_start_keeps_the_epoch_that_covers_it() {
        let cases: [(i64, &[(i32, i64)]); 6] = [
            (4, &[(2, 5), (4, 10), (7, 30)]),
            (5, &[(2, 5), (4, 10), (7, 30)]),
            (9, &[(2, 9), (4, 10), (7, 30)]),
            (10, &[(4, 10), (7, 30)]),
            (29, &[(4, 29), (7, 30)]),
            (500, &[(7, 500)]),
        ];
        for (offset, expected) in cases {
            let mut history = history(&[(2, 5), (4, 10), (7, 30)]);
            history.truncate_from_start(Offset(offset));
            assert_eq!(entries(&history), expected, "cut at {offset}");
        }
    }

    #[test]
    fn the_file_has_kafkas_text() {
        let text = "0\n3\n0 0\n3 128\n4 257\n";
        let history = LeaderEpochs::decode(text).unwrap();
        assert_eq!(entries(&history), [(0, 0), (3, 128), (4, 257)]);
        assert_eq!(history.encode(), text);
        assert_eq!(LeaderEpochs::default().encode(), "0\n0\n");
        assert_eq!(LeaderEpochs::decode("").unwrap(), LeaderEpochs::default());
    }

    #[test]
    fn a_file_that_is_no_history_is_refused() {
        let lines = ["0", "0 0 0", "a 0", "0 a", "-1 0", "0 -1", "2147483648 0", "0 9223372036854775808", ""];
        for line in lines {
            assert!(LeaderEpochs::decode(&format!("0\n1\n{line}\n")).is_err(), "{line:?}");
        }
        for (first, second) in [("1 5", "1 6"), ("1 5", "0 6"), ("1 5", "2 5"), ("1 5", "2 4")] {
            let text = format!("0\n2\n{first}\n{second}\n");
            assert!(LeaderEpochs::decode(&text).is_err(), "{first:?} before {second:?}");
        }
    }

    proptest! {
        #[test]
        fn any_history_survives_its_file(
            steps in prop::collection::vec((1_i32..5, -3_i64..9), 0..20),
            cut in 0_i64..60,
        ) {
            let mut history = LeaderEpochs::default();
            for (epoch, start) in steps {
                let latest = history.latest().unwrap_or((LeaderEpoch(0), Offset(0)));
                history.assign(LeaderEpoch(latest.0.0 + epoch), Offset((latest.1.0 + start).max(0)));
            }
            prop_assert!(history.entries().is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
            prop_assert_eq!(&LeaderEpochs::decode(&history.encode()).unwrap(), &history);
            let before = history.clone();
            history.truncate_from_start(Offset(cut));
            for offset in cut..70 {
                prop_assert_eq!(history.epoch_for_offset(Offset(offset)), before.epoch_for_offset(Offset(offset)));
            }
            prop_assert_eq!(&LeaderEpochs::decode(&history.encode()).unwrap(), &history);
        }
    }
}
