//! What a statement does to the session that sends it, as a set of bits.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A set of effects. Empty for a statement that leaves its session as it was.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Effects(u32);

macro_rules! effects {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Effects {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every effect with its name, by bit.
            pub const ALL: &'static [(Self, &'static str)] =
                &[$((Self::$name, stringify!($name))),*];
        }
    };
}

effects! {
    /// Creates or drops a temporary table.
    TEMP_TABLE = 0;
    /// Takes table locks: `LOCK TABLES`, `FLUSH TABLES WITH READ LOCK`, `LOCK INSTANCE`.
    LOCK_TABLES = 1;
    /// Gives table locks back.
    UNLOCK_TABLES = 2;
    /// Takes a user lock: `GET_LOCK()`.
    USER_LOCK = 3;
    /// Gives user locks back: `RELEASE_LOCK()`, `RELEASE_ALL_LOCKS()`.
    RELEASE_LOCKS = 4;
    /// Assigns a user variable, other than by a `SET` that can be replayed.
    USER_VARIABLE = 5;
    /// Opens or closes a `HANDLER`.
    HANDLER = 6;
    /// Prepares a statement by `PREPARE … FROM`.
    PREPARE = 7;
    /// Changes variables by a `SET` that gives the same result on another server.
    SET = 8;
    /// Changes something for the next transaction only: `SET TRANSACTION`.
    SET_ONCE = 9;
    /// Changes variables by a `SET` that cannot be replayed on another server.
    SET_OPAQUE = 10;
    /// Changes the current schema.
    USE = 11;
    /// Opens a transaction. One that is open is committed first.
    BEGIN = 12;
    /// Commits.
    COMMIT = 13;
    /// Rolls the whole transaction back.
    ROLLBACK = 14;
    /// Commits an open transaction before it does anything else, as DDL does.
    IMPLICIT_COMMIT = 15;
    /// Sets `autocommit`. Switching it on commits.
    AUTOCOMMIT = 16;
    /// Belongs to a distributed transaction.
    XA = 17;
    /// Asks for the number that `FOUND_ROWS()` reads: `SQL_CALC_FOUND_ROWS`.
    CALC_FOUND_ROWS = 18;
    /// Drops a schema, which may be the current one.
    DROP_SCHEMA = 19;
    /// Ends a connection or its statement; the id needs translating.
    KILL = 20;
    /// Runs code that cannot be seen: a function that is not built in, a procedure, a text-protocol
    /// `EXECUTE`. It may do anything, so it must not be sent twice.
    UNKNOWN_FUNCTION = 21;
    /// The packet has more than one statement.
    SEVERAL = 22;
    /// The server will ask the client for a file: `LOAD DATA LOCAL`.
    LOCAL_INFILE = 23;
    /// Asks for the id of its connection, which the session may name to others: `CONNECTION_ID()`.
    CONNECTION_ID = 24;
}

impl Effects {
    /// No effect.
    pub const NONE: Self = Self(0);

    /// The effects as bits, for a counter or a log.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether there is no effect at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether one of `other` is among these.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both sets have.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names of the effects, such as `TEMP_TABLE`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(effect, _)| self.contains(*effect)).map(|(_, name)| *name)
    }
}

impl BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        *self = self.union(other);
    }
}

impl fmt::Display for Effects {
    /// The names joined by `|`, or `-` where there are none.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return out.write_str("-");
        }
        for (place, name) in self.names().enumerate() {
            out.write_str(if place == 0 { "" } else { "|" })?;
            out.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Effects {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Effects({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Effects;

    #[test]
    fn every_effect_has_its_own_bit() {
        let all = Effects::ALL.iter().fold(Effects::NONE, |all, (effect, name)| {
            assert!(!all.intersects(*effect), "{name} shares its bit");
            all | *effect
        });
        assert_eq!(all.names().count(), Effects::ALL.len());
    }

    #[test]
    fn sets_behave_as_sets() {
        let two = Effects::SET | Effects::USE;
        assert!(two.contains(Effects::SET) && two.contains(two) && two.contains(Effects::NONE));
        assert!(!two.contains(Effects::SET | Effects::XA) && two.intersects(Effects::USE));
        assert_eq!(two.without(Effects::SET), Effects::USE);
        assert_eq!(two.intersection(Effects::SET), Effects::SET);
        assert_eq!(two.to_string(), "SET|USE");
        assert_eq!(format!("{:?}", Effects::NONE), "Effects(-)");
    }
}
