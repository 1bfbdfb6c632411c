//! `failsoft sessions`, `statements`, `events` and `outcomes`: lists of a running failsoft.

use std::io::Write;
use std::time::Duration;

use console::api::{
    Event, SessionRow, SlowStatement, StatementList, UnknownOutcome, millis_words as time,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::{self, List};
use crate::table::aligned;
use crate::{Exit, http};

/// `failsoft sessions`
pub(crate) fn sessions(options: &List) -> anyhow::Result<Exit> {
    show(options, "/api/v1/sessions", |sessions: Vec<SessionRow>| {
        let head = ["ID", "ACCOUNT", "CLIENT", "SCHEMA", "STATE", "FOR", "SERVER", "TIED BY"];
        let rows = sessions.iter().map(|session| {
            [
                session.id.to_string(),
                session.user.clone(),
                session.client.clone(),
                session.schema.clone(),
                session.state.clone(),
                time(session.since_ms),
                session.server.clone().unwrap_or_else(|| "-".to_owned()),
                session.pins.join(", "),
            ]
        });
        table(head, rows)
    })
}

/// `failsoft statements`
pub(crate) fn statements(options: &cli::Statements) -> anyhow::Result<Exit> {
    let refusable = if options.refusable { "&refusable=true" } else { "" };
    let path = format!("/api/v1/statements?limit={}{refusable}", options.limit);
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    show(&options.list, &path, |statements: StatementList| match options.slow {
        true => slow(statements.slow.get(..most).unwrap_or(&statements.slow)),
        false => digests(&statements),
    })
}

fn digests(statements: &StatementList) -> Vec<String> {
    let head = ["COUNT", "TIME", "MEAN", "SLOWEST", "FAILED", "REFUSED", "CLASS", "STATEMENT"];
    let rows = statements.digests.iter().map(|digest| {
        [
            digest.count.to_string(),
            time(digest.total_ms),
            micros(digest.mean_us),
            micros(digest.slowest_us),
            digest.failed.to_string(),
            digest.refused.to_string(),
            digest.class.clone(),
            digest.digest.clone(),
        ]
    });
    let mut lines = vec![format!("since {}", statements.since)];
    lines.extend(table(head, rows));
    lines
}

fn slow(statements: &[SlowStatement]) -> Vec<String> {
    let head = ["AT", "TOOK", "FIRST BYTE", "ACCOUNT", "CLIENT", "SERVER", "STATEMENT"];
    let rows = statements.iter().map(|slow| {
        [
            slow.at.clone(),
            time(slow.took_ms),
            time(slow.first_byte_ms),
            slow.user.clone(),
            slow.client.clone(),
            slow.server.clone(),
            slow.digest.clone(),
        ]
    });
    table(head, rows)
}

/// `failsoft outcomes`
pub(crate) fn outcomes(options: &List) -> anyhow::Result<Exit> {
    show(options, "/api/v1/unknown-outcomes", |outcomes: Vec<UnknownOutcome>| {
        let head = ["AT", "REFERENCE", "ACCOUNT", "CLIENT", "SERVER", "CONNECTION", "STATEMENT"];
        let rows = outcomes.iter().map(|outcome| {
            [
                outcome.at.clone(),
                outcome.reference.clone(),
                outcome.user.clone(),
                outcome.client.clone(),
                outcome.server.clone(),
                outcome.connection.to_string(),
                outcome.digest.clone(),
            ]
        });
        table(head, rows)
    })
}

/// How often it is asked for events that are new.
const FOLLOW: Duration = Duration::from_secs(1);

/// `failsoft events`
pub(crate) fn events(options: &cli::Events) -> anyhow::Result<Exit> {
    let mut after = 0;
    loop {
        let origin = if options.orders { "&origin=operator" } else { "" };
        let path = format!("/api/v1/events?after={after}{origin}");
        let events: Result<Vec<Event>, Exit> = fetch(&options.list, &path)?;
        match events {
            Ok(events) => {
                after = events.first().map_or(after, |event| event.number);
                let oldest_first = events.iter().rev();
                if options.list.json {
                    // One in a line, as there may be more to come.
                    print(oldest_first.filter_map(|event| serde_json::to_string(event).ok()));
                } else {
                    print(oldest_first.map(line));
                }
            }
            Err(exit) if !options.follow || exit == Exit::BadInput => return Ok(exit),
            // It may come back.
            Err(_) => {}
        }
        if !options.follow {
            return Ok(Exit::Done);
        }
        std::thread::sleep(FOLLOW);
    }
}

fn line(event: &Event) -> String {
    let mark = if event.severity == "warn" { "!" } else { " " };
    format!("{} {mark} {}", event.at, event.text)
}

/// Prints a list, as JSON or in lines.
fn show<T: DeserializeOwned + Serialize>(
    options: &List,
    path: &str,
    lines: impl FnOnce(T) -> Vec<String>,
) -> anyhow::Result<Exit> {
    let list: T = match fetch(options, path)? {
        Ok(list) => list,
        Err(exit) => return Ok(exit),
    };
    match options.json {
        true => print(std::iter::once(serde_json::to_string(&list)?)),
        false => print(lines(list).into_iter()),
    }
    Ok(Exit::Done)
}

/// A list of a running failsoft; how the command ends where there is none.
fn fetch<T: DeserializeOwned>(options: &List, path: &str) -> anyhow::Result<Result<T, Exit>> {
    Ok(match http::ask(&options.url, path) {
        Ok(text) => Ok(serde_json::from_str(&text)?),
        Err(exit) => Err(exit),
    })
}

/// Prints lines, up to where nobody reads them any more.
fn print(lines: impl Iterator<Item = String>) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        if writeln!(out, "{line}").is_err() {
            return;
        }
    }
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let head = std::iter::once(head.map(str::to_owned));
    aligned(&head.chain(rows).collect::<Vec<_>>())
}

fn micros(us: u64) -> String {
    if us < 1000 { format!("{us} µs") } else { time(us / 1000) }
}
