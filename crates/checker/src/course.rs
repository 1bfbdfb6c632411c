//! In which order the faults come, drawn from a seed.
//!
//! A run has chapters, each on one route; failsoft is started again between them. A chapter has
//! laps, in each of which every kind of fault that the route allows comes once. What ends
//! failsoft's process comes in the first lap only, so that it also lives for longer.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::faults::Kind;
use crate::stand::Route;

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// failsoft is started again on this route, which counts as [`Kind::FailsoftKilled`].
    Chapter(Route),
    /// A fault.
    Fault(Kind),
}

/// The order of the faults.
#[derive(Clone, Debug)]
pub struct Course {
    rng: Rng,
    kinds: Vec<Kind>,
    network: bool,
    laps: usize,
    most: usize,
    route: Route,
    queue: VecDeque<Next>,
}

impl Course {
    /// Begins on the route through the proxies; `network` says whether there is another. A chapter has so many laps, and no more than `most`
    /// faults in each of them.
    #[must_use]
    pub fn new(kinds: &[Kind], network: bool, laps: usize, most: usize, seed: u64) -> Self {
        let (rng, route) = (Rng::with_seed(seed), Route::Proxied);
        let kinds = kinds.to_vec();
        let mut course = Self { rng, kinds, network, laps, most, route, queue: VecDeque::new() };
        course.chapter();
        course
    }

    /// What comes next; there is always more.
    pub fn advance(&mut self) -> Next {
        if let Some(next) = self.queue.pop_front() {
            return next;
        }
        if self.network {
            self.route = if self.route == Route::Direct { Route::Proxied } else { Route::Direct };
        }
        self.chapter();
        Next::Chapter(self.route)
    }

    fn chapter(&mut self) {
        for lap in 0..self.laps {
            let fits = |kind: &Kind| {
                let here = kind.route().is_none_or(|route| route == self.route);
                here && (lap == 0 || !kind.ends_failsoft())
            };
            let mut kinds: Vec<Kind> = self.kinds.iter().copied().filter(fits).collect();
            self.rng.shuffle(&mut kinds);
            self.queue.extend(kinds.into_iter().take(self.most).map(Next::Fault));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_comes_on_its_route() {
        for network in [false, true] {
            let mut course = Course::new(&Kind::all(network), network, 2, usize::MAX, 5);
            let (mut route, mut seen) = (Route::Proxied, BTreeSet::new());
            for _ in 0..100 {
                match course.advance() {
                    Next::Chapter(next) => route = next,
                    Next::Fault(kind) => {
                        assert!(kind.route().is_none_or(|needed| needed == route), "{kind:?}");
                        seen.insert(kind);
                    }
                }
            }
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), Kind::all(network));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_course() {
        let first = |seed| {
            let mut course = Course::new(&Kind::all(true), true, 1, 6, seed);
            (0..30).map(|_| course.advance()).collect::<Vec<_>>()
        };
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }
}
