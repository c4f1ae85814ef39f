//! Where the plan of `auto` comes from: the input at hand, or a file.

use crate::arguments::{CommonOptions, PlanSource, RequestOptions};
use crate::input::Input;
use crate::library::plan::{LayerPlan, Plan, PlanOptions, Request};
use crate::library::{self, Method, Seed};
use crate::measure::Call;
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// How `auto` gets its plan.
#[derive(Debug)]
pub(crate) enum Planning {
    /// From the input itself.
    Fresh(PlanOptions),
    /// As it was stored.
    Stored(Box<LayerPlan>),
}

impl Planning {
    /// What the command line says, for one input.
    ///
    /// # Errors
    /// A plan that cannot be read, or has no such layer.
    pub(crate) fn new(source: &PlanSource, common: &CommonOptions, input: &Input) -> Result<Self> {
        match &source.plan {
            None => {
                let options = options(&source.request, common, input.sizes.m)?;
                let PlanOptions { effort, margin, .. } = PlanOptions::on_the_fly(options.request);
                let (effort, margin) = (options.effort.or(effort), options.margin.or(margin));
                Ok(Self::Fresh(PlanOptions { effort, margin, own_codes: true, ..options }))
            }
            Some(path) => {
                let plan = read_plan(path)?;
                let layer = layer(plan, source.layer.as_deref(), &input.layer);
                Ok(Self::Stored(Box::new(layer.with_context(|| path.display().to_string())?)))
            }
        }
    }

    /// The plan.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn plan(&self, call: &Call<'_>) -> Result<LayerPlan, library::Error> {
        match self {
            Self::Fresh(options) => call.plan(options),
            Self::Stored(plan) => Ok((**plan).clone()),
        }
    }

    /// How it is made from the input, where it is.
    pub(crate) fn fresh(&self) -> Option<&PlanOptions> {
        match self {
            Self::Fresh(options) => Some(options),
            Self::Stored(_) => None,
        }
    }

    /// The method, where it is not needed but for its sake.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn method(&self, call: &Call<'_>) -> Result<Method, library::Error> {
        self.plan(call).map(Method::planned)
    }
}

/// What is asked of a plan for `m` keys: an error or a time; a budget where only that is given. Without a limit
/// of effort, and with the margin of plans for other inputs, where none is given.
///
/// # Errors
/// A budget outside 1 to `m`.
pub(crate) fn options(request: &RequestOptions, common: &CommonOptions, m: usize) -> Result<PlanOptions> {
    let RequestOptions { effort, margin, .. } = *request;
    let request = match (request.max_error, request.max_time) {
        (Some(error), _) => Request::Error(error),
        (None, Some(time)) => Request::Time(time),
        (None, None) if common.has_budget() => Request::Units(common.budget(m)?),
        (None, None) => Request::default(),
    };
    Ok(PlanOptions { request, seed: Some(Seed(common.seed)), effort, margin, ..PlanOptions::default() })
}

/// A stored plan.
///
/// # Errors
/// A file that cannot be read or is no plan.
pub(crate) fn read_plan(path: &Path) -> Result<Plan> {
    let read = || -> Result<Plan> {
        let plan: Plan = serde_json::from_slice(&std::fs::read(path)?).map_err(|e| anyhow!("not a plan: {e}"))?;
        plan.check()?;
        Ok(plan)
    };
    read().with_context(|| path.display().to_string())
}

/// The layer asked for, or the input's own, or the only one.
fn layer(mut plan: Plan, asked: Option<&str>, own: &Option<String>) -> Result<LayerPlan> {
    let Some(name) = asked.or(own.as_deref()) else {
        return match plan.layers.len() {
            1 => Ok(plan.layers.pop_first().context("one layer")?.1),
            count => bail!("the plan has {count} layers ({}): choose one by --layer", names(&plan)),
        };
    };
    match plan.layers.remove(name) {
        Some(layer) => Ok(layer),
        None if asked.is_none() => {
            bail!("no plan for layer {name:?}, only for {}: choose one by --layer", names(&plan))
        }
        None => bail!("no plan for layer {name:?}, only for {}", names(&plan)),
    }
}

fn names(plan: &Plan) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<&str> = plan.layers.keys().map(String::as_str).take(SHOWN).collect();
    match plan.layers.len() {
        0 => return "no layer".into(),
        count if count > SHOWN => names.push("…"),
        _ => {}
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(names: &[&str]) -> Plan {
        let layer: LayerPlan = serde_json::from_str(
            r#"{"request": {"error": 0.05}, "seed": 0, "rows": 64, "causal": false, "n": 9, "m": 9, "head_dim": 4,
                "value_dim": 4, "kv_heads": 1, "heads": [{"config": "exact", "error": 0, "error_bound": 0, "cost": 1,
                "exact_share": 1}]}"#,
        )
        .unwrap();
        Plan { version: 1, layers: names.iter().map(|n| (n.to_string(), layer.clone())).collect() }
    }

    #[test]
    fn which_layer() {
        let own = |name: &str| Some(name.to_string());
        assert!(layer(plan(&["8"]), None, &own("8")).is_ok());
        assert!(layer(plan(&["8"]), None, &None).is_ok());
        assert!(layer(plan(&["8"]), Some("8"), &own("22")).is_ok());
        let error = |plan, asked, own| layer(plan, asked, &own).unwrap_err().to_string();
        assert_eq!(
            error(plan(&["8"]), None, own("22")),
            r#"no plan for layer "22", only for 8: choose one by --layer"#
        );
        assert_eq!(error(plan(&["1", "8"]), None, None), "the plan has 2 layers (1, 8): choose one by --layer");
        assert_eq!(error(plan(&[]), Some("8"), None), r#"no plan for layer "8", only for no layer"#);
    }
}
