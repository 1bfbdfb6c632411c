//! Single values: whether a [`Node`] is what a setting takes, and what the operator may have meant.

use std::time::Duration;

use crate::address::{Address, is_host};
use crate::model::Word;
use crate::node::Node;
use crate::settings::Kind;
use crate::units;

/// Words of other programs, and ours for the same thing.
const SYNONYMS: &[(&str, &str)] = &[
    ("disable", "off"),
    ("disabled", "off"),
    ("follower", "replica"),
    ("hostname", "host"),
    ("leader", "master"),
    ("none", "off"),
    ("password", "pass"),
    ("prefer", "preferred"),
    ("primary", "master"),
    ("require", "required"),
    ("secondary", "replica"),
    ("servers", "databases"),
    ("slave", "replica"),
    ("source", "master"),
    ("text", "human"),
    ("username", "user"),
    ("verify_ca", "verify"),
    ("warning", "warn"),
    ("writer", "master"),
];

/// `true` and `false`.
pub(crate) fn boolean(node: &Node, _: Kind) -> Option<bool> {
    match node {
        Node::Bool(value) => Some(*value),
        Node::Expanded(text) => text.parse().ok(),
        _ => None,
    }
}

/// A whole number in the range of [`Kind::Whole`].
pub(crate) fn whole<T: TryFrom<u64>>(node: &Node, kind: Kind) -> Option<T> {
    let value = match node {
        Node::Whole(value) => u64::try_from(*value).ok()?,
        Node::Expanded(text) => text.parse().ok()?,
        _ => return None,
    };
    let is_inside = matches!(kind, Kind::Whole(min, max) if (min..=max).contains(&value));
    is_inside.then(|| T::try_from(value).ok())?
}

/// A duration in the range of [`Kind::Time`] or [`Kind::TimeOrOff`].
pub(crate) fn duration(node: &Node, kind: Kind) -> Option<Duration> {
    let value = match node {
        Node::Whole(0) => Duration::ZERO,
        _ => units::duration(node.text()?)?,
    };
    let (Kind::Time(min, max) | Kind::TimeOrOff(min, max)) = kind else { return None };
    let range = Duration::from_millis(min)..=Duration::from_millis(max);
    range.contains(&value).then_some(value)
}

/// A duration, or `off`.
pub(crate) fn duration_or_off(node: &Node, kind: Kind) -> Option<Option<Duration>> {
    if node.text() == Some("off") { Some(None) } else { duration(node, kind).map(Some) }
}

/// A number of bytes in the range of [`Kind::Size`].
pub(crate) fn size(node: &Node, kind: Kind) -> Option<u64> {
    let value = match node {
        Node::Whole(value) => u64::try_from(*value).ok()?,
        _ => units::size(node.text()?)?,
    };
    matches!(kind, Kind::Size(min, max) if (min..=max).contains(&value)).then_some(value)
}

/// What one of the words of a setting stands for.
pub(crate) fn word<T: Word>(node: &Node, _: Kind) -> Option<T> {
    let text = node.text()?;
    T::ALL.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

/// A text with something in it.
pub(crate) fn text(node: &Node, _: Kind) -> Option<String> {
    let text = node.text()?;
    let is_fine = !text.is_empty() && !text.chars().any(char::is_control);
    is_fine.then(|| text.to_owned())
}

/// A host name or an IP address; an IPv6 address loses its brackets.
pub(crate) fn host(node: &Node, _: Kind) -> Option<String> {
    let text = node.text()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    is_host(bare).then(|| bare.to_owned())
}

/// `host:port`, or `off`.
pub(crate) fn address_or_off(node: &Node, _: Kind) -> Option<Option<Address>> {
    let text = node.text()?;
    if text == "off" { Some(None) } else { Address::parse(text).map(Some) }
}

/// What the operator may have meant by `node` where `kind` was expected.
pub(crate) fn guess(node: &Node, kind: Kind) -> Option<String> {
    match (kind, node) {
        (Kind::Word(words), _) => nearest(node.text()?, words).map(str::to_owned),
        (Kind::Bool, Node::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "y" => Some("true".to_owned()),
            "no" | "off" | "false" | "n" => Some("false".to_owned()),
            _ => None,
        },
        (Kind::Time(..) | Kind::TimeOrOff(..), Node::Whole(count)) if *count > 0 => {
            let guess = format!("{count}s");
            duration(&Node::Text(guess.clone()), kind).map(|_| guess)
        }
        (Kind::Size(..), Node::Text(text)) => {
            let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let unit = text.strip_prefix(digits)?.trim().chars().next()?.to_ascii_uppercase();
            let guess = format!("{digits}{unit}iB");
            size(&Node::Text(guess.clone()), kind).map(|_| guess)
        }
        (Kind::Whole(..), Node::Text(text)) => whole::<u64>(&Node::Expanded(text.clone()), kind)
            .map(|_| format!("{text}, without quotes")),
        (Kind::Host, Node::Text(text)) => {
            let Address { host, port } = Address::parse(text)?;
            Some(format!("host: {host}, port: {port}"))
        }
        (Kind::Listens, Node::Text(path)) if path.starts_with('/') => Some(format!("unix:{path}")),
        (Kind::AddressOrOff | Kind::Listens, Node::Whole(_) | Node::Text(_)) => {
            let text = node.text().map_or_else(|| node.describe(), str::to_owned);
            let guess = format!("127.0.0.1:{}", text.trim_start_matches(':'));
            Address::parse(&guess).map(|_| guess)
        }
        (Kind::Text, Node::Whole(_) | Node::Bool(_)) => Some(format!("\"{}\"", node.describe())),
        _ => None,
    }
}

/// The one of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours);
    if let Some(ours) = known.iter().find(|ours| Some(**ours) == synonym) {
        return Some(ours);
    }
    let allowed = (word.chars().count() / 3).max(1);
    let distance = |ours: &&&'k str| strsim::damerau_levenshtein(&word, ours);
    let best = known.iter().min_by_key(distance)?;
    let is_near = distance(&best) <= allowed && distance(&best) < best.len();
    is_near.then_some(*best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let cases = [
            ("slave", Some("replica")),
            ("Primary", Some("master")),
            ("masterr", Some("master")),
            ("MASTER", Some("master")),
            ("rpelica", Some("replica")),
            ("", None),
            ("banana", None),
            ("m", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, &["master", "replica"]), expected, "{word:?}");
        }
        assert_eq!(nearest("read-only", &["read_only", "reads"]), Some("read_only"));
        assert_eq!(nearest("slave", &["off"]), None);
    }
}
