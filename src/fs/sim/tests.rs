//! What the simulated disk promises, each promise a sentence.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::fs::disk::{Access, Disk, DiskFile};

const PATH: &str = "/file";

fn path() -> &'static Path {
    Path::new(PATH)
}

/// A disk with a durable file of 8 KiB of ones, all of it allocated, and the journal empty.
fn disk_with_ones() -> (SimDisk, Arc<dyn DiskFile>) {
    let disk = SimDisk::new(IoMode::Mapped);
    let file = disk.open(path(), Access::CreateNew).unwrap();
    file.allocate(0, 8192).unwrap();
    file.write_at(&[1; 8192], 0).unwrap();
    file.sync().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk.restart_journal();
    (disk, file)
}

fn now(disk: &SimDisk) -> usize {
    disk.crash_points() - 1
}

fn read(disk: &SimDisk) -> Vec<u8> {
    disk.read(path(), 1 << 20).unwrap()
}

/// The contents that a power cut now may leave.
fn outcomes(disk: &SimDisk) -> HashSet<Vec<u8>> {
    disk.images(now(disk), 500, 0).map(|image| read(&image)).collect()
}

#[test]
fn a_name_that_was_not_synced_may_be_lost() {
    let disk = SimDisk::new(IoMode::Write);
    let file = disk.open(path(), Access::CreateNew).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync().unwrap();
    let images: Vec<_> = disk.images(now(&disk), 100, 0).collect();
    let there = images.iter().filter(|image| image.exists(path()).unwrap()).count();
    assert_eq!((there, images.len()), (1, 2));
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(outcomes(&disk), HashSet::from([b"bytes".to_vec()]));
}

#[test]
fn a_file_in_a_directory_whose_name_is_lost_is_lost() {
    let disk = SimDisk::new(IoMode::Write);
    disk.create_directory(Path::new("/a")).unwrap();
    disk.open(Path::new("/a/file"), Access::CreateNew).unwrap();
    disk.sync_directory(Path::new("/a")).unwrap();
    assert!(!disk.crash(now(&disk), &mut Oldest).exists(Path::new("/a/file")).unwrap());
    assert!(disk.crash(now(&disk), &mut Newest).exists(Path::new("/a/file")).unwrap());
}

#[test]
fn a_sector_is_old_or_new_never_mixed() {
    let (disk, file) = disk_with_ones();
    file.write_at(&[2; 1024], 256).unwrap();
    let outcomes = outcomes(&disk);
    assert_eq!(outcomes.len(), 8, "three sectors, each old or new");
    for bytes in outcomes {
        assert!(bytes[..256].iter().all(|byte| *byte == 1));
        for written in [256..512, 512..1024, 1024..1280] {
            let first = bytes[written.start];
            assert!(bytes[written].iter().all(|byte| *byte == first));
        }
    }
}

#[test]
fn a_sector_may_have_any_of_the_contents_since_its_last_sync() {
    let (disk, file) = disk_with_ones();
    for byte in [2, 3, 1, 4] {
        file.write_at(&[byte; 512], 0).unwrap();
    }
    let firsts: HashSet<u8> = outcomes(&disk).iter().map(|bytes| bytes[0]).collect();
    assert_eq!(firsts, HashSet::from([1, 2, 3, 4]));
}

#[test]
fn of_the_last_store_a_sector_may_have_half() {
    let (disk, file) = disk_with_ones();
    let mut writer = file.map(8192, 512).unwrap();
    writer.store(512, &[2; 100]).unwrap();
    let stored = |bytes: &Vec<u8>| bytes[512..612].iter().filter(|byte| **byte == 2).count();
    assert_eq!(outcomes(&disk).iter().map(stored).collect::<HashSet<_>>(), HashSet::from([0, 50, 100]));
    disk.mark(1);
    assert_eq!(outcomes(&disk).iter().map(stored).collect::<HashSet<_>>(), HashSet::from([0, 100]));
}

#[test]
fn a_sync_of_a_range_covers_its_pages_and_not_the_length() {
    let (disk, file) = disk_with_ones();
    file.allocate(8192, 16384).unwrap();
    let mut writer = file.map(16384, 4000).unwrap();
    writer.store(4000, &[2; 8000]).unwrap();
    writer.map().sync(5000..5001).unwrap();
    let left = read(&disk.crash(now(&disk), &mut Oldest));
    assert_eq!(left.len(), 8192);
    assert!(left[4000..4096].iter().all(|byte| *byte == 1));
    assert!(left[4096..8192].iter().all(|byte| *byte == 2));

    disk.set_sync_range_covers_length(true);
    writer.map().sync(9000..9001).unwrap();
    let left = read(&disk.crash(now(&disk), &mut Oldest));
    assert_eq!(left.len(), 16384);
    assert!(left[8192..12000].iter().all(|byte| *byte == 2));
}

#[test]
fn a_length_that_was_not_synced_may_be_lost_whichever_bytes_survive() {
    let (disk, file) = disk_with_ones();
    file.set_len(600).unwrap();
    file.allocate(600, 8192).unwrap();
    let outcomes = outcomes(&disk);
    let lengths: HashSet<usize> = outcomes.iter().map(Vec::len).collect();
    assert_eq!(lengths, HashSet::from([600, 8192]));
    assert!(outcomes.contains(&vec![1; 8192]), "the cut bytes come back");
    file.sync().unwrap();
    let left = read(&disk.crash(now(&disk), &mut Oldest));
    assert!(left[..600].iter().all(|byte| *byte == 1) && left[600..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_allocation_that_was_not_synced_may_be_lost() {
    let (disk, file) = disk_with_ones();
    file.allocate(8192, 12288).unwrap();
    assert_eq!(read(&disk.crash(now(&disk), &mut Oldest)).len(), 8192);
    file.sync().unwrap();
    file.write_at(&[2], 0).unwrap();
    let left = disk.crash(now(&disk), &mut Oldest);
    assert_eq!(left.used(), 12288);
    assert_eq!(read(&left).len(), 12288);
}

#[test]
fn blocks_that_were_not_synced_may_be_lost_within_a_length_that_was() {
    let (disk, file) = disk_with_ones();
    file.set_len(20_480).unwrap();
    file.sync().unwrap();
    file.allocate(8192, 20_480).unwrap();
    let left = disk.crash(now(&disk), &mut Newest);
    assert_eq!((read(&left).len(), left.used()), (20_480, 8192));
}

#[test]
fn a_rename_happens_whole_or_not_at_all() {
    let disk = SimDisk::new(IoMode::Write);
    for (name, contents) in [("/old", b"old"), ("/new", b"new")] {
        let file = disk.open(Path::new(name), Access::CreateNew).unwrap();
        file.write_at(contents, 0).unwrap();
        file.sync().unwrap();
    }
    disk.sync_directory(Path::new("/")).unwrap();
    disk.rename(Path::new("/new"), Path::new("/old")).unwrap();
    let mut seen = Vec::new();
    for image in disk.images(now(&disk), 100, 0) {
        seen.push((image.read(Path::new("/old"), 9).unwrap(), image.exists(Path::new("/new")).unwrap()));
    }
    assert_eq!(seen, [(b"old".to_vec(), true), (b"new".to_vec(), false)]);
}

#[test]
fn changes_of_different_names_survive_independently_and_of_the_same_name_in_order() {
    let disk = SimDisk::new(IoMode::Write);
    let (a, b, c) = (Path::new("/a"), Path::new("/b"), Path::new("/c"));
    disk.open(a, Access::CreateNew).unwrap();
    disk.rename(a, b).unwrap();
    disk.open(c, Access::CreateNew).unwrap();
    let there = |image: SimDisk| [a, b, c].map(|path| image.exists(path).unwrap());
    let seen: HashSet<_> = disk.images(now(&disk), 100, 0).map(there).collect();
    let possible = [(false, false), (true, false), (false, true)];
    let expected = possible.iter().flat_map(|(a, b)| [[*a, *b, false], [*a, *b, true]]).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_name_is_not_taken_anew_before_it_was_given_up() {
    let (disk, _file) = disk_with_ones();
    disk.rename(path(), Path::new("/retired")).unwrap();
    disk.open(path(), Access::CreateNew).unwrap();
    for image in disk.images(now(&disk), 100, 0) {
        let holds_ones = |path| image.read(path, 8192).is_ok_and(|bytes| bytes == vec![1; 8192]);
        assert!(holds_ones(path()) || holds_ones(Path::new("/retired")));
    }
}

#[test]
fn a_removal_that_was_not_synced_may_be_undone_with_all_bytes() {
    let (disk, _file) = disk_with_ones();
    disk.remove_file(path()).unwrap();
    assert_eq!(read(&disk.crash(now(&disk), &mut Oldest)), vec![1; 8192]);
    assert!(!disk.crash(now(&disk), &mut Newest).exists(path()).unwrap());
}

#[test]
fn a_kill_loses_nothing_that_was_stored() {
    let (disk, file) = disk_with_ones();
    let mut writer = file.map(8192, 0).unwrap();
    writer.store(0, &[2; 700]).unwrap();
    writer.store(700, &[3; 700]).unwrap();
    assert_eq!(read(&disk.kill(now(&disk))), read(&disk));
    assert_eq!(read(&disk.kill(0)), vec![1; 8192]);
    let within = read(&disk.kill_within(1, 10));
    assert!(within[..700].iter().all(|byte| *byte == 2));
    assert!(within[700..710].iter().all(|byte| *byte == 3));
    assert!(within[710..].iter().all(|byte| *byte == 1));
}

#[test]
fn what_a_killed_process_did_not_sync_can_still_be_lost_later() {
    let (disk, file) = disk_with_ones();
    file.write_at(&[2; 512], 0).unwrap();
    let killed = disk.kill(now(&disk));
    assert_eq!(read(&killed)[0], 2);
    assert_eq!(read(&killed.crash(0, &mut Oldest))[0], 1);
    killed.open(path(), Access::Write).unwrap().sync().unwrap();
    assert_eq!(read(&killed.crash(now(&killed), &mut Oldest))[0], 2);
}

#[test]
fn a_crash_leaves_a_disk_on_which_nothing_is_undecided() {
    let (disk, file) = disk_with_ones();
    file.write_at(&[2; 4096], 100).unwrap();
    disk.open(Path::new("/other"), Access::CreateNew).unwrap();
    let (point, mut rng) = (now(&disk), Rng::new(1));
    assert_eq!(disk.undecided(point), 10, "nine sectors and a name");
    let left = disk.crash(point, &mut rng);
    assert_eq!(left.crash_points(), 1);
    assert_eq!(left.undecided(0), 0);
    assert_eq!(left.crash(0, &mut Oldest).state_hash(), left.state_hash());
}

#[test]
fn a_disk_that_was_left_by_a_crash_can_crash_again() {
    let (disk, file) = disk_with_ones();
    file.write_at(&[2; 512], 0).unwrap();
    let left = disk.crash(now(&disk), &mut Newest);
    left.open(path(), Access::Write).unwrap().write_at(&[3; 512], 0).unwrap();
    assert_eq!(read(&left.crash(now(&left), &mut Oldest))[0], 2);
    assert_eq!(read(&disk)[0], 2, "the first disk knows nothing of it");
}

#[test]
fn every_point_of_the_past_can_be_looked_at_in_any_order() {
    let (disk, file) = disk_with_ones();
    for byte in 2..10 {
        disk.mark(u64::from(byte));
        file.write_at(&[byte; 512], 0).unwrap();
    }
    for point in [16, 3, 0, 4, 15, 1, 100] {
        let first = read(&disk.crash(point, &mut Newest))[0];
        assert_eq!(usize::from(first), 1 + point.min(16) / 2, "at {point}");
        assert_eq!(disk.marks(point).len(), point.min(16).div_ceil(2));
    }
    assert_eq!(disk.describe(2), "write 512 bytes at 0 of file 1");
}

#[test]
fn the_same_seed_gives_the_same_images() {
    let (disk, file) = disk_with_ones();
    file.write_at(&[2; 8192], 0).unwrap();
    let hashes = |seed| disk.images(now(&disk), 20, seed).map(|image| image.state_hash()).collect::<Vec<_>>();
    assert_eq!(hashes(1), hashes(1));
    assert_ne!(hashes(1), hashes(100));
    assert_eq!(hashes(1).len(), 20);
}

#[test]
fn the_hash_tells_names_lengths_and_bytes_apart() {
    let same = |change: &dyn Fn(&SimDisk, &dyn DiskFile)| {
        let (disk, file) = disk_with_ones();
        let before = disk.state_hash();
        change(&disk, &*file);
        disk.state_hash() == before
    };
    assert!(same(&|disk, file| {
        file.write_at(&[1; 100], 50).unwrap();
        disk.mark(1);
    }));
    assert!(!same(&|_, file| file.write_at(&[2], 50).unwrap()));
    assert!(!same(&|_, file| file.set_len(9000).unwrap()));
    assert!(!same(&|disk, _| disk.rename(path(), Path::new("/other")).unwrap()));
}

#[test]
fn a_failed_sync_may_keep_drop_or_revert_the_bytes() {
    let cases = [(FailedSync::Kept, 2, 2), (FailedSync::Dropped, 2, 1), (FailedSync::Reverted, 1, 1)];
    for (pages, seen_after, durable_after_second) in cases {
        let (disk, file) = disk_with_ones();
        file.write_at(&[2; 512], 0).unwrap();
        disk.inject(Fault::nth(Operation::Sync, 1).pages(pages));
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(Fault::EIO));
        assert_eq!(read(&disk)[0], seen_after, "{pages:?}");
        file.sync().unwrap();
        assert_eq!(read(&disk.crash(now(&disk), &mut Oldest))[0], durable_after_second, "{pages:?}");
        assert_eq!(read(&disk.crash(now(&disk), &mut Newest))[0], durable_after_second, "{pages:?}");
    }
}

/// With several partitions a test could only guess which of a disk's calls would be the one of the file that it meant.
#[test]
fn a_fault_for_a_path_counts_and_hits_the_calls_for_that_path_only() {
    let disk = SimDisk::new(IoMode::Write);
    for directory in ["/data/orders-1", "/data/orders-10"] {
        disk.create_directory(directory.as_ref()).unwrap();
    }
    let create = |path: &str| disk.open(path.as_ref(), Access::CreateNew).unwrap();
    let (one, ten) = (create("/data/orders-1/prepared"), create("/data/orders-10/0.log"));
    type Call<'a> = &'a dyn Fn() -> std::io::Result<()>;
    let outcomes = |part: &str, calls: &[Call<'_>]| {
        disk.clear_faults();
        for operation in Operation::ALL {
            disk.inject(Fault::nth(operation, 1).forever().on(part));
        }
        calls.iter().map(|call| call().is_ok()).collect::<Vec<_>>()
    };
    let write_one: Call<'_> = &|| one.write_at(b"x", 0);
    let write_ten: Call<'_> = &|| ten.write_at(b"x", 0);
    assert_eq!(outcomes("orders-1/", &[write_one, write_ten, &|| one.sync()]), [false, true, false]);
    assert_eq!(outcomes("orders-1", &[write_one, write_ten]), [false, false]);
    assert_eq!(outcomes(".log/", &[write_one, write_ten]), [true, false]);
    assert_eq!(outcomes("/data/orders-10/0.log/", &[write_one, write_ten]), [true, false]);
    let list = |path: &'static str| disk.list(path.as_ref()).map(drop);
    let sync = |path: &'static str| disk.sync_directory(path.as_ref());
    let on_directories: [Call<'_>; 4] =
        [&|| list("/data/orders-1"), &|| sync("data/orders-1"), &|| list("/data/orders-10"), &|| {
            list("/data")
        }];
    assert_eq!(outcomes("orders-1/", &on_directories), [false, false, true, true]);

    let rename = || disk.rename("/data/orders-1/prepared".as_ref(), "/data/orders-1/0.log".as_ref());
    assert_eq!(outcomes("/0.log/", &[&rename]), [false]);
    assert_eq!(outcomes("prepared", &[&rename]), [false]);
    disk.clear_faults();
    rename().unwrap();
    assert_eq!(outcomes("/0.log/", &[write_one, write_ten]), [false, false]);
    assert_eq!(outcomes("prepared", &[write_one]), [true]);

    disk.clear_faults();
    disk.inject(Fault::nth(Operation::Write, 2).on("orders-1/"));
    let calls = [write_ten(), write_one(), write_ten(), write_ten(), write_one(), write_one()];
    assert_eq!(calls.map(|call| call.is_ok()), [true, true, true, true, false, true]);

    disk.remove_file("/data/orders-1/0.log".as_ref()).unwrap();
    assert_eq!(outcomes("/", &[write_one, write_ten]), [true, false], "a file without a name");
}

#[test]
fn a_fault_hits_the_call_it_was_planned_for() {
    let (disk, file) = disk_with_ones();
    disk.inject(Fault::nth(Operation::Write, 2).errno(Fault::ENOSPC).halfway());
    file.write_at(&[2; 10], 0).unwrap();
    let error = file.write_at(&[3; 10], 0).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(read(&disk)[..10], [3, 3, 3, 3, 3, 2, 2, 2, 2, 2]);
    file.write_at(&[4; 10], 0).unwrap();
    disk.inject(Fault::nth(Operation::Write, 1).forever());
    assert!(file.write_at(&[5], 0).is_err());
    assert!(file.write_at(&[5], 0).is_err());
    disk.clear_faults();
    file.write_at(&[5], 0).unwrap();
}

#[test]
fn a_full_disk_refuses_blocks_and_takes_them_back() {
    let (disk, file) = disk_with_ones();
    disk.set_capacity(Some(12288));
    file.allocate(0, 12288).unwrap();
    let error = file.allocate(12288, 12289).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Fault::ENOSPC));
    assert_eq!(file.len().unwrap(), 12288);
    file.write_at(&[2; 12288], 0).unwrap();
    assert!(file.write_at(&[2], 12288).is_err());
    file.set_len(0).unwrap();
    assert_eq!(disk.used(), 0);
}

#[test]
#[should_panic(expected = "SIGBUS: stored up to 9000 in a file of 8192 bytes")]
fn a_store_behind_the_end_of_the_file_is_caught() {
    let (_disk, file) = disk_with_ones();
    file.map(10_000, 8000).unwrap().store(8000, &[2; 1000]).unwrap();
}

#[test]
#[should_panic(expected = "1 pages are not allocated")]
fn a_store_into_a_hole_is_caught() {
    let (_disk, file) = disk_with_ones();
    file.set_len(20_000).unwrap();
    file.map(20_000, 8000).unwrap().store(8000, &[2; 1000]).unwrap();
}

#[test]
#[should_panic(expected = "cut from 4999 of a file that is mapped and published up to 5000")]
fn cutting_what_readers_see_is_caught() {
    let (_disk, file) = disk_with_ones();
    let _bytes = file.map_read(5000).unwrap().bytes(0..5).unwrap();
    file.set_len(4999).unwrap();
}

#[test]
#[should_panic(expected = "written from 0 of a file that is mapped")]
fn writing_over_what_readers_see_is_caught() {
    let (_disk, file) = disk_with_ones();
    let _map = file.map_read(5000).unwrap();
    file.write_at(&[2], 0).unwrap();
}

#[test]
fn a_file_may_be_cut_and_written_once_nobody_sees_it() {
    let (disk, file) = disk_with_ones();
    drop(file.map_read(5000).unwrap());
    file.set_len(100).unwrap();
    file.write_at(&[2; 100], 0).unwrap();
    assert_eq!(read(&disk), [2; 100]);
}
