//! Configuration files: whatever is in one, it is understood or its problems are told with their
//! places, and what is understood says the same when it is shown and read again.
#![no_main]

use config::Config;
use libfuzzer_sys::fuzz_target;

fn parse(text: &str) -> Result<Config, config::ConfigError> {
    Config::parse("fuzz.yaml", text, &|name| name.starts_with('A').then(|| "value".to_owned()))
}

fuzz_target!(|text: &str| {
    match parse(text) {
        Ok(config) => {
            let shown = config.show();
            let again = parse(&shown).map(|again| again.show());
            // Secrets are not shown, so a file that is shown need not be whole.
            if let Ok(again) = again {
                assert_eq!(again, shown);
            }
        }
        Err(error) => assert!(error.to_string().starts_with("fuzz.yaml")),
    }
});
