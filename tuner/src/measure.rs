//! Timing named candidates: warm-up first, then rounds in turn, so that a machine that slows down slows all alike.

use std::time::{Duration, Instant};

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Runs that are not counted: caches, page faults, frequency.
    pub warm_up: usize,
    /// Counted runs at least.
    pub runs: usize,
    /// Counted time at least, over all candidates.
    pub at_least: Duration,
    /// Counted runs at most.
    pub at_most: usize,
}

impl Default for Effort {
    /// A second: long enough that a scheduler's pause is an outlier and not the median.
    fn default() -> Effort {
        Effort { warm_up: 2, runs: 9, at_least: Duration::from_secs(1), at_most: 1000 }
    }
}

/// What was measured, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Median.
    pub median: f64,
    /// Fastest.
    pub min: f64,
    /// Median absolute deviation from the median.
    pub spread: f64,
    /// Counted runs.
    pub runs: usize,
}

/// Median, fastest and spread of times; zeros for none.
pub fn summary(times: &[f64]) -> Timing {
    let median = median(times);
    let deviations: Vec<f64> = times.iter().map(|t| (t - median).abs()).collect();
    let min = times.iter().copied().fold(f64::INFINITY, f64::min);
    Timing {
        median,
        min: if times.is_empty() { 0.0 } else { min },
        spread: self::median(&deviations),
        runs: times.len(),
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Times candidates in turn; one timing each, in order. The first error ends it.
pub fn measure<E>(candidates: &mut [&mut dyn FnMut() -> Result<(), E>], effort: Effort) -> Result<Vec<Timing>, E> {
    for candidate in candidates.iter_mut() {
        for _ in 0..effort.warm_up {
            candidate()?;
        }
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); candidates.len()];
    let started = Instant::now();
    let mut round = 0;
    while round < effort.runs || (round < effort.at_most && started.elapsed() < effort.at_least) {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let start = Instant::now();
            candidate()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        round += 1;
    }
    Ok(times.iter().map(|t| summary(t)).collect())
}

/// Runs once: the outcome and the milliseconds it took.
pub fn once<T>(f: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let outcome = f();
    (outcome, start.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ignore_outliers() {
        let t = summary(&[5.0, 1.0, 100.0, 2.0, 3.0]);
        assert_eq!((t.median, t.min, t.spread, t.runs), (3.0, 1.0, 2.0, 5));
        assert_eq!(summary(&[2.0, 4.0]).median, 3.0);
        assert_eq!(summary(&[]).runs, 0);
    }

    #[test]
    fn candidates_run_in_turn_and_errors_end_it() {
        let order = std::cell::RefCell::new(Vec::new());
        let mut a = || {
            order.borrow_mut().push('a');
            Ok::<(), ()>(())
        };
        let mut b = || {
            order.borrow_mut().push('b');
            Ok(())
        };
        let effort = Effort { warm_up: 1, runs: 2, at_least: Duration::ZERO, at_most: 9 };
        let timings = measure(&mut [&mut a, &mut b], effort).unwrap();
        assert_eq!(timings.iter().map(|t| t.runs).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(order.borrow().iter().collect::<String>(), "ababab");
        let mut fails = || Err(7);
        assert_eq!(measure(&mut [&mut fails], effort), Err(7));
    }
}
