//! The last minutes in numbers, for the small charts of the console.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::topology::ServerName;
use policy::view::View;
use telemetry::Totals;

/// From one sample to the next.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// How many samples are kept: ten minutes.
const SAMPLES: usize = 120;

/// Values over time, the oldest first; none where nothing was known.
pub(crate) type Series = VecDeque<Option<f64>>;

/// What is remembered of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfServer {
    /// How long checks took, microseconds; none for those that failed.
    pub(crate) latency_us: Series,
    /// How far it was behind, seconds.
    pub(crate) behind_s: Series,
}

/// The samples that are kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub(crate) servers: HashMap<ServerName, OfServer>,
    /// Statements answered, a second.
    pub(crate) statements: Series,
    /// Statements refused, a second.
    pub(crate) refused: Series,
    /// Open sessions.
    pub(crate) sessions: Series,
    before: Option<Totals>,
}

/// The samples, shared between who takes them and who shows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Arc<Mutex<Samples>>);

impl History {
    /// Takes one sample.
    pub(crate) fn take(&self, view: &View, totals: Totals) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(view, totals);
    }

    /// What is kept now.
    pub(crate) fn samples(&self) -> Samples {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Samples {
    fn take(&mut self, view: &View, totals: Totals) {
        let before = self.before.take();
        let rate = |now: u64, then: fn(&Totals) -> u64| {
            let then = before.as_ref().map(then)?;
            Some(number(now.saturating_sub(then)) / EVERY.as_secs_f64())
        };
        push(&mut self.statements, rate(totals.statements, |totals| totals.statements));
        push(&mut self.refused, rate(totals.refused, |totals| totals.refused));
        push(&mut self.sessions, Some(number(totals.sessions_open)));
        self.servers.retain(|name, _| view.servers.iter().any(|server| server.name == *name));
        for server in &view.servers {
            let seen = server.seen.as_deref().filter(|_| server.failure.is_none());
            let behind = seen.and_then(|seen| seen.replication.source()?.behind_s);
            let known = self.servers.entry(server.name.clone()).or_default();
            push(&mut known.latency_us, seen.map(|seen| seen.latency.as_secs_f64() * 1e6));
            push(&mut known.behind_s, behind.map(number));
        }
        self.before = Some(totals);
    }
}

fn push(series: &mut Series, value: Option<f64>) {
    if series.len() == SAMPLES {
        series.pop_front();
    }
    series.push_back(value);
}

/// A count as it is drawn.
#[allow(clippy::cast_precision_loss, reason = "a chart of some pixels")]
fn number(value: u64) -> f64 {
    value as f64
}

/// How wide and high a chart is, in its own units.
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 24.0;

/// A chart as SVG: a line with gaps where nothing is known, from 0 to the largest value. `words` say the
/// same to those who do not see it.
pub(crate) fn chart(series: &Series, words: &str) -> String {
    let most = series.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let mut lines = String::new();
    let mut joined = false;
    let first = SAMPLES.saturating_sub(series.len());
    for (at, value) in series.iter().enumerate() {
        let Some(value) = value else {
            joined = false;
            continue;
        };
        let x = number((first + at) as u64) * WIDTH / number(SAMPLES as u64 - 1);
        let y =
            if most > 0.0 { HEIGHT - 1.0 - value / most * (HEIGHT - 2.0) } else { HEIGHT - 1.0 };
        let command = if joined { 'L' } else { 'M' };
        lines.push_str(&format!("{command}{x:.1} {y:.1}"));
        joined = true;
    }
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{words}\">\
         <path d=\"{lines}\"/></svg>"
    )
}

/// The last value that is known, if it is the latest.
pub(crate) fn latest(series: &Series) -> Option<f64> {
    series.back().copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::tests::lost_master;

    #[test]
    fn samples_are_kept_for_a_while() {
        let history = History::default();
        let view = lost_master();
        for number in 0..200 {
            let totals = Totals { statements: number * 50, refused: 7, ..Totals::default() };
            history.take(&view, totals);
        }
        let samples = history.samples();
        assert_eq!((samples.statements.len(), latest(&samples.statements)), (120, Some(10.0)));
        assert_eq!(latest(&samples.refused), Some(0.0));
        let replica = &samples.servers[&ServerName::new("db2:3306")];
        assert_eq!((latest(&replica.latency_us), latest(&replica.behind_s)), (Some(420.0), None));
        let master = &samples.servers[&ServerName::new("db1:3306")];
        assert_eq!(latest(&master.latency_us), None);
    }

    #[test]
    fn a_chart_has_gaps_where_nothing_is_known() {
        let series: Series = [Some(1.0), Some(2.0), None, Some(0.0)].into();
        let svg = chart(&series, "x");
        assert_eq!(svg.matches('M').count(), 2, "{svg}");
        assert_eq!(svg.matches('L').count(), 1, "{svg}");
        assert!(svg.contains("120.0 23.0"), "the latest is at the right: {svg}");
        assert!(chart(&Series::new(), "none").contains("d=\"\""));
        assert!(!chart(&[Some(0.0)].into(), "zero").contains("NaN"));
    }
}
