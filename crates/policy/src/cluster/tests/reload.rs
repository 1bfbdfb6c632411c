//! The configuration is read again: what stays known, what ends, and random days on which it is read
//! over and over.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::route::{Access, Decision, Held, Refusal, Session, route};

/// Servers by letters, each with its role: `a` as a replica, `A` as a master, `-a` and `-A` disabled;
/// partitions are set apart by `|` and named `p0`, `p1` and so on, where there are several.
fn of(text: &str) -> Topology {
    let parts: Vec<&str> = text.split('|').collect();
    let mut servers = Vec::new();
    for (partition, part) in parts.iter().enumerate() {
        let mut enabled = true;
        for letter in part.chars() {
            if letter == '-' {
                enabled = false;
                continue;
            }
            servers.push(ServerSpec {
                name: ServerName::new(&letter.to_lowercase().to_string()),
                role: if letter.is_ascii_uppercase() { Role::Master } else { Role::Replica },
                partition,
                enabled: std::mem::replace(&mut enabled, true),
                weight: 1,
            });
        }
    }
    let name = |at| if parts.len() == 1 { "default".into() } else { format!("p{at}").into() };
    Topology {
        servers,
        partitions: (0..parts.len()).map(name).collect(),
        read_only: false,
        master_may_replicate: false,
        health: HealthParams { threshold: NonZeroU8::new(2).unwrap() },
    }
}

/// Whoever answers is writable where its name is a master's in the text, and follows somebody else.
fn check_all(cluster: &mut Cluster, text: &str) {
    for at in 0..cluster.topology.servers.len() {
        let letter = cluster.topology.servers[at].name.as_str().to_uppercase();
        let shape = if text.contains(&letter) { 'w' } else { 'r' };
        let mut seen = seen(at, shape);
        seen.identity = letter;
        cluster.apply(Event::Checked { server: at, result: Ok(seen) }, UNIX_EPOCH);
    }
}

fn reload(cluster: &mut Cluster, topology: Topology) -> Vec<Change> {
    let generation = cluster.view().generation + 1;
    let topology = Box::new(topology);
    cluster.apply(Event::Reload { topology, generation, checked: Vec::new() }, UNIX_EPOCH)
}

/// `partition: mode master/readers` of each.
fn shown(cluster: &Cluster) -> String {
    let view = cluster.view();
    let name = |at: usize| view.servers[at].name.as_str().to_owned();
    let partition = |partition: &Partition| {
        let mode = partition.mode.reason().map_or("rw", Reason::as_str);
        let master = partition.master.map_or_else(|| "-".to_owned(), name);
        let readers: String = partition.readers.iter().map(|reader| name(reader.server)).collect();
        format!("{}: {mode} {master}/{readers}", partition.name)
    };
    view.partitions.iter().map(partition).collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_known_goes_with_the_servers_and_the_master_with_its_epoch() {
    // before, after, what is then so, for which partitions the epoch goes on: in the new order the
    // number of the old one, or `-`
    #[rustfmt::skip]
    let table = [
        ("Ab",     "Ab",     "default: rw a/ba",                          "0"),
        ("Ab",     "bA",     "default: rw a/ba",                          "0"),
        ("Ab",     "A",      "default: rw a/a",                           "0"),
        ("Ab",     "Abc",    "default: rw a/ba",                          "0"),
        ("Ab",     "A-b",    "default: rw a/a",                           "0"),
        ("Ab",     "-Ab",    "default: masterless -/b",                   "-"),
        ("Ab",     "aB",     "default: misconfigured b/ab",               "-"),
        ("AB",     "aB",     "default: rw b/ab",                          "-"),
        ("AB",     "BA",     "default: misconfigured b/ba",               "-"),
        ("Ab",     "C",      "default: severed c/",                       "-"),
        ("Ab",     "Ab|C",   "p0: rw a/ba, p1: severed c/",               "0-"),
        ("Ab|C",   "C|Ab",   "p0: rw c/c, p1: rw a/ba",                   "10"),
        ("Ab|C",   "Ac|B",   "p0: rw a/ca, p1: misconfigured b/b",        "0-"),
        ("Ab|C",   "AbC",    "default: misconfigured a/bac",              "0"),
        ("A|B|C",  "C|A",    "p0: rw c/c, p1: rw a/a",                    "20"),
    ];
    for (before, after, expected, epochs) in table {
        let mut cluster = Cluster::new(of(before), UNIX_EPOCH);
        check_all(&mut cluster, before);
        let old = cluster.view();
        reload(&mut cluster, of(after));
        let new = cluster.view();
        assert_eq!(shown(&cluster), expected, "{before} to {after}");
        let kept: String = new
            .partitions
            .iter()
            .map(|partition| {
                let same = old.partitions.iter().position(|old| old.epoch == partition.epoch);
                same.map_or_else(|| "-".to_owned(), |at| at.to_string())
            })
            .collect();
        assert_eq!(kept, epochs, "{before} to {after}");
        for server in &new.servers {
            let known = old.servers.iter().find(|old| old.name == server.name);
            assert_eq!(known.is_some(), old.server(server.id).is_some(), "{before} to {after}");
        }
        assert_eq!((old.generation, new.generation), (0, 1));
    }
}

#[test]
fn a_server_that_comes_back_is_another() {
    let mut cluster = Cluster::new(of("Ab"), UNIX_EPOCH);
    check_all(&mut cluster, "Ab");
    let id = |cluster: &Cluster| cluster.view().servers[0].id;
    let (first, epoch) = (id(&cluster), cluster.view().partitions[0].epoch);
    reload(&mut cluster, of("B"));
    reload(&mut cluster, of("Ab"));
    assert_ne!(id(&cluster), first);
    assert_ne!(cluster.view().partitions[0].epoch, epoch);
    // What a session met before does not count for the new one.
    let late = Report::Unreachable { server: first, cause: "lost".into() };
    cluster.apply(Event::Reported(late), UNIX_EPOCH);
    check_all(&mut cluster, "Ab");
    assert_eq!(shown(&cluster), "default: rw a/ba");
}

#[test]
fn what_was_seen_just_before_counts() {
    let mut cluster = Cluster::new(of("Ab"), UNIX_EPOCH);
    check_all(&mut cluster, "Ab");
    let writable =
        |at, name: &str| (at, Ok(Observation { identity: name.into(), ..seen(at, 'w') }));
    let checked = vec![writable(1, "B"), writable(2, "C")];
    let topology = Box::new(of("aB|C"));
    cluster.apply(Event::Reload { topology, generation: 1, checked }, UNIX_EPOCH);
    assert_eq!(shown(&cluster), "p0: rw b/ab, p1: rw c/c");
}

#[test]
fn however_often_the_file_is_read_the_checks_decide() {
    let mut cluster = Cluster::new(of("Ab"), UNIX_EPOCH);
    check_all(&mut cluster, "Ab");
    let failed = || Err(CheckFailure { text: "refused".into(), is_login: false });
    for generation in 1..10 {
        let (topology, checked) = (Box::new(of("Abc")), vec![(0, failed()), (2, failed())]);
        cluster.apply(Event::Reload { topology, generation, checked }, UNIX_EPOCH);
        assert_eq!(shown(&cluster), "default: rw a/ba");
        // The one that is new was looked at for the first time.
        assert_eq!(cluster.view().servers[2].health.state(), State::Unhealthy);
    }
}

#[test]
fn what_did_not_change_is_not_told() {
    let mut cluster = Cluster::new(of("Ab|C"), UNIX_EPOCH);
    check_all(&mut cluster, "Ab|C");
    assert_eq!(reload(&mut cluster, of("Ab|C")), []);
    let told = reload(&mut cluster, of("-Ab|C"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].to_string().starts_with("partition p0 is read-only: masterless"), "{told:?}");
    assert_eq!(reload(&mut cluster, of("-Ab|C")), []);
}

#[test]
fn orders_only_take_away() {
    let enable = |server, enabled| Event::SetEnabled { server, enabled };
    let read_only = |partition, on| Event::SetReadOnly { partition, on };
    let pause = |partition| Event::SetPaused { partition, hold: Some(Duration::from_secs(9)) };
    // before, orders, after, what is so before and after the reload
    #[rustfmt::skip]
    let table: &[(&str, &[Event], &str, &str, &str)] = &[
        ("Ab", &[enable(0, false)], "Ab", "default: masterless -/b", "default: masterless -/b"),
        ("Ab", &[enable(0, false)], "-Ab", "default: masterless -/b", "default: masterless -/b"),
        ("-Ab", &[enable(0, true)], "-Ab", "default: masterless -/b", "default: masterless -/b"),
        ("Abc", &[enable(1, false)], "bAc", "default: rw a/ca", "default: rw a/ca"),
        ("Ab", &[read_only(None, true)], "Ab", "default: config a/ba", "default: config a/ba"),
        ("A|B", &[pause(None)], "A|B|C",
            "p0: paused a/a, p1: paused b/b", "p0: paused a/a, p1: paused b/b, p2: paused c/"),
        ("A|B", &[pause(Some(1))], "A|B|C",
            "p0: rw a/a, p1: paused b/b", "p0: rw a/a, p1: paused b/b, p2: severed c/"),
        ("A|B", &[read_only(None, true)], "A|B|C",
            "p0: config a/a, p1: config b/b", "p0: config a/a, p1: config b/b, p2: config c/"),
        ("A|B", &[read_only(Some(0), true)], "A|B|C",
            "p0: config a/a, p1: rw b/b", "p0: config a/a, p1: rw b/b, p2: severed c/"),
        ("A|B", &[read_only(None, true), read_only(Some(0), false)], "A|B|C",
            "p0: rw a/a, p1: config b/b", "p0: rw a/a, p1: config b/b, p2: severed c/"),
        // A partition that has another name now is known by its master.
        ("A|B", &[read_only(Some(0), true)], "A", "p0: config a/a, p1: rw b/b", "default: config a/a"),
        ("A|B", &[read_only(Some(0), true), read_only(None, false)], "A|B",
            "p0: rw a/a, p1: rw b/b", "p0: rw a/a, p1: rw b/b"),
    ];
    for (before, orders, after, first, second) in table {
        let mut cluster = Cluster::new(of(before), UNIX_EPOCH);
        check_all(&mut cluster, before);
        for order in *orders {
            cluster.apply(order.clone(), UNIX_EPOCH);
        }
        assert_eq!(shown(&cluster), *first, "{before} {orders:?}");
        reload(&mut cluster, of(after));
        assert_eq!(shown(&cluster), *second, "{before} {orders:?} {after}");
    }
}

/// A connection that was opened for writes.
#[derive(Clone, Copy, Debug)]
struct Open {
    server: ServerId,
    epoch: u64,
}

/// What random events, and reloads among them, must never lead to.
struct Day {
    dice: Dice,
    cluster: Cluster,
    /// Every connection for writes that a session may still hold.
    open: Vec<Open>,
    /// Which server an id was given to.
    ids: HashMap<ServerId, ServerName>,
    /// Who the master was in an epoch.
    epochs: HashMap<u64, ServerId>,
    /// Servers that an operator took out.
    out: HashSet<ServerId>,
    where_to: String,
}

const TOPOLOGIES: &[&str] = &[
    "Ab", "aB", "AB", "A", "B", "Abc", "abC", "-Ab", "A-b", "ab", "Ab|Cd", "Cd|Ab", "aB|Cd",
    "A|B|C", "A|BCd", "Abcd", "Dabc", "|A",
];

impl Day {
    fn event(&mut self) -> Event {
        let servers = self.cluster.topology.servers.len();
        let server = self.dice.below(servers);
        let id = self.cluster.servers[server].id;
        match self.dice.below(24) {
            0 => {
                let partition = self.dice.below(self.cluster.topology.partitions.len());
                let all = self.dice.below(2) == 0;
                let partition = (!all).then_some(partition);
                Event::SetReadOnly { partition, on: self.dice.below(2) == 0 }
            }
            1 => {
                let enabled = self.dice.below(2) == 0;
                if enabled {
                    self.out.remove(&id);
                } else {
                    self.out.insert(id);
                }
                Event::SetEnabled { server, enabled }
            }
            2 => Event::Reported(Report::RefusedWrite { server: id }),
            3 => Event::Reported(Report::Unreachable { server: id, cause: "lost".into() }),
            4..8 => {
                let topology = of(TOPOLOGIES[self.dice.below(TOPOLOGIES.len())]);
                let read_only = self.dice.below(8) == 0;
                let checked = (0..topology.servers.len())
                    .filter(|_| self.dice.below(2) == 0)
                    .collect::<Vec<_>>();
                let checked = checked.into_iter().map(|at| (at, self.result())).collect();
                let topology = Box::new(Topology { read_only, ..topology });
                let generation = self.cluster.generation + 1;
                Event::Reload { topology, generation, checked }
            }
            _ => Event::Checked { server, result: self.result() },
        }
    }

    fn result(&mut self) -> Result<Observation, CheckFailure> {
        match self.dice.below(4) {
            0 => Err(CheckFailure { text: "refused".into(), is_login: false }),
            _ => {
                let shape = ['w', 'w', 'w', 'o', 'r', 'x'][self.dice.below(6)];
                Ok(seen(0, shape))
            }
        }
    }

    fn step(&mut self) {
        let event = self.event();
        self.where_to += &format!(", {event:?}");
        self.cluster.apply(event, UNIX_EPOCH);
        let view = self.cluster.view();
        self.check_names(&view);
        for at in 0..view.partitions.len() {
            self.check_partition(&view, at);
        }
    }

    /// Ids and epochs mean one thing for ever.
    fn check_names(&mut self, view: &View) {
        for server in &view.servers {
            let name = self.ids.entry(server.id).or_insert_with(|| server.name.clone());
            assert_eq!(*name, server.name, "{}", self.where_to);
            let out = self.out.contains(&server.id);
            assert!(!(server.enabled && out), "enabled against an order: {}", self.where_to);
        }
        let mut present = HashSet::new();
        for partition in &view.partitions {
            let Some(master) = partition.master else { continue };
            let master = &view.servers[master];
            assert_eq!(master.role, Role::Master, "{}", self.where_to);
            assert!(master.enabled && present.insert(partition.epoch), "{}", self.where_to);
            let known = *self.epochs.entry(partition.epoch).or_insert(master.id);
            assert_eq!(known, master.id, "an epoch of two masters: {}", self.where_to);
        }
    }

    fn check_partition(&mut self, view: &View, at: usize) {
        let partition = &view.partitions[at];
        let free = route(sql::Kind::Write, &Session::default(), partition);
        if let Decision::Forward { server, access, .. } = free {
            assert_eq!(access, Access::Write, "{}", self.where_to);
            self.check_write(view, at, server);
            self.open.push(Open { server: view.servers[server].id, epoch: partition.epoch });
        } else {
            let refused = matches!(free, Decision::Refuse(Refusal::ReadOnly(_)));
            assert!(refused && !partition.mode.tries_master(), "{}", self.where_to);
        }
        // Sessions in a transaction: what they hold may be of long ago.
        for open in self.open.clone() {
            let Some(server) = view.position(open.server) else { continue };
            if view.servers[server].partition != at || !view.servers[server].enabled {
                continue;
            }
            let held = Held { server, writes: open.epoch == partition.epoch };
            let tied = Session { held: Some(held), tied: true, ..Session::default() };
            if let Decision::Forward { server, .. } = route(sql::Kind::Write, &tied, partition) {
                self.check_write(view, at, server);
            }
        }
    }

    /// A write goes to this server: it must be the master, as far as anybody knows.
    fn check_write(&self, view: &View, at: usize, server: usize) {
        let (partition, target) = (&view.partitions[at], &view.servers[server]);
        assert_eq!(Some(server), partition.master, "{}", self.where_to);
        assert!(target.enabled && target.health.is_healthy(), "{}", self.where_to);
        assert_eq!((target.role, target.partition), (Role::Master, at), "{}", self.where_to);
        let seen = target.seen.as_ref().unwrap();
        assert!(!seen.read_only && seen.replication == Replication::None, "{}", self.where_to);
        assert!(!self.cluster.topology.read_only, "{}", self.where_to);
        assert!(!self.cluster.is_asked_read_only(at), "{}", self.where_to);
        let others = view.servers.iter().enumerate().filter(|(other, spec)| {
            *other != server && spec.partition == at && spec.role == Role::Master
        });
        for (_, other) in others {
            let writes = other.enabled
                && other.health.is_healthy()
                && other.seen.as_ref().is_some_and(|seen| !seen.read_only);
            assert!(!writes, "two masters: {}", self.where_to);
        }
    }
}

#[test]
fn thousands_of_days_with_reloads() {
    for seed in 1..2000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let first = TOPOLOGIES[dice.below(TOPOLOGIES.len())];
        let mut day = Day {
            dice,
            cluster: Cluster::new(of(first), UNIX_EPOCH),
            open: Vec::new(),
            ids: HashMap::new(),
            epochs: HashMap::new(),
            out: HashSet::new(),
            where_to: format!("seed {seed}, {first}"),
        };
        for _ in 0..40 {
            day.step();
        }
    }
}
