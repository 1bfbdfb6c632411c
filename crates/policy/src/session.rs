//! What ties a session to its server.
//!
//! State that another server could be given (schema, session variables, prepared statements) is
//! carried. What cannot be carried *pins* the session: while it is pinned it stays with its server,
//! and when that is lost, so is the state, and the client is told which.

use sql::Effects;

/// A set of causes that pin a session.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Pins(u16);

impl Pins {
    /// Nothing pins the session.
    pub const NONE: Self = Self(0);
    /// A temporary table exists.
    pub const TEMPORARY_TABLE: Self = Self(1);
    /// `LOCK TABLES` is in force.
    pub const TABLE_LOCKS: Self = Self(1 << 1);
    /// A user lock (`GET_LOCK`) may be held.
    pub const USER_LOCK: Self = Self(1 << 2);
    /// A user variable was assigned by more than a plain `SET`.
    pub const USER_VARIABLE: Self = Self(1 << 3);
    /// A `HANDLER` is open.
    pub const HANDLER: Self = Self(1 << 4);
    /// A statement was prepared by `PREPARE … FROM`.
    pub const TEXT_PREPARE: Self = Self(1 << 5);
    /// A cursor is open.
    pub const CURSOR: Self = Self(1 << 6);
    /// Parts of a long parameter were sent for a statement that was not executed yet.
    pub const LONG_DATA: Self = Self(1 << 7);
    /// A session variable was set to a value that another server would not give.
    pub const SESSION_VARIABLE: Self = Self(1 << 8);
    /// `SET TRANSACTION` for the next transaction.
    pub const NEXT_TRANSACTION: Self = Self(1 << 9);
    /// More settings than are remembered.
    pub const TOO_MUCH_STATE: Self = Self(1 << 10);
    /// An XA transaction.
    pub const XA: Self = Self(1 << 11);

    /// Whether a transaction is open is not known: the server's last word was an error that may have
    /// begun or ended one.
    pub const DOUBT: Self = Self(1 << 12);

    /// Every pin with its name in metrics and its words in errors.
    pub const ALL: &[(Self, &str, &str)] = &[
        (Self::TEMPORARY_TABLE, "temporary_table", "its temporary tables"),
        (Self::TABLE_LOCKS, "table_locks", "its table locks (LOCK TABLES)"),
        (Self::USER_LOCK, "user_lock", "its user locks (GET_LOCK)"),
        (Self::USER_VARIABLE, "user_variable", "its user variables"),
        (Self::HANDLER, "handler", "its open handlers (HANDLER … OPEN)"),
        (Self::TEXT_PREPARE, "text_prepare", "its prepared statements (PREPARE … FROM)"),
        (Self::CURSOR, "cursor", "its open cursor"),
        (Self::LONG_DATA, "long_data", "the parameter data sent for its prepared statement"),
        (Self::SESSION_VARIABLE, "session_variable", "the values of its session variables"),
        (Self::NEXT_TRANSACTION, "next_transaction", "the settings of its next transaction"),
        (Self::TOO_MUCH_STATE, "too_much_state", "its session variables"),
        (Self::XA, "xa", "its XA transaction"),
        (Self::DOUBT, "doubt", "what is known of its transaction after the statement that failed"),
    ];

    /// The set as a number.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// The set that the lower half of a number is of.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let [low, high, ..] = bits.to_le_bytes();
        Self(u16::from_le_bytes([low, high]))
    }

    /// Whether nothing pins the session.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` is in the set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set with `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The causes, as metrics name them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(pin, ..)| self.contains(*pin)).map(|(_, name, _)| *name)
    }

    /// The causes, as errors say them: `its temporary tables and its user variables`.
    #[must_use]
    pub fn words(self) -> String {
        let words: Vec<&str> = Self::ALL
            .iter()
            .filter(|(pin, ..)| self.contains(*pin))
            .map(|(.., words)| *words)
            .collect();
        words.join(" and ")
    }

    /// The set after a statement with these `effects` ran.
    ///
    /// A statement that failed may have had part of its effects, so failure pins as well: a pin too
    /// many costs a session when its server is lost, one too few costs the truth.
    #[must_use]
    pub fn after(self, effects: Effects) -> Self {
        let mut pins = self;
        if effects.contains(Effects::UNLOCK_TABLES) || effects.contains(Effects::BEGIN) {
            pins = pins.without(Self::TABLE_LOCKS);
        }
        if effects.contains(Effects::BEGIN)
            || effects.contains(Effects::COMMIT)
            || effects.contains(Effects::ROLLBACK)
        {
            pins = pins.without(Self::NEXT_TRANSACTION);
        }
        for (effect, pin) in PINNING {
            if effects.contains(*effect) {
                pins = pins.with(*pin);
            }
        }
        pins
    }
}

/// Which effects pin.
const PINNING: &[(Effects, Pins)] = &[
    (Effects::TEMP_TABLE, Pins::TEMPORARY_TABLE),
    (Effects::LOCK_TABLES, Pins::TABLE_LOCKS),
    (Effects::USER_LOCK, Pins::USER_LOCK),
    (Effects::USER_VARIABLE, Pins::USER_VARIABLE),
    (Effects::HANDLER, Pins::HANDLER),
    (Effects::PREPARE, Pins::TEXT_PREPARE),
    (Effects::SET_OPAQUE, Pins::SESSION_VARIABLE),
    (Effects::SET_ONCE, Pins::NEXT_TRANSACTION),
    (Effects::XA, Pins::XA),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_pin_and_unpin() {
        let locked = Pins::NONE.after(Effects::LOCK_TABLES);
        assert_eq!(locked, Pins::TABLE_LOCKS);
        assert!(locked.after(Effects::UNLOCK_TABLES).is_empty());
        assert!(locked.after(Effects::BEGIN).is_empty());
        let both = locked.after(Effects::TEMP_TABLE);
        assert_eq!(both.words(), "its temporary tables and its table locks (LOCK TABLES)");
        assert_eq!(both.names().collect::<Vec<_>>(), ["temporary_table", "table_locks"]);
    }

    #[test]
    fn every_pin_has_its_own_bit_and_name() {
        for (at, (pin, name, _)) in Pins::ALL.iter().enumerate() {
            assert_eq!(pin.0.count_ones(), 1, "{name}");
            for (other, other_name, _) in &Pins::ALL[at + 1..] {
                assert!(pin.0 & other.0 == 0 && name != other_name, "{name} {other_name}");
            }
        }
    }
}
