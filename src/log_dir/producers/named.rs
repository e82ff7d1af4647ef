//! Producers that have a name: whoever comes under it gets the same producer id with the next epoch, and everybody who
//! came under it before is fenced.
//!
//! The file `idemlog-named-producers` is a journal: a header of our [own files](super::own_file), magic `idemlpnm`,
//! version 1, with one field, the number of slots that the file was begun with (4 bytes); then slots of 264 bytes.
//!
//! ```text
//! at size field of a slot
//!  0    4 CRC-32C over the rest of the slot
//!  4    8 producer id
//! 12    2 producer epoch
//! 14    1 length of the name; 0 for a retired id
//! 15  249 name in UTF-8, zeros behind it
//! ```
//!
//! The last slot of a name tells its id and epoch. An id that a name had before is retired. All integers are big
//! endian.
//!
//! # After a crash
//!
//! The file is begun by an atomic replacement, whole. Each incarnation adds one slot, which is synced before it is
//! told to anybody and before the next slot is written. So a crash leaves
//!
//! * all slots: the last one may not have been told, which skips an epoch;
//! * the last slot torn, or its bytes missing: it was not told, and is ignored. The file is not appended to any more,
//!   but replaced, so that nothing is ever written behind torn bytes.
//!
//! A damaged slot anywhere else did not come from a crash and is refused. A write or sync that fails leaves the last
//! slot undecided: the next incarnation replaces the file, too.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::own_file::{self, Kind};
use crate::crc::crc32c;
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::missing::read_if_present;
use crate::fs::{Access, Disk, DiskFile, atomic, name};
use crate::sync::Mutex;
use crate::types::{ProducerEpoch, ProducerId};

const KIND: Kind = Kind { magic: b"idemlpnm", version: 1 };
const HEADER_SIZE: usize = Kind::header_size(size_of::<u32>());
const SLOT_SIZE: usize = 264;
const NAME_MAX: usize = 249;

/// More than four million slots; a larger file is not read, nor written.
const FILE_MAX: u64 = 1 << 30;
const SLOTS_MAX: usize = (FILE_MAX as usize - HEADER_SIZE) / SLOT_SIZE;
/// Slots that a journal may have before it is begun again, however few producers it tells of.
const SLOTS_MIN: usize = 64;

/// The last epoch that an incarnation gets. The one above is never given out: it is the fence of a retired id.
const EPOCH_MAX: ProducerEpoch = ProducerEpoch(ProducerEpoch::MAX.0 - 1);

/// The named producers of a log directory.
#[derive(Debug)]
pub(crate) struct NamedProducers {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    state: Mutex<State>,
    /// [`SLOTS_MAX`], but in tests.
    slots_max: usize,
}

#[derive(Debug, Default)]
struct State {
    producers: Producers,
    /// The file to append to. `None` until it was replaced once, and after a failure: then it is replaced again.
    journal: Option<Journal>,
    /// Whether the next owner of the directory may have read the journal already.
    has_left: bool,
}

#[derive(Debug)]
struct Journal {
    file: Arc<dyn DiskFile>,
    slots: usize,
}

/// A producer that has come under a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incarnation {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    /// The id that the name had until now, and whose epochs are used up.
    retired: Option<ProducerId>,
}

impl Incarnation {
    /// Which epochs are refused from now on, as [`fences`](NamedProducers::fences) has them.
    pub(crate) fn fences(self) -> impl Iterator<Item = (ProducerId, ProducerEpoch)> {
        self.retired.map(retired_fence).into_iter().chain([(self.id, self.epoch)])
    }
}

/// A retired id is fenced at 32,767. No incarnation ever gets that epoch, so none of them passes.
fn retired_fence(id: ProducerId) -> (ProducerId, ProducerEpoch) {
    (id, ProducerEpoch::MAX)
}

/// What the journal tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Producers {
    by_name: HashMap<String, (ProducerId, ProducerEpoch)>,
    retired: Vec<ProducerId>,
}

impl NamedProducers {
    /// Reads the journal, if there is one. Writes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] for a file that no crash leaves, or of a newer version: going on without it could give out an
    /// epoch twice.
    pub(crate) fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self> {
        let path = directory.join(name::directory_file::NAMED_PRODUCERS);
        let producers = match read_if_present(&*disk, &path, FILE_MAX)? {
            Some(bytes) => {
                decode(&bytes).map_err(|(position, kind)| Error::corrupt(&path, position as u64, kind))?
            }
            None => Producers::default(),
        };
        let state = Mutex::new(State { producers, ..State::default() });
        Ok(Self { disk, path, state, slots_max: SLOTS_MAX })
    }

    /// The next producer called `name`, durable when this returns: for a new name an id from `allocate` and epoch 0, then the
    /// same id and one epoch more each time. When the epochs of an id are used up, it is retired, and the name gets a new one.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] for a name that is not 1 to 249 bytes long; [`Error::ProducerNamesExhausted`];
    /// [`Error::Closed`] after [`leave`](Self::leave); those of `allocate` and of the disk. Nothing was given out then; an id may have been lost.
    pub(crate) fn next_incarnation(
        &self,
        name: &str,
        allocate: impl FnOnce() -> Result<ProducerId>,
    ) -> Result<Incarnation> {
        check_name(name)?;
        let mut state = self.state.lock();
        if state.has_left {
            return Err(Error::Closed);
        }
        let (id, epoch) = match state.producers.by_name.get(name) {
            Some(&(id, epoch)) if epoch < EPOCH_MAX => (id, ProducerEpoch(epoch.0 + 1)),
            _ => {
                // As many slots again are for incarnations: else each would have to begin the journal again.
                self.check_room(&state.producers, self.slots_max / 2)?;
                (allocate()?, ProducerEpoch(0))
            }
        };
        self.check_room(&state.producers, self.slots_max)?;
        // Taken out first: after a failure the file must be replaced.
        let journal = match state.journal.take() {
            Some(journal) if journal.slots < state.producers.slots_max().min(self.slots_max) => {
                self.append(journal, &encode_slot(name, id, epoch))?
            }
            _ => self.replace(&state.producers, &encode_slot(name, id, epoch))?,
        };
        state.journal = Some(journal);
        let retired = state.producers.apply(name, id, epoch);
        Ok(Incarnation { id, epoch, retired })
    }

    /// Waits for who is about to get an incarnation. Nobody gets one any more.
    pub(crate) fn leave(&self) {
        self.state.lock().has_left = true;
    }

    /// The lowest epoch that each id may still append with: the current one of its name.
    pub(crate) fn fences(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch)> {
        let producers = &self.state.lock().producers;
        let retired = producers.retired.iter().copied().map(retired_fence);
        producers.by_name.values().copied().chain(retired).collect::<Vec<_>>().into_iter()
    }

    /// Whether one slot more than it takes to tell this is within `most`.
    fn check_room(&self, producers: &Producers, most: usize) -> Result<()> {
        if producers.len() < most { Ok(()) } else { Err(Error::ProducerNamesExhausted) }
    }

    fn append(&self, journal: Journal, slot: &[u8; SLOT_SIZE]) -> Result<Journal> {
        let position = HEADER_SIZE + journal.slots * SLOT_SIZE;
        journal.file.write_at(slot, position as u64).at("write", &self.path)?;
        journal.file.sync().at("sync", &self.path)?;
        Ok(Journal { slots: journal.slots + 1, ..journal })
    }

    /// Begins a new journal with what is known, and `slot` behind it.
    fn replace(&self, producers: &Producers, slot: &[u8; SLOT_SIZE]) -> Result<Journal> {
        let slots = producers.len() + 1;
        let mut bytes = KIND.encode(&(slots as u32).to_be_bytes());
        bytes.reserve(slots * SLOT_SIZE);
        producers.encode_into(&mut bytes);
        bytes.extend_from_slice(slot);
        atomic::replace_file(&*self.disk, &self.path, &bytes)?;
        let file = self.disk.open(&self.path, Access::Write).at("open", &self.path)?;
        Ok(Journal { file, slots })
    }
}

fn check_name(name: &str) -> Result<()> {
    if (1..=NAME_MAX).contains(&name.len()) {
        return Ok(());
    }
    let got = format!("{} bytes", name.len());
    Err(Error::InvalidOption { option: "producer name", expected: "1 to 249 bytes", got })
}

impl Producers {
    /// The slots that it takes to tell this.
    fn len(&self) -> usize {
        self.by_name.len() + self.retired.len()
    }

    /// The slots that a journal may have before it is worth beginning it again.
    fn slots_max(&self) -> usize {
        (2 * self.len()).max(SLOTS_MIN)
    }

    /// Takes in what a slot says. Returns the id that it retires.
    fn apply(&mut self, name: &str, id: ProducerId, epoch: ProducerEpoch) -> Option<ProducerId> {
        let retired = if name.is_empty() {
            Some(id)
        } else {
            let before = self.by_name.insert(name.to_owned(), (id, epoch));
            before.map(|(before, _)| before).filter(|&before| before != id)
        };
        self.retired.extend(retired);
        retired
    }

    fn encode_into(&self, bytes: &mut Vec<u8>) {
        for &id in &self.retired {
            bytes.extend_from_slice(&encode_slot("", id, ProducerEpoch::MAX));
        }
        for (name, &(id, epoch)) in &self.by_name {
            bytes.extend_from_slice(&encode_slot(name, id, epoch));
        }
    }
}

/// What a journal tells; the position and kind of what is wrong with it otherwise.
fn decode(bytes: &[u8]) -> Result<Producers, (usize, CorruptionKind)> {
    let (&begun_with, journal) = KIND.decode(bytes).map_err(|kind| (0, kind))?;
    let begun_with = u32::from_be_bytes(begun_with) as usize;
    let (slots, torn) = journal.as_chunks::<SLOT_SIZE>();
    if slots.len() < begun_with {
        let expected = HEADER_SIZE as u64 + begun_with as u64 * SLOT_SIZE as u64;
        return Err((bytes.len(), CorruptionKind::Length { expected, got: bytes.len() as u64 }));
    }
    let mut producers = Producers::default();
    for (number, slot) in slots.iter().enumerate() {
        let may_be_torn = torn.is_empty() && number + 1 == slots.len() && number >= begun_with;
        match decode_slot(slot) {
            Ok((name, id, epoch)) => drop(producers.apply(name, id, epoch)),
            Err(_) if may_be_torn => {}
            Err(kind) => return Err((HEADER_SIZE + number * SLOT_SIZE, kind)),
        }
    }
    Ok(producers)
}

/// A slot; `name` has at most 249 bytes.
fn encode_slot(name: &str, id: ProducerId, epoch: ProducerEpoch) -> [u8; SLOT_SIZE] {
    let mut slot = [0; SLOT_SIZE];
    slot[4..12].copy_from_slice(&id.0.to_be_bytes());
    slot[12..14].copy_from_slice(&epoch.0.to_be_bytes());
    slot[14] = name.len() as u8;
    slot[15..15 + name.len()].copy_from_slice(name.as_bytes());
    let crc = crc32c(&slot[4..]);
    slot[..4].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode_slot(slot: &[u8; SLOT_SIZE]) -> Result<(&str, ProducerId, ProducerEpoch), CorruptionKind> {
    const PROBLEM: CorruptionKind =
        CorruptionKind::Format("a slot is not the name, id and epoch of a producer");
    let [c0, c1, c2, c3, i0, i1, i2, i3, i4, i5, i6, i7, e0, e1, len, name @ ..] = slot;
    own_file::check_crc([*c0, *c1, *c2, *c3], &slot[4..])?;
    let id = ProducerId(i64::from_be_bytes([*i0, *i1, *i2, *i3, *i4, *i5, *i6, *i7]));
    let epoch = ProducerEpoch(i16::from_be_bytes([*e0, *e1]));
    let name = name.get(..usize::from(*len)).and_then(|name| str::from_utf8(name).ok()).ok_or(PROBLEM)?;
    let epoch_fits = name.is_empty() || (ProducerEpoch(0)..=EPOCH_MAX).contains(&epoch);
    if id.is_some() && epoch_fits { Ok((name, id, epoch)) } else { Err(PROBLEM) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fs::IoMode;
    use crate::fs::sim::{FailedSync, Fault, Oldest, Operation, SimDisk};

    fn open(disk: &SimDisk) -> Result<NamedProducers> {
        NamedProducers::open(Arc::new(disk.clone()), Path::new("/"))
    }

    fn path() -> PathBuf {
        Path::new("/").join(name::directory_file::NAMED_PRODUCERS)
    }

    fn next(producers: &NamedProducers, name: &str, id: i64) -> (i64, i16) {
        let next = producers.next_incarnation(name, || Ok(ProducerId(id))).unwrap();
        (next.id.0, next.epoch.0)
    }

    fn fences(producers: &NamedProducers) -> Vec<(i64, i16)> {
        let mut fences: Vec<_> = producers.fences().map(|(id, epoch)| (id.0, epoch.0)).collect();
        fences.sort_unstable();
        fences
    }

    /// A file whose slots are these, of which it was begun with the first `begun_with`.
    fn journal(begun_with: u32, slots: &[(&str, i64, i16)]) -> Vec<u8> {
        let slots =
            slots.iter().map(|&(name, id, epoch)| encode_slot(name, ProducerId(id), ProducerEpoch(epoch)));
        [KIND.encode(&begun_with.to_be_bytes()), slots.collect::<Vec<_>>().concat()].concat()
    }

    #[test]
    fn a_name_keeps_its_id_and_each_incarnation_has_a_higher_epoch() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = open(&disk).unwrap();
        assert_eq!(next(&producers, "orders", 7), (7, 0));
        assert_eq!(next(&producers, "orders", 99), (7, 1));
        assert_eq!(next(&producers, "billing", 8), (8, 0));
        assert_eq!(fences(&producers), [(7, 1), (8, 0)]);

        let reopened = open(&disk).unwrap();
        assert_eq!(fences(&reopened), [(7, 1), (8, 0)]);
        assert_eq!(next(&reopened, "orders", 99), (7, 2));
        assert_eq!(next(&reopened, "billing", 99), (8, 1));
    }

    #[test]
    fn an_id_without_epochs_left_is_retired_and_fenced_for_good() {
        let disk = SimDisk::new(IoMode::Write);
        atomic::replace_file(&disk, &path(), &journal(1, &[("orders", 7, EPOCH_MAX.0 - 1)])).unwrap();
        let producers = open(&disk).unwrap();
        assert_eq!(next(&producers, "orders", 8), (7, 32_766));
        let next_id = producers.next_incarnation("orders", || Ok(ProducerId(8))).unwrap();
        let fences_of_both = [(ProducerId(7), ProducerEpoch::MAX), (ProducerId(8), ProducerEpoch(0))];
        assert_eq!(next_id.fences().collect::<Vec<_>>(), fences_of_both);
        for producers in [&producers, &open(&disk).unwrap()] {
            assert_eq!(fences(producers), [(7, 32_767), (8, 0)]);
        }
        assert_eq!(next(&open(&disk).unwrap(), "orders", 99), (8, 1));
        assert_eq!(fences(&open(&disk).unwrap()), [(7, 32_767), (8, 1)]);
    }

    #[test]
    fn a_name_has_one_to_249_bytes() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = open(&disk).unwrap();
        for name in [String::new(), "n".repeat(250), "\u{e9}".repeat(125)] {
            let refused = producers.next_incarnation(&name, || Ok(ProducerId(0)));
            assert!(matches!(refused, Err(Error::InvalidOption { option: "producer name", .. })), "{name}");
        }
        for (id, name) in ["n".to_owned(), "n".repeat(249), "\u{e9}".repeat(124)].iter().enumerate() {
            assert_eq!(next(&producers, name, id as i64), (id as i64, 0));
            let reopened = open(&disk).unwrap();
            assert_eq!(reopened.state.lock().producers, producers.state.lock().producers);
        }
    }

    #[test]
    fn the_journal_is_begun_again_when_it_is_twice_as_long_as_needed() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = open(&disk).unwrap();
        let mut longest = 0;
        for epoch in 0..1000 {
            assert_eq!(next(&producers, "orders", 7), (7, epoch));
            longest = longest.max(disk.read(&path(), FILE_MAX).unwrap().len());
        }
        assert_eq!(longest, HEADER_SIZE + SLOTS_MIN * SLOT_SIZE);
        assert!(disk.calls(Operation::Rename) < 20);
        assert_eq!(next(&open(&disk).unwrap(), "orders", 99), (7, 1000));
    }

    #[test]
    fn the_header_and_slots_have_these_bytes() {
        let bytes = journal(1, &[("ab", 0x0102, 3)]);
        assert_eq!(bytes.len(), 18 + 264);
        assert_eq!(bytes[..14], *b"idemlpnm\0\x01\0\0\0\x01");
        assert_eq!(bytes[22..36], [0, 0, 0, 0, 0, 0, 1, 2, 0, 3, 2, b'a', b'b', 0]);
    }

    #[test]
    fn only_the_last_slot_may_be_torn_and_only_if_it_was_appended() {
        let slots = [("a", 1, 0), ("b", 2, 0), ("a", 1, 1)];
        let whole = journal(1, &slots);
        let without_last = decode(&journal(1, &slots[..2])).unwrap();
        for len in whole.len() - SLOT_SIZE..whole.len() {
            assert_eq!(decode(&whole[..len]).as_ref(), Ok(&without_last), "cut at {len}");
        }
        for byte in HEADER_SIZE..whole.len() {
            let mut bytes = whole.clone();
            bytes[byte] ^= 0x10;
            let slot = (byte - HEADER_SIZE) / SLOT_SIZE;
            if slot == 2 {
                assert_eq!(decode(&bytes).as_ref(), Ok(&without_last), "byte {byte}");
                bytes[10..18].copy_from_slice(&journal(3, &[])[10..]);
            }
            let (position, _) = decode(&bytes).unwrap_err();
            assert_eq!(position, HEADER_SIZE + slot * SLOT_SIZE);
        }
        let followed_by_half = [&whole[..], &[0; 9]].concat();
        assert_eq!(decode(&followed_by_half).unwrap(), decode(&whole).unwrap());
        assert!(decode(&journal(2, &slots[..1])).is_err(), "fewer slots than it was begun with");
    }

    #[test]
    fn a_slot_that_no_producer_can_have_is_refused() {
        for slot in [("a", -1, 0), ("a", 1, -1), ("a", 1, i16::MAX), ("", -1, 0)] {
            assert!(decode(&journal(1, &[slot])).is_err(), "{slot:?}");
        }
    }

    #[test]
    fn no_incarnation_comes_twice_wherever_the_power_is_cut() {
        let disk = SimDisk::new(IoMode::Write);
        let mut told = 0;
        for _ in 0..2 {
            let producers = open(&disk).unwrap();
            for _ in 0..3 {
                assert_eq!(next(&producers, "orders", 7), (7, told));
                disk.mark(told as u64);
                next(&producers, "billing", 8);
                told += 1;
            }
        }
        for point in 0..disk.crash_points() {
            let promised = disk.marks(point).last().copied();
            for image in disk.images(point, 64, point as u64) {
                let producers = open(&image).unwrap();
                let (_, epoch) = next(&producers, "orders", 7);
                assert!(promised.is_none_or(|told| epoch as u64 > told), "{epoch} after {promised:?}");
                assert_eq!(next(&open(&image).unwrap(), "orders", 99), (7, epoch + 1));
            }
        }
    }

    #[test]
    fn a_failed_write_gives_out_nothing_and_the_next_call_replaces_the_file() {
        use Operation::{Create, Open, Rename, Sync, SyncDirectory, Write};
        for (calls_before, operations) in
            [(0, &[Create, Write, Sync, Rename, SyncDirectory, Open][..]), (1, &[Write, Sync])]
        {
            for &operation in operations {
                let fault = Fault::nth(operation, 1);
                for fault in [fault.clone(), fault.clone().halfway(), fault.pages(FailedSync::Reverted)] {
                    let disk = SimDisk::new(IoMode::Write);
                    let producers = open(&disk).unwrap();
                    for epoch in 0..calls_before {
                        assert_eq!(next(&producers, "orders", 7), (7, epoch));
                    }
                    let renames = disk.calls(Rename);
                    disk.inject(fault);
                    let failed = producers.next_incarnation("orders", || Ok(ProducerId(7)));
                    assert!(matches!(failed, Err(Error::Io(_))), "{operation:?}");
                    assert_eq!(next(&producers, "orders", 7), (7, calls_before), "{operation:?}");
                    assert!(disk.calls(Rename) > renames, "{operation:?}");
                    let after_power_cut = disk.crash(disk.crash_points() - 1, &mut Oldest);
                    assert_eq!(next(&open(&after_power_cut).unwrap(), "orders", 99), (7, calls_before + 1));
                }
            }
        }
    }

    /// The journal was written larger than it may be read, and then no directory opened.
    #[test]
    fn the_journal_never_has_more_slots_than_are_read() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = NamedProducers { slots_max: 200, ..open(&disk).unwrap() };
        for name in 0..100 {
            next(&producers, &name.to_string(), name);
        }
        let refused = producers.next_incarnation("one more", || Ok(ProducerId(100)));
        assert!(matches!(refused, Err(Error::ProducerNamesExhausted)), "{refused:?}");
        for epoch in 1..=5 {
            for name in 0..100 {
                assert_eq!(next(&producers, &name.to_string(), 100), (name, epoch));
                let bytes = disk.read(&path(), FILE_MAX).unwrap();
                assert!(bytes.len() <= HEADER_SIZE + 200 * SLOT_SIZE);
            }
        }
        assert!(disk.calls(Operation::Rename) < 20);
        assert!((HEADER_SIZE + SLOTS_MAX * SLOT_SIZE) as u64 <= FILE_MAX);
    }

    /// Of a journal with many names the doubled length was more than is read.
    #[test]
    fn more_names_than_may_be_added_go_on_within_what_is_read() {
        let names: Vec<String> = (0..150).map(|name| name.to_string()).collect();
        let slots: Vec<_> = (0..).zip(&names).map(|(id, name)| (name.as_str(), id, 0)).collect();
        let disk = SimDisk::new(IoMode::Write);
        atomic::replace_file(&disk, &path(), &journal(150, &slots)).unwrap();
        let producers = NamedProducers { slots_max: 200, ..open(&disk).unwrap() };
        for (id, name) in (0..).zip(&names) {
            assert_eq!(next(&producers, name, 0), (id, 1));
            assert!(disk.read(&path(), FILE_MAX).unwrap().len() <= HEADER_SIZE + 200 * SLOT_SIZE);
        }
    }

    #[test]
    fn who_has_left_gives_out_nothing_and_asks_for_no_id() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = open(&disk).unwrap();
        next(&producers, "orders", 7);
        producers.leave();
        for name in ["orders", "billing"] {
            let refused = producers.next_incarnation(name, || unreachable!());
            assert!(matches!(refused, Err(Error::Closed)), "{name}");
        }
    }

    #[test]
    fn an_id_that_cannot_be_allocated_changes_nothing() {
        let disk = SimDisk::new(IoMode::Write);
        let producers = open(&disk).unwrap();
        let asked = Cell::new(0);
        let refused = producers.next_incarnation("orders", || {
            asked.set(asked.get() + 1);
            Err(Error::ProducerIdsExhausted)
        });
        assert!(matches!(refused, Err(Error::ProducerIdsExhausted)));
        assert_eq!((asked.get(), disk.exists(&path()).unwrap()), (1, false));
        assert_eq!(next(&producers, "orders", 7), (7, 0));
    }
}
