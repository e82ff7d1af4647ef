//! The host's time with its jumps taken out.

use crate::types::Timestamp;

/// A step ahead of more than this between two observations may be a jump, and counts as this much. Not as nothing: in a
/// partition that is seldom used no time would ever pass.
const LONGEST_STEP_MS: i64 = 60 * 60 * 1000;

/// A clock that begins behind this has jumped already: the seconds since 1970 would not fit (it is the year 2100).
const LATEST_MS: i64 = 4_102_444_800_000;

/// The time that passed for the table. It begins as the host's and from then on never runs backwards: where the host's
/// clock jumps back it stands still, and ahead it goes by an hour at most.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HostClock {
    observed: Option<Timestamp>,
    /// The sum of all that did not count as time, in ms.
    skipped: i64,
    /// The second that `observed` is part of, by the table's time.
    second: u32,
}

impl HostClock {
    /// Most appends find the time that the one before found.
    #[inline]
    pub(super) fn observe(&mut self, now: Timestamp) {
        if self.observed != Some(now) {
            *self = self.after(now);
        }
    }

    /// The table's time in ms when the host's is `now`.
    pub(super) fn peek(self, now: Timestamp) -> i64 {
        now.0.saturating_sub(self.after(now).skipped)
    }

    /// The second of the last observation, rounded up: whatever was seen then never looks older than it is.
    #[inline]
    pub(super) fn second(self) -> u32 {
        self.second
    }

    /// The host's time of a second of the table's.
    pub(super) fn to_host(self, seconds: u32) -> Timestamp {
        Timestamp((i64::from(seconds) * 1000).saturating_add(self.skipped))
    }

    fn after(self, now: Timestamp) -> Self {
        let jump = match self.observed {
            Some(observed) => {
                let step = now.0.saturating_sub(observed.0);
                step - step.clamp(0, LONGEST_STEP_MS)
            }
            None if (0..=LATEST_MS).contains(&now.0) => 0,
            None => now.0,
        };
        let skipped = self.skipped.saturating_add(jump);
        Self { observed: Some(now), skipped, second: to_seconds(now.0.saturating_sub(skipped)) }
    }
}

/// Whole seconds, rounded up, within what a `u32` holds.
pub(super) fn to_seconds(ms: i64) -> u32 {
    u32::try_from(ms.max(0) as u64 / 1000 + u64::from(ms.max(0) % 1000 > 0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds behind 2106 were all the same one: whoever was seen then was idle for ever at once, and forgotten.
    #[test]
    fn a_clock_that_begins_at_the_end_of_time_goes_on_from_there() {
        for begin in [i64::MIN, -1000, LATEST_MS + 1000, i64::MAX - 5000] {
            let mut clock = HostClock::default();
            clock.observe(Timestamp(begin));
            let seen = clock.second();
            assert_eq!(clock.to_host(seen), Timestamp(begin), "{begin}");
            clock.observe(Timestamp(begin + 2000));
            assert_eq!(clock.second(), seen + 2, "{begin}");
        }
    }

    #[test]
    fn a_jump_of_the_clock_is_an_hour_at_most() {
        let mut clock = HostClock::default();
        let cases = [
            (5_000, 5_000),
            (3_605_000, 3_605_000),
            (9_000_000, 7_205_000),
            (9_001_000, 7_206_000),
            (0, 7_206_000),
            (10, 7_206_010),
        ];
        for (host, table) in cases {
            assert_eq!(clock.peek(Timestamp(host)), table, "at {host}");
            clock.observe(Timestamp(host));
            assert_eq!(clock.peek(Timestamp(host)), table, "at {host}, observed");
        }
        assert_eq!(clock.to_host(7206), Timestamp(0));
    }

    #[test]
    fn seconds_are_rounded_up_and_bounded() {
        for (ms, seconds) in [(-1, 0), (0, 0), (1, 1), (1000, 1), (1001, 2), (i64::MAX, u32::MAX)] {
            assert_eq!(to_seconds(ms), seconds, "{ms}");
        }
    }
}
