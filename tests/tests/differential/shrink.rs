//! Makes a script that fails shorter while it still fails.

use std::time::{Duration, Instant};

use crate::script::{Script, Step};
use crate::worker::Worker;

/// Attempts at most.
const MOST: usize = 150;
/// How long they may take: one that waits for a server that does not answer waits for a minute.
const LONGEST: Duration = Duration::from_secs(120);

/// Drops steps, in ever smaller runs, as long as the rest fails. Yields the shortest script found and what
/// was wrong with it.
pub async fn shrink(worker: &mut Worker, script: Script, what: String) -> (Script, String) {
    let (mut best, mut why) = (script, what);
    let (mut attempts, start) = (0, Instant::now());
    let mut run = best.steps.len() / 2;
    while run > 0 {
        let mut at = 0;
        while at < best.steps.len() && attempts < MOST && start.elapsed() < LONGEST {
            let shorter = without(&best, at, run);
            attempts += 1;
            match worker.difference(&shorter).await {
                Some(reason) => (best, why) = (shorter, reason),
                None => at += run,
            }
        }
        run /= 2;
    }
    for at in 0..best.steps.len() {
        let Step::Burst(steps) = &best.steps[at] else { continue };
        // What fails one by one needs no burst.
        let mut flat = best.clone();
        flat.steps.splice(at..=at, steps.clone());
        if let Some(reason) = worker.difference(&flat).await {
            (best, why) = (flat, reason);
            break;
        }
    }
    (best, why)
}

fn without(script: &Script, at: usize, run: usize) -> Script {
    let mut shorter = script.clone();
    shorter.steps.drain(at..(at + run).min(script.steps.len()));
    shorter
}
