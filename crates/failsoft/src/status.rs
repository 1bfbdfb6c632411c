//! `failsoft status`: what a running failsoft sees, as a table.

use std::io::Write;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use console::api::{self, duration_words};

use crate::cli::Status;
use crate::http::Console;
use crate::table::aligned;
use crate::{Exit, http};

/// Where the status is.
const STATUS: &str = "/api/v1/status";

/// How many writes of unknown outcome are shown.
const OUTCOMES: usize = 5;

/// Prints the status.
pub(crate) fn status(options: &Status) -> anyhow::Result<Exit> {
    if options.watch {
        return watch(options);
    }
    let text = match http::ask(&options.list.url, STATUS) {
        Ok(text) => text,
        Err(exit) => return Ok(exit),
    };
    let status: api::Status = serde_json::from_str(&text)?;
    if options.list.json {
        println!("{text}");
    } else {
        anstream::print!("{}", table(&status));
    }
    Ok(if status.is_read_write() { Exit::Done } else { Exit::Refused })
}

/// Clears a terminal, and goes to its top; what does not look like a terminal gets an empty line instead.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the status again and again; ends by a signal.
fn watch(options: &Status) -> anyhow::Result<Exit> {
    let interval = Duration::from_secs(options.interval);
    let console = match Console::parse(&options.list.url) {
        Ok(console) => console,
        Err(error) => return Ok(http::tell(&error, Exit::BadInput)),
    };
    loop {
        let shown = match fetch(&console) {
            Ok(status) => table(&status),
            // It may come back.
            Err(error) => format!("{error:#}\n"),
        };
        let mut out = anstream::stdout().lock();
        writeln!(out, "{CLEAR}{shown}")?;
        out.flush()?;
        drop(out);
        std::thread::sleep(interval);
    }
}

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// A text in a colour; where it is printed decides whether that is shown.
fn coloured(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// What a running failsoft sees.
pub(crate) fn fetch(console: &Console) -> anyhow::Result<api::Status> {
    Ok(serde_json::from_str(&console.get(STATUS)?)?)
}

/// The status for people.
pub(crate) fn table(status: &api::Status) -> String {
    let (version, host) = (&status.version, &status.host);
    let mut lines =
        vec![format!("failsoft {version} on {host}, up {}", duration_words(status.uptime_s))];
    for partition in &status.partitions {
        let style = if partition.reason.is_none() { GOOD } else { BAD };
        let (mode, rest) = partition.words.split_at(partition.mode.len());
        lines.push(format!("{}: {}{rest}", partition.name, coloured(style, mode)));
        lines.extend(partition.advice.as_ref().map(|advice| format!("    {advice}")));
    }
    lines.extend(status.configuration.words());
    lines.extend(status.configuration.problems.iter().cloned());
    lines.push(String::new());
    let head = ["SERVER", "ROLE", "CONNECTION", "REPLICATION", "HEALTH", "VERSION"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.servers.iter().map(|server| row(server, status.role_of(server))));
    let is_bad = |server: &api::Server| server.enabled && !server.healthy;
    let bad = status.servers.iter().map(is_bad);
    lines.extend(
        aligned(&rows)
            .into_iter()
            .zip(std::iter::once(false).chain(bad))
            .map(|(line, is_bad)| if is_bad { coloured(BAD, &line) } else { line }),
    );
    let messages = status.servers.iter().flat_map(|server| {
        server.messages.iter().map(move |message| format!("{}: {message}", server.name))
    });
    let messages: Vec<_> = messages.collect();
    if !messages.is_empty() {
        lines.push(String::new());
        lines.extend(messages);
    }
    let connections: u64 = status.servers.iter().map(|server| server.connections).sum();
    let statements = &status.statements;
    lines.push(String::new());
    lines.push(format!(
        "clients {}, writes that wait {}, connections to servers {connections}, statements {}, \
         refused {}, retried {}, transactions lost {}, writes of unknown outcome {}",
        status.sessions.open,
        status.sessions.held,
        statements.answered,
        statements.refused,
        statements.retried,
        statements.transactions_aborted,
        statements.writes_unknown,
    ));
    lines.extend(status.unknown_outcomes.iter().take(OUTCOMES).map(|outcome| {
        format!(
            "  {} unknown outcome {}: {} of {}@{} on {}, connection {}",
            outcome.at,
            outcome.reference,
            outcome.digest,
            outcome.user,
            outcome.client,
            outcome.server,
            outcome.connection,
        )
    }));
    lines.push(String::new());
    lines.join("\n")
}

fn row(server: &api::Server, role: String) -> [String; 6] {
    let answered = server.answered();
    let health = match (server.enabled, server.history.len()) {
        (false, _) => "disabled".to_owned(),
        (true, 0) => server.health.clone(),
        (true, known) => format!("{} {answered}/{known}", server.health),
    };
    [
        server.name.clone(),
        role,
        server.connection.clone(),
        server.replication.clone(),
        health,
        server.version.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}
