//! The MySQL client/server protocol, without I/O.
//!
//! This crate turns bytes into protocol facts and protocol facts into bytes. It opens no socket,
//! reads no clock and knows nothing of SQL, of servers' roles or of failsoft's policy.
//!
//! * [`frame`] cuts a byte stream at frame and packet boundaries.
//! * [`compress`] is the frames that packets go in where compression is agreed on.
//! * [`command`] is the table of the commands a client can send.
//! * [`reply`] finds where a server's reply ends, and [`bridge`] makes a reply what the client agreed
//!   on where its server cannot.
//! * [`definitions`] are those of a prepared statement's columns that a client may not have.
//! * [`attributes`] finds the text of a statement that has query attributes.
//! * [`prepared`] finds what has to be known of a prepared statement's packets.
//! * [`capabilities`], [`greeting`], [`login`], [`auth`] and [`ed25519`] are the way in.
//! * [`status`] builds OK packets, [`error`] ERR packets; [`track`] reads what OK packets say of changes
//!   in a session, and [`quiet`] keeps that from clients that do not expect it.
//!
//! Protocol facts are cited as `(P: page)`, a page of the MySQL source documentation at
//! <https://dev.mysql.com/doc/dev/mysql-server/latest/>.

pub mod attributes;
pub mod auth;
pub mod bridge;
pub mod capabilities;
pub mod command;
pub mod compress;
pub mod definitions;
pub mod ed25519;
pub mod error;
pub mod frame;
pub mod greeting;
pub mod lenenc;
pub mod login;
pub mod prepared;
pub mod quiet;
pub mod reply;
pub mod status;
pub mod track;
