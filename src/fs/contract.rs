//! What every [`Disk`] must do alike: the same assertions over the real one and the simulated one.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Access, Disk, DiskFile, EntryKind, IoMode};
use super::pages::Pages;
use super::real::RealDisk;
use super::sim::SimDisk;

/// Runs `check` with each disk and an empty directory on it.
fn on_every_disk(check: impl Fn(&dyn Disk, &Path)) {
    let real = tempfile::tempdir().unwrap();
    check(&RealDisk, real.path());
    for mode in [IoMode::Mapped, IoMode::Write] {
        let simulated = SimDisk::new(mode);
        simulated.create_directory(Path::new("/data")).unwrap();
        check(&simulated, Path::new("/data"));
    }
}

/// Runs `check` with each disk that maps.
fn on_every_mapping_disk(check: impl Fn(&dyn Disk, &Path)) {
    on_every_disk(|disk, root| {
        let simulated_without = disk.io_mode(root).unwrap() == IoMode::Write && root == Path::new("/data");
        if !simulated_without {
            check(disk, root);
        }
    });
}

/// A new file with these bytes, open for writing.
fn created(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.open(path, Access::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("it must fail").kind()
}

fn names(disk: &dyn Disk, path: &Path) -> Vec<(String, EntryKind)> {
    let entries = disk.list(path).unwrap().into_iter();
    let mut names: Vec<_> = entries.map(|entry| (entry.name.into_string().unwrap(), entry.kind)).collect();
    names.sort_by(|one, other| one.0.cmp(&other.0));
    names
}

#[test]
fn a_file_is_mapped_for_as_long_as_somebody_holds_its_bytes_whatever_it_is_called_by_then() {
    on_every_mapping_disk(|disk, root| {
        let (path, other) = (root.join("file"), root.join("other"));
        let is_mapped = |path: &Path| disk.open(path, Access::Read).unwrap().is_mapped().unwrap();
        created(disk, &path, b"some bytes");
        let maps = [(); 2].map(|()| disk.open(&path, Access::Read).unwrap().map_read(10).unwrap());
        let bytes = maps[0].bytes(0..4).unwrap();
        drop(maps);
        disk.rename(&path, &other).unwrap();
        created(disk, &path, b"elsewhere");
        assert!(is_mapped(&other) && !is_mapped(&path));
        drop(bytes);
        assert!(!is_mapped(&other));
        let writer = disk.open(&path, Access::Write).unwrap().map(9, 9).unwrap();
        assert!(is_mapped(&path));
        drop(writer);
        assert!(!is_mapped(&path));
    });
}

#[test]
fn a_new_file_is_empty_and_takes_its_name() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        assert_eq!(kind(disk.open(&path, Access::Read)), ErrorKind::NotFound);
        assert_eq!(kind(disk.open(&path, Access::Write)), ErrorKind::NotFound);
        assert!(!disk.exists(&path).unwrap());
        let file = disk.open(&path, Access::CreateNew).unwrap();
        assert!(file.is_empty().unwrap());
        assert!(disk.exists(&path).unwrap());
        assert_eq!(kind(disk.open(&path, Access::CreateNew)), ErrorKind::AlreadyExists);
    });
}

#[test]
fn written_bytes_are_read_back_and_a_read_ends_with_the_file() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        let file = disk.open(&path, Access::CreateNew).unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello", 0).unwrap();
        file.sync().unwrap();
        let mut buffer = [0xff; 20];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 11);
        assert_eq!(&buffer[..11], b"hello\0world");
        assert_eq!(file.read_at(&mut buffer, 11).unwrap(), 0);
        assert_eq!(file.read_at(&mut buffer, 1000).unwrap(), 0);
        assert_eq!(disk.read(&path, 11).unwrap(), b"hello\0world");
        assert_eq!(kind(disk.read(&path, 10)), ErrorKind::InvalidData);
    });
}

#[test]
fn a_file_open_for_reading_refuses_changes() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        created(disk, &path, b"x");
        let file = disk.open(&path, Access::Read).unwrap();
        assert!(file.write_at(b"y", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.allocate(0, 10).is_err());
        assert!(file.map(10, 0).is_err());
        assert_eq!(disk.read(&path, 10).unwrap(), b"x");
    });
}

#[test]
fn cut_bytes_do_not_come_back_when_the_file_grows() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        let file = disk.open(&path, Access::CreateNew).unwrap();
        file.write_at(&[7; 3000], 0).unwrap();
        file.set_len(700).unwrap();
        file.set_len(2000).unwrap();
        let bytes = disk.read(&path, 5000).unwrap();
        assert_eq!(bytes.len(), 2000);
        assert!(bytes[..700].iter().all(|byte| *byte == 7));
        assert!(bytes[700..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn allocating_extends_with_zeros_and_keeps_what_is_there() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        let file = created(disk, &path, b"bytes");
        file.allocate(3, 10_000).unwrap();
        file.allocate(10_000, 10_000).unwrap();
        file.allocate(0, 10).unwrap();
        assert_eq!(file.len().unwrap(), 10_000);
        let bytes = disk.read(&path, 10_000).unwrap();
        assert_eq!(&bytes[..5], b"bytes");
        assert!(bytes[5..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn a_rename_replaces_the_target_and_leaves_open_files_alone() {
    on_every_disk(|disk, root| {
        let (from, to) = (root.join("from"), root.join("to"));
        created(disk, &from, b"new");
        let old = created(disk, &to, b"old");
        disk.rename(&from, &to).unwrap();
        assert_eq!(names(disk, root), [("to".to_owned(), EntryKind::File)]);
        assert_eq!(disk.read(&to, 10).unwrap(), b"new");
        let mut buffer = [0; 3];
        old.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer, b"old");
        assert_eq!(kind(disk.rename(&from, &to)), ErrorKind::NotFound);
    });
}

#[test]
fn a_directory_is_renamed_with_all_that_is_in_it() {
    on_every_disk(|disk, root| {
        disk.create_directory(&root.join("a")).unwrap();
        created(disk, &root.join("a/file"), b"x");
        disk.rename(&root.join("a"), &root.join("b")).unwrap();
        assert_eq!(disk.read(&root.join("b/file"), 10).unwrap(), b"x");
        assert!(!disk.exists(&root.join("a/file")).unwrap());
    });
}

#[test]
fn a_removed_file_stays_for_those_who_have_it_open() {
    on_every_disk(|disk, root| {
        let path = root.join("file");
        let file = created(disk, &path, b"bytes");
        disk.remove_file(&path).unwrap();
        assert!(!disk.exists(&path).unwrap());
        assert_eq!(kind(disk.remove_file(&path)), ErrorKind::NotFound);
        let mut buffer = [0; 5];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 5);
        assert_eq!(&buffer, b"bytes");
    });
}

#[test]
fn directories_are_created_with_those_above_listed_and_removed_with_all_below() {
    on_every_disk(|disk, root| {
        let (top, deep) = (root.join("top"), root.join("top/middle/deep"));
        disk.create_directory(&deep).unwrap();
        disk.create_directory(&deep).unwrap();
        disk.open(&deep.join("file"), Access::CreateNew).unwrap().set_len(5).unwrap();
        assert_eq!(names(disk, &top), [("middle".to_owned(), EntryKind::Directory)]);
        assert_eq!(names(disk, &deep), [("file".to_owned(), EntryKind::File)]);
        assert_eq!(disk.len(&deep.join("file")).unwrap(), 5);
        assert_eq!(kind(disk.len(&deep.join("none"))), ErrorKind::NotFound);
        disk.sync_directory(&deep).unwrap();
        disk.remove_directory(&top).unwrap();
        assert!(!disk.exists(&deep).unwrap());
        for error in
            [kind(disk.list(&top)), kind(disk.sync_directory(&top)), kind(disk.remove_directory(&top))]
        {
            assert_eq!(error, ErrorKind::NotFound);
        }
    });
}

#[test]
fn a_lock_has_one_owner() {
    on_every_disk(|disk, root| {
        let path = root.join(".lock");
        let lock = disk.lock(&path).unwrap();
        assert!(lock.is_some());
        assert!(disk.lock(&path).unwrap().is_none());
        assert!(disk.lock(&root.join("other")).unwrap().is_some());
        drop(lock);
        assert!(disk.lock(&path).unwrap().is_some());
        assert!(disk.list(root).unwrap().iter().any(|entry| entry.name == OsStr::new(".lock")));
    });
}

#[test]
fn what_is_stored_in_a_map_is_in_the_file() {
    on_every_mapping_disk(|disk, root| {
        let path = root.join("file");
        let file = created(disk, &path, b"begin");
        file.allocate(5, 100).unwrap();
        let mut writer = file.map(1 << 30, 5).unwrap();
        for pages in [Pages::Small, Pages::Large, Pages::AsRead] {
            match writer.map().populate(5..100, pages) {
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                populated => populated.unwrap(),
            }
        }
        writer.store(5, b" end").unwrap();
        assert_eq!(&disk.read(&path, 100).unwrap()[..9], b"begin end");
        writer.publish(9);
        assert_eq!(writer.map().bytes(0..9).unwrap(), "begin end");
        writer.map().sync(5..9).unwrap();
    });
}

#[test]
fn a_map_outlives_the_handle_and_the_name() {
    on_every_mapping_disk(|disk, root| {
        let path = root.join("file");
        let file = created(disk, &path, b"bytes");
        let bytes = file.map_read(5).unwrap().bytes(1..4).unwrap();
        drop(file);
        disk.remove_file(&path).unwrap();
        assert_eq!(bytes, "yte");
    });
}

#[test]
fn a_file_open_for_reading_can_be_mapped_for_reading() {
    on_every_mapping_disk(|disk, root| {
        let path = root.join("file");
        created(disk, &path, b"bytes");
        let map = disk.open(&path, Access::Read).unwrap().map_read(5).unwrap();
        assert_eq!(map.slice(0..5).unwrap(), b"bytes");
        map.sync(0..5).unwrap();
    });
}

#[test]
fn bytes_behind_the_end_of_the_file_cannot_be_published() {
    on_every_mapping_disk(|disk, root| {
        let file = created(disk, &root.join("file"), b"bytes");
        assert_eq!(kind(file.map(100, 6)), ErrorKind::InvalidInput);
        assert_eq!(kind(file.map_read(6)), ErrorKind::InvalidInput);
        assert!(file.map_read(0).is_ok());
    });
}

#[test]
fn populating_where_nothing_is_allocated_is_an_error_not_a_signal() {
    on_every_mapping_disk(|disk, root| {
        let file = disk.open(&root.join("file"), Access::CreateNew).unwrap();
        file.allocate(0, 4096).unwrap();
        let writer = file.map(1 << 20, 0).unwrap();
        for pages in [Pages::Small, Pages::Large, Pages::AsRead] {
            assert!(writer.map().populate(0..1 << 20, pages).is_err(), "{pages:?}");
        }
    });
}
