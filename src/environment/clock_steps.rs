//! Whether the host's clock is to be believed where records are deleted by their age.
//!
//! Nothing tells a wrong time from a right one, but a clock that is set is ahead of the time that has passed. What it says is old
//! then was not a moment ago, so nothing is deleted for it before somebody could have seen to the clock. From then on its time counts:
//! it may as well have been wrong before.

use std::time::Instant;

use crate::sync::Mutex;
use crate::types::Timestamp;

/// A clock that is ahead by more than this was set, and by less it makes nothing old that has not been for a while.
const LONGEST_STEP_MS: i64 = 60 * 60 * 1000;

/// For how long, by the clock itself, nobody is old by a clock that was set.
const DISTRUST_MS: i64 = 60 * 60 * 1000;

/// The clock as it was last looked at. A directory has one.
#[derive(Debug)]
pub(crate) struct ClockSteps(Mutex<Seen>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    clock: Timestamp,
    at: Instant,
    distrusted_until: Option<Timestamp>,
}

impl ClockSteps {
    /// Of a clock that is believed so far.
    pub(crate) fn from(now: Timestamp) -> Self {
        Self(Mutex::new(Seen { clock: now, at: Instant::now(), distrusted_until: None }))
    }

    /// Whether the ages are to be believed that records have by the clock, which is at `now`.
    pub(crate) fn is_believed(&self, now: Timestamp) -> bool {
        self.look(now, Instant::now())
    }

    fn look(&self, now: Timestamp, at: Instant) -> bool {
        let mut seen = self.0.lock();
        let passed = i64::try_from(at.saturating_duration_since(seen.at).as_millis()).unwrap_or(i64::MAX);
        let step_ms = now.0.saturating_sub(seen.clock.0).saturating_sub(passed);
        let distrusted_until = if step_ms > LONGEST_STEP_MS {
            event!(warn, step_ms, "the clock was set ahead: for an hour nothing is deleted by its age");
            Some(Timestamp(now.0.saturating_add(DISTRUST_MS)))
        } else {
            // Who sets it back has seen to it. Those who look come in another order than they read the clock, which may be corrected
            // by a little besides.
            let is_set_back = now.0 < seen.clock.0.saturating_sub(LONGEST_STEP_MS);
            seen.distrusted_until.filter(|&until| now < until && !is_set_back)
        };
        *seen = Seen { clock: now, at, distrusted_until };
        distrusted_until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: i64 = 60 * 60 * 1000;

    #[test]
    fn a_clock_that_was_set_ahead_is_not_believed_for_an_hour() {
        let began = Instant::now();
        let steps = ClockSteps(Mutex::new(Seen { clock: Timestamp(0), at: began, distrusted_until: None }));
        // What the clock says, how many hours have passed, and whether it is believed then.
        let cases = [
            (1, 0, true),
            (HOUR, 0, true),
            (10 * HOUR, 9, true),
            (11 * HOUR + 1, 9, false),
            (12 * HOUR, 10, false),
            // Read a moment before by a thread that comes to look later, or corrected by a moment.
            (12 * HOUR - 4, 10, false),
            (12 * HOUR, 10, false),
            (12 * HOUR + 1, 10, true),
            (1000 * HOUR, 10, false),
            (1000 * HOUR + 1, 10, false),
            (13 * HOUR, 10, true),
            (1000 * HOUR, 11, false),
            (3000 * HOUR, 12, false),
            (3001 * HOUR, 13, true),
        ];
        for (clock, hours, is_believed) in cases {
            let at = began + Duration::from_secs(hours * 3600);
            assert_eq!(steps.look(Timestamp(clock), at), is_believed, "{clock} after {hours} hours");
        }
    }

    #[test]
    fn no_clock_is_too_far_off_to_be_looked_at() {
        let steps = ClockSteps::from(Timestamp(i64::MIN));
        for clock in [i64::MAX, i64::MIN, -1, 0, i64::MAX] {
            steps.is_believed(Timestamp(clock));
        }
    }
}
