//! What readers see a `.log` file through: opened when the first one comes, given back when maps run short.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{LogFile, Place};
use crate::error::{CorruptionKind, Error, IoContext, Result};
use crate::fs::{Access, DiskFile, IoMode, Map};

#[derive(Debug)]
pub(super) enum View {
    Map(Weak<Map>),
    File(Weak<dyn DiskFile>),
}

impl View {
    fn is_held(&self) -> bool {
        match self {
            Self::Map(map) => map.strong_count() > 0,
            Self::File(file) => file.strong_count() > 0,
        }
    }
}

impl Place {
    pub(super) fn note(&mut self, opened: &Opened) {
        self.forget_unheld();
        self.views.push(match opened {
            Opened::Map { map, .. } => View::Map(Arc::downgrade(map)),
            Opened::File(file) => View::File(Arc::downgrade(file)),
        });
    }

    /// Forgets what nobody sees the file through any more.
    pub(super) fn forget_unheld(&mut self) {
        self.views.retain(View::is_held);
    }
}

/// An open file as its mode reads it.
#[derive(Debug)]
pub(super) enum Opened {
    Map {
        map: Arc<Map>,
        /// All of them, where no more will be published: a part of these bytes is had for less than one of the map.
        whole: Option<Bytes>,
    },
    File(Arc<dyn DiskFile>),
}

impl Opened {
    /// A map in which `end` bytes are published, and never more.
    fn whole(map: Arc<Map>, end: u64) -> Self {
        Self::Map { whole: map.bytes(0..end as usize), map }
    }

    fn reaches(&self, to: u64) -> bool {
        match self {
            Self::Map { whole: Some(whole), .. } => whole.len() as u64 >= to,
            Self::Map { map, whole: None } => map.published() as u64 >= to,
            Self::File(_) => true,
        }
    }
}

impl LogFile {
    /// The published bytes in [`from`, `to`), by reference to the map, or read into memory.
    pub(crate) fn bytes(&self, from: u64, to: u64) -> Result<Bytes> {
        let to = to.min(self.end());
        if from >= to {
            return Ok(Bytes::new());
        }
        if let Some(opened) = self.opened.load().as_deref()
            && let Some(bytes) = self.bytes_of(opened, from, to)?
        {
            return Ok(bytes);
        }
        let opened = self.open_for_reading(to)?;
        self.bytes_of(&opened, from, to)?.ok_or_else(|| self.too_short(to))
    }

    fn bytes_of(&self, opened: &Opened, from: u64, to: u64) -> Result<Option<Bytes>> {
        match opened {
            Opened::Map { whole: Some(whole), .. } => {
                Ok((to <= whole.len() as u64).then(|| whole.slice(from as usize..to as usize)))
            }
            Opened::Map { map, whole: None } => Ok(map.bytes(from as usize..to as usize)),
            Opened::File(file) => {
                let mut buffer = vec![0; (to - from) as usize];
                let read = file.read_at(&mut buffer, from).at("read", &self.place.lock().path)?;
                if read < buffer.len() {
                    return Err(self.too_short(to));
                }
                Ok(Some(Bytes::from(buffer)))
            }
        }
    }

    #[cold]
    fn too_short(&self, expected: u64) -> Error {
        let got = self.open(Access::Read).ok().and_then(|file| file.len().ok()).unwrap_or(0);
        Error::corrupt(&self.place.lock().path, got, CorruptionKind::Length { expected, got })
    }

    /// Opens the file for readers, unless somebody just did, so that its bytes up to `to` can be had.
    #[cold]
    fn open_for_reading(&self, to: u64) -> Result<Arc<Opened>> {
        let mut place = self.place.lock();
        let before = self.opened.load_full();
        if let Some(opened) = before.as_ref().filter(|opened| opened.reaches(to)) {
            return Ok(Arc::clone(opened));
        }
        let file = self.open_at(&place, Access::Read)?;
        let opened = match self.mode {
            IoMode::Mapped => {
                let (end, len) = (self.end(), file.len().at("size", &place.path)?);
                // A map beyond the end of the file would turn a read into a signal.
                if len < end {
                    let kind = CorruptionKind::Length { expected: end, got: len };
                    return Err(Error::corrupt(&place.path, len, kind));
                }
                Opened::whole(file.map_read(end as usize).at("map", &place.path)?, end)
            }
            IoMode::Write => Opened::File(file),
        };
        place.note(&opened);
        let opened = Arc::new(opened);
        // The appender may have opened the file meanwhile: what it syncs through must stay.
        let before = self.opened.compare_and_swap(&before, Some(Arc::clone(&opened)));
        drop(before);
        Ok(opened)
    }

    /// Notes that what is open will not see more bytes than `end`.
    pub(super) fn keep_whole(&self, end: u64) {
        let opened = self.opened.load_full();
        if let Some(Opened::Map { map, whole: None }) = opened.as_deref() {
            let whole = Arc::new(Opened::whole(Arc::clone(map), end));
            self.opened.compare_and_swap(&opened, Some(whole));
        }
    }

    /// The map, if there is one now.
    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        match self.opened.load().as_deref() {
            Some(Opened::Map { map, .. }) => Some(Arc::clone(map)),
            _ => None,
        }
    }

    /// Whether the bytes are mapped right now.
    pub(crate) fn is_mapped(&self) -> bool {
        self.map().is_some()
    }

    /// The maps that somebody holds.
    pub(crate) fn held_maps(&self) -> Vec<Arc<Map>> {
        let held = |view: &View| if let View::Map(map) = view { map.upgrade() } else { None };
        self.place.lock().views.iter().filter_map(held).collect()
    }

    /// Whether the budget counts what is open.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.load(Ordering::Acquire)
    }

    /// Whether there is a map or descriptor that was not counted yet; from now on it is.
    pub(crate) fn count(&self) -> bool {
        self.opened.load().is_some() && !self.counted.swap(true, Ordering::AcqRel)
    }

    /// Gives back the map or descriptor. Slices that are out keep it alive.
    pub(crate) fn release(&self) {
        // In this order: what is opened in between is not taken for counted.
        self.counted.store(false, Ordering::Release);
        self.opened.store(None);
        // Of a map that is gone a view still holds the memory, and many segments lie closed.
        let mut place = self.place.lock();
        place.forget_unheld();
        place.views.shrink_to_fit();
    }
}
