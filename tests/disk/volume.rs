//! Small file systems that are mounted for a test, filled to the last block, and emptied again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use idemlog::{Access, Disk, DiskFile, RealDisk};
use tempfile::TempDir;

use crate::alone::skip;

const BALLAST: &str = "ballast";

/// The kind of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Tmpfs,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Tmpfs];

    /// What makes one in an image file, and the smallest image it takes.
    fn maker(self) -> Option<(&'static [&'static str], u64)> {
        match self {
            Self::Ext4 => Some((&["mkfs.ext4", "-q", "-F", "-m", "0"], 32 << 20)),
            Self::Xfs => Some((&["mkfs.xfs", "-q", "-f"], 320 << 20)),
            Self::Btrfs => Some((&["mkfs.btrfs", "-q", "-f"], 128 << 20)),
            Self::Tmpfs => None,
        }
    }
}

/// A file system with nothing in it but what a test puts there.
#[derive(Debug)]
pub struct Volume {
    pub kind: Kind,
    mounted: Mounted,
}

impl Volume {
    /// Mounts a new file system, or says why not.
    pub fn mount(kind: Kind) -> Option<Self> {
        Self::try_mount(kind).inspect_err(|why| skip(&format!("{kind:?}"), why)).ok()
    }

    fn try_mount(kind: Kind) -> Result<Self, String> {
        let place = tempfile::tempdir().unwrap();
        let at = place.path().join("at");
        std::fs::create_dir(&at).unwrap();
        match kind.maker() {
            Some((maker, bytes)) => {
                let image = place.path().join("image");
                File::create(&image).and_then(|file| file.set_len(bytes)).unwrap();
                run(Command::new(maker[0]).args(&maker[1..]).arg(&image))?;
                run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))?;
            }
            None => run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "none"]).arg(&at))?,
        }
        RealDisk.open(&at.join(BALLAST), Access::CreateNew).unwrap();
        Ok(Self { kind, mounted: Mounted(place) })
    }

    /// Where a test puts its files.
    pub fn path(&self) -> PathBuf {
        self.mounted.path()
    }

    /// Leaves no room, not for a block.
    pub fn fill(&self) {
        let ballast = self.ballast();
        let mut step = 64 << 20;
        while step >= 1024 {
            let end = ballast.len().unwrap();
            if ballast.allocate(end, end + step).is_err() {
                step /= 2;
            }
        }
    }

    /// Leaves about as much room.
    pub fn leave(&self, bytes: u64) {
        self.fill();
        self.cut_ballast(self.ballast().len().unwrap().saturating_sub(bytes));
    }

    /// Leaves all the room that there is.
    pub fn empty(&self) {
        self.cut_ballast(0);
    }

    /// What takes up the room that nobody is to have.
    fn ballast(&self) -> Arc<dyn DiskFile> {
        RealDisk.open(&self.path().join(BALLAST), Access::Write).unwrap()
    }

    /// Some file systems give blocks back only with their next transaction.
    fn cut_ballast(&self, len: u64) {
        let ballast = self.ballast();
        ballast.set_len(len).and_then(|()| ballast.sync()).unwrap();
        RealDisk.sync_directory(&self.path()).unwrap();
    }

    /// Has every access from now on fail, as when the device is gone. `false` where that cannot be had.
    pub fn die(&self) -> bool {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(self.path()))
            .inspect_err(|why| skip(&format!("a disk that dies ({:?})", self.kind), why))
            .is_ok()
    }

    /// Allows reading only, or writing again.
    pub fn remount(&self, how: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.path())).unwrap();
    }
}

/// A directory with `at` in it, where something is mounted.
#[derive(Debug)]
struct Mounted(TempDir);

impl Mounted {
    fn path(&self) -> PathBuf {
        self.0.path().join("at")
    }
}

impl Drop for Mounted {
    /// The directory can be removed only when nothing is mounted in it.
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("--lazy").arg(self.path()));
    }
}

/// Runs a command; what it complains about if it fails.
fn run(command: &mut Command) -> Result<(), String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or_default()))
}
