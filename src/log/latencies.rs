//! How long things took, counted in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often each power of two of microseconds was seen: bucket `n` counts what took less than 2^n µs and not less
/// than 2^(n-1); the last one also what took longer.
const BUCKETS: usize = 32;

/// How long something took, how often: a histogram that only ever grows while the log is open.
///
/// The bounds are always the same: 2^n µs for n from 0 to 30, so 1 µs, 2 µs, 4 µs and so on up to 1,074 s. A bucket counts what
/// took less than its bound.
///
/// For a system like Prometheus, which makes rates and quantiles of any time span from them:
///
/// ```
/// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
///
/// # let data = tempfile::tempdir().unwrap();
/// let dir = LogDir::open(data.path(), LogDirOptions::default())?;
/// dir.partition("orders", 0)?.append(&BatchBuilder::new().record(b"k", b"v").build()?)?;
///
/// let syncs = dir.metrics().sum.sync_latencies;
/// for (bound, count) in syncs.cumulative() {
///     println!("sync_seconds_bucket{{le=\"{}\"}} {count}", bound.as_secs_f64());
/// }
/// println!("sync_seconds_bucket{{le=\"+Inf\"}} {}", syncs.count());
/// println!("sync_seconds_sum {}", syncs.sum().as_secs_f64());
/// println!("sync_seconds_count {}", syncs.count());
/// # assert!(syncs.count() >= 1 && syncs.sum() > std::time::Duration::ZERO);
/// # Ok::<(), idemlog::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    counts: [u64; BUCKETS],
    sum: Duration,
}

impl Latencies {
    /// Each bound, the lowest first, and how often it took less than that.
    pub fn cumulative(&self) -> impl Iterator<Item = (Duration, u64)> {
        let below = self.counts.iter().take(BUCKETS - 1).scan(0, |seen, count| {
            *seen += count;
            Some(*seen)
        });
        below.enumerate().map(|(bucket, seen)| (bound(bucket), seen))
    }

    /// How often it was in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long it took in all.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Below which bound that part of all was, such as 0.99; zero where there was nothing. What took longer than the last bound
    /// counts as twice that. A part above 1 is taken for all.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert_eq!(idemlog::Latencies::default().quantile(0.5), Duration::ZERO);
    /// ```
    pub fn quantile(&self, quantile: f64) -> Duration {
        let count = self.count();
        let wanted = ((count as f64 * quantile).ceil() as u64).min(count);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return bound(bucket);
            }
        }
        Duration::ZERO
    }

    /// What came since an earlier look at the same.
    ///
    /// ```
    /// use idemlog::{BatchBuilder, LogDir, LogDirOptions};
    ///
    /// # let data = tempfile::tempdir().unwrap();
    /// # let dir = LogDir::open(data.path(), LogDirOptions::default())?;
    /// let log = dir.partition("orders", 0)?;
    /// let before = log.metrics().sync_latencies;
    /// log.append(&BatchBuilder::new().record(b"k", b"v").build()?)?;
    /// let since = log.metrics().sync_latencies.since(&before);
    /// println!("99 of 100 took less than {:?}", since.quantile(0.99));
    /// # assert!(since.count() >= 1);
    /// # Ok::<(), idemlog::Error>(())
    /// ```
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].saturating_sub(before.counts[bucket]));
        Self { counts, sum: self.sum.saturating_sub(before.sum) }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }
}

fn bound(bucket: usize) -> Duration {
    Duration::from_micros(1 << bucket)
}

/// The same as it is counted.
#[derive(Debug, Default)]
pub(super) struct LatencyCounters {
    counts: [AtomicU64; BUCKETS],
    nanoseconds: AtomicU64,
}

impl LatencyCounters {
    pub(super) fn record(&self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - microseconds.leading_zeros()).min(BUCKETS as u32 - 1);
        self.counts[bucket as usize].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Latencies {
        let counts = std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed));
        Latencies { counts, sum: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_upper_end_of_its_bucket() {
        let latencies = LatencyCounters::default();
        assert_eq!(latencies.read().quantile(0.5), Duration::ZERO);
        (0..99).for_each(|_| latencies.record(Duration::from_micros(100)));
        latencies.record(Duration::from_micros(5000));
        let latencies = latencies.read();
        assert_eq!(latencies.quantile(0.5), Duration::from_micros(128));
        assert_eq!(latencies.quantile(0.999), Duration::from_micros(8192));
        assert_eq!((latencies.count(), latencies.sum()), (100, Duration::from_micros(14_900)));
    }

    /// 99 for 0.99 was answered with zero, as if nothing had taken any time.
    #[test]
    fn a_quantile_above_all_is_the_slowest() {
        let latencies = LatencyCounters::default();
        [100, 5000].map(Duration::from_micros).into_iter().for_each(|took| latencies.record(took));
        let latencies = latencies.read();
        for (quantile, expected) in [(1.0, 8192), (1.5, 8192), (99.0, 8192), (0.0, 128), (-1.0, 128)] {
            assert_eq!(latencies.quantile(quantile), Duration::from_micros(expected), "{quantile}");
        }
    }

    #[test]
    fn a_bucket_counts_what_took_less_than_its_bound_and_the_last_one_is_not_shown() {
        let counters = LatencyCounters::default();
        let took = [0, 1, 2, 3, 1_000_000, 1 << 30, u64::MAX / 1000];
        took.map(Duration::from_micros).into_iter().for_each(|took| counters.record(took));
        let latencies = counters.read();
        let buckets: Vec<_> = latencies.cumulative().collect();
        assert_eq!(buckets.len(), 31);
        for (bound, count) in buckets {
            let expected = took.iter().filter(|&&took| Duration::from_micros(took) < bound).count() as u64;
            assert_eq!(count, expected, "{bound:?}");
        }
        assert_eq!(latencies.count(), took.len() as u64);
    }

    /// After a week of syncs of 100 µs the percentile of them all did not tell of the seconds that they took since.
    #[test]
    fn the_difference_of_two_looks_tells_what_was_in_between() {
        let counters = LatencyCounters::default();
        (0..100_000).for_each(|_| counters.record(Duration::from_micros(100)));
        let before = counters.read();
        (0..100).for_each(|_| counters.record(Duration::from_secs(2)));
        let now = counters.read();
        assert_eq!(now.quantile(0.99), Duration::from_micros(128));
        let since = now.since(&before);
        assert_eq!((since.count(), since.sum()), (100, Duration::from_secs(200)));
        assert!(since.quantile(0.5) > Duration::from_secs(2));
    }
}
