//! Logits of tiny random models against Hugging Face Transformers in f32, from both file formats.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bantam_kernels::attention::KvType;
use bantam_models::RopeSet;
use common::{Alone, BOTH_FORMATS, cpu, from_gguf, reference, relative_error, tokens};

#[test]
fn both_formats_give_the_reference_logits() {
    let cpu = cpu(2);
    for (name, lengths) in BOTH_FORMATS {
        let models = [("gguf", from_gguf(&cpu, name))];
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
