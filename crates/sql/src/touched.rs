//! Which schemas a packet touches.
//!
//! Only names in the place of a table, a routine or a schema count: after `FROM`, `JOIN`, `INTO`,
//! `UPDATE`, `TABLE` and their like, in the comma lists behind these, and before the `(` of a call.
//! Elsewhere `a.b` is a column as often as not, and says nothing. What routines do, and what is
//! prepared from a variable, is not seen.
//!
//! This is a second look at a packet, for configurations with several partitions only, so it may
//! allocate. [`heads`] knows the statements that are not queries, [`walk`] looks through the rest.

mod heads;
mod walk;

use std::borrow::Cow;

use crate::Dialect;
use walk::Walk;

/// A schema that a packet touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched<'a> {
    /// The current one: something is named without a schema.
    Current,
    /// The one of this name.
    Schema(Cow<'a, [u8]>),
    /// The one of this name, which is the current one from here on.
    Use(Cow<'a, [u8]>),
}

impl Touched<'_> {
    /// The same, in need of no packet.
    fn into_owned(self) -> Touched<'static> {
        match self {
            Self::Current => Touched::Current,
            Self::Schema(name) => Touched::Schema(Cow::Owned(name.into_owned())),
            Self::Use(name) => Touched::Use(Cow::Owned(name.into_owned())),
        }
    }
}

/// Tells `visit` of every schema that a packet touches, in the order of the text; a schema may be
/// told more than once, and nothing of statements that touch none.
///
/// A packet with executable comments is read with and without them, and what either reading touches
/// is told. In double quotes the place of a table has a name, whatever `dialect` says; beyond that
/// no quotes are read in two ways, since what is quoted would then decide where a packet goes.
///
/// ```
/// use sql::{Dialect, Touched, touched};
///
/// let mut all = Vec::new();
/// touched(b"SELECT a.x FROM shop.orders a, t", Dialect::default(), |one| all.push(one));
/// assert_eq!(all, [Touched::Schema(b"shop".into()), Touched::Current]);
/// ```
pub fn touched<'a>(sql: &'a [u8], dialect: Dialect, mut visit: impl FnMut(Touched<'a>)) {
    let mut read = |counted| Walk::new(sql, dialect, counted, &mut visit).packet();
    let comments = read(u32::MAX);
    if comments > 0 {
        read(0);
    }
}
