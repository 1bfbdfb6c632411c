//! The console for people: pages that say everything without a script, and change by themselves with it.
//!
//! A page is made from the API's own data by a template. The script asks for the page again when the
//! stream tells of a change, and puts in what is different; so there is one way in which things are
//! worded.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use policy::explain::Explanation;
use policy::topology::ServerName;
use policy::view::View;
use serde::Deserialize;
use sql::Dialect;

use crate::api::status::{Partition, Server, Status};
use crate::api::{
    Event, SessionRow, ShownConfiguration, StatementList, duration_words, millis_words,
};
use crate::history::{Samples, Series, chart, latest};
use crate::web::{Console, Web};

/// How many events the first page shows.
const EVENTS: usize = 12;

/// How many sessions are shown: more are for the API.
const SESSIONS: usize = 300;

/// How many digests are shown.
const DIGESTS: usize = 100;

pub(crate) fn router() -> Router<Web> {
    Router::new()
        .route("/", get(overview))
        .route("/sessions", get(sessions))
        .route("/statements", get(statements))
        .route("/events", get(events))
        .route("/configuration", get(configuration))
        .route("/assets/console.css", get(|| asset("text/css", STYLE)))
        .route("/assets/console.js", get(|| asset("text/javascript", SCRIPT)))
        .route("/assets/good.svg", get(|| asset("image/svg+xml", GOOD)))
        .route("/assets/bad.svg", get(|| asset("image/svg+xml", BAD)))
}

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const GOOD: &str = include_str!("../assets/good.svg");
const BAD: &str = include_str!("../assets/bad.svg");

async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, String); 2] = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        // Another version of failsoft has other assets at the same place.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, text)
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!("a page cannot be shown: {error}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be shown\n").into_response()
        }
    }
}

/// What all pages have around them.
struct Frame {
    title: &'static str,
    path: &'static str,
    status: Status,
    has_orders: bool,
}

/// The pages, in the order in which they are offered.
const PAGES: [(&str, &str); 5] = [
    ("/", "Overview"),
    ("/sessions", "Sessions"),
    ("/statements", "Statements"),
    ("/events", "Events"),
    ("/configuration", "Configuration"),
];

impl Frame {
    fn new(console: &Console, path: &'static str) -> Self {
        let page = PAGES.iter().find(|(known, _)| *known == path);
        Self {
            title: page.map_or("", |(_, title)| *title),
            path,
            status: console.status(),
            has_orders: console.token.borrow().is_some(),
        }
    }

    fn pages(&self) -> [(&'static str, &'static str); 5] {
        PAGES
    }

    fn mode(&self) -> &'static str {
        if self.status.is_read_write() { "read-write" } else { "read-only" }
    }

    /// Whether it loads itself anew without a script: not where somebody may be typing.
    fn reloads(&self) -> bool {
        !["/sessions", "/statements"].contains(&self.path)
    }

    fn icon(&self) -> &'static str {
        if self.status.is_read_write() { "good" } else { "bad" }
    }

    fn uptime(&self) -> String {
        duration_words(self.status.uptime_s)
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    servers: Vec<ServerRow>,
    numbers: Vec<(&'static str, u64)>,
    charts: Vec<Chart>,
    events: Vec<Event>,
}

/// A small chart with what it shows.
struct Chart {
    name: &'static str,
    value: String,
    svg: String,
}

impl Chart {
    fn new(name: &'static str, series: &Series, shown: impl Fn(f64) -> String) -> Self {
        let value = latest(series).map_or_else(|| "–".to_owned(), shown);
        let svg = chart(series, &format!("{name}, the last ten minutes; now {value}"));
        Self { name, value, svg }
    }
}

/// A server, as the table shows it.
struct ServerRow {
    server: Server,
    role: String,
    charts: Vec<Chart>,
}

impl ServerRow {
    fn class(&self) -> &'static str {
        match (self.server.enabled, self.server.healthy) {
            (false, _) => "off",
            (true, true) => "good",
            (true, false) => "bad",
        }
    }

    fn version(&self) -> &str {
        self.server.version.as_deref().unwrap_or_default()
    }
}

/// A duration in the unit that shows it best.
fn time(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn a_second(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}/s") } else { format!("{rate:.0}/s") }
}

async fn overview(State(web): State<Web>) -> Response {
    let frame = Frame::new(&web.console, "/");
    let samples = web.history.samples();
    render(&Overview {
        servers: frame.status.servers.iter().map(|it| row(&frame.status, it, &samples)).collect(),
        numbers: numbers(&frame.status),
        charts: vec![
            Chart::new("statements", &samples.statements, a_second),
            Chart::new("refused", &samples.refused, a_second),
            Chart::new("clients", &samples.sessions, |count| format!("{count:.0}")),
        ],
        events: frame.status.events.iter().take(EVENTS).cloned().collect(),
        frame,
    })
}

fn row(status: &Status, server: &Server, samples: &Samples) -> ServerRow {
    let mut charts = Vec::new();
    if let Some(known) = samples.servers.get(&ServerName::new(&server.name)) {
        charts.push(Chart::new("check", &known.latency_us, time));
        if known.behind_s.iter().any(Option::is_some) {
            charts.push(Chart::new("delay", &known.behind_s, |s| format!("{s:.0} s")));
        }
    }
    ServerRow { role: status.role_of(server), server: server.clone(), charts }
}

fn numbers(status: &Status) -> Vec<(&'static str, u64)> {
    let statements = &status.statements;
    let connections = status.servers.iter().map(|server| server.connections).sum();
    vec![
        ("clients", status.sessions.open),
        ("writes that wait", status.sessions.held),
        ("connections to servers", connections),
        ("statements answered", statements.answered),
        ("refused", statements.refused),
        ("reads sent again", statements.retried),
        ("transactions lost", statements.transactions_aborted),
        ("writes of unknown outcome", statements.writes_unknown),
    ]
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: Frame,
    all: usize,
    shown: Vec<SessionRow>,
    wanted: WantedSessions,
}

/// Which sessions are to be shown.
#[derive(Default, Deserialize)]
struct WantedSessions {
    /// A part of the account, the client's address, the schema, the server or a pin.
    #[serde(default)]
    find: String,
}

impl WantedSessions {
    fn has(&self, session: &SessionRow) -> bool {
        let server = session.server.as_deref().unwrap_or_default();
        let words = [&session.user, &session.client, &session.schema, &session.state];
        let connection = session.connection.map(|id| id.to_string());
        let ids = [Some(session.id.to_string()), connection];
        self.find.is_empty()
            || ids.iter().flatten().any(|id| *id == self.find)
            || words.iter().any(|word| word.contains(&self.find))
            || server.contains(&self.find)
            || session.pins.iter().any(|pin| pin.contains(&self.find))
    }
}

async fn sessions(
    State(console): State<Arc<Console>>,
    wanted: Result<Query<WantedSessions>, QueryRejection>,
) -> Response {
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    let frame = Frame::new(&console, "/sessions");
    let mut sessions = console.sessions().await;
    sessions.retain(|session| wanted.has(session));
    let all = sessions.len();
    // What has gone on for longest, and what ties sessions, is what one looks for.
    sessions.sort_by_key(|session| {
        let rank = match session.state.as_str() {
            "running" => 0,
            "in transaction" => 1,
            _ => 2,
        };
        (rank, session.pins.is_empty(), std::cmp::Reverse(session.since_ms))
    });
    sessions.truncate(SESSIONS);
    render(&SessionsPage { frame, all, shown: sessions, wanted })
}

/// Milliseconds in words.
fn since(ms: &u64) -> String {
    millis_words(*ms)
}

#[derive(Template)]
#[template(path = "statements.html")]
struct StatementsPage {
    frame: Frame,
    statements: StatementList,
    wanted: WantedStatements,
    explained: Vec<(&'static str, String)>,
}

/// Which statements are to be shown, and one that is to be explained.
#[derive(Default, Deserialize)]
struct WantedStatements {
    /// `yes` for those alone that would be refused in read-only mode.
    #[serde(default)]
    refusable: String,
    #[serde(default)]
    explain: String,
}

impl WantedStatements {
    fn is_rehearsal(&self) -> bool {
        self.refusable == "yes"
    }
}

async fn statements(
    State(console): State<Arc<Console>>,
    wanted: Result<Query<WantedStatements>, QueryRejection>,
) -> Response {
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    let explained = match wanted.explain.as_str() {
        "" => Vec::new(),
        statement => explain(statement, &console.control.view()),
    };
    render(&StatementsPage {
        frame: Frame::new(&console, "/statements"),
        statements: console.statements(DIGESTS, wanted.is_rehearsal()),
        explained,
        wanted,
    })
}

/// What is to be said of a statement, and where it would go now in each partition.
pub(crate) fn explain(statement: &str, view: &View) -> Vec<(&'static str, String)> {
    let explanation = Explanation::of(statement.as_bytes(), Dialect::default());
    let mut lines = explanation.lines();
    for partition in &view.partitions {
        let now = explanation.now(view, partition);
        let text = match view.partitions.len() {
            1 => now,
            _ => format!("in partition {} it {now}", partition.name),
        };
        lines.push(("now", text));
    }
    lines
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    events: Vec<Event>,
    wanted: WantedEvents,
}

/// Which events are to be shown.
#[derive(Default, Deserialize)]
struct WantedEvents {
    /// `cluster` or `operator`; all where it is empty.
    #[serde(default)]
    origin: String,
}

async fn events(
    State(console): State<Arc<Console>>,
    wanted: Result<Query<WantedEvents>, QueryRejection>,
) -> Response {
    let wanted = wanted.map(|Query(wanted)| wanted).unwrap_or_default();
    let frame = Frame::new(&console, "/events");
    let is_wanted = |event: &&Event| wanted.origin.is_empty() || event.origin == wanted.origin;
    let events = frame.status.events.iter().filter(is_wanted).cloned().collect();
    render(&EventsPage { events, frame, wanted })
}

#[derive(Template)]
#[template(path = "configuration.html")]
struct ConfigurationPage {
    frame: Frame,
    shown: ShownConfiguration,
}

async fn configuration(State(console): State<Arc<Console>>) -> Response {
    let frame = Frame::new(&console, "/configuration");
    render(&ConfigurationPage { frame, shown: console.shown_configuration() })
}

/// Microseconds in words.
fn micros(us: &u64) -> String {
    let whole = u32::try_from(*us).unwrap_or(u32::MAX);
    time(f64::from(whole))
}

/// A body for the API, as an attribute.
fn order(partition: &Partition, what: &str) -> String {
    let name = serde_json::Value::from(partition.name.as_str());
    match what {
        "on" => format!("{{\"on\":true,\"partition\":{name}}}"),
        "off" => format!("{{\"on\":false,\"partition\":{name}}}"),
        _ => format!("{{\"partition\":{name}}}"),
    }
}
