//! What stands at a model's sites in place of exact attention.

use super::options::Spending;
use crate::HEAP;
use crate::arguments::Choice;
use crate::library::plan::{LayerPlan, Plan, PlanOptions, Request};
use crate::library::{Preset, Seed};
use candle_core::{Error, Result, Tensor};
use scatterbrain_candle::{Attend, Budget, Inputs, ScatterbrainAttention, Site, Spent};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A method at some sites, where a call has more than one query; exact attention elsewhere, which reports nothing.
pub(crate) struct Swap {
    choice: Choice,
    stands_at: fn(Site) -> bool,
    budget: Spending,
    /// Of `auto` without a stored plan; its units where absent.
    request: Option<Request>,
    effort: Option<f64>,
    margin: Option<f64>,
    seed: Seed,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By site for `auto`, by units for all others.
    made: BTreeMap<(Option<Site>, usize), ScatterbrainAttention>,
    /// The plan that was given; what it does not name is exact.
    planned: Option<BTreeMap<String, LayerPlan>>,
    /// Since it was last asked for.
    planning_seconds: f64,
    extra_bytes: usize,
}

impl Swap {
    /// `plan`: for `auto`; where none is given it plans each site from the first input that comes there.
    pub(crate) fn new(
        choice: Choice,
        stands_at: fn(Site) -> bool,
        budget: Spending,
        request: Option<Request>,
        plan: Option<&Plan>,
        seed: Seed,
    ) -> Self {
        let planned = plan.map(|plan| plan.layers.clone());
        let state = Mutex::new(State { planned, ..State::default() });
        Self { choice, stands_at, budget, request, effort: None, margin: None, seed, state }
    }

    /// A limit to what planning a site may cost, and a margin under an error; a plan serves all inputs after the first, so
    /// by default there is no limit, and the margin is that of plans for other inputs.
    pub(crate) fn with_limits(self, effort: Option<f64>, margin: Option<f64>) -> Self {
        Self { effort, margin, ..self }
    }

    /// Whether it plans from the first input that comes.
    pub(crate) fn plans(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.choice == Choice::Auto && state.planned.is_none()
    }

    /// Exact attention, reported.
    pub(crate) fn exact(stands_at: fn(Site) -> bool) -> Self {
        Self::new(Choice::Preset(Preset::Exact), stands_at, Spending::Units(1), None, None, Seed(0))
    }

    /// Seconds of planning and the heap that a call took at most, since the last question.
    pub(crate) fn take_costs(&self) -> (f64, usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut state.planning_seconds), std::mem::take(&mut state.extra_bytes))
    }

    fn attention(&self, site: Site, inputs: &Inputs<'_>) -> Result<ScatterbrainAttention> {
        let (_, _, n, _) = inputs.query.dims4()?;
        let (_, _, m, _) = inputs.key.dims4()?;
        let units = self.budget.units(n, m, inputs.causal);
        let name = match self.choice {
            Choice::Preset(_) => (None, units),
            Choice::Auto => (Some(site), 0),
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attention) = state.made.get(&name) {
            return Ok(attention.clone());
        }
        let attention = match self.choice {
            Choice::Preset(preset) => ScatterbrainAttention::preset(preset, Budget::Units(units), self.seed)?,
            Choice::Auto => {
                let stored = state.planned.as_ref().map(|layers| layers.get(&site.to_string()).cloned());
                match stored {
                    Some(layer) => layer.map_or_else(ScatterbrainAttention::exact, ScatterbrainAttention::planned),
                    None => {
                        let start = Instant::now();
                        let request = self.request.unwrap_or(Request::Units(units));
                        let Self { effort, margin, .. } = *self;
                        let options =
                            PlanOptions { request, seed: Some(self.seed), rows: None, effort, margin, own_codes: true };
                        let plan = inputs.plan(&options)?;
                        state.planning_seconds += start.elapsed().as_secs_f64();
                        ScatterbrainAttention::planned(plan)
                    }
                }
            }
        };
        state.made.insert(name, attention.clone());
        Ok(attention)
    }
}

impl Attend for Swap {
    fn attend(&self, site: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
        Ok(self.attend_reported(site, inputs)?.0)
    }

    fn attend_reported(&self, site: Site, inputs: &Inputs<'_>) -> Result<(Tensor, Option<Spent>)> {
        let named = |error: Error| error.context(format!("at {site}"));
        let queries = inputs.query.dim(2)?;
        if !(self.stands_at)(site) || queries < 2 {
            return Ok((ScatterbrainAttention::exact().attend(site, inputs).map_err(named)?, None));
        }
        let attention = self.attention(site, inputs).map_err(named)?;
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let (output, spent) = attention.attend_reported(site, inputs).map_err(named)?;
        let written = output.elem_count() * output.dtype().size_in_bytes();
        let extra = HEAP.peak_usage().saturating_sub(before + written);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.extra_bytes = state.extra_bytes.max(extra);
        Ok((output, spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use scatterbrain_candle::Stack;

    fn outputs(choice: Choice, site: Site, n: usize) -> (Tensor, Option<Spent>, Swap) {
        let x = (0..2 * n * 8).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let x = Tensor::from_vec(x, (1, 2, n, 8), &Device::Cpu).unwrap();
        let inputs = Inputs { query: &x, key: &x, value: &x, scale: 0.3, causal: true, key_lengths: None };
        let swap = Swap::new(choice, |site| site.stack == Stack::Decoder, Spending::Share(0.2), None, None, Seed(0));
        let (output, spent) = swap.attend_reported(site, &inputs).unwrap();
        assert_eq!((output.dtype(), output.dims()), (DType::F32, x.dims()));
        (output, spent, swap)
    }

    #[test]
    fn only_whole_sequences_of_the_stack_are_swapped() {
        let local = Choice::Preset(Preset::Local);
        let site = |stack| Site { stack, layer: 1 };
        let report = |stack, n| outputs(local, site(stack), n).1.map(|spent| spent.report.share);
        assert_eq!(report(Stack::Cross, 200), None);
        assert_eq!(report(Stack::Decoder, 1), None);
        let share = report(Stack::Decoder, 200).unwrap();
        assert!(share <= 0.2 && share > 0.15, "{share}");
    }

    #[test]
    fn auto_keeps_the_units_and_says_what_planning_took() {
        let site = Site { stack: Stack::Decoder, layer: 0 };
        let (_, spent, swap) = outputs(Choice::Auto, site, 300);
        let report = spent.unwrap().report;
        assert!(report.heads.iter().all(|head| !head.fallback) && report.share < 0.25, "{report:?}");
        let (seconds, bytes) = swap.take_costs();
        assert!(seconds > 0.0 && bytes > 0);
        assert_eq!(swap.take_costs(), (0.0, 0));
    }
}
