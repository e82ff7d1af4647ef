//! A broken promise, in words.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};

use idemlog::Error;
use idemlog::sim::Fault;

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
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| Err(format!("panicked: {}", words(&*panic))))
}

/// Calls as a host does that survives what its disk does: nobody knows what came of a call in which the disk panics.
pub fn surviving<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        if words(&*panic) == Fault::PANIC { Err(Error::InDoubt) } else { resume_unwind(panic) }
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// Prints no panics that were planned.
pub fn expect_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if words(info.payload()) != Fault::PANIC {
                before(info);
            }
        }));
    });
}
