//! What a client is told when its statement cannot be served.
//!
//! This is the only place where our errors become MySQL's. Clients act on the number, and some run
//! a statement again when they see the wrong one: anything of class 08, 2006 or 2013 is repeated by
//! somebody. `docs/errors.md` has the table.

use std::time::Duration;

use policy::mode::Reason;
use policy::topology::ServerId;
use policy::view::{Partition, View};
use wire::error::ClientError;

/// The sentence of a server that is read-only, to the letter.
const READ_ONLY: &str = "The MySQL server is running with the --read-only option so it cannot \
                         execute this statement";

/// A write while the partition is read-only. `unreachable` is why the master could not be reached
/// for this statement, where that is the reason; `waited` is how long it was held before.
pub(crate) fn read_only(
    view: &View,
    partition: &Partition,
    reason: Reason,
    unreachable: Option<&str>,
    waited: Option<Duration>,
) -> ClientError {
    let name = &partition.name;
    let detail = match unreachable {
        Some(cause) if reason == Reason::Unreachable => {
            format!("master {} could not be reached: {cause}", master_name(view, partition))
        }
        _ => partition.detail.to_string(),
    };
    let reads =
        if partition.readers.is_empty() { "no server is left for reads" } else { "reads continue" };
    let waited = waited.map_or_else(String::new, |waited| {
        format!("the write waited {:.1} s; ", waited.as_secs_f64())
    });
    ClientError::new(
        1290,
        b"HY000",
        format!(
            "{READ_ONLY} (failsoft: partition {name} is read-only: {reason}, {detail}; \
             {waited}{reads})"
        ),
    )
}

/// A write in a session that cannot leave its replica, though the partition is read-write again.
pub(crate) fn tied_to_replica(server: &str, why: &str) -> ClientError {
    ClientError::new(
        1290,
        b"HY000",
        format!(
            "{READ_ONLY} (failsoft: this session is on replica {server} because of {why}; it can \
             write again once that is over)"
        ),
    )
}

/// A write in a session whose state ties it to a replica for good, though the partition is
/// read-write again. Nothing was executed; the session is closed after it.
pub(crate) fn stuck_on_replica(server: &str, state: &str) -> ClientError {
    ClientError::new(
        1053,
        b"08S01",
        format!(
            "This session cannot leave replica {server} without {state}; nothing was executed; \
             reconnect to write"
        ),
    )
}

/// A transaction that went with its server before COMMIT was sent.
pub(crate) fn transaction_lost(server: &str, cause: &str) -> ClientError {
    ClientError::new(
        1213,
        b"40001",
        format!(
            "Transaction was rolled back: {server} was lost ({cause}); try restarting transaction"
        ),
    )
}

/// A write or COMMIT that was sent and not answered.
pub(crate) fn outcome_unknown(what: &str, server: &str, reference: &str) -> ClientError {
    ClientError::new(
        1180,
        b"08007",
        format!(
            "Outcome unknown: {what} was sent to {server} and the connection broke before its \
             answer. It may or may not have been applied; check before repeating (reference \
             {reference})"
        ),
    )
}

/// A result that broke off after rows.
pub(crate) fn result_interrupted(server: &str, cause: &str) -> ClientError {
    ClientError::new(1317, b"70100", format!("Result interrupted: {server} was lost ({cause})"))
}

/// Session state that went with its server; the session is closed after it.
pub(crate) fn state_lost(server: &str, cause: &str, state: &str) -> ClientError {
    ClientError::new(
        1053,
        b"08S01",
        format!("Session state lost: {server} was lost ({cause}), and with it {state}; reconnect"),
    )
}

/// No server of the partition answers.
pub(crate) fn no_server(
    view: &View,
    partition: &Partition,
    seen: &[(ServerId, String)],
) -> ClientError {
    let at = view.partitions.iter().position(|p| std::ptr::eq(p, partition)).unwrap_or(0);
    let mut causes = Vec::new();
    for server in view.servers.iter().filter(|server| server.partition == at) {
        let fresh = seen.iter().find(|(id, _)| *id == server.id).map(|(_, cause)| cause.clone());
        let checked = server.failure.as_ref().map(|failure| failure.text.clone());
        let cause = match (server.enabled, fresh.or(checked)) {
            (false, _) => "disabled".to_owned(),
            (true, Some(cause)) => cause,
            (true, None) => "not used".to_owned(),
        };
        causes.push(format!("{}: {cause}", server.name));
    }
    ClientError::new(
        1053,
        b"08S01",
        format!(
            "No server of partition {} answers (failsoft: {})",
            partition.name,
            causes.join("; ")
        ),
    )
}

/// A packet that touches two partitions. Nothing of it was sent.
pub(crate) fn across_partitions(view: &View, one: usize, other: usize) -> ClientError {
    let [one, other] = [one, other].map(|at| partition_name(view, at));
    ClientError::new(
        1235,
        b"42000",
        format!(
            "{NOT_SUPPORTED} (failsoft: this one touches partitions {one} and {other}; nothing \
             was executed)"
        ),
    )
}

/// A statement of one partition in a session that cannot leave another. Nothing of it was sent.
pub(crate) fn tied_to_partition(view: &View, held: usize, wanted: usize, why: &str) -> ClientError {
    let [held, wanted] = [held, wanted].map(|at| partition_name(view, at));
    ClientError::new(
        1235,
        b"42000",
        format!(
            "{NOT_SUPPORTED} (failsoft: this one belongs to partition {wanted}, and the session \
             cannot leave partition {held} because of {why}; nothing was executed)"
        ),
    )
}

/// The sentence of a server about what it cannot do.
const NOT_SUPPORTED: &str =
    "This version of MySQL doesn't yet support 'statements across partitions'";

fn partition_name(view: &View, at: usize) -> &str {
    view.partitions.get(at).map_or("", |partition| &partition.name)
}

/// More connections than are allowed.
pub(crate) fn too_many_connections(limit: &str) -> ClientError {
    ClientError::new(1040, b"08004", format!("Too many connections (failsoft: {limit})"))
}

/// A login that is refused. It reads the same whether the account exists or not.
pub(crate) fn access_denied(user: &str, host: &str, with_password: bool) -> ClientError {
    let using = if with_password { "YES" } else { "NO" };
    ClientError::new(
        1045,
        b"28000",
        format!("Access denied for user '{user}'@'{host}' (using password: {using})"),
    )
}

/// A login of an account that is not listed while no server can say whether it is right.
pub(crate) fn cannot_verify(view: &View, seen: &[(ServerId, String)]) -> ClientError {
    let name = |id: ServerId| view.server(id).map_or("", |server| server.name.as_str());
    let causes: Vec<_> = seen.iter().map(|(id, cause)| format!("{}: {cause}", name(*id))).collect();
    ClientError::new(
        1053,
        b"08S01",
        format!(
            "Login cannot be verified, as no server answers (failsoft: {})",
            if causes.is_empty() { "there is none to ask".to_owned() } else { causes.join("; ") }
        ),
    )
}

/// A login without TLS where it is required.
pub(crate) fn tls_required() -> ClientError {
    ClientError::new(
        3159,
        b"HY000",
        "Connections using insecure transport are prohibited (failsoft: tls.clients is required)",
    )
}

/// A login that is none.
pub(crate) fn bad_handshake(what: &str) -> ClientError {
    ClientError::new(1043, b"08S01", format!("Bad handshake (failsoft: {what})"))
}

/// A packet over the limit.
pub(crate) fn packet_too_large(limit: usize) -> ClientError {
    ClientError::new(
        1153,
        b"08S01",
        format!("Got a packet bigger than 'limits.packet' of failsoft, {limit} bytes"),
    )
}

/// No memory for a long packet.
pub(crate) fn out_of_memory(limit: usize) -> ClientError {
    let why = format!(
        "Out of memory (failsoft: the packets of all clients take 'limits.memory', {limit} bytes; \
         nothing of this one was executed)"
    );
    ClientError::new(1041, b"HY000", why)
}

/// A packet that is none.
pub(crate) fn malformed(what: &str) -> ClientError {
    ClientError::new(1835, b"08S01", format!("Malformed communication packet (failsoft: {what})"))
}

/// A command that failsoft does not carry. The session goes on.
pub(crate) fn unknown_command(name: &str) -> ClientError {
    ClientError::new(
        1047,
        b"08S01",
        format!("Unknown command (failsoft: {name} is not carried by a proxy)"),
    )
}

/// Another change of user after as many refused ones as MariaDB bears with. The session goes on.
pub(crate) fn no_command() -> ClientError {
    ClientError::new(1047, b"08S01", "Unknown command")
}

/// An execution whose long parameters did not reach a server. Nothing was executed.
pub(crate) fn long_data_lost() -> ClientError {
    ClientError::new(
        1210,
        b"HY000",
        "Incorrect arguments to EXECUTE (failsoft: the data sent for a parameter reached no \
         server; nothing was executed; send it again)",
    )
}

/// A `KILL` of what is not there.
pub(crate) fn no_such_thread(id: u64) -> ClientError {
    ClientError::new(1094, b"HY000", format!("Unknown thread id: {id}"))
}

/// A `KILL` of another account's session, which holds no connection that a server could be asked
/// about.
pub(crate) fn not_owner(id: u64) -> ClientError {
    ClientError::new(1095, b"HY000", format!("You are not owner of thread {id}"))
}

/// A statement that ended itself, or a session on MySQL.
pub(crate) fn interrupted_itself() -> ClientError {
    ClientError::new(1317, b"70100", "Query execution was interrupted")
}

/// A session that ended itself, as MariaDB says it.
pub(crate) fn killed_itself() -> ClientError {
    ClientError::new(1927, b"70100", "Connection was killed")
}

/// A `KILL` that could not be brought to its server.
pub(crate) fn cannot_kill(id: u64, server: &str, cause: &str) -> ClientError {
    ClientError::new(1105, b"HY000", format!("Cannot kill {id}: {server} was not reached: {cause}"))
}

/// failsoft is about to stop.
pub(crate) fn shutting_down() -> ClientError {
    ClientError::new(1053, b"08S01", "Server shutdown in progress (failsoft is stopping)")
}

fn master_name<'a>(view: &'a View, partition: &Partition) -> &'a str {
    partition
        .master
        .and_then(|at| view.servers.get(at))
        .map_or("(none)", |server| server.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use policy::mode::Mode;
    use policy::view::Reader;

    use super::*;

    fn partition() -> Partition {
        Partition {
            name: "default".into(),
            mode: Mode::ReadOnly(Reason::Severed),
            since: UNIX_EPOCH,
            detail: "master db001:3306 failed 5 checks since 12:03:44 UTC, last error refused"
                .into(),
            master: Some(0),
            epoch: 1,
            hold: None,
            readers: vec![Reader { server: 1, grade: 0, weight: 1 }],
        }
    }

    #[test]
    fn a_write_in_read_only_mode_reads_as_the_contract_has_it() {
        let error = read_only(&View::default(), &partition(), Reason::Severed, None, None);
        assert_eq!((error.code, &error.sql_state), (1290, b"HY000"));
        assert_eq!(
            error.message,
            "The MySQL server is running with the --read-only option so it cannot execute this \
             statement (failsoft: partition default is read-only: severed, master db001:3306 \
             failed 5 checks since 12:03:44 UTC, last error refused; reads continue)"
        );
        let waited = Some(Duration::from_millis(5040));
        let error = read_only(&View::default(), &partition(), Reason::Severed, None, waited);
        let end = "last error refused; the write waited 5.0 s; reads continue)";
        assert!(error.message.ends_with(end), "{}", error.message);
    }

    #[test]
    fn no_error_that_is_repeated_by_drivers_stands_for_an_unknown_outcome() {
        let error = outcome_unknown("COMMIT", "db001:3306", "8f3a1c");
        assert_eq!((error.code, &error.sql_state), (1180, b"08007"));
        assert!(!error.message.to_lowercase().contains("gone away"));
        assert!(!error.message.to_lowercase().contains("lost connection"));
    }
}
