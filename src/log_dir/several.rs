//! The same done to many partitions, several at a time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::error::Result;
use crate::log::Log;

/// Does `act` to each of the logs, to so many at a time. The first error, in their order.
pub(super) fn each(logs: &[Log], threads: usize, act: impl Fn(&Log) -> Result<()> + Sync) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some(log) = logs.get(at)
        {
            if let Err(error) = act(log) {
                failed.lock().insert(at, error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(logs.len()) {
            // Without it the others do its work.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    failed.into_inner().pop_first().map_or(Ok(()), |(_, error)| Err(error))
}
