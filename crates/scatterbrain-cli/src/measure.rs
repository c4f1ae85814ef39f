//! One call of the library, its time and its memory.

use crate::HEAP;
use crate::errors::quantile;
use crate::input::Input;
use crate::library::plan::{self, LayerPlan, PlanOptions};
use crate::library::{self, Level, Mask, Method, Options, Report, Tensor};
use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::Instant;

/// The arguments of a call but the method.
pub(crate) struct Call<'a> {
    pub(crate) query: Tensor<'a>,
    pub(crate) key: Tensor<'a>,
    pub(crate) value: Tensor<'a>,
    pub(crate) mask: Mask<'a>,
    pub(crate) options: Options,
}

/// Medians over the repeats.
pub(crate) struct Times {
    /// Of the method.
    pub(crate) seconds: f64,
    /// The part of it that prepares, summed over heads.
    pub(crate) setup_seconds: f64,
    /// Of a plan that is made from the input.
    pub(crate) planning_seconds: Option<f64>,
    /// Of exact attention, called in turn with the method.
    pub(crate) exact_seconds: f64,
}

impl<'a> Call<'a> {
    /// The whole input.
    ///
    /// # Errors
    /// None that [`Input::read`] lets through.
    pub(crate) fn new(input: &'a Input, level: Level, log_sum_exp: bool) -> Result<Self> {
        Ok(Call {
            query: input.query.tensor()?,
            key: input.key.tensor()?,
            value: input.value.tensor()?,
            mask: input.mask()?,
            options: Options { scale: Some(input.scale as f32), log_sum_exp, level: Some(level) },
        })
    }

    /// Calls the library.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn run(&self, method: &Method, output: &mut [f32]) -> Result<Report, library::Error> {
        library::attend_into(&self.query, &self.key, &self.value, &self.mask, method, &self.options, output, None)
    }

    /// A plan from this input.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn plan(&self, options: &PlanOptions) -> Result<LayerPlan, library::Error> {
        plan::plan(&self.query, &self.key, &self.value, &self.mask, options, &self.options)
    }

    fn timed(&self, method: &Method, output: &mut [f32]) -> Result<(f64, f64), library::Error> {
        let start = Instant::now();
        let report = self.run(method, output)?;
        Ok((start.elapsed().as_secs_f64(), report.setup_seconds))
    }
}

/// A pool of exactly `threads` threads.
///
/// # Errors
/// Where the system has none to give.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool> {
    ThreadPoolBuilder::new().num_threads(threads).build().with_context(|| format!("cannot start {threads} threads"))
}

/// One call on one thread; returns the peak of the heap over what it was before.
///
/// # Errors
/// What the library refuses.
pub(crate) fn extra_bytes(
    alone: &ThreadPool,
    call: &Call<'_>,
    method: &Method,
    output: &mut [f32],
) -> Result<(Report, usize)> {
    alone.install(|| {
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        let report = call.run(method, output)?;
        Ok((report, HEAP.peak_usage().saturating_sub(before)))
    })
}

/// What is called in turn.
pub(crate) struct Turn<'a> {
    pub(crate) exact: &'a Method,
    pub(crate) method: &'a Method,
    /// Whether the method is exact attention too, and called once.
    pub(crate) same: bool,
    /// A plan that is made from the input.
    pub(crate) plan: Option<&'a PlanOptions>,
}

/// Calls all of a turn, `repeat` times.
///
/// # Errors
/// What the library refuses.
pub(crate) fn times(
    pool: &ThreadPool,
    call: &Call<'_>,
    turn: &Turn<'_>,
    repeat: u32,
    output: &mut [f32],
) -> Result<Times> {
    let (mut exact, mut planning, mut seconds, mut setup) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..repeat {
        pool.install(|| {
            if let Some(options) = turn.plan {
                let start = Instant::now();
                call.plan(options)?;
                planning.push(start.elapsed().as_secs_f64());
            }
            if !turn.same {
                exact.push(call.timed(turn.exact, output)?.0);
            }
            let (total, prepared) = call.timed(turn.method, output)?;
            seconds.push(total);
            setup.push(prepared);
            Ok::<_, library::Error>(())
        })?;
    }
    let seconds = median(seconds);
    let exact_seconds = if turn.same { seconds } else { median(exact) };
    let planning_seconds = turn.plan.map(|_| median(planning));
    Ok(Times { seconds, setup_seconds: median(setup), planning_seconds, exact_seconds })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5).expect("at least one repeat")
}
