//! Tells of writes whose outcome is unknown, for whoever looks at what happened.

use std::time::Duration;

use telemetry::Ledger;

use crate::events::{Events, Origin, Severity};

/// How often the ledger is looked at: those of one lost server come together.
const LOOK: Duration = Duration::from_secs(1);
/// From one entry to the next at least: a server that comes and goes must not push out what happened.
const PAUSE: Duration = Duration::from_secs(10);

/// Enters what is new in the ledger; for ever.
pub(crate) async fn tell_outcomes(ledger: Ledger, events: Events) {
    let mut told = ledger.entered();
    loop {
        tokio::time::sleep(LOOK).await;
        if let Some(text) = news(&ledger, &mut told) {
            events.enter(Severity::Warn, Origin::Cluster, &text);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What there is in the ledger since so many were told of, if there is anything.
fn news(ledger: &Ledger, told: &mut u64) -> Option<String> {
    let entered = ledger.entered();
    let new = entered - std::mem::replace(told, entered);
    let latest = ledger.latest(1).pop().filter(|_| new > 0)?;
    Some(words(new, &latest.reference))
}

fn words(new: u64, latest: &str) -> String {
    match new {
        1 => format!("a write has an unknown outcome ({latest}); failsoft outcomes has it"),
        _ => format!(
            "{new} writes have an unknown outcome (the latest is {latest}); failsoft outcomes has them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use telemetry::UnknownOutcome;

    use super::*;

    fn enter(ledger: &Ledger, reference: &str) {
        ledger.enter(UnknownOutcome {
            at: "2026-11-22T10:00:00Z".to_owned(),
            reference: reference.to_owned(),
            client: String::new(),
            user: String::new(),
            schema: String::new(),
            digest: String::new(),
            server: String::new(),
            connection: 7,
            cause: String::new(),
            gtids: String::new(),
        });
    }

    #[test]
    fn those_that_come_together_are_told_of_together() {
        let ledger = Ledger::default();
        enter(&ledger, "before");
        let mut told = ledger.entered();
        assert_eq!(news(&ledger, &mut told), None);
        enter(&ledger, "aaa");
        enter(&ledger, "bbb");
        assert_eq!(
            news(&ledger, &mut told).as_deref(),
            Some(
                "2 writes have an unknown outcome (the latest is bbb); failsoft outcomes has them"
            )
        );
        assert_eq!(news(&ledger, &mut told), None);
        enter(&ledger, "ccc");
        assert_eq!(
            news(&ledger, &mut told).as_deref(),
            Some("a write has an unknown outcome (ccc); failsoft outcomes has it")
        );
    }
}
