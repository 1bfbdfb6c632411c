//! Shows what failsoft sees, over HTTP.
//!
//! * [`api`] is what there is to see, as data; everything else is made from it, so that page, API
//!   and command line agree.
//! * `page` is the console for people.
//! * `web` is the HTTP server: the page, the API, metrics, and verdicts for load balancers.

pub mod api;
mod page;
mod web;

pub use web::{Console, Phase, serve};
