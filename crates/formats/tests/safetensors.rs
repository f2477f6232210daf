//! Model directories with safetensors files.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use bantam_formats::safetensors::{FloatType, SafetensorsDir, SafetensorsError};
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};
use tempfile::TempDir;

fn weights(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    serialize(views, None::<HashMap<String, String>>).unwrap()
}

fn dir(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn error(dir: &Path) -> SafetensorsError {
    SafetensorsDir::open(dir).unwrap_err()
}

#[test]
fn one_file_gives_its_tensors() {
    let bytes = weights(&[
        ("a", Dtype::F32, &[1, 2], &[1, 0, 0, 0, 2, 0, 0, 0]),
        ("b", Dtype::BF16, &[2], &[3; 4]),
        ("c", Dtype::F16, &[1], &[4; 2]),
        ("ids", Dtype::I64, &[1], &[0; 8]),
    ]);
    let dir = dir(&[
        ("config.json", br#"{"model_type": "llama"}"#),
        ("model.safetensors", &bytes),
        ("tokenizer.json", b"{}"),
    ]);
    let model = SafetensorsDir::open(dir.path()).unwrap();
    assert_eq!(model.config()["model_type"], "llama");
    assert_eq!(model.tokenizer_path(), Some(dir.path().join("tokenizer.json")));
    assert_eq!(model.names().len(), 4);
    let a = model.tensor("a").unwrap();
    assert_eq!((a.ty, a.shape, a.data), (FloatType::F32, [1, 2].as_slice(), [1, 0, 0, 0, 2, 0, 0, 0].as_slice()));
    let b = model.tensor("b").unwrap();
    assert_eq!((b.ty, b.data), (FloatType::Bf16, [3; 4].as_slice()));
    assert_eq!(model.tensor("c").unwrap().ty, FloatType::F16);
    assert!(matches!(model.tensor("d").unwrap_err(), SafetensorsError::MissingTensor { tensor } if tensor == "d"));
    assert!(
        matches!(model.tensor("ids").unwrap_err(), SafetensorsError::UnsupportedType { found, .. } if found == "I64")
    );
}

#[test]
fn an_index_leads_to_its_shards() {
    let (first, second) = (weights(&[("a", Dtype::F16, &[1], &[1; 2])]), weights(&[("b", Dtype::F16, &[1], &[2; 2])]));
    let index = |map: &str| format!(r#"{{"metadata": {{}}, "weight_map": {{{map}}}}}"#);
    let good = index(r#""a": "s1.safetensors", "b": "s2.safetensors""#);
    let dir = dir(&[
        ("config.json", b"{}"),
        ("s1.safetensors", &first),
        ("s2.safetensors", &second),
        ("model.safetensors.index.json", good.as_bytes()),
    ]);
    let model = SafetensorsDir::open(dir.path()).unwrap();
    assert_eq!(model.tensor("a").unwrap().data, [1; 2]);
    assert_eq!(model.tensor("b").unwrap().data, [2; 2]);
    assert_eq!(model.tokenizer_path(), None);

    let write_index = |text: &str| fs::write(dir.path().join("model.safetensors.index.json"), text).unwrap();
    write_index(&index(r#""a": "s2.safetensors""#));
    assert!(matches!(error(dir.path()), SafetensorsError::NotInShard { tensor, .. } if tensor == "a"));
    for name in ["../s1.safetensors", "/etc/passwd", "..", "", "x/y", r"x\\y"] {
        write_index(&index(&format!(r#""a": "{name}""#)));
        assert!(matches!(error(dir.path()), SafetensorsError::ShardName { .. }), "{name}");
    }
    write_index(&index(r#""a": "gone.safetensors""#));
    assert!(matches!(error(dir.path()), SafetensorsError::Io { .. }));
    write_index(r#"{"weight_map": [1]}"#);
    assert!(matches!(error(dir.path()), SafetensorsError::JsonShape { .. }));
    write_index(r#"{"weight_map": {"a": 1}}"#);
    assert!(matches!(error(dir.path()), SafetensorsError::JsonShape { .. }));
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let weights = weights(&[("a", Dtype::F32, &[2], &[0; 8])]);
    let empty = dir(&[]);
    assert!(matches!(error(empty.path()), SafetensorsError::Io { path, .. } if path.ends_with("config.json")));
    let no_weights = dir(&[("config.json", b"{}")]);
    assert!(error(no_weights.path()).hint().unwrap().contains("GGUF"));
    let bad_json = dir(&[("config.json", b"{"), ("model.safetensors", &weights)]);
    assert!(matches!(error(bad_json.path()), SafetensorsError::Json { .. }));
    let no_object = dir(&[("config.json", b"[]"), ("model.safetensors", &weights)]);
    assert!(matches!(error(no_object.path()), SafetensorsError::JsonShape { .. }));
    for len in 0..weights.len() {
        let cut = dir(&[("config.json", b"{}"), ("model.safetensors", &weights[..len])]);
        assert!(matches!(error(cut.path()), SafetensorsError::Header { .. }), "{len}");
    }
    let mut lying = weights.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let lying = dir(&[("config.json", b"{}"), ("model.safetensors", &lying)]);
    assert!(matches!(error(lying.path()), SafetensorsError::Header { .. }));
}
