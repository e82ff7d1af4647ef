//! What the benchmarks share: where they write, warm memory, and batches to append.
#![allow(dead_code, reason = "every benchmark uses a part")]

pub(crate) mod batches;
pub(crate) mod figures;
pub(crate) mod in_turn;
pub(crate) mod stored;
pub(crate) mod targets;

use std::path::PathBuf;

use memmap2::{Advice, MmapMut};
use tempfile::TempDir;

const PAGE: usize = 4096;

/// A fresh directory under `IDEMLOG_BENCH_DIR`, or where temporary files go. Removed when dropped.
pub(crate) fn directory() -> TempDir {
    let parent = std::env::var_os("IDEMLOG_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).expect("a directory for the benchmark")
}

/// Whether the benchmarks are only tried (`cargo bench -- --test`, `cargo test --benches`): then little data will do.
pub(crate) fn is_trial() -> bool {
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    given("--test") || !given("--bench")
}

/// `bytes`, or a little where the benchmarks are only tried.
pub(crate) fn amount(bytes: usize) -> usize {
    if is_trial() { 256 << 10 } else { bytes }
}

/// The bytes of this process that are not of a file.
pub(crate) fn own_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

/// Memory that is held, to be let go of as somebody else takes as much.
///
/// A virtual machine may have given its free pages back to the host, and getting them again would be timed instead of
/// what uses them. What was just freed is taken again first, if it is freed in large pieces.
pub(crate) struct Reserve(Vec<MmapMut>);

impl Reserve {
    /// How much one [`release`](Self::release) lets go of.
    pub(crate) const STEP: usize = 8 << 20;

    /// Takes a little more than `bytes`, and lets go of the excess: the one who takes it may run ahead.
    pub(crate) fn new(bytes: usize) -> Self {
        let ahead = amount(6 * Self::STEP) / Self::STEP;
        let mut reserve = Self((0..bytes / Self::STEP + ahead).map(|_| Self::piece()).collect());
        (0..ahead).for_each(|_| reserve.release());
        reserve
    }

    fn piece() -> MmapMut {
        let mut piece = MmapMut::map_anon(Self::STEP).expect("memory");
        let _ = piece.advise(Advice::HugePage); // where the kernel knows it
        piece.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        piece
    }

    pub(crate) fn release(&mut self) {
        self.0.pop();
    }
}

/// Pseudo-random numbers (splitmix64), the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Iterator for Random {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    }
}
