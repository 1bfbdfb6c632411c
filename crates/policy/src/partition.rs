//! Which partition a packet belongs to.
//!
//! Each schema has one home ([`Homes`]). What a packet touches, with the session's current schema
//! for all that has no other in front, makes its [`Place`]; and [`settle`] says where a session goes
//! with it: a packet that touches nothing goes where the current schema is, a session that is tied
//! stays where it is, and nothing ever runs in two partitions.

use sql::{Dialect, Effects, Kind, Statement, Touched, touched};

/// The word for all schemas that no partition lists.
pub const DEFAULT: &str = "default";

/// Schemas that every server has for itself, and that belong to no partition.
const OF_EVERY_SERVER: &[&str] = &["information_schema", "mysql", "performance_schema", "sys"];

/// Where each schema lives.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Homes {
    names: Vec<(Vec<u8>, usize)>,
    prefixes: Vec<(Vec<u8>, usize)>,
    default: usize,
    several: bool,
}

impl Homes {
    /// For each partition its schemas: names, prefixes such as `blog_*`, and [`DEFAULT`]. A schema
    /// that none lists lives in the partition that lists that, or in the first.
    #[must_use]
    pub fn new(lists: &[Vec<String>]) -> Self {
        let mut homes = Self { several: lists.len() > 1, ..Self::default() };
        for (partition, list) in lists.iter().enumerate() {
            for entry in list {
                match entry.strip_suffix('*') {
                    _ if entry == DEFAULT => homes.default = partition,
                    Some(prefix) => homes.prefixes.push((prefix.into(), partition)),
                    None => homes.names.push((entry.as_bytes().into(), partition)),
                }
            }
        }
        homes
    }

    /// Whether there is more than one partition.
    #[must_use]
    pub fn are_several(&self) -> bool {
        self.several
    }

    /// The partition that a schema lives in; none for those that every server has for itself.
    ///
    /// Case counts first, as it does for servers on Linux. A name that is not known as it is
    /// written is looked for in any case, as other servers do.
    #[must_use]
    pub fn of(&self, schema: &[u8]) -> Option<usize> {
        let is_same = |name: &[u8], other: &[u8]| name == other;
        let is_alike = <[u8]>::eq_ignore_ascii_case;
        if let Some(home) = self.named(schema, is_same) {
            return Some(home);
        }
        if OF_EVERY_SERVER.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(schema)) {
            return None;
        }
        let home = self
            .prefixed(schema, is_same)
            .or_else(|| self.named(schema, is_alike))
            .or_else(|| self.prefixed(schema, is_alike));
        Some(home.unwrap_or(self.default))
    }

    fn named(&self, schema: &[u8], is_same: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
        self.names.iter().find(|(name, _)| is_same(name, schema)).map(|(_, home)| *home)
    }

    fn prefixed(&self, schema: &[u8], is_same: fn(&[u8], &[u8]) -> bool) -> Option<usize> {
        let starts =
            |prefix: &[u8]| schema.get(..prefix.len()).is_some_and(|start| is_same(prefix, start));
        self.prefixes.iter().find(|(prefix, _)| starts(prefix)).map(|(_, home)| *home)
    }

    /// The partition of a session whose current schema this is; empty for none.
    #[must_use]
    pub fn of_session(&self, current: &[u8]) -> usize {
        match current {
            b"" => self.default,
            current => self.of(current).unwrap_or(self.default),
        }
    }

    /// The partition that a packet belongs to, in a session whose current schema is `current`.
    #[must_use]
    pub fn place(&self, packet: &[u8], dialect: Dialect, current: &[u8]) -> Place {
        let home = |schema: &[u8]| if schema.is_empty() { None } else { self.of(schema) };
        let mut current = home(current);
        let mut place = Place::Anywhere;
        touched(packet, dialect, |one| {
            let touched = match one {
                Touched::Current => current,
                Touched::Schema(schema) => home(&schema),
                Touched::Use(schema) => {
                    current = home(&schema);
                    current
                }
            };
            if let Some(partition) = touched {
                place = place.and(partition);
            }
        });
        place
    }

    /// The partition of a command that concerns a schema; empty for none.
    #[must_use]
    pub fn place_of(&self, schema: &[u8]) -> Place {
        match schema {
            b"" => Place::Anywhere,
            schema => self.of(schema).map_or(Place::Anywhere, Place::In),
        }
    }
}

/// The partition that a packet belongs to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Place {
    /// It touches no schema of any.
    #[default]
    Anywhere,
    /// One.
    In(usize),
    /// More than one, these two among them.
    Across(usize, usize),
}

impl Place {
    fn and(self, other: usize) -> Self {
        match self {
            Self::Anywhere => Self::In(other),
            Self::In(one) if one != other => Self::Across(one, other),
            _ => self,
        }
    }
}

/// Why a packet goes to no partition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It touches two partitions.
    Across(usize, usize),
    /// The session is tied to a server of one partition, and the packet belongs to another.
    Tied {
        /// Where the session is.
        held: usize,
        /// Where the packet belongs.
        wanted: usize,
    },
}

/// The partition that a statement goes to.
///
/// `current` is the partition of the current schema, `held` that of the server the session is on,
/// and `tied` says that it cannot leave it.
///
/// # Errors
/// [`Refusal`]: nothing of it may be sent anywhere.
pub fn settle(
    place: Place,
    statement: Statement,
    current: usize,
    held: Option<usize>,
    tied: bool,
) -> Result<usize, Refusal> {
    match (place, held) {
        (Place::Across(one, other), _) => Err(Refusal::Across(one, other)),
        (Place::In(wanted), Some(held)) if tied && held != wanted => {
            Err(Refusal::Tied { held, wanted })
        }
        (Place::In(wanted), _) => Ok(wanted),
        (Place::Anywhere, Some(held)) if tied || is_about_its_server(statement) => Ok(held),
        (Place::Anywhere, _) => Ok(current),
    }
}

/// Whether a statement that touches no schema is about what the session did on its server, or may
/// as well run there. A stored function without a schema is one of the current schema's, and so may
/// be what a text prepares.
fn is_about_its_server(statement: Statement) -> bool {
    const OF_CURRENT: Effects = Effects::UNKNOWN_FUNCTION.union(Effects::PREPARE);
    let kind = statement.class.kind;
    matches!(kind, Kind::OwnRead | Kind::Session | Kind::Commit | Kind::Rollback)
        && !statement.effects.intersects(OF_CURRENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes() -> Homes {
        let lists = [&["default"][..], &["blog", "blog_*"], &["Shop", "my*", "sys"]];
        Homes::new(&lists.map(|list| list.iter().map(|&entry| entry.to_owned()).collect()))
    }

    #[test]
    fn schemas_have_homes() {
        #[rustfmt::skip]
        let table = [
            ("blog", Some(1)), ("blog_user", Some(1)), ("blog_", Some(1)), ("BLOG_user", Some(1)),
            ("blogs", Some(0)), ("Shop", Some(2)), ("shop", Some(2)), ("other", Some(0)),
            ("default", Some(0)), ("information_schema", None), ("MySQL", None), ("mysql", None),
            ("mything", Some(2)),
            // Whoever lists it by its name means it.
            ("sys", Some(2)),
        ];
        for (schema, expected) in table {
            assert_eq!(homes().of(schema.as_bytes()), expected, "{schema}");
        }
        assert!(homes().are_several() && !Homes::default().are_several());
    }

    #[test]
    fn packets_have_places() {
        use Place::{Across, Anywhere, In};
        // current schema, packet, place
        let table = [
            ("", "SELECT 1", Anywhere),
            ("blog", "SELECT 1", Anywhere),
            ("blog", "SELECT * FROM t", In(1)),
            ("", "SELECT * FROM t", Anywhere),
            ("", "SELECT * FROM blog.t, t", In(1)),
            ("other", "SELECT * FROM blog.t", In(1)),
            ("other", "SELECT * FROM blog.t, blog_user.u", In(1)),
            ("other", "SELECT * FROM blog.t, u", Across(1, 0)),
            ("other", "INSERT INTO t SELECT * FROM Shop.t", Across(0, 2)),
            ("other", "SELECT * FROM blog.t, Shop.t, u", Across(1, 2)),
            ("blog", "SELECT * FROM information_schema.tables", Anywhere),
            ("blog", "SELECT * FROM information_schema.tables, t", In(1)),
            ("other", "USE blog", In(1)),
            ("other", "USE information_schema", Anywhere),
            ("other", "USE blog; SELECT * FROM t", In(1)),
            ("other", "SELECT * FROM t; USE blog", Across(0, 1)),
            ("information_schema", "SELECT * FROM tables", Anywhere),
            ("blog", "USE mysql; SELECT * FROM user", Anywhere),
        ];
        for (current, packet, expected) in table {
            let place = homes().place(packet.as_bytes(), Dialect::default(), current.as_bytes());
            assert_eq!(place, expected, "{current}: {packet}");
        }
    }

    #[test]
    fn sessions_go_where_their_statements_belong() {
        use Place::{Across, Anywhere, In};
        let statement = |text: &str| sql::classify(text.as_bytes(), Dialect::default());
        let refused = Err(Refusal::Tied { held: 0, wanted: 1 });
        // place, statement, current, held, tied, the partition
        #[rustfmt::skip]
        let table = [
            (In(1),        "SELECT * FROM blog.t", 0, None,    false, Ok(1)),
            (In(1),        "SELECT * FROM blog.t", 0, Some(0), false, Ok(1)),
            (In(1),        "SELECT * FROM blog.t", 0, Some(0), true,  refused),
            (In(1),        "SELECT * FROM blog.t", 0, Some(1), true,  Ok(1)),
            (In(1),        "USE blog",             0, Some(0), true,  refused),
            (Across(0, 1), "SELECT 1",             0, None,    false, Err(Refusal::Across(0, 1))),
            (Anywhere,     "SELECT 1",             0, Some(1), false, Ok(0)),
            (Anywhere,     "SELECT 1",             0, Some(1), true,  Ok(1)),
            (Anywhere,     "BEGIN",                0, Some(1), false, Ok(0)),
            (Anywhere,     "COMMIT",               0, Some(1), true,  Ok(1)),
            (Anywhere,     "SELECT ROW_COUNT()",   0, Some(1), false, Ok(1)),
            (Anywhere,     "SET @a = 1",           0, Some(1), false, Ok(1)),
            (Anywhere,     "SET @a = f()",         0, Some(1), false, Ok(0)),
            (Anywhere,     "PREPARE s FROM 'x'",   0, Some(1), false, Ok(0)),
            (Anywhere,     "SET @a = 1",           0, None,    false, Ok(0)),
        ];
        for (place, text, current, held, tied, expected) in table {
            let settled = settle(place, statement(text), current, held, tied);
            assert_eq!(settled, expected, "{place:?} {text} {held:?} {tied}");
        }
    }
}
