//! A short run against each flavour: some ten faults, each of another kind.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used, reason = "tests panic")]

use std::process::Command;

use testkit::{Flavor, flavors};

/// Runs the program as `make soak` does, and holds it to what it says.
fn run(flavor: Flavor, seed: &str) {
    if !flavors().contains(&flavor) {
        return;
    }
    let name = flavor.to_string().to_lowercase();
    let output = Command::new(env!("CARGO_BIN_EXE_failsoft-checker"))
        .args(["--quick", "--faults", "11", "--minutes", "5", "--think", "100"])
        .args(["--flavor", &name, "--seed", seed])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    println!("{said}");
    let number = |before: &str, after: &str| -> u64 {
        let line = said.lines().find(|line| line.starts_with(before));
        let rest = line.and_then(|line| line.strip_prefix(before)?.split(after).next());
        rest.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{before}: {said}"))
    };
    assert!(number("| all ", " kinds") >= 8, "{said}");
    assert!(number("| ok | ", " ") >= 50, "hardly anything was written\n{said}");
    assert_eq!(number("wrong: ", " "), 0, "{said}");
}

#[test]
fn mariadb_keeps_every_acknowledged_write() {
    run(Flavor::MariaDb, "1");
}

#[test]
fn mysql_keeps_every_acknowledged_write() {
    run(Flavor::MySql, "1");
}
