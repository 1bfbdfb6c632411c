//! The tables against the books: in the middle of a run, and at its end.

use std::collections::HashMap;
use std::fs;

use mysql_async::prelude::Queryable;

use crate::judge::{self, Seen, Wrong};
use crate::session::show;
use crate::stand::{PATIENCE, Stand};
use crate::unit::Unit;

/// Statement of the rows of a server: each row's number, how often it is there, and how many of
/// them have another content than was sent.
const ROWS: &str = "SELECT id, COUNT(*), SUM(v <> CONCAT('w', id)) FROM writes GROUP BY id";

/// The rows that a server has.
///
/// # Errors
/// It does not answer, or a row has another content than was sent.
pub(crate) async fn rows(stand: &Stand, server: usize) -> Result<Seen, String> {
    let mut root = stand.root(server).await?;
    let found: Vec<(u64, u64, u64)> = root.query(ROWS).await.map_err(|error| error.to_string())?;
    drop(root.disconnect().await);
    if let Some((id, ..)) = found.iter().find(|(.., changed)| *changed > 0) {
        return Err(format!("row {id} has another content than was sent"));
    }
    Ok(found.into_iter().map(|(id, times, _)| (id, times)).collect())
}

/// What is wrong so far with the units that are finished. Sessions may go on meanwhile.
///
/// # Errors
/// The master does not answer.
pub(crate) async fn so_far(stand: &Stand) -> Result<Vec<String>, String> {
    // First the books, then the table: what was told before is there by then.
    let units = stand.field.books().units.clone();
    let seen = rows(stand, stand.master).await?;
    let wrong = judge::judge(&units, &seen);
    Ok(wrong.iter().map(|wrong| words(stand, &units, &seen, wrong)).collect())
}

/// What is wrong once the sessions are gone and every server runs.
///
/// # Errors
/// A server does not answer, or the replica does not follow.
pub(crate) async fn at_the_end(stand: &Stand) -> Result<Vec<String>, String> {
    let units = stand.field.books().units.clone();
    let seen = rows(stand, stand.master).await?;
    let mut wrong = judge::judge(&units, &seen);
    wrong.extend(judge::strangers(&units, &seen));
    let mut root = stand.root(stand.master).await?;
    let counters: Vec<(u64, u64)> =
        root.query("SELECT session, n FROM counters").await.map_err(|error| error.to_string())?;
    drop(root.disconnect().await);
    let counters: HashMap<u64, u64> = counters.into_iter().collect();
    wrong.extend(judge::miscounted(&units, &seen, &counters));
    let mut found: Vec<String> =
        wrong.iter().map(|wrong| words(stand, &units, &seen, wrong)).collect();
    let [master, replica] = [stand.master, stand.replica()].map(|index| &stand.servers[index]);
    replica.wait_for(master).await.map_err(|error| error.to_string())?;
    let copied = rows(stand, stand.replica()).await?;
    let differs = |id: &&u64| copied.get(*id) != seen.get(*id);
    let different: Vec<u64> =
        seen.keys().chain(copied.keys()).filter(differs).copied().take(10).collect();
    if !different.is_empty() {
        found.push(format!("the replica differs from the master in rows {different:?}"));
    }
    Ok(found)
}

/// Whether every count of open things is back to zero, on failsoft and on the servers.
///
/// # Errors
/// One is not; says which.
pub(crate) async fn is_quiet(stand: &Stand) -> Result<(), String> {
    let gauges =
        ["failsoft_sessions{", "failsoft_sessions_pinned{", "failsoft_server_connections{"];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = stand.failsoft.http_get("/metrics").await;
        let mut open: Vec<String> = metrics
            .lines()
            .filter(|line| gauges.iter().any(|gauge| line.starts_with(gauge)))
            .filter(|line| !line.ends_with(" 0"))
            .map(str::to_owned)
            .collect();
        for server in [0, 1] {
            let mut root = stand.root(server).await?;
            let statement =
                "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'";
            let count: Option<u64> =
                root.query_first(statement).await.map_err(|error| error.to_string())?;
            drop(root.disconnect().await);
            if count != Some(0) {
                open.push(format!("{count:?} connections on server {}", server + 1));
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("not back to zero: {}", open.join(", ")));
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// A broken promise with all that helps to find out why.
fn words(stand: &Stand, units: &[Unit], seen: &Seen, wrong: &Wrong) -> String {
    let Wrong { how, unit, rows } = wrong;
    let mut text = format!("{how}: rows {rows:?}");
    let Some(unit) = unit.and_then(|index| units.get(index)) else { return text };
    let Unit { session, number, form, steps, never, told, verdict, lines, .. } = unit;
    let there: Vec<_> = steps
        .iter()
        .flatten()
        .chain(never)
        .map(|row| format!("{row} {} times", seen.get(row).copied().unwrap_or(0)))
        .collect();
    text.push_str(&format!(
        "\n  session {session}, unit {number}, {form}; told: {}, {} to {} of {} steps; there: {}",
        verdict.name(),
        told.least,
        told.most,
        steps.len(),
        there.join(", ")
    ));
    for line in lines {
        text.push_str(&format!("\n    {}", show(line)));
    }
    if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
        let (from, to) = (stand.field.clock(first.sent), stand.field.clock(last.answered));
        text.push_str(&format!("\n  failsoft's log from {from} to {to}, and a little around:"));
        let log = fs::read_to_string(stand.failsoft.dir().join("log")).unwrap_or_default();
        let span = stand.field.seconds(first.sent).saturating_sub(2)
            ..=stand.field.seconds(last.answered) + 2;
        let near = |line: &&str| second_of_day(line).is_some_and(|second| span.contains(&second));
        for line in log.lines().filter(near).take(60) {
            text.push_str(&format!("\n    {line}"));
        }
    }
    text
}

/// The second of the day that a log line begins with or carries: `…T12:03:44.…`.
fn second_of_day(line: &str) -> Option<u64> {
    let (_, time) = line.split_once('T')?;
    let mut parts = time.get(..8)?.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    Some(hours * 3_600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_time_of_a_log_line() {
        let line = "{\"timestamp\":\"2026-01-02T12:03:44.5Z\",\"level\":\"INFO\"}";
        assert_eq!(second_of_day(line), Some(12 * 3_600 + 3 * 60 + 44));
        assert_eq!(second_of_day("The end"), None);
    }
}
