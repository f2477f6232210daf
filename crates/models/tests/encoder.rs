//! The encoder against Hugging Face Transformers, alone and in batches.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bantam_formats::{EncodeOptions, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig, IsaLevel};
use bantam_models::{EmbedError, Encoder, EncoderScratch, ModelError, Precision};
use common::{bits, cpu, dir};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    text: String,
    ids: Vec<u32>,
    vector: Vec<f32>,
}

fn references() -> Vec<Reference> {
    serde_json::from_str(&std::fs::read_to_string(dir("bert").join("reference.json")).unwrap()).unwrap()
}

fn encoder(cpu: &Cpu, precision: Precision) -> Encoder {
    Encoder::load(cpu, &dir("bert"), precision, &mut |_| {}).unwrap()
}

fn embed(encoder: &Encoder, cpu: &Cpu, texts: &[&[u32]]) -> Vec<f32> {
    encoder.embed(cpu, &mut EncoderScratch::new(), texts).unwrap().to_vec()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_are_those_of_transformers() {
    let cpu = cpu(2);
    for (precision, least) in [(Precision::Float, 1.0 - 1e-9), (Precision::Int8, 0.999)] {
        let encoder = encoder(&cpu, precision);
        for r in references() {
            let found = embed(&encoder, &cpu, &[&r.ids]);
            let cosine = cosine(&found, &r.vector);
            assert!(cosine >= least, "{precision:?}, {:?}: cosine {cosine}", r.text);
            let largest = found.iter().zip(&r.vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < if precision == Precision::Float { 2e-6 } else { 0.02 }, "{:?}: {largest}", r.text);
        }
    }
}

#[test]
fn its_tokens_are_those_of_the_tokenizers_library() {
    let json = std::fs::read(dir("bert").join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::from_hf_json(&json).unwrap();
    for r in references().into_iter().filter(|r| r.ids.len() < 48) {
        let ids = tokenizer.encode(&r.text, EncodeOptions { add_special: true, parse_special: false }).unwrap();
        assert_eq!(ids, r.ids, "{:?}", r.text);
    }
}

#[test]
fn a_text_has_the_same_bits_alone_in_a_batch_on_any_threads_and_instruction_set() {
    let references = references();
    let texts: Vec<&[u32]> = references.iter().map(|r| &*r.ids).collect();
    for precision in [Precision::Float, Precision::Int8] {
        let expected: Vec<u32> = {
            let cpu = cpu(1);
            let encoder = encoder(&cpu, precision);
            texts.iter().flat_map(|text| bits(&embed(&encoder, &cpu, &[text]))).collect()
        };
        for isa in IsaLevel::ALL.into_iter().filter(|isa| isa.is_available()) {
            let cpu = Cpu::new(CpuConfig { n_threads: 2, isa: Some(isa) }).unwrap();
            let encoder = encoder(&cpu, precision);
            assert_eq!(bits(&embed(&encoder, &cpu, &texts)), expected, "{precision:?} {isa}");
            let reversed: Vec<&[u32]> = texts.iter().rev().copied().collect();
            let mut rows: Vec<u32> = bits(&embed(&encoder, &cpu, &reversed));
            rows = rows.chunks(64).rev().flatten().copied().collect();
            assert_eq!(rows, expected, "{precision:?} {isa} reversed");
        }
    }
}

#[test]
fn texts_that_cannot_be_embedded_are_named() {
    let cpu = cpu(1);
    let encoder = encoder(&cpu, Precision::Int8);
    let mut scratch = EncoderScratch::new();
    let mut error = |texts: &[&[u32]]| encoder.embed(&cpu, &mut scratch, texts).unwrap_err();
    assert_eq!(error(&[&[2, 3], &[]]), EmbedError::Empty { text: 1 });
    assert_eq!(error(&[&[2; 49]]), EmbedError::TooLong { text: 0, found: 49, max: 48 });
    assert!(matches!(error(&[&[2], &[9999]]), EmbedError::Token { text: 1, token: 9999, .. }));
}

#[test]
fn a_directory_that_is_no_such_encoder_is_refused_with_the_reason() {
    let cpu = cpu(1);
    let load = |edit: &dyn Fn(&std::path::Path)| {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        for file in
            ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json"]
        {
            std::fs::copy(dir("bert").join(file), copy.path().join(file)).unwrap();
        }
        edit(copy.path());
        Encoder::load(&cpu, copy.path(), Precision::Int8, &mut |_| {}).map(drop)
    };
    let replace = |file: &'static str, from: &'static str, to: &'static str| {
        load(&move |dir| {
            let text = std::fs::read_to_string(dir.join(file)).unwrap();
            assert!(text.contains(from), "{file}");
            std::fs::write(dir.join(file), text.replace(from, to)).unwrap();
        })
    };
    assert!(load(&|_| {}).is_ok());
    assert!(matches!(
        replace("config.json", "\"bert\"", "\"xlm\""),
        Err(ModelError::UnsupportedArchitecture { found, .. }) if found == "xlm"
    ));
    let named = |result: Result<(), ModelError>, key: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    };
    named(replace("config.json", "\"gelu\"", "\"relu\""), "hidden_act");
    named(replace("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5"), "num_attention_heads");
    named(replace("config.json", "\"hidden_size\": 64", "\"hidden_size\": 4000000000"), "hidden_size");
    named(replace("config.json", "\"intermediate_size\": 128", "\"intermediate_size\": 127"), "intermediate");
    named(replace("1_Pooling/config.json", "true", "false"), "pooling_mode_mean_tokens");
    named(replace("modules.json", "Normalize", "Dense"), "Dense");
    named(load(&|dir| std::fs::remove_file(dir.join("model.safetensors")).unwrap()), "safetensors");
}
