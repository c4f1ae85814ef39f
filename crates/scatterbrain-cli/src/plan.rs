//! `scatterbrain plan`.

use crate::arguments::PlanOptions;
use crate::attend::write_whole;
use crate::input::Input;
use crate::library::plan::Plan;
use crate::measure::{Call, pool};
use crate::planning;
use crate::table::{PlannedLayer, render_plan};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Plans every file's layer and stores the plans.
///
/// # Errors
/// Inputs or options that cannot be used, two files of one layer, or an output that cannot be written.
pub(crate) fn run(options: &PlanOptions) -> Result<()> {
    let pool = pool(options.common.threads())?;
    let mut plan = Plan::new(BTreeMap::new());
    let mut planned: Vec<PlannedLayer> = Vec::new();
    for file in &options.files {
        let input = Input::read(Some(file), &options.common)?;
        let name = input.layer.clone().unwrap_or_else(|| stem(file));
        if let Some(before) = planned.iter().find(|p| p.name == name) {
            bail!("layer {name:?} twice: {} and {}", before.file, input.file);
        }
        let request = planning::options(&options.request, &options.common, input.sizes.m)?;
        let call = Call::new(&input, options.simd.level(), false)?;
        let start = Instant::now();
        let layer = pool.install(|| call.plan(&request)).with_context(|| input.file.clone())?;
        planned.push(PlannedLayer { name: name.clone(), file: input.file, seconds: start.elapsed().as_secs_f64() });
        plan.layers.insert(name, layer);
    }
    let json = serde_json::to_string_pretty(&plan)? + "\n";
    let text = match &options.output {
        Some(path) => {
            write_whole(path, json.as_bytes()).with_context(|| path.display().to_string())?;
            render_plan(&plan, &planned)
        }
        None => json,
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// What a file without a layer is called.
fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned()
}
