//! Crashes a world wherever it can be crashed, and looks at every disk that may be left.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use idemlog::IoMode;
use idemlog::sim::{Newest, Oldest, Rng, SimDisk, Survivors};

use crate::activity::activities;
use crate::check;
use crate::model::Expected;
use crate::op::{Op, Size};
use crate::violation::{Checked, catching};
use crate::world::{Geometry, World};

/// How much is tried at one point.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All combinations of survivors if they are at most so many,
    pub combinations: u64,
    /// else so many of them.
    pub samples: usize,
    /// One in so many disks is crashed again, at some points of its recovery and of what comes behind it.
    pub again: u64,
}

impl Bounds {
    /// Where a disk is larger, fewer of its states are tried.
    fn over(self, geometry: Geometry) -> Self {
        match geometry {
            Geometry::Sectors => self,
            Geometry::Pages => {
                Self { combinations: self.combinations / 4, samples: self.samples / 2, ..self }
            }
        }
    }
}

/// What was tried.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub workloads: u64,
    points: u64,
    /// Points with more combinations than are tried.
    sampled: u64,
    images: u64,
    /// Different disks with different expectations.
    states: u64,
    /// Different disks once they were opened.
    recovered: u64,
    /// Disks that were crashed again behind a crash.
    again: u64,
    pub inside: BTreeMap<&'static str, u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workloads, points, sampled, images, states, recovered, again, inside } = self;
        writeln!(
            f,
            "{workloads} workloads, {points} crash points, {images} disks, {states} of them different,"
        )?;
        writeln!(f, "  {recovered} different ones when opened, {again} of them crashed again; ")?;
        writeln!(
            f,
            "  survivors sampled at {sampled} points, all combinations tried at the others; crashed inside of"
        )?;
        let counts: Vec<_> = inside.iter().map(|(name, count)| format!("{name} {count}")).collect();
        write!(f, "  {}", counts.join(", "))
    }
}

/// Looks at every disk once.
pub struct Explorer {
    pub mode: IoMode,
    pub geometry: Geometry,
    pub bounds: Bounds,
    pub tally: Tally,
    seen: HashSet<u64>,
    settled: HashSet<u64>,
}

/// The points at which a disk is crashed again behind a crash.
const POINTS_AGAIN: u64 = 10;

impl Explorer {
    pub fn new(mode: IoMode, geometry: Geometry, bounds: Bounds) -> Self {
        let (seen, settled) = (HashSet::new(), HashSet::new());
        Self { mode, geometry, bounds, tally: Tally::default(), seen, settled }
    }

    /// Crashes a world at every point from `from` on.
    pub fn crash_everywhere(&mut self, world: &World, from: usize) -> Checked<()> {
        self.note_activities(world, from);
        (from..world.disk.crash_points()).try_for_each(|point| self.crash_at(world, point, 0))
    }

    /// Forgets the disks that were seen: those of another seed are different.
    pub fn forget(&mut self) {
        self.seen.clear();
        self.settled.clear();
    }

    fn note_activities(&mut self, world: &World, from: usize) {
        for (_, names) in activities(world).range(from..) {
            names.iter().for_each(|name| *self.tally.inside.entry(name).or_default() += 1);
        }
    }

    /// Crashes at one point, `depth` crashes behind the first.
    pub fn crash_at(&mut self, world: &World, point: usize, depth: u8) -> Checked<()> {
        self.tally.points += 1;
        let expected = world.expected(point);
        let looked = self.power_cuts(world, point, depth).and_then(|()| {
            // What a process has handed to the operating system survives it, synced or not.
            let at_least = expected.before.log_end().min(expected.after.log_end());
            let expected = Expected { at_least, powered: true, ..expected };
            let within = 1 + (point * 37) % 500;
            self.look_at(world.disk.kill(point), &expected, world, depth)?;
            self.look_at(world.disk.kill_within(point, within), &expected, world, depth)
        });
        looked.map_err(|violation| {
            format!("{violation}\n  crashed behind event {point}: {}", world.disk.describe(point))
        })
    }

    fn power_cuts(&mut self, world: &World, point: usize, depth: u8) -> Checked<()> {
        let expected = world.expected(point);
        let mut count = Count { undecided: 0, combinations: 1 };
        world.disk.crash(point, &mut count);
        let bounds = self.bounds.over(self.geometry);
        let combinations = if depth == 0 { bounds.combinations } else { bounds.combinations / 4 };
        if count.combinations <= combinations {
            // What survives of one thing may leave more undecided than was counted.
            let mut images =
                world.disk.images(point, combinations as usize, 0).take(combinations as usize * 4);
            return images.try_for_each(|image| self.look_at(image, &expected, world, depth));
        }
        self.tally.sampled += 1;
        let samples = if depth == 0 { bounds.samples } else { bounds.samples / 2 + 2 };
        // Few combinations may leave more undecided, too.
        let mut images = world.disk.images(point, samples, point as u64).take(samples * 4);
        images.try_for_each(|image| self.look_at(image, &expected, world, depth))?;
        // One thing alone is lost, or alone survives: what most bugs need.
        let mut rng = Rng::new(point as u64);
        (0..samples / 2).try_for_each(|_| {
            let one = rng.below(count.undecided as u64) as usize;
            let survivors = &mut Single { one, others: rng.chance(1, 2), asked: 0 };
            self.look_at(world.disk.crash(point, survivors), &expected, world, depth)
        })
    }

    fn look_at(&mut self, image: SimDisk, expected: &Expected, world: &World, depth: u8) -> Checked<()> {
        self.tally.images += 1;
        if !self.seen.insert(image.state_hash().rotate_left(7) ^ expected.hash()) {
            return Ok(());
        }
        self.tally.states += 1;
        let opened = catching(|| check::recovered(image, self.geometry, expected))?;
        let left = opened.disk.kill(0);
        self.look_into(&left, opened, world, depth)
    }

    fn look_into(&mut self, left: &SimDisk, mut opened: World, world: &World, depth: u8) -> Checked<()> {
        let state = check::settled_hash(&opened.disk)?.rotate_left(9) ^ opened.now.hash();
        if !self.settled.insert(state) {
            return Ok(());
        }
        self.tally.recovered += 1;
        catching(|| check::thorough(left, &opened))?;
        opened.take_over_clients(world);
        // A recovery that had something to do is more worth a crash.
        let one_in =
            if opened.log().recovery().cut.is_some() { self.bounds.again / 8 } else { self.bounds.again };
        if depth == 0 && state.is_multiple_of(one_in.max(1)) {
            self.crash_again(opened, state)
        } else {
            catching(|| check::goes_on(&mut opened))
        }
    }

    /// Goes on in one of some ways, and crashes somewhere on the way, the recovery included.
    fn crash_again(&mut self, mut opened: World, seed: u64) -> Checked<()> {
        self.tally.again += 1;
        let mut rng = Rng::new(seed);
        let ops = ways_on()[rng.below(4) as usize];
        catching(|| opened.steps(&ops))?;
        self.note_activities(&opened, 0);
        let points = opened.disk.crash_points() as u64;
        (0..POINTS_AGAIN.min(points))
            .try_for_each(|_| self.crash_at(&opened, rng.below(points) as usize, 1))
            .map_err(|violation| format!("{violation}\n  behind a first crash and {:?}", ops.map(Op::verb)))
    }

    /// Runs a workload with power cuts, and looks around at each cut.
    pub fn run_with_cuts(&mut self, ops: &[Op]) -> Checked<()> {
        let mut world = catching(|| World::run(self.mode, self.geometry, &[]))?;
        self.tally.workloads += 1;
        for &op in ops {
            match op {
                Op::Cut { seed } => world = self.cut(&world, seed)?,
                _ => catching(|| world.step(op))?,
            }
        }
        Ok(())
    }

    /// Crashes at some points, and returns the world behind one of them.
    fn cut(&mut self, world: &World, seed: u32) -> Checked<World> {
        let mut rng = Rng::new(seed.into());
        let points = world.disk.crash_points() as u64;
        self.note_activities(world, 0);
        (0..8).try_for_each(|_| self.crash_at(world, rng.below(points) as usize, 0))?;
        // A crash tends to come late: else little of a workload would be left.
        let point = (points - 1 - rng.below(points).min(rng.below(points))) as usize;
        let image = match rng.below(4) {
            0 => world.disk.crash(point, &mut Oldest),
            1 => world.disk.crash(point, &mut Newest),
            _ => world.disk.crash(point, &mut rng),
        };
        let expected = world.expected(point);
        let mut opened = catching(|| check::recovered(image, self.geometry, &expected))?;
        opened.take_over_clients(world);
        Ok(opened)
    }
}

fn ways_on() -> [[Op; 2]; 4] {
    let append = |producer, size| Op::Append { producer, size };
    [
        [Op::Retry, append(0, Size::Small)],
        // A batch as large as one that was lost, from somebody else.
        [append(2, Size::Exact), append(1, Size::Small)],
        [append(2, Size::Middle), Op::Kill],
        [append(2, Size::Small), Op::Roll],
    ]
}

/// Counts what is undecided, and the combinations.
struct Count {
    undecided: usize,
    combinations: u64,
}

impl Survivors for Count {
    fn choose(&mut self, options: usize) -> usize {
        self.undecided += 1;
        self.combinations = self.combinations.saturating_mul(options as u64);
        options - 1
    }
}

/// One thing survives and the others do not, or the other way round.
struct Single {
    one: usize,
    others: bool,
    asked: usize,
}

impl Survivors for Single {
    fn choose(&mut self, options: usize) -> usize {
        let survives = (self.asked == self.one) != self.others;
        self.asked += 1;
        if survives { options - 1 } else { 0 }
    }
}
