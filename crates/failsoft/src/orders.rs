//! `failsoft reload`, `read-only`, `pause`, `resume`, `disable` and `enable`: orders to a running
//! failsoft, by its API.

use anyhow::{Context, bail};
use console::api::{Difference, Pause, ReadOnly, Refused, Reloaded, Resume, Status};

use crate::cli::{self, Action, Switch};
use crate::http::{Answer, Console, tell};
use crate::{Exit, status};

/// The variable that holds the token where no file does.
const TOKEN: &str = "FAILSOFT_ADMIN_TOKEN";

/// `failsoft reload`
pub(crate) fn reload(options: &Action) -> anyhow::Result<Exit> {
    // Servers that are new are looked at first.
    order(options, "/api/v1/reload", "", |body| {
        let Reloaded { changes, needs_restart } = serde_json::from_str(body)?;
        if changes.is_empty() && needs_restart.is_empty() {
            println!("nothing is different");
        }
        let line =
            |Difference { setting, old, new }: &Difference| format!("{setting}: {old} -> {new}");
        changes.iter().for_each(|change| println!("{}", line(change)));
        needs_restart.iter().for_each(|change| println!("needs a restart: {}", line(change)));
        Ok(())
    })
}

/// `failsoft read-only on|off`
pub(crate) fn read_only(options: &cli::ReadOnly) -> anyhow::Result<Exit> {
    let on = options.switch == Switch::On;
    let asked = ReadOnly { on, partition: options.partition.clone() };
    order(&options.action, "/api/v1/read-only", &serde_json::to_string(&asked)?, show)
}

/// `failsoft pause`
pub(crate) fn pause(options: &cli::Pause) -> anyhow::Result<Exit> {
    let asked = Pause { hold_s: options.hold, partition: options.partition.clone() };
    order(&options.action, "/api/v1/pause", &serde_json::to_string(&asked)?, show)
}

/// `failsoft resume`
pub(crate) fn resume(options: &cli::Resume) -> anyhow::Result<Exit> {
    let asked = Resume { partition: options.partition.clone() };
    order(&options.action, "/api/v1/resume", &serde_json::to_string(&asked)?, show)
}

/// `failsoft enable` and `failsoft disable`
pub(crate) fn enable(options: &cli::Server, enabled: bool) -> anyhow::Result<Exit> {
    let done = if enabled { "enable" } else { "disable" };
    let path = format!("/api/v1/servers/{}/{done}", escaped(&options.server));
    order(&options.action, &path, "", show)
}

/// `failsoft kill`
pub(crate) fn kill(options: &cli::Kill) -> anyhow::Result<Exit> {
    let session = options.session;
    order(&options.action, &format!("/api/v1/sessions/{session}/end"), "", |_| {
        println!("session {session} ends");
        Ok(())
    })
}

/// `failsoft drain`
pub(crate) fn drain(options: &Action) -> anyhow::Result<Exit> {
    order(options, "/api/v1/drain", "", |_| {
        println!("it takes no new connections, and ends when transactions have");
        Ok(())
    })
}

/// The status after an order.
fn show(body: &str) -> anyhow::Result<()> {
    let status: Status = serde_json::from_str(body)?;
    anstream::print!("{}", status::table(&status));
    Ok(())
}

/// What may stand between two slashes of a URL.
fn escaped(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    name.bytes()
        .map(|byte| match byte {
            byte if is_plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// Gives an order, and prints what came of it.
fn order(
    options: &Action,
    path: &str,
    json: &str,
    print: impl FnOnce(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let (console, token) =
        match Console::parse(&options.url).and_then(|it| Ok((it, token(options)?))) {
            Ok(both) => both,
            Err(error) => return Ok(tell(&error, Exit::BadInput)),
        };
    let Answer { status, body } = match console.post(path, &token, json) {
        Ok(answer) => answer,
        Err(error) => return Ok(tell(&error, Exit::Unreachable)),
    };
    if options.json {
        println!("{body}");
    }
    match (status, options.json) {
        (200, true) => {}
        (200, false) => print(&body)?,
        (_, true) => return Ok(Exit::Refused),
        (_, false) => {
            let refused: Refused = serde_json::from_str(&body)
                .with_context(|| format!("{} answered with status {status}", options.url))?;
            eprintln!("{}", refused.error);
            refused.problems.iter().for_each(|problem| eprintln!("{problem}"));
            return Ok(Exit::Refused);
        }
    }
    Ok(Exit::Done)
}

/// The token, which has to be one line of text without spaces to get into a header.
fn token(options: &Action) -> anyhow::Result<String> {
    let token = match &options.token_file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("the token cannot be read from {}", file.display()))?,
        None => std::env::var(TOKEN).ok().with_context(|| {
            format!(
                "no token: set {TOKEN}, or name a file with --token-file (with the Debian \
                     package, as root: set -a; . /etc/default/failsoft; set +a)"
            )
        })?,
    };
    let token = token.trim_end_matches(['\r', '\n']);
    if token.is_empty() || token.chars().any(|c| c.is_control()) {
        bail!("the token is empty, or more than one line");
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_into_urls() {
        for (name, expected) in [
            ("db001:3306", "db001:3306"),
            ("[::1]:1", "[::1]:1"),
            ("a/../b?c d", "a%2F..%2Fb%3Fc%20d"),
        ] {
            assert_eq!(escaped(name), expected);
        }
    }
}
