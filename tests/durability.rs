//! What is acknowledged and what readers see, as the host asks for another durability or never waits.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking, and its modules are its own"
)]

mod common;

use std::time::Duration;

use common::{MODES, batch, open, options, small};
use idemlog::{AppendOptions, Durability, Error, Log, LogDir, Offset};

fn become_as_durable_as(log: &Log, durability: Durability) {
    log.set_options((*log.options()).clone().durability(durability)).unwrap();
}

/// The high watermark fell to the durable offset, and a consumer that had read above it was told that its offset is out of
/// range: Kafka's then begin anew where they are configured to, and a log that nobody appends to was never synced.
#[test]
fn a_log_that_becomes_synced_takes_nothing_back_from_its_readers() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let dir = open(data.path(), mode);
        let log = dir.partition("t", 0).unwrap();
        become_as_durable_as(&log, Durability::Buffered);
        log.append(&batch(1, 0, 0, 3)).unwrap();
        become_as_durable_as(&log, Durability::Synced);
        assert_eq!((log.high_watermark(), log.durable_offset()), (Offset(3), Offset(0)));
        assert!(log.read(Offset(3), 100).unwrap().bytes.is_empty());

        let pending = log.submit(&[batch(1, 0, 3, 1)], AppendOptions::default()).unwrap();
        assert_eq!(log.high_watermark(), Offset(3), "what comes now waits for the disk");
        pending.wait().unwrap();
        assert_eq!(log.high_watermark(), Offset(4));

        log.truncate_to(Offset(0)).unwrap();
        drop(log.submit(&[batch(1, 0, 0, 3)], AppendOptions::default()).unwrap());
        assert_eq!(log.high_watermark(), Offset(0), "what was seen is gone");
    }
}

/// Only a batch that had to become durable asked for a sync. A backlog of others was never synced, and a host that never waits was
/// refused for ever, its workers idle.
#[test]
fn a_refusal_for_a_full_backlog_has_the_workers_empty_it() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let logs = options(mode).log(small(mode).max_pending(2)).background_threads(2);
        let dir = LogDir::open(data.path(), logs).unwrap();
        let log = dir.partition("t", 0).unwrap();
        let buffered = AppendOptions::default().durability(Durability::Buffered);
        let submit = |at| log.try_submit(&[batch(1, 0, at, 1)], buffered);
        drop((submit(0).unwrap(), submit(1).unwrap()));
        assert!(matches!(submit(2), Err(Error::WouldBlock { bound: "max_pending" })));
        assert!(log.wait_for(Offset(0), Duration::from_secs(30)), "nobody synced");
        submit(2).unwrap();
    }
}
