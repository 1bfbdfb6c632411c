use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::time::Duration;

use control::{Control, Order, ProbeTarget, Settings, Tls, TlsMode};
use policy::health::HealthParams;
use policy::topology::{Role, ServerName, ServerSpec, Topology};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::plane::{Ask, Reload};

/// A console whose only server does not exist: its port belongs to nobody who would answer.
struct Fixture {
    address: SocketAddr,
    control: Control,
    phase: watch::Sender<Phase>,
    configure: watch::Sender<Configuration>,
    set_token: watch::Sender<Option<Token>>,
    reloading: Mutex<mpsc::Receiver<Reload>>,
    asked: Mutex<mpsc::Receiver<Ask>>,
    _unused: TcpListener,
}

impl Fixture {
    async fn start() -> Self {
        // Held and never accepted from: a check waits for a greeting until its time is up.
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = unused.local_addr().unwrap().port();
        let name = ServerName::new(&format!("127.0.0.1:{port}"));
        let metrics = Metrics::new().unwrap();
        let metrics = Arc::new(metrics);
        let control = control::start(topology(name), settings(port), Arc::clone(&metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (phase, watched) = watch::channel(Phase::Starting);
        let (configure, configuration) = watch::channel(Configuration::default());
        let (set_token, token) = watch::channel(Some(Token::new("secret")));
        let (reloads, reloading) = mpsc::channel(1);
        let (asks, mut questions) = mpsc::channel(1);
        let (pass_on, asked) = mpsc::channel(1);
        // Sessions go by what was ordered at once, as there are none.
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                match question {
                    Ask::Settle(settled) => settled.send(()).unwrap(),
                    other => pass_on.send(other).await.unwrap(),
                }
            }
        });
        let (_, settings) = watch::channel("listen: 127.0.0.1:3306\n".into());
        let console = Console {
            control: control.handle().clone(),
            metrics,
            host: "app001".into(),
            version: "1.2.3",
            started: SystemTime::now(),
            phase: watched,
            configuration,
            settings,
            token,
            reloads,
            asks,
        };
        tokio::spawn(serve(listener, console, CancellationToken::new()));
        let (reloading, asked) = (Mutex::new(reloading), Mutex::new(asked));
        Self { address, control, phase, configure, set_token, reloading, asked, _unused: unused }
    }

    /// The status code, the head and the body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        self.ask_with(method, path, "", "").await
    }

    /// The same with more headers and a body.
    async fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.to_ascii_lowercase(), body.to_owned())
    }

    /// Asks for each path and compares the code and a part of the body.
    async fn expect(&self, table: &[(&str, u16, &str)]) {
        for (path, code, part) in table {
            let (found, _, body) = self.ask("GET", path).await;
            assert!(found == *code && body.contains(part), "{path}: {found} {body}");
        }
    }
}

fn topology(name: ServerName) -> Topology {
    Topology {
        servers: vec![ServerSpec {
            name,
            role: Role::Master,
            partition: 0,
            enabled: true,
            weight: 1,
        }],
        partitions: vec!["default".into()],
        read_only: false,
        master_may_replicate: false,
        health: HealthParams { threshold: NonZeroU8::MIN },
    }
}

fn settings(port: u16) -> Settings {
    let target = ProbeTarget {
        host: "127.0.0.1".into(),
        port,
        user: "x".into(),
        pass: String::new(),
        tls: Tls { mode: TlsMode::Off, ..Tls::default() },
    };
    let interval = Duration::from_secs(60);
    Settings { servers: vec![target], interval, timeout: Duration::from_millis(300) }
}

#[tokio::test]
async fn verdicts_follow_the_cluster() {
    let console = Fixture::start().await;
    let checking = "not every server has been checked";
    let table = [("/livez", 200, "alive"), ("/readyz", 503, checking), ("/rw", 503, checking)];
    console.expect(&table).await;
    console.control.handle().ready().await;
    console.expect(&[("/readyz", 503, "does not listen yet")]).await;
    console.phase.send_replace(Phase::Serving);
    let timed_out = "last error timed out after 0.3 s";
    let table = [
        ("/livez", 200, "alive"),
        ("/readyz", 200, "ready"),
        ("/rw", 503, "read-only: severed, master 127.0.0.1:"),
        ("/rw?partition=default", 503, timed_out),
        ("/ro", 503, "No server is left to serve reads"),
        ("/rw?partition=other", 404, "no such partition"),
        ("/ro?partition=other", 404, "no such partition"),
        ("/api/v1/unknown-outcomes", 200, "[]"),
        ("/nothing", 404, "nothing here"),
        ("/api/v1/nothing", 404, "nothing here"),
        ("/metrics", 200, "failsoft_partition_mode{partition=\"default\",reason=\"severed\"} 1"),
        ("/", 200, timed_out),
    ];
    console.expect(&table).await;
    console
        .control
        .handle()
        .order(Order::SetReadOnly { partition: None, on: true }, "an operator")
        .await
        .unwrap();
    console.expect(&[("/rw", 503, "read-only: config, switched on by an operator")]).await;
    console.phase.send_replace(Phase::Draining);
    let ending = "about to end";
    console.expect(&[("/livez", 200, ""), ("/readyz", 503, ending), ("/ro", 503, ending)]).await;
}

#[tokio::test]
async fn the_status_is_json_and_tells_of_events() {
    let console = Fixture::start().await;
    console.control.handle().ready().await;
    let (code, head, body) = console.ask("GET", "/api/v1/status").await;
    assert!(code == 200 && head.contains("content-type: application/json"), "{head}");
    let status: Status = serde_json::from_str(&body).unwrap();
    assert_eq!((status.host.as_str(), status.version.as_str()), ("app001", "1.2.3"));
    let told = |words| status.events.iter().any(|event| event.text.contains(words));
    assert!(told("is unhealthy") && told("is read-only: severed"), "{:?}", status.events);
    assert_eq!(status.servers[0].failed_in_a_row, 1);
}

#[tokio::test]
async fn other_methods_are_refused_and_head_is_get_without_a_body() {
    let console = Fixture::start().await;
    for path in ["/", "/metrics", "/rw", "/api/v1/status"] {
        assert_eq!(console.ask("POST", path).await.0, 405, "{path}");
        assert_eq!(console.ask("DELETE", path).await.0, 405, "{path}");
    }
    let (code, _, body) = console.ask("HEAD", "/livez").await;
    assert_eq!((code, body.as_str()), (200, ""));
}

const TOKEN: &str = "Authorization: Bearer secret\r\n";

#[tokio::test]
async fn actions_need_the_token() {
    let console = Fixture::start().await;
    console.control.handle().ready().await;
    console.phase.send_replace(Phase::Serving);
    let name = console.control.handle().view().servers[0].name.to_string();
    let disable = format!("/api/v1/servers/{name}/disable");
    // headers, status, a part of the answer
    let table = [
        ("", 401, "Authorization: Bearer TOKEN"),
        ("Authorization: Bearer wrong\r\n", 403, "the token is wrong"),
        ("Authorization: Bearer secre\r\n", 403, "the token is wrong"),
        ("Authorization: Bearer secrets\r\n", 403, "the token is wrong"),
        ("Authorization: Bearer\r\n", 403, "the token is wrong"),
        ("Authorization: Basic secret\r\n", 403, "the token is wrong"),
        ("Authorization: bearer secret\r\nSec-Fetch-Site: cross-site\r\n", 403, "another site"),
    ];
    for (headers, status, part) in table {
        for path in ["/api/v1/reload", "/api/v1/read-only", disable.as_str()] {
            let (code, head, body) = console.ask_with("POST", path, headers, "").await;
            assert!(code == status && body.contains(part), "{headers}{path}: {code} {body}");
            assert_eq!(head.contains("www-authenticate: bearer"), status == 401, "{head}");
        }
    }
    assert!(console.control.handle().view().servers[0].enabled);
    let (code, _, body) = console.ask_with("POST", &disable, TOKEN, "").await;
    assert_eq!(code, 200, "{body}");
    assert!(!console.control.handle().view().servers[0].enabled);
    console.set_token.send_replace(None);
    let (code, _, body) = console.ask_with("POST", &disable, TOKEN, "").await;
    assert!(code == 403 && body.contains("no admin.token"), "{code} {body}");
    assert_eq!(console.ask_with("GET", &disable, TOKEN, "").await.0, 405);
}

#[tokio::test]
async fn orders_are_carried_out_and_tell_who_gave_them() {
    let console = Fixture::start().await;
    console.control.handle().ready().await;
    let json = format!("{TOKEN}Content-Type: application/json\r\nUser-Agent: test/1é\r\n");
    let order = |path: &'static str, body: &'static str| {
        let (console, json) = (&console, &json);
        async move {
            let (code, _, body) = console.ask_with("POST", path, json, body).await;
            (code, body)
        }
    };
    let read_only = "/api/v1/read-only";
    let (code, body) = order(read_only, "{\"on\": true}").await;
    assert!(code == 200 && body.contains("\"reason\":\"config\""), "{code} {body}");
    let told = console.control.handle().events();
    let is_told = |entry: &control::Entry| {
        entry.text.starts_with("an operator at 127.0.0.1:")
            && entry.text.ends_with(" with test/1 switched read-only mode on")
    };
    assert!(told.iter().any(is_told), "{told:?}");
    let (code, _) = order(read_only, "{\"on\": false, \"partition\": \"default\"}").await;
    assert_eq!(code, 200);
    // body, status, a part of the answer
    let table = [
        ("{\"on\": true, \"partition\": \"other\"}", 404, "there is default"),
        ("{\"on\": \"yes\"}", 400, "invalid type"),
        ("{\"on\": true, \"partitoin\": \"other\"}", 400, "unknown field"),
        ("", 400, "EOF"),
    ];
    for (asked, status, part) in table {
        let (code, body) = order(read_only, asked).await;
        assert!(code == status && body.contains(part), "{asked}: {code} {body}");
    }
    let (code, body) = order("/api/v1/servers/db9:1/enable", "").await;
    assert!(code == 404 && body.contains("db9:1 is not in the configuration"), "{code} {body}");
}

#[tokio::test]
async fn a_reload_is_answered_with_what_came_of_it() {
    let console = Fixture::start().await;
    let asked = || console.ask_with("POST", "/api/v1/reload", TOKEN, "");
    assert_eq!(asked().await.0, 503, "not before it serves");
    console.phase.send_replace(Phase::Serving);
    let difference = crate::api::Difference {
        setting: "read_only".into(),
        old: "false".into(),
        new: "true".into(),
    };
    let done = crate::api::Reloaded { changes: vec![difference], needs_restart: Vec::new() };
    let problem = "f.yaml:1:2: what: wrong".to_owned();
    // what the other side says, status, a part of the answer
    let table = [
        (Some(Ok(done)), 200, "{\"setting\":\"read_only\",\"old\":\"false\",\"new\":\"true\"}"),
        (Some(Err(vec![problem])), 422, "\"problems\":[\"f.yaml:1:2: what: wrong\"]"),
        (None, 503, "about to end"),
    ];
    for (says, status, part) in table {
        let answering = async {
            let request = console.reloading.lock().await.recv().await.unwrap();
            assert!(request.by.starts_with("an operator at 127.0.0.1:"), "{}", request.by);
            if let Some(says) = says {
                request.answer.send(says).unwrap();
            }
        };
        let ((code, _, body), ()) = tokio::join!(asked(), answering);
        assert!(code == status && body.contains(part), "{code} {body}");
    }
}

#[tokio::test]
async fn an_invalid_file_is_shown() {
    let console = Fixture::start().await;
    console.phase.send_replace(Phase::Serving);
    console.configure.send_replace(Configuration {
        file: "/etc/f.yaml".into(),
        read_at: "2026-01-01T00:00:00Z".into(),
        invalid_since: Some("2026-01-02T00:00:00Z".into()),
        problems: vec!["/etc/f.yaml:1:2: <what>: wrong".into()],
        needs_restart: Vec::new(),
    });
    let words = "the configuration on disk (/etc/f.yaml) is invalid since 2026-01-02T00:00:00Z; \
                 running with the one of 2026-01-01T00:00:00Z";
    let table = [
        ("/readyz", 200, words),
        ("/api/v1/status", 200, "\"invalid_since\":\"2026-01-02T00:00:00Z\""),
        ("/", 200, "/etc/f.yaml:1:2: &#60;what&#62;: wrong"),
    ];
    console.expect(&table).await;
}

#[tokio::test]
async fn pages_load_and_run_nothing_but_what_is_here() {
    let console = Fixture::start().await;
    for path in ["/", "/sessions", "/statements", "/events", "/configuration"] {
        let (code, head, body) = console.ask("GET", path).await;
        assert_eq!(code, 200, "{path}: {body}");
        assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
        assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
        assert!(!body.contains("style=") && !body.contains("onclick"), "{path}");
        let links = body.split(['"', ' ']).filter(|word| word.contains("://"));
        assert_eq!(links.collect::<Vec<_>>(), [""; 0], "{path}");
    }
    for (path, kind) in [("console.css", "text/css"), ("console.js", "text/javascript")] {
        let (code, head, _) = console.ask("GET", &format!("/assets/{path}")).await;
        assert!(code == 200 && head.contains(&format!("content-type: {kind}")), "{head}");
    }
    // An answer that is no page has the same guards.
    let (_, head, _) = console.ask("GET", "/api/v1/status").await;
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
}

/// A session with markup in it, as a client may put it there.
fn session(id: u32, state: &str) -> crate::api::SessionRow {
    crate::api::SessionRow {
        id,
        user: "<b>app".into(),
        client: "10.0.0.7".into(),
        schema: "shop".into(),
        state: state.into(),
        since_ms: 1500,
        age_s: 60,
        commands: 12,
        server: Some("db1:3306".into()),
        connection: Some(44),
        pins: vec!["temporary_table".into()],
    }
}

#[tokio::test]
async fn sessions_are_asked_of_those_who_serve_them() {
    let console = Fixture::start().await;
    let paths = ["/sessions", "/sessions?find=tempo", "/sessions?find=nobody", "/api/v1/sessions"];
    for path in paths {
        assert_eq!(console.ask("GET", path).await.0, 200, "not served yet: {path}");
    }
    console.phase.send_replace(Phase::Serving);
    let parts =
        ["2 sessions", "2 sessions with", "Nobody is here", "\"pins\":[\"temporary_table\"]"];
    for (path, part) in paths.into_iter().zip(parts) {
        let answering = async {
            let Some(Ask::Sessions(answer)) = console.asked.lock().await.recv().await else {
                panic!("not asked for sessions")
            };
            answer.send(vec![session(7, "idle"), session(8, "running")]).unwrap();
        };
        let ((code, _, body), ()) = tokio::join!(console.ask("GET", path), answering);
        assert!(code == 200 && body.contains(part), "{path}: {body}");
        if path == "/sessions" {
            assert!(body.contains("&#60;b&#62;app@10.0.0.7"), "{body}");
            assert!(body.find(">8 <").unwrap() < body.find(">7 <").unwrap(), "running ones first");
        }
    }
}

#[tokio::test]
async fn sessions_are_ended_and_that_is_told() {
    let console = Fixture::start().await;
    let end = |path: &'static str| console.ask_with("POST", path, TOKEN, "");
    assert_eq!(end("/api/v1/sessions/7/end").await.0, 503, "not before it serves");
    console.phase.send_replace(Phase::Serving);
    for (is_there, status) in [(true, 200), (false, 404)] {
        let answering = async {
            let Some(Ask::EndSession(7, answer)) = console.asked.lock().await.recv().await else {
                panic!("not asked to end session 7")
            };
            answer.send(is_there).unwrap();
        };
        let ((code, _, body), ()) = tokio::join!(end("/api/v1/sessions/7/end"), answering);
        assert_eq!(code, status, "{body}");
    }
    assert_eq!(end("/api/v1/sessions/x/end").await.0, 400);
    let (_, _, body) = console.ask("GET", "/api/v1/events?origin=operator").await;
    assert_eq!(body.matches(" ended session 7").count(), 1, "{body}");
    assert!(!body.contains("is unhealthy"), "{body}");
}

#[tokio::test]
async fn what_changes_is_streamed_and_a_client_that_comes_back_misses_nothing() {
    let console = Fixture::start().await;
    console.control.handle().ready().await;
    let follow = |known: &'static str| {
        let address = console.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n{known}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream
        }
    };
    let mut stream = follow("").await;
    let first = read_until(&mut stream, "event: status").await;
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    let order = Order::SetReadOnly { partition: None, on: true };
    console.control.handle().order(order, "somebody").await.unwrap();
    let seen = read_until(&mut stream, "event: event").await;
    assert!(seen.contains("event: event"), "{seen}");
    let mut again = follow("Last-Event-ID: 0\r\n").await;
    let again = read_until(&mut again, "switched read-only mode on").await;
    assert!(again.contains("id: 1\n") && again.contains("is unhealthy"), "{again}");
}

/// What a stream says up to and with this.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = String::new();
    let reading = async {
        while !seen.contains(wanted) {
            let mut bytes = [0; 4096];
            let len = stream.read(&mut bytes).await.unwrap();
            assert!(len > 0, "it ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..len]));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.unwrap();
    seen
}

#[tokio::test]
async fn a_statement_is_explained() {
    let console = Fixture::start().await;
    console.control.handle().ready().await;
    let table = [
        ("/statements?explain=SELECT+1+FOR+UPDATE", 200, "is refused with 1290: severed"),
        ("/statements?refusable=yes", 200, "What would be refused in read-only mode"),
        ("/api/v1/statements?limit=x", 400, "\"error\":"),
        ("/api/v1/statements?limit=5&refusable=true", 200, "\"digests\":[]"),
        ("/api/v1/events?after=-1", 400, "\"error\":"),
        ("/api/v1/configuration", 200, "\"yaml\":\"listen: 127.0.0.1:3306"),
        ("/configuration", 200, "listen: 127.0.0.1:3306"),
        ("/api/v1/openapi.json", 200, "\"/api/v1/servers/{server}/disable\""),
    ];
    console.expect(&table).await;
}

#[test]
fn every_path_is_described() {
    let description = serde_json::to_value(openapi()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 21, "{:?}", paths.keys());
    for (path, methods) in paths {
        for (method, described) in methods.as_object().unwrap() {
            assert!(described["summary"].is_string(), "{method} {path} has no summary");
            assert_eq!(described["security"].is_array(), method == "post", "{method} {path}");
        }
    }
}
