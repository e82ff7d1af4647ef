//! What a host is told while a directory opens or closes, which may take minutes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::LogDirOptions;
use crate::error::Error;
use crate::fs::name::TopicPartition;
use crate::log::Log;

/// How far an opening or a closing has come. See [`LogDirOptions::on_progress`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress<'a> {
    /// A partition is about to be read. Told before anything of it is: where a disk hangs, or kills the process, it is one of those
    /// that were told last.
    Opening {
        /// Which one.
        partition: &'a TopicPartition,
    },
    /// A partition was opened.
    Opened {
        /// Which one.
        partition: &'a TopicPartition,
        /// How many bytes of it were read.
        bytes_read: u64,
        /// How many are done, those among them that did not open.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// A partition did not open: [`LogDir::failed`](crate::LogDir::failed) has it.
    Failed {
        /// Which one.
        partition: &'a TopicPartition,
        /// Why not.
        error: &'a Error,
        /// How many are done, this one among them.
        done: usize,
        /// How many there are.
        of: usize,
    },
    /// A partition was closed, well or not.
    Closed {
        /// Which one.
        partition: &'a TopicPartition,
        /// How many are done.
        done: usize,
        /// How many there are.
        of: usize,
    },
}

type Watch = dyn Fn(&Progress<'_>) + Send + Sync;

/// What a host wants to be told by.
#[derive(Clone, Default)]
pub(super) struct Watcher(Option<Arc<Watch>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watcher(..)" } else { "Watcher(none)" })
    }
}

impl LogDirOptions {
    /// Is told of each partition while the directory opens and closes: for a line on a terminal, and for the probe of a supervisor
    /// that must not take a long recovery for a process that hangs.
    ///
    /// It is called by several threads at a time, which wait for it, and it must not call the directory. A panic in it goes through
    /// the opening to the caller; in a closing it is ignored.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use std::sync::Arc;
    /// use idemlog::{LogDir, LogDirOptions, Progress};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// # (0..3).try_for_each(|number| dir.partition("orders", number).map(drop))?;
    /// # drop(dir);
    /// let opened = Arc::new(AtomicUsize::new(0));
    /// let count = Arc::clone(&opened);
    /// let options = LogDirOptions::default().on_progress(move |progress| match progress {
    ///     Progress::Opening { partition } => println!("reads {partition}"),
    ///     Progress::Opened { done, of, .. } => {
    ///         println!("{done} of {of}");
    ///         count.fetch_add(1, Ordering::Relaxed);
    ///     }
    ///     Progress::Failed { partition, error, .. } => eprintln!("{partition} does not open: {error}"),
    ///     _ => {}
    /// });
    /// let dir = LogDir::open(data.path(), options)?;
    /// assert_eq!(opened.load(Ordering::Relaxed), 3);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn on_progress(mut self, watcher: impl Fn(&Progress<'_>) + Send + Sync + 'static) -> Self {
        self.watcher = Watcher(Some(Arc::new(watcher)));
        self
    }

    /// Counts what is done to so many partitions, and tells the host.
    pub(super) fn watched(&self, of: usize) -> Watched<'_> {
        Watched { watcher: &self.watcher, done: AtomicUsize::new(0), of }
    }
}

/// An opening or a closing under way.
pub(super) struct Watched<'a> {
    watcher: &'a Watcher,
    done: AtomicUsize,
    of: usize,
}

impl Watched<'_> {
    pub(super) fn opening(&self, partition: &TopicPartition) {
        self.tell(&Progress::Opening { partition });
    }

    pub(super) fn opened(&self, partition: &TopicPartition, log: &Result<Log, Error>) {
        let (done, of) = (self.count(), self.of);
        match log {
            Ok(log) => {
                let bytes_read = log.recovery().bytes_read;
                self.tell(&Progress::Opened { partition, bytes_read, done, of });
            }
            Err(error) => self.tell(&Progress::Failed { partition, error, done, of }),
        }
    }

    pub(super) fn closed(&self, partition: &TopicPartition) {
        self.tell(&Progress::Closed { partition, done: self.count(), of: self.of });
    }

    fn count(&self) -> usize {
        self.done.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn tell(&self, progress: &Progress<'_>) {
        if let Watcher(Some(watcher)) = self.watcher {
            watcher(progress);
        }
    }
}
