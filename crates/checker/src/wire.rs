//! A session's connection to failsoft: sends one statement and tells how it ended.

use std::io::ErrorKind;
use std::time::Duration;

use mysql_async::prelude::{Protocol, Queryable};
use mysql_async::{Conn, DriverError, Error, IoError, QueryResult, Row, Value};
use testkit::APP;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use crate::promise::Outcome;
use crate::script::{Statement, Way};

/// How long a statement may take; whoever waits longer is stuck.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// How long a login may take.
const LOGIN_DEADLINE: Duration = Duration::from_secs(20);

/// How a statement ended, and what came before.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The end.
    pub outcome: Outcome,
    /// Results that were whole.
    pub results: usize,
    /// Rows that came, those of broken results included.
    pub rows: Vec<Row>,
    /// What the last result said of changed rows.
    pub changed: u64,
}

/// Logs in through failsoft, or through what stands before it.
pub(crate) async fn log_in(port: u16) -> Result<Conn, Outcome> {
    let login = testkit::conn(port, APP.user, APP.pass, Some("app"));
    match timeout(LOGIN_DEADLINE, login).await {
        Ok(result) => result.map_err(outcome_of),
        Err(_) => Err(Outcome::Late),
    }
}

/// Runs a statement to its end.
pub(crate) async fn run(connection: &mut Conn, statement: &Statement) -> Heard {
    let mut heard = Heard { outcome: Outcome::Ok, results: 0, rows: Vec::new(), changed: 0 };
    let ended = timeout(DEADLINE, send(connection, statement, &mut heard)).await;
    heard.outcome = match ended {
        Ok(Ok(())) => Outcome::Ok,
        Ok(Err(error)) => outcome_of(error),
        Err(_) => Outcome::Late,
    };
    heard
}

async fn send(
    connection: &mut Conn,
    statement: &Statement,
    heard: &mut Heard,
) -> Result<(), Error> {
    let text = statement.text.as_str();
    match &statement.way {
        Way::Text => drain(connection.query_iter(text).await?, heard).await,
        Way::Binary(parameters) => {
            let parameters: Vec<Value> = parameters.clone();
            drain(connection.exec_iter(text, parameters).await?, heard).await
        }
        Way::File(lines) => {
            let file = std::io::Cursor::new(lines.clone().into_bytes());
            connection
                .set_infile_handler(async move { Ok(Box::pin(ReaderStream::new(file)) as _) });
            drain(connection.query_iter(text).await?, heard).await
        }
    }
}

/// Reads all results, row by row, so that what came before an error is known.
///
/// When a result ends, the driver reads the head of the next one. An error of the server that it
/// finds there is told when that next one is asked for; a broken connection is told at once.
async fn drain<P: Protocol>(
    mut result: QueryResult<'_, '_, P>,
    heard: &mut Heard,
) -> Result<(), Error> {
    loop {
        let has_rows = !result.columns_ref().is_empty();
        let is_last = result.is_empty();
        let changed = result.affected_rows();
        let ended = loop {
            match result.next().await {
                Ok(Some(row)) => heard.rows.push(row),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let broke_off = matches!(ended, Err(Error::Server(_))) || has_rows && ended.is_err();
        if !broke_off {
            heard.results += 1;
            heard.changed = changed;
        }
        ended?;
        if is_last || has_rows && result.is_empty() {
            return Ok(());
        }
    }
}

/// What an error of the driver says about the connection.
fn outcome_of(error: Error) -> Outcome {
    let gone = [
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionRefused,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::NotConnected,
    ];
    match error {
        Error::Server(error) => {
            Outcome::Error { code: error.code, state: error.state, text: error.message }
        }
        Error::Io(IoError::Io(error)) if gone.contains(&error.kind()) => Outcome::Closed,
        Error::Driver(DriverError::ConnectionClosed) => Outcome::Closed,
        // What the driver's framing says of a connection that ended within a packet.
        Error::Io(IoError::Io(error)) if error.to_string() == "bytes remaining on stream" => {
            Outcome::Closed
        }
        other => Outcome::Malformed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Server, flavors};

    use super::*;
    use crate::trial::{Asked, Role};

    /// How many results of a packet are counted when one of them is an error.
    #[tokio::test]
    async fn counts_the_results_before_an_error() {
        for flavor in flavors() {
            let server = Server::start(flavor, testkit::Options::default()).await.unwrap();
            let mut connection = log_in(server.port()).await.unwrap();
            for (text, results, is_ok) in [
                ("CREATE TABLE t (a INT PRIMARY KEY)", 1, true),
                ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)", 2, true),
                ("INSERT INTO t VALUES (3); INSERT INTO t VALUES (1); DO 1", 1, false),
                ("INSERT INTO t VALUES (1); INSERT INTO t VALUES (4)", 0, false),
                ("DO 1; DO 2; INSERT INTO t VALUES (1)", 2, false),
                ("SELECT a FROM t", 1, true),
                ("SELECT nothing FROM t", 0, false),
            ] {
                let asked = Asked { role: Role::Write, marks: vec![1], commits_first: false };
                let (way, answers) = (Way::Text, None);
                let text = text.to_owned();
                let statement = Statement { text, way, asked, answers, changes: None };
                let heard = run(&mut connection, &statement).await;
                let found = (heard.results, heard.outcome == Outcome::Ok);
                assert_eq!(found, (results, is_ok), "{flavor}: {}", statement.text);
            }
        }
    }
}
