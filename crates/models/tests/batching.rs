//! A sequence's logits do not depend on how it is cut, what else is in the batch, how many threads run or which
//! instruction set they use; and a fault stays with its sequence.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use bantam_kernels::attention::{KvType, PAGE_TOKENS};
use bantam_kernels::{Cpu, CpuConfig, IsaLevel};
use bantam_models::{ForwardError, KvPool, LogitsWanted, Model, RopeSet, Scratch, SeqChunk};
use common::{Alone, BOTH_FORMATS, Sequence, bits, cpu, from_gguf, tokens};

/// Every family, floats, and one quantised model.
fn names() -> impl Iterator<Item = &'static str> {
    BOTH_FORMATS.iter().map(|(name, _)| *name).chain(["llama-quantized"])
}

#[test]
fn chunked_prefill_gives_the_same_bits() {
    let cpu = cpu(2);
    for name in names() {
        let (model, tokens) = (from_gguf(&cpu, name), tokens(name, 60));
        for kv_type in [KvType::F32, KvType::F16, KvType::I8] {
            let whole = Alone { kv_type, ..Alone::new(&model, &cpu) };
            let expected = bits(&whole.logits(&tokens));
            for chunk in [1, 5, 16, 33] {
                let pieces = Alone { kv_type, chunk, ..Alone::new(&model, &cpu) };
                assert_eq!(bits(&pieces.logits(&tokens)), expected, "{name} {kv_type:?} in chunks of {chunk}");
            }
        }
    }
}

#[test]
fn threads_and_instruction_sets_give_the_same_bits() {
    for name in names() {
        let logits = |cpu: Cpu| bits(&Alone::new(&from_gguf(&cpu, name), &cpu).logits(&tokens(name, 40)));
        let expected = logits(cpu(1));
        assert_eq!(logits(cpu(2)), expected, "{name} with 2 threads");
        for isa in [IsaLevel::Scalar, IsaLevel::Avx2, IsaLevel::Avx512].into_iter().filter(|isa| isa.is_available()) {
            let cpu = Cpu::new(CpuConfig { n_threads: 2, isa: Some(isa) }).unwrap();
            assert_eq!(logits(cpu), expected, "{name} on {isa:?}");
        }
    }
}

/// Prefill, continued prefill and decode of several sequences in the same passes, pages interleaved.
#[test]
fn a_batch_gives_each_sequence_the_bits_it_has_alone() {
    let cpu = cpu(2);
    for name in names() {
        let model = from_gguf(&cpu, name);
        let base = tokens(name, 60);
        let n = 5;
        let sequences: Vec<Sequence> = (0..n)
            .map(|i| {
                let mut tokens = base.clone();
                tokens.rotate_left(i * 7);
                tokens.truncate(23 + i * 9);
                let pages = (0..tokens.len().div_ceil(PAGE_TOKENS)).map(|page| (page * n + i) as u32).collect();
                Sequence { rope: model.spec().rope_set(tokens.len()), pages, tokens }
            })
            .collect();
        let mut kv = KvPool::new(&model, KvType::F16, n * 4).unwrap();
        let mut scratch = Scratch::new();
        let mut got = vec![Vec::new(); n];
        let mut done = vec![0; n];
        let mut step = 0;
        while (0..n).any(|i| done[i] < sequences[i].tokens.len()) {
            // Sizes from 1 to 11 that differ from sequence to sequence and step to step; the order turns.
            let mut batch = Vec::new();
            for i in (0..n).map(|i| (i + step) % n) {
                let size = (1 + (i * 5 + step * 3) % 11).min(sequences[i].tokens.len() - done[i]);
                if size == 0 {
                    continue;
                }
                batch.push((i, done[i]..done[i] + size));
                done[i] += size;
            }
            let chunks: Vec<SeqChunk> =
                batch.iter().map(|(i, range)| sequences[*i].chunk(range.clone(), LogitsWanted::All)).collect();
            let out = model.forward(&cpu, &mut kv, &mut scratch, &chunks).unwrap();
            for (chunk, (i, _)) in batch.iter().enumerate() {
                got[*i].extend_from_slice(out.rows(chunk).unwrap());
            }
            step += 1;
        }
        for (sequence, got) in sequences.iter().zip(&got) {
            let alone = Alone { kv_type: KvType::F16, ..Alone::new(&model, &cpu) };
            assert_eq!(bits(got), bits(&alone.logits(&sequence.tokens)), "{name}");
        }
    }
}

#[test]
fn wanted_rows_are_those_of_all_rows() {
    let cpu = cpu(2);
    let model = from_gguf(&cpu, "gemma3");
    let vocab = model.spec().vocab_size;
    let tokens = tokens("gemma3", 20);
    let all = Alone { kv_type: KvType::F16, ..Alone::new(&model, &cpu) }.logits(&tokens);
    let mut kv = KvPool::new(&model, KvType::F16, 8).unwrap();
    let mut scratch = Scratch::new();
    let sequence = |first| Sequence { tokens: tokens.clone(), pages: vec![first, first + 1], rope: RopeSet::Short };
    let [a, b, c] = [0, 2, 4].map(sequence);
    let chunks =
        [a.chunk(0..20, LogitsWanted::None), b.chunk(0..20, LogitsWanted::Last), c.chunk(0..20, LogitsWanted::All)];
    let out = model.forward(&cpu, &mut kv, &mut scratch, &chunks).unwrap();
    assert!(out.rows(0).unwrap().is_empty());
    assert_eq!(bits(out.rows(1).unwrap()), bits(&all[19 * vocab..]));
    assert_eq!(bits(out.rows(2).unwrap()), bits(&all));
    assert!(model.forward(&cpu, &mut kv, &mut scratch, &[]).is_ok());
}

/// Two sequences share a full page and fill pages of their own after it.
#[test]
fn a_shared_page_continues_as_its_owner_would() {
    let cpu = cpu(1);
    let model = from_gguf(&cpu, "qwen2");
    let vocab = model.spec().vocab_size;
    let tokens = tokens("qwen2", 40);
    let expected = Alone { kv_type: KvType::F16, ..Alone::new(&model, &cpu) }.logits(&tokens);
    let mut kv = KvPool::new(&model, KvType::F16, 8).unwrap();
    let mut scratch = Scratch::new();
    let owner = Sequence { tokens: tokens.clone(), pages: vec![0, 1, 2], rope: RopeSet::Short };
    let mut run = |kv: &mut KvPool, chunk: SeqChunk| {
        let out = model.forward(&cpu, kv, &mut scratch, &[chunk]).unwrap();
        bits(out.rows(0).unwrap())
    };
    run(&mut kv, owner.chunk(0..24, LogitsWanted::None));
    let other = Sequence { tokens: tokens.clone(), pages: vec![0, 5, 6], rope: RopeSet::Short };
    run(&mut kv, other.chunk(16..24, LogitsWanted::None));
    assert_eq!(run(&mut kv, other.chunk(24..40, LogitsWanted::Last)), bits(&expected[39 * vocab..]));
    assert_eq!(run(&mut kv, owner.chunk(24..40, LogitsWanted::Last)), bits(&expected[39 * vocab..]));
}

#[test]
fn a_batch_that_cannot_be_run_is_refused_before_any_work() {
    let cpu = cpu(1);
    let model = from_gguf(&cpu, "llama");
    let mut kv = KvPool::new(&model, KvType::F16, 4).unwrap();
    let mut scratch = Scratch::new();
    let good =
        SeqChunk { tokens: &[1, 2, 3], first_pos: 0, pages: &[0], rope: RopeSet::Short, logits: LogitsWanted::Last };
    let mut refusal = |model: &Model, chunk: SeqChunk| {
        model.forward(&cpu, &mut kv, &mut scratch, &[good, chunk]).map(|_| ()).unwrap_err()
    };
    let vocab_size = model.spec().vocab_size;
    let refusals = [
        (SeqChunk { tokens: &[], ..good }, ForwardError::EmptyChunk { chunk: 1 }),
        (SeqChunk { tokens: &[288], ..good }, ForwardError::Token { chunk: 1, token: 288, vocab_size }),
        (SeqChunk { first_pos: 126, ..good }, ForwardError::ContextLength { chunk: 1, end: 129, context_length: 128 }),
        (
            SeqChunk { first_pos: usize::MAX, ..good },
            ForwardError::ContextLength { chunk: 1, end: usize::MAX, context_length: 128 },
        ),
        (SeqChunk { first_pos: 14, pages: &[1], ..good }, ForwardError::TooFewPages { chunk: 1, needed: 2, found: 1 }),
        (SeqChunk { pages: &[4], ..good }, ForwardError::Page { chunk: 1, page: 4, n_pages: 4 }),
        (SeqChunk { rope: RopeSet::Long, ..good }, ForwardError::RopeSet { chunk: 1 }),
    ];
    for (chunk, error) in refusals {
        assert_eq!(refusal(&model, chunk), error);
    }
    assert_eq!(refusal(&from_gguf(&cpu, "gemma3"), good), ForwardError::KvShape);
    assert!(KvPool::new(&model, KvType::F16, usize::MAX).is_err());
}
