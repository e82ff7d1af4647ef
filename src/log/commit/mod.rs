//! Group commit: one thread syncs for all that wait.
//!
//! Whoever waits and finds nobody syncing becomes the leader: it syncs everything that was appended so far, moves the
//! durable offset and wakes those who followed. Of those whose batches came too late for it, one leads the next round. A
//! future never syncs; it is woken by whoever does.
//!
//! A [`Ticket`] remembers the truncation generation in which its batches were appended. A truncation begins a new
//! generation and condemns the tickets of older ones that end above its target: their offsets may come again, with
//! other batches.

pub(super) mod gathering;
#[cfg(all(test, idemlog_shuttle))]
mod model;
pub(super) mod pending;
pub(super) mod replicated;
pub(super) mod wakers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use rustix::io::Errno;

use crate::error::{Error, IoError, Result};
use crate::log::commit::gathering::Gathering;
use crate::log::commit::wakers::{Sleeper, wake_all};
use crate::log::watermark::Watermarks;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::types::Offset;

/// What an append waits for: the durable offset reaching `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) target: Offset,
    pub(crate) generation: u64,
}

/// Why nothing will become durable any more.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// A sync failed. What the disk has is unknown.
    Poisoned(IoError),
    Closed,
    Gone,
}

impl End {
    /// One that says more takes the place of one that says less.
    fn rank(&self) -> u8 {
        match self {
            Self::Poisoned(_) => 0,
            Self::Closed => 1,
            Self::Gone => 2,
        }
    }

    /// What an append gets that comes afterwards.
    pub(crate) fn error(&self) -> Error {
        match self {
            Self::Poisoned(cause) => Error::Poisoned(cause.clone()),
            Self::Closed => Error::Closed,
            Self::Gone => Error::Gone,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Commit {
    state: Mutex<State>,
    /// Copies of the state's, for a look without the lock.
    generation: AtomicU64,
    ended: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a leader is syncing right now.
    syncing: bool,
    /// Those who wait until it is through.
    followers: Vec<Arc<Follower>>,
    /// How many wait to keep everybody from syncing. They come before all leaders.
    pausing: usize,
    gathering: Gathering,
    generation: u64,
    /// For each generation that a truncation began, the lowest target of it and all later ones; targets rise.
    truncations: Vec<(u64, Offset)>,
    end: Option<End>,
    /// The futures that wait, by target.
    wakers: BTreeMap<(Offset, u64), Waker>,
    next_waker: u64,
}

impl State {
    /// Takes out those who wait for nothing above `durable`, and one of the other followers, who leads them.
    fn release(&mut self, durable: Offset) -> Released {
        let late = self.wakers.split_off(&(durable, u64::MAX));
        let wakers = std::mem::replace(&mut self.wakers, late);
        let mut followers: Vec<_> =
            self.followers.extract_if(.., |follower| follower.target <= durable).collect();
        let leader = (!self.followers.is_empty()).then(|| self.followers.remove(0));
        followers.extend(leader);
        Released { followers, wakers }
    }

    /// What a ticket has come to where everything below `reached` is as it waits for; `None` while it is open.
    fn resolve(&self, ticket: Ticket, reached: Offset) -> Option<Result<()>> {
        if ticket.generation != self.generation && self.is_condemned(ticket) {
            Some(Err(Error::Truncated))
        } else if reached >= ticket.target {
            Some(Ok(()))
        } else {
            self.end.as_ref().map(|_| Err(Error::InDoubt))
        }
    }

    fn is_condemned(&self, ticket: Ticket) -> bool {
        let later = self.truncations.partition_point(|&(generation, _)| generation <= ticket.generation);
        self.truncations.get(later).is_some_and(|&(_, target)| target < ticket.target)
    }
}

impl Commit {
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Why the log takes nothing more, if so.
    pub(crate) fn end(&self) -> Option<End> {
        if self.is_over() { self.state.lock().end.clone() } else { None }
    }

    /// Whether the log takes nothing more.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Refuses when the log takes nothing more.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_over() { self.refuse() } else { Ok(()) }
    }

    #[cold]
    fn refuse(&self) -> Result<()> {
        self.end().map_or(Ok(()), |end| Err(end.error()))
    }

    /// Blocks until the ticket is resolved, syncing itself when nobody else does. `sync` makes everything appended so
    /// far durable and returns how far that is; it is called without any lock of the commit.
    pub(crate) fn wait(
        &self,
        ticket: Ticket,
        watermarks: &Watermarks,
        sync: impl Fn() -> Result<Offset>,
    ) -> Result<()> {
        // Durable is read first: had a truncation come before the sync that raised it, the generation would show.
        if watermarks.durable() >= ticket.target && self.generation() == ticket.generation {
            return Ok(());
        }
        let mut state = self.state.lock();
        loop {
            if let Some(result) = state.resolve(ticket, watermarks.durable()) {
                return result;
            }
            if let Err(error) = self.lead_or_follow(&mut state, ticket.target, watermarks, &sync) {
                // The log may have ended, and its files gone away, meanwhile.
                return state.resolve(ticket, watermarks.durable()).unwrap_or(Err(error));
            }
        }
    }

    /// One round: leads a sync, or waits for the one that is under way. An error that only kept the leader from syncing
    /// is the leader's alone: the next one tries again.
    fn lead_or_follow(
        &self,
        state: &mut MutexGuard<'_, State>,
        target: Offset,
        watermarks: &Watermarks,
        sync: &impl Fn() -> Result<Offset>,
    ) -> Result<()> {
        if state.syncing || state.pausing > 0 {
            follow(state, target);
            return Ok(());
        }
        self.lead(state, watermarks, sync)
    }

    fn lead(
        &self,
        state: &mut MutexGuard<'_, State>,
        watermarks: &Watermarks,
        sync: &impl Fn() -> Result<Offset>,
    ) -> Result<()> {
        state.syncing = true;
        let expected = state.gathering.begin();
        let (came, synced, took) = MutexGuard::unlocked(state, || {
            // If the sync panics, the others go on.
            let right = Paused { commit: self };
            let came = expected.gather(|| self.state.lock().followers.len());
            let started = Instant::now();
            let led = (came, sync(), started.elapsed());
            std::mem::forget(right);
            led
        });
        state.syncing = false;
        let followers = state.followers.len();
        state.gathering.end(expected, came, followers, took);
        let result = self.take_over(state, watermarks, synced);
        let goes_on = result.is_ok() && state.end.is_none();
        wake(state, if goes_on { watermarks.durable() } else { EVERYBODY });
        result
    }

    /// Takes over what a sync came to; nobody is woken yet.
    fn take_over(&self, state: &mut State, watermarks: &Watermarks, synced: Result<Offset>) -> Result<()> {
        match synced {
            Ok(durable) => {
                watermarks.raise_durable(durable);
                Ok(())
            }
            Err(error) if is_failed_sync(&error) => {
                watermarks.poison();
                self.end_with(state, End::Poisoned(cause(error)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Makes everything appended before the call durable.
    pub(crate) fn sync(&self, watermarks: &Watermarks, sync: impl Fn() -> Result<Offset>) -> Result<()> {
        // In this order: a truncation in between condemns the ticket, or has come before the end that is read.
        let generation = self.generation();
        let ticket = Ticket { target: watermarks.log_end(), generation };
        match self.wait(ticket, watermarks, sync) {
            // Truncated meanwhile: there is nothing left of it to sync, unless the truncation failed.
            Err(Error::Truncated) => self.check(),
            Err(Error::InDoubt) => Err(self.end().map_or(Error::InDoubt, |end| end.error())),
            other => other,
        }
    }

    /// Resolves the ticket, or keeps the waker in the future's `place`, and returns `Pending`. Never syncs.
    pub(crate) fn poll(
        &self,
        ticket: Ticket,
        place: &mut Option<u64>,
        watermarks: &Watermarks,
        waker: &Waker,
    ) -> Poll<Result<()>> {
        if let Some(result) = self.look(ticket, watermarks.durable()) {
            return Poll::Ready(result);
        }
        // Not under the lock: a clone is the host's, may panic, and may call the log.
        let waker = waker.clone();
        let mut state = self.state.lock();
        if let Some(result) = state.resolve(ticket, watermarks.durable()) {
            return Poll::Ready(result);
        }
        let number = *place.get_or_insert_with(|| {
            state.next_waker += 1;
            state.next_waker
        });
        let replaced = state.wakers.insert((ticket.target, number), waker);
        // Before the waker, with which what it would have woken may go.
        drop(state);
        drop(replaced);
        Poll::Pending
    }

    /// Forgets the waker in the place of a future that waits for `target`, if it is there still.
    pub(crate) fn forget(&self, target: Offset, place: u64) {
        let kept = self.state.lock().wakers.remove(&(target, place));
        // Not under the lock: with it may go what it would have woken.
        drop(kept);
    }

    /// If somebody syncs, or keeps others from syncing, has that thread wake the waker when it is through: for who has more to
    /// do than to wait for it.
    pub(crate) fn wake_behind_sync(&self, waker: impl FnOnce() -> Waker) -> bool {
        let mut state = self.state.lock();
        let is_under_way = state.syncing || state.pausing > 0;
        if is_under_way {
            state.next_waker += 1;
            let place = (Offset::ZERO, state.next_waker);
            state.wakers.insert(place, waker());
        }
        is_under_way
    }

    /// What the ticket has come to, without waiting, where everything below `reached` is what is waited for: durable, or
    /// replicated. `None` while it is open.
    pub(crate) fn look(&self, ticket: Ticket, reached: Offset) -> Option<Result<()>> {
        let is_open = reached < ticket.target && self.generation() == ticket.generation && !self.is_over();
        if is_open { None } else { self.state.lock().resolve(ticket, reached) }
    }

    /// Ends the log: every ticket that is not durable is in doubt. What is poisoned can be closed, and what is
    /// closed be gone, but not the other way round. Those who wait are told by [`wake_all`](Self::wake_all).
    pub(crate) fn finish(&self, end: End) {
        self.end_with(&mut self.state.lock(), end);
    }

    /// Has everybody who waits look again. Not to be called under a lock of the log's: what a waker does is the host's.
    pub(crate) fn wake_all(&self) {
        wake(&mut self.state.lock(), EVERYBODY);
    }

    fn end_with(&self, state: &mut State, end: End) {
        if state.end.as_ref().is_none_or(|before| before.rank() < end.rank()) {
            state.end = Some(end);
        }
        self.ended.store(true, Ordering::Release);
    }

    /// Keeps everybody from syncing, after the sync that is under way, until the answer is dropped. Not to be waited
    /// for while holding a lock that a sync takes.
    pub(crate) fn pause(&self) -> Paused<'_> {
        let mut state = self.state.lock();
        state.pausing += 1;
        while state.syncing {
            // Whatever the sync comes to, this thread is woken.
            follow(&mut state, Offset::ZERO);
        }
        state.pausing -= 1;
        state.syncing = true;
        Paused { commit: self }
    }
}

/// No target is above this.
const EVERYBODY: Offset = Offset(i64::MAX);

/// A thread that waits for a sync of somebody else's.
#[derive(Debug)]
struct Follower {
    target: Offset,
    sleeper: Sleeper,
}

/// Who goes on behind a sync, or the end of the log.
#[derive(Debug)]
struct Released {
    followers: Vec<Arc<Follower>>,
    wakers: BTreeMap<(Offset, u64), Waker>,
}

impl Released {
    fn wake(self) {
        self.followers.iter().for_each(|follower| follower.sleeper.wake_up());
        wake_all(self.wakers.into_values());
    }
}

/// Waits until whoever syncs is through, and has released this thread.
fn follow(state: &mut MutexGuard<'_, State>, target: Offset) {
    let follower = Arc::new(Follower { target, sleeper: Sleeper::default() });
    state.followers.push(Arc::clone(&follower));
    MutexGuard::unlocked(state, || follower.sleeper.sleep());
}

/// Wakes those who wait for nothing above `durable`, and a follower to lead the others. Not under the lock, which is the
/// first thing that they take.
fn wake(state: &mut MutexGuard<'_, State>, durable: Offset) {
    let released = state.release(durable);
    MutexGuard::unlocked(state, || released.wake());
}

/// Nobody syncs while this exists.
#[derive(Debug)]
pub(crate) struct Paused<'a> {
    commit: &'a Commit,
}

impl Paused<'_> {
    /// Begins a new generation: tickets of older ones that end above `target` are truncated, as those who wait learn
    /// when the pause is over. The caller holds the append lock, has lowered the log end and the durable offset, and begins
    /// the log above what was durable only afterwards: no ticket looks durable meanwhile that never was.
    pub(crate) fn truncated(&self, target: Offset) {
        let mut state = self.commit.state.lock();
        state.generation += 1;
        self.commit.generation.store(state.generation, Ordering::Release);
        while state.truncations.last().is_some_and(|&(_, earlier)| earlier >= target) {
            state.truncations.pop();
        }
        let generation = state.generation;
        state.truncations.push((generation, target));
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        let mut state = self.commit.state.lock();
        state.syncing = false;
        wake(&mut state, EVERYBODY);
    }
}

/// Whether a sync itself failed, after which nobody knows what the disk has. A file that could not be opened or renamed
/// on the way there changed nothing; nor did a directory for which there was no descriptor.
pub(crate) fn is_failed_sync(error: &Error) -> bool {
    let Error::Io(cause) = error else { return true };
    let errno = cause.source.raw_os_error().map(Errno::from_raw_os_error);
    cause.operation.starts_with("sync") && !matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

/// The operating system's words in what made a sync fail.
pub(in crate::log) fn cause(error: Error) -> IoError {
    match error {
        Error::Io(cause) | Error::Poisoned(cause) => cause,
        other => IoError::new("sync", std::path::Path::new(""), std::io::Error::other(other.to_string())),
    }
}

#[cfg(all(test, not(idemlog_shuttle)))]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;
    use crate::log::options::Durability;

    fn watermarks(log_end: i64) -> Watermarks {
        Watermarks::new(Offset(0), Offset(0), Offset(log_end), Durability::Synced)
    }

    fn ticket(target: i64, generation: u64) -> Ticket {
        Ticket { target: Offset(target), generation }
    }

    fn failed() -> Error {
        Error::Io(IoError::new("sync", std::path::Path::new("f"), std::io::Error::other("broken")))
    }

    #[test]
    fn one_sync_serves_all_that_wait() {
        let (commit, watermarks) = (Arc::new(Commit::default()), Arc::new(watermarks(64)));
        let syncs = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for target in 1..=64 {
                let (commit, watermarks, syncs) = (&commit, &watermarks, &syncs);
                scope.spawn(move || {
                    let sync = || {
                        syncs.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(std::time::Duration::from_millis(20));
                        Ok(watermarks.log_end())
                    };
                    commit.wait(ticket(target, 0), watermarks, sync).unwrap();
                });
            }
        });
        assert!(syncs.load(Ordering::Relaxed) < 64, "{syncs:?}");
        assert_eq!(watermarks.durable(), Offset(64));
    }

    #[test]
    fn a_failed_sync_puts_all_that_is_not_durable_in_doubt_for_ever() {
        let (commit, watermarks) = (Commit::default(), watermarks(5));
        commit.wait(ticket(2, 0), &watermarks, || Ok(Offset(2))).unwrap();
        assert!(matches!(commit.wait(ticket(5, 0), &watermarks, || Err(failed())), Err(Error::InDoubt)));
        assert!(matches!(commit.wait(ticket(4, 0), &watermarks, || Ok(Offset(5))), Err(Error::InDoubt)));
        assert!(commit.wait(ticket(2, 0), &watermarks, || Ok(Offset(5))).is_ok(), "was durable before");
        assert!(matches!(commit.end(), Some(End::Poisoned(_))));
    }

    #[test]
    fn a_truncation_condemns_the_tickets_above_its_target_whatever_comes_later() {
        let (commit, watermarks) = (Commit::default(), watermarks(10));
        commit.pause().truncated(Offset(4));
        commit.pause().truncated(Offset(8));
        watermarks.raise_durable(Offset(20));
        let cases = [(4, 0, true), (5, 0, false), (8, 1, true), (9, 1, false), (9, 2, true)];
        for (target, generation, survives) in cases {
            let resolved = commit.look(ticket(target, generation), watermarks.durable()).unwrap();
            assert_eq!(resolved.is_ok(), survives, "target {target} of generation {generation}");
        }
    }

    /// A truncation leaves nothing to sync of what it took; one that failed may have left it on the disk.
    #[test]
    fn a_sync_that_waited_for_a_failed_truncation_does_not_succeed() {
        let (commit, watermarks) = (Commit::default(), watermarks(9));
        thread::scope(|scope| {
            let paused = commit.pause();
            let waiting = scope.spawn(|| commit.sync(&watermarks, || Ok(Offset(9))));
            thread::sleep(std::time::Duration::from_millis(20));
            paused.truncated(Offset(4));
            commit.finish(End::Poisoned(cause(failed())));
            drop(paused);
            assert!(matches!(waiting.join().unwrap(), Err(Error::Poisoned(_))));
        });
    }

    #[test]
    fn nobody_syncs_during_a_pause_and_everybody_goes_on_behind_it() {
        let (commit, watermarks) = (Commit::default(), watermarks(9));
        let synced = AtomicBool::new(false);
        thread::scope(|scope| {
            let paused = commit.pause();
            let waiting = scope.spawn(|| {
                let sync = || {
                    synced.store(true, Ordering::Relaxed);
                    Ok(Offset(9))
                };
                (commit.wait(ticket(5, 0), &watermarks, sync), commit.wait(ticket(3, 0), &watermarks, sync))
            });
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(!synced.load(Ordering::Relaxed));
            paused.truncated(Offset(4));
            drop(paused);
            let (above, below) = waiting.join().unwrap();
            assert!(matches!(above, Err(Error::Truncated)));
            assert!(below.is_ok() && synced.load(Ordering::Relaxed));
        });
    }

    /// Who is woken takes longer to come than who leads again at once: a truncation waited for as long as somebody appended.
    #[test]
    fn a_pause_comes_before_a_leader_that_leads_again_and_again() {
        let (commit, watermarks) = (Commit::default(), watermarks(i64::MAX));
        let (syncs, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for target in (1..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    let sync = || {
                        syncs.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(std::time::Duration::from_micros(100));
                        Ok(Offset(target))
                    };
                    commit.wait(ticket(target, 0), &watermarks, sync).unwrap();
                }
            });
            let syncs_during_a_pause = (0..50).map(|_| {
                thread::sleep(std::time::Duration::from_millis(1));
                let before = syncs.load(Ordering::Relaxed);
                drop(commit.pause());
                syncs.load(Ordering::Relaxed) - before
            });
            let most = syncs_during_a_pause.max();
            is_over.store(true, Ordering::Relaxed);
            assert!(most <= Some(2), "{most:?} syncs while it waited");
        });
    }

    #[test]
    fn a_future_is_woken_by_whoever_syncs_and_by_the_end() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (commit, watermarks) = (Commit::default(), watermarks(9));
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let (mut first, mut second) = (None, None);
        assert!(commit.poll(ticket(3, 0), &mut first, &watermarks, &waker).is_pending());
        assert!(commit.poll(ticket(7, 0), &mut second, &watermarks, &waker).is_pending());
        assert!(
            commit.poll(ticket(7, 0), &mut second, &watermarks, &waker).is_pending(),
            "replaces its waker"
        );
        commit.wait(ticket(1, 0), &watermarks, || Ok(Offset(3))).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        commit.finish(End::Closed);
        commit.wake_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        let poll = commit.poll(ticket(7, 0), &mut second, &watermarks, &waker);
        assert!(matches!(poll, Poll::Ready(Err(Error::InDoubt))));
    }
}
