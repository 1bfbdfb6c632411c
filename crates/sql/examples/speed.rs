//! Prints what classifying costs: `cargo run --release -p sql --example speed`.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sql::{Dialect, classify};

/// How long each statement is measured.
const PATIENCE: Duration = Duration::from_millis(300);

fn main() {
    let point = "SELECT id, name, email, created FROM users WHERE id = 1234567 AND status = 'active' LIMIT 1";
    let update = "UPDATE job SET leaseOwner = '4711:host:1', leaseExpires = 1700000000 WHERE id IN (1, 2) LIMIT 1";
    let call = "SELECT COUNT(*), MAX(dateModified), CONCAT(name, '-', id) FROM task WHERE status IN ('open') GROUP BY owner";
    let session = "SET NAMES utf8mb4";
    let dump = "/*!40101 SET NAMES utf8mb4 */";
    let long = format!("INSERT INTO blob_store (data) VALUES ('{}')", "x".repeat(10 << 20));
    let rows =
        format!("INSERT INTO t (a, b, c) VALUES {}", vec!["(1, 'some text', 3)"; 50_000].join(","));
    println!("{:>9} {:>10} {:>9}  statement", "bytes", "ns", "GB/s");
    for sql in [point, update, call, session, dump, "COMMIT", &long, &rows] {
        let nanos = nanos(sql.as_bytes());
        let shown: String = sql.chars().take(60).collect();
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let speed = sql.len() as f64 / nanos;
        println!("{:>9} {nanos:>10.1} {speed:>9.2}  {shown}", sql.len());
    }
}

/// The least time that classifying takes, in nanoseconds.
fn nanos(sql: &[u8]) -> f64 {
    let runs = (1_000_000 / (sql.len() + 100)).max(1);
    let start = Instant::now();
    let mut best = f64::MAX;
    while Instant::now() - start < PATIENCE {
        let before = Instant::now();
        for _ in 0..runs {
            black_box(classify(black_box(sql), Dialect::default()));
        }
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let each = (Instant::now() - before).as_nanos() as f64 / runs as f64;
        best = best.min(each);
    }
    best
}
