//! What a statement is, where it goes, and what a client gets.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use sql::{Dialect, Effects, Kind, classify};

use crate::mode::{Mode, Reason};
use crate::route::{Access, Decision, Refusal, Session, route};
use crate::session::Pins;
use crate::view::{Partition, Reader, View};

/// Server 0 of the partitions made here is the master.
const MASTER: usize = 0;
const REPLICA: usize = 1;

/// What is to be said of a statement.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// What it asks.
    pub kind: Kind,
    /// The word or function that decided that.
    pub because: &'static str,
    /// What it does to its session.
    pub effects: Effects,
    /// What ties its session to its server afterwards.
    pub pins: Pins,
    /// Where it goes in read-write mode.
    pub read_write: &'static str,
    /// Where it goes in read-only mode.
    pub read_only: &'static str,
}

impl Explanation {
    /// Explains a statement, or several with semicolons between them.
    #[must_use]
    pub fn of(statement: &[u8], dialect: Dialect) -> Self {
        let statement = classify(statement, dialect);
        let (kind, effects) = (statement.class.kind, statement.effects);
        let hidden = effects.contains(Effects::UNKNOWN_FUNCTION);
        Self {
            kind,
            because: statement.class.because,
            effects,
            pins: Pins::NONE.after(effects),
            read_write: destination(kind, Mode::ReadWrite, hidden),
            read_only: destination(kind, Mode::ReadOnly(Reason::Severed), hidden),
        }
    }

    /// All of it in words, each with a name.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let effects = match self.effects.is_empty() {
            true => "none on its session".to_owned(),
            false => self.effects.names().collect::<Vec<_>>().join(", "),
        };
        let mut lines = vec![
            ("class", self.kind.name().to_owned()),
            ("because of", self.because.to_owned()),
            ("effects", effects),
        ];
        if !self.pins.is_empty() {
            let words = self.pins.words();
            lines.push(("ties", format!("the session to its server, because of {words}")));
        }
        lines.push(("read-write", self.read_write.to_owned()));
        lines.push(("read-only", self.read_only.to_owned()));
        lines
    }

    /// Where a session that is free to go anywhere sends it now, in this partition.
    #[must_use]
    pub fn now(&self, view: &View, partition: &Partition) -> String {
        match route(self.kind, &Session::default(), partition) {
            Decision::Forward { server, .. } => {
                let part = if partition.master == Some(server) { "master" } else { "replica" };
                let name = view.servers.get(server).map_or("", |server| server.name.as_str());
                format!("goes to {part} {name}")
            }
            Decision::Refuse(Refusal::ReadOnly(reason)) => {
                format!("is refused with 1290: {reason}, {}", partition.detail)
            }
            Decision::Refuse(Refusal::TiedToReplica | Refusal::NoServer) => {
                "is refused with 1053: no server is left for it".to_owned()
            }
        }
    }
}

/// Where a session that is free to go anywhere sends a statement of this kind.
fn destination(kind: Kind, mode: Mode, hidden: bool) -> &'static str {
    match route(kind, &Session::default(), &partition(mode)) {
        Decision::Forward { access: Access::Read, .. } if hidden => {
            "goes to a replica, where failsoft's sessions are read-only: should a function in it \
             write, the server refuses with 1792 (25006)"
        }
        Decision::Forward { server: MASTER, .. } => "goes to the master",
        Decision::Forward { .. } => "goes to a replica",
        Decision::Refuse(Refusal::ReadOnly(_)) => {
            "is refused with 1290 (HY000), and nothing of it is sent to any server: The MySQL \
             server is running with the --read-only option so it cannot execute this statement \
             (failsoft: partition default is read-only: …)"
        }
        Decision::Refuse(Refusal::TiedToReplica | Refusal::NoServer) => "is refused",
    }
}

/// A master, lost or not, and a replica.
fn partition(mode: Mode) -> Partition {
    Partition {
        name: Arc::from("default"),
        mode,
        since: UNIX_EPOCH,
        detail: Arc::from(""),
        master: Some(MASTER),
        epoch: 0,
        hold: None,
        readers: vec![Reader { server: REPLICA, grade: 0, weight: 1 }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_statements() {
        // statement, class, read-write, read-only, pins
        #[rustfmt::skip]
        let table = [
            ("SELECT 1",                     "read",         "goes to the master", "goes to a replica", ""),
            ("INSERT INTO t VALUES (1)",     "write",        "goes to the master", "is refused with 1290", ""),
            ("SELECT 1 FOR UPDATE",          "locking read", "goes to the master", "is refused with 1290", ""),
            ("SET NAMES utf8mb4",            "session",      "goes to the master", "goes to a replica", ""),
            ("BEGIN",                        "begin",        "goes to the master", "goes to a replica", ""),
            ("SELECT 1; DROP TABLE t",       "write",        "goes to the master", "is refused with 1290", ""),
            ("SELECT my_function()",         "read",         "goes to the master", "goes to a replica, where", ""),
            ("CREATE TEMPORARY TABLE t (a int)", "",         "goes to the master", "",                  "temporary_table"),
        ];
        for (statement, class, read_write, read_only, pins) in table {
            let said = Explanation::of(statement.as_bytes(), Dialect::default());
            assert!(
                class.is_empty() || said.kind.name() == class,
                "{statement}: {}",
                said.kind.name()
            );
            assert_eq!(said.read_write, read_write, "{statement}");
            assert!(said.read_only.starts_with(read_only), "{statement}: {}", said.read_only);
            assert_eq!(said.pins.names().collect::<Vec<_>>().join(" "), pins, "{statement}");
        }
    }

    #[test]
    fn the_dialect_counts() {
        let statement = r"SELECT 'a\'; DROP TABLE t; -- '";
        let kind = |dialect| Explanation::of(statement.as_bytes(), dialect).kind;
        let literal = Dialect { no_backslash_escapes: true, ..Dialect::default() };
        assert_eq!((kind(Dialect::default()), kind(literal)), (Kind::Read, Kind::Write));
    }
}
