//! Numbers in text formats: infinities and NaN as strings, which JSON has no numbers for.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Finite(f64),
    Other(String),
}

pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() || x.is_finite() {
        return x.serialize(serializer);
    }
    x.to_string().serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    if !deserializer.is_human_readable() {
        return f64::deserialize(deserializer);
    }
    match Text::deserialize(deserializer)? {
        Text::Finite(x) => Ok(x),
        Text::Other(text) => text.parse().map_err(serde::de::Error::custom),
    }
}
