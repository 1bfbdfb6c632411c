//! What one may ask for on the command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;

use crate::load::Load;

/// Measures what clients do through failsoft and its peers and directly, interleaved.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// How many rounds each peer gets at each number of connections; the median counts
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroUsize,
    /// How long a round is measured, after a warm-up
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// What clients do
    #[arg(long, value_delimiter = ',', value_enum, default_value = "select,prepared,visit")]
    pub(crate) loads: Vec<Load>,
    /// Numbers of connections, each measured on its own
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    pub(crate) connections: Vec<NonZeroUsize>,
    /// Clients whose memory is measured while they do nothing; 0 for none
    #[arg(long, default_value = "2000")]
    pub(crate) idle: u64,
    /// MiB of a large result, and of a large file; 0 for neither
    #[arg(long, default_value = "1024")]
    pub(crate) bulk: u64,
    /// Leave out the loads with a server that answers from memory
    #[arg(long)]
    pub(crate) unscripted: bool,
    /// Leave out the loads on one processor
    #[arg(long)]
    pub(crate) unpinned: bool,
    /// Also draws how costs grow to this file, an SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) curves: Option<PathBuf>,
    /// Threads of each proxy; the number of processors if not given
    #[arg(long)]
    pub(crate) threads: Option<NonZeroUsize>,
    /// The failsoft to measure; the one beside this program if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) failsoft: Option<PathBuf>,
    /// The HAProxy to compare with
    #[arg(long, value_name = "FILE", default_value = "haproxy")]
    pub(crate) haproxy: PathBuf,
    /// The MySQL Router to compare with; left out where it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) router: Option<PathBuf>,
    /// The ProxySQL to compare with, if there is one
    #[arg(long, value_name = "FILE", env = "PROXYSQL")]
    pub(crate) proxysql: Option<PathBuf>,
    /// Count instructions instead, and compare with this file
    #[arg(long, value_name = "FILE")]
    pub(crate) guard: Option<PathBuf>,
    /// Write that file anew
    #[arg(long, requires = "guard")]
    pub(crate) update: bool,
    /// Also writes every round's numbers to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Threads of each proxy.
    pub(crate) fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(processors).get()
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.1 to 600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused() {
        let parse = |line: &str| Options::try_parse_from(line.split_whitespace());
        let options = parse("bench --rounds 3 --connections 2,8 --seconds 0.5").unwrap();
        assert_eq!(options.connections.iter().map(|n| n.get()).collect::<Vec<_>>(), [2, 8]);
        assert_eq!((options.rounds.get(), options.seconds), (3, 0.5));
        assert_eq!(options.loads, [Load::Select, Load::Prepared, Load::Visit]);
        for wrong in ["--rounds 0", "--connections 0", "--seconds 0", "--seconds NaN", "--loads x"]
        {
            assert!(parse(&format!("bench {wrong}")).is_err(), "{wrong}");
        }
    }
}
