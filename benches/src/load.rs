//! One round: so many clients do the same thing without a pause, measured from outside.
#![allow(clippy::disallowed_methods, reason = "measuring is reading the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::procstat;

/// How long the load runs before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// What clients do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Load {
    /// Point selects in text, over connections that stay open.
    Select,
    /// The same as prepared statements.
    Prepared,
    /// To connect, select once and leave, as a page in PHP does.
    Visit,
}

impl Load {
    /// The load in the table.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Prepared => "prepared select",
            Self::Visit => "connect, select, quit",
        }
    }
}

/// What one round showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Sample {
    /// Statements answered, or visits made, per second.
    pub(crate) per_second: f64,
    /// Half of them took at most this long, in microseconds.
    pub(crate) median_us: f64,
    /// Processor time of the proxy for each, in microseconds; `None` without a proxy.
    pub(crate) cpu_us: Option<f64>,
}

/// A look at everything that grows.
struct Reading {
    at: Instant,
    statements: u64,
    cpu: Option<Duration>,
}

/// What all connections of a round have in common.
#[derive(Debug)]
struct Plan {
    from: Instant,
    until: Instant,
    statements: AtomicU64,
}

/// Runs one round against a loopback port; `pid` is the proxy's, if there is one.
pub(crate) async fn measure(
    load: Load,
    port: u16,
    pid: Option<u32>,
    connections: usize,
    length: Duration,
) -> anyhow::Result<Sample> {
    let mut clients = Vec::with_capacity(connections);
    for seed in 1..=connections {
        let mut client = Client::connect(port, u64::try_from(seed)?).await?;
        if load == Load::Prepared {
            client.prepare().await?;
        }
        clients.push(client);
    }
    let from = Instant::now() + WARM_UP;
    let plan = Arc::new(Plan { from, until: from + length, statements: AtomicU64::new(0) });
    let mut tasks = JoinSet::new();
    for (client, seed) in clients.into_iter().zip(1..) {
        let plan = Arc::clone(&plan);
        match load {
            Load::Select | Load::Prepared => drop(tasks.spawn(select(client, plan))),
            Load::Visit => {
                client.quit().await?;
                tasks.spawn(visit(port, seed, plan));
            }
        }
    }
    let first = read_at(plan.from, &plan, pid).await?;
    let last = read_at(plan.until, &plan, pid).await?;
    let mut latencies = Vec::new();
    while let Some(taken) = tasks.join_next().await {
        latencies.extend(taken.context("a connection's task ended badly")??);
    }
    sample(&first, &last, &mut latencies)
}

/// Selects until the plan ends; answers with the latencies seen once it began.
async fn select(mut client: Client, plan: Arc<Plan>) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut before = Instant::now();
    while before < plan.until {
        client.point_select().await?;
        let after = Instant::now();
        plan.statements.fetch_add(1, Ordering::Relaxed);
        if before >= plan.from {
            latencies.push(after - before);
        }
        before = after;
    }
    Ok(latencies)
}

/// Connects, selects and leaves until the plan ends.
async fn visit(port: u16, mut seed: u64, plan: Arc<Plan>) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    let mut before = Instant::now();
    while before < plan.until {
        let mut client = Client::connect(port, seed).await?;
        client.point_select().await?;
        client.quit().await?;
        let after = Instant::now();
        plan.statements.fetch_add(1, Ordering::Relaxed);
        if before >= plan.from {
            latencies.push(after - before);
        }
        (before, seed) = (after, seed + 1000);
    }
    Ok(latencies)
}

async fn read_at(when: Instant, plan: &Plan, pid: Option<u32>) -> anyhow::Result<Reading> {
    tokio::time::sleep_until(when.into()).await;
    Ok(Reading {
        at: Instant::now(),
        statements: plan.statements.load(Ordering::Relaxed),
        cpu: pid.map(procstat::cpu_time).transpose()?,
    })
}

/// Puts two readings and what lies between them together.
fn sample(first: &Reading, last: &Reading, latencies: &mut [Duration]) -> anyhow::Result<Sample> {
    let statements = last.statements.saturating_sub(first.statements);
    let statements = f64::from(u32::try_from(statements)?);
    anyhow::ensure!(statements > 0.0, "no statement was answered");
    let cpu = last.cpu.zip(first.cpu).map(|(last, first)| last.saturating_sub(first));
    let middle = latencies.len() / 2;
    anyhow::ensure!(!latencies.is_empty(), "no statement began and ended in time");
    let (_, median, _) = latencies.select_nth_unstable(middle);
    Ok(Sample {
        per_second: statements / (last.at - first.at).as_secs_f64(),
        median_us: micros(*median),
        cpu_us: cpu.map(|cpu| micros(cpu) / statements),
    })
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_what_lies_between_two_readings() {
        let start = Instant::now();
        let reading = |seconds, statements, cpu_ms| Reading {
            at: start + Duration::from_secs(seconds),
            statements,
            cpu: Some(Duration::from_millis(cpu_ms)),
        };
        let mut latencies = [30, 10, 20].map(Duration::from_micros);
        let taken = sample(&reading(0, 100, 10), &reading(2, 1_100, 40), &mut latencies).unwrap();
        let expected = Sample { per_second: 500.0, median_us: 20.0, cpu_us: Some(30.0) };
        assert!((taken.median_us - expected.median_us).abs() < 1e-6, "{taken:?}");
        assert!((taken.per_second - expected.per_second).abs() < 1e-6, "{taken:?}");
        assert!((taken.cpu_us.unwrap() - 30.0).abs() < 1e-6, "{taken:?}");
        assert!(sample(&reading(0, 5, 0), &reading(2, 5, 0), &mut latencies).is_err());
        assert!(sample(&reading(0, 0, 0), &reading(2, 5, 0), &mut []).is_err());
    }
}
