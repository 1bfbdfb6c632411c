//! No file makes the reader panic, whatever is in it.

use proptest::prelude::*;

use super::parse;

/// A file that uses every construct.
const RICH: &str = "\
listen: [127.0.0.1:3306, 'unix:/run/failsoft.sock']
admin: {http: 127.0.0.1:9306, token_env: FAILSOFT_ADMIN_TOKEN}
defaults: &defaults {port: 3306, user: app, pass: \"${APP_DB_PASS}\"}
users:
  - {name: app, pass: $${x}
  - name: other
    pass: |
      text
databases:
  - {host: db001, role: master, partition: [default]}
  - {host: db002, role: master, partition: [\"a_*\", b]}
  - {host: db003, port: 3310, role: replica, master: db001}
health: {interval: 3s, threshold: 5, timeout: 2s}
limits: {packet: 64MiB, idle_timeout: 1h30m}
tls: {clients: off, servers: verify, ca: /ca}
";

fn is_told(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse(text) {
        prop_assert!(!error.problems.is_empty());
        prop_assert!(error.to_string().starts_with("failsoft.yaml:"));
    } else {
        let config = parse(text).unwrap();
        prop_assert!(config.difference(&config).is_empty());
        let again = parse(&config.show());
        prop_assert!(again.is_ok(), "{again:?}\n{}", config.show());
        for change in config.difference(&again.unwrap()) {
            prop_assert_eq!(change.new, "*** (changed)", "{}", change.path);
        }
    }
    Ok(())
}

/// Pieces that mean something in YAML or here.
const PIECES: &[&str] = &[
    "",
    " ",
    "\n",
    "\n  ",
    "\t",
    "-",
    "- ",
    ":",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "!t ",
    "!!int ",
    "? ",
    "|",
    ">",
    "---\n",
    "...",
    "~",
    "<<: ",
    "${",
    "${X}",
    "$${",
    "0",
    "-1",
    "99999999999999999999",
    "1e9",
    ".nan",
    "true",
    "replica",
    "master: ",
    "host: ",
    "é",
    "\u{feff}",
    "\u{0}",
    "0s",
    "1h",
    "1GiB",
    "default",
    "databases:\n",
    "/",
    "unix:",
    "::1",
    "[::]:1",
];

#[test]
fn the_rich_file_is_fine() {
    let text = RICH.replace("pass: $${x}", "pass: \"$${\"}");
    assert!(parse(&text).is_ok(), "{:?}", parse(&text));
}

proptest! {
    #[test]
    fn any_text(text: String) {
        is_told(&text)?;
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        is_told(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        is_told(&pieces.concat())?;
    }

    #[test]
    fn mutated_files(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..12usize, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text = RICH.replace("pass: $${x}", "pass: \"$${\"}");
        for (at, cut, piece) in edits {
            let mut chars: Vec<char> = text.chars().collect();
            let from = at.index(chars.len().max(1)).min(chars.len());
            let to = (from + cut).min(chars.len());
            chars.splice(from..to, piece.chars());
            text = chars.into_iter().collect();
        }
        is_told(&text)?;
    }
}

#[test]
fn hundreds_of_problems_have_positions() {
    let server = "  - {host: a, rol: x, port: 0}\n";
    let text = format!("databases:\n{}", server.repeat(300));
    let problems = parse(&text).unwrap_err().problems;
    assert_eq!(problems.len(), 901);
    assert!(problems.iter().all(|problem| problem.position.is_some()));
}

#[test]
fn deep_and_repetitive_files_are_refused() {
    let deep = "[".repeat(5000);
    let nested = format!("listen: {}{}", "[".repeat(500), "]".repeat(500));
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, inner) in ('b'..='k').zip('a'..='j') {
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{inner}"); 8].join(", "));
    }
    for text in [deep, nested, bomb] {
        assert!(parse(&text).unwrap_err().to_string().contains("invalid YAML"));
    }
}
