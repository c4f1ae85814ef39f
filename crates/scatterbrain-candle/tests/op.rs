//! The operation: strides, types, masks, errors, gradients.

mod common;

use candle_core::{DType, Device, Error, Result, Tensor, Var};
use common::{agree, attention, head, tensor};
use scatterbrain_attention::blocks::Full;
use scatterbrain_attention::features::{FeatureBackground, PositiveFeatures, ProjectionKind};
use scatterbrain_attention::{Causality, Method, Preset, Seed, Window, WindowAlign};
use scatterbrain_candle::{Budget, Mask, ScatterbrainAttention, attend};

/// f32 sums of some hundred terms below 1 in magnitude.
const F32: f64 = 1e-6;

/// Exact attention of the operation against the reference.
fn check(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: &Mask,
    scale: Option<f32>,
    tolerance: f64,
    what: &str,
) -> Result<()> {
    let (batch, heads, n, d) = q.dims4()?;
    let (_, kv_heads, m, _) = k.dims4()?;
    let output = attend(q, k, v, mask, &Method::exact(), scale)?.output;
    assert_eq!(output.dims(), [batch, heads, n, v.dims()[3]], "{what}");
    assert_eq!(output.dtype(), q.dtype(), "{what}");
    let scale = scale.map_or(1.0 / (d as f64).sqrt(), f64::from);
    for b in 0..batch {
        let length = mask.key_lengths.as_ref().map_or(m, |lengths| lengths[b]);
        for h in 0..heads {
            let allowed = mask.allowed.as_ref().map(|allowed| {
                let allowed = allowed.broadcast_as((batch, heads, n, m))?;
                allowed.get(b)?.get(h)?.to_vec2::<u8>()
            });
            let allowed = allowed.transpose()?;
            let sees = |i: usize, j: usize| {
                let position = i as isize + length as isize - n as isize;
                let j_ = j as isize;
                j < length
                    && (!mask.causal || j_ <= position)
                    && mask.window.is_none_or(|w| j_ >= position - w.left as isize && j_ <= position + w.right as isize)
                    && allowed.as_ref().is_none_or(|a| a[i][j] != 0)
            };
            let kv = h / (heads / kv_heads);
            let expected = attention(&head(q, b, h)?, &head(k, b, kv)?, &head(v, b, kv)?, scale, sees);
            agree(&head(&output, b, h)?, &expected, tolerance, what);
        }
    }
    Ok(())
}

#[test]
fn masks_and_grouped_heads() -> Result<()> {
    let (q, k) = (tensor(&[2, 6, 37, 8], 1)?, tensor(&[2, 2, 51, 8], 2)?);
    let v = tensor(&[2, 2, 51, 5], 3)?;
    let allowed = |shape: (usize, usize, usize, usize), seed| -> Result<Tensor> {
        tensor(&[shape.0, shape.1, shape.2, shape.3], seed)?.ge(-0.3)
    };
    let window = Window { left: 9, right: 2, align: WindowAlign::End };
    let masks = [
        ("none", Mask::none()),
        ("causal", Mask::causal()),
        ("lengths", Mask::lengths([51, 40])),
        ("window", Mask { window: Some(window), ..Mask::none() }),
        ("boolean", Mask { allowed: Some(allowed((2, 6, 37, 51), 4)?), ..Mask::none() }),
        ("one boolean for all", Mask { allowed: Some(allowed((1, 1, 37, 51), 5)?), ..Mask::none() }),
        ("a boolean repeated over heads", {
            let mask = allowed((2, 1, 37, 51), 6)?.broadcast_as((2, 6, 37, 51))?;
            Mask { allowed: Some(mask), ..Mask::none() }
        }),
        ("a boolean turned round", {
            let mask = allowed((1, 1, 51, 37), 7)?.transpose(2, 3)?;
            Mask { allowed: Some(mask), ..Mask::none() }
        }),
        ("all of them", {
            let allowed = Some(allowed((1, 6, 37, 51), 8)?);
            Mask { causal: true, key_lengths: Some(vec![45, 51]), window: Some(window), allowed }
        }),
        ("more queries than keys", Mask { causal: true, key_lengths: Some(vec![20, 0]), ..Mask::none() }),
    ];
    for (what, mask) in masks {
        check(&q, &k, &v, &mask, None, F32, what)?;
    }
    check(&q, &k, &v, &Mask::causal(), Some(2.5), F32, "a scale")
}

#[test]
fn any_strides() -> Result<()> {
    // [batch, n, heads, d], as projections come.
    let [q, k, v] = [1, 2, 3].map(|seed| tensor(&[2, 40, 3, 8], seed));
    let (q, k, v) = (q?.transpose(1, 2)?, k?.transpose(1, 2)?, v?.transpose(1, 2)?);
    assert!(!q.is_contiguous());
    check(&q, &k, &v, &Mask::causal(), None, F32, "transposed")?;
    let narrow = |x: &Tensor, from| x.narrow(2, from, 33)?.narrow(1, 1, 2);
    check(&narrow(&q, 3)?, &narrow(&k, 7)?, &narrow(&v, 0)?, &Mask::none(), None, F32, "narrowed")?;
    let columns = |x: &Tensor| x.narrow(3, 2, 5);
    check(&columns(&q)?, &columns(&k)?, &v, &Mask::causal(), None, F32, "some columns")?;
    let turned = tensor(&[2, 3, 8, 40], 4)?.transpose(2, 3)?;
    check(&q, &turned, &v, &Mask::none(), None, F32, "columns apart")?;
    let repeated = k.narrow(1, 0, 1)?.broadcast_as((2, 3, 40, 8))?;
    check(&q, &repeated, &v, &Mask::none(), None, F32, "heads repeated")?;
    let fused = tensor(&[2, 40, 3, 3, 8], 5)?;
    let part = |i| fused.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2);
    check(&part(0)?, &part(1)?, &part(2)?, &Mask::causal(), None, F32, "one projection for three")
}

#[test]
fn strides_do_not_change_a_bit() -> Result<()> {
    let x = tensor(&[1, 70, 2, 16], 1)?.transpose(1, 2)?;
    let method = Preset::ScatterbrainSmyrf.method(16, 16, Seed(3)).map_err(Error::wrap)?;
    let of = |x: &Tensor| -> Result<Vec<f32>> {
        attend(x, x, x, &Mask::none(), &method, None)?.output.flatten_all()?.to_vec1()
    };
    assert_eq!(of(&x)?, of(&x.contiguous()?)?);
    Ok(())
}

#[test]
fn half_types() -> Result<()> {
    let (q, k, v) = (tensor(&[1, 4, 33, 16], 1)?, tensor(&[1, 2, 33, 16], 2)?, tensor(&[1, 2, 33, 7], 3)?);
    // The reference sees the rounded inputs; the output, at most 1, is rounded to 11 or 8 bits.
    for (dtype, tolerance) in [(DType::F16, 0.5f64.powi(11)), (DType::BF16, 0.5f64.powi(8))] {
        let [q, k, v] = [&q, &k, &v].map(|x| x.to_dtype(dtype));
        let (q, k, v) = (q?, k?, v?);
        check(&q, &k, &v, &Mask::causal(), None, tolerance, dtype.as_str())?;
        let turned = |x: &Tensor| x.transpose(1, 2)?.contiguous()?.transpose(1, 2);
        check(&turned(&q)?, &turned(&k)?, &turned(&v)?, &Mask::causal(), None, tolerance, dtype.as_str())?;
        let mixed = v.to_dtype(DType::F32)?;
        check(&q, &k, &mixed, &Mask::none(), None, tolerance, "half query and key, whole value")?;
    }
    Ok(())
}

/// One query over a cache of keys sees them all; with fewer valid keys, those.
#[test]
fn a_decode_step() -> Result<()> {
    let (q, k, v) = (tensor(&[2, 4, 1, 8], 1)?, tensor(&[2, 2, 90, 8], 2)?, tensor(&[2, 2, 90, 8], 3)?);
    check(&q, &k, &v, &Mask::causal(), None, F32, "one query")?;
    check(&q, &k, &v, &Mask { causal: true, key_lengths: Some(vec![90, 31]), ..Mask::none() }, None, F32, "shorter")?;
    // The same as the last row of all.
    let queries = Tensor::cat(&[&tensor(&[2, 4, 89, 8], 4)?, &q], 2)?;
    let all = attend(&queries, &k, &v, &Mask::causal(), &Method::exact(), None)?.output.narrow(2, 89, 1)?;
    let one = attend(&q, &k, &v, &Mask::causal(), &Method::exact(), None)?.output;
    agree(&head(&all, 1, 3)?, &head(&one, 1, 3)?, F32, "last row");
    Ok(())
}

#[test]
fn a_full_support_is_exact() -> Result<()> {
    let (q, k, v) = (tensor(&[1, 2, 60, 8], 1)?, tensor(&[1, 2, 60, 8], 2)?, tensor(&[1, 2, 60, 8], 3)?);
    let map = PositiveFeatures::sample(8, 16, ProjectionKind::Orthogonal, Seed(0)).map_err(Error::wrap)?;
    let method = Method::scatterbrain(Full, FeatureBackground::new(map));
    let full = attend(&q, &k, &v, &Mask::causal(), &method, None)?;
    let exact = attend(&q, &k, &v, &Mask::causal(), &Method::exact(), None)?;
    for h in 0..2 {
        agree(&head(&full.output, 0, h)?, &head(&exact.output, 0, h)?, F32, "full support");
    }
    assert_eq!(exact.spent.report.share, 1.0);
    assert_eq!(exact.spent.causality, Causality::Strict);
    Ok(())
}

#[test]
fn a_method_that_sees_the_future_says_so() -> Result<()> {
    let x = tensor(&[1, 1, 64, 8], 1)?;
    let method = Preset::Smyrf.method(16, 8, Seed(0)).map_err(Error::wrap)?;
    let spent = attend(&x, &x, &x, &Mask::causal(), &method, None)?.spent;
    assert_eq!(spent.causality, Causality::SelectionSeesFuture);
    let module = |preset| ScatterbrainAttention::preset(preset, Budget::Units(16), Seed(0))?.causality(8, 64);
    assert_eq!(module(Preset::Smyrf)?, Causality::SelectionSeesFuture);
    assert_eq!(module(Preset::ScatterbrainScan)?, Causality::Strict);
    Ok(())
}

#[test]
fn threads_do_not_change_a_bit() -> Result<()> {
    let x = tensor(&[1, 3, 200, 16], 1)?;
    let attention = ScatterbrainAttention::preset(Preset::ScatterbrainCentroid, Budget::Share(0.2), Seed(1))?;
    let of = |threads| -> Result<Vec<f32>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(Error::wrap)?;
        pool.install(|| attention.forward(&x, &x, &x, &Mask::none())?.flatten_all()?.to_vec1())
    };
    assert_eq!(of(1)?, of(3)?);
    Ok(())
}

#[test]
fn errors_name_the_argument() -> Result<()> {
    let x = tensor(&[1, 4, 10, 8], 1)?;
    let short = tensor(&[1, 4, 9, 8], 1)?;
    let exact = Method::exact();
    let says = |q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, words: &str| {
        let error = attend(q, k, v, mask, &exact, None).map(drop).expect_err(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    let none = Mask::none();
    says(&x.flatten(0, 1)?, &x, &x, &none, "query: expected [batch, heads, rows, columns], got [4, 10, 8]");
    says(&x, &x.narrow(3, 0, 7)?, &x, &none, "key: expected [1, kv_heads, m, 8], got [1, 4, 10, 7]");
    says(&x, &x.narrow(1, 0, 3)?, &x, &none, "kv_heads: expected a divisor of 4 heads, got 3");
    says(&x, &x, &short, &none, "value: expected [1, 4, 10, d_v], got [1, 4, 9, 8]");
    says(&x, &x, &x.to_dtype(DType::F64)?, &none, "value: expected elements of f32, f16 or bf16, got f64");
    says(&x.to_dtype(DType::U32)?, &x, &x, &none, "query: expected elements of f32, f16 or bf16, got u32");
    says(&x.narrow(2, 0, 0)?, &x, &x, &none, "query: expected sizes of at least 1");
    says(&x, &x, &x, &Mask::lengths([11]), "key_lengths: expected lengths of at most 10, got 11");
    let allowed = |shape: &[usize], dtype| -> Result<Mask> {
        Ok(Mask { allowed: Some(Tensor::ones(shape, dtype, &Device::Cpu)?), ..Mask::none() })
    };
    says(&x, &x, &x, &allowed(&[1, 1, 10, 9], DType::U8)?, "mask: expected [1, 4 or 1, 10, 10]");
    says(&x, &x, &x, &allowed(&[10, 10], DType::U8)?, "mask: expected [batch or 1, heads or 1, n, m], got [10, 10]");
    says(&x, &x, &x, &allowed(&[1, 1, 10, 10], DType::F32)?, "mask: expected type u8");
    let wide = Preset::Local.method(11, 8, Seed(0)).map_err(Error::wrap)?;
    let error = attend(&x, &x, &x, &none, &wide, None).unwrap_err().to_string();
    assert!(error.contains("budget: expected 1 to 10 keys, got 11"), "{error}");
    let share = |share| ScatterbrainAttention::preset(Preset::Local, Budget::Share(share), Seed(0)).map(drop);
    assert!(share(f64::NAN).is_err() && share(0.0).is_err() && share(1.5).is_err() && share(1.0).is_ok());
    Ok(())
}

/// A module made of a preset is exact where a call has fewer keys than its budget has units.
#[test]
fn fewer_keys_than_units() -> Result<()> {
    let x = tensor(&[1, 2, 10, 8], 1)?;
    let module = ScatterbrainAttention::preset(Preset::ScatterbrainLocal, Budget::Units(16), Seed(0))?;
    let exact = ScatterbrainAttention::exact();
    let of = |a: &ScatterbrainAttention| a.forward(&x, &x, &x, &Mask::causal())?.flatten_all()?.to_vec1::<f32>();
    assert_eq!(of(&module)?, of(&exact)?);
    Ok(())
}

/// Whatever the gradient is asked for, it is refused and not left out.
#[test]
fn a_gradient_is_an_error() -> Result<()> {
    let x = tensor(&[1, 2, 10, 8], 1)?;
    let var = Var::from_tensor(&x)?;
    let exact = ScatterbrainAttention::exact();
    let mask = Mask::causal();
    let [query, key, value] = [[true, false, false], [false, true, false], [false, false, true]].map(|tracked| {
        let of = |tracked: bool| if tracked { var.as_tensor() } else { &x };
        // Projections stand between weights and attention.
        let projected = |tracked: bool| of(tracked).affine(2.0, 0.0);
        exact
            .forward(&projected(tracked[0])?, &projected(tracked[1])?, &projected(tracked[2])?, &mask)?
            .sqr()?
            .sum_all()
    });
    for loss in [query?, key?, value?] {
        let error = loss.backward().map(drop).expect_err("a gradient was lost").to_string();
        assert!(error.contains("gradients do not exist yet"), "{error}");
    }
    let half = var.to_dtype(DType::F16)?;
    assert!(exact.forward(&half, &half, &half, &mask)?.sum_all()?.backward().is_err());
    // Who detaches, does without.
    let detached = var.detach();
    let loss = (exact.forward(&detached, &detached, &detached, &mask)? + var.as_tensor())?.sum_all()?;
    assert!(loss.backward()?.get(&var).is_some());
    Ok(())
}
