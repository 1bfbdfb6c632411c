//! The statements of the admin port, as a table.

use crate::api::Pause;

/// What a statement asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Command {
    Show(Shown),
    /// A statement is to be explained.
    Explain(String),
    ReadOnly {
        on: bool,
        partition: Option<String>,
    },
    Enable {
        server: String,
        enabled: bool,
    },
    Pause {
        hold_s: u64,
        partition: Option<String>,
    },
    Resume {
        partition: Option<String>,
    },
    Reload,
    Kill(u32),
    ResetStatements,
    Drain,
    Help,
}

/// What is to be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shown {
    Mode,
    Servers,
    Sessions,
    Pools,
    Events,
    Orders,
    UnknownOutcomes,
    Statements,
    RefusableStatements,
    SlowStatements,
    Config,
}

impl Command {
    /// What it is called in the audit log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Show(_) => "SHOW",
            Self::Explain(_) => "EXPLAIN ROUTE",
            Self::ReadOnly { .. } => "SET READ_ONLY",
            Self::Enable { enabled: true, .. } => "ENABLE SERVER",
            Self::Enable { enabled: false, .. } => "DISABLE SERVER",
            Self::Pause { .. } => "PAUSE",
            Self::Resume { .. } => "RESUME",
            Self::Reload => "RELOAD",
            Self::Kill(_) => "KILL",
            Self::ResetStatements => "RESET STATEMENTS",
            Self::Drain => "DRAIN",
            Self::Help => "HELP",
        }
    }

    /// Whether it changes something, and needs the token.
    pub(super) fn is_order(&self) -> bool {
        !matches!(self, Self::Show(_) | Self::Explain(_) | Self::Help)
    }
}

/// Every statement as it is written, with what it does.
pub const COMMANDS: &[(&str, &str)] = &[
    ("SHOW MODE", "What each partition can do, and why that is not everything."),
    ("SHOW SERVERS", "The servers, with the console's columns."),
    ("SHOW SESSIONS", "Clients, what they do, and what ties them to their server."),
    ("SHOW POOLS", "Connections to each server."),
    ("SHOW EVENTS", "What happened lately, the latest first."),
    ("SHOW ORDERS", "What operators ordered lately, and what they were refused."),
    ("SHOW UNKNOWN OUTCOMES", "Writes that were sent and not answered."),
    ("SHOW STATEMENTS", "What clients ask, by digest; what takes most time first."),
    (
        "SHOW REFUSABLE STATEMENTS",
        "Those of them that would be refused were the partition read-only.",
    ),
    ("SHOW SLOW STATEMENTS", "The latest that took longer than slow_statement."),
    ("SHOW CONFIG", "The configuration in force, without secrets."),
    ("EXPLAIN ROUTE statement", "What a statement is, and where it goes now."),
    (
        "SET READ_ONLY = ON|OFF [FOR PARTITION name]",
        "Switches read-only mode on, or undoes that; of all partitions where none is named.",
    ),
    ("DISABLE SERVER 'host:port'", "Takes a server out: no traffic, no checks."),
    ("ENABLE SERVER 'host:port'", "Undoes that."),
    (
        "PAUSE [FOR PARTITION name] [HOLD seconds]",
        "Has writes wait, each for so many seconds at most; 30 where it is not said.",
    ),
    ("RESUME [FOR PARTITION name]", "Lets writes go on."),
    ("RELOAD", "Reads the configuration again."),
    ("KILL SESSION id", "Ends a client's session."),
    ("RESET STATEMENTS", "Counts statements anew."),
    ("DRAIN", "Ends failsoft as SIGTERM does."),
    (
        "SHOW HELP",
        "This list. `HELP` does the same where the command line does not keep it to itself.",
    ),
];

/// What the words after SHOW mean.
const SHOWN: &[(&[&str], Shown)] = &[
    (&["MODE"], Shown::Mode),
    (&["SERVERS"], Shown::Servers),
    (&["SESSIONS"], Shown::Sessions),
    (&["PROCESSLIST"], Shown::Sessions),
    (&["FULL", "PROCESSLIST"], Shown::Sessions),
    (&["POOLS"], Shown::Pools),
    (&["EVENTS"], Shown::Events),
    (&["ORDERS"], Shown::Orders),
    (&["UNKNOWN", "OUTCOMES"], Shown::UnknownOutcomes),
    (&["STATEMENTS"], Shown::Statements),
    (&["REFUSABLE", "STATEMENTS"], Shown::RefusableStatements),
    (&["SLOW", "STATEMENTS"], Shown::SlowStatements),
    (&["CONFIG"], Shown::Config),
];

/// Reads a statement; none where it is none of these.
pub(super) fn parse(text: &str) -> Option<Command> {
    let words = words(text);
    let upper: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let keys: Vec<&str> = upper.iter().map(String::as_str).collect();
    match keys.as_slice() {
        ["SHOW", "HELP"] | ["HELP" | "?"] => Some(Command::Help),
        ["SHOW", rest @ ..] => {
            SHOWN.iter().find(|(known, _)| *known == rest).map(|(_, shown)| Command::Show(*shown))
        }
        ["EXPLAIN", "ROUTE", _, ..] => {
            let at = upper_find(text, "ROUTE")? + "ROUTE".len();
            Some(Command::Explain(text.get(at..)?.trim().to_owned()))
        }
        ["SET", "READ_ONLY", "=", switch, rest @ ..] => {
            let on = match *switch {
                "ON" | "1" | "TRUE" => true,
                "OFF" | "0" | "FALSE" => false,
                _ => return None,
            };
            let partition = partition(rest, words.get(4..)?)?;
            Some(Command::ReadOnly { on, partition })
        }
        ["DISABLE" | "ENABLE", "SERVER", _] => {
            let enabled = keys.first() == Some(&"ENABLE");
            Some(Command::Enable { server: words.get(2)?.clone(), enabled })
        }
        ["PAUSE", rest @ .., "HOLD", seconds] => {
            let hold_s = seconds.parse().ok()?;
            Some(Command::Pause { hold_s, partition: partition(rest, words.get(1..)?)? })
        }
        ["PAUSE", rest @ ..] => {
            let partition = partition(rest, words.get(1..)?)?;
            Some(Command::Pause { hold_s: Pause::usual(), partition })
        }
        ["RESUME", rest @ ..] => {
            Some(Command::Resume { partition: partition(rest, words.get(1..)?)? })
        }
        ["RELOAD"] => Some(Command::Reload),
        ["KILL", "SESSION" | "CONNECTION", id] | ["KILL", id] => id.parse().ok().map(Command::Kill),
        ["RESET", "STATEMENTS"] => Some(Command::ResetStatements),
        ["DRAIN"] => Some(Command::Drain),
        _ => None,
    }
}

/// `FOR PARTITION name`, or nothing.
fn partition(keys: &[&str], words: &[String]) -> Option<Option<String>> {
    match keys {
        [] => Some(None),
        ["FOR", "PARTITION", _] => words.get(2).map(|name| Some(name.clone())),
        _ => None,
    }
}

fn upper_find(text: &str, word: &str) -> Option<usize> {
    text.to_ascii_uppercase().find(word)
}

/// The words of a statement: `=` is one, what is quoted is one, and the semicolon at the end is none.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut letters = text.trim().trim_end_matches(';').chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            letter if letter.is_whitespace() => {}
            '=' => words.push("=".to_owned()),
            quote @ ('\'' | '"' | '`') => {
                words.push(letters.by_ref().take_while(|it| *it != quote).collect());
            }
            letter => {
                let mut word = String::from(letter);
                while let Some(next) = letters.next_if(|it| !it.is_whitespace() && *it != '=') {
                    word.push(next);
                }
                words.push(word);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_understood() {
        let all = |on| Command::ReadOnly { on, partition: None };
        let blog = || Some("Blog".to_owned());
        let server = |enabled| Command::Enable { server: "db1:3306".into(), enabled };
        let table = [
            ("SHOW SERVERS", Some(Command::Show(Shown::Servers))),
            ("  show\tunknown  outcomes ; ", Some(Command::Show(Shown::UnknownOutcomes))),
            ("show full processlist", Some(Command::Show(Shown::Sessions))),
            ("SHOW", None),
            ("SHOW SERVERS please", None),
            ("explain route SELECT 'route' ;", Some(Command::Explain("SELECT 'route' ;".into()))),
            ("EXPLAIN ROUTE", None),
            ("SET READ_ONLY = ON", Some(all(true))),
            ("set read_only=off;", Some(all(false))),
            ("SET READ_ONLY = perhaps", None),
            (
                "SET READ_ONLY=1 FOR PARTITION Blog",
                Some(Command::ReadOnly { on: true, partition: blog() }),
            ),
            ("DISABLE SERVER 'db1:3306'", Some(server(false))),
            ("enable server db1:3306", Some(server(true))),
            ("ENABLE SERVER", None),
            ("PAUSE", Some(Command::Pause { hold_s: 30, partition: None })),
            ("PAUSE HOLD 5", Some(Command::Pause { hold_s: 5, partition: None })),
            (
                "PAUSE FOR PARTITION `Blog` HOLD 5",
                Some(Command::Pause { hold_s: 5, partition: blog() }),
            ),
            ("PAUSE HOLD long", None),
            ("RESUME FOR PARTITION Blog", Some(Command::Resume { partition: blog() })),
            ("KILL 7", Some(Command::Kill(7))),
            ("KILL SESSION 1073741825", Some(Command::Kill(1_073_741_825))),
            ("KILL SESSION x", None),
            ("help", Some(Command::Help)),
            ("show help;", Some(Command::Help)),
            ("SELECT 1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn every_statement_of_the_table_is_understood() {
        for (written, _) in COMMANDS {
            let needed = written.split(" [").next().unwrap();
            let plain = needed.replace("ON|OFF", "ON").replace("id", "7");
            assert!(parse(&plain).is_some(), "{plain}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_statement_is_too_odd(text: String) {
            let _understood = parse(&text);
        }
    }
}
