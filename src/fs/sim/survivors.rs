//! Which of the things that a power cut leaves undecided survive it.

use super::Rng;

/// Decides what survives a power cut, one undecided thing at a time.
///
/// ```
/// use idemlog::sim::Survivors;
///
/// /// Every second thing survives.
/// struct Alternating(bool);
///
/// impl Survivors for Alternating {
///     fn choose(&mut self, options: usize) -> usize {
///         self.0 = !self.0;
///         if self.0 { options - 1 } else { 0 }
///     }
/// }
/// ```
pub trait Survivors {
    /// One of `options` (at least 2) states of a thing: 0 is the durable one, the last one is what processes saw.
    fn choose(&mut self, options: usize) -> usize;
}

impl dyn Survivors + '_ {
    /// Asks only where there is something to choose, and takes no answer that is out of range.
    pub(super) fn decide(&mut self, options: usize) -> usize {
        if options < 2 { 0 } else { self.choose(options).min(options - 1) }
    }
}

/// Only what was synced survives.
///
/// ```
/// use idemlog::sim::{Oldest, Survivors};
///
/// assert_eq!(Oldest.choose(3), 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Oldest;

/// Everything survives.
///
/// ```
/// use idemlog::sim::{Newest, Survivors};
///
/// assert_eq!(Newest.choose(3), 2);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Newest;

/// Every combination, one after the other.
///
/// ```
/// use idemlog::sim::{Exhaustive, Survivors};
///
/// let mut every = Exhaustive::default();
/// let mut seen = Vec::new();
/// loop {
///     seen.push((every.choose(2), every.choose(2)));
///     if !every.advance() {
///         break;
///     }
/// }
/// assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exhaustive {
    /// The choices of the present combination, and how many options each had. A later choice may depend on an earlier
    /// one: the combinations are the leaves of a tree, walked from left to right.
    choices: Vec<(usize, usize)>,
    next: usize,
}

impl Exhaustive {
    /// Goes on to the next combination; `false` if there is none.
    pub fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some((choice, options)) = self.choices.pop() {
            if choice + 1 < options {
                self.choices.push((choice + 1, options));
                return true;
            }
        }
        false
    }
}

impl Survivors for Oldest {
    fn choose(&mut self, _options: usize) -> usize {
        0
    }
}

impl Survivors for Newest {
    fn choose(&mut self, options: usize) -> usize {
        options - 1
    }
}

impl Survivors for Rng {
    fn choose(&mut self, options: usize) -> usize {
        self.below(options as u64) as usize
    }
}

impl Survivors for Exhaustive {
    fn choose(&mut self, options: usize) -> usize {
        if self.next == self.choices.len() {
            self.choices.push((0, options));
        }
        self.next += 1;
        self.choices[self.next - 1].0
    }
}

/// Random with a leaning: nearly all survives, or half, or nearly nothing. Of many undecided things an unbiased coin
/// would always keep about half.
#[derive(Debug)]
pub(super) struct Leaning {
    rng: Rng,
    newest_in_eight: u64,
}

impl Leaning {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let newest_in_eight = [1, 4, 7][rng.below(3) as usize];
        Self { rng, newest_in_eight }
    }
}

impl Survivors for Leaning {
    fn choose(&mut self, options: usize) -> usize {
        if self.rng.chance(self.newest_in_eight, 8) { options - 1 } else { self.rng.choose(options - 1) }
    }
}

/// Counts what is undecided, and the combinations.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) undecided: usize,
    pub(super) combinations: u64,
}

impl Survivors for Count {
    fn choose(&mut self, options: usize) -> usize {
        self.undecided += 1;
        self.combinations = self.combinations.saturating_mul(options as u64);
        options - 1
    }
}
