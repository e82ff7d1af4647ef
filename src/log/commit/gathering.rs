//! Whether a leader waits for others before it syncs, and for whom.
//!
//! Those who are woken by a sync append again at nearly the same time. The first of them leads: if it went ahead at once, all
//! others would come too late, and wait for two syncs. So it waits until as many are there as had followed the last one, for
//! as long as they keep coming. Threads that do something else between two appends do not come; then it is given up, and
//! tried again later.

use std::time::{Duration, Instant};

use crate::sync::thread;

/// A leader waits no longer than this for the next one to come, and no longer than a part of what the last sync took: it takes
/// some 10 us until a thread that was woken runs.
const PATIENCE_MAX: Duration = Duration::from_micros(50);
const PATIENCE_PART: u32 = 4;

/// After how many rounds in which nobody waits it is tried again, at most.
const REST_MAX: u32 = 63;

/// What the syncs before tell of the next. Begins without any expectation.
#[derive(Debug, Default)]
pub(in crate::log) struct Gathering {
    /// How many followed the last sync.
    followers: usize,
    /// How long it took.
    took: Duration,
    /// In so many rounds nobody is waited for,
    rest: u32,
    /// which were as many the last time.
    last_rest: u32,
}

/// Whom a leader waits for, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) struct Expected {
    followers: usize,
    at_most: Duration,
}

impl Gathering {
    /// A round begins: what its leader expects.
    pub(in crate::log) fn begin(&mut self) -> Expected {
        let rests = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        Expected { followers: if rests { 0 } else { self.followers }, at_most: self.took }
    }

    /// The round is over: how many had come of those `expected`, how many followed in the end, and how long its sync took.
    pub(in crate::log) fn end(&mut self, expected: Expected, came: usize, followers: usize, took: Duration) {
        (self.followers, self.took) = (followers, took);
        if expected.followers == 0 {
            return;
        }
        let did_pay = came >= expected.followers.div_ceil(2);
        self.last_rest = if did_pay { 0 } else { (2 * self.last_rest + 1).min(REST_MAX) };
        self.rest = self.last_rest;
    }
}

impl Expected {
    /// Waits. `here` counts the followers; returns how many there were in the end.
    #[cfg(not(idemlog_shuttle))]
    pub(in crate::log) fn gather(self, here: impl Fn() -> usize) -> usize {
        let patience = PATIENCE_MAX.min(self.at_most / PATIENCE_PART);
        let started = Instant::now();
        let (mut came, mut since) = (0, started);
        while came < self.followers && since.elapsed() < patience && started.elapsed() < self.at_most {
            thread::yield_now();
            let now_here = here();
            if now_here > came {
                (came, since) = (now_here, Instant::now());
            }
        }
        came
    }

    /// The model checker has no time.
    #[cfg(idemlog_shuttle)]
    pub(in crate::log) fn gather(self, here: impl Fn() -> usize) -> usize {
        thread::yield_now();
        here()
    }
}

#[cfg(all(test, not(idemlog_shuttle)))]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SYNC: Duration = Duration::from_millis(100);

    /// Goes through a round to which so many come of those that are expected, and in the end so many follow.
    fn round(gathering: &mut Gathering, came: usize, followers: usize) -> usize {
        let expected = gathering.begin();
        gathering.end(expected, came, followers, SYNC);
        expected.followers
    }

    #[test]
    fn a_leader_expects_those_who_followed_the_last_sync() {
        let mut gathering = Gathering::default();
        assert_eq!(round(&mut gathering, 0, 7), 0, "of nobody anything is known");
        assert_eq!(round(&mut gathering, 7, 7), 7);
        assert_eq!(round(&mut gathering, 4, 5), 7, "not all came, but most");
        assert_eq!(round(&mut gathering, 5, 0), 5);
        assert_eq!(round(&mut gathering, 0, 0), 0);
    }

    #[test]
    fn where_few_come_a_leader_waits_ever_more_rarely_and_where_they_come_again_as_before() {
        let mut gathering = Gathering::default();
        round(&mut gathering, 0, 7);
        let waits = |gathering: &mut Gathering, came| {
            (0..200)
                .map(|_| round(gathering, came, 7))
                .map(|expected| usize::from(expected > 0))
                .sum::<usize>()
        };
        assert_eq!(waits(&mut gathering, 3), 8, "and again after 1, 3, 7, 15, 31, 63 and 63 rounds");
        assert!(waits(&mut gathering, 4) > 100);
        assert_eq!(waits(&mut gathering, 4), 200);
    }

    #[test]
    fn gathering_ends_when_all_are_here_and_when_nobody_comes_any_more() {
        let expected = Expected { followers: 3, at_most: Duration::from_secs(60) };
        let coming = Cell::new(0);
        let came = expected.gather(|| {
            coming.set(coming.get() + 1);
            coming.get()
        });
        assert_eq!((came, coming.get()), (3, 3));
        assert_eq!(expected.gather(|| 2), 2, "a minute has not gone by");
        assert_eq!(Expected { followers: 0, ..expected }.gather(|| unreachable!()), 0);
        assert_eq!(Expected { at_most: Duration::ZERO, ..expected }.gather(|| unreachable!()), 0);
    }
}
