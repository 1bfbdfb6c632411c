//! Certificates on both sides, over either version of TLS.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests print what they skip, and panic"
)]

mod raw;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use failsoft_tests::{PATIENCE, installed_clients, outcome};
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, SslOpts};
use raw::CALM;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use testkit::{APP, Failsoft, Flavor, Options, ROOT, Server, conn, execute, flavors, wait_until};

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// A folder with an authority and what it signed.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate, `NAME.pem`, with its key in `NAME.key`.
    fn sign(&self, name: &str, hosts: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name, hosts).signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

fn named(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// A server that shows a certificate of the authority and asks for one.
async fn start(flavor: Flavor, authority: &Authority, version: &str) -> Server {
    let extra = [
        format!("--ssl-ca={}", authority.show("ca.pem")),
        format!("--ssl-cert={}", authority.show("server.pem")),
        format!("--ssl-key={}", authority.show("server.key")),
        format!("--tls-version={version}"),
    ];
    let options = Options { extra: extra.to_vec(), ..Options::default() };
    let server = Server::start(flavor, options).await.unwrap();
    let mut root = conn(server.port(), ROOT.user, ROOT.pass, None).await.unwrap();
    execute(&mut root, "CREATE USER shown@'%' IDENTIFIED BY 'shown-pass' REQUIRE X509").await;
    server
}

async fn before(server: &Server, tls: &str) -> Failsoft {
    let users = "users:\n  - {name: app, pass: app-pass}\n  - {name: shown, pass: shown-pass}";
    let config = Failsoft::config(&[("master", server.port())]).with(CALM).with(users);
    config.with(&format!("tls: {{{tls}}}")).start().await
}

async fn is_read_write(failsoft: &Failsoft) {
    wait_until(PATIENCE, "a check that got through", || async {
        failsoft.http_get("/rw").await.1.contains("read-write")
    })
    .await;
}

/// Sessions and checks verify the server, and show their own certificate where an account wants it.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_verified_and_shown_a_certificate() {
    for flavor in flavors() {
        for version in VERSIONS {
            let authority = Authority::new("authority");
            authority.sign("server", &["127.0.0.1"]);
            authority.sign("client", &[]);
            let server = start(flavor, &authority, version).await;
            let verify = format!("servers: verify, ca: {}", authority.show("ca.pem"));
            let (cert, key) = (authority.show("client.pem"), authority.show("client.key"));
            let shows = format!("{verify}, client_cert: {cert}, client_key: {key}");
            let failsoft = before(&server, &shows).await;
            is_read_write(&failsoft).await;
            for (user, pass) in [("app", "app-pass"), ("shown", "shown-pass")] {
                let mut session = conn(failsoft.port(), user, pass, None).await.unwrap();
                let seen: Option<(String, String)> =
                    session.query_first("SHOW SESSION STATUS LIKE 'Ssl_version'").await.unwrap();
                assert_eq!(seen.unwrap().1, version, "{flavor} {user}");
                session.disconnect().await.unwrap();
            }
            // Without a certificate the account's owner is not let in.
            let failsoft = before(&server, &verify).await;
            let mut session = conn(failsoft.port(), "shown", "shown-pass", None).await.unwrap();
            let refused = outcome(&mut session, "SELECT 1").await;
            assert!(refused.contains("Access denied for user 'shown'"), "{flavor}: {refused}");
        }
    }
}

/// A certificate of somebody else, or for somebody else, ends it before a password is sent.
#[tokio::test(flavor = "multi_thread")]
async fn servers_with_a_wrong_certificate_are_not_used() {
    for flavor in flavors() {
        let (authority, other) = (Authority::new("authority"), Authority::new("another"));
        authority.sign("server", &["db.example"]);
        let server = start(flavor, &authority, "TLSv1.3").await;
        for trusted in [&authority, &other] {
            let verify = format!("servers: verify, ca: {}", trusted.show("ca.pem"));
            let failsoft = before(&server, &verify).await;
            let mut session = failsoft.conn(None).await.unwrap();
            let none = outcome(&mut session, "SELECT 1").await;
            assert!(none.starts_with("1053/08S01: "), "{flavor}: {none}");
            assert!(none.contains("certificate"), "{flavor}: {none}");
            let (_, verdict) = failsoft.http_get("/rw").await;
            assert!(!verdict.contains("read-write"), "{flavor}: {verdict}");
        }
        // Whoever does not verify does not mind.
        let failsoft = before(&server, "servers: required").await;
        let mut session = failsoft.conn(None).await.unwrap();
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}");
    }
}

/// Clients that verify are content with a certificate from files, and with no other.
#[tokio::test(flavor = "multi_thread")]
async fn clients_verify_failsoft() {
    for flavor in flavors().into_iter().take(1) {
        let (authority, other) = (Authority::new("authority"), Authority::new("another"));
        authority.sign("failsoft", &["127.0.0.1"]);
        let server = Server::start(flavor, Options::default()).await.unwrap();
        let (cert, key) = (authority.show("failsoft.pem"), authority.show("failsoft.key"));
        let failsoft = before(&server, &format!("cert: {cert}, key: {key}")).await;
        for (trusted, let_in) in [(&authority, true), (&other, false)] {
            let ssl = SslOpts::default()
                .with_root_certs(vec![trusted.file("ca.pem").into()])
                .with_disable_built_in_roots(true);
            let options = testkit::opts(failsoft.port(), APP.user, APP.pass, None);
            let session = Conn::new(options.ssl_opts(Some(ssl))).await;
            assert_eq!(session.is_ok(), let_in, "{:?}", session.err());
        }
        for version in VERSIONS {
            command_line_clients(failsoft.port(), version);
        }
    }
}

/// With `tls.client_ca` a password is not enough: a client shows a certificate of these authorities,
/// or it hears nothing more, and the log says why.
#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_one_is_demanded() {
    for flavor in flavors().into_iter().take(1) {
        let (authority, other) = (Authority::new("authority"), Authority::new("another"));
        for signing in [&authority, &other] {
            signing.sign("client", &[]);
        }
        let server = Server::start(flavor, Options::default()).await.unwrap();
        fs::copy(authority.file("ca.pem"), authority.file("trusted.pem")).unwrap();
        let demands = format!("clients: required, client_ca: {}", authority.show("trusted.pem"));
        let failsoft = before(&server, &demands).await;
        let login = |shows: Option<&Authority>| {
            let ssl = SslOpts::default().with_danger_accept_invalid_certs(true);
            let identity = shows.map(|by| {
                ClientIdentity::new(by.file("client.pem").into(), by.file("client.key").into())
            });
            let options = testkit::opts(failsoft.port(), APP.user, APP.pass, None);
            Conn::new(options.ssl_opts(Some(ssl.with_client_identity(identity))))
        };
        let mut session = login(Some(&authority)).await.unwrap();
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}");
        assert!(login(None).await.is_err(), "{flavor}");
        wait_log(&failsoft, "client 127.0.0.1 was not let in: peer sent no certificates").await;
        assert!(login(Some(&other)).await.is_err(), "{flavor}");
        wait_log(&failsoft, "client 127.0.0.1 was not let in: invalid peer certificate").await;
        // Without TLS there is no certificate, and MySQL's own error.
        let plain = conn(failsoft.port(), APP.user, APP.pass, None).await.err().unwrap();
        assert!(plain.to_string().contains("3159"), "{plain}");
        // The authority becomes another, under the same name; open sessions stay.
        fs::copy(other.file("ca.pem"), authority.file("trusted.pem")).unwrap();
        let (status, body) = failsoft.http_post("/api/v1/reload", "").await;
        assert!(status == 200 && body.contains("\"changes\":[]"), "{flavor}: {body}");
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}");
        assert!(login(Some(&authority)).await.is_err(), "{flavor}");
        assert!(login(Some(&other)).await.is_ok(), "{flavor}");
        // What is no authority changes nothing.
        fs::write(authority.file("trusted.pem"), "nothing").unwrap();
        let (status, body) = failsoft.http_post("/api/v1/reload", "").await;
        assert!(status != 200 && body.contains("trusted.pem"), "{flavor}: {status} {body}");
        assert!(login(Some(&other)).await.is_ok(), "{flavor}");
    }
}

async fn wait_log(failsoft: &Failsoft, line: &str) {
    wait_until(PATIENCE, line, || async { failsoft.log().contains(line) }).await;
}

/// Certificates are read again with the configuration, though that is the same: those shown to
/// clients, and the authorities that servers are held against.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_read_again() {
    for flavor in flavors() {
        let (authority, other) = (Authority::new("authority"), Authority::new("another"));
        for signing in [&authority, &other] {
            signing.sign("failsoft", &["127.0.0.1"]);
            signing.sign("server", &["127.0.0.1"]);
        }
        let mut server = start(flavor, &authority, "TLSv1.3").await;
        let (cert, key) = (authority.show("failsoft.pem"), authority.show("failsoft.key"));
        let ca = authority.show("ca.pem");
        let old = fs::read(authority.file("ca.pem")).unwrap();
        fs::write(authority.file("old.pem"), old).unwrap();
        let tls = format!("cert: {cert}, key: {key}, servers: verify, ca: {ca}");
        let failsoft = before(&server, &tls).await;
        is_read_write(&failsoft).await;
        let login = |trusted: PathBuf| {
            let ssl = SslOpts::default()
                .with_root_certs(vec![trusted.into()])
                .with_disable_built_in_roots(true);
            let options = testkit::opts(failsoft.port(), APP.user, APP.pass, None);
            Conn::new(options.ssl_opts(Some(ssl)))
        };
        let mut session = login(authority.file("old.pem")).await.unwrap();
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}");
        // Everything is signed by somebody else, under the same names.
        for name in ["ca.pem", "failsoft.pem", "failsoft.key", "server.pem", "server.key"] {
            fs::copy(other.file(name), authority.file(name)).unwrap();
        }
        server.stop().await.unwrap();
        server.start_again().await.unwrap();
        let (status, body) = failsoft.http_post("/api/v1/reload", "").await;
        assert!(status == 200 && body.contains("\"changes\":[]"), "{flavor}: {body}");
        is_read_write(&failsoft).await;
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}: open sessions stay");
        assert!(login(authority.file("old.pem")).await.is_err(), "{flavor}");
        let mut session = login(other.file("ca.pem")).await.unwrap();
        assert_eq!(outcome(&mut session, "SELECT 1").await, "ok", "{flavor}");
    }
}

/// MariaDB's and MySQL's own clients, where they are installed, over one version only.
fn command_line_clients(port: u16, version: &str) {
    for client in installed_clients() {
        let is_mysql = client.ends_with("mysql/mysql");
        let required: &[&str] = match is_mysql {
            true => &["--ssl-mode=REQUIRED", "--commands"],
            false => &["--ssl", "--skip-ssl-verify-server-cert"],
        };
        let output = Command::new(&client)
            .args(["--no-defaults", "-h127.0.0.1", "-uapp", "-papp-pass"])
            .args(required)
            .args([format!("-P{port}"), format!("--tls-version={version}")])
            .args(["-e", "status"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // Ciphers of 1.3 are named otherwise than those before.
        let is_new = text.contains("Cipher in use is TLS_");
        assert!(text.contains("Cipher in use is "), "{}: {text}", client.display());
        assert_eq!(is_new, version == "TLSv1.3", "{}: {text}", client.display());
        println!("{} {version}", client.display());
    }
}
