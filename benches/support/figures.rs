//! Figures that no benchmark of criterion's measures: percentiles, bytes, the longest of all. Written where criterion
//! writes its own and in the same form, so that `ci/bench-table` finds them.

use std::fs;
use std::path::PathBuf;

use super::is_trial;

/// Prints a figure, and keeps it as the one of `id` in `group`. Times are in nanoseconds.
pub(crate) fn record(group: &str, id: &str, figure: f64) {
    println!("{group}/{id}: {figure:.1}");
    if is_trial() {
        return;
    }
    let directory = criterion_directory().join(group.replace('/', "_")).join(id).join("new");
    fs::create_dir_all(&directory).expect("a directory for the figure");
    let benchmark = format!(r#"{{"group_id":"{group}","function_id":"{id}"}}"#);
    let estimates = format!(r#"{{"median":{{"point_estimate":{figure}}}}}"#);
    fs::write(directory.join("benchmark.json"), benchmark).expect("the figure's name");
    fs::write(directory.join("estimates.json"), estimates).expect("the figure");
}

/// `target/criterion`, seen from `target/release/deps/bench`.
fn criterion_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a program");
    program.ancestors().nth(3).expect("a target directory").join("criterion")
}

/// The time that a part `quantile` of all stays within.
pub(crate) fn quantile(times: &mut [u32], quantile: f64) -> f64 {
    if times.is_empty() {
        return 0.0;
    }
    let at = ((times.len() as f64 * quantile) as usize).min(times.len() - 1);
    f64::from(*times.select_nth_unstable(at).1)
}

/// The one in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
