//! How failsoft is run, tried with a stand-in that serves pages and nothing else.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::{env, fs};

use tempfile::TempDir;
use testkit::{ADMIN_TOKEN, Config, Failsoft};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A script that becomes this test program, as the stand-in below.
fn stand_in() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("failsoft");
    let tests = env::current_exe().unwrap();
    let tests = tests.display();
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'run -c' ] || exit 2\necho started >&2\n\
         STAND_IN=\"$3\" exec '{tests}' --exact stands_in --nocapture\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, path)
}

/// Not a test by itself: answers each request with its first line, the token and the file.
#[tokio::test]
async fn stands_in() {
    let Some(file) = env::var_os("STAND_IN") else { return };
    let text = fs::read_to_string(&file).unwrap();
    let port = text.split_once("http: 127.0.0.1:").unwrap().1.split_once('\n').unwrap().0;
    let address = (Ipv4Addr::LOCALHOST, port.parse().unwrap());
    let listener = TcpListener::bind(address).await.unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let count = stream.read(&mut request).await.unwrap();
        let request = String::from_utf8_lossy(request.get(..count).unwrap()).into_owned();
        let token = env::var("FAILSOFT_ADMIN_TOKEN").unwrap();
        let file = fs::read_to_string(&file).unwrap();
        let answer = format!("HTTP/1.0 200 OK\r\n\r\n{request}\n{token}\n{file}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn config(program: PathBuf) -> Config {
    Failsoft::config(&[("master", 1111), ("replica", 2222)]).program(program)
}

#[tokio::test]
async fn is_started_asked_changed_and_started_again() {
    let (_folder, program) = stand_in();
    let mut failsoft = config(program.clone()).with("read_only: true").start().await;
    let (status, body) = failsoft.http_get("/rw?partition=a").await;
    assert_eq!(status, 200);
    let listen = format!("listen: [\"127.0.0.1:{}\"]", failsoft.port());
    let admin = format!("mysql: 127.0.0.1:{}", failsoft.admin_port());
    let replica = "{host: 127.0.0.1, port: 2222, role: replica}";
    for part in ["GET /rw?partition=a ", ADMIN_TOKEN, &listen, &admin, replica, "read_only: true"] {
        assert!(body.contains(part), "{part} in {body}");
    }
    let (_, body) = failsoft.http_post("/api/v1/reload", "{}").await;
    assert!(body.contains("Authorization: Bearer test-token\r\n"), "{body}");

    failsoft.write_config(&config(program).with("read_only: false"));
    assert!(failsoft.http_get("/").await.1.contains("read_only: false"));

    let pid = failsoft.pid();
    failsoft.start_again().await;
    assert_ne!(failsoft.pid(), pid);
    assert_eq!(failsoft.log().matches("started").count(), 2);
    assert!(failsoft.dir().join("failsoft.yaml").exists());
}

#[tokio::test]
async fn signals_reach_it() {
    let (_folder, program) = stand_in();
    let mut failsoft = config(program).start().await;
    assert!(failsoft.is_running());
    // The stand-in dies of either signal, so it has no exit code.
    assert_eq!(failsoft.stop().await, None);
    assert!(!failsoft.is_running());
    failsoft.start_again().await;
    failsoft.reload();
    assert_eq!(failsoft.stop().await, None);
    failsoft.start_again().await;
    failsoft.kill();
    assert!(!failsoft.is_running());
}

#[tokio::test]
async fn what_it_logged_is_in_the_reason_it_did_not_start() {
    let (_folder, program) = stand_in();
    let config_without_port = config(program).with("admin: {}").env("RUST_BACKTRACE", "0");
    let reason = config_without_port.try_start().await.unwrap_err();
    assert!(reason.contains("started"), "{reason}");
    let reason = config("/no/such/failsoft".into()).try_start().await.unwrap_err();
    assert!(reason.contains("/no/such/failsoft"), "{reason}");
}
