//! The commands a client can send, and the kind of reply each one gets.

/// What the server sends back for a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyKind {
    /// Nothing at all: the next packet on the line is the client's.
    Nothing,
    /// OK, EOF or ERR.
    Status,
    /// OK, ERR, rows, or several of them in turn.
    Results,
    /// As [`ReplyKind::Results`], to an execution that asks for a cursor: where the server opened
    /// one, nothing follows the columns, and the rows are fetched later.
    Cursor,
    /// `COM_STMT_PREPARE_OK` with parameter and column definitions, or ERR.
    Prepared,
    /// Rows or column definitions without a count before them.
    Rows,
    /// One packet of text.
    Text,
    /// A fresh authentication exchange, which failsoft holds itself.
    Login,
    /// Makes no sense through a proxy, or is obsolete; failsoft refuses it.
    Refused,
}

/// One row of the command table.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The first byte of the packet.
    pub code: u8,
    /// The name the MySQL manual uses.
    pub name: &'static str,
    /// What comes back.
    pub reply: ReplyKind,
}

/// The commands by code (P: page_protocol_command_phase;
/// <https://mariadb.com/kb/en/3-binary-protocol-prepared-statements/>).
#[rustfmt::skip]
pub const COMMANDS: &[Command] = {
    use ReplyKind::{Login, Nothing, Prepared, Refused, Results, Rows, Status, Text};
    &[
        Command { code: QUIT,                name: "COM_QUIT",                reply: Nothing },
        Command { code: INIT_DB,             name: "COM_INIT_DB",             reply: Status },
        Command { code: QUERY,               name: "COM_QUERY",               reply: Results },
        Command { code: FIELD_LIST,          name: "COM_FIELD_LIST",          reply: Rows },
        Command { code: 0x05,                name: "COM_CREATE_DB",           reply: Status },
        Command { code: 0x06,                name: "COM_DROP_DB",             reply: Status },
        Command { code: 0x07,                name: "COM_REFRESH",             reply: Status },
        Command { code: 0x08,                name: "COM_SHUTDOWN",            reply: Status },
        Command { code: STATISTICS,          name: "COM_STATISTICS",          reply: Text },
        Command { code: PROCESS_INFO,        name: "COM_PROCESS_INFO",        reply: Results },
        Command { code: PROCESS_KILL,        name: "COM_PROCESS_KILL",        reply: Status },
        Command { code: DEBUG,               name: "COM_DEBUG",               reply: Status },
        Command { code: PING,                name: "COM_PING",                reply: Status },
        Command { code: CHANGE_USER,         name: "COM_CHANGE_USER",         reply: Login },
        Command { code: 0x12,                name: "COM_BINLOG_DUMP",         reply: Refused },
        Command { code: 0x13,                name: "COM_TABLE_DUMP",          reply: Refused },
        Command { code: 0x15,                name: "COM_REGISTER_SLAVE",      reply: Refused },
        Command { code: STMT_PREPARE,        name: "COM_STMT_PREPARE",        reply: Prepared },
        Command { code: STMT_EXECUTE,        name: "COM_STMT_EXECUTE",        reply: Results },
        Command { code: STMT_SEND_LONG_DATA, name: "COM_STMT_SEND_LONG_DATA", reply: Nothing },
        Command { code: STMT_CLOSE,          name: "COM_STMT_CLOSE",          reply: Nothing },
        Command { code: STMT_RESET,          name: "COM_STMT_RESET",          reply: Status },
        Command { code: SET_OPTION,          name: "COM_SET_OPTION",          reply: Status },
        Command { code: STMT_FETCH,          name: "COM_STMT_FETCH",          reply: Rows },
        Command { code: 0x1e,                name: "COM_BINLOG_DUMP_GTID",    reply: Refused },
        Command { code: RESET_CONNECTION,    name: "COM_RESET_CONNECTION",    reply: Status },
        Command { code: STMT_BULK_EXECUTE,   name: "COM_STMT_BULK_EXECUTE",   reply: Results },
    ]
};

/// `COM_QUIT`.
pub const QUIT: u8 = 0x01;
/// `COM_INIT_DB`.
pub const INIT_DB: u8 = 0x02;
/// `COM_QUERY`.
pub const QUERY: u8 = 0x03;
/// `COM_FIELD_LIST`.
pub const FIELD_LIST: u8 = 0x04;
/// `COM_STATISTICS`.
pub const STATISTICS: u8 = 0x09;
/// `COM_PROCESS_INFO`.
pub const PROCESS_INFO: u8 = 0x0a;
/// `COM_PROCESS_KILL`.
pub const PROCESS_KILL: u8 = 0x0c;
/// `COM_DEBUG`.
pub const DEBUG: u8 = 0x0d;
/// `COM_PING`.
pub const PING: u8 = 0x0e;
/// `COM_CHANGE_USER`.
pub const CHANGE_USER: u8 = 0x11;
/// `COM_STMT_PREPARE`.
pub const STMT_PREPARE: u8 = 0x16;
/// `COM_STMT_EXECUTE`.
pub const STMT_EXECUTE: u8 = 0x17;
/// `COM_STMT_SEND_LONG_DATA`.
pub const STMT_SEND_LONG_DATA: u8 = 0x18;
/// `COM_STMT_CLOSE`.
pub const STMT_CLOSE: u8 = 0x19;
/// `COM_STMT_RESET`.
pub const STMT_RESET: u8 = 0x1a;
/// `COM_SET_OPTION`.
pub const SET_OPTION: u8 = 0x1b;
/// `COM_STMT_FETCH`.
pub const STMT_FETCH: u8 = 0x1c;
/// `COM_RESET_CONNECTION`.
pub const RESET_CONNECTION: u8 = 0x1f;
/// MariaDB's `COM_STMT_BULK_EXECUTE`.
pub const STMT_BULK_EXECUTE: u8 = 0xfa;

/// Looks a command up by the first byte of its packet.
#[must_use]
pub fn command(code: u8) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_duplicates() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.code < b.code));
    }
}
