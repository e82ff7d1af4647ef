//! What a disk learns of a map over heap memory.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

/// What a map over heap memory tells the disk that it belongs to. Every method has an empty default.
///
/// A disk of your own, for tests for instance, makes its maps with [`MapWriter::on_heap`](crate::MapWriter::on_heap) and
/// learns through this trait what a real disk learns from the memory manager.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
/// use idemlog::{MapObserver, MapWriter};
///
/// #[derive(Debug, Default)]
/// struct Count(AtomicUsize);
///
/// impl MapObserver for Count {
///     fn stored(&self, _position: usize, bytes: &[u8]) {
///         self.0.fetch_add(bytes.len(), Ordering::Relaxed);
///     }
/// }
///
/// let count = Arc::new(Count::default());
/// let mut writer = MapWriter::on_heap(b"", 100, count.clone())?;
/// writer.store(0, b"seven..")?;
/// assert_eq!(count.0.load(Ordering::Relaxed), 7);
/// # Ok::<(), std::io::Error>(())
/// ```
pub trait MapObserver: Debug + Send + Sync {
    /// `bytes` were stored at `position`.
    fn stored(&self, position: usize, bytes: &[u8]) {
        let _ = (position, bytes);
    }

    /// Makes the bytes in `range` durable.
    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }

    /// Readies `range` for storing.
    fn populate(&self, range: Range<usize>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }
}
