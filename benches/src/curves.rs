//! How the cost of failsoft grows with what is asked of it: processor time, from small to large.
//!
//! Each curve has one thing that grows, ten times from point to point, and everything else stands still.
//! A flat curve is one whose last point is about its first; a linear one costs the same for each byte or
//! row once what is paid once does not count any more.
#![allow(clippy::disallowed_methods, reason = "measuring is reading the clock")]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use testkit::{Failsoft, Server};

use crate::bulk::{long_statement, read_reply};
use crate::client::Client;
use crate::files;
use crate::options::Options;
use crate::peers::failsoft_program;
use crate::procstat::{cpu_time, resident};

/// How long a point is measured at least, so that the clock's ticks of 10 ms do not count.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

/// A curve, and what it is made of.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    pub(crate) title: &'static str,
    /// What grows.
    pub(crate) x: &'static str,
    /// What is measured.
    pub(crate) y: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Powers of ten up to this one.
fn tens(most: u32) -> impl Iterator<Item = u64> {
    (0..=most).map(|power| 10_u64.pow(power))
}

#[allow(clippy::cast_precision_loss, reason = "shown with a few digits")]
const fn float(number: u64) -> f64 {
    number as f64
}

/// A failsoft in front of the server, and a look at what it takes.
struct Subject {
    failsoft: Failsoft,
}

impl Subject {
    async fn start(server: &Server, options: &Options, more: &str) -> anyhow::Result<Self> {
        let yaml = format!(
            "limits: {{packet: 128MiB, connections: 12000}}\nthreads: {}\n{more}",
            options.threads()
        );
        let started = Failsoft::config(&[("master", server.port())])
            .with("health: {interval: 1h, threshold: 5, timeout: 1m}")
            .with(&yaml)
            .program(failsoft_program(options)?)
            .try_start()
            .await;
        Ok(Self { failsoft: started.map_err(anyhow::Error::msg)? })
    }

    async fn client(&self, seed: u64) -> anyhow::Result<Client> {
        Client::connect(self.failsoft.port(), seed).await
    }

    /// Processor time in microseconds of each time that something is done, which is done until it can be
    /// measured.
    async fn cost(&self, mut does: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
        does().await?;
        let (began, before) = (Instant::now(), cpu_time(self.failsoft.pid())?);
        let mut times = 0_u32;
        while began.elapsed() < LONG_ENOUGH {
            does().await?;
            times += 1;
        }
        let spent = cpu_time(self.failsoft.pid())?.saturating_sub(before);
        Ok(spent.as_secs_f64() * 1e6 / f64::from(times))
    }
}

/// Measures all curves.
pub(crate) async fn measure(server: &Server, options: &Options) -> anyhow::Result<Vec<Curve>> {
    let subject = Subject::start(server, options, "").await?;
    let mut curves = vec![
        statements(&subject).await.context("statements")?,
        results(&subject).await.context("results")?,
        prepared(&subject).await.context("prepared statements")?,
    ];
    let has_files = files::raise();
    // What was used before and is free again would hide what sessions take.
    drop(subject);
    let subject = Subject::start(server, options, "").await?;
    curves.extend(sessions(&subject, has_files).await.context("sessions")?);
    curves.push(partitions(server, options).await.context("partitions")?);
    Ok(curves)
}

/// The curves as a table.
pub(crate) fn to_markdown(curves: &[Curve]) -> String {
    let mut text =
        "\n| what | grows with | from small to large |\n| --- | --- | --- |\n".to_owned();
    for Curve { title, x, y, points } in curves {
        let points = points.iter().map(|(at, value)| format!("{at}: {value:.1}"));
        let points = points.collect::<Vec<_>>().join(", ");
        text += &format!("| {title}, {y} | {x} | {points} |\n");
    }
    text
}

async fn statements(subject: &Subject) -> anyhow::Result<Curve> {
    let mut points = Vec::new();
    let mut client = subject.client(1).await?;
    for bytes in tens(7).skip(1).chain([64 << 20]) {
        let length = usize::try_from(bytes)?;
        let cost = subject.cost(async || long_statement(&mut client, length).await).await?;
        points.push((float(bytes), cost));
    }
    Ok(Curve { title: "a statement", x: "bytes", y: "µs", points })
}

async fn results(subject: &Subject) -> anyhow::Result<Curve> {
    let mut points = Vec::new();
    let mut client = subject.client(1).await?;
    for rows in tens(6) {
        let text = format!("SELECT REPEAT('x', 1000) FROM seq_1_to_{rows}");
        let ask = async || {
            client.send_query(text.as_bytes()).await?;
            read_reply(&mut client).await
        };
        points.push((float(rows), subject.cost(ask).await?));
    }
    Ok(Curve { title: "a result", x: "rows of 1 kB", y: "µs", points })
}

async fn prepared(subject: &Subject) -> anyhow::Result<Curve> {
    let mut points = Vec::new();
    let mut client = subject.client(1).await?;
    let mut there = 0;
    for wanted in tens(4) {
        while there < wanted {
            client.prepare().await?;
            there += 1;
        }
        points.push((float(wanted), subject.cost(async || client.point_select().await).await?));
    }
    Ok(Curve { title: "an execution", x: "prepared statements of the session", y: "µs", points })
}

/// What a select costs and what memory there is while so many sessions do nothing, each of which has been
/// told hello and no more.
async fn sessions(subject: &Subject, has_files: bool) -> anyhow::Result<[Curve; 2]> {
    let (mut costs, mut memory) = (Vec::new(), Vec::new());
    let mut client = subject.client(1).await?;
    client.point_select().await?;
    let alone = resident(subject.failsoft.pid())?;
    let mut idle = Vec::new();
    // Half of the files that failsoft may have open are for clients.
    let most = if has_files { 10_000 } else { 5_000 };
    for wanted in tens(3).chain([most]) {
        while u64::try_from(idle.len())? < wanted {
            idle.push(subject.client(2).await?);
        }
        let cost = subject.cost(async || client.point_select().await).await?;
        costs.push((float(wanted), cost));
        let grown = resident(subject.failsoft.pid())?.saturating_sub(alone);
        memory.push((float(wanted), float(grown) / float(wanted)));
    }
    let x = "idle sessions";
    Ok([
        Curve { title: "a select", x, y: "µs", points: costs },
        Curve { title: "memory for each", x, y: "KiB", points: memory },
    ])
}

/// All partitions are on one server, under other names of this machine.
async fn partitions(server: &Server, options: &Options) -> anyhow::Result<Curve> {
    let mut points = Vec::new();
    for count in [1, 10, 100] {
        let listed: String = (0..count)
            .map(|at: u64| {
                let schemas = if at == 0 { "default".to_owned() } else { format!("p{at}") };
                let (host, port) = (format!("127.0.{}.{}", at / 100, at % 100 + 1), server.port());
                format!(
                    "  - {{host: {host}, port: {port}, role: master, partition: [{schemas}]}}\n"
                )
            })
            .collect();
        let subject = Subject::start(server, options, &format!("databases:\n{listed}")).await?;
        let mut client = subject.client(1).await?;
        points.push((float(count), subject.cost(async || client.point_select().await).await?));
    }
    Ok(Curve { title: "a select", x: "partitions", y: "µs", points })
}
