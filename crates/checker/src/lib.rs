//! Holds failsoft to its promise about writes while everything around it breaks.
//!
//! Sessions write numbered rows through failsoft and note what they are told of each; faults come
//! one after another; at the end the tables are compared with the notes. What was acknowledged is
//! there exactly once, what was refused or rolled back is not, and what is unknown is there once or
//! not at all, whole or not at all.
//!
//! ```text
//!   script ──▶ session ──▶ wire ──▶ failsoft ──▶ links, cables ──▶ servers
//!                 │                                   ▲              │
//!   trial ◀───────┘          course ──▶ faults ───────┘              │
//!     └──▶ unit ──▶ field (the books) ──▶ audit: judge ◀─── rows ────┘
//! ```
//!
//! `promise`, `trial`, `unit`, `judge`, `script` and `course` are pure; the rest does what they say.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool for tests, where a panic is the report"
)]

mod audit;
pub mod course;
pub mod faults;
pub mod field;
pub mod judge;
pub mod liar;
pub mod network;
pub mod promise;
mod promote;
pub mod reads;
pub mod report;
pub mod run;
pub mod script;
mod session;
pub mod stand;
pub mod trial;
pub mod unit;
mod wire;

pub use network::{Network, enter, is_inside};
pub use report::Report;
pub use run::{Until, run, run_with_a_liar};
pub use stand::Plan;
