//! What an error that answers a login is about (the numbers are those of
//! <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html> and
//! <https://mariadb.com/kb/en/mariadb-error-code-reference/>).

/// What a server has against a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing: it lets nobody in at the moment.
    Server,
    /// The account: its password, its host, its limits, or that it is locked. Others may get in.
    Account,
    /// What this session asks for beside its account. It says nothing of the server either.
    Session,
}

/// `ER_BAD_DB_ERROR`: the schema does not exist there.
pub(crate) const BAD_DB: u16 = 1049;

/// The schema is unknown, not for this account, or its name is none, being wrong (1102), too long
/// (1059) or no text in the client's character set (1300); or that is none for a client (1231, of
/// `ucs2`).
const SESSIONS: &[u16] = &[BAD_DB, 1044, 1059, 1102, 1231, 1300];

/// Too many connections (1040), no memory (1041), shutting down (1053, 1077), failsoft's host is
/// blocked (1129), no thread (1135), the connection failed (1152, 1158 to 1161).
const SERVERS: &[u16] = &[1040, 1041, 1053, 1077, 1129, 1135, 1152, 1158, 1159, 1160, 1161];

/// What an error with this number is about. What is not known is the account's: a server that
/// answers is no server that is lost.
pub(crate) fn verdict(code: u16) -> Verdict {
    match code {
        code if SERVERS.contains(&code) => Verdict::Server,
        code if SESSIONS.contains(&code) => Verdict::Session,
        _ => Verdict::Account,
    }
}
