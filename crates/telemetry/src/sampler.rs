//! Which statements of one core are looked at, where not all can be.

use std::time::{Duration, Instant};

/// Which statements of one core are looked at.
///
/// They are chosen by counting and not by the clock, since at any moment it is more likely that a slow one
/// ends next. In each [`WINDOW`] one in so many is looked at that there would have been as many as allowed in
/// the window before; how many are passed by in between is drawn at random, since sessions repeat themselves.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// When the window began.
    since: Option<Instant>,
    /// Statements in the window so far.
    seen: u64,
    /// One in so many is looked at.
    one_in: u64,
    /// How many are to be passed by before the next look.
    skip: u64,
    /// How many were, since the last.
    passed: u64,
    random: fastrand::Rng,
}

/// How long statements are counted to tell how many there are.
const WINDOW: Duration = Duration::from_millis(100);

impl Default for Sampler {
    fn default() -> Self {
        let random = fastrand::Rng::new();
        Self { since: None, seen: 0, one_in: 1, skip: 0, passed: 0, random }
    }
}

impl Sampler {
    /// How many statements this one stands for, if it is to be looked at.
    pub(crate) fn take(&mut self, now: Instant, per_second: u32) -> Option<u64> {
        if per_second == 0 {
            return None;
        }
        self.seen += 1;
        self.passed += 1;
        let window = self.since.map_or(WINDOW, |since| now.saturating_duration_since(since));
        if window >= WINDOW {
            let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
            let allowed = (millis.saturating_mul(per_second.into()) / 1000).max(1);
            self.one_in = self.seen.div_ceil(allowed).max(1);
            // What was drawn for more statements than there are now would take long to pass.
            self.skip = self.skip.min(2 * (self.one_in - 1));
            (self.since, self.seen) = (Some(now), 0);
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.skip = self.random.u64(0..=2 * (self.one_in - 1));
        Some(std::mem::take(&mut self.passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many statements, `every` apart, are looked at, and what they stand for in all.
    fn looked_at(start: Instant, every: Duration, many: u32) -> (u64, u64) {
        let mut sampler = Sampler::default();
        let looks = (0..many).filter_map(|n| sampler.take(start + every * n, 100));
        looks.fold((0, 0), |(looks, stood), weight| (looks + 1, stood + weight))
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn few_statements_are_all_looked_at_and_of_many_so_many_a_second() {
        let start = Instant::now();
        assert_eq!(looked_at(start, Duration::from_millis(20), 1000), (1000, 1000));
        let (looks, stood) = looked_at(start, Duration::from_micros(100), 50_000);
        // The first window is not known to be one of many.
        assert!((1300..1900).contains(&looks), "{looks} in five seconds");
        assert!((49_000..=50_000).contains(&stood), "{stood} stood for");
        assert_eq!(Sampler::default().take(start, 0), None);
    }

    /// One connection that repeats itself, with statements of these durations in microseconds: what is
    /// estimated of the count of each, as a share of the truth.
    fn shares(start: Instant, round: &[u64]) -> Vec<f64> {
        let (mut sampler, mut now) = (Sampler::default(), start);
        let mut counts = vec![0; round.len()];
        let mut rounds = 0_u32;
        while now - start < Duration::from_secs(120) {
            for (count, took) in counts.iter_mut().zip(round) {
                now += Duration::from_micros(*took);
                *count += sampler.take(now, 200).unwrap_or(0);
            }
            rounds += 1;
        }
        let share = |count: u64| f64::from(u32::try_from(count).unwrap()) / f64::from(rounds);
        counts.into_iter().map(share).collect()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "there is no other way to an instant")]
    fn slow_and_quick_statements_are_counted_alike() {
        let rounds: [&[u64]; 3] =
            [&[50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 5000], &[60, 200, 300, 2000], &[20, 20]];
        for round in rounds {
            for (share, took) in shares(Instant::now(), round).iter().zip(round) {
                assert!((0.8..1.25).contains(share), "{took} µs of {round:?}: {share}");
            }
        }
    }
}
