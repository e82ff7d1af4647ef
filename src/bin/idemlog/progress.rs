//! Progress of long work, for somebody who watches; elsewhere nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressState, ProgressStyle};

use crate::place;

/// Runs `work` on a log, showing how much of it was read and how long it takes. An opening need not read all that there is.
pub(crate) fn waiting<T>(log: &Path, work: impl FnOnce() -> T) -> T {
    let style = ProgressStyle::with_template("{spinner} {read} read of {msg} at the most, {elapsed}");
    let spinner = ProgressBar::new_spinner().with_message(HumanBytes(bytes_in(log)).to_string());
    spinner.set_style(telling_what_is_read(style.unwrap_or_else(|_| ProgressStyle::default_spinner())));
    spinner.tick();
    spinner.enable_steady_tick(TICK);
    let done = work();
    spinner.finish_and_clear();
    done
}

/// A bar over so many things, which may take long each.
pub(crate) fn counting(name: &str, count: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} [{bar:30}] {human_pos} of {human_len}, {read} read, {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("##.");
    let bar =
        ProgressBar::new(count as u64).with_message(name.to_owned()).with_style(telling_what_is_read(style));
    bar.tick();
    bar.enable_steady_tick(TICK);
    bar
}

const TICK: Duration = Duration::from_millis(100);

/// Gives a style `{read}`: how many bytes this process has read since.
fn telling_what_is_read(style: ProgressStyle) -> ProgressStyle {
    let before = bytes_read();
    style.with_key("read", move |_: &ProgressState, text: &mut dyn Write| {
        let read = bytes_read().zip(before).map(|(now, before)| HumanBytes(now.saturating_sub(before)));
        // A line of progress that cannot be made is none.
        let _ = match read {
            Some(read) => write!(text, "{read}"),
            None => text.write_str("some"),
        };
    })
}

/// The bytes that this process has read, where the system counts them.
fn bytes_read() -> Option<u64> {
    let counted = std::fs::read_to_string("/proc/self/io").ok()?;
    counted.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
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
