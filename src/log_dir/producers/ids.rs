//! Gives out producer ids, each once, whatever happens to the process or the power in between.
//!
//! The file `idemlog-producer-ids` is a header of our [own files](super::own_file), magic `idemlpid`, version 1, with
//! one field: the first id that is not reserved (8 bytes). What is below it in the directory's range may have been given
//! out, and what is below the range in an earlier one. Ids are
//! reserved in blocks: the file is replaced, durably, before the first id of a block is given out, so a crash can lose
//! the rest of a block but never repeat an id.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::own_file::Kind;
use crate::error::{CorruptionKind, Error, Result};
use crate::fs::missing::read_if_present;
use crate::fs::{Disk, atomic, name};
use crate::sync::Mutex;
use crate::types::ProducerId;

const KIND: Kind = Kind { magic: b"idemlpid", version: 1 };

/// The ids reserved at once: one durable write for so many producers.
const BLOCK: i64 = 1000;

/// The producer ids of a log directory.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// No id from here on is this directory's.
    end: ProducerId,
    reserved: Mutex<Reserved>,
}

/// The ids that are reserved and not given out: [`next`, `end`), none where they have met. The file says `end`.
#[derive(Debug)]
struct Reserved {
    next: i64,
    end: i64,
    /// Whether the next owner of the directory may have read the file already.
    has_left: bool,
}

impl ProducerIds {
    /// Takes up in `range` where the file says, and above `known`: the highest id of the range that batches in the partitions
    /// have already, whoever gave it out. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a file that is damaged or of a newer version: going on without it could repeat an id.
    /// [`Error::InvalidOption`] where ids above the range were given out: it is not known which of the range were.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: &Path,
        range: Range<ProducerId>,
        known: Option<ProducerId>,
    ) -> Result<Self> {
        let path = directory.join(name::directory_file::PRODUCER_IDS);
        let stored = read(&*disk, &path)?;
        if stored > range.end.0 {
            let expected = "a range that does not end below the ids that were given out";
            let got = format!("{range:?}, below {stored}");
            return Err(Error::InvalidOption { option: "producer_ids", expected, got });
        }
        let behind_known = known.map_or(0, |known| known.0.saturating_add(1));
        let next = stored.max(behind_known).max(range.start.0);
        let reserved = Mutex::new(Reserved { next, end: stored, has_left: false });
        Ok(Self { disk, path, end: range.end, reserved })
    }

    /// An id that was never given out before. Reserves a block, waiting for the disk, when the last one is used up.
    ///
    /// # Errors
    ///
    /// The disk's, if a block cannot be reserved; the next call tries again. [`Error::ProducerIdsExhausted`] at the end of the
    /// range. [`Error::Closed`]
    /// after [`leave`](Self::leave).
    pub(crate) fn next(&self) -> Result<ProducerId> {
        let mut reserved = self.reserved.lock();
        if reserved.has_left {
            return Err(Error::Closed);
        }
        if reserved.next >= reserved.end {
            let end = reserved.next.saturating_add(BLOCK).min(self.end.0);
            if end <= reserved.next {
                return Err(Error::ProducerIdsExhausted);
            }
            self.write(end)?;
            reserved.end = end;
        }
        let id = ProducerId(reserved.next);
        reserved.next += 1;
        Ok(id)
    }

    /// Gives out no id up to `known` any more: a partition that has come later knows it.
    pub(crate) fn pass(&self, known: Option<ProducerId>) {
        let mut reserved = self.reserved.lock();
        let behind_known = known.map_or(0, |known| known.0.saturating_add(1));
        reserved.next = reserved.next.max(behind_known);
    }

    /// The same for one of the range that the host has heard of elsewhere, durably: the next opening is not told of it.
    ///
    /// # Errors
    ///
    /// The disk's. [`Error::Closed`] after [`leave`](Self::leave).
    pub(crate) fn pass_durably(&self, known: ProducerId) -> Result<()> {
        let mut reserved = self.reserved.lock();
        if reserved.has_left {
            return Err(Error::Closed);
        }
        if known >= self.end {
            return Ok(());
        }
        let next = known.0 + 1;
        if next > reserved.end {
            self.write(next)?;
            reserved.end = next;
        }
        reserved.next = reserved.next.max(next);
        Ok(())
    }

    /// Says that all below `end` are reserved.
    fn write(&self, end: i64) -> Result<()> {
        atomic::replace_file(&*self.disk, &self.path, &KIND.encode(&end.to_be_bytes()))
    }

    /// Waits for who is about to get an id. Nobody gets one any more.
    pub(crate) fn leave(&self) {
        self.reserved.lock().has_left = true;
    }
}

/// The first id that is not reserved.
fn read(disk: &dyn Disk, path: &Path) -> Result<i64> {
    // One byte more than the file has, so that a longer one is seen to be.
    let limit = Kind::header_size(size_of::<i64>()) as u64 + 1;
    let Some(bytes) = read_if_present(disk, path, limit)? else { return Ok(0) };
    decode(&bytes).map_err(|kind| Error::corrupt(path, 0, kind))
}

fn decode(bytes: &[u8]) -> Result<i64, CorruptionKind> {
    let (&next, rest) = KIND.decode(bytes)?;
    let next = i64::from_be_bytes(next);
    if next < 0 || !rest.is_empty() {
        return Err(CorruptionKind::Format("the file is not one producer id"));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::fs::sim::{Fault, Operation, SimDisk};
    use crate::fs::{Access, IoMode};
    use crate::log_dir::options::ALL_PRODUCER_IDS;

    /// Opens all ids where the partitions know those below `at_least`.
    fn open(disk: &SimDisk, at_least: i64) -> Result<ProducerIds> {
        open_range(disk, ALL_PRODUCER_IDS, at_least - 1)
    }

    fn open_range(disk: &SimDisk, range: Range<ProducerId>, known: i64) -> Result<ProducerIds> {
        ProducerIds::open(Arc::new(disk.clone()), Path::new("/"), range, Some(ProducerId(known)))
    }

    fn write(disk: &SimDisk, bytes: &[u8]) {
        let path = Path::new("/").join(name::directory_file::PRODUCER_IDS);
        atomic::replace_file(disk, &path, bytes).unwrap();
    }

    #[test]
    fn ids_count_up_and_go_on_behind_the_last_block_after_a_reopen() {
        let disk = SimDisk::new(IoMode::Write);
        let ids = open(&disk, 0).unwrap();
        assert!((0..BLOCK + 1).all(|expected| ids.next().unwrap() == ProducerId(expected)));
        let reopened = open(&disk, 0).unwrap();
        assert_eq!(reopened.next().unwrap(), ProducerId(2 * BLOCK));
    }

    #[test]
    fn an_id_is_not_below_those_that_the_partitions_know() {
        let disk = SimDisk::new(IoMode::Write);
        assert_eq!(open(&disk, 5000).unwrap().next().unwrap(), ProducerId(5000));
        assert_eq!(open(&disk, 0).unwrap().next().unwrap(), ProducerId(5000 + BLOCK));
        assert_eq!(open(&disk, -1).unwrap().next().unwrap(), ProducerId(5000 + 2 * BLOCK));
    }

    #[test]
    fn threads_never_get_the_same_id() {
        let disk = SimDisk::new(IoMode::Write);
        let ids = open(&disk, 0).unwrap();
        let all: Vec<ProducerId> = std::thread::scope(|scope| {
            let draw = || (0..700).map(|_| ids.next().unwrap()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 2800);
    }

    #[test]
    fn no_id_comes_twice_wherever_the_power_is_cut() {
        let disk = SimDisk::new(IoMode::Write);
        let mut given = 0;
        for start in [0, 7] {
            let ids = open(&disk, start).unwrap();
            for _ in 0..BLOCK + 1 {
                given = ids.next().unwrap().0;
                disk.mark(given as u64);
            }
        }
        assert_eq!(given, 3 * BLOCK);
        for point in 0..disk.crash_points() {
            let promised = disk.marks(point).last().copied();
            for image in disk.images(point, 64, point as u64) {
                let next = open(&image, 0).unwrap().next().unwrap().0 as u64;
                assert!(promised.is_none_or(|promised| next > promised), "{next} after {promised:?}");
            }
        }
    }

    #[test]
    fn a_block_that_cannot_be_reserved_gives_out_nothing_and_is_tried_again() {
        for operation in [
            Operation::Create,
            Operation::Write,
            Operation::Sync,
            Operation::Rename,
            Operation::SyncDirectory,
        ] {
            let disk = SimDisk::new(IoMode::Write);
            let ids = open(&disk, 0).unwrap();
            disk.inject(Fault::nth(operation, 1));
            assert!(matches!(ids.next(), Err(Error::Io(_))), "{operation:?}");
            assert_eq!(ids.next().unwrap(), ProducerId(0), "{operation:?}");
        }
    }

    #[test]
    fn who_has_left_gives_out_nothing_also_of_what_is_reserved() {
        let disk = SimDisk::new(IoMode::Write);
        let ids = open(&disk, 0).unwrap();
        ids.next().unwrap();
        ids.leave();
        assert!(matches!(ids.next(), Err(Error::Closed)));
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused() {
        let whole = KIND.encode(&42_i64.to_be_bytes());
        let newer = Kind { version: 2, ..KIND }.encode(&42_i64.to_be_bytes());
        let mut flipped = whole.clone();
        flipped[17] ^= 1;
        let cases = [
            ("empty", vec![]),
            ("cut", whole[..21].to_vec()),
            ("longer", [&whole[..], &[0]].concat()),
            ("flipped", flipped),
            ("newer", newer),
            ("negative", KIND.encode(&(-1_i64).to_be_bytes())),
        ];
        let disk = SimDisk::new(IoMode::Write);
        for (what, bytes) in cases {
            write(&disk, &bytes);
            assert!(matches!(open(&disk, 0), Err(Error::Corrupt(_))), "{what}");
        }
        write(&disk, &whole);
        assert_eq!(open(&disk, 0).unwrap().next().unwrap(), ProducerId(42));
    }

    #[test]
    fn opening_writes_nothing() {
        let disk = SimDisk::new(IoMode::Write);
        open(&disk, 7).unwrap();
        let path = Path::new("/").join(name::directory_file::PRODUCER_IDS);
        assert!(disk.open(&path, Access::Read).is_err());
    }

    #[test]
    fn the_last_ids_are_given_out_and_then_no_more() {
        let disk = SimDisk::new(IoMode::Write);
        let ids = open(&disk, i64::MAX - 2).unwrap();
        assert_eq!(ids.next().unwrap(), ProducerId(i64::MAX - 2));
        assert_eq!(ids.next().unwrap(), ProducerId(i64::MAX - 1));
        assert!(matches!(ids.next(), Err(Error::ProducerIdsExhausted)));
        assert!(matches!(open(&disk, 0).unwrap().next(), Err(Error::ProducerIdsExhausted)));
    }

    #[test]
    fn a_range_is_given_out_to_its_end_and_may_be_followed_by_another() {
        let disk = SimDisk::new(IoMode::Write);
        let range = |start, end| ProducerId(start)..ProducerId(end);
        for _ in 0..2 {
            let ids = open_range(&disk, range(5000, 5000 + 2 * BLOCK - 1), -1).unwrap();
            ids.next().unwrap();
        }
        let ids = open_range(&disk, range(5000, 5000 + 2 * BLOCK - 1), -1).unwrap();
        assert!(
            matches!(ids.next(), Err(Error::ProducerIdsExhausted)),
            "a block that was reserved is used up"
        );
        assert_eq!(open_range(&disk, range(5500, 9000), 8000).unwrap().next().unwrap(), ProducerId(8001));
        assert_eq!(open_range(&disk, range(20_000, 20_010), -1).unwrap().next().unwrap(), ProducerId(20_000));
        let refused = open_range(&disk, range(0, 20_009), -1);
        assert!(matches!(refused, Err(Error::InvalidOption { option: "producer_ids", .. })), "{refused:?}");
    }
}
