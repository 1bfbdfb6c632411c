//! Draws scripts. The same seed gives the same script.

use fastrand::Rng;
use testkit::{Flavor, capability};

use crate::raw::{STMT_BULK, com, lenenc_bytes};
use crate::script::{Choice, OPTIONAL, SLOTS, Script, Step, Value};
use crate::statements::draw;

/// Fewest statements of a script.
const FEWEST: usize = 20;
/// Most that a script goes on for.
const MOST: usize = 40;
/// MariaDB's extended capabilities that replies depend on: bulk execution, extended metadata.
const EXTENDED: &[u32] = &[STMT_BULK, 1 << 3];

/// What scripts are drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server stays.
    Still,
    /// The proxied session shares the only connection with another, which takes it all the time.
    Shared,
    /// The proxied session loses its connection to the server now and then.
    Moving,
}

struct Author {
    rng: Rng,
    flavor: Flavor,
    is_carried: bool,
    /// MariaDB's extended capabilities that the client asks for.
    extended: u32,
    /// The statements that must not be executed with a cursor, by slot.
    without_cursor: [bool; SLOTS],
}

/// The script of a seed.
pub fn script(seed: u64, flavor: Flavor, mode: Mode) -> Script {
    let mut rng = Rng::with_seed(seed);
    let is_carried = mode == Mode::Moving && rng.bool();
    let mut author =
        Author { rng, flavor, is_carried, extended: 0, without_cursor: [false; SLOTS] };
    let mut login = author.login();
    author.extended = login.extended;
    let count = author.rng.usize(FEWEST..=MOST);
    let mut steps: Vec<Step> = Vec::new();
    while steps.iter().map(Step::statements).sum::<usize>() < count {
        steps.push(author.step());
    }
    let is_cut_anywhere = mode == Mode::Moving && author.rng.bool();
    if mode == Mode::Moving {
        author.cut(&mut steps, is_cut_anywhere);
    }
    // Session variables are many: not after each script.
    if mode == Mode::Moving || author.rng.u8(0..8) == 0 {
        steps.push(Step::Variables);
    } else if author.rng.u8(0..8) == 0 {
        steps.push(author.malformed());
    }
    leave_out_definitions(Rng::with_seed(!seed), flavor, &mut login, &mut steps);
    let keeps_values = flavor == Flavor::MySql && mode != Mode::Still;
    Script { login, steps, is_carried, keeps_values, is_shared: mode == Mode::Shared }
}

/// Lets some clients do without definitions of columns. Drawn apart, so that a seed stands for the
/// same statements with and without them.
fn leave_out_definitions(mut rng: Rng, flavor: Flavor, login: &mut Choice, steps: &mut Vec<Step>) {
    match flavor {
        _ if rng.u8(0..3) != 0 => {}
        Flavor::MariaDb if login.capabilities & 1 == 0 => {
            login.extended |= capability::CACHE_METADATA;
        }
        Flavor::MariaDb => {}
        Flavor::MySql => {
            login.capabilities |= capability::OPTIONAL_METADATA;
            for value in ["FULL", "NONE"] {
                let sql = format!("SET resultset_metadata = {value}");
                let set = Step::Query { sql, attributes: Vec::new() };
                steps.insert(rng.usize(0..steps.len()), set);
            }
        }
    }
}

impl Author {
    fn login(&mut self) -> Choice {
        let mut capabilities = capability::USUAL;
        for (bit, _) in OPTIONAL.iter().filter(|(bit, _)| *bit != capability::OPTIONAL_METADATA) {
            // MariaDB takes a client that says so for one of MySQL's, without extended capabilities.
            let chance = if *bit == 1 { 0.2 } else { 0.6 };
            capabilities &= !bit;
            if self.rng.f64() < chance {
                capabilities |= bit;
            }
        }
        if capabilities & capability::PS_MULTI_RESULTS != 0 {
            capabilities |= capability::MULTI_RESULTS;
        }
        let extended = EXTENDED.iter().filter(|_| self.rng.bool()).sum::<u32>();
        let is_mariadb = self.flavor == Flavor::MariaDb && capabilities & 1 == 0;
        Choice {
            capabilities,
            extended: if is_mariadb { extended } else { 0 },
            collation: *self.pick(&[45, 45, 45, 33, 8, 28, 63, 192]),
            with_schema: self.is_carried || self.rng.u8(0..8) != 0,
            with_attributes: self.rng.bool(),
        }
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.rng.usize(0..choices.len())]
    }

    fn text(&mut self, name: &str) -> String {
        draw(name, self.flavor, &mut self.rng)
    }

    fn statement(&mut self) -> String {
        let name = if self.is_carried { "carried" } else { "statement" };
        self.text(name)
    }

    fn step(&mut self) -> Step {
        match self.rng.u8(0..40) {
            0..=2 => self.prepare(),
            3..=7 => self.execute(),
            8 if !self.is_carried => self.fetch(),
            9 if !self.is_carried => self.long_data(),
            10 => Step::Reset { slot: self.slot() },
            11 => Step::Close { slot: self.slot() },
            12..=14 => self.command(),
            15..=16 if self.extended & STMT_BULK != 0 => self.bulk(),
            17 if !self.is_carried => self.load(),
            18..=19 => self.burst(),
            _ => self.query(),
        }
    }

    fn query(&mut self) -> Step {
        let attributes = if self.rng.u8(0..4) == 0 { self.values(2) } else { Vec::new() };
        Step::Query { sql: self.statement(), attributes }
    }

    fn slot(&mut self) -> usize {
        // Rather the first: statements that are there are more interesting than those that are not.
        self.rng.usize(0..SLOTS).min(self.rng.usize(0..SLOTS))
    }

    fn prepare(&mut self) -> Step {
        let too = !self.is_carried && self.rng.u8(0..3) == 0;
        let sql = self.text(if too { "prepared_too" } else { "prepared" });
        let slot = self.slot();
        // MariaDB 10.11 crashes where one with RETURNING is executed with a cursor, MySQL 9.7 where an
        // EXPLAIN is.
        self.without_cursor[slot] = sql.contains("RETURNING") || sql.contains("EXPLAIN");
        Step::Prepare { slot, sql }
    }

    fn execute(&mut self) -> Step {
        let slot = self.slot();
        let attributes = if self.rng.u8(0..6) == 0 { self.values(1) } else { Vec::new() };
        Step::Execute {
            slot,
            flags: u8::from(self.wants_cursor(slot)),
            with_types: self.rng.u8(0..4) != 0,
            values: self.values(3),
            attributes,
        }
    }

    /// Whether an execution asks for a cursor. On MySQL 9.7 a statement that was executed with one
    /// first never can be without: the reply has an OK in place of the rows, and no end.
    fn wants_cursor(&mut self, slot: usize) -> bool {
        match self.flavor {
            _ if self.is_carried || self.without_cursor[slot] => false,
            Flavor::MariaDb => self.rng.u8(0..4) == 0,
            Flavor::MySql => slot >= SLOTS / 2,
        }
    }

    fn bulk(&mut self) -> Step {
        let first: Vec<Value> = self.values(3);
        let mut rows = vec![first];
        for _ in 0..self.rng.usize(0..3) {
            let row = rows[0].clone();
            rows.push(row);
        }
        Step::Bulk { slot: self.slot(), rows }
    }

    fn fetch(&mut self) -> Step {
        Step::Fetch { slot: self.slot(), rows: self.rng.u32(1..4) }
    }

    fn long_data(&mut self) -> Step {
        let data = self.pick(&["", "long", "ä€😀", "7"]).repeat(self.rng.usize(1..50));
        Step::LongData { slot: self.slot(), at: self.rng.u16(0..3), data }
    }

    fn load(&mut self) -> Step {
        let tables = ["a (id, s)", "b", "nowhere", "b (id, @v1)"];
        let table = self.pick(&tables);
        let sql = format!("LOAD DATA LOCAL INFILE 'f' INTO TABLE {table} FIELDS TERMINATED BY ','");
        let lines = ["60,one\n", "61,", "tw", "o\n", "62\n", "1,again\n", "x,y,z\n", ",,\n"];
        let pieces = (0..self.rng.usize(0..5)).map(|_| (*self.pick(&lines)).to_owned()).collect();
        Step::Load { sql, pieces }
    }

    fn command(&mut self) -> Step {
        let command = |code, rest: &str| Step::Command { code, rest: rest.to_owned() };
        match self.rng.u8(0..20) {
            0..=3 => command(com::PING, ""),
            4..=6 => command(com::INIT_DB, "{s}"),
            7 => command(com::INIT_DB, "information_schema"),
            8 => command(com::INIT_DB, "nodb"),
            9 => command(com::STATISTICS, ""),
            10..=11 => command(com::RESET_CONNECTION, ""),
            12..=13 => Step::Option(*self.pick(&[0, 0, 1, 7])),
            14..=15 => {
                let tables = ["a", "k", "b\0n%", "nowhere", "w1"];
                Step::FieldList((*self.pick(&tables)).to_owned())
            }
            16 if !self.is_carried => {
                Step::ChangeUser { with_schema: self.rng.u8(0..4) != 0, wrong: false }
            }
            17 if !self.is_carried && self.rng.u8(0..8) == 0 => {
                Step::ChangeUser { with_schema: true, wrong: true }
            }
            _ => self.query(),
        }
    }

    /// No step in it needs what another's reply says.
    fn burst(&mut self) -> Step {
        let count = self.rng.usize(2..8);
        let steps = (0..count).map(|_| match self.rng.u8(0..6) {
            0 => self.execute(),
            1 => self.prepare(),
            2 => Step::Command { code: com::PING, rest: String::new() },
            _ => self.query(),
        });
        Step::Burst(steps.collect())
    }

    /// Both servers answer these with an error, or close.
    fn malformed(&mut self) -> Step {
        let packets: [&[u8]; 5] = [b"", b"\x77abc", b"\xf0", b"\x17\x01", b"\x1c\x01\0\0"];
        Step::Malformed((*self.pick(&packets)).to_vec())
    }

    /// Puts cuts between the steps: at moments when nothing is in flight, or once so many bytes went
    /// by.
    fn cut(&mut self, steps: &mut Vec<Step>, is_anywhere: bool) {
        for _ in 0..self.rng.usize(1..4) {
            let at = self.rng.usize(1..=steps.len());
            let cut = if is_anywhere && self.rng.bool() {
                let bytes = *self.pick(&[0, 1, 5, 20, 100, 500, 2000]);
                Step::CutAfter { to_server: self.rng.bool(), bytes: self.rng.usize(0..=bytes) }
            } else {
                Step::Cut { after_ping: self.is_carried || self.rng.bool() }
            };
            steps.insert(at, cut);
        }
    }

    /// Up to this many values.
    fn values(&mut self, most: usize) -> Vec<Value> {
        (0..self.rng.usize(1..=most)).map(|_| self.value()).collect()
    }

    fn value(&mut self) -> Value {
        let number = *self.pick(&[0_u8, 1, 2, 3, 7, 127, 200, 255]);
        let texts = ["", "x", "ä€😀", "12", "2020-02-29", "it's"];
        let text = lenenc_bytes(self.pick(&texts).as_bytes());
        let (kind, bytes): (u8, Vec<u8>) = match self.rng.u8(0..12) {
            0 => (1, vec![number]),
            1 => (2, vec![number, 0]),
            2 => (3, vec![number, 0, 0, 0]),
            3 | 4 => (8, [&[number][..], &[0; 7]].concat()),
            5 => (4, f32::from(number).to_le_bytes().to_vec()),
            6 => (5, (f64::from(number) / 8.0).to_le_bytes().to_vec()),
            // Year, month, day; hour, minute, second; microseconds.
            7 => (12, vec![11, 0xe4, 7, 2, 29, 23, 59, 58, 0x40, 0xe2, 1, 0]),
            8 => (10, vec![4, 0xcf, 7, 12, 31]),
            // Sign and days before them.
            9 => (11, vec![8, 1, 2, 0, 0, 0, 3, 4, 5]),
            10 => (252, text),
            _ => (253, text),
        };
        let is_null = self.rng.u8(0..6) == 0;
        let unsigned = kind < 9 && self.rng.bool();
        Value { kind, unsigned, bytes: (!is_null).then_some(bytes) }
    }
}
