//! The API is what its description says: schemathesis makes requests from the description and looks at
//! the answers.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

use std::env;

use failsoft_tests::Stack;
use testkit::{ADMIN_TOKEN, Flavor};
use tokio::process::Command;

/// Drained, it would have no more to say; and a stream does not end.
const LEFT_OUT: &str = "/api/v1/(drain|stream)";

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_as_it_is_described() {
    let program = testkit::cache_dir().join("drivers/bin/schemathesis");
    if !program.is_file() {
        assert!(env::var_os("CI").is_none(), "there is no schemathesis; scripts/setup.sh drivers");
        println!("skipped: there is no schemathesis; scripts/setup.sh drivers installs it");
        return;
    }
    let stack = Stack::start(Flavor::MariaDb).await;
    let port = stack.failsoft.http_port();
    let output = Command::new(program)
        .arg("run")
        .arg(format!("http://127.0.0.1:{port}/api/v1/openapi.json"))
        .args(["--header", &format!("Authorization: Bearer {ADMIN_TOKEN}")])
        .args(["--exclude-path-regex", LEFT_OUT])
        .args(["--max-examples", "25", "--seed", "1", "--no-color"])
        .args(["--phases", "examples,coverage,fuzzing"])
        .current_dir(stack.failsoft.dir())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let (status, _) = stack.failsoft.http_get("/livez").await;
    assert_eq!(status, 200);
}
