//! The events that a host's subscriber hears of.
#![cfg(feature = "tracing")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::fmt::{Debug, Write};
use std::sync::Arc;

use common::{MODES, options, plain};
use idemlog::sim::{Fault, Operation, SimDisk};
use idemlog::{LogDir, LogDirOptions};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps each event as a line.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Heard {
    /// How many events there were since the last look in which all of this is.
    fn count(&self, parts: &[&str]) -> usize {
        self.0.lock().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    fn forget(&self) {
        self.0.lock().clear();
    }
}

/// Of a partition that was poisoned or did not open, of a deletion that failed, and of the directory no event told, and of one that
/// was being read when a bad sector killed the process neither.
#[test]
fn what_goes_wrong_and_what_is_about_to_be_read_is_an_event() {
    let heard = Heard::default();
    let guard = tracing::subscriber::set_default(heard.clone());
    for mode in MODES {
        let disk = SimDisk::new(mode);
        // On this thread alone, which is the one that listens.
        let options = || -> LogDirOptions { options(mode).disk(Arc::new(disk.clone())).recovery_threads(1) };
        let dir = LogDir::open("/data", options()).unwrap();
        let [sound, bad] = ["sound", "bad"].map(|topic| dir.partition(topic, 0).unwrap());
        [&sound, &bad]
            .into_iter()
            .for_each(|log| assert!(!log.append(&plain("stored")).unwrap().is_duplicate()));
        disk.inject(Fault::nth(Operation::Sync, 1).on("bad-0/"));
        (0..3).for_each(|_| drop(bad.append(&plain("lost")).unwrap_err()));
        assert_eq!(heard.count(&["ERROR", "poisoned", "partition=bad-0"]), 1, "{mode:?}");
        dir.close().unwrap_err();
        assert_eq!(heard.count(&["WARN", "log directory closed badly", "directory=/data"]), 1, "{mode:?}");

        heard.forget();
        disk.inject(Fault::nth(Operation::Read, 1).on("bad-0/").forever());
        disk.inject(Fault::nth(Operation::Map, 1).on("bad-0/").forever());
        let dir = LogDir::open("/data", options()).unwrap();
        disk.clear_faults();
        for partition in ["sound-0", "bad-0"] {
            assert_eq!(heard.count(&["DEBUG", "opening", partition]), 1, "{mode:?} {partition}");
        }
        assert_eq!(heard.count(&["ERROR", "did not open", "partition=bad-0"]), 1, "{mode:?}");
        assert_eq!(heard.count(&["INFO", "log directory opened", "partitions=1", "failed=1"]), 1, "{mode:?}");
        disk.inject(Fault::nth(Operation::Rename, 1));
        dir.delete_partition("bad", 0).unwrap_err();
        assert_eq!(heard.count(&["WARN", "a deletion failed", "partition=bad-0"]), 1, "{mode:?}");
        assert!(dir.delete_partition("bad", 0).unwrap());
        dir.close().unwrap();
        assert_eq!(heard.count(&["INFO", "log directory closed"]), 1, "{mode:?}");
        heard.forget();
    }
    drop(guard);
}
