//! The commands and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A MySQL proxy that goes read-only, rather than down, when the master is lost.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the proxy, until SIGTERM or Ctrl-C.
    Run(Run),
    /// Check a configuration file, and tell everything that is wrong with it.
    Check(Check),
    /// Show what a running failsoft sees. Exits with 1 when a partition is read-only, and with 3
    /// when failsoft does not answer.
    Status(Status),
    /// Show the sessions of a running failsoft: who is there, what each does, and what ties it to its
    /// server.
    Sessions(List),
    /// Show what clients ask, by digest: what takes most time first.
    Statements(Statements),
    /// Show what happened lately, and go on showing it with `--follow`.
    Events(Events),
    /// Show the writes whose outcome is unknown.
    Outcomes(List),
    /// Have a running failsoft read its configuration again. Exits with 1 when the file is not good.
    Reload(Action),
    /// Switch read-only mode on, or undo that. What the configuration says stays.
    ReadOnly(ReadOnly),
    /// Have writes wait, so that the master can be changed without an error. Transactions that are open
    /// go on.
    Pause(Pause),
    /// Undo `pause`.
    Resume(Resume),
    /// Take a server out: it gets no traffic until it is enabled, and no checks.
    Disable(Server),
    /// Undo `disable`. A server that the configuration disables stays so.
    Enable(Server),
    /// End a client's session, as KILL does.
    Kill(Kill),
    /// End a running failsoft as SIGTERM does: no new connections, transactions may end.
    Drain(Action),
    /// Tell what a statement is, where it would go, and what a client would get in read-only mode.
    Explain(Explain),
    /// Start a private master and replica with failsoft in front, to try it out.
    Demo(Demo),
    /// Print what completes these commands in a shell.
    Completions(Completions),
    /// Print failsoft's manual page, or write the pages of all commands to a folder.
    Man(Man),
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The configuration file [default: ./failsoft.yaml, then /etc/failsoft/failsoft.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The configuration file [default: ./failsoft.yaml, then /etc/failsoft/failsoft.yaml]
    pub(crate) file: Option<PathBuf>,
    /// Print the whole configuration, defaults included, without secrets
    #[arg(long)]
    pub(crate) show: bool,
    /// Log in to every server as the health checks and the accounts would, and tell which grants are
    /// missing
    #[arg(long)]
    pub(crate) connect: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "show")]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) list: List,
    /// Show it again and again, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub(crate) watch: bool,
    /// How long to wait before it is shown again, as `2s`
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = seconds)]
    pub(crate) interval: u64,
}

/// What every list needs.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Where failsoft's console is
    #[arg(long, default_value = "http://127.0.0.1:9306", env = "FAILSOFT_URL")]
    pub(crate) url: String,
    /// Print the API's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Statements {
    /// Only those that would be refused were the partition read-only
    #[arg(long)]
    pub(crate) refusable: bool,
    /// The slow ones one by one, the latest first
    #[arg(long, conflicts_with = "refusable")]
    pub(crate) slow: bool,
    /// How many at most
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) list: List,
}

#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(long)]
    pub(crate) follow: bool,
    /// Only what operators ordered, or were refused
    #[arg(long)]
    pub(crate) orders: bool,
    #[command(flatten)]
    pub(crate) list: List,
}

#[derive(Args, Debug)]
pub(crate) struct Kill {
    /// failsoft's id of the session
    pub(crate) session: u32,
    #[command(flatten)]
    pub(crate) action: Action,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where to write a page for each command; without it the main page is printed
    pub(crate) folder: Option<PathBuf>,
}

/// What every action needs.
#[derive(Args, Debug)]
pub(crate) struct Action {
    /// Where failsoft's console is
    #[arg(long, default_value = "http://127.0.0.1:9306", env = "FAILSOFT_URL")]
    pub(crate) url: String,
    /// The file that holds the token of the configuration (admin.token) [default: the environment
    /// variable FAILSOFT_ADMIN_TOKEN holds it]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print the API's answer as it is
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ReadOnly {
    /// Whether writes are refused
    #[arg(value_enum)]
    pub(crate) switch: Switch,
    /// The partition [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub(crate) partition: Option<String>,
    #[command(flatten)]
    pub(crate) action: Action,
}

#[derive(Args, Debug)]
pub(crate) struct Pause {
    /// How long each write may wait at most, as `45s` or `2m`; after that it is refused
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = seconds)]
    pub(crate) hold: u64,
    /// The partition [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub(crate) partition: Option<String>,
    #[command(flatten)]
    pub(crate) action: Action,
}

/// Reads a time, in whole seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let time = config::duration(text).filter(|time| time.subsec_nanos() == 0 && !time.is_zero());
    time.map(|time| time.as_secs()).ok_or_else(|| "a time is like 45s or 2m".to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct Resume {
    /// The partition [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub(crate) partition: Option<String>,
    #[command(flatten)]
    pub(crate) action: Action,
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

#[derive(Args, Debug)]
pub(crate) struct Server {
    /// The server, as `host:port`, or its host where no other server is on it
    pub(crate) server: String,
    #[command(flatten)]
    pub(crate) action: Action,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    /// The statement, or several with semicolons between them
    pub(crate) statement: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The session's sql_mode has ANSI_QUOTES: "…" is a name
    #[arg(long)]
    pub(crate) ansi_quotes: bool,
    /// The session's sql_mode has NO_BACKSLASH_ESCAPES: \ stands for itself
    #[arg(long)]
    pub(crate) no_backslash_escapes: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Play the whole tale: writes flow, the master is killed, reads go on, it returns, writes flow
    #[arg(long)]
    pub(crate) story: bool,
    /// Which servers to start [default: mariadb where there is one, else mysql]
    #[arg(long, value_enum)]
    pub(crate) flavor: Option<Flavor>,
}

/// A kind of database server.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Flavor {
    Mariadb,
    Mysql,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
