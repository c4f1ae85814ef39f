//! The stored outputs of the authors' code, all of them, and that a wrong file does not pass.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use xtask::reference::{compare, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/scatterbrain-combine/tests/reference");

fn stored(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name).with_extension("safetensors")
}

/// A copy of a stored file with one tensor's bytes, or its parameters, changed.
fn copy(
    name: &str,
    folder: &Path,
    tensor: &str,
    bytes: impl Fn(&mut [u8]),
    parameters: impl Fn(&mut HashMap<String, String>),
) -> PathBuf {
    let original = std::fs::read(stored(name)).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&original).unwrap();
    let mut metadata = metadata.metadata().clone().unwrap();
    parameters(&mut metadata);
    let file = SafeTensors::deserialize(&original).unwrap();
    let mut changed = file.tensor(tensor).unwrap().data().to_vec();
    bytes(&mut changed);
    let views = file.tensors().into_iter().map(|(name, view)| {
        let data = if name == tensor { &changed } else { view.data() };
        let view = TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap();
        (name, view)
    });
    let path = folder.join(name).with_extension("safetensors");
    std::fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    path
}

#[test]
fn all_stored_files() {
    run(Path::new(FOLDER)).unwrap();
}

#[test]
fn an_unchanged_copy_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy("sblocal_c3_m26_tNone", folder.path(), "output_f64", |_| (), |_| ());
    assert_eq!(compare(&path).unwrap(), compare(&stored("sblocal_c3_m26_tNone")).unwrap());
    run(folder.path()).unwrap();
}

/// The last value of the tensor a variant is compared with, moved by `by`.
fn nudged(name: &str, tensor: &str, by: f64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let nudge = |bytes: &mut [u8]| match tensor {
        "output_f64" => {
            let word = bytes.last_chunk_mut::<8>().unwrap();
            *word = (f64::from_le_bytes(*word) + by).to_le_bytes();
        }
        _ => {
            let word = bytes.last_chunk_mut::<4>().unwrap();
            *word = (f32::from_le_bytes(*word) + by as f32).to_le_bytes();
        }
    };
    copy(name, folder.path(), tensor, nudge, |_| ());
    run(folder.path()).is_ok()
}

#[test]
fn one_wrong_value_fails() {
    let cases = [
        ("local_c28_lengths", "output_f64"),
        ("sblocal_c28_m73_t1", "output_f64"),
        ("smyrf_h2_c6", "output_f64"),
        ("sbsmyrf_causal_h2_c6", "output_f64"),
        ("reformer_b8_h2", "output_f64"),
        ("performer_m48", "output_eps_free"),
        ("linear_lengths", "output"),
        ("sbsmyrf_h1_c4_m26", "attn"),
        ("sbsmyrf_h1_c4_m26", "attn_unnormalized"),
    ];
    for (name, tensor) in cases {
        assert!(!nudged(name, tensor, 1e-3), "{tensor} of {name} is not looked at");
        assert!(!nudged(name, tensor, f64::NAN), "{tensor} of {name}: NaN passes");
    }
}

#[test]
fn one_wrong_pair_fails() {
    for tensor in ["support", "support_count"] {
        let folder = tempfile::tempdir().unwrap();
        copy("smyrf_h2_c6", folder.path(), tensor, |bytes| bytes[0] ^= 1, |_| ());
        assert!(run(folder.path()).is_err(), "{tensor} is not looked at");
    }
}

#[test]
fn unknown_variants_and_broken_files_fail() {
    let folder = tempfile::tempdir().unwrap();
    let error = |name: &str, parameter: &str, value: &str| {
        let change = |p: &mut HashMap<String, String>| drop(p.insert(parameter.into(), value.into()));
        let path = copy(name, folder.path(), "output", |_| (), change);
        format!("{:#}", compare(&path).unwrap_err())
    };
    assert!(error("local_c28_lengths", "variant", "nystrom").contains("unknown variant `nystrom`"));
    assert!(error("sblocal_c3_m26_tNone", "softmax_temp", "warm").contains("softmax_temp"));
    assert!(error("sbsmyrf_h1_c4_m26", "n_hashes", "2").contains("q_positions"));
    let path = folder.path().join("cut.safetensors");
    let whole = std::fs::read(stored("local_c28_lengths")).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(format!("{:#}", compare(&path).unwrap_err()).contains("safetensors"));
    assert!(run(folder.path()).is_err());
}

#[test]
fn an_empty_folder_fails() {
    assert!(run(tempfile::tempdir().unwrap().path()).is_err());
}
