//! OK and EOF packets of our own making, and the status flags in them
//! (P: page_protocol_basic_ok_packet, mysql__com_8h SERVER_STATUS_flags_enum).

use crate::frame::put_packet;

/// A transaction is open.
pub const IN_TRANSACTION: u16 = 0x0001;
/// Autocommit is on.
pub const AUTOCOMMIT: u16 = 0x0002;
/// Another result follows.
pub const MORE_RESULTS: u16 = 0x0008;
/// A cursor is open.
pub const CURSOR_EXISTS: u16 = 0x0040;
/// The cursor has no more rows.
pub const LAST_ROW_SENT: u16 = 0x0080;
/// `sql_mode` has NO_BACKSLASH_ESCAPES.
pub const NO_BACKSLASH_ESCAPES: u16 = 0x0200;
/// Double quotes quote names (MariaDB; <https://mariadb.com/kb/en/ok_packet/>).
pub const ANSI_QUOTES: u16 = 1 << 15;
/// The OK packet tells what changed in the session's state.
pub const SESSION_STATE_CHANGED: u16 = 0x4000;
/// The result holds a procedure's OUT parameters.
pub const PS_OUT_PARAMS: u16 = 0x1000;
/// The open transaction is READ ONLY.
pub const IN_READ_ONLY_TRANSACTION: u16 = 0x2000;

/// Appends an OK packet that reports no rows, no insert id and no warnings.
pub fn put_ok(out: &mut Vec<u8>, sequence: u8, status: u16) {
    let [low, high] = status.to_le_bytes();
    put_packet(out, sequence, &[0x00, 0, 0, low, high, 0, 0]);
}

/// Appends an EOF packet, as `COM_SET_OPTION` is answered with. Clients that agreed on
/// DEPRECATE_EOF get an OK packet with EOF's marker.
pub fn put_eof(out: &mut Vec<u8>, sequence: u8, status: u16, deprecate_eof: bool) {
    let [low, high] = status.to_le_bytes();
    if deprecate_eof {
        put_packet(out, sequence, &[0xfe, 0, 0, low, high, 0, 0]);
    } else {
        put_packet(out, sequence, &[0xfe, 0, 0, low, high]);
    }
}
