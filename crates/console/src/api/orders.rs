//! What actions take, and are answered with.

use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// A setting that is different.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// The setting, such as `health.interval`.
    pub setting: String,
    /// Its value before; `***` for a secret.
    pub old: String,
    /// Its value now, in the same way.
    pub new: String,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Reloaded {
    /// What is different from now on.
    pub changes: Vec<Difference>,
    /// What is different in the file, and needs a restart.
    pub needs_restart: Vec<Difference>,
}

/// What an action is answered with that was not carried out.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Refused {
    /// Why not.
    pub error: String,
    /// All that is wrong, a line for each, where there may be several things.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// What `/api/v1/read-only` takes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadOnly {
    /// Whether read-only mode is switched on, or off.
    pub on: bool,
    /// The partition; all where there is none.
    #[serde(default)]
    pub partition: Option<String>,
}

/// What `/api/v1/pause` takes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// How long each write may wait at most, seconds.
    #[serde(default = "Pause::usual", deserialize_with = "seconds")]
    #[schema(minimum = 0, maximum = 86_400)]
    pub hold_s: u64,
    /// The partition; all where there is none.
    #[serde(default)]
    pub partition: Option<String>,
}

/// The longest that a write may wait: longer than any client does.
pub(crate) const LONGEST_HOLD_S: u64 = 24 * 3600;

/// A whole number of seconds, up to a day. To JSON 30 and 30.0 are the same number.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let given = f64::deserialize(deserializer)?;
    let expected = || D::Error::custom("expected a whole number of seconds up to 86400 in hold_s");
    let time = Duration::try_from_secs_f64(given).map_err(|_| expected())?;
    let is_whole = given.fract() == 0.0;
    Some(time.as_secs()).filter(|s| is_whole && *s <= LONGEST_HOLD_S).ok_or_else(expected)
}

impl Pause {
    /// How long a write waits where the order does not say: shorter than most clients wait for an
    /// answer.
    pub(crate) const fn usual() -> u64 {
        30
    }
}

/// What `/api/v1/resume` takes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The partition; all where there is none.
    #[serde(default)]
    pub partition: Option<String>,
}

/// What `/api/v1/configuration` answers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct ShownConfiguration {
    /// What is in force, and whether it is what is on disk.
    pub configuration: super::Configuration,
    /// All settings in force, defaults included and secrets left out, as YAML.
    pub yaml: String,
}
