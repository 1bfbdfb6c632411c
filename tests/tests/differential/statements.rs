//! The statements that scripts are made of: draws them from a grammar.

use testkit::Flavor;

use crate::script::Script;

/// The grammar; it says itself how it is to be read.
const GRAMMAR: &str = include_str!("../../corpus/sessions.txt");

/// What a script's schema has to begin with: the table `a`, and whatever else the script names. Definitions
/// are what a session takes longest for.
pub fn setup(script: &Script) -> String {
    let text = format!("{:?}", script.steps);
    let needed = SETUP.iter().filter(|(names, _)| names.iter().any(|name| is_word_of(&text, name)));
    needed.map(|(_, sql)| format!("; {sql}")).collect()
}

/// Whether a text has this word; the empty one is everywhere.
fn is_word_of(text: &str, name: &str) -> bool {
    if name.is_empty() {
        return true;
    }
    let goes_on = |byte: Option<&u8>| byte.is_some_and(|&b| b.is_ascii_alphanumeric() || b == b'_');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text.as_bytes()[..at], &text.as_bytes()[at + name.len()..]);
        !goes_on(before.last()) && !goes_on(after.first())
    })
}

/// What there may be in a schema, each with the names for which it is needed.
const SETUP: &[(&[&str], &str)] = &[
    (
        &[""],
        "CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, n INT, s VARCHAR(40), d DECIMAL(10,3), \
     t DATETIME, u INT UNIQUE) ENGINE=InnoDB",
    ),
    (
        &[""],
        "INSERT INTO a VALUES (1, 10, 'one', 1.5, '2020-02-29 01:02:03', 1), \
     (2, 20, 'zwei', -2.25, NULL, 2), (3, NULL, 'ä€😀', 0, '1999-12-31 23:59:59', 3), \
     (4, -5, '', NULL, '2001-01-01', NULL), (5, 10, NULL, 99.999, NULL, NULL)",
    ),
    (
        &["b", "writes"],
        "CREATE TABLE b (id INT PRIMARY KEY, a INT, note TEXT, \
     FOREIGN KEY (a) REFERENCES a (id)) ENGINE=InnoDB",
    ),
    (&["b", "writes"], "INSERT INTO b VALUES (1, 1, 'first'), (2, 1, NULL), (3, 3, 'third')"),
    (
        &["k"],
        "CREATE TABLE k (id INT PRIMARY KEY, ti TINYINT, bu BIGINT UNSIGNED, de DECIMAL(30,10), \
     fl FLOAT, dou DOUBLE, bi BIT(9), ch CHAR(10), bin BINARY(4), tx TEXT, bl BLOB, \
     en ENUM('x','y'), se SET('x','y','z'), da DATE, ti6 TIME(6), dt6 DATETIME(6), \
     ts TIMESTAMP NULL, ye YEAR, js JSON) ENGINE=InnoDB",
    ),
    (
        &["k"],
        "INSERT INTO k VALUES (1, -128, 18446744073709551615, -12345.0123456789, 1.5, -2.5e-300, \
     257, 'char', 'b', 'text', X'0001FF', 'y', 'x,z', '2020-02-29', '-100:00:01.5', \
     '9999-12-31 23:59:59.999999', '2001-02-03 04:05:06', 2155, '[1, null]'), \
     (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     NULL, NULL, NULL, NULL)",
    ),
    (
        &["results"],
        "CREATE PROCEDURE results (IN n INT, OUT o INT, INOUT io VARCHAR(20)) BEGIN SELECT n, io; \
     SELECT id, s FROM a WHERE id <= n ORDER BY id; SET o = n * 2, io = CONCAT(io, '!'); END",
    ),
    (
        &["writes"],
        "CREATE PROCEDURE writes (n INT) BEGIN INSERT INTO a (n, s) VALUES (n, 'by writes'); \
     SELECT COUNT(*) FROM a; UPDATE b SET note = n WHERE id = 1; END",
    ),
    (&["twice"], "CREATE FUNCTION twice (n INT) RETURNS INT DETERMINISTIC RETURN 2 * n"),
    (
        &["adds"],
        "CREATE FUNCTION adds (n INT) RETURNS INT MODIFIES SQL DATA BEGIN \
     INSERT INTO a (n) VALUES (n); RETURN n; END",
    ),
];

/// The texts of this name, those of one flavour included.
fn texts(name: &str, flavor: Flavor) -> Vec<&'static str> {
    let own = format!("{name} {flavor}");
    let mut texts = Vec::new();
    let mut is_named = false;
    for line in GRAMMAR.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.strip_prefix("= ") {
            Some(heading) => is_named = heading == name || heading == own,
            None if is_named => texts.extend(line.split(" | ")),
            None => {}
        }
    }
    texts
}

/// Draws a text of this name.
pub fn draw(name: &str, flavor: Flavor, rng: &mut fastrand::Rng) -> String {
    let drawn = rng.choice(texts(name, flavor));
    fill(drawn.unwrap_or_else(|| panic!("no texts of the name {name}")), flavor, rng)
}

/// Fills in what stands for other texts.
fn fill(template: &str, flavor: Flavor, rng: &mut fastrand::Rng) -> String {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
    {
        text += &before.replace("\\n", "\n");
        match name {
            "none" => {}
            "s" => text += "{s}",
            _ => text += &draw(name, flavor, rng),
        }
        rest = after;
    }
    text += &rest.replace("\\n", "\n");
    text
}
