//! What failsoft decides, and why.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no randomness, no
//! global. Time comes in as `now`, balancing as a number of the session. So every decision can be
//! tested from a table and replayed from a log.
//!
//! * [`topology`] is the configuration as policy sees it: servers, roles, partitions.
//! * [`health`] turns outcomes of checks into a server's health.
//! * [`observation`] is what one check saw.
//! * [`mode`] says what a partition can do, and the reason when that is not everything.
//! * [`cluster`] is the state machine that takes in all of these; it yields a [`view`].
//! * [`view`] is the immutable snapshot that the data plane and the console read.
//! * [`partition`] says which partition a packet belongs to.
//! * [`route`](mod@route) picks the server for one statement, or refuses it.
//! * [`explain`] says all that for one statement, in words.
//! * [`session`] knows what ties a session to its server.

pub mod cluster;
pub mod explain;
pub mod health;
pub mod mode;
pub mod observation;
pub mod partition;
pub mod route;
pub mod session;
pub mod topology;
pub mod utc;
pub mod view;
