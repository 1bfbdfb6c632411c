use std::num::NonZeroU8;
use std::time::Duration;

use control::{Control, Order, ProbeTarget, Settings, Tls, TlsMode};
use policy::health::HealthParams;
use policy::topology::{Role, ServerName, ServerSpec, Topology};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A console whose only server does not exist: its port belongs to nobody who would answer.
struct Fixture {
    address: std::net::SocketAddr,
    control: Control,
    phase: watch::Sender<Phase>,
    _unused: TcpListener,
}

impl Fixture {
    async fn start() -> Self {
        // Held and never accepted from: a check waits for a greeting until its time is up.
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = unused.local_addr().unwrap().port();
        let name = ServerName::new(&format!("127.0.0.1:{port}"));
        let metrics = Metrics::new(std::slice::from_ref(&name), &["default".into()]).unwrap();
        let metrics = Arc::new(metrics);
        let control = control::start(topology(name), settings(port), Arc::clone(&metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (phase, watched) = watch::channel(Phase::Starting);
        let console = Console {
            control: control.handle().clone(),
            metrics,
            host: "app001".into(),
            version: "1.2.3",
            started: SystemTime::now(),
            phase: watched,
        };
        tokio::spawn(serve(listener, console, CancellationToken::new()));
        Self { address, control, phase, _unused: unused }
    }

    /// The status code, the head and the body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
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
        ("/nothing", 404, "nothing here"),
        ("/api/v1/nothing", 404, "nothing here"),
        ("/metrics", 200, "failsoft_partition_mode{partition=\"default\",reason=\"severed\"} 1"),
        ("/", 200, timed_out),
    ];
    console.expect(&table).await;
    console.control.handle().order(Order::SetReadOnly(true)).await.unwrap();
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

#[tokio::test]
async fn the_page_may_load_and_run_nothing() {
    let console = Fixture::start().await;
    let (_, head, _) = console.ask("GET", "/").await;
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
}
