//! The steps that workloads are made of, and their text: a failure prints a workload that can be given back.

use std::fmt;
use std::str::FromStr;

use idemlog::sim::Rng;

/// How large a batch is. A segment holds 2048 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// One record, in one or two sectors.
    Small,
    /// Three records in several sectors.
    Middle,
    /// Exactly two sectors: two such batches fill a segment to its last byte.
    Exact,
    /// More than the interval of snapshots.
    Large,
}

/// One step. A producer is a small number; what it stands for is found while running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A batch, waited for.
    Append {
        producer: u8,
        size: Size,
    },
    /// A batch, not waited for.
    Submit {
        producer: u8,
        size: Size,
    },
    /// A batch of the producer's transaction, which it begins if none is open, not waited for. All else that the producer
    /// sends until its end belongs to it.
    Transact {
        producer: u8,
        size: Size,
    },
    /// The marker that commits the producer's transaction, waited for.
    Commit {
        producer: u8,
    },
    /// The marker that aborts the producer's transaction, waited for.
    Abort {
        producer: u8,
    },
    /// One of the producer's last batches again, waited for.
    Again {
        producer: u8,
        back: u8,
    },
    /// A batch without a producer, waited for.
    Plain,
    /// Two batches in one call, waited for.
    Both {
        producer: u8,
    },
    Sync,
    Roll,
    /// A new producer id takes the producer's place.
    NewId {
        producer: u8,
    },
    /// The producer goes on in its next epoch.
    NextEpoch {
        producer: u8,
    },
    /// A named producer takes its next epoch.
    Named,
    /// Idle producers are looked for.
    Expire,
    /// The last batches are taken back.
    Truncate {
        batches: u8,
    },
    /// All records are deleted but those of the last batches, and the segments that have no others.
    Delete {
        kept: u8,
    },
    /// Closed well and opened again.
    Close,
    /// The process dies and opens the directory again.
    Kill,
    /// Everything that a crash lost is sent again.
    Retry,
    /// The power is cut somewhere since the last cut, and what is left is opened again.
    Cut {
        seed: u32,
    },
}

const SIZES: [(Size, &str); 4] =
    [(Size::Small, "small"), (Size::Middle, "middle"), (Size::Exact, "exact"), (Size::Large, "large")];

impl Op {
    /// The steps that the exhaustive explorer combines.
    pub const ALPHABET: [Self; 16] = [
        Self::Append { producer: 0, size: Size::Exact },
        Self::Append { producer: 1, size: Size::Small },
        Self::Submit { producer: 0, size: Size::Exact },
        Self::Submit { producer: 1, size: Size::Middle },
        Self::Append { producer: 0, size: Size::Large },
        Self::Again { producer: 0, back: 0 },
        Self::Roll,
        Self::Sync,
        Self::Truncate { batches: 1 },
        Self::Delete { kept: 1 },
        Self::Close,
        Self::Kill,
        Self::Expire,
        Self::Transact { producer: 1, size: Size::Middle },
        Self::Commit { producer: 1 },
        Self::Abort { producer: 1 },
    ];

    /// The first word of its text, by which it is also counted.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::Submit { .. } => "submit",
            Self::Transact { .. } => "transact",
            Self::Commit { .. } => "commit",
            Self::Abort { .. } => "abort",
            Self::Again { .. } => "again",
            Self::Plain => "plain",
            Self::Both { .. } => "both",
            Self::Sync => "sync",
            Self::Roll => "roll",
            Self::NewId { .. } => "new-id",
            Self::NextEpoch { .. } => "next-epoch",
            Self::Named => "named",
            Self::Expire => "expire",
            Self::Truncate { .. } => "truncate",
            Self::Delete { .. } => "delete",
            Self::Close => "close",
            Self::Kill => "kill",
            Self::Retry => "retry",
            Self::Cut { .. } => "cut",
        }
    }

    /// One step of a random workload.
    fn random(rng: &mut Rng) -> Self {
        let producer = rng.below(3) as u8;
        let size = SIZES[rng.below(4) as usize].0;
        match rng.below(37) {
            0..=5 => Self::Append { producer, size },
            6..=11 => Self::Submit { producer, size },
            12..=13 => Self::Again { producer, back: rng.below(5) as u8 },
            14 => Self::Plain,
            15 => Self::Both { producer },
            16 => Self::Sync,
            17 => Self::Roll,
            18 => Self::NewId { producer },
            19 => Self::NextEpoch { producer },
            20 => Self::Named,
            21 => Self::Expire,
            22 => Self::Close,
            23 => Self::Kill,
            24 => Self::Retry,
            25..=26 => Self::Truncate { batches: 1 + rng.below(4) as u8 },
            27 => Self::Delete { kept: rng.below(4) as u8 },
            28..=30 => Self::Transact { producer, size },
            31 => Self::Commit { producer },
            32..=33 => Self::Abort { producer },
            _ => Self::Cut { seed: rng.next() as u32 },
        }
    }

    /// A long workload with power cuts in between, which ends in one.
    pub fn workload(seed: u64) -> Vec<Self> {
        let mut rng = Rng::new(seed);
        let length = 10 + rng.below(50);
        let mut ops: Vec<_> = (0..length).map(|_| Self::random(&mut rng)).collect();
        ops.push(Self::Cut { seed: rng.next() as u32 });
        ops
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb())?;
        match self {
            Self::Append { producer, size }
            | Self::Submit { producer, size }
            | Self::Transact { producer, size } => {
                let name = SIZES.iter().find(|(known, _)| known == size).map_or("", |(_, name)| name);
                write!(f, "/{producer}/{name}")
            }
            Self::Again { producer, back } => write!(f, "/{producer}/{back}"),
            Self::Commit { producer }
            | Self::Abort { producer }
            | Self::Both { producer }
            | Self::NewId { producer }
            | Self::NextEpoch { producer } => {
                write!(f, "/{producer}")
            }
            Self::Truncate { batches: count } | Self::Delete { kept: count } => write!(f, "/{count}"),
            Self::Cut { seed } => write!(f, "/{seed}"),
            _ => Ok(()),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split('/');
        let verb = words.next().unwrap_or_default();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let number = |word: &str| word.parse::<u32>().map_err(|error| format!("{text:?}: {error}"));
        let producer = || number(first).map(|producer| producer as u8);
        let size = || {
            let found = SIZES.iter().find(|(_, name)| *name == second);
            found.map(|(size, _)| *size).ok_or(format!("{text:?}: no size"))
        };
        Ok(match verb {
            "append" => Self::Append { producer: producer()?, size: size()? },
            "submit" => Self::Submit { producer: producer()?, size: size()? },
            "transact" => Self::Transact { producer: producer()?, size: size()? },
            "commit" => Self::Commit { producer: producer()? },
            "abort" => Self::Abort { producer: producer()? },
            "again" => Self::Again { producer: producer()?, back: number(second)? as u8 },
            "both" => Self::Both { producer: producer()? },
            "new-id" => Self::NewId { producer: producer()? },
            "next-epoch" => Self::NextEpoch { producer: producer()? },
            "truncate" => Self::Truncate { batches: number(first)? as u8 },
            "delete" => Self::Delete { kept: number(first)? as u8 },
            "cut" => Self::Cut { seed: number(first)? },
            _ => *Self::SIMPLE.iter().find(|op| op.verb() == verb).ok_or(format!("no step {text:?}"))?,
        })
    }
}

impl Op {
    /// The steps that are one word.
    const SIMPLE: [Self; 8] = [
        Self::Plain,
        Self::Sync,
        Self::Roll,
        Self::Named,
        Self::Expire,
        Self::Close,
        Self::Kill,
        Self::Retry,
    ];
}

/// The text of a workload.
pub fn text(ops: &[Op]) -> String {
    ops.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The workload of a text.
pub fn parse(text: &str) -> Result<Vec<Op>, String> {
    text.split_whitespace().map(str::parse).collect()
}

#[test]
fn a_workload_survives_its_text() {
    let ops: Vec<_> = (0..50).flat_map(Op::workload).chain(Op::ALPHABET).collect();
    assert_eq!(parse(&text(&ops)).unwrap(), ops);
}
