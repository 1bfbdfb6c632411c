//! `failsoft explain`: what a statement is, where it goes, and what a client gets.

use policy::explain::Explanation;
use serde_json::json;
use sql::Dialect;

use crate::Exit;
use crate::cli::Explain;

/// Explains a statement.
pub(crate) fn explain(options: &Explain) -> anyhow::Result<Exit> {
    let dialect = Dialect {
        ansi_quotes: options.ansi_quotes,
        no_backslash_escapes: options.no_backslash_escapes,
        ..Dialect::default()
    };
    let explanation = Explanation::of(options.statement.as_bytes(), dialect);
    if options.json {
        println!("{}", json(&explanation));
    } else {
        for (name, text) in explanation.lines() {
            println!("{name:<12}{text}");
        }
    }
    Ok(Exit::Done)
}

fn json(explanation: &Explanation) -> serde_json::Value {
    json!({
        "class": explanation.kind.name(),
        "because": explanation.because,
        "effects": explanation.effects.names().collect::<Vec<_>>(),
        "pins": explanation.pins.names().collect::<Vec<_>>(),
        "read_write": explanation.read_write,
        "read_only": explanation.read_only,
    })
}
