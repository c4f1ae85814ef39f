//! `cargo xtask features`: every package with features of its own, without any and with each alone, one a line.

use crate::workspace;
use anyhow::{Context, Result};
use serde_json::Value;

/// Prints `package` and `package feature` lines.
///
/// # Errors
/// Where cargo does not say.
pub fn run() -> Result<()> {
    let metadata = workspace::metadata(&workspace::root()?)?;
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("no name")?;
        let features = package["features"].as_object().context("no features")?;
        let own: Vec<&String> =
            features.iter().filter(|(_, enables)| !hands_on(enables)).map(|(name, _)| name).collect();
        if !own.is_empty() {
            println!("{name}");
        }
        own.iter().for_each(|feature| println!("{name} {feature}"));
    }
    Ok(())
}

/// Whether a feature does nothing but turn on that of a crate beneath, where it is checked.
fn hands_on(enables: &Value) -> bool {
    let beneath = |enabled: &Value| enabled.as_str().is_some_and(|e| e.starts_with("scatterbrain-") && e.contains('/'));
    enables.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(beneath))
}

#[cfg(test)]
mod tests {
    use super::hands_on;
    use serde_json::json;

    #[test]
    fn features_that_are_handed_on() {
        assert!(hands_on(&json!(["scatterbrain-core/avx512"])));
        for own in [json!([]), json!(["pulp/x86-v4"]), json!(["scatterbrain-core/avx512", "dep:rayon"])] {
            assert!(!hands_on(&own), "{own}");
        }
    }
}
