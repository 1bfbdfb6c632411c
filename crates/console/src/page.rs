//! The console for people: one page that loads nothing and reloads itself.

use std::fmt::Write;

use crate::api::{Event, Partition, Server, Status, UnknownOutcome, duration_words};

/// How many events the page shows.
const EVENTS: usize = 20;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(crate) fn page(status: &Status) -> String {
    let state = if status.is_read_write() { "read-write" } else { "read-only" };
    let host = Text(&status.host);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"3\">\n<title>{state} · failsoft on {host}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>failsoft</h1>\n\
         <p>The view from the failsoft on <strong>{host}</strong>, version {}, up {}. Another \
         failsoft may see something else.</p>\n</header>\n<main>\n",
        Text(&status.version),
        duration_words(status.uptime_s),
    );
    if !status.ready {
        html.push_str("<p class=\"note\">Not ready: starting, or about to end.</p>\n");
    }
    push_configuration(&mut html, status);
    status.partitions.iter().for_each(|partition| push_partition(&mut html, partition));
    push_servers(&mut html, status);
    push_numbers(&mut html, status);
    push_outcomes(&mut html, &status.unknown_outcomes);
    push_events(&mut html, &status.events);
    html.push_str(
        "</main>\n<footer><p>Also here: <a href=\"/api/v1/status\">status as JSON</a>, \
         <a href=\"/metrics\">metrics</a>, verdicts for load balancers at <a href=\"/rw\">/rw</a> \
         and <a href=\"/ro\">/ro</a>.</p></footer>\n</body>\n</html>\n",
    );
    html
}

/// Text between tags or in an attribute: what could be markup is not.
struct Text<'a>(&'a str);

impl std::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Appends to the page; writing to a `String` cannot fail.
macro_rules! push {
    ($html:expr, $($format:tt)*) => { write!($html, $($format)*).unwrap_or_default() };
}

fn push_partition(html: &mut String, partition: &Partition) {
    let class = if partition.reason.is_none() { "good" } else { "bad" };
    push!(
        html,
        "<section class=\"partition {class}\">\n<h2>{} <span class=\"mode\">{}</span></h2>\n\
         <p>{}</p>\n</section>\n",
        Text(&partition.name),
        Text(&partition.mode),
        Text(&partition.words),
    );
}

fn push_configuration(html: &mut String, status: &Status) {
    let configuration = &status.configuration;
    if let Some(words) = configuration.words() {
        push!(html, "<div class=\"note\">\n<p>Attention: {}.</p>\n<ul>\n", Text(&words));
        for problem in &configuration.problems {
            push!(html, "<li>{}</li>\n", Text(problem));
        }
        html.push_str("</ul>\n</div>\n");
    }
    if !configuration.needs_restart.is_empty() {
        let settings = configuration.needs_restart.iter().map(|it| it.setting.as_str());
        let settings = settings.collect::<Vec<_>>().join(", ");
        push!(
            html,
            "<p class=\"note\">Different in the file, and not in force until failsoft is started \
             again: {}.</p>\n",
            Text(&settings),
        );
    }
}

fn push_servers(html: &mut String, status: &Status) {
    html.push_str(
        "<section>\n<h2>Servers</h2>\n<table>\n<thead><tr><th scope=\"col\">Server</th>\
         <th scope=\"col\">Connection</th><th scope=\"col\">Replication</th>\
         <th scope=\"col\">Health</th><th scope=\"col\">Messages</th></tr></thead>\n<tbody>\n",
    );
    for server in &status.servers {
        push_server(html, server, &status.role_of(server));
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn push_server(html: &mut String, server: &Server, role: &str) {
    let class = match (server.enabled, server.healthy) {
        (false, _) => "off",
        (true, true) => "good",
        (true, false) => "bad",
    };
    push!(
        html,
        "<tr class=\"{class}\"><th scope=\"row\">{} <small>{}{}</small></th>\
         <td data-label=\"Connection\">{} <small>{}</small></td>\
         <td data-label=\"Replication\">{}</td><td data-label=\"Health\">{}</td>\
         <td data-label=\"Messages\">{}</td></tr>\n",
        Text(&server.name),
        Text(role),
        if server.enabled { "" } else { ", disabled" },
        Text(&server.connection),
        Text(server.version.as_deref().unwrap_or_default()),
        Text(&server.replication),
        health(&server.history),
        messages(&server.messages),
    );
}

/// `n of the last m checks`, drawn.
fn health(history: &[bool]) -> String {
    if history.is_empty() {
        return "not checked".to_owned();
    }
    let answered = history.iter().filter(|answered| **answered).count();
    let words = format!("{answered} of the last {} checks", history.len());
    let squares: String = history
        .iter()
        .map(|answered| if *answered { "<i class=\"yes\"></i>" } else { "<i class=\"no\"></i>" })
        .collect();
    format!("<span class=\"checks\" aria-hidden=\"true\">{squares}</span> <small>{words}</small>")
}

fn messages(messages: &[String]) -> String {
    let lines: Vec<_> = messages.iter().map(|message| Text(message).to_string()).collect();
    lines.join("<br>")
}

fn push_numbers(html: &mut String, status: &Status) {
    let statements = &status.statements;
    let connections = status.servers.iter().map(|server| server.connections).sum();
    let numbers: [(&str, u64); 8] = [
        ("clients", status.sessions.open),
        ("writes that wait", status.sessions.held),
        ("connections to servers", connections),
        ("statements answered", statements.answered),
        ("refused", statements.refused),
        ("reads sent again", statements.retried),
        ("transactions lost", statements.transactions_aborted),
        ("writes of unknown outcome", statements.writes_unknown),
    ];
    html.push_str("<section>\n<h2>Since the start</h2>\n<dl>\n");
    for (name, value) in numbers {
        push!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>\n");
    }
    html.push_str("</dl>\n</section>\n");
}

/// The writes that somebody has to look for; nothing where there are none.
fn push_outcomes(html: &mut String, outcomes: &[UnknownOutcome]) {
    if outcomes.is_empty() {
        return;
    }
    html.push_str(
        "<section>\n<h2>Writes of unknown outcome</h2>\n<p>Sent, and the connection broke before \
         the answer: each may or may not have been applied. Look for it in the server's binary \
         log, by the id of its connection, behind the GTIDs given here. \
         <a href=\"/api/v1/unknown-outcomes\">All that are kept, as JSON</a>.</p>\n<table>\n\
         <thead><tr><th scope=\"col\">Reference</th><th scope=\"col\">Statement</th>\
         <th scope=\"col\">Client</th><th scope=\"col\">Sent to</th></tr></thead>\n<tbody>\n",
    );
    for outcome in outcomes {
        push!(
            html,
            "<tr><th scope=\"row\">{} <small><time>{}</time></small></th>\
             <td data-label=\"Statement\"><code>{}</code></td>\
             <td data-label=\"Client\">{}@{} <small>{}</small></td>\
             <td data-label=\"Sent to\">{}, connection {} <small>{} {}</small></td></tr>\n",
            Text(&outcome.reference),
            Text(&outcome.at),
            Text(&outcome.digest),
            Text(&outcome.user),
            Text(&outcome.client),
            Text(&outcome.schema),
            Text(&outcome.server),
            outcome.connection,
            Text(&outcome.cause),
            Text(&outcome.gtids),
        );
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn push_events(html: &mut String, events: &[Event]) {
    html.push_str("<section>\n<h2>Events</h2>\n");
    if events.is_empty() {
        html.push_str("<p>Nothing has changed since the start.</p>\n");
    } else {
        html.push_str("<ol class=\"events\">\n");
        for event in events.iter().take(EVENTS) {
            let (class, at) = (Text(&event.severity), Text(&event.at));
            let text = Text(&event.text);
            push!(html, "<li class=\"{class}\"><time datetime=\"{at}\">{at}</time> {text}</li>\n");
        }
        html.push_str("</ol>\n");
    }
    html.push_str("</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::status;

    #[test]
    fn the_page_shows_the_status_and_no_markup_of_others() {
        let html = page(&status());
        let expected = [
            "<title>read-only · failsoft on app001</title>",
            "up 1 h 2 min",
            "Read-only since 00:00:00 UTC (severed)",
            "&lt;b&gt;refused &amp; gone&lt;/b&gt;",
            "db2:3306 <small>replica</small>",
            "0 of the last 1 checks",
            "http-equiv=\"refresh\"",
            "second</li>",
            "8f3a1c <small>",
            "<code>INSERT INTO `a&lt;b&gt;` VALUES (?)</code>",
            "app@10.0.0.7 <small>shop</small>",
        ];
        for part in expected {
            assert!(html.contains(part), "{part} in\n{html}");
        }
        assert!(!html.contains("<b>"), "{html}");
        for tag in ["section", "table", "tbody", "tr", "ol", "dl", "main", "span"] {
            let opened = html.matches(&format!("<{tag}>")).count()
                + html.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
