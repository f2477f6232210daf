//! Files that lie about themselves get an error that names the key or tensor, and nothing panics.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bantam_formats::gguf::Value;
use bantam_formats::{GgmlType, GgufError};
use bantam_kernels::attention::KvType;
use bantam_models::{KvPool, LogitsWanted, Model, ModelError, NonFinite, RopeSet, Scratch, SeqChunk};
use common::edit::Edit;
use common::{bits, cpu, dir, tokens};

fn refusal(edit: &Edit) -> ModelError {
    Model::load_gguf(&cpu(1), &edit.build()).map(|_| ()).unwrap_err()
}

#[test]
fn an_unknown_architecture_is_named() {
    let error = refusal(&Edit::of("llama").set("general.architecture", "mamba"));
    assert!(matches!(&error, ModelError::UnsupportedArchitecture { found, .. } if found == "mamba"), "{error}");
    assert!(error.to_string().contains("llama, qwen2, gemma2, gemma3, phi3"), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    for key in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        let key = format!("llama.{key}");
        let error = refusal(&Edit::of("llama").unset(&key));
        assert!(matches!(&error, ModelError::Gguf(GgufError::MissingKey { key: k }) if *k == key), "{error}");
    }
}

#[test]
fn a_value_no_model_can_have_is_named() {
    let u = |n: u32| Value::from(n);
    let f = |x: f32| Value::from(x);
    let cases = [
        ("attention.head_count", u(0)),
        ("attention.head_count", u(u32::MAX)),
        ("attention.head_count_kv", u(0)),
        ("attention.head_count_kv", u(3)),
        ("attention.key_length", u(0)),
        ("attention.layer_norm_rms_epsilon", f(f32::NAN)),
        ("attention.layer_norm_rms_epsilon", f(0.0)),
        ("attention.scale", f(f32::INFINITY)),
        ("attention.sliding_window_pattern", Value::from(vec![true])),
        ("attention.value_length", u(32)),
        ("block_count", u(0)),
        ("block_count", u(u32::MAX)),
        ("context_length", u(0)),
        ("context_length", u(u32::MAX)),
        ("embedding_length", u(0)),
        ("embedding_length", u(u32::MAX)),
        ("expert_count", u(8)),
        ("feed_forward_length", u(0)),
        ("rope.dimension_count", u(8)),
        ("rope.freq_base", f(-1.0)),
        ("rope.scaling.attn_factor", f(1.2)),
        ("rope.scaling.type", Value::from("yarn")),
        ("vocab_size", u(300)),
    ];
    for (key, value) in cases {
        let key = format!("llama.{key}");
        let base = Edit::of("llama").unset("llama.attention.value_length").set("llama.attention.sliding_window", 8u32);
        let edit = base.set(&key, value);
        let error = refusal(&edit);
        assert!(matches!(&error, ModelError::InvalidValue { key: k, .. } if *k == key), "{key}: {error}");
    }
}

#[test]
fn a_tensor_that_is_missing_or_has_no_place_is_named() {
    let missing = |edit: Edit| match refusal(&edit) {
        ModelError::MissingTensor { name } => name,
        other => panic!("{other}"),
    };
    assert_eq!(missing(Edit::of("llama").remove("blk.1.ffn_up.weight")), "blk.1.ffn_up.weight");
    assert_eq!(missing(Edit::of("llama").set("llama.block_count", 3u32)), "blk.2.attn_q.weight");
    assert_eq!(missing(Edit::of("qwen2").remove("blk.0.attn_k.bias")), "blk.0.attn_k.bias");
    assert_eq!(missing(Edit::of("phi3-longrope").remove("rope_factors_long.weight")), "rope_factors_long.weight");
    let unexpected = |edit: Edit| match refusal(&edit) {
        ModelError::UnexpectedTensor { name, .. } => name,
        other => panic!("{other}"),
    };
    assert!(unexpected(Edit::of("llama").set("llama.block_count", 1u32)).starts_with("blk.1."));
    assert_eq!(unexpected(Edit::of("llama").zeros("blk.0.ffn_up.bias", GgmlType::F32, &[64])), "blk.0.ffn_up.bias");
}

#[test]
fn a_tensor_of_the_wrong_shape_is_named() {
    let cases: [(&str, &[u64]); 8] = [
        ("token_embd.weight", &[32, 288]),
        ("output.weight", &[64, 287]),
        ("output_norm.weight", &[63]),
        ("blk.0.attn_q.weight", &[64, 32]),
        ("blk.0.attn_k.weight", &[64, 64]),
        ("blk.1.ffn_down.weight", &[64, 64, 1]),
        ("blk.1.ffn_norm.weight", &[64, 1]),
        ("rope_freqs.weight", &[7]),
    ];
    for (name, shape) in cases {
        let error = refusal(&Edit::of("llama").zeros(name, GgmlType::F32, shape));
        let found: Vec<usize> = shape.iter().rev().map(|n| *n as usize).collect();
        match &error {
            ModelError::TensorShape { name: n, found: f, .. } => assert_eq!((n.as_str(), f), (name, &found)),
            ModelError::InvalidValue { key, .. } => assert_eq!(key, name),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_tensor_that_cannot_be_computed_with_is_named() {
    let error = refusal(&Edit::of("llama").zeros("blk.0.attn_v.weight", GgmlType::I32, &[64, 32]));
    assert!(
        matches!(&error, ModelError::TensorType { name, found, .. } if name == "blk.0.attn_v.weight" && found == "I32"),
        "{error}"
    );
    let mut edit = Edit::of("llama");
    edit.tensor("blk.0.attn_norm.weight").data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(refusal(&edit), ModelError::TensorNotFinite { name } if name == "blk.0.attn_norm.weight"));
}

#[test]
fn a_directory_whose_config_and_tensors_disagree_is_refused_by_name() {
    let refusal = |key: &str, value: u32| {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(dir("qwen2").join("model.safetensors"), copy.path().join("model.safetensors")).unwrap();
        let config = std::fs::read(dir("qwen2").join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config[key] = value.into();
        config.as_object_mut().unwrap().remove("layer_types");
        std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        Model::load_safetensors(&cpu(1), copy.path()).map(|_| ()).unwrap_err()
    };
    let shape = |name: &str, error: ModelError| match error {
        ModelError::TensorShape { name: found, .. } => assert_eq!(found, name),
        other => panic!("{other}"),
    };
    shape("model.embed_tokens.weight", refusal("vocab_size", 300));
    shape("model.embed_tokens.weight", refusal("hidden_size", 128));
    shape("model.layers.0.mlp.gate_proj.weight", refusal("intermediate_size", 96));
    assert!(
        matches!(refusal("num_hidden_layers", 3), ModelError::MissingTensor { name } if name.contains("layers.2."))
    );
    assert!(
        matches!(refusal("num_hidden_layers", 1), ModelError::UnexpectedTensor { name, .. } if name.contains("layers.1."))
    );
    assert!(
        matches!(refusal("num_attention_heads", 0), ModelError::InvalidValue { key, .. } if key == "num_attention_heads")
    );
}

/// Every number in the metadata replaced by every awkward one: loading answers, and what loads runs.
#[test]
fn no_number_makes_the_loader_or_the_model_panic() {
    let cpu = cpu(1);
    for name in ["llama3-rope", "gemma2", "gemma3", "phi3-longrope"] {
        let keys: Vec<(String, bool)> = Edit::of(name)
            .metadata
            .iter()
            .filter(|(key, _)| !key.starts_with("tokenizer."))
            .filter_map(|(key, value)| match value {
                Value::U32(_) => Some((key.clone(), true)),
                Value::F32(_) => Some((key.clone(), false)),
                _ => None,
            })
            .collect();
        assert!(keys.len() > 8, "{keys:?}");
        for (key, is_integer) in keys {
            let values: Vec<Value> = match is_integer {
                true => [0, 1, 2, 3, 15, 16, 17, 64, 1 << 16, u32::MAX].map(Value::from).into(),
                false => [0.0, -1.0, 1e-40, 1e30, f32::MAX, f32::INFINITY, f32::NAN].map(Value::from).into(),
            };
            for value in values {
                let Ok(model) = Model::load_gguf(&cpu, &Edit::of(name).set(&key, value).build()) else { continue };
                let mut kv = KvPool::new(&model, KvType::F16, 2).unwrap();
                let mut scratch = Scratch::new();
                let chunk = SeqChunk {
                    tokens: &[1, 5, 9],
                    first_pos: 0,
                    pages: &[1, 0],
                    rope: RopeSet::Short,
                    logits: LogitsWanted::All,
                };
                if let Ok(out) = model.forward(&cpu, &mut kv, &mut scratch, &[chunk]) {
                    let _ = out.rows(0);
                }
            }
        }
    }
}

#[test]
fn nan_and_infinity_end_the_one_sequence_they_are_in() {
    let cpu = cpu(2);
    for name in ["llama", "gemma2", "llama-quantized"] {
        for poison in [f32::NAN, f32::INFINITY] {
            let mut edit = Edit::of(name);
            // A float embedding in which token 7 is broken, and an output head of its own that is not.
            let embedding = edit.tensor("token_embd.weight");
            let (ty, shape, data) = (embedding.ty, embedding.shape.clone(), embedding.data.clone());
            edit = edit.zeros("output.weight", ty, &shape);
            edit.tensor("output.weight").data = data;
            let mut rows = vec![0u8; 288 * 64 * 4];
            let width = edit.tensor("token_embd.weight").shape[0];
            rows.truncate(288 * width as usize * 4);
            for (i, v) in rows.chunks_exact_mut(4).enumerate() {
                v.copy_from_slice(&((i % 89) as f32 / 89.0 - 0.5).to_le_bytes());
            }
            let at = 7 * width as usize * 4;
            rows[at..at + 4].copy_from_slice(&poison.to_le_bytes());
            edit = edit.zeros("token_embd.weight", GgmlType::F32, &[width, 288]);
            edit.tensor("token_embd.weight").data = rows;
            let model = Model::load_gguf(&cpu, &edit.build()).unwrap();
            let good = tokens(name, 20).into_iter().map(|t| if t == 7 { 8 } else { t }).collect::<Vec<_>>();
            let mut bad = good.clone();
            bad[11] = 7;
            let mut kv = KvPool::new(&model, KvType::F16, 8).unwrap();
            let mut scratch = Scratch::new();
            let chunk = |tokens, pages, logits| SeqChunk { tokens, first_pos: 0, pages, rope: RopeSet::Short, logits };
            let alone = [chunk(&good, &[6, 7], LogitsWanted::All)];
            let expected = bits(model.forward(&cpu, &mut kv, &mut scratch, &alone).unwrap().rows(0).unwrap());
            let batch = [
                chunk(&good, &[0, 1], LogitsWanted::All),
                chunk(&bad, &[2, 3], LogitsWanted::Last),
                chunk(&bad, &[4, 5], LogitsWanted::None),
                chunk(&good, &[6, 7], LogitsWanted::Last),
            ];
            let out = model.forward(&cpu, &mut kv, &mut scratch, &batch).unwrap();
            assert_eq!(bits(out.rows(0).unwrap()), expected, "{name}");
            assert_eq!(out.rows(1), Err(NonFinite { position: 11 }), "{name}");
            assert_eq!(out.rows(2), Err(NonFinite { position: 11 }), "{name}");
            assert_eq!(bits(out.rows(3).unwrap()), expected[19 * 288..], "{name}");
            // A page that held NaN is used again by another sequence.
            let again = [chunk(&good, &[2, 3], LogitsWanted::All)];
            assert_eq!(
                bits(model.forward(&cpu, &mut kv, &mut scratch, &again).unwrap().rows(0).unwrap()),
                expected,
                "{name}"
            );
        }
    }
}
