//! `${NAME}` in texts, and the environment it comes from.

use crate::node::Node;

/// Where variables come from: the process's environment, or a test.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of a text. A text without any stays [`Node::Text`].
///
/// # Errors
///
/// A message for the operator: a variable that is not set, or no variable's name. It repeats no
/// more of the text than a variable's name, since the text may be a password.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<Node, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_expanded = false;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            out += literal;
            out += "${";
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}').filter(|(name, _)| is_variable(name)).ok_or(
            "found \"${\" without a variable's name, expected ${NAME}, or $${ for a plain ${",
        )?;
        out += before;
        out += &variable(name, env)?;
        is_expanded = true;
        rest = after;
    }
    out += rest;
    Ok(if is_expanded { Node::Expanded(out) } else { Node::Text(out) })
}

/// The value of a variable, which must be set.
pub(crate) fn variable(name: &str, env: Env<'_>) -> Result<String, String> {
    // What has small letters may be a password that was put in the wrong place.
    let is_plain = name.chars().all(|c| !c.is_ascii_lowercase());
    let shown = if is_plain { format!(", {name}") } else { String::new() };
    env(name).ok_or_else(|| {
        format!("found an environment variable that is not set{shown}, expected one that is")
    })
}

/// The text can be the name of a variable.
pub(crate) fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let env = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "LOOP" => Some("${A}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let cases = [
            ("", Ok(Node::Text(String::new()))),
            ("plain $ and $A and {A}", Ok(Node::Text("plain $ and $A and {A}".to_owned()))),
            ("${A}", Ok(Node::Expanded("1".to_owned()))),
            ("x${A}y${A}", Ok(Node::Expanded("x1y1".to_owned()))),
            ("${EMPTY}", Ok(Node::Expanded(String::new()))),
            ("${LOOP}", Ok(Node::Expanded("${A}".to_owned()))),
            ("$${A}", Ok(Node::Text("${A}".to_owned()))),
            ("$$${A}", Ok(Node::Text("$${A}".to_owned()))),
            ("$${ ${A}", Ok(Node::Expanded("${ 1".to_owned()))),
            ("${B}", Err("not set, B,")),
            ("${secret}", Err("not set, expected")),
            ("${A", Err("without a variable's name")),
            ("${}", Err("without a variable's name")),
            ("${A-B}", Err("without a variable's name")),
        ];
        for (text, expected) in cases {
            match (expand(text, &env), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(part)) => assert!(found.contains(part), "{text}: {found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
