//! Progress of long work, for somebody who watches; elsewhere nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use crate::place;

/// Runs `work` on a log, showing how large the log is and how long it takes.
pub(crate) fn waiting<T>(log: &Path, work: impl FnOnce() -> T) -> T {
    let style = ProgressStyle::with_template("{spinner} reading {msg}, {elapsed}");
    let spinner = ProgressBar::new_spinner().with_message(HumanBytes(bytes_in(log)).to_string());
    spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let done = work();
    spinner.finish_and_clear();
    done
}

/// A bar over things that are counted, which may take long each.
pub(crate) fn counting(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {human_pos} of {human_len}, {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##.");
    let bar = ProgressBar::new(0).with_message(name.to_owned()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The bytes of all files in a directory.
fn bytes_in(directory: &Path) -> u64 {
    bytes_of(directory, &|_| true)
}

/// The bytes of the `.log` files in a directory.
pub(crate) fn log_bytes_in(directory: &Path) -> u64 {
    bytes_of(directory, &|path| path.extension().is_some_and(|extension| extension == "log"))
}

/// What cannot be read counts as nothing.
fn bytes_of(directory: &Path, counts: &dyn Fn(&Path) -> bool) -> u64 {
    let bytes = |path: &PathBuf| match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => bytes_of(path, counts),
        Ok(metadata) if counts(path) => metadata.len(),
        _ => 0,
    };
    place::entries(directory).unwrap_or_default().iter().map(bytes).sum()
}

/// A bar over so many bytes, called `name`; `is_hidden` where the work's own lines show how far it is.
pub(crate) fn bar(name: &str, bytes: u64, is_hidden: bool) -> ProgressBar {
    if is_hidden {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:30}] {bytes} of {total_bytes}, {eta} left");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##.");
    ProgressBar::new(bytes).with_message(name.to_owned()).with_style(style)
}
