//! `failsoft status`: what a running failsoft sees, as a table.

use console::api::{self, duration_words};

use crate::Exit;
use crate::cli::Status;
use crate::http::Console;

/// How many writes of unknown outcome are shown.
const OUTCOMES: usize = 5;

/// Prints the status.
pub(crate) fn status(options: &Status) -> anyhow::Result<Exit> {
    let console = match Console::parse(&options.url) {
        Ok(console) => console,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(Exit::BadInput);
        }
    };
    let (text, status) = match fetch(&console) {
        Ok(both) => both,
        Err(error) => {
            eprintln!("{error:#}");
            return Ok(Exit::Unreachable);
        }
    };
    if options.json {
        println!("{text}");
    } else {
        print!("{}", table(&status));
    }
    Ok(if status.is_read_write() { Exit::Done } else { Exit::Refused })
}

/// The API's answer, as text and understood.
pub(crate) fn fetch(console: &Console) -> anyhow::Result<(String, api::Status)> {
    let text = console.get("/api/v1/status")?;
    let status = serde_json::from_str(&text)?;
    Ok((text, status))
}

/// The status for people.
pub(crate) fn table(status: &api::Status) -> String {
    let (version, host) = (&status.version, &status.host);
    let mut lines =
        vec![format!("failsoft {version} on {host}, up {}", duration_words(status.uptime_s))];
    for partition in &status.partitions {
        lines.push(format!("{}: {}", partition.name, partition.words));
    }
    lines.extend(status.configuration.words());
    lines.extend(status.configuration.problems.iter().cloned());
    lines.push(String::new());
    let head = ["SERVER", "ROLE", "CONNECTION", "REPLICATION", "HEALTH", "VERSION"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.servers.iter().map(|server| row(server, status.role_of(server))));
    lines.extend(aligned(&rows));
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
    let answered = server.history.iter().filter(|answered| **answered).count();
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

/// The rows with each column as wide as its widest cell.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "µs", "c"], ["long", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned(&rows), ["a     µs  c", "long  b"]);
    }
}
