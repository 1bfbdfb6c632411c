//! Whole files: what they mean, and every way in which one can be wrong.

mod docs;
mod problems;
mod robust;
mod shown;
mod sound;

use crate::{Config, ConfigError};

/// One master and an account: the least that is a configuration.
const MINIMAL: &str = "\
defaults: {user: app, pass: secret}
databases:
  - {host: db001, role: master}
";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "APP_DB_PASS" => "app-password",
        "FAILSOFT_DB_PASS" => "monitor-password",
        "FAILSOFT_ADMIN_TOKEN" => "admin-token",
        "DB_HOST" => "db009",
        "DB_PORT" => "3310",
        "YES" => "true",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("failsoft.yaml", text, &env)
}

/// The configuration of a text that has no problems.
fn sound(text: &str) -> Config {
    match parse(text) {
        Ok(config) => config,
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// [`MINIMAL`], and more.
fn minimal_and(more: &str) -> String {
    format!("{MINIMAL}{more}")
}
