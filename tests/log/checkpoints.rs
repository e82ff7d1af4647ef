//! When the checkpoints of a directory are written, and for whom.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use idemlog::sim::SimDisk;
use idemlog::{Disk, IoMode, LogDir, LogDirOptions, Offset};

use crate::common::{batch, small};
use crate::gate::GatedDisk;
use crate::watched::WatchedDisk;

/// Each roll had the files written that tell of all partitions, the square of their number in a wave of rolls: the one thread that
/// seals segments was at nothing else for minutes.
#[test]
fn a_wave_of_rolls_writes_the_checkpoints_a_few_times_and_at_last() {
    const PARTITIONS: i32 = 60;
    let gated = GatedDisk::new(&SimDisk::new(IoMode::Write));
    let disk = WatchedDisk::over(Arc::clone(&gated) as Arc<dyn Disk>);
    let options = LogDirOptions::default().log(small(IoMode::Write)).disk(Arc::clone(&disk) as Arc<dyn Disk>);
    let dir = LogDir::open("/data", options.clone().background_threads(2)).unwrap();
    let logs: Vec<_> = (0..PARTITIONS).map(|number| dir.partition("t", number).unwrap()).collect();
    // The first one is at its chores until all others have some.
    let gate = gated.close_before_for("t-0/leader-epoch-checkpoint", Duration::from_secs(60));
    let points = "recovery-point-offset-checkpoint";
    let written = disk.renamed(points);
    for log in &logs {
        (0..35).for_each(|sequence| {
            log.append(&batch(1, 0, sequence, 1)).unwrap();
        });
    }
    gate.wait();
    gate.open();
    let began = Instant::now();
    let is_done = || dir.metrics().chores_waiting == 0 && dir.metrics().checkpoints_behind_for.is_zero();
    while !is_done() || logs.iter().any(|log| log.recovery_point() == Offset(0)) {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(1));
    }
    let written = disk.renamed(points) - written;
    // One at the end, and one for each second that it takes.
    assert!(written <= 3 + began.elapsed().as_secs() as usize, "{written} times for {PARTITIONS} partitions");

    let recovered: Vec<_> = logs.iter().map(idemlog::Log::recovery_point).collect();
    drop((logs, dir));
    let dir = LogDir::open("/data", options).unwrap();
    for (number, point) in (0..PARTITIONS).zip(recovered) {
        assert_eq!(dir.partition("t", number).unwrap().recovery().recovery_point, point, "{number}");
    }
}
