//! Losing acknowledgements on purpose: the batch is stored, the client does not hear of it, and sends it again.

use std::sync::atomic::{AtomicU64, Ordering};

/// Decides which acknowledgements are lost; the same ones for the same seed and order of requests.
pub(crate) struct Faults {
    /// Draws below are lost, of 2^53.
    threshold: u64,
    state: AtomicU64,
    lost: AtomicU64,
}

impl Faults {
    /// Loses acknowledgements with a `probability` from 0 to 1.
    pub(crate) fn new(probability: f64, seed: u64) -> Self {
        let threshold = (probability * (1_u64 << 53) as f64) as u64;
        Self { threshold, state: AtomicU64::new(seed), lost: AtomicU64::new(0) }
    }

    /// Draws whether this acknowledgement is lost, and counts it if it is.
    pub(crate) fn loses_this_acknowledgement(&self) -> bool {
        let is_lost = self.threshold > 0 && self.draw() >> 11 < self.threshold;
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
        is_lost
    }

    /// How many acknowledgements were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// SplitMix64: its state only counts, so that one atomic addition is enough to share it.
    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A probability as an argument.
pub(crate) fn parse_probability(argument: &str) -> Result<f64, String> {
    match argument.parse() {
        Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(probability),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost_of_ten_thousand(probability: f64, seed: u64) -> u64 {
        let faults = Faults::new(probability, seed);
        let lost = (0..10_000).filter(|_| faults.loses_this_acknowledgement()).count() as u64;
        assert_eq!(faults.lost(), lost);
        lost
    }

    #[test]
    fn as_many_acknowledgements_are_lost_as_asked_for() {
        assert_eq!(lost_of_ten_thousand(0.0, 1), 0);
        assert_eq!(lost_of_ten_thousand(1.0, 1), 10_000);
        assert!((400..600).contains(&lost_of_ten_thousand(0.05, 1)));
    }

    #[test]
    fn a_seed_decides_which_ones_are_lost() {
        let draws = |seed| {
            let faults = Faults::new(0.5, seed);
            (0..64).map(|_| faults.loses_this_acknowledgement()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn a_probability_lies_between_0_and_1() {
        assert_eq!(parse_probability("0.25"), Ok(0.25));
        for refused in ["-0.1", "1.1", "NaN", "often"] {
            assert!(parse_probability(refused).is_err(), "{refused}");
        }
    }
}
