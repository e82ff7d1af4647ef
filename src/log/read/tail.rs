//! Those who wait at the tail of the log for new batches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::log::commit::wakers::{Sleeper, wake_all};
use crate::log::read::bound::{Bound, Wanted};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicI64, Ordering, fence};
use crate::types::Offset;

/// The shortest sleep: with what the kernel adds to each, some 70 us.
const NAP: Duration = Duration::from_micros(1);

#[cfg(not(idemlog_shuttle))]
fn nap(time: Duration) {
    std::thread::sleep(time);
}

/// The model checker has no time.
#[cfg(idemlog_shuttle)]
fn nap(_time: Duration) {}

/// What nobody waits for.
const NEVER: i64 = i64::MAX;

/// Who waits for each bound, those first who wait for the lowest offset, each with a number of its own.
#[derive(Debug, Default)]
struct Kept {
    by_bound: [BTreeMap<(Offset, u64), Waker>; Bound::ALL.len()],
    last_number: u64,
}

impl Kept {
    fn of(&mut self, bound: Bound) -> &mut BTreeMap<(Offset, u64), Waker> {
        &mut self.by_bound[bound as usize]
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Takes out those who wait for a bound to come to `reached`, or less far.
    fn take_due(&mut self, bound: Bound, reached: Offset) -> Vec<Waker> {
        let waiters = self.of(bound);
        let mut due = Vec::new();
        while let Some(first) = waiters.first_entry().filter(|first| first.key().0 < reached) {
            due.push(first.remove());
        }
        due
    }
}

/// Readers that wait. An appender that finds none pays a fence and three loads; one that finds some wakes those for whom there
/// is something now, however many others wait: the replicas of ten thousand batches are on their way at a time.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The lowest offset that somebody waits for at each bound. Lowered before the waiter's last look at the log, so that
    /// one of the two sides sees the other: the reader the new end, or the appender the reader. Written under `kept`.
    lowest: [AtomicI64; Bound::ALL.len()],
    /// Nothing else is taken under this lock.
    kept: Mutex<Kept>,
}

impl Tail {
    pub(crate) fn new() -> Self {
        Self { lowest: Bound::ALL.map(|_| AtomicI64::new(NEVER)), kept: Mutex::default() }
    }

    /// Wakes those who wait for less than has been `reached`. Called after a bound has moved.
    #[inline]
    pub(crate) fn notify(&self, reached: impl Fn(Bound) -> Offset) {
        fence(Ordering::SeqCst);
        for bound in Bound::ALL {
            let lowest = self.lowest[bound as usize].load(Ordering::Relaxed);
            if lowest != NEVER {
                self.wake_due(bound, Offset(lowest), reached(bound));
            }
        }
    }

    #[cold]
    fn wake_due(&self, bound: Bound, lowest: Offset, reached: Offset) {
        if lowest < reached {
            wake_all(self.change(bound, |kept| kept.take_due(bound, reached)));
        }
    }

    /// Has everybody who waits look again. Called after the log has ended, or other batches stand at the same offsets.
    pub(crate) fn notify_all(&self) {
        for bound in Bound::ALL {
            wake_all(self.change(bound, |kept| std::mem::take(kept.of(bound))).into_values());
        }
    }

    /// Changes who waits for a bound, and with it the lowest offset that is waited for.
    fn change<T>(&self, bound: Bound, change: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.kept.lock();
        let changed = change(&mut kept);
        let lowest =
            kept.of(bound).first_key_value().map_or(NEVER, |((offset, _), _)| offset.0.min(NEVER - 1));
        self.lowest[bound as usize].store(lowest, Ordering::Relaxed);
        changed
    }

    /// Blocks until `ready` or the deadline. `false`: the deadline came first. It is looked at again when `wanted` is there.
    ///
    /// Whoever comes to the tail of a busy log naps once before it counts as waiting: the next append finds nobody to wake,
    /// which would cost it a call of the kernel.
    pub(crate) fn wait(&self, wanted: Wanted, deadline: Option<Instant>, ready: impl Fn() -> bool) -> bool {
        let left = deadline.map_or(NAP, |deadline| deadline.saturating_duration_since(Instant::now()));
        nap(left.min(NAP));
        if ready() {
            return true;
        }
        let sleeper = Arc::new(Sleeper::default());
        let (waker, mut number) = (Waker::from(Arc::clone(&sleeper)), None);
        while !self.register(wanted, &mut number, &waker, &ready) {
            if !sleeper.sleep_until(deadline) {
                self.forget(wanted, number);
                return ready();
            }
        }
        true
    }

    /// Keeps the waker under the future's `number`, unless `ready` already. Woken when `wanted` is there.
    pub(crate) fn register(
        &self,
        wanted: Wanted,
        number: &mut Option<u64>,
        waker: &Waker,
        ready: impl Fn() -> bool,
    ) -> bool {
        // First of all: a clone is the host's, and may panic.
        let waker = waker.clone();
        let replaced = self.change(wanted.bound, |kept| {
            let number = *number.get_or_insert_with(|| kept.next_number());
            kept.of(wanted.bound).insert((wanted.offset, number), waker)
        });
        // Not under the lock: with a waker may go what it would have woken, and that looks for its place here.
        drop(replaced);
        fence(Ordering::SeqCst);
        let is_ready = ready();
        if is_ready {
            self.forget(wanted, *number);
        }
        is_ready
    }

    /// Forgets the waker under a future's number, if it is there still.
    pub(crate) fn forget(&self, wanted: Wanted, number: Option<u64>) {
        let Some(number) = number else { return };
        // Dropped without the lock, see `register`.
        drop(self.change(wanted.bound, |kept| kept.of(wanted.bound).remove(&(wanted.offset, number))));
    }
}

#[cfg(all(test, not(idemlog_shuttle)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn register(tail: &Tail, bound: Bound, offset: i64) -> (Arc<Counts>, Option<u64>) {
        let (counts, mut number) = (Arc::new(Counts::default()), None);
        let waker = Waker::from(Arc::clone(&counts));
        assert!(!tail.register(wanted(bound, offset), &mut number, &waker, || false));
        (counts, number)
    }

    fn wanted(bound: Bound, offset: i64) -> Wanted {
        Wanted { bound, offset: Offset(offset) }
    }

    fn lowest(tail: &Tail) -> [i64; 3] {
        tail.lowest.each_ref().map(|lowest| lowest.load(Ordering::Relaxed))
    }

    #[test]
    fn those_are_woken_whose_bound_is_above_their_offset() {
        let tail = Tail::new();
        let waiters: Vec<_> = Bound::ALL
            .into_iter()
            .flat_map(|bound| [3, 5, 5, 7].map(|offset| (bound, offset)))
            .map(|(bound, offset)| register(&tail, bound, offset).0)
            .collect();
        let woken = || waiters.iter().map(|waiter| waiter.0.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let at = |high_watermark, stable, end| {
            move |bound| match bound {
                Bound::HighWatermark => Offset(high_watermark),
                Bound::LastStableOffset => Offset(stable),
                Bound::LogEnd => Offset(end),
            }
        };
        assert_eq!(lowest(&tail), [3, 3, 3]);
        tail.notify(at(3, 2, 5));
        assert_eq!(woken(), [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
        tail.notify(at(6, 4, 5));
        assert_eq!(woken(), [1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(lowest(&tail), [7, 5, 5]);
        tail.notify_all();
        assert_eq!(woken(), [1; 12]);
        assert_eq!(lowest(&tail), [NEVER; 3]);
    }

    #[test]
    fn who_is_forgotten_is_not_waited_for() {
        let tail = Tail::new();
        let (first, number) = register(&tail, Bound::LogEnd, 3);
        register(&tail, Bound::LogEnd, i64::MAX);
        tail.forget(wanted(Bound::LogEnd, 3), number);
        assert_eq!(lowest(&tail), [NEVER, NEVER, NEVER - 1]);
        tail.notify(|_| Offset(10));
        assert_eq!(first.0.load(Ordering::Relaxed), 0);
        assert_eq!(Arc::strong_count(&first), 1);
    }
}
