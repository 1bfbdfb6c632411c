//! What clients do: their sessions, and what they ask.

use std::time::{Duration, SystemTime};

use policy::route::is_refused_when_read_only;
use policy::utc::rfc3339;
use serde::{Deserialize, Serialize};
use telemetry::statements;
use utoipa::ToSchema;

/// A client's session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct SessionRow {
    /// failsoft's id of it, as in the greeting; `KILL` takes it.
    #[schema(value_type = i64, minimum = 0)]
    pub id: u32,
    /// The account.
    pub user: String,
    /// Where the client is.
    pub client: String,
    /// The current schema; empty for none.
    pub schema: String,
    /// `running`, `in transaction` while nothing runs, or `idle`.
    pub state: String,
    /// For how long, milliseconds.
    pub since_ms: u64,
    /// Since it logged in, seconds.
    pub age_s: u64,
    /// Commands so far.
    pub commands: u64,
    /// The server whose connection it holds; none while it needs none.
    pub server: Option<String>,
    /// That server's id of the connection, as in its process list.
    #[schema(value_type = Option<i64>, minimum = 0)]
    pub connection: Option<u32>,
    /// What keeps it from leaving its server, as the metrics name it.
    pub pins: Vec<String>,
}

/// What clients ask.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct StatementList {
    /// Since when they are counted.
    pub since: String,
    /// What is asked most, by the time that it takes together.
    pub digests: Vec<StatementDigest>,
    /// The latest statements that took longer than `slow_statement`, the latest first.
    pub slow: Vec<SlowStatement>,
}

/// All statements that differ in their values only.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct StatementDigest {
    /// A number for the text, in hexadecimal. Another one after a restart.
    pub id: String,
    /// The statement without its values.
    pub digest: String,
    /// What it asks: `read`, `write`, `locking read`, …
    pub class: String,
    /// Whether it would be refused were the partition read-only.
    pub refused_when_read_only: bool,
    /// How many there were, refused ones included. An estimate where a thread has more than
    /// `digests_per_second`, as are the other numbers.
    pub count: u64,
    /// How many a server answered with an error.
    pub failed: u64,
    /// How many failsoft refused.
    pub refused: u64,
    /// How many the master answered.
    pub by_master: u64,
    /// How many a replica answered.
    pub by_replica: u64,
    /// How long they took together, milliseconds.
    pub total_ms: u64,
    /// How long one took on average, microseconds.
    pub mean_us: u64,
    /// How long the slowest took of those that were looked at, microseconds.
    pub slowest_us: u64,
    /// The accounts that asked, the first four.
    pub users: Vec<String>,
    /// When the last was seen.
    pub last_seen: String,
}

/// A statement that took longer than `slow_statement`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct SlowStatement {
    /// When it ended.
    pub at: String,
    /// The statement without its values.
    pub digest: String,
    /// From the statement to the end of its answer, milliseconds.
    pub took_ms: u64,
    /// From the statement to the first byte of its answer, milliseconds.
    pub first_byte_ms: u64,
    /// The account.
    pub user: String,
    /// Where the client is.
    pub client: String,
    /// Its current schema; empty for none.
    pub schema: String,
    /// The server that answered; empty where none did.
    pub server: String,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl From<statements::Digest> for StatementDigest {
    fn from(digest: statements::Digest) -> Self {
        Self {
            id: format!("{:016x}", digest.id),
            class: digest.class.name().to_owned(),
            refused_when_read_only: is_refused_when_read_only(digest.class),
            count: digest.count,
            failed: digest.failed,
            refused: digest.refused,
            by_master: digest.by_master,
            by_replica: digest.by_replica,
            total_ms: millis(digest.total),
            mean_us: micros(digest.total) / digest.count.max(1),
            slowest_us: micros(digest.slowest),
            last_seen: rfc3339(digest.last),
            users: digest.users,
            digest: digest.text,
        }
    }
}

impl From<statements::Slow> for SlowStatement {
    fn from(slow: statements::Slow) -> Self {
        Self {
            at: rfc3339(slow.at),
            digest: slow.digest,
            took_ms: millis(slow.took),
            first_byte_ms: millis(slow.first_byte),
            user: slow.user,
            client: slow.client,
            schema: slow.schema,
            server: slow.server,
        }
    }
}

impl StatementList {
    /// At most so many digests, those first that took most time; of those alone that would be refused in
    /// read-only mode where that is asked for.
    pub(crate) fn new(
        (mut digests, since): (Vec<statements::Digest>, SystemTime),
        slow: Vec<statements::Slow>,
        most: usize,
        only_refusable: bool,
    ) -> Self {
        if only_refusable {
            digests.retain(|digest| is_refused_when_read_only(digest.class));
        }
        digests.sort_unstable_by_key(|digest| std::cmp::Reverse((digest.total, digest.count)));
        digests.truncate(most);
        Self {
            since: rfc3339(since),
            digests: digests.into_iter().map(StatementDigest::from).collect(),
            slow: slow.into_iter().map(SlowStatement::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sql::Kind;

    use super::*;

    fn digest(text: &str, class: Kind, count: u64, total_ms: u64) -> statements::Digest {
        statements::Digest {
            id: 0xab,
            text: text.to_owned(),
            class,
            count,
            failed: 0,
            refused: 0,
            by_master: count,
            by_replica: 0,
            total: Duration::from_millis(total_ms),
            slowest: Duration::from_micros(1500),
            users: vec!["app".to_owned()],
            last: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_takes_most_time_comes_first_and_what_would_be_refused_is_marked() {
        let all = || {
            let few = [
                digest("SELECT ?", Kind::Read, 9, 5),
                digest("INSERT", Kind::Write, 4, 50),
                digest("SELECT FOR UPDATE", Kind::LockingRead, 1, 1),
            ];
            (few.to_vec(), SystemTime::UNIX_EPOCH)
        };
        let shown = |statements: StatementList| -> Vec<String> {
            let digests = statements.digests.into_iter();
            digests.map(|it| format!("{} {}", it.digest, it.refused_when_read_only)).collect()
        };
        let statements = StatementList::new(all(), Vec::new(), 2, false);
        assert_eq!((statements.digests[0].mean_us, statements.digests[0].total_ms), (12_500, 50));
        assert_eq!(shown(statements), ["INSERT true", "SELECT ? false"]);
        let refusable = StatementList::new(all(), Vec::new(), 9, true);
        assert_eq!(shown(refusable), ["INSERT true", "SELECT FOR UPDATE true"]);
    }
}
