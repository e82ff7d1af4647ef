//! Writes seed corpora for the targets whose input is bytes, from Kafka's own files: `seed <fixtures> <corpus>`.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use bytes::Bytes;
use idemlog::Batches;

/// Larger files would only make every step of the fuzzer slower.
const MAX_SEED: usize = 4096;

fn main() -> io::Result<()> {
    let argument =
        |at, default: &str| PathBuf::from(env::args().nth(at).unwrap_or_else(|| default.to_owned()));
    let fixtures = argument(1, "../tests/fixtures/kafka/golden");
    let corpus = argument(2, "corpus");
    let mut files = Vec::new();
    find(&fixtures, &mut files)?;
    let mut seeds = Seeds { directory: corpus.join("batch_decode"), seen: HashSet::new() };
    for path in files.iter().filter(|path| path.extension() == Some(OsStr::new("log"))) {
        seeds.batches(&fs::read(path)?)?;
    }
    println!("{} seeds in {}", seeds.seen.len(), seeds.directory.display());
    Ok(())
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        if entry.file_type()?.is_dir() { find(&entry.path(), files)? } else { files.push(entry.path()) }
    }
    Ok(())
}

struct Seeds {
    directory: PathBuf,
    /// One seed of each kind: attributes, records, and whether there is a producer.
    seen: HashSet<(i16, i32, bool)>,
}

impl Seeds {
    fn batches(&mut self, log: &[u8]) -> io::Result<()> {
        for batch in Batches::new(Bytes::copy_from_slice(log)).ignore_incomplete().map_while(Result::ok) {
            let header = batch.header();
            let kind = (header.attributes, header.record_count.min(4), header.is_idempotent());
            if batch.bytes().len() <= MAX_SEED && self.seen.insert(kind) {
                fs::create_dir_all(&self.directory)?;
                fs::write(self.directory.join(format!("kafka-{:02}", self.seen.len())), batch.bytes())?;
            }
        }
        Ok(())
    }
}
