//! From samples to a table.

use std::fs;
use std::num::NonZeroUsize;

use clap::ValueEnum as _;
use serde::Serialize;
use testkit::Server;

use crate::bulk::{Bulk, Way};
use crate::curves::Curve;
use crate::load::{Load, Sample};
use crate::options::Options;
use crate::peers::{DIRECT, FLOOR, OURS, Peer};

/// A number that is shown for each peer.
pub(crate) struct Metric {
    name: &'static str,
    decimals: usize,
    /// From the peer's own medians and those of the direct connection.
    value: fn(&Sample, direct: Option<&Sample>) -> Option<f64>,
}

/// The lines of the table, for each number of connections.
pub(crate) const METRICS: &[Metric] = &[
    Metric { name: "per second", decimals: 0, value: |own, _| Some(own.per_second) },
    Metric { name: "median latency, µs", decimals: 1, value: |own, _| Some(own.median_us) },
    Metric {
        name: "added median latency, µs",
        decimals: 1,
        value: |own, direct| own.cpu_us.and(direct).map(|direct| own.median_us - direct.median_us),
    },
    Metric { name: "processor time each, µs", decimals: 1, value: |own, _| own.cpu_us },
];

/// Everything a run showed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: String,
    command: String,
    versions: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    figures: Vec<Figure>,
    /// How costs grow, where that was asked for.
    pub(crate) curves: Vec<Curve>,
}

/// A number for each peer.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) load: &'static str,
    pub(crate) name: &'static str,
    pub(crate) decimals: usize,
    /// By peer, in the peers' order.
    pub(crate) values: Vec<Option<f64>>,
}

/// Where clients, proxies and server run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Anywhere,
    /// The server answers from memory.
    FromMemory,
    OneProcessor,
}

impl Place {
    /// A load at this place, in the table.
    pub(crate) fn of(self, load: Load) -> String {
        let load = load.words();
        match self {
            Self::Anywhere => load.to_owned(),
            Self::FromMemory => format!("{load}, answered from memory"),
            Self::OneProcessor => format!("{load}, one processor"),
        }
    }
}

/// The figures of what was moved, from all rounds by peer.
pub(crate) fn of_bulk(way: Way, taken: &[Vec<Bulk>]) -> Vec<Figure> {
    let figure = |name, decimals, value: fn(&Bulk) -> Option<f64>| {
        let values = taken.iter().map(|rounds| median(rounds.iter().filter_map(value))).collect();
        Figure { load: way.words(), name, decimals, values }
    };
    vec![
        figure("MiB per second", 0, |bulk| Some(bulk.mib_per_second)),
        figure("processor time for a GiB, s", 2, |bulk| bulk.cpu_per_gib),
        figure("memory grown by, MiB", 1, |bulk| bulk.grown_mib),
    ]
}

/// All samples of one load at one number of connections.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    load: Load,
    place: Place,
    connections: usize,
    /// Samples by peer, in the peers' order.
    samples: Vec<Vec<Sample>>,
    /// Medians by peer, in the same order.
    medians: Vec<Option<Sample>>,
}

impl Row {
    /// From the samples by peer.
    pub(crate) fn new(
        load: Load,
        place: Place,
        connections: usize,
        samples: Vec<Vec<Sample>>,
    ) -> Self {
        let medians = samples.iter().map(|taken| median_sample(taken)).collect();
        Self { load, place, connections, samples, medians }
    }

    /// One line of the table.
    fn line(&self, metric: &Metric, names: &[&str]) -> String {
        let median = |name: &str| {
            let at = names.iter().position(|&one| one == name)?;
            self.medians.get(at)?.as_ref()
        };
        let value = |name: &str| (metric.value)(median(name)?, median(DIRECT));
        let head = [&*self.place.of(self.load), &self.connections.to_string(), metric.name];
        line(head, names, metric.decimals, value)
    }
}

/// A line of the table: what it is about, a number for each peer, and ours divided by others.
fn line(
    head: [&str; 3],
    names: &[&str],
    decimals: usize,
    value: impl Fn(&str) -> Option<f64>,
) -> String {
    let show = |number: Option<f64>, decimals| match number {
        Some(number) => format!("{number:.decimals$}"),
        None => "–".to_owned(),
    };
    let ratio = |to: &str| {
        let other = value(to).filter(|other| *other != 0.0)?;
        value(OURS).map(|ours| ours / other)
    };
    let mut cells: Vec<_> = head.map(str::to_owned).into();
    cells.extend(names.iter().map(|name| show(value(name), decimals)));
    cells.extend([DIRECT, FLOOR].map(|to| show(ratio(to), 2)));
    table_line(&cells)
}

impl Report {
    /// From what was measured, and where.
    pub(crate) fn new(
        server: &Server,
        peers: &[Peer],
        options: &Options,
        rows: Vec<Row>,
        figures: Vec<Figure>,
    ) -> Self {
        let versions = peers.iter().map(|peer| (peer.name(), peer.version().to_owned())).collect();
        let machine = format!(
            "{} processors ({}), Linux {}, {} {}; proxies with {} threads each",
            std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            model().unwrap_or_else(|| "of unknown model".to_owned()),
            kernel(),
            server.flavor(),
            server.program().version(),
            options.threads(),
        );
        let (command, curves) = (command(options), Vec::new());
        Self { machine, command, versions, rows, figures, curves }
    }

    /// The table, with the machine and the command that makes it.
    pub(crate) fn to_markdown(&self) -> String {
        let names: Vec<_> = self.versions.iter().map(|&(name, _)| name).collect();
        let mut text = format!("Machine: {}.\nCommand: `{}`.\n\n", self.machine, self.command);
        let mut heads = vec!["load".to_owned(), "clients".to_owned(), String::new()];
        heads.extend(self.versions.iter().map(|(name, version)| match *name {
            DIRECT => DIRECT.to_owned(),
            name => format!("{name} {version}"),
        }));
        heads.extend([DIRECT, FLOOR].map(|to| format!("{OURS} / {to}")));
        text.push_str(&table_line(&heads));
        let is_text = |at: usize| at == 0 || at == 2;
        let rules = (0..heads.len()).map(|at| if is_text(at) { "---" } else { "---:" });
        text.push_str(&table_line(&rules.collect::<Vec<_>>()));
        for row in &self.rows {
            text.extend(METRICS.iter().map(|metric| row.line(metric, &names)));
        }
        for Figure { load, name, decimals, values } in &self.figures {
            let of = |peer: &str| {
                names.iter().position(|&one| one == peer).and_then(|at| *values.get(at)?)
            };
            if of(OURS).is_some() {
                text.push_str(&line([load, "", name], &names, *decimals, of));
            }
        }
        text
    }
}

/// What makes this table again.
fn command(options: &Options) -> String {
    let connections: Vec<_> = options.connections.iter().map(ToString::to_string).collect();
    let word = |load: &Load| load.to_possible_value().map(|value| value.get_name().to_owned());
    let loads: Vec<_> = options.loads.iter().filter_map(word).collect();
    let threads = options.threads.map_or_else(String::new, |count| format!(" --threads {count}"));
    format!(
        "make bench BENCH='--rounds {} --seconds {} --loads {} --connections {} --idle {} --bulk {}{threads}'",
        options.rounds,
        options.seconds,
        loads.join(","),
        connections.join(","),
        options.idle,
        options.bulk,
    )
}

/// A line of a Markdown table.
fn table_line<T: AsRef<str>>(cells: &[T]) -> String {
    cells.iter().fold("|".to_owned(), |line, cell| line + " " + cell.as_ref() + " |") + "\n"
}

/// The median of each number by itself.
fn median_sample(samples: &[Sample]) -> Option<Sample> {
    Some(Sample {
        per_second: median(samples.iter().map(|sample| sample.per_second))?,
        median_us: median(samples.iter().map(|sample| sample.median_us))?,
        cpu_us: median(samples.iter().filter_map(|sample| sample.cpu_us)),
    })
}

/// The middle, or what lies between the two in the middle.
fn median(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.split('-').next().unwrap_or_default().trim().to_owned()
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64, median_us: f64, cpu_us: Option<f64>) -> Sample {
        Sample { per_second, median_us, cpu_us }
    }

    #[test]
    fn medians_are_of_each_number_by_itself() {
        let taken = [
            sample(1.0, 30.0, Some(5.0)),
            sample(3.0, 10.0, Some(7.0)),
            sample(2.0, 20.0, Some(6.0)),
        ];
        assert_eq!(median_sample(&taken), Some(sample(2.0, 20.0, Some(6.0))));
        assert_eq!(median_sample(&taken[..2]), Some(sample(2.0, 20.0, Some(6.0))));
        assert_eq!(median_sample(&[]), None);
    }

    #[test]
    fn the_table_shows_numbers_and_ratios() {
        let rows = vec![Row::new(
            Load::Select,
            Place::Anywhere,
            16,
            vec![
                vec![sample(1000.0, 40.0, None)],
                vec![sample(800.0, 70.0, Some(40.0))],
                vec![sample(900.0, 55.0, Some(30.0))],
            ],
        )];
        let report = Report {
            machine: "M".to_owned(),
            command: "C".to_owned(),
            versions: vec![
                (DIRECT, "10.11".to_owned()),
                (FLOOR, "2.6".to_owned()),
                (OURS, "0.1".to_owned()),
            ],
            rows,
            figures: vec![Figure {
                load: "idle",
                name: "memory for each, KiB",
                decimals: 1,
                values: vec![None, Some(4.0), Some(3.0)],
            }],
            curves: Vec::new(),
        };
        let expected = "\
Machine: M.
Command: `C`.

| load | clients |  | direct | HAProxy 2.6 | failsoft 0.1 | failsoft / direct | failsoft / HAProxy |
| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |
| select | 16 | per second | 1000 | 800 | 900 | 0.90 | 1.12 |
| select | 16 | median latency, µs | 40.0 | 70.0 | 55.0 | 1.38 | 0.79 |
| select | 16 | added median latency, µs | – | 30.0 | 15.0 | – | 0.50 |
| select | 16 | processor time each, µs | – | 40.0 | 30.0 | – | 0.75 |
| idle |  | memory for each, KiB | – | 4.0 | 3.0 | – | 0.75 |
";
        assert_eq!(report.to_markdown(), expected);
    }
}
