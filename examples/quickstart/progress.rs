//! How far it is: one line that changes on a terminal, now and then a line elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::summary::grouped;

pub(crate) struct Progress {
    total: u64,
    on_terminal: bool,
    /// When the line may change again.
    due: Instant,
}

impl Progress {
    const WIDTH: u64 = 30;

    pub(crate) fn new(total: u64) -> Self {
        let mut progress = Self { total, on_terminal: io::stdout().is_terminal(), due: Instant::now() };
        progress.wait();
        progress
    }

    fn wait(&mut self) {
        self.due = Instant::now() + Duration::from_millis(if self.on_terminal { 50 } else { 1000 });
    }

    pub(crate) fn show(&mut self, acknowledged: u64, sent_again: u64) {
        if Instant::now() < self.due {
            return;
        }
        let (done, total) = (grouped(acknowledged), grouped(self.total));
        let text =
            format!("{done:>9} of {total} records acknowledged, {} batches sent again", grouped(sent_again));
        if self.on_terminal {
            let filled = acknowledged * Self::WIDTH / self.total.max(1);
            let bar: String = (0..Self::WIDTH).map(|at| if at < filled { '#' } else { '.' }).collect();
            print!("\r[{bar}] {text}");
            // Progress that cannot be shown is no reason to stop.
            let _ = io::stdout().flush();
        } else {
            println!("{text}");
        }
        self.wait();
    }

    /// Makes room for something else.
    pub(crate) fn clear(&self) {
        if self.on_terminal {
            print!("\r\x1b[K");
        }
    }
}
