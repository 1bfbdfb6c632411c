//! Statements whose tables, routines or schemas stand where their first words say.

use super::walk::{Place, VERBS, Walk, is_any, is_name};
use crate::token::Token;

/// How a statement is read on after its first word.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// `ALTER`, `CREATE`, `DROP` something.
    Define,
    /// `DESCRIBE` a table, `EXPLAIN` a statement.
    Explain,
    /// `GRANT`, `REVOKE`: what stands after `ON`.
    Grant,
    /// `HANDLER`.
    Handler,
    /// `LOAD DATA`, `LOAD INDEX`.
    Load,
    /// A list of tables after `TABLE`.
    Maintain,
    /// A routine or table at once.
    Name,
    /// No name of a table, whatever its words.
    Nothing,
    /// `RENAME TABLE`.
    Rename,
    /// Perhaps `SET STATEMENT … FOR` a statement.
    Set,
    /// `SHOW`.
    Show,
    /// `PREPARE … FROM` or `EXECUTE IMMEDIATE` a text.
    Text,
    /// `USE`.
    Use,
}

/// The first words that are not a query's, in alphabetical order.
const HEADS: &[(&str, Head)] = &[
    ("ALTER", Head::Define),
    ("ANALYZE", Head::Maintain),
    ("CACHE", Head::Maintain),
    ("CALL", Head::Name),
    ("CHANGE", Head::Nothing),
    ("CHECK", Head::Maintain),
    ("CHECKSUM", Head::Maintain),
    ("CREATE", Head::Define),
    ("DESC", Head::Explain),
    ("DESCRIBE", Head::Explain),
    ("DROP", Head::Define),
    ("EXECUTE", Head::Text),
    ("EXPLAIN", Head::Explain),
    ("FLUSH", Head::Maintain),
    ("GRANT", Head::Grant),
    ("HANDLER", Head::Handler),
    ("IMPORT", Head::Nothing),
    ("LOAD", Head::Load),
    ("LOCK", Head::Maintain),
    ("OPTIMIZE", Head::Maintain),
    ("PREPARE", Head::Text),
    ("RENAME", Head::Rename),
    ("REPAIR", Head::Maintain),
    ("REVOKE", Head::Grant),
    ("SET", Head::Set),
    ("SHOW", Head::Show),
    ("TRUNCATE", Head::Name),
    ("USE", Head::Use),
];

/// What can be explained, rather than a table.
const EXPLAINABLE: &[&str] = &[
    "ALTER", "DELETE", "FROM", "INSERT", "REPLACE", "SELECT", "TABLE", "UPDATE", "VALUES", "WITH",
];

impl Walk<'_, '_> {
    /// Looks through the statement at hand.
    pub(super) fn statement(&mut self) {
        let token = self.cursor.token;
        if is_any(token, VERBS) {
            self.verb(token, Token::END);
            return self.rest();
        }
        let Some((_, head)) = HEADS.iter().find(|(word, _)| token.is_word(word)) else {
            return self.rest();
        };
        self.cursor.bump();
        match head {
            Head::Define => self.define(token.is_word("CREATE"), token.is_word("ALTER")),
            Head::Explain => self.explain(),
            Head::Grant => self.grant(),
            Head::Handler => self.handler(),
            Head::Load => self.load(),
            Head::Maintain => self.maintain(token.is_word("ANALYZE")),
            Head::Name => {
                self.cursor.accept("TABLE");
                self.name(Place::Table);
                self.rest();
            }
            Head::Nothing => {}
            Head::Rename => self.rename_tables(),
            Head::Set => {
                if self.cursor.accept("STATEMENT") {
                    self.skip_past("FOR");
                    self.statement();
                } else {
                    self.rest();
                }
            }
            Head::Show => self.show(),
            Head::Text => {
                if token.is_word("PREPARE") {
                    self.skip_past("FROM");
                } else {
                    self.cursor.accept("IMMEDIATE");
                }
                self.text_of_statement();
            }
            Head::Use => {
                if is_name(self.cursor.token) {
                    let name = self.cursor.bump();
                    self.touch_by_use(name);
                }
            }
        }
    }

    /// Goes past the next `word` outside parentheses, or to the end.
    fn skip_past(&mut self, word: &str) {
        while !self.cursor.is_at_end() {
            let is_here = self.cursor.depth() == 0 && self.cursor.token.is_word(word);
            self.cursor.bump();
            if is_here {
                return;
            }
        }
    }

    /// Goes past the next comma outside parentheses; false if there is none before the end, or
    /// before what is no list of tables any more.
    fn skip_past_comma(&mut self) -> bool {
        while !self.cursor.is_at_end() {
            let token = self.cursor.bump();
            if is_any(token, &["UPDATE", "DROP", "IN"]) {
                return false;
            }
            if token.is_mark(b',') && self.cursor.depth() == 0 {
                return true;
            }
        }
        false
    }

    fn skip_if_exists(&mut self) {
        if self.cursor.accept("IF") {
            self.cursor.accept("NOT");
            self.cursor.accept("EXISTS");
        }
    }

    /// The names of a list of tables.
    fn names(&mut self) {
        loop {
            self.skip_if_exists();
            self.name(Place::Table);
            if !self.skip_past_comma() {
                return;
            }
        }
    }

    /// A schema's name stands here.
    fn schema(&mut self) {
        self.skip_if_exists();
        if is_name(self.cursor.token) {
            let name = self.cursor.bump();
            self.touch(name);
        }
    }

    fn define(&mut self, creates: bool, alters: bool) {
        const ROUTINES: &[&str] = &["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"];
        const ELSEWHERE: &[&str] =
            &["USER", "ROLE", "SERVER", "TABLESPACE", "LOGFILE", "RESOURCE", "INSTANCE"];
        while !self.cursor.is_at_end() {
            let token = self.cursor.bump();
            if token.is_word("DEFINER") {
                self.cursor.accept_mark(b'=');
                self.cursor.bump();
            } else if is_any(token, &["DATABASE", "SCHEMA"]) {
                return self.define_schema(alters);
            } else if is_any(token, &["TABLE", "TABLES", "VIEW", "SEQUENCE"]) {
                return self.define_table(creates, alters);
            } else if is_any(token, ROUTINES) {
                self.cursor.accept("BODY");
                self.skip_if_exists();
                self.name(Place::Table);
                return self.end_routine(creates, alters);
            } else if token.is_word("INDEX") {
                self.skip_past("ON");
                return self.name(Place::Table);
            } else if is_any(token, ELSEWHERE) {
                return;
            }
        }
    }

    /// `ALTER DATABASE` needs no name.
    fn define_schema(&mut self, alters: bool) {
        const OPTIONS: &[&str] =
            &["CHARACTER", "CHARSET", "COLLATE", "COMMENT", "DEFAULT", "ENCRYPTION", "READ"];
        match alters && is_any(self.cursor.token, OPTIONS) {
            true => self.touch_current(),
            false => self.schema(),
        }
    }

    fn define_table(&mut self, creates: bool, alters: bool) {
        if !creates && !alters {
            return self.names();
        }
        self.skip_if_exists();
        self.name(Place::Table);
        if creates {
            self.accept_open();
            if self.cursor.accept("LIKE") {
                return self.name(Place::Table);
            }
        }
        self.alters = alters;
        self.rest();
    }

    /// The statements of a routine do not run now, and go on to the end of the packet.
    fn end_routine(&mut self, creates: bool, alters: bool) {
        if creates {
            while !self.cursor.is_at_last_end() {
                self.cursor.bump();
            }
        }
        self.alters = alters;
        self.rest();
    }

    fn explain(&mut self) {
        loop {
            if self.cursor.accept("FORMAT") {
                self.cursor.accept_mark(b'=');
                self.cursor.bump();
            } else if self.cursor.accept("INTO") {
                self.cursor.bump();
            } else if self.cursor.accept("FOR") {
                if self.cursor.accept_any(&["SCHEMA", "DATABASE"]) {
                    self.schema();
                    self.has_schema = true;
                } else {
                    return;
                }
            } else if !self.cursor.accept_any(&["ANALYZE", "EXTENDED", "PARTITIONS"]) {
                break;
            }
        }
        let is_statement =
            self.cursor.token.is_mark(b'(') || is_any(self.cursor.token, EXPLAINABLE);
        if !is_statement {
            self.name(Place::Table);
        }
        self.rest();
    }

    fn grant(&mut self) {
        self.skip_past("ON");
        self.cursor.accept_any(&["TABLE", "FUNCTION", "PROCEDURE", "PACKAGE"]);
        self.cursor.accept("BODY");
        if !self.cursor.accept_mark(b'*') {
            self.name(Place::Table);
        } else if !self.cursor.accept_mark(b'.') {
            self.touch_current();
        }
    }

    /// What is read or closed may be called by an alias.
    fn handler(&mut self) {
        self.name(Place::Target);
        if self.cursor.token.is_word("OPEN") {
            let is_bare = is_name(self.cursor.last()) && !self.cursor.before().is_mark(b'.');
            if is_bare {
                self.touch_current();
            }
        }
        self.rest();
    }

    fn load(&mut self) {
        if self.cursor.accept("INDEX") {
            self.cursor.accept("INTO");
            self.cursor.accept("CACHE");
            return self.names();
        }
        self.loads = true;
        self.rest();
    }

    fn maintain(&mut self, may_be_statement: bool) {
        self.cursor.accept_any(&["LOCAL", "NO_WRITE_TO_BINLOG"]);
        if self.cursor.accept_any(&["TABLE", "TABLES", "VIEW", "INDEX"]) {
            if !self.cursor.is_at_end() && !self.cursor.token.is_word("WITH") {
                self.names();
            }
        } else if may_be_statement {
            self.explain();
        }
    }

    fn rename_tables(&mut self) {
        if !self.cursor.accept_any(&["TABLE", "TABLES"]) {
            return;
        }
        loop {
            self.skip_if_exists();
            self.name(Place::Table);
            self.skip_past("TO");
            self.name(Place::Table);
            if !self.skip_past_comma() {
                return;
            }
        }
    }

    fn show(&mut self) {
        const IN_SCHEMA: &[&str] = &["TABLES", "TRIGGERS", "EVENTS"];
        const IN_TABLE: &[&str] = &["COLUMNS", "FIELDS", "INDEX", "INDEXES", "KEYS"];
        self.cursor.accept_any(&["EXTENDED"]);
        self.cursor.accept_any(&["FULL", "OPEN"]);
        if self.cursor.accept("CREATE") {
            self.show_create();
        } else if self.cursor.accept_any(IN_SCHEMA) {
            self.show_in_schema();
        } else if self.cursor.accept("TABLE") {
            if self.cursor.accept("STATUS") {
                self.show_in_schema();
            }
        } else if self.cursor.accept_any(IN_TABLE) {
            self.show_in_table();
        } else if self.cursor.accept_any(&["PROCEDURE", "FUNCTION"]) && self.cursor.accept("CODE") {
            self.name(Place::Table);
        }
    }

    fn show_create(&mut self) {
        const OBJECTS: &[&str] =
            &["TABLE", "VIEW", "SEQUENCE", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"];
        if self.cursor.accept_any(&["DATABASE", "SCHEMA"]) {
            self.schema();
        } else if self.cursor.accept_any(OBJECTS) {
            self.cursor.accept("BODY");
            self.name(Place::Table);
        }
    }

    /// `SHOW TABLES [FROM schema]`
    fn show_in_schema(&mut self) {
        match self.cursor.accept_any(&["FROM", "IN"]) {
            true => self.schema(),
            false => self.touch_current(),
        }
    }

    /// `SHOW COLUMNS FROM [schema.]table [FROM schema]`
    fn show_in_table(&mut self) {
        if !self.cursor.accept_any(&["FROM", "IN"]) || !is_name(self.cursor.token) {
            return;
        }
        let first = self.cursor.bump();
        let is_qualified = self.cursor.accept_mark(b'.');
        if is_qualified {
            self.cursor.bump();
        }
        if self.cursor.accept_any(&["FROM", "IN"]) {
            self.schema();
        } else if is_qualified {
            self.touch(first);
        } else {
            self.touch_current();
        }
    }
}
