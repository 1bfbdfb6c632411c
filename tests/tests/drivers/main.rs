//! Drivers as applications have them, through failsoft: with healthy servers they say what they say
//! on a direct connection, and when the master is lost none repeats a write. The programs are in
//! `tests/drivers`; what came of it stands in `docs/drivers.md`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests panic, and are allowed to"
)]

mod fault;
mod list;
mod page;
mod plain;
mod program;
mod schema;

use std::collections::BTreeMap;
use std::sync::Arc;

use list::{Driver, Sort};
use page::{Cells, Table};
use testkit::{Flavor, flavors};

/// How the schemas of the programs begin; a driver's number follows.
const SCHEMAS: &str = "app_driver_";

#[tokio::test(flavor = "multi_thread")]
async fn every_driver() {
    let (drivers, versions): (Vec<_>, Vec<_>) = list::present().into_iter().unzip();
    if drivers.is_empty() {
        return;
    }
    let flavors = flavors();
    let (mut plain, mut fault, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for &flavor in &flavors {
        let stack = Arc::new(plain::stack(flavor).await);
        let (cells, complaints) = plain::run(&stack, &drivers).await;
        plain.push(cells);
        wrong.extend(complaints.iter().map(|complaint| format!("{flavor}: {complaint}")));
        drop(stack);
        let (cells, complaints) = fault::run(flavor, &drivers).await;
        fault.push(cells);
        wrong.extend(complaints.iter().map(|complaint| format!("{flavor}: {complaint}")));
    }
    // A page about both cannot be held against one.
    if flavors.len() == Flavor::all().len() {
        let names = drivers.iter().map(|driver| driver.name);
        let tables = tables(&drivers, page::merged(plain), page::merged(fault));
        wrong.extend(page::write_or_compare(&tables, &names.zip(versions).collect()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The tables of the page.
fn tables(drivers: &[Driver], plain: Cells, fault: Cells) -> Vec<Table> {
    let of = |sort, cells: &Cells| -> Cells {
        let drivers = drivers.iter().filter(|driver| driver.sort == sort);
        drivers.map(|driver| (driver.name, cells[driver.name].clone())).collect()
    };
    let mut dumps: BTreeMap<_, _> = of(Sort::Dump, &plain);
    for (name, cells) in of(Sort::Dump, &fault) {
        dumps.entry(name).or_default().extend(cells);
    }
    let fault_columns = fault::STEPS.iter().map(|(step, _)| *step).collect();
    vec![
        Table { name: "plain", columns: plain::STEPS.to_vec(), rows: of(Sort::Client, &plain) },
        Table { name: "fault", columns: fault_columns, rows: of(Sort::Client, &fault) },
        Table {
            name: "dumps",
            columns: vec!["wrong password", "dump", "dump while the master is lost"],
            rows: dumps,
        },
    ]
}
