//! Tables of what happens to a cluster and what becomes of it, and a simulation of random days.

mod reload;

use std::num::NonZeroU8;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::topology::ServerSpec;

fn topology(roles: &str) -> Topology {
    let servers = roles
        .chars()
        .zip(1..)
        .map(|(letter, n)| ServerSpec {
            name: ServerName::new(&format!("db{n}:3306")),
            role: if letter.eq_ignore_ascii_case(&'m') { Role::Master } else { Role::Replica },
            partition: 0,
            enabled: letter.is_ascii_uppercase(),
            weight: 100,
        })
        .collect();
    Topology {
        servers,
        partitions: vec!["default".into()],
        read_only: false,
        master_may_replicate: false,
        health: HealthParams { threshold: NonZeroU8::new(5).unwrap() },
    }
}

fn seen(server: usize, shape: char) -> Observation {
    let source = |behind_s, applying, receiving, delay_s| {
        Replication::From(Source {
            address: "db1:3306".to_owned(),
            receiving,
            applying,
            behind_s,
            delay_s,
            last_error: String::new(),
        })
    };
    let (read_only, replication) = match shape {
        'w' => (false, Replication::None),
        'o' => (true, Replication::None),
        'r' => (true, source(Some(0), true, true, 0)),
        'l' => (true, source(Some(90), true, true, 0)),
        'd' => (true, source(Some(0), true, true, 60)),
        's' => (true, source(None, false, true, 0)),
        'n' => (true, source(None, true, false, 0)),
        '6' => (true, source(Some(6), true, true, 0)),
        'x' => (false, Replication::None),
        other => panic!("no shape {other}"),
    };
    Observation {
        identity: format!("uuid-{server}{}", if shape == 'x' { "-new" } else { "" }),
        version: "10.11".to_owned(),
        read_only,
        replication,
        gtids: String::new(),
        latency: Duration::from_millis(1),
        messages: Vec::new(),
    }
}

/// Plays rounds of checks, one letter a server and round: `-` failed, else a shape of [`seen`].
fn play(cluster: &mut Cluster, rounds: &[&str]) {
    for (n, round) in (0..).zip(rounds) {
        let now = UNIX_EPOCH + Duration::from_secs(43_200 + n * 3);
        for (server, shape) in round.chars().enumerate() {
            let result = match shape {
                '-' => Err(CheckFailure { text: "Connection refused".into(), is_login: false }),
                '.' => continue,
                shape => Ok(seen(server, shape)),
            };
            cluster.apply(Event::Checked { server, result }, now);
        }
    }
}

fn summary(cluster: &Cluster) -> String {
    let view = cluster.view();
    let partition = &view.partitions[0];
    let mode = match partition.mode {
        Mode::ReadWrite => "rw".to_owned(),
        Mode::ReadOnly(reason) => reason.to_string(),
    };
    let readers: String = partition
        .readers
        .iter()
        .map(|r| char::from_digit(u32::try_from(r.server).unwrap() + 1, 10).unwrap())
        .collect();
    format!("{mode} {readers}")
}

#[test]
fn modes_and_readers() {
    // roles (lower case: disabled), rounds of checks, mode and readers
    #[rustfmt::skip]
    let table: &[(&str, &[&str], &str)] = &[
        ("MR",  &["wr"],                                        "rw 21"),
        ("MR",  &[".r"],                                        "severed 2"),
        ("MR",  &["-r"],                                        "severed 2"),
        ("MR",  &["wr", "-r", "-r", "-r", "-r"],                "rw 21"),
        ("MR",  &["wr", "-n", "-n", "-n", "-n", "-n"],          "severed 2"),
        ("MR",  &["-r", "wr", "wr", "wr", "wr"],                "severed 2"),
        ("MR",  &["-r", "wr", "wr", "wr", "wr", "wr"],          "rw 21"),
        ("MR",  &["or"],                                        "misconfigured 21"),
        ("MR",  &["rr"],                                        "misconfigured 21"),
        ("MR",  &["or", "wr"],                                  "rw 21"),
        ("mR",  &["wr"],                                        "masterless 2"),
        ("RR",  &["rr"],                                        "masterless 12"),
        ("MM",  &["ww"],                                        "misconfigured 12"),
        ("MM",  &["wo"],                                        "rw 12"),
        ("Mm",  &["ww"],                                        "rw 1"),
        ("MRR", &["wlr"],                                       "rw 321"),
        ("MRR", &["w6r"],                                       "rw 321"),
        ("MRR", &["wdr"],                                       "rw 321"),
        ("MRR", &["wsl"],                                       "rw 321"),
        ("MRR", &["wwd"],                                       "rw 321"),
        ("MRR", &["wnr"],                                       "rw 321"),
        // The master dead: not receiving is normal, and the delay seen before decides.
        ("MRR", &["wl6", "-nn", "-nn", "-nn", "-nn", "-nn"],    "severed 32"),
        // Nobody is healthy, but somebody answers.
        ("M",   &["-", "w"],                                    "severed 1"),
        ("M",   &["-"],                                         "severed "),
    ];
    for (roles, rounds, expected) in table {
        let mut cluster = Cluster::new(topology(roles), UNIX_EPOCH);
        play(&mut cluster, rounds);
        assert_eq!(summary(&cluster), *expected, "{roles} {rounds:?}");
    }
}

#[test]
fn the_cause_is_told_in_words() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr", "-r", "-r", "-r", "-r", "-r"]);
    let view = cluster.view();
    assert_eq!(
        &*view.partitions[0].detail,
        "master db1:3306 failed 5 checks since 12:00:03 UTC, last error Connection refused"
    );
    assert_eq!(
        view.partition_words(&view.partitions[0]),
        "Read-only since 12:00:15 UTC (severed): master db1:3306 failed 5 checks since 12:00:03 \
         UTC, last error Connection refused. Reads are served by db2:3306 (data of 12:00:00 UTC, when the \
         master was last seen)."
    );
}

#[test]
fn changes_are_told_once() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    let told = cluster.apply(Event::SetReadOnly { partition: None, on: true }, UNIX_EPOCH);
    assert_eq!(
        told.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["partition default is read-only: config, switched on by an operator"]
    );
    assert!(cluster.apply(Event::SetReadOnly { partition: None, on: true }, UNIX_EPOCH).is_empty());
    let told = cluster.apply(Event::SetReadOnly { partition: None, on: false }, UNIX_EPOCH);
    assert_eq!(told.len(), 1);
}

#[test]
fn the_first_mode_is_told_once_it_is_known() {
    for (roles, round, expected) in [
        ("MR", "-r", "partition default is read-only: severed, master db1:3306 failed 1 check"),
        ("mR", ".r", "partition default is read-only: masterless, no enabled master"),
        ("MR", "wr", "partition default is read-write"),
    ] {
        let mut cluster = Cluster::new(topology(roles), UNIX_EPOCH);
        let mut told = Vec::new();
        for (server, shape) in round.chars().enumerate().filter(|(_, shape)| *shape != '.') {
            let result = match shape {
                '-' => Err(CheckFailure { text: "refused".into(), is_login: false }),
                shape => Ok(seen(server, shape)),
            };
            told.extend(cluster.apply(Event::Checked { server, result }, UNIX_EPOCH));
        }
        let modes: Vec<_> = told.iter().filter(|c| matches!(c, Change::Mode { .. })).collect();
        assert_eq!(modes.len(), 1, "{modes:?}");
        assert!(modes[0].to_string().starts_with(expected), "{}", modes[0]);
    }
}

#[test]
fn an_epoch_ends_when_the_master_is_not_the_same_any_more() {
    let rounds: &[(&[&str], bool)] = &[
        (&["wr", "wr"], false),
        (&["wr", "-r"], false),
        (&["wr", "xr"], true),
        (&["wr", "rr"], true),
        (&["wr", "-r", "-r", "-r", "-r", "-r"], true),
    ];
    for (rounds, bumped) in rounds {
        let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
        play(&mut cluster, &rounds[..1]);
        let before = cluster.view().partitions[0].epoch;
        play(&mut cluster, &rounds[1..]);
        assert_eq!(cluster.view().partitions[0].epoch > before, *bumped, "{rounds:?}");
    }
}

#[test]
fn a_write_refused_by_the_master_counts_until_the_next_check() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    cluster.apply(Event::Reported(Report::RefusedWrite { server: ServerId(0) }), UNIX_EPOCH);
    assert_eq!(summary(&cluster), "misconfigured 21");
    play(&mut cluster, &["wr"]);
    assert_eq!(summary(&cluster), "rw 21");
}

#[test]
fn a_master_that_a_session_cannot_reach_is_shown_until_somebody_does() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    let unreachable = || {
        Event::Reported(Report::Unreachable {
            server: ServerId(0),
            cause: "Connection refused".into(),
        })
    };
    cluster.apply(unreachable(), UNIX_EPOCH);
    assert_eq!(summary(&cluster), "unreachable 21");
    assert_eq!(
        &*cluster.view().partitions[0].detail,
        "master db1:3306 could not be reached: Connection refused"
    );
    cluster.apply(Event::Reported(Report::Reached { server: ServerId(0) }), UNIX_EPOCH);
    assert_eq!(summary(&cluster), "rw 21");
    cluster.apply(unreachable(), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    assert_eq!(summary(&cluster), "rw 21");
}

#[test]
fn writes_are_held_back_whatever_becomes_of_the_master() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    let epoch = cluster.view().partitions[0].epoch;
    let pause = |hold| Event::SetPaused { partition: Some(0), hold };
    let nine = Duration::from_secs(9);
    cluster.apply(pause(Some(nine)), UNIX_EPOCH);
    assert_eq!(summary(&cluster), "paused 21");
    let partition = &cluster.view().partitions[0];
    assert_eq!((partition.hold, partition.epoch), (Some(nine), epoch));
    for rounds in [&["rr"][..], &["-r"; 5]] {
        play(&mut cluster, rounds);
        assert!(summary(&cluster).starts_with("paused"), "{}", summary(&cluster));
    }
    cluster.apply(Event::SetReadOnly { partition: None, on: true }, UNIX_EPOCH);
    assert_eq!(summary(&cluster), "config 2");
    cluster.apply(Event::SetReadOnly { partition: None, on: false }, UNIX_EPOCH);
    cluster.apply(pause(None), UNIX_EPOCH);
    assert_eq!(summary(&cluster), "misconfigured 2");
    assert_eq!(cluster.view().partitions[0].hold, None);
}

#[test]
fn disabling_the_master_ends_its_connections() {
    let mut cluster = Cluster::new(topology("MR"), UNIX_EPOCH);
    play(&mut cluster, &["wr"]);
    let before = cluster.view().partitions[0].epoch;
    cluster.apply(Event::SetEnabled { server: 0, enabled: false }, UNIX_EPOCH);
    assert_eq!(summary(&cluster), "masterless 2");
    assert!(cluster.view().partitions[0].epoch > before);
    cluster.apply(Event::SetEnabled { server: 0, enabled: true }, UNIX_EPOCH);
    // What was known of it is old: a check has to say that it is there.
    assert_eq!(summary(&cluster), "severed 2");
    play(&mut cluster, &["wr"]);
    assert_eq!(summary(&cluster), "rw 21");
}

/// A small generator of numbers, so that a failing day can be played again from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Something that happens to a server or its partition.
fn drawn(dice: &mut Dice, cluster: &Cluster, server: usize) -> Event {
    let id = cluster.view().servers[server].id;
    match dice.below(21) {
        0 => Event::SetReadOnly { partition: None, on: dice.below(2) == 0 },
        1 => Event::SetEnabled { server, enabled: dice.below(2) == 0 },
        2 => Event::Reported(Report::RefusedWrite { server: id }),
        3 => Event::Reported(Report::Unreachable { server: id, cause: "lost".into() }),
        4 => {
            let hold = (dice.below(2) == 0).then_some(Duration::from_secs(9));
            Event::SetPaused { partition: None, hold }
        }
        5..11 => Event::Checked {
            server,
            result: Err(CheckFailure { text: "refused".into(), is_login: false }),
        },
        _ => {
            let shape = ['w', 'o', 'r', 'l', 'n', 'x'][dice.below(6)];
            Event::Checked { server, result: Ok(seen(server, shape)) }
        }
    }
}

#[test]
fn thousands_of_days() {
    use crate::route::{Access, Decision, Held, Session, route};
    for seed in 1..3000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let roles = ["MR", "MRR", "MmR", "RR", "M"][dice.below(5)];
        let mut cluster = Cluster::new(topology(roles), UNIX_EPOCH);
        for step in 0..60 {
            let server = dice.below(roles.len());
            let event = drawn(&mut dice, &cluster, server);
            cluster.apply(event, UNIX_EPOCH + Duration::from_secs(step));
            let view = cluster.view();
            let partition = &view.partitions[0];
            for kind in [sql::Kind::Read, sql::Kind::Write, sql::Kind::LockingRead] {
                let held = (dice.below(2) == 0)
                    .then(|| Held { server: dice.below(roles.len()), writes: dice.below(2) == 0 });
                let session = Session { held, spread: seed, ..Session::default() };
                let where_to = format!("seed {seed}, step {step}, {roles}, {kind:?}");
                match route(kind, &session, partition) {
                    Decision::Forward { server, access, .. } => {
                        let target = &view.servers[server];
                        assert!(target.enabled, "{where_to}: to a disabled server");
                        if access == Access::Write {
                            assert!(target.health.is_healthy(), "{where_to}: to an unhealthy one");
                            assert_eq!(target.role, Role::Master, "{where_to}");
                            assert_eq!(Some(server), partition.master, "{where_to}");
                            let seen = target.seen.as_ref().unwrap();
                            assert!(!seen.read_only, "{where_to}: to a read-only master");
                            assert_eq!(seen.replication, Replication::None, "{where_to}");
                        } else {
                            assert_eq!(
                                kind,
                                sql::Kind::Read,
                                "{where_to}: a write not to the master"
                            );
                        }
                    }
                    Decision::Refuse(_) => {
                        let writable = partition.mode.tries_master();
                        assert!(!writable, "{where_to}: refused in read-write mode");
                    }
                }
            }
        }
    }
}
