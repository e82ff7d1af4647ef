//! What came of it, in a table and in a sentence.

use std::fmt;
use std::time::Duration;

use crate::arguments::Arguments;
use crate::check::Findings;
use crate::traffic::Counts;

pub(crate) struct Summary<'a> {
    pub(crate) arguments: &'a Arguments,
    pub(crate) counts: &'a Counts,
    pub(crate) found: &'a Findings,
}

impl Summary<'_> {
    /// Whether all is as it must be; the sentence says why.
    pub(crate) fn verdict(&self) -> Result<String, String> {
        let broken = self.broken();
        if !broken.is_empty() {
            let broken = broken.join(", ");
            return Err(format!("BROKEN: {broken}. `--seed {}` repeats these faults.", self.arguments.seed));
        }
        Ok(match (self.counts.records, self.arguments.idempotence) {
            (0, _) => "Nothing was sent, and nothing is stored.".to_owned(),
            (_, true) => "Every record is stored exactly once, in its producer's order.".to_owned(),
            (_, false) => format!(
                "As expected without producer ids: nothing is lost, but {} records are stored twice. \
                 Without --no-idempotence, the same faults do no harm.",
                grouped(self.found.stored_twice)
            ),
        })
    }

    /// What must never be, and what must be for the faults to prove anything.
    fn broken(&self) -> Vec<String> {
        let Self { counts, found, arguments } = self;
        let idempotent = arguments.idempotence;
        let faults_show =
            if idempotent { counts.duplicates } else { found.stored_twice } >= counts.acknowledgements_lost;
        let never = [
            (found.lost, "records lost"),
            (found.broken_promises, "acknowledged batches not found where they were promised"),
            (found.damaged, "things in the files that nobody wrote"),
            (if idempotent { found.stored_twice } else { 0 }, "records stored twice"),
            (if idempotent { found.out_of_order } else { 0 }, "records out of order"),
            (
                if idempotent { counts.answered_differently } else { 0 },
                "duplicates not answered as the original",
            ),
            (u64::from(!faults_show), "check blind: batches were sent again, and nobody noticed"),
        ];
        let broken = never.iter().filter(|(count, _)| *count > 0);
        broken.map(|(count, what)| format!("{} {what}", grouped(*count))).collect()
    }

    /// Name, number, and what the number counts.
    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let Self { counts, found, .. } = self;
        let mut rows = vec![
            ("sent", grouped(counts.records), format!("records in {} batches", grouped(counts.batches))),
            ("sent again", grouped(counts.sent_again()), self.why_again()),
            (
                "answered as duplicates",
                grouped(counts.duplicates),
                "batches, with the original's offsets".to_owned(),
            ),
            ("stored", grouped(found.records), self.where_stored()),
            ("lost", grouped(found.lost), "records".to_owned()),
            ("stored twice", grouped(found.stored_twice), "records".to_owned()),
            ("out of order", grouped(found.out_of_order), "records".to_owned()),
            ("broken promises", grouped(found.broken_promises), "acknowledged offsets and CRCs".to_owned()),
            ("appends per second", grouped(self.rate(counts.answers)), self.record_rate()),
        ];
        if let Some(outage) = &counts.outage {
            let total =
                format!("ms; {:.1} ms from the kill until the next server was there", millis(outage.total));
            rows.push(("recovery time", format!("{:.1}", millis(outage.recovery)), total));
        }
        rows
    }

    fn why_again(&self) -> String {
        let lost = grouped(self.counts.acknowledgements_lost);
        format!("batches: {lost} acknowledgements lost, {} in doubt after the kill", self.counts.in_doubt)
    }

    fn where_stored(&self) -> String {
        let Findings { batches, files, bytes, .. } = self.found;
        format!("records in {} batches, {files} segments, {:.1} MB", grouped(*batches), *bytes as f64 / 1e6)
    }

    /// Appends a second, without the time in which there was no server.
    fn rate(&self, count: u64) -> u64 {
        let down = self.counts.outage.as_ref().map_or(Duration::ZERO, |outage| outage.total);
        let seconds = self.counts.elapsed.saturating_sub(down).as_secs_f64();
        if seconds > 0.0 { (count as f64 / seconds) as u64 } else { 0 }
    }

    fn record_rate(&self) -> String {
        let records = grouped(self.rate(self.counts.acknowledged_records));
        format!("batches, {records} records, each synced before it was acknowledged")
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, number, text) in self.rows() {
            writeln!(f, "  {name:<22} {number:>11} {text}")?;
        }
        for problem in &self.found.told {
            writeln!(f, "  {problem}")?;
        }
        Ok(())
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// 1234567 as 1,234,567.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
