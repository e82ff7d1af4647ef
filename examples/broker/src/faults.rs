//! Faults on purpose: acknowledgements that are lost, and appends that are refused for now. Either way the client sends again.

use std::sync::atomic::{AtomicU64, Ordering};

/// What goes wrong on purpose.
pub(crate) struct Faults {
    /// A produce request is stored, and its client does not hear of it.
    pub(crate) lost_acknowledgement: Chance,
    /// A partition takes no more producers for now.
    pub(crate) refusal: Chance,
}

/// Something that happens with a probability; at the same times for the same seed and order of requests.
pub(crate) struct Chance {
    /// It happens to draws below, of 2^53.
    threshold: u64,
    state: AtomicU64,
    happened: AtomicU64,
}

impl Chance {
    /// With a `probability` from 0 to 1.
    pub(crate) fn new(probability: f64, seed: u64) -> Self {
        let threshold = (probability * (1_u64 << 53) as f64) as u64;
        Self { threshold, state: AtomicU64::new(seed), happened: AtomicU64::new(0) }
    }

    /// Draws whether it happens this time, and counts it if it does.
    pub(crate) fn happens(&self) -> bool {
        let happens = self.threshold > 0 && self.draw() >> 11 < self.threshold;
        self.happened.fetch_add(u64::from(happens), Ordering::Relaxed);
        happens
    }

    /// How often it happened.
    pub(crate) fn count(&self) -> u64 {
        self.happened.load(Ordering::Relaxed)
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

    fn of_ten_thousand(probability: f64, seed: u64) -> u64 {
        let chance = Chance::new(probability, seed);
        let happened = (0..10_000).filter(|_| chance.happens()).count() as u64;
        assert_eq!(chance.count(), happened);
        happened
    }

    #[test]
    fn it_happens_as_often_as_asked_for() {
        assert_eq!(of_ten_thousand(0.0, 1), 0);
        assert_eq!(of_ten_thousand(1.0, 1), 10_000);
        assert!((400..600).contains(&of_ten_thousand(0.05, 1)));
    }

    #[test]
    fn a_seed_decides_when_it_happens() {
        let draws = |seed| {
            let chance = Chance::new(0.5, seed);
            (0..64).map(|_| chance.happens()).collect::<Vec<_>>()
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
