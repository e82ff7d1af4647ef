//! The one place that names the locks, so that a model checker can put its own in their place.

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
