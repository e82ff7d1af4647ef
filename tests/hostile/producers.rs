//! Producers that come in floods.

use idemlog::{
    BatchBuilder, Error, LogDir, LogDirOptions, ProducerEpoch, ProducerId, ProducerPolicy, RejectionReason,
    Sequence, Timestamp,
};

use crate::common::{MODES, TestClock, batch, small};

const BUDGET: usize = 100;
const MINUTE: i64 = 60_000;

/// What a producer with this id is told that comes for the first time.
fn comes(log: &idemlog::Log, id: i64) -> Result<(), Error> {
    let first = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(0), Sequence(0));
    log.append(&first.timestamp(Timestamp(1_000)).record("k", "v").build()?).map(drop)
}

#[test]
fn a_flood_of_new_producers_stays_in_the_budget_and_pushes_out_nobody_who_may_still_retry() {
    for mode in MODES {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::at(1_000_000);
        let policy = ProducerPolicy::default().budget(BUDGET);
        let options = LogDirOptions::default().log(small(mode).producers(policy)).clock(clock.clone());
        let dir = LogDir::open(data.path(), options.clone()).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        for id in 0..50 {
            log.append(&batch(id, 0, 0, 1)).unwrap();
        }
        // These were idle for longer than any client waits, those are not.
        clock.advance(16 * MINUTE);
        for id in 50..BUDGET as i64 {
            log.append(&batch(id, 0, 0, 1)).unwrap();
        }
        let taken = (1000..3000).filter(|&id| match comes(&log, id) {
            Ok(()) => true,
            Err(Error::Rejected(rejection)) if rejection.reason == RejectionReason::ProducerBudget => false,
            Err(error) => panic!("{error}"),
        });
        assert_eq!(taken.count(), 50, "as many as were idle");
        assert_eq!(log.producers().len(), BUDGET);
        for id in 50..BUDGET as i64 {
            assert!(log.append(&batch(id, 0, 0, 1)).unwrap().is_duplicate(), "{mode:?} {id}");
        }
        drop((dir, log));
        let dir = LogDir::open(data.path(), options).unwrap();
        let log = dir.partition("orders", 0).unwrap();
        assert!((50..BUDGET as i64).all(|id| log.append(&batch(id, 0, 0, 1)).unwrap().is_duplicate()));
        // Behind the last snapshot the log does not tell who was forgotten; nobody new comes in meanwhile.
        assert!(log.producers().len() <= BUDGET + 50);
        assert!(comes(&log, 3000).is_err());
        clock.advance(15 * MINUTE);
        log.expire_producers();
        assert_eq!(log.producers().len(), BUDGET);
    }
}
