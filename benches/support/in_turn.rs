//! Targets that are measured in turn. Criterion takes all samples of one function before it comes to the next; the speed of
//! a virtual machine may change meanwhile by more than the two differ.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};

/// Criterion warms up by this, of the wall clock: one sample.
const WARM_UP: Duration = Duration::from_millis(1);

/// A target's name, and what takes a sample of it: the nanoseconds of one iteration.
pub(crate) type Target<'a> = (String, Box<dyn FnMut() -> f64 + 'a>);

pub(crate) fn target<'a>(name: impl Into<String>, sample: impl FnMut() -> f64 + 'a) -> Target<'a> {
    (name.into(), Box::new(sample))
}

/// A group whose samples are all of one size.
pub(crate) fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    samples: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(samples);
    group.warm_up_time(WARM_UP).measurement_time(Duration::from_millis(1));
    group
}

/// Measures all `targets` in turn whenever one of them has no sample left, and hands criterion those that it asks for.
pub(crate) fn in_turn(mut group: BenchmarkGroup<'_, WallTime>, mut targets: Vec<Target<'_>>) {
    let mut kept = vec![VecDeque::new(); targets.len()];
    for number in 0..targets.len() {
        let name = targets[number].0.clone();
        group.bench_function(name, |bench| {
            bench.iter_custom(|iterations| {
                if kept[number].is_empty() {
                    let all = targets.iter_mut().zip(&mut kept);
                    all.for_each(|((_, sample), kept)| kept.push_back(sample()));
                } else {
                    std::thread::sleep(2 * WARM_UP); // what was kept must not look infinitely fast
                }
                let nanoseconds: f64 = kept[number].pop_front().unwrap_or_default();
                Duration::from_nanos((nanoseconds * iterations as f64).round() as u64)
            });
        });
    }
    group.finish();
}

/// Nanoseconds of each of `count` iterations that took `time` together.
pub(crate) fn each_of(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// Nanoseconds that `run` takes.
pub(crate) fn time_of(run: impl FnOnce()) -> f64 {
    let started = Instant::now();
    run();
    each_of(started.elapsed(), 1)
}
