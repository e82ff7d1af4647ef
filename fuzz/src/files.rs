//! The bytes of files, made to pass their checksums.

use std::path::Path;

use idemlog::sim::SimDisk;
use idemlog::{Access, Disk};

const LENGTH: usize = 8;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const HEADER_SIZE: usize = 61;

/// Puts the checksum of every batch right, as far as their lengths lead.
pub fn fix_batches(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER_SIZE {
        let length = i32::from_be_bytes([rest[LENGTH], rest[LENGTH + 1], rest[LENGTH + 2], rest[LENGTH + 3]]);
        let size = usize::try_from(length).map_or(0, |length| length + 12);
        if size < HEADER_SIZE || size > rest.len() || rest[MAGIC] != 2 {
            return;
        }
        let (batch, behind) = rest.split_at_mut(size);
        let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
        batch[CRC..ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
}

/// Puts the version and the checksum of a snapshot right.
pub fn fix_snapshot(bytes: &mut [u8]) {
    if bytes.len() >= 6 {
        bytes[..2].copy_from_slice(&1_i16.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Puts the checksums of a partition's file right, by its name.
pub fn fix(name: &str, bytes: &mut [u8]) {
    if name.ends_with(".snapshot") {
        fix_snapshot(bytes);
    } else if name.ends_with(".log") || name == "segment.prepared" {
        fix_batches(bytes);
    }
}

/// Files of one directory: names and bytes, in order.
pub type Files = Vec<(String, Vec<u8>)>;

/// Writes files durably.
pub fn write(disk: &SimDisk, directory: &Path, files: &[(String, Vec<u8>)]) {
    disk.create_directory(directory).unwrap();
    for (name, bytes) in files {
        let file = disk.open(&directory.join(name), Access::CreateNew).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync().unwrap();
    }
    directory.ancestors().for_each(|directory| disk.sync_directory(directory).unwrap());
}

/// The files of a directory.
pub fn read(disk: &SimDisk, directory: &Path) -> Files {
    let read = |name: String| {
        let bytes = disk.read(&directory.join(&name), 1 << 30).unwrap();
        (name, bytes)
    };
    let mut names: Vec<_> =
        disk.list(directory).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names.into_iter().map(read).collect()
}
