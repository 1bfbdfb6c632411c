//! Shows what failsoft sees, over HTTP and in the MySQL protocol, and takes orders.
//!
//! * [`api`] is what there is to see, as data; everything else is made from it, so that pages, API,
//!   admin port and command line agree.
//! * `pages` is the console for people, `history` what its small charts show.
//! * `orders` is what operators order; `actions` takes it by HTTP, with the token.
//! * `web` is the HTTP server, `doors` its connections; `resources` what the API shows, `verdicts` what load
//!   balancers ask, and `stream` tells of what changes.
//! * [`admin`] is the console for clients of MySQL.
//! * [`plane`] is what the console asks of the rest of failsoft.

mod actions;
pub mod admin;
pub mod api;
mod doors;
mod history;
mod orders;
mod pages;
pub mod plane;
mod resources;
mod stream;
mod verdicts;
mod web;

pub use actions::Token;
pub use plane::{Ask, Asks, Reload, Reloads};
pub use web::{Console, Phase, openapi, serve};
