//! What comes of each statement.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use control::Order;
use policy::topology::ServerName;

use super::command::{COMMANDS, Command, Shown};
use crate::api::orders::LONGEST_HOLD_S;
use crate::api::{Event, Reloaded, SessionRow, StatementList, Status};
use crate::orders::Refusal;
use crate::pages::explain;
use crate::web::Console;

/// How many digests are shown.
const DIGESTS: usize = 200;

/// What a client is answered with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// Rows.
    Table(Table),
    /// Nothing but that it was done.
    Done,
    /// An error with this number.
    Error { code: u16, text: String },
}

impl Answer {
    pub(super) fn error(code: u16, text: impl Into<String>) -> Self {
        Self::Error { code, text: text.into() }
    }
}

/// Rows with names for their columns; none is NULL.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Table {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Table {
    pub(super) fn new(columns: &[&str], rows: Vec<Vec<Option<String>>>) -> Self {
        Self { columns: columns.iter().map(|name| (*name).to_owned()).collect(), rows }
    }
}

impl From<Table> for Answer {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.columns.join("|"))?;
        for row in &self.rows {
            let cells: Vec<&str> =
                row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect();
            writeln!(f, "{}", cells.join("|"))?;
        }
        Ok(())
    }
}

/// A cell that is always there.
fn cell(text: impl ToString) -> Option<String> {
    Some(text.to_string())
}

/// Carries a statement out, for this person.
pub(super) async fn answer(console: &Console, command: Command, by: &str) -> Answer {
    match command {
        Command::Show(shown) => show(console, shown).await.into(),
        Command::Explain(statement) => {
            let lines = explain(&statement, &console.control.view()).into_iter();
            let rows = lines.map(|(name, text)| vec![cell(name), cell(text)]).collect();
            Table::new(&["fact", "value"], rows).into()
        }
        Command::Help => {
            let row = |(statement, does): &(&str, &str)| vec![cell(statement), cell(does)];
            Table::new(&["statement", "does"], COMMANDS.iter().map(row).collect()).into()
        }
        order => carry_out(console, order, by).await.unwrap_or_else(refused),
    }
}

fn refused(Refusal { refused, .. }: Refusal) -> Answer {
    let problems = refused.problems.iter().map(|problem| format!("\n{problem}"));
    Answer::error(1105, problems.fold(refused.error, |text, problem| text + &problem))
}

async fn carry_out(console: &Console, command: Command, by: &str) -> Result<Answer, Refusal> {
    let order = match command {
        Command::ReadOnly { on, partition } => Order::SetReadOnly { partition, on },
        Command::Enable { server, enabled } => Order::SetEnabled { server, enabled },
        Command::Pause { hold_s, partition } => {
            let hold = Some(Duration::from_secs(hold_s.min(LONGEST_HOLD_S)));
            Order::SetPaused { partition, hold }
        }
        Command::Resume { partition } => Order::SetPaused { partition, hold: None },
        Command::Reload => {
            return console.reload(by).await.map(|reloaded| changes(&reloaded).into());
        }
        Command::Kill(id) => {
            console.end_session(id, by).await?;
            return Ok(Answer::Done);
        }
        Command::ResetStatements => {
            console.reset_statements(by);
            return Ok(Answer::Done);
        }
        Command::Drain => {
            console.drain(by).await?;
            return Ok(Answer::Done);
        }
        Command::Show(_) | Command::Explain(_) | Command::Help => return Ok(Answer::Done),
    };
    console.order(order, by).await?;
    Ok(Answer::Done)
}

fn changes(reloaded: &Reloaded) -> Table {
    let in_force = reloaded.changes.iter().map(|change| (change, "yes"));
    let pending = reloaded.needs_restart.iter().map(|change| (change, "after a restart"));
    let rows = in_force.chain(pending).map(|(change, is)| {
        vec![cell(&change.setting), cell(&change.old), cell(&change.new), cell(is)]
    });
    Table::new(&["setting", "old", "new", "in_force"], rows.collect())
}

async fn show(console: &Console, shown: Shown) -> Table {
    match shown {
        Shown::Mode => mode(&console.status()),
        Shown::Servers => servers(&console.status()),
        Shown::Sessions => sessions(&console.sessions().await),
        Shown::Pools => pools(console),
        Shown::Events => events(console.events_after(0).iter()),
        Shown::Orders => {
            let all = console.events_after(0);
            events(all.iter().filter(|event| event.origin == "operator"))
        }
        Shown::UnknownOutcomes => outcomes(console),
        Shown::Statements => statements(&console.statements(DIGESTS, false)),
        Shown::RefusableStatements => statements(&console.statements(DIGESTS, true)),
        Shown::SlowStatements => slow(&console.statements(0, false)),
        Shown::Config => {
            let shown = console.shown_configuration();
            let rows = shown.yaml.lines().map(|line| vec![cell(line)]).collect();
            Table::new(&["configuration"], rows)
        }
    }
}

fn mode(status: &Status) -> Table {
    let rows = status.partitions.iter().map(|partition| {
        vec![
            cell(&partition.name),
            cell(&partition.mode),
            partition.reason.clone(),
            cell(&partition.since),
            partition.master.clone(),
            cell(partition.readers.join(", ")),
            cell(&partition.words),
        ]
    });
    let columns = ["partition", "mode", "reason", "since", "master", "readers", "words"];
    Table::new(&columns, rows.collect())
}

fn servers(status: &Status) -> Table {
    let rows = status.servers.iter().map(|server| {
        let answered = server.answered();
        vec![
            cell(&server.name),
            cell(&server.role),
            cell(&server.partition),
            cell(if server.enabled { "yes" } else { "no" }),
            cell(&server.connection),
            cell(&server.replication),
            cell(format!("{} {answered}/{}", server.health, server.history.len())),
            server.behind_s.map(|behind| behind.to_string()),
            server.version.clone(),
            server.last_error.clone(),
            cell(server.messages.join("; ")),
        ]
    });
    let columns = [
        "server",
        "role",
        "partition",
        "enabled",
        "connection",
        "replication",
        "health",
        "behind_s",
        "version",
        "last_error",
        "messages",
    ];
    Table::new(&columns, rows.collect())
}

fn sessions(sessions: &[SessionRow]) -> Table {
    let rows = sessions.iter().map(|session| {
        vec![
            cell(session.id),
            cell(&session.user),
            cell(&session.client),
            cell(&session.schema),
            cell(&session.state),
            cell(session.since_ms),
            cell(session.age_s),
            cell(session.commands),
            session.server.clone(),
            session.connection.map(|id| id.to_string()),
            cell(session.pins.join(", ")),
        ]
    });
    let columns = [
        "id",
        "user",
        "client",
        "schema",
        "state",
        "since_ms",
        "age_s",
        "commands",
        "server",
        "connection",
        "pins",
    ];
    Table::new(&columns, rows.collect())
}

fn pools(console: &Console) -> Table {
    let totals = console.metrics.totals();
    let names: BTreeMap<&ServerName, &u64> = totals.connections.iter().collect();
    let rows = names.into_iter().map(|(name, all)| {
        let idle = totals.idle.get(name).copied().unwrap_or(0);
        vec![cell(name), cell(all), cell(all.saturating_sub(idle)), cell(idle)]
    });
    Table::new(&["server", "connections", "with_sessions", "idle"], rows.collect())
}

fn events<'a>(events: impl Iterator<Item = &'a Event>) -> Table {
    let rows = events.map(|event| {
        vec![
            cell(event.number),
            cell(&event.at),
            cell(&event.severity),
            cell(&event.origin),
            cell(&event.text),
        ]
    });
    Table::new(&["number", "at", "severity", "origin", "event"], rows.collect())
}

fn outcomes(console: &Console) -> Table {
    let all = console.metrics.ledger().all();
    let rows = all.into_iter().map(|outcome| {
        vec![
            cell(outcome.at),
            cell(outcome.reference),
            cell(outcome.user),
            cell(outcome.client),
            cell(outcome.schema),
            cell(outcome.digest),
            cell(outcome.server),
            cell(outcome.connection),
            cell(outcome.cause),
            cell(outcome.gtids),
        ]
    });
    let columns = [
        "at",
        "reference",
        "user",
        "client",
        "schema",
        "digest",
        "server",
        "connection",
        "cause",
        "gtids",
    ];
    Table::new(&columns, rows.collect())
}

fn statements(statements: &StatementList) -> Table {
    let rows = statements.digests.iter().map(|digest| {
        vec![
            cell(&digest.digest),
            cell(&digest.class),
            cell(digest.count),
            cell(digest.total_ms),
            cell(digest.mean_us),
            cell(digest.slowest_us),
            cell(digest.failed),
            cell(digest.refused),
            cell(digest.by_master),
            cell(digest.by_replica),
            cell(digest.users.join(", ")),
            cell(&digest.last_seen),
        ]
    });
    let columns = [
        "digest",
        "class",
        "count",
        "total_ms",
        "mean_us",
        "slowest_us",
        "failed",
        "refused",
        "by_master",
        "by_replica",
        "users",
        "last_seen",
    ];
    Table::new(&columns, rows.collect())
}

fn slow(statements: &StatementList) -> Table {
    let rows = statements.slow.iter().map(|slow| {
        vec![
            cell(&slow.at),
            cell(slow.took_ms),
            cell(slow.first_byte_ms),
            cell(&slow.digest),
            cell(&slow.user),
            cell(&slow.client),
            cell(&slow.schema),
            cell(&slow.server),
        ]
    });
    let columns =
        ["at", "took_ms", "first_byte_ms", "digest", "user", "client", "schema", "server"];
    Table::new(&columns, rows.collect())
}
