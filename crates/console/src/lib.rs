//! Shows what failsoft sees, over HTTP, and takes orders.
//!
//! * [`api`] is what there is to see, as data; everything else is made from it, so that page, API
//!   and command line agree.
//! * `page` is the console for people.
//! * `actions` is what changes something, and needs the token.
//! * `web` is the HTTP server: the page, the API, metrics, and verdicts for load balancers.

mod actions;
pub mod api;
mod page;
mod web;

pub use actions::{Reload, Reloads, Settling, Token};
pub use web::{Console, Phase, serve};
