//! What a session does: its login, and its steps as bytes of the protocol.

use std::{fmt, slice};

use crate::raw::{Kind, QUERY_ATTRIBUTES, com, execution, lenenc, lenenc_bytes};
use testkit::capability;

/// Statements that a script may have prepared at a time.
pub const SLOTS: usize = 4;
/// An id that no server gives out.
const NO_STATEMENT: u32 = 0x7fff_fff0;

/// One session.
#[derive(Clone, Debug)]
pub struct Script {
    pub login: Choice,
    pub steps: Vec<Step>,
    /// Nothing in it is lost with a connection: no error may tell of a change of server.
    pub is_carried: bool,
    /// A statement is executed with the values that it had first. MySQL resolves one by the types of
    /// those, for as long as it is there: by what it had before, a server that is new cannot.
    pub keeps_values: bool,
    /// What a statement leaves for the next may be lost at any time.
    pub is_shared: bool,
}

impl Script {
    /// All that is prepared in a slot.
    pub fn prepared_in(&self, wanted: usize) -> impl Iterator<Item = &str> {
        self.steps.iter().flat_map(Step::parts).filter_map(move |step| match step {
            Step::Prepare { slot, sql } if *slot == wanted => Some(sql.as_str()),
            _ => None,
        })
    }
}

/// What a client may choose about its login.
#[derive(Clone, Debug)]
pub struct Choice {
    pub capabilities: u32,
    pub extended: u32,
    pub collation: u8,
    pub with_schema: bool,
    pub with_attributes: bool,
}

/// A parameter or an attribute of the binary protocol.
#[derive(Clone)]
pub struct Value {
    pub kind: u8,
    pub unsigned: bool,
    /// None is NULL.
    pub bytes: Option<Vec<u8>>,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unsigned { "unsigned " } else { "" };
        match &self.bytes {
            Some(bytes) => write!(f, "{sign}{} '{}'", self.kind, bytes.escape_ascii()),
            None => write!(f, "{sign}{} NULL", self.kind),
        }
    }
}

/// One step. `{s}` in texts is the session's schema.
#[derive(Clone, Debug)]
pub enum Step {
    /// `COM_QUERY`; the attributes go where the client agreed on them.
    Query {
        sql: String,
        attributes: Vec<Value>,
    },
    /// `LOAD DATA LOCAL`: what is sent if the server asks.
    Load {
        sql: String,
        pieces: Vec<String>,
    },
    Prepare {
        slot: usize,
        sql: String,
    },
    Execute {
        slot: usize,
        flags: u8,
        with_types: bool,
        values: Vec<Value>,
        attributes: Vec<Value>,
    },
    /// MariaDB's bulk execution.
    Bulk {
        slot: usize,
        rows: Vec<Vec<Value>>,
    },
    LongData {
        slot: usize,
        at: u16,
        data: String,
    },
    Fetch {
        slot: usize,
        rows: u32,
    },
    Reset {
        slot: usize,
    },
    Close {
        slot: usize,
    },
    /// A command with a reply of one packet.
    Command {
        code: u8,
        rest: String,
    },
    Option(u16),
    FieldList(String),
    ChangeUser {
        with_schema: bool,
        wrong: bool,
    },
    /// Several sent at once, and their replies read after that.
    Burst(Vec<Self>),
    /// What is no command. The session is over after it.
    Malformed(Vec<u8>),
    /// All session variables.
    Variables,
    /// The proxied session loses its connection to the server at a moment when nothing is in flight.
    /// A ping before it, on both sides, makes sure that nothing is: what has no reply may be on its
    /// way still, and so may what failsoft asks for after an error.
    Cut {
        after_ping: bool,
    },
    /// The proxied session loses its connection to the server once so many more bytes went by.
    CutAfter {
        to_server: bool,
        bytes: usize,
    },
}

/// A statement that a server prepared.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The server's id of it.
    pub id: u32,
    pub parameters: usize,
    /// What it was executed with last, with types.
    pub last: Option<Vec<Value>>,
}

/// What a step's bytes depend on.
#[derive(Debug)]
pub struct Context<'a> {
    pub schema: &'a str,
    pub prepared: [Option<Prepared>; SLOTS],
    /// What was agreed on.
    pub capabilities: u32,
    /// Whether statements are executed with the values that they had first.
    pub keeps_values: bool,
}

impl Context<'_> {
    pub fn has(&self, capability: u32) -> bool {
        self.capabilities & capability != 0
    }

    fn id(&self, slot: usize) -> u32 {
        self.prepared[slot].as_ref().map_or(NO_STATEMENT, |prepared| prepared.id)
    }

    /// As many values as the statement has parameters; without types those that the server has.
    fn fit(&mut self, slot: usize, values: &[Value], with_types: bool) -> (Vec<Value>, bool) {
        let keeps_values = self.keeps_values;
        let Some(prepared) = &mut self.prepared[slot] else { return (values.to_vec(), true) };
        if let Some(last) = prepared.last.as_ref().filter(|_| !with_types || keeps_values) {
            return (last.clone(), with_types);
        }
        let fitting: Vec<Value> =
            values.iter().cycle().take(prepared.parameters).cloned().collect();
        prepared.last = Some(fitting.clone());
        (fitting, true)
    }

    fn text(&self, sql: &str) -> Vec<u8> {
        sql.replace("{s}", self.schema).into_bytes()
    }
}

impl Step {
    /// A ping.
    pub const PING: Self = Self::Command { code: com::PING, rest: String::new() };

    /// The steps of a burst, or the step itself.
    fn parts(&self) -> &[Self] {
        if let Self::Burst(steps) = self { steps } else { slice::from_ref(self) }
    }

    /// How many statements it has.
    pub fn statements(&self) -> usize {
        match self {
            Self::Query { .. }
            | Self::Load { .. }
            | Self::Prepare { .. }
            | Self::Execute { .. }
            | Self::Bulk { .. }
            | Self::Variables => 1,
            Self::Burst(steps) => steps.iter().map(Self::statements).sum(),
            _ => 0,
        }
    }

    /// Whether a connection to the server is cut.
    pub const fn cuts(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::CutAfter { .. })
    }

    /// What kind of reply it has; none if it has none.
    pub const fn reply(&self) -> Option<Kind> {
        match self {
            Self::Query { .. }
            | Self::Load { .. }
            | Self::Execute { .. }
            | Self::Bulk { .. }
            | Self::Malformed(_)
            | Self::Variables => Some(Kind::Results),
            Self::Prepare { .. } => Some(Kind::Prepared),
            Self::Fetch { .. } | Self::FieldList(_) => Some(Kind::Rows),
            Self::Reset { .. } | Self::Command { .. } | Self::Option(_) => Some(Kind::One),
            Self::LongData { .. } | Self::Close { .. } => None,
            Self::ChangeUser { .. } | Self::Burst(_) | Self::Cut { .. } | Self::CutAfter { .. } => {
                None
            }
        }
    }

    /// The command's payload.
    pub fn payload(&self, context: &mut Context<'_>) -> Vec<u8> {
        match self {
            Self::Query { sql, attributes } => query(context, sql, attributes),
            Self::Load { sql, .. } => query(context, sql, &[]),
            Self::Variables => query(context, "SHOW SESSION VARIABLES", &[]),
            Self::Prepare { sql, .. } => [&[com::STMT_PREPARE], &*context.text(sql)].concat(),
            Self::Execute { slot, flags, with_types, values, attributes } => {
                let id = context.id(*slot);
                let attributes = context.has(QUERY_ATTRIBUTES).then_some(&**attributes);
                let with_types = *with_types || attributes.is_some_and(|all| !all.is_empty());
                let (values, with_types) = context.fit(*slot, values, with_types);
                execute(id, *flags, with_types, &values, attributes)
            }
            Self::Bulk { slot, rows } => {
                let fitting = |row: &Vec<Value>| context.fit(*slot, row, true).0;
                let rows: Vec<_> = rows.iter().map(fitting).collect();
                bulk(context.id(*slot), &rows)
            }
            Self::LongData { slot, at, data } => {
                let id = context.id(*slot).to_le_bytes();
                [&[com::STMT_SEND_LONG_DATA], &id[..], &at.to_le_bytes(), data.as_bytes()].concat()
            }
            Self::Fetch { slot, rows } => {
                let id = context.id(*slot).to_le_bytes();
                [&[com::STMT_FETCH], &id[..], &rows.to_le_bytes()].concat()
            }
            Self::Reset { slot } => {
                [&[com::STMT_RESET], &context.id(*slot).to_le_bytes()[..]].concat()
            }
            Self::Close { slot } => {
                [&[com::STMT_CLOSE], &context.id(*slot).to_le_bytes()[..]].concat()
            }
            Self::Command { code, rest } => [&[*code], &*context.text(rest)].concat(),
            Self::Option(option) => [&[com::SET_OPTION], &option.to_le_bytes()[..]].concat(),
            Self::FieldList(table) => [&[com::FIELD_LIST], table.as_bytes(), b"\0"].concat(),
            Self::Malformed(bytes) => bytes.clone(),
            Self::ChangeUser { .. } | Self::Burst(_) | Self::Cut { .. } | Self::CutAfter { .. } => {
                Vec::new()
            }
        }
    }
}

/// `COM_QUERY` (P: page_protocol_com_query).
fn query(context: &Context<'_>, sql: &str, attributes: &[Value]) -> Vec<u8> {
    let mut payload = vec![com::QUERY];
    if context.has(QUERY_ATTRIBUTES) {
        payload.extend(lenenc(attributes.len()));
        payload.push(1);
        if !attributes.is_empty() {
            let names: Vec<_> = (0..attributes.len()).map(|at| format!("q{at}")).collect();
            put_values(&mut payload, attributes, Some(&names));
        }
    }
    payload.extend(context.text(sql));
    payload
}

/// `COM_STMT_EXECUTE` (P: page_protocol_com_stmt_execute). Where attributes were agreed on, parameters
/// are counted and have names, whether there are attributes or not.
fn execute(
    id: u32,
    flags: u8,
    with_types: bool,
    values: &[Value],
    attributes: Option<&[Value]>,
) -> Vec<u8> {
    const PARAMETER_COUNT_AVAILABLE: u8 = 8;
    let counted = if attributes.is_some() { PARAMETER_COUNT_AVAILABLE } else { 0 };
    let mut payload = [&[com::STMT_EXECUTE], &*execution(id, flags | counted)].concat();
    let all = [values, attributes.unwrap_or_default()].concat();
    if attributes.is_some() {
        payload.extend(lenenc(all.len()));
    }
    if all.is_empty() {
        return payload;
    }
    if with_types {
        let name = |at: usize| if at < values.len() { String::new() } else { format!("e{at}") };
        let names: Vec<_> = (0..all.len()).map(name).collect();
        put_values(&mut payload, &all, attributes.map(|_| &*names));
    } else {
        payload.extend(nulls(&all));
        payload.push(0);
        payload.extend(all.iter().filter_map(|value| value.bytes.clone()).flatten());
    }
    payload
}

fn put_values(payload: &mut Vec<u8>, values: &[Value], names: Option<&[String]>) {
    payload.extend(nulls(values));
    payload.push(1);
    for (at, value) in values.iter().enumerate() {
        payload.extend([value.kind, u8::from(value.unsigned) << 7]);
        if let Some(names) = names {
            payload.extend(lenenc_bytes(names[at].as_bytes()));
        }
    }
    payload.extend(values.iter().filter_map(|value| value.bytes.clone()).flatten());
}

fn nulls(values: &[Value]) -> Vec<u8> {
    let mut bitmap = vec![0; values.len().div_ceil(8)];
    for (at, value) in values.iter().enumerate() {
        bitmap[at / 8] |= u8::from(value.bytes.is_none()) << (at % 8);
    }
    bitmap
}

/// MariaDB's `COM_STMT_BULK_EXECUTE`, with types.
fn bulk(id: u32, rows: &[Vec<Value>]) -> Vec<u8> {
    let mut payload = [&[com::STMT_BULK_EXECUTE], &id.to_le_bytes()[..], &[128, 0]].concat();
    for value in rows.first().into_iter().flatten() {
        payload.extend([value.kind, u8::from(value.unsigned) << 7]);
    }
    for value in rows.iter().flatten() {
        payload.push(u8::from(value.bytes.is_none()));
        payload.extend(value.bytes.iter().flatten());
    }
    payload
}

/// A packet of sequence id 0.
pub fn packet(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short packet").to_le_bytes();
    [&length[..3], &[0], payload].concat()
}

impl Choice {
    /// Its capabilities by name, for reports.
    pub fn names(&self) -> String {
        let named = OPTIONAL.iter().filter(|(bit, _)| self.capabilities & bit != 0);
        let names: Vec<&str> = named.map(|(_, name)| *name).collect();
        let (extended, collation) = (self.extended, self.collation);
        format!("{} extended {extended:#x} collation {collation}", names.join("|"))
    }
}

/// The capabilities that are drawn.
pub const OPTIONAL: &[(u32, &str)] = &[
    (1, "LONG_PASSWORD"),
    (capability::FOUND_ROWS, "FOUND_ROWS"),
    (1 << 2, "LONG_FLAG"),
    (1 << 4, "NO_SCHEMA"),
    (1 << 6, "ODBC"),
    (capability::LOCAL_FILES, "LOCAL_FILES"),
    (1 << 8, "IGNORE_SPACE"),
    (crate::raw::INTERACTIVE, "INTERACTIVE"),
    (capability::TRANSACTIONS, "TRANSACTIONS"),
    (capability::MULTI_STATEMENTS, "MULTI_STATEMENTS"),
    (capability::MULTI_RESULTS, "MULTI_RESULTS"),
    (capability::PS_MULTI_RESULTS, "PS_MULTI_RESULTS"),
    (capability::SESSION_TRACK, "SESSION_TRACK"),
    (capability::DEPRECATE_EOF, "DEPRECATE_EOF"),
    (capability::OPTIONAL_METADATA, "OPTIONAL_METADATA"),
    (QUERY_ATTRIBUTES, "QUERY_ATTRIBUTES"),
];
