//! Finds the line and column of a key or a value in a YAML text.
//!
//! `serde_yaml` knows the position of a value only while it reads it, and tells it only in errors.
//! So [`Place::find`] reads the text once more and fails on purpose at the place in question.

use std::fmt;

use serde::Deserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::problem::Position;

/// One step on the way to a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// To a key of a mapping: its name, and which entry of the mapping it is, if it is there. The
    /// ordinal tells two keys of the same name apart.
    Key(String, Option<usize>),
    /// Into an element of a list.
    Index(usize),
}

/// A key or a value of the file, whether or not it is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    steps: Vec<Step>,
    /// The last key itself, not its value.
    is_key: bool,
}

impl Place {
    /// The file's outermost value.
    pub(crate) fn root() -> Self {
        Self { steps: Vec::new(), is_key: false }
    }

    /// The place one step further.
    pub(crate) fn join(&self, step: Step) -> Self {
        let mut steps = self.steps.clone();
        steps.push(step);
        Self { steps, is_key: false }
    }

    /// The key of this value.
    pub(crate) fn key(self) -> Self {
        Self { is_key: true, ..self }
    }

    /// The position in `text` of this place, or of the nearest value on the way that the text
    /// has: a default has no line of its own.
    pub(crate) fn find(&self, text: &str) -> Option<Position> {
        let mut walk = Walk { steps: &self.steps, is_key: self.is_key };
        loop {
            let reader = serde_yaml::Deserializer::from_str(text);
            if let Some(at) = walk.deserialize(reader).err().and_then(|error| error.location()) {
                return Some(Position { line: at.line(), column: at.column() });
            }
            walk = Walk { steps: walk.steps.split_last()?.1, is_key: false };
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(name, _) if at == 0 => f.write_str(name)?,
                Step::Key(name, _) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Follows `steps`, and fails where they end.
#[derive(Clone, Copy)]
struct Walk<'a> {
    steps: &'a [Step],
    is_key: bool,
}

impl<'a> Walk<'a> {
    fn arrive<E: Error>(self) -> Result<(), E> {
        if self.steps.is_empty() { Err(E::custom("arrived")) } else { Ok(()) }
    }

    /// What is left to walk from the value of entry `nth` of a mapping, if the way leads there.
    fn into_entry(self, nth: usize) -> Option<Self> {
        match self.steps {
            [Step::Key(_, Some(wanted)), rest @ ..] if *wanted == nth => {
                Some(Walk { steps: rest, ..self })
            }
            _ => None,
        }
    }

    fn into_element(self, nth: usize) -> Option<Self> {
        match self.steps {
            [Step::Index(wanted), rest @ ..] if *wanted == nth => {
                Some(Walk { steps: rest, ..self })
            }
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.arrive()?;
        for nth in 0.. {
            let inside = self.into_entry(nth);
            let more = match inside {
                Some(here) if here.steps.is_empty() && here.is_key => {
                    map.next_key_seed(here)?.is_some()
                }
                _ => map.next_key::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
            match inside {
                Some(inside) => map.next_value_seed(inside)?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.arrive()?;
        for nth in 0.. {
            let more = match self.into_element(nth) {
                Some(inside) => seq.next_element_seed(inside)?.is_some(),
                None => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        self.arrive()?;
        let (IgnoredAny, content) = tagged.variant()?;
        content.newtype_variant::<IgnoredAny>().map(drop)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.arrive()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.arrive()
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.arrive()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.arrive()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.arrive()
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.arrive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
a: 1
b:
  - x
  - {c: é, d: [1, 2]}
b: &anchor {e: !tag f}
? [complex]
: g
h: *anchor
";

    fn key(name: &str, nth: usize) -> Step {
        Step::Key(name.to_owned(), Some(nth))
    }

    #[test]
    fn every_place_is_found() {
        let absent = Step::Key("absent".to_owned(), None);
        let cases = [
            (vec![], false, "1:1"),
            (vec![key("a", 0)], false, "1:4"),
            (vec![key("a", 0)], true, "1:1"),
            (vec![key("b", 1), Step::Index(0)], false, "3:5"),
            (vec![key("b", 1), Step::Index(1)], false, "4:5"),
            (vec![key("b", 1), Step::Index(1), key("d", 1)], true, "4:12"),
            (vec![key("b", 1), Step::Index(1), key("d", 1), Step::Index(1)], false, "4:19"),
            (vec![key("b", 1), Step::Index(7)], false, "3:3"),
            (vec![key("b", 1), Step::Index(1), absent], false, "4:5"),
            (vec![key("b", 2)], true, "5:1"),
            (vec![key("b", 2), key("e", 0)], false, "5:16"),
            (vec![key("[complex]", 3)], false, "7:3"),
            (vec![key("h", 4), key("e", 0)], false, "5:16"),
        ];
        let mut wrong = Vec::new();
        for (steps, is_key, expected) in cases {
            let place = Place { steps, is_key };
            let found = place.find(TEXT).map(|at| format!("{}:{}", at.line, at.column));
            if found.as_deref() != Some(expected) {
                wrong.push(format!("{place}: {found:?}, expected {expected}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_place_is_written_as_a_path() {
        let place = Place::root().join(key("databases", 3)).join(Step::Index(1)).join(key("r", 0));
        assert_eq!(place.to_string(), "databases[1].r");
        assert_eq!(Place::root().to_string(), "");
    }
}
