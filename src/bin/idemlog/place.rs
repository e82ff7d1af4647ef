//! What lies at a path, and what to name instead where a command cannot read that.

use std::path::{Path, PathBuf};

use idemlog::TopicPartition;

use crate::Failure;
use crate::output::tell;

/// Says first of a log that somebody has open what to think of the rest. Whether anybody has.
pub(crate) fn note_use(path: &Path) -> bool {
    let is_in_use = idemlog::inspect::is_in_use(path);
    if is_in_use {
        tell(format_args!(
            "{} is open in another process: its end may be under way, and what looks unfinished there is no damage",
            path.display()
        ));
    }
    is_in_use
}

enum Place {
    Partition,
    LogDirectory { partitions: Vec<PathBuf> },
}

/// Whether `path` is the directory of one partition.
pub(crate) fn expect_partition(path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    match found(path)? {
        Place::Partition => Ok(()),
        Place::LogDirectory { partitions } => match partitions.first() {
            Some(first) => Err(format!(
                "{shown} is a log directory; name one of its {} partitions, such as {}",
                partitions.len(),
                first.display()
            )),
            None => Err(format!("{shown} is a log directory that has no partition yet")),
        }?,
    }
}

/// Whether `path` is a log directory, or the directory of one partition.
pub(crate) fn expect_partition_or_log_directory(path: &Path) -> Result<(), Failure> {
    found(path).map(drop)
}

fn found(path: &Path) -> Result<Place, Failure> {
    let shown = path.display();
    if path.is_file() {
        return Err(format!("{shown} is a file; name the directory that it lies in, or `dump` it").into());
    }
    let entries = entries(path)?;
    let mut partitions: Vec<PathBuf> =
        entries.iter().filter(|entry| entry.is_dir() && is_partition_name(entry)).cloned().collect();
    partitions.sort();
    let is_directory = is_log_directory(path);
    if !is_directory {
        // Other directories have such names, too.
        partitions.retain(|partition| holds_segment(partition));
    }
    let is_empty_partition = || {
        let path = path.canonicalize()?;
        Ok::<_, Failure>(is_partition_name(&path) && path.parent().is_some_and(is_log_directory))
    };
    if holds_segment(path) {
        Ok(Place::Partition)
    } else if !partitions.is_empty() || is_directory {
        Ok(Place::LogDirectory { partitions })
    } else if is_empty_partition()? {
        Ok(Place::Partition)
    } else {
        Err(format!(
            "{shown} is neither a log directory nor a partition: it has no .log file and no partition"
        )
        .into())
    }
}

/// Whether a directory has the files that only a log directory has.
fn is_log_directory(path: &Path) -> bool {
    [".lock", ".kafka_cleanshutdown", "recovery-point-offset-checkpoint"]
        .iter()
        .any(|file| path.join(file).exists())
}

/// Whether there is a `.log` file in a directory that is named like a segment's.
fn holds_segment(path: &Path) -> bool {
    let is_segment = |entry: &PathBuf| {
        let stem = entry.file_stem().unwrap_or_default().as_encoded_bytes();
        entry.extension().is_some_and(|extension| extension == "log") && stem.iter().all(u8::is_ascii_digit)
    };
    entries(path).unwrap_or_default().iter().any(is_segment)
}

/// The paths in a directory.
pub(crate) fn entries(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

/// Whether a directory is called like a partition: `orders-0`.
fn is_partition_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').is_some_and(|(topic, partition)| {
        partition.parse().is_ok_and(|partition| TopicPartition::new(topic, partition).is_ok())
    })
}
