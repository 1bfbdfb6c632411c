//! The file as a tree of values, before anything is known about settings.
//!
//! Unlike `serde_yaml::Value` it keeps a key that occurs twice, so that both can be reported, and
//! remembers which texts came out of the environment: those may stand for numbers.

use std::fmt;

use serde::de::{EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::problem::{Position, Problem};

/// The longest piece of the file that a message repeats, in characters.
const QUOTED_MAX: usize = 60;

/// One value of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Whole(i128),
    Real(f64),
    Text(String),
    /// A text in which variables were replaced.
    Expanded(String),
    List(Vec<Self>),
    Map(Vec<Entry>),
    /// A value with a YAML tag, which no setting takes.
    Tagged(String),
    /// A value whose problem was reported already.
    Broken,
}

/// One key of a mapping and its value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Node,
}

impl Node {
    /// Reads a YAML text. An empty one is [`Node::Null`].
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        serde_yaml::from_str(text).map_err(|error| {
            let at = error.location().map(|at| Position { line: at.line(), column: at.column() });
            let mut message = error.to_string();
            if let Some(Position { line, column }) = at {
                message = message.replacen(&format!(" at line {line} column {column}"), "", 1);
            }
            // Such an error repeats the value, which may be a secret.
            if message.contains("invalid value: ") {
                message = "a value that does not fit its tag".to_owned();
            }
            // The likeliest slip in a file that is otherwise fine: `{` begins a mapping there.
            let line = at.and_then(|at| text.lines().nth(at.line.checked_sub(1)?));
            let hint = match line {
                Some(line) if line.contains("${") => " (${NAME} needs quotes inside { } and [ ])",
                _ => "",
            };
            let message = format!("found invalid YAML: {message}{hint}");
            Problem { position: at, path: String::new(), message }
        })
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Expanded(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a message names it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Whole(value) => value.to_string(),
            Self::Real(value) => value.to_string(),
            Self::Text(text) | Self::Expanded(text) => quoted(text),
            Self::Tagged(tag) => format!("the tag {}", quoted(tag)),
            other => other.sort().to_owned(),
        }
    }

    /// The sort of value, which tells nothing of its content: for secrets.
    pub(crate) fn sort(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Whole(_) | Self::Real(_) => "a number",
            Self::Text(_) | Self::Expanded(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Tagged(_) | Self::Broken => "a tagged value",
        }
    }

    fn into_key(self) -> String {
        match self {
            Self::Text(text) => text,
            other => other.describe(),
        }
    }
}

/// A text in quotes, shortened and with its control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    if text.chars().nth(QUOTED_MAX).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(QUOTED_MAX).collect();
    format!("{start:?}…")
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        value.deserialize_any(Build)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, value)) = map.next_entry::<Node, Node>()? {
            entries.push(Entry { key: key.into_key(), value });
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (tag, content) = tagged.variant::<String>()?;
        let _: IgnoredAny = content.newtype_variant()?;
        Ok(Node::Tagged(tag))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Whole(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Real(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
}
