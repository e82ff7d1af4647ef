//! A broken promise, in words.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// `Err` says what was broken.
pub type Checked<T> = Result<T, String>;

pub fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Checked<()> {
    if holds { Ok(()) } else { Err(violation()) }
}

/// Puts a name before an error.
pub fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

/// A panic is a violation like others, so that workloads that panic can be shrunk.
pub fn catching<T>(check: impl FnOnce() -> Checked<T>) -> Checked<T> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", words.unwrap_or("without words")))
    })
}
