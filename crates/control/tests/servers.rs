//! Checks of real servers, of every flavour that is on this machine.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests, where a panic is the report"
)]

use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use control::{
    Control, Handle, Order, OrderError, Origin, ProbeTarget, Reload, Report, Settings, Tls,
    TlsMode, check_once,
};
use policy::health::HealthParams;
use policy::mode::{Mode, Reason};
use policy::observation::Replication;
use policy::topology::{Role, ServerName, ServerSpec, Topology};
use policy::view::View;
use telemetry::Metrics;
use testkit::{APP, Account, Flavor, MONITOR, Pair, ROOT, Server, execute};

/// More than enough for anything awaited here.
const LIMIT: Duration = Duration::from_secs(20);
const CHECK_LIMIT: Duration = Duration::from_secs(2);

fn target(server: &Server, account: Account, mode: TlsMode) -> ProbeTarget {
    ProbeTarget {
        host: "127.0.0.1".into(),
        port: server.port(),
        user: account.user.into(),
        pass: account.pass.into(),
        tls: Tls { mode, ..Tls::default() },
    }
}

#[tokio::test]
async fn a_check_sees_who_a_server_is_and_whom_it_follows() {
    for flavor in testkit::flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let check = |server| check_once(target(server, MONITOR, TlsMode::Preferred), CHECK_LIMIT);
        let master = check(&pair.master).await.unwrap();
        let replica = check(&pair.replica).await.unwrap();
        assert_ne!(master.identity, replica.identity);
        assert_eq!((master.read_only, replica.read_only), (false, true));
        assert_eq!(master.replication, Replication::None);
        assert_eq!((&master.messages, &replica.messages), (&vec![], &vec![]));
        assert_eq!(master.version.contains("MariaDB"), flavor == Flavor::MariaDb);
        assert!(!master.version.is_empty() && !master.latency.is_zero());
        let Replication::From(source) = replica.replication else { panic!("{replica:?}") };
        assert_eq!(source.address, format!("127.0.0.1:{}", pair.master.port()));
        assert!(source.receiving && source.applying, "{source:?}");
        assert_eq!((source.behind_s, source.delay_s, source.last_error.as_str()), (Some(0), 0, ""));
        assert_eq!(check(&pair.master).await.unwrap().identity, master.identity);
    }
}

#[tokio::test]
async fn executed_gtids_and_stopped_appliers_are_seen() {
    for flavor in testkit::flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let mut root = pair.master.connect(ROOT, Some("app")).await.unwrap();
        execute(&mut root, "CREATE TABLE t (a INT)").await;
        pair.wait_synced().await.unwrap();
        let check = |server| check_once(target(server, MONITOR, TlsMode::Off), CHECK_LIMIT);
        let master = check(&pair.master).await.unwrap();
        assert_eq!(master.gtids, pair.master.executed().await.unwrap());
        assert!(!master.gtids.is_empty());
        let mut root = pair.replica.connect(ROOT, None).await.unwrap();
        let stop = match flavor {
            Flavor::MariaDb => "STOP SLAVE SQL_THREAD",
            Flavor::MySql => "STOP REPLICA SQL_THREAD",
        };
        execute(&mut root, stop).await;
        let replica = check(&pair.replica).await.unwrap();
        let Replication::From(source) = replica.replication else { panic!("{replica:?}") };
        assert_eq!((source.applying, source.behind_s), (false, None));
    }
}

#[tokio::test]
async fn a_missing_grant_is_a_message_that_mends_it() {
    for flavor in testkit::flavors() {
        let pair = Pair::start(flavor).await.unwrap();
        let check = || check_once(target(&pair.replica, APP, TlsMode::Off), CHECK_LIMIT);
        let seen = check().await.unwrap();
        assert_eq!(seen.replication, Replication::Hidden);
        let [message] = &seen.messages[..] else { panic!("{:?}", seen.messages) };
        let (_, grant) = message.split_once(": ").unwrap();
        assert!(grant.starts_with("GRANT "), "{message}");
        // The advice is followed to the letter.
        let mut root = pair.master.connect(ROOT, None).await.unwrap();
        execute(&mut root, grant).await;
        pair.wait_synced().await.unwrap();
        let seen = check().await.unwrap();
        assert!(matches!(seen.replication, Replication::From(_)), "{seen:?}");
        assert!(seen.messages.is_empty(), "{:?}", seen.messages);
    }
}

#[tokio::test]
async fn failures_say_what_happened() {
    for flavor in testkit::flavors() {
        let mut server = Server::start(flavor, testkit::Options::default()).await.unwrap();
        let wrong = Account { pass: "wrong", ..MONITOR };
        let failure = check_once(target(&server, wrong, TlsMode::Off), CHECK_LIMIT).await;
        let failure = failure.unwrap_err();
        assert!(failure.is_login && failure.text.starts_with("1045 (28000): Access denied"));
        let short = Duration::from_millis(200);
        server.pause().unwrap();
        let failure = check_once(target(&server, MONITOR, TlsMode::Off), short).await.unwrap_err();
        assert_eq!((failure.text.as_str(), failure.is_login), ("timed out after 0.2 s", false));
        server.resume().unwrap();
        server.kill().unwrap();
        let failure = check_once(target(&server, MONITOR, TlsMode::Off), short).await.unwrap_err();
        assert_eq!((failure.text.as_str(), failure.is_login), ("Connection refused", false));
    }
}

#[tokio::test]
async fn encryption_is_used_as_configured() {
    for flavor in testkit::flavors() {
        let server = Server::start(flavor, testkit::Options::default()).await.unwrap();
        let check = |mode| check_once(target(&server, MONITOR, mode), CHECK_LIMIT);
        check(TlsMode::Preferred).await.unwrap();
        // MariaDB 10.11 makes no certificate of its own, MySQL does; neither's is signed by anyone.
        let required = check(TlsMode::Required).await;
        match flavor {
            Flavor::MySql => drop(required.unwrap()),
            Flavor::MariaDb => {
                let text = required.unwrap_err().text;
                assert!(text.contains("does not offer TLS"), "{text}");
            }
        }
        check(TlsMode::Verify).await.unwrap_err();
    }
}

/// A control plane that watches a master and its replica closely.
struct Watched {
    pair: Pair,
    control: Control,
}

impl Watched {
    /// How the pair is watched, by an account.
    fn configuration(pair: &Pair, account: Account) -> (Topology, Settings) {
        let servers = [(&pair.master, Role::Master), (&pair.replica, Role::Replica)];
        let spec = |(server, role): (&Server, Role)| ServerSpec {
            name: ServerName::new(&format!("127.0.0.1:{}", server.port())),
            role,
            partition: 0,
            enabled: true,
            weight: 1,
        };
        let topology = Topology {
            servers: servers.map(spec).to_vec(),
            partitions: vec!["default".into()],
            read_only: false,
            master_may_replicate: false,
            health: HealthParams { threshold: NonZeroU8::new(2).unwrap() },
        };
        let settings = Settings {
            servers: servers
                .map(|(server, _)| target(server, account, TlsMode::Preferred))
                .to_vec(),
            interval: Duration::from_millis(100),
            timeout: CHECK_LIMIT,
        };
        (topology, settings)
    }

    async fn start(flavor: Flavor) -> Self {
        let pair = Pair::start(flavor).await.unwrap();
        let (topology, settings) = Self::configuration(&pair, MONITOR);
        let metrics = Arc::new(Metrics::new().unwrap());
        let control = control::start(topology, settings, metrics);
        control.handle().ready().await;
        Self { pair, control }
    }

    fn handle(&self) -> &Handle {
        self.control.handle()
    }

    fn mode(&self) -> Mode {
        self.handle().view().partitions[0].mode
    }

    async fn wait_for(&self, mode: Mode) -> Arc<View> {
        let mut views = self.handle().views();
        let wanted = views.wait_for(|view| view.partitions[0].mode == mode);
        match tokio::time::timeout(LIMIT, wanted).await {
            Ok(view) => Arc::clone(&view.unwrap()),
            Err(_) => panic!("not {mode:?}: {:?}", self.handle().view().partitions),
        }
    }
}

#[tokio::test]
async fn the_mode_follows_the_master_down_and_up() {
    for flavor in testkit::flavors() {
        let mut watched = Watched::start(flavor).await;
        assert_eq!(watched.mode(), Mode::ReadWrite);
        watched.pair.master.kill().unwrap();
        let view = watched.wait_for(Mode::ReadOnly(Reason::Severed)).await;
        assert!(view.partitions[0].detail.contains("Connection refused"), "{view:?}");
        assert_eq!(view.partitions[0].readers[0].server, 1);
        watched.pair.master.start_again().await.unwrap();
        watched.wait_for(Mode::ReadWrite).await;
        let events: Vec<_> =
            watched.handle().events().into_iter().map(|event| event.text).collect();
        let order =
            ["is unhealthy: Connection refused", "is read-only", "is healthy", "is read-write"];
        let mut left = events.iter();
        for part in order {
            assert!(left.any(|text| text.contains(part)), "{part} in {events:?}");
        }
        watched.control.stop().await;
    }
}

#[tokio::test]
async fn a_refused_write_counts_until_the_server_is_looked_at_again() {
    let flavors = testkit::flavors();
    let Some(flavor) = flavors.first() else { return };
    let watched = Watched::start(*flavor).await;
    let mut views = watched.handle().views();
    watched
        .handle()
        .reports()
        .send(Report::RefusedWrite { server: watched.handle().view().servers[0].id })
        .unwrap();
    let misconfigured = Mode::ReadOnly(Reason::Misconfigured);
    let seen = views.wait_for(|view| view.partitions[0].mode == misconfigured);
    tokio::time::timeout(LIMIT, seen).await.unwrap().unwrap();
    watched.wait_for(Mode::ReadWrite).await;
    watched.control.stop().await;
}

#[tokio::test]
async fn orders_are_in_force_when_they_are_answered() {
    let flavors = testkit::flavors();
    let Some(flavor) = flavors.first() else { return };
    let watched = Watched::start(*flavor).await;
    let handle = watched.handle().clone();
    let master = handle.view().servers[0].name.to_string();
    let enable = |enabled| Order::SetEnabled { server: master.clone(), enabled };
    handle.order(Order::SetReadOnly { partition: None, on: true }, "an operator").await.unwrap();
    assert_eq!(watched.mode(), Mode::ReadOnly(Reason::Config));
    handle.order(Order::SetReadOnly { partition: None, on: false }, "an operator").await.unwrap();
    assert_eq!(watched.mode(), Mode::ReadWrite);
    handle.order(enable(false), "an operator").await.unwrap();
    assert_eq!(watched.mode(), Mode::ReadOnly(Reason::Masterless));
    handle.order(enable(true), "an operator").await.unwrap();
    watched.wait_for(Mode::ReadWrite).await;
    let unknown = Order::SetEnabled { server: "db9:1".into(), enabled: true };
    let error = handle.order(unknown, "an operator").await.unwrap_err();
    assert!(matches!(error, OrderError::UnknownServer { .. }), "{error}");
    assert!(error.to_string().contains(&master), "{error}");
    watched.control.stop().await;
    assert_eq!(
        handle.order(Order::SetReadOnly { partition: None, on: true }, "an operator").await,
        Err(OrderError::Stopped)
    );
}

/// What the servers are watched by follows the configuration, and what is known of them stays.
#[tokio::test]
async fn checks_go_by_the_configuration_that_was_read_last() {
    let flavors = testkit::flavors();
    let Some(flavor) = flavors.first() else { return };
    let watched = Watched::start(*flavor).await;
    let handle = watched.handle();
    let ids = |view: &View| view.servers.iter().map(|server| server.id).collect::<Vec<_>>();
    let before = handle.view();
    let wrong = Account { pass: "wrong", ..MONITOR };
    for (generation, account) in (1..).zip([MONITOR, wrong, MONITOR]) {
        let (topology, settings) = Watched::configuration(&watched.pair, account);
        let checked = handle.look(&topology, &settings).await;
        // The replica is known and stays one: it need not be looked at.
        assert_eq!(checked.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0]);
        assert_eq!(checked[0].1.is_ok(), account == MONITOR);
        let events = vec![format!("reload {generation}")];
        let origin = Origin::Operator;
        let reload = Reload { topology, settings, generation, origin, events, checked };
        handle.order(Order::Reload(Box::new(reload)), "a test").await.unwrap();
        let view = handle.view();
        assert_eq!((view.generation, ids(&view)), (generation, ids(&before)));
        // One login that is refused removes nobody, those that follow do.
        let mode = match account == MONITOR {
            true => Mode::ReadWrite,
            false => Mode::ReadOnly(Reason::Severed),
        };
        let view = watched.wait_for(mode).await;
        let refused = view.servers[0].failure.as_ref().is_some_and(|failure| failure.is_login);
        assert_eq!(refused, account != MONITOR, "{view:?}");
    }
    let told: Vec<_> = handle.events().into_iter().map(|entry| entry.text).collect();
    assert!(told.contains(&"reload 2".to_owned()), "{told:?}");
    watched.control.stop().await;
}

#[tokio::test]
async fn a_disabled_server_gets_no_checks() {
    let flavors = testkit::flavors();
    let Some(flavor) = flavors.first() else { return };
    let watched = Watched::start(*flavor).await;
    let replica = handle_name(&watched, 1);
    let order = Order::SetEnabled { server: replica, enabled: false };
    watched.handle().order(order, "an operator").await.unwrap();
    // A check may have been under way.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let seen_at = watched.handle().view().servers[1].seen_at;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(watched.handle().view().servers[1].seen_at, seen_at);
    watched.control.stop().await;
}

fn handle_name(watched: &Watched, server: usize) -> String {
    watched.handle().view().servers[server].name.to_string()
}
