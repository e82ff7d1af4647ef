//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: cargo run --release --example kafka_fixture -- DIR --seed N [--ops N] [--crash]

  DIR        a directory that is new
  --seed N   which operations; the same seed writes the same files
  --ops N    how many [default: 400]
  --crash    leaves the directory as a process that is killed, instead of closing the log";

/// Marks the process that is going to be killed.
pub(crate) const CHILD: &str = "--child";

/// What to write, and where.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) directory: PathBuf,
    pub(crate) seed: u64,
    pub(crate) ops: u64,
    pub(crate) crash: bool,
    pub(crate) is_child: bool,
}

impl Arguments {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut directory, mut seed, mut ops) = (None, None, 400);
        let (mut crash, mut is_child) = (false, false);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seed" => seed = Some(number(&word, words.next())?),
                "--ops" => ops = number(&word, words.next())?,
                "--crash" => crash = true,
                CHILD => is_child = true,
                flag if flag.starts_with("--") => return Err(format!("unknown argument {flag}")),
                path if directory.is_none() => directory = Some(PathBuf::from(path)),
                more => return Err(format!("one directory, not {more} as well")),
            }
        }
        let directory = directory.ok_or("no directory is named")?;
        Ok(Self { directory, seed: seed.ok_or("--seed is missing")?, ops, crash, is_child })
    }
}

fn number(flag: &str, word: Option<String>) -> Result<u64, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| format!("{flag} needs a number"))
}
