//! Attention of models: by site, recorded, added up; and in any order of these.

mod common;

use candle_core::{Error, Result, Tensor};
use common::tensor;
use scatterbrain_attention::plan::{Config, Plan, PlanOptions, Request};
use scatterbrain_attention::{Preset, Seed};
use scatterbrain_candle::{Attend, Budget, BySite, Inputs, Recorder, ScatterbrainAttention, Site, Stack, Tally};
use std::collections::BTreeMap;
use std::sync::Mutex;

fn site(layer: usize) -> Site {
    Site { stack: Stack::Decoder, layer }
}

struct Call([Tensor; 3]);

impl Call {
    fn new(n: usize) -> Result<Self> {
        Ok(Self([tensor(&[1, 4, n, 16], 1)?, tensor(&[1, 2, n, 16], 2)?, tensor(&[1, 2, n, 16], 3)?]))
    }

    fn inputs(&self) -> Inputs<'_> {
        let [query, key, value] = &self.0;
        Inputs { query, key, value, scale: 0.25, causal: true, key_lengths: None }
    }
}

fn local() -> Result<ScatterbrainAttention> {
    ScatterbrainAttention::preset(Preset::Local, Budget::Units(8), Seed(0))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[test]
fn names_of_sites() {
    for stack in [Stack::Encoder, Stack::Decoder, Stack::Cross] {
        let site = Site { stack, layer: 12 };
        assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
    }
    for wrong in ["encoder", "encoder.", "encoder.x", "encoder.03", "encoder.+3", "Encoder.3", "decoder.1.2", ""] {
        let error = wrong.parse::<Site>().expect_err(wrong).to_string();
        assert!(error.contains("encoder.N"), "{error}");
    }
}

#[test]
fn a_site_gets_its_own() -> Result<()> {
    let call = Call::new(50)?;
    let (exact, local) = (ScatterbrainAttention::exact(), local()?);
    let mixed = BySite::exact().with(site(1), local.clone());
    let of = |attend: &dyn Attend, layer| values(&attend.attend(site(layer), &call.inputs())?);
    assert_eq!(of(&mixed, 1)?, of(&local, 1)?);
    assert_eq!(of(&mixed, 0)?, of(&exact, 0)?);
    assert_ne!(of(&mixed, 0)?, of(&mixed, 1)?);
    assert!(mixed.check(&[site(0), site(1)]).is_ok());
    let error = mixed.check(&[site(0)]).unwrap_err().to_string();
    assert!(error.contains("decoder.1"), "{error}");
    Ok(())
}

#[test]
fn a_plan_made_from_inputs_is_applied_by_name() -> Result<()> {
    let call = Call::new(400)?;
    let options = PlanOptions { request: Request::Units(64), ..PlanOptions::default() };
    let layer = call.inputs().plan(&options)?;
    assert!(layer.causal && layer.heads.iter().all(|head| head.config != Config::Exact));
    let plan = |name: &str| Plan::new(BTreeMap::from([(name.to_owned(), layer.clone())]));
    let planned = BySite::planned(&plan("decoder.3"))?;
    assert_eq!(planned.sites().collect::<Vec<_>>(), [site(3)]);
    let tally = Tally::new(&planned);
    tally.attend(site(3), &call.inputs())?;
    tally.attend(site(4), &call.inputs())?;
    let sites = tally.sites();
    assert!(sites[&site(3)].share() < 0.7, "{:?}", sites[&site(3)]);
    assert_eq!(sites[&site(4)].share(), 1.0);
    let error = BySite::planned(&plan("layer 3")).unwrap_err().to_string();
    assert!(error.contains("layer 3"), "{error}");
    let unknown = Plan { version: 7, ..plan("decoder.3") };
    assert!(BySite::planned(&unknown).unwrap_err().to_string().contains("plan.version"));
    // A plan for causal calls refuses others.
    let inputs = Inputs { causal: false, ..call.inputs() };
    assert!(planned.attend(site(3), &inputs).unwrap_err().to_string().contains("plan.causal"));
    Ok(())
}

/// The plans in `plans/`: for every head of every layer, and not exact attention throughout.
#[test]
fn committed_plans_are_for_their_models() -> Result<()> {
    let models = [
        (include_str!("../plans/minilm.json"), Stack::Encoder, 6, 12, 32, false),
        (include_str!("../plans/smollm2.json"), Stack::Decoder, 30, 9, 64, true),
        (include_str!("../plans/vit.json"), Stack::Encoder, 12, 6, 64, false),
        (include_str!("../plans/whisper-tiny.json"), Stack::Encoder, 4, 6, 64, false),
    ];
    for (text, stack, layers, heads, head_dim, causal) in models {
        let plan: Plan = serde_json::from_str(text).map_err(Error::wrap)?;
        let sites: Vec<Site> = (0..layers).map(|layer| Site { stack, layer }).collect();
        let planned = BySite::planned(&plan)?;
        planned.check(&sites)?;
        assert_eq!(planned.sites().collect::<Vec<_>>(), sites);
        for layer in plan.layers.values() {
            assert_eq!((layer.heads.len(), layer.head_dim, layer.causal), (heads, head_dim, causal));
            assert!(layer.heads.iter().all(|head| head.error_bound <= Some(0.05)));
            assert!(layer.heads.iter().any(|head| head.config != Config::Exact));
            assert!(serde_json::to_string_pretty(layer).map_err(Error::wrap)?.len() <= 64_000);
        }
    }
    Ok(())
}

#[test]
fn a_recorder_sees_what_the_model_hands_over() -> Result<()> {
    let call = Call::new(20)?;
    let exact = ScatterbrainAttention::exact();
    let seen = Mutex::new(Vec::new());
    let recorder = Recorder::new(&exact, |site, inputs| {
        seen.lock().unwrap().push((site, inputs.query.clone(), inputs.scale));
        Ok(())
    });
    let output = recorder.attend(site(2), &call.inputs())?;
    assert_eq!(values(&output)?, values(&exact.attend(site(2), &call.inputs())?)?);
    let seen = seen.lock().unwrap();
    let [(at, query, scale)] = &seen[..] else { panic!("{} calls", seen.len()) };
    assert_eq!((*at, *scale), (site(2), 0.25));
    assert_eq!(values(query)?, values(&call.0[0])?);
    let full = Recorder::new(&exact, |_, _| Err(Error::msg("disk full")));
    assert!(full.attend(site(0), &call.inputs()).unwrap_err().to_string().contains("disk full"));
    Ok(())
}

#[test]
fn shares_add_up() -> Result<()> {
    let call = Call::new(50)?;
    let local = local()?;
    let mixed = BySite::exact().with(site(1), local);
    // Reports pass through a recorder.
    let recorder = Recorder::new(&mixed, |_, _| Ok(()));
    let tally = Tally::new(&recorder);
    for layer in [0, 1, 1] {
        tally.attend(site(layer), &call.inputs())?;
    }
    let sites = tally.sites();
    // Row i of 50 sees i + 1 keys, and of these the window holds 8 at most.
    let share = (0..50).map(|i| (i + 1).min(8) as f64 / (i + 1) as f64).sum::<f64>() / 50.0;
    assert_eq!(sites[&site(0)].share(), 1.0);
    assert!((sites[&site(1)].share() - share).abs() < 1e-12);
    assert_eq!((sites[&site(1)].calls, sites[&site(1)].heads), (2, 8));
    let total = tally.total();
    assert!((total.share() - (1.0 + 2.0 * share) / 3.0).abs() < 1e-12);
    assert_eq!(total.visible_pairs, 3 * 4 * 50 * 51 / 2);
    assert_eq!((total.scan_share(), total.calls_that_see_future, total.unreported), (0.0, 0, 0));
    assert!(total.seconds > 0.0);
    tally.clear();
    assert!(tally.sites().is_empty());

    let scan = ScatterbrainAttention::preset(Preset::ScatterbrainScan, Budget::Units(8), Seed(0))?;
    let smyrf = ScatterbrainAttention::preset(Preset::Smyrf, Budget::Units(8), Seed(0))?;
    let mixed = BySite::everywhere(scan).with(site(1), smyrf);
    let tally = Tally::new(&mixed);
    (0..2).try_for_each(|layer| tally.attend(site(layer), &call.inputs()).map(drop))?;
    assert_eq!((tally.total().scan_share(), tally.total().calls_that_see_future), (0.5, 1));
    Ok(())
}

/// An attention of a user's own reports nothing, and that shows.
#[test]
fn silence_is_counted() -> Result<()> {
    struct Values;
    impl Attend for Values {
        fn attend(&self, _: Site, inputs: &Inputs<'_>) -> Result<Tensor> {
            Ok(inputs.query.clone())
        }
    }
    let call = Call::new(5)?;
    let tally = Tally::new(&Values);
    tally.attend(site(0), &call.inputs())?;
    assert_eq!((tally.total().calls, tally.total().unreported), (0, 1));
    assert!(tally.total().share().is_nan());
    Ok(())
}
