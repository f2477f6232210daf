//! Logits of tiny random models against Hugging Face Transformers in f32, from both file formats.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bantam_formats::Value;
use bantam_kernels::attention::KvType;
use bantam_models::{Model, RopeSet};
use common::edit::Edit;
use common::{Alone, BOTH_FORMATS, bits, cpu, dir, from_gguf, reference, relative_error, tokens};

#[test]
fn both_formats_give_the_reference_logits() {
    let cpu = cpu(2);
    for (name, lengths) in BOTH_FORMATS {
        let models =
            [("gguf", from_gguf(&cpu, name)), ("safetensors", Model::load_safetensors(&cpu, &dir(name)).unwrap())];
        for &length in lengths {
            let expected = reference(name, length);
            for (format, model) in &models {
                let logits = Alone::new(model, &cpu).logits(&tokens(name, length));
                let error = relative_error(&logits, &expected, model.spec().vocab_size);
                assert!(error < 2e-5, "{name} from {format}, {length} tokens: relative error {error}");
            }
        }
    }
}

/// The fixtures are such that getting any one of these wrong shows.
#[test]
fn every_stated_number_matters_to_the_logits() {
    let cpu = cpu(2);
    let without_freqs = ("llama3-rope", Edit::of("llama3-rope").remove("rope_freqs.weight"));
    let mut without_bias = ("qwen2", Edit::of("qwen2"));
    without_bias.1.tensor("blk.1.attn_v.bias").data.fill(0);
    let changed = |name: &'static str, key: &str, value: Value| (name, Edit::of(name).set(key, value));
    let cases = [
        without_freqs,
        without_bias,
        changed("mistral", "llama.attention.sliding_window", 0u32.into()),
        changed("gemma2", "gemma2.attention.sliding_window", 0u32.into()),
        changed("gemma2", "gemma2.attention.sliding_window", 13u32.into()),
        changed("gemma2", "gemma2.attention.sliding_window_pattern", 3u32.into()),
        changed("gemma2", "gemma2.attn_logit_softcapping", 50f32.into()),
        changed("gemma2", "gemma2.final_logit_softcapping", 30f32.into()),
        changed("gemma3", "gemma3.attention.sliding_window", 0u32.into()),
        changed("gemma3", "gemma3.attention.sliding_window_pattern", 3u32.into()),
        changed("gemma3", "gemma3.rope.freq_base", 10_000f32.into()),
        changed("gemma3", "gemma3.rope.freq_base_swa", 1_000_000f32.into()),
        changed("gemma3", "gemma3.rope.scaling.factor", 1f32.into()),
        changed("phi3", "phi3.attention.sliding_window", 0u32.into()),
        changed("phi3-longrope", "phi3.rope.scaling.attn_factor", 1f32.into()),
        changed("phi3-longrope", "phi3.rope.scaling.original_context_length", 64u32.into()),
    ];
    for (name, edit) in cases {
        let length = *BOTH_FORMATS.iter().find(|(n, _)| *n == name).unwrap().1.last().unwrap();
        let model = Model::load_gguf(&cpu, &edit.build()).unwrap();
        let logits = Alone::new(&model, &cpu).logits(&tokens(name, length));
        let error = relative_error(&logits, &reference(name, length), model.spec().vocab_size);
        assert!(error > 1e-3, "{name} {:?}: relative error {error}", edit.metadata.last());
    }
}

#[test]
fn both_formats_agree_bit_for_bit() {
    let cpu = cpu(1);
    for (name, lengths) in BOTH_FORMATS {
        let tokens = tokens(name, *lengths.last().unwrap());
        let gguf = from_gguf(&cpu, name);
        let hf = Model::load_safetensors(&cpu, &dir(name)).unwrap();
        assert_eq!(gguf.spec(), hf.spec(), "{name}");
        assert_eq!(
            bits(&Alone::new(&gguf, &cpu).logits(&tokens)),
            bits(&Alone::new(&hf, &cpu).logits(&tokens)),
            "{name}"
        );
    }
}

/// Weights in Q4_0, Q4_1, Q5_0, Q8_0 and F16; the reference multiplies the dequantised weights with activations that it
/// rounds to 8-bit steps in the same way. One element on the other side of a rounding edge changes what follows by
/// about a step, so some positions may differ by that, but most must agree as floats do.
#[test]
fn a_quantised_model_gives_the_logits_of_its_dequantised_weights_and_activations() {
    let cpu = cpu(2);
    let model = from_gguf(&cpu, "llama-quantized");
    let vocab = model.spec().vocab_size;
    let logits = Alone::new(&model, &cpu).logits(&tokens("llama-quantized", 48));
    let expected = reference("llama-quantized", 48);
    let rows = logits.chunks_exact(vocab).zip(expected.chunks_exact(vocab));
    let mut errors: Vec<f32> = rows.map(|(a, b)| relative_error(a, b, vocab)).collect();
    errors.sort_by(f32::total_cmp);
    assert!(errors[24] < 2e-5, "median relative error {}", errors[24]);
    assert!(errors[47] < 0.05, "largest relative error {}", errors[47]);
}

#[test]
fn f16_keys_and_values_are_close_to_f32() {
    let cpu = cpu(2);
    for (name, lengths) in BOTH_FORMATS {
        let tokens = tokens(name, lengths[0]);
        let model = from_gguf(&cpu, name);
        let f32_kv = Alone::new(&model, &cpu);
        let f16_kv = Alone { kv_type: KvType::F16, ..Alone::new(&model, &cpu) };
        let error = relative_error(&f16_kv.logits(&tokens), &f32_kv.logits(&tokens), model.spec().vocab_size);
        assert!(error > 0.0 && error < 5e-3, "{name}: relative error {error}");
    }
}

#[test]
fn longrope_is_chosen_by_the_length_a_sequence_may_reach() {
    let cpu = cpu(1);
    let model = from_gguf(&cpu, "phi3-longrope");
    assert_eq!(model.spec().rope_set(32), RopeSet::Short);
    assert_eq!(model.spec().rope_set(33), RopeSet::Long);
    assert_eq!(from_gguf(&cpu, "llama").spec().rope_set(100_000), RopeSet::Short);
}
