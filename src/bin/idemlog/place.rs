//! What lies at a path, and what to name instead where a command cannot read that.

use std::path::{Path, PathBuf};

use idemlog::inspect::{Place, place};

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

/// Whether `path` is the directory of one partition.
pub(crate) fn expect_partition(path: &Path) -> Result<(), Failure> {
    let Place::LogDirectory { partitions } = found(path)? else { return Ok(()) };
    let shown = path.display();
    Err(match partitions.first() {
        Some(first) => format!(
            "{shown} is a log directory; name one of its {} partitions, such as {}",
            partitions.len(),
            path.join(first.to_string()).display()
        ),
        None => format!("{shown} is a log directory that has no partition yet"),
    })?
}

/// Whether `path` is a log directory, or the directory of one partition.
pub(crate) fn expect_partition_or_log_directory(path: &Path) -> Result<(), Failure> {
    found(path).map(drop)
}

/// Which of the two lies at `path`.
pub(crate) fn found(path: &Path) -> Result<Place, Failure> {
    let shown = path.display();
    if path.is_file() {
        return Err(format!("{shown} is a file; name the directory that it lies in, or `dump` it").into());
    }
    let neither = || format!("{shown} is neither a log directory nor a partition: no file of either is here");
    Ok(place(path)?.ok_or_else(neither)?)
}

/// The paths in a directory.
pub(crate) fn entries(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}
