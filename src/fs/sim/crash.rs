//! Looking back at any point of the journal, and the disks that a crash there leaves.

use super::state::{Event, State};
use super::survivors::{Count, Leaning};
use super::{Exhaustive, Inner, Newest, Oldest, SimDisk, Survivors};

impl SimDisk {
    /// The number of points at which a crash can happen: before the first event of the journal, and after each.
    pub fn crash_points(&self) -> usize {
        self.lock_inner().journal.len() + 1
    }

    /// The marks that were made before `point`.
    pub fn marks(&self, point: usize) -> Vec<u64> {
        let mark = |event: &Event| if let Event::Mark(mark) = event { Some(*mark) } else { None };
        self.lock_inner().journal.iter().take(point).filter_map(mark).collect()
    }

    /// What happened last before `point`, in words.
    pub fn describe(&self, point: usize) -> String {
        let inner = self.lock_inner();
        let last = point.checked_sub(1).and_then(|last| inner.journal.get(last));
        last.map_or_else(|| "nothing yet".to_owned(), |event| format!("{event:?}"))
    }

    /// Begins a new journal: earlier points can no longer be crashed at. What was not synced stays undecided.
    pub fn restart_journal(&self) {
        let mut inner = self.lock_inner();
        inner.base = inner.state.clone();
        inner.replayed = (0, inner.state.clone());
        inner.journal.clear();
    }

    /// How many things a power cut at `point` leaves undecided, at most.
    pub fn undecided(&self, point: usize) -> usize {
        self.count(point).undecided
    }

    fn count(&self, point: usize) -> Count {
        let mut count = Count { undecided: 0, combinations: 1 };
        self.lock_inner().crashing_at(point).survive(&mut count);
        count
    }

    /// A disk that a power cut at `point` may leave.
    pub fn crash(&self, point: usize, survivors: &mut dyn Survivors) -> Self {
        let state = self.lock_inner().crashing_at(point).survive(survivors);
        self.image(state)
    }

    /// Disks that a power cut at `point` may leave: all of them if they are at most `at_most`, otherwise the two
    /// extremes and random ones that follow from `seed`. The same disk may come more than once.
    pub fn images(&self, point: usize, at_most: usize, seed: u64) -> Images {
        let all = self.count(point).combinations <= at_most as u64;
        let state = self.lock_inner().crashing_at(point);
        let plan = if all { Plan::All(Some(Exhaustive::default())) } else { Plan::Some };
        Images { disk: self.clone(), state, plan, seed, done: 0, at_most }
    }

    /// The disk that the death of the process at `point` leaves: it lost nothing, and nothing more is durable than
    /// before.
    pub fn kill(&self, point: usize) -> Self {
        let state = self.lock_inner().replay(point);
        self.image(state)
    }

    /// As [`kill`](Self::kill), with the process already `bytes` into the store or write that comes next, if that is
    /// what comes.
    pub fn kill_within(&self, point: usize, bytes: usize) -> Self {
        let mut inner = self.lock_inner();
        let mut state = inner.replay(point);
        if let Some(event) = inner.journal.get(point) {
            state.apply_prefix(event, bytes);
        }
        drop(inner);
        self.image(state)
    }

    fn image(&self, state: State) -> Self {
        let settings = self.lock_inner().settings;
        Self::from_state(self.shared.mode, state, settings)
    }
}

impl Inner {
    /// The state after the first `point` events. Going forwards from one point to the next is cheap.
    fn replay(&mut self, point: usize) -> State {
        let point = point.min(self.journal.len());
        if self.replayed.0 > point {
            self.replayed = (0, self.base.clone());
        }
        let (done, state) = &mut self.replayed;
        self.journal[*done..point].iter().for_each(|event| state.apply(event));
        *done = point;
        state.clone()
    }

    /// The state after the first `point` events, of which the last may have gone halfway.
    fn crashing_at(&mut self, point: usize) -> State {
        let point = point.min(self.journal.len());
        let Some(last) = point.checked_sub(1) else { return self.replay(0) };
        let mut state = self.replay(last);
        state.apply_torn(&self.journal[last]);
        state.apply(&self.journal[last]);
        state
    }
}

/// The disks that a power cut at one point may leave; from [`SimDisk::images`].
///
/// ```
/// use idemlog::sim::SimDisk;
/// use idemlog::{Access, Disk, IoMode};
///
/// let disk = SimDisk::new(IoMode::Write);
/// disk.open("/a".as_ref(), Access::CreateNew)?;
/// disk.open("/b".as_ref(), Access::CreateNew)?;
/// let now = disk.crash_points() - 1;
/// assert_eq!(disk.images(now, 100, 0).count(), 4, "each of two names survives or not");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Images {
    disk: SimDisk,
    state: State,
    plan: Plan,
    seed: u64,
    done: usize,
    at_most: usize,
}

#[derive(Debug)]
enum Plan {
    All(Option<Exhaustive>),
    Some,
}

impl Images {
    fn next_state(&mut self) -> Option<State> {
        match (&mut self.plan, self.done) {
            (Plan::All(every), _) => {
                let state = self.state.survive(every.as_mut()?);
                if !every.as_mut()?.advance() {
                    *every = None;
                }
                Some(state)
            }
            (Plan::Some, done) if done >= self.at_most => None,
            (Plan::Some, 0) => Some(self.state.survive(&mut Oldest)),
            (Plan::Some, 1) => Some(self.state.survive(&mut Newest)),
            (Plan::Some, done) => {
                let seed = self.seed.wrapping_add(done as u64);
                Some(self.state.survive(&mut Leaning::new(seed)))
            }
        }
    }
}

impl Iterator for Images {
    type Item = SimDisk;

    fn next(&mut self) -> Option<SimDisk> {
        let state = self.next_state()?;
        self.done += 1;
        Some(self.disk.image(state))
    }
}
