//! The command line.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::summary::grouped;

pub(crate) const USAGE: &str = "\
usage: quickstart [--producers N] [--records N] [--partitions N] [--seed N] [--no-idempotence] [--directory PATH]

  --producers N       how many producers send            (6)
  --records N         how many records, of all together  (100000)
  --partitions N      to how many partitions             (3)
  --seed N            which acknowledgements are lost, and when the server is killed  (1)
  --no-idempotence    the same faults without producer ids: watch records being stored twice
  --directory PATH    a new directory for the files, which stay; otherwise a temporary one";

/// What this process is asked to be.
pub(crate) enum Command {
    Help,
    Run(Arguments),
    /// The server, started by the process that has the producers.
    Serve {
        directory: PathBuf,
        partitions: usize,
    },
}

/// What the user can choose.
pub(crate) struct Arguments {
    pub(crate) producers: usize,
    pub(crate) records: u64,
    pub(crate) partitions: usize,
    pub(crate) seed: u64,
    pub(crate) idempotence: bool,
    pub(crate) directory: Option<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { producers: 6, records: 100_000, partitions: 3, seed: 1, idempotence: true, directory: None }
    }
}

impl Command {
    /// The flag that makes the process the server. Its two values follow.
    pub(crate) const CHILD: &str = "--child";

    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Arguments::default();
        while let Some(flag) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--producers" => arguments.producers = number(&flag, &value()?, &(1..=1000))?,
                "--records" => arguments.records = number(&flag, &value()?, &(0..=1_000_000_000))?,
                "--partitions" => arguments.partitions = number(&flag, &value()?, &(1..=1000))?,
                "--seed" => arguments.seed = number(&flag, &value()?, &(0..=u64::MAX))?,
                "--no-idempotence" => arguments.idempotence = false,
                "--directory" => arguments.directory = Some(value()?.into()),
                "--help" | "-h" => return Ok(Self::Help),
                Self::CHILD => {
                    let directory = value()?.into();
                    return Ok(Self::Serve { directory, partitions: number(&flag, &value()?, &(1..=1000))? });
                }
                _ => return Err(format!("unknown argument {flag}")),
            }
        }
        Ok(Self::Run(arguments))
    }
}

fn number<N: FromStr + PartialOrd + fmt::Display>(
    flag: &str,
    word: &str,
    range: &RangeInclusive<N>,
) -> Result<N, String> {
    let refused = || format!("{flag} must be {} to {}, not {word}", range.start(), range.end());
    word.parse().ok().filter(|number| range.contains(number)).ok_or_else(refused)
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records from {} producers to {} partitions, {}, seed {}",
            grouped(self.records),
            self.producers,
            self.partitions,
            if self.idempotence { "idempotent" } else { "WITHOUT idempotence" },
            self.seed,
        )
    }
}
