//! MariaDB's own regression tests, through failsoft.
//!
//! The cases of its `main` suite are scripts with the output that a server gives to them, written
//! by those who know what a server is asked. Run against failsoft with one master behind it, they
//! must have that very output: what a case sees of the proxy is a bug, or stands in
//! `tests/suite/cannot.txt` with the reason.
//!
//! `scripts/setup.sh test` unpacks the suite beside the system. A selection runs with the other
//! tests; `make suite-test` runs every case.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests panic, and their output is read by people"
)]

use std::env;

mod suite {
    pub(crate) mod case;
    mod corpus;
    pub(crate) mod lists;
    pub(crate) mod run;
    pub(crate) mod source;
    pub(crate) mod stand;
    pub(crate) mod tap;
}

use suite::case::Case;
use suite::lists::{cannot, selected};
use suite::run::{Verdict, judge, judge_all};
use suite::source::Source;

/// The suite, and the cases by these names; none where this machine has no suite to run.
fn cases(asked: Vec<Case>) -> Option<(Source, Vec<Case>)> {
    let source = Source::find()?;
    let asked = asked.into_iter().map(|case| case.completed(&source)).collect();
    Some((source, asked))
}

#[test]
fn a_selection_of_mariadbs_own_tests_passes() {
    let Some((source, cases)) = cases(selected()) else { return };
    assert!(cases.len() >= 60, "a selection of {} cases is none", cases.len());
    let verdicts = judge_all(&source, cases, judge::through);
    let passed = report(&verdicts);
    assert!(passed >= 60, "{passed} cases passed, which is not enough to say anything");
}

/// `SUITE_ONLY` names the cases, `SUITE_OPTIONS` adds options of `mariadb-test` to each. Whoever names
/// a case that is listed wants to see what it says.
#[test]
#[ignore = "takes half an hour: make suite-test"]
fn every_case_of_mariadbs_own_tests_that_passes_directly_passes() {
    let Some(source) = Source::find() else { return };
    let cases = source.all_cases().into_iter().map(|case| case.completed(&source)).collect();
    let verdicts = judge_all(&source, cases, judge::both);
    let cannot = cannot();
    let are_named = env::var("SUITE_ONLY").is_ok_and(|names| !names.trim().is_empty());
    let is_listed = |case: &Case| !are_named && cannot.iter().any(|(name, _)| *name == case.name);
    let (listed, others): (Vec<_>, Vec<_>) =
        verdicts.into_iter().partition(|(case, _)| is_listed(case));
    for (case, _) in listed.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Passed)) {
        println!("listed as one that cannot pass, and passes: {case}");
    }
    println!("{} cases are listed as those that cannot pass", listed.len());
    report(&others);
}

/// Says how many came out how, and fails where failsoft made a difference; how many passed.
fn report(verdicts: &[(Case, Verdict)]) -> usize {
    let count = |of: fn(&Verdict) -> bool| verdicts.iter().filter(|(_, v)| of(v)).count();
    let passed = count(|v| matches!(v, Verdict::Passed));
    println!(
        "{} cases: {passed} pass, {} do not run on this server, {} differ",
        verdicts.len(),
        count(|v| matches!(v, Verdict::NotHere(_))),
        count(|v| matches!(v, Verdict::Differs { .. })),
    );
    let mut differences = String::new();
    for (case, verdict) in verdicts {
        match verdict {
            Verdict::Passed => {}
            Verdict::NotHere(why) => println!("not here: {case}: {why}"),
            Verdict::Differs { output } => {
                differences += &format!("--- {case} passes directly and not through failsoft\n");
                differences += output;
            }
        }
    }
    assert!(differences.is_empty(), "\n{differences}");
    passed
}
