//! The time, which a host can replace.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::types::Timestamp;

/// Where the engine takes the time from. It may jump; nothing that was acknowledged depends on it.
///
/// ```
/// use idemlog::{Clock, Timestamp};
///
/// #[derive(Debug)]
/// struct Noon;
///
/// impl Clock for Noon {
///     fn now(&self) -> Timestamp {
///         Timestamp(1_700_000_000_000)
///     }
/// }
/// # assert_eq!(Noon.now(), Timestamp(1_700_000_000_000));
/// ```
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn now(&self) -> Timestamp;

    /// The same, or what it was some milliseconds ago, where that can be had for less: every append asks. It decides
    /// when producers, segments and records are old. Append times are from [`now`](Self::now).
    fn recently(&self) -> Timestamp {
        self.now()
    }
}

/// The operating system's clock.
///
/// ```
/// use idemlog::{Clock, SystemClock, Timestamp};
///
/// assert!(SystemClock.now() > Timestamp(1_600_000_000_000));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// The time of the kernel's last tick: a fifth of the price.
    #[cfg(target_os = "linux")]
    fn recently(&self) -> Timestamp {
        let tick = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Timestamp(tick.tv_sec.saturating_mul(1000).saturating_add(tick.tv_nsec / 1_000_000))
    }
}
