//! The tests that would catch us: each way to break the promise on purpose is found by a run.

use std::time::Duration;

use checker::Plan;
use checker::liar::Lie;
use testkit::flavors;

/// Runs with a liar, and looks for these words in what was found.
async fn is_found(lie: Lie, words: &str) {
    let Some(flavor) = flavors().first().copied() else { return };
    let think = Duration::from_millis(20);
    let plan =
        Plan { flavor, clients: 4, think, seed: 7, only: None, settings: None, program: None };
    let report = checker::run_with_a_liar(&plan, lie, 6).await;
    let found = report.wrong().iter().any(|wrong| wrong.contains(words));
    assert!(found, "{lie:?} was not found\n{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_sent_twice() {
    is_found(Lie::Repeat, "repeated: there more than once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ok_for_a_write_that_was_never_sent() {
    is_found(Lie::Swallow, "lost: acknowledged, and not there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_a_write_that_is_there() {
    is_found(Lie::Refuse, "wrong verdict: refused or rolled back, and there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_without_one_of_its_writes() {
    is_found(Lie::Tear, "torn: a part of a step is there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_rolled_back() {
    is_found(Lie::Undo, "lost: acknowledged, and not there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_to_another_read() {
    is_found(Lie::Mix, "an answer to something else").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_on_which_drivers_repeat() {
    is_found(Lie::Tempt, "never promised: 2013").await;
}
